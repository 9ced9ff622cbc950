import { modeFor } from "../../highlight/codemirror.js";
import "codemirror/mode/jsx/jsx.js";

export const javascript = modeFor("text/jsx");
export const typescript = modeFor("text/typescript");
export const tsx = modeFor("text/typescript-jsx");
export const json = modeFor("application/json");
