import { mySQL, pgSQL } from "@codemirror/legacy-modes/mode/sql";
import { block, toEnd, withLiterals } from "../../highlight/literals.js";

const NAMES = { open: /^"(?:[^"]|"")*"/, style: "name" };
const COMMENTS = [toEnd("--"), block("/*", "*/")];

export const sql = withLiterals(pgSQL, [
  ...COMMENTS,
  NAMES,
  { open: /^e'/i, before: /(?:^|\W)$/, close: "'", escapes: /^(?:\\.?|'')/ },
  { open: "'", close: "'", escapes: /^''/ },
  // The body of a function is code.
  { open: /^\$\w*\$/, before: /\b(?:as|do)\s*$/i, code: true, close: ([mark]) => mark, style: "meta" },
  { open: /^\$\w*\$/, close: ([mark]) => mark },
]);
export const mysql = withLiterals(mySQL, [
  ...COMMENTS,
  toEnd("#"),
  { open: /^`[^`]*`/, style: "name" },
  { open: /^(["'])/, close: ([, mark]) => mark, escapes: /^(?:\\.?|""|'')/ },
]);
