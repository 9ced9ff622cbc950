import { StringStream, modeFor } from "../../highlight/codemirror.js";
import "codemirror/mode/jsx/jsx.js";

const DEEPEST = 100; // levels of tags in code in tags; each copy of a state copies them all

const UNKNOWN = /[\\\x00-\x08\x0e-\x1f\x7f-\x9f]/; // signs that the mode has no token for

// The mode keeps the type of its last token outside its state, and takes that for the type of a sign that it does not
// know. So that the colours do not depend on what was read elsewhere, such a sign always follows a semicolon.
function steady(mode) {
  return {
    ...mode,
    token(stream, state) {
      if (UNKNOWN.test(stream.peek())) mode.token(new StringStream(";"), mode.startState());
      return mode.token(stream, state);
    },
  };
}

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

export const javascript = bounded(steady(modeFor("text/jsx")));
export const tsx = bounded(steady(modeFor("text/typescript-jsx")));
export const typescript = steady(modeFor("text/typescript"));
export const json = steady(modeFor("application/json"));
