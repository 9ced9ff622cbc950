// What the modes of CodeMirror 5 ask of `lib/codemirror`, without its editor.

import * as modes from "codemirror/src/modes.js";

export { default as StringStream } from "codemirror/src/util/StringStream.js";
export const { copyState, defineMIME, defineMode, getMode, innerMode, mimeModes, resolveMode, startState } =
  modes;
export const registerHelper = () => {};

defineMode("null", () => ({ token: (stream) => stream.skipToEnd() }));
defineMIME("text/plain", "null");

/** The mode for a MIME type. */
export const modeFor = (type) => getMode({ indentUnit: 2 }, type);
