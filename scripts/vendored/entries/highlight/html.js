import { modeFor } from "../../highlight/codemirror.js";
import "codemirror/mode/htmlmixed/htmlmixed.js";
import { withLiterals } from "../../highlight/literals.js";

const TEXT = [{ open: /^<(?![\w/!?])/, style: "operator" }];
export const html = withLiterals(modeFor("text/html"), TEXT);
export const xml = withLiterals(modeFor("application/xml"), TEXT);
export const css = modeFor("text/css");
export const scss = modeFor("text/x-scss");
export const less = modeFor("text/x-less");
