import { modeFor } from "../../highlight/codemirror.js";
import "codemirror/mode/jsx/jsx.js";

const DEEPEST = 100; // levels of tags in code in tags; each copy of a state copies them all

function bounded(mode) {
  return {
    ...mode,
    token(stream, state) {
      let depth = 0;
      for (let { context } = state; context; context = context.prev) depth += 1;
      if (depth > DEEPEST) throw new RangeError("The tags are too deep.");
      return mode.token(stream, state);
    },
  };
}

export const javascript = bounded(modeFor("text/jsx"));
export const tsx = bounded(modeFor("text/typescript-jsx"));
export const typescript = modeFor("text/typescript");
export const json = modeFor("application/json");
