import * as clike from "@codemirror/legacy-modes/mode/clike";
import { dart, java, kotlin, objectiveC, scala } from "@codemirror/legacy-modes/mode/clike";
import { groovy } from "@codemirror/legacy-modes/mode/groovy";
import { SLASHES, quoted, withLiterals } from "../../highlight/literals.js";

export { dart, groovy, java, kotlin, scala, objectiveC as objectivec };

const CONTINUED = {
  open: /^\/\/.*\\$/,
  style: "comment",
  rest: true,
  until: () => (line) => !line.endsWith("\\"),
};
export const c = withLiterals(clike.c, [CONTINUED]);
export const cpp = withLiterals(clike.cpp, [CONTINUED]);

const CODE = [["{", "}"]];
export const csharp = withLiterals(clike.csharp, [
  ...SLASHES,
  { open: /^#\s*(?:region|endregion|error|warning|pragma|nullable).*/, before: /^\s*$/, style: "meta" },
  { open: /^\$*("{3,})/, close: ([, quotes]) => quotes },
  { open: /^(?:\$@|@\$)"/, close: '"', escapes: /^(?:""|\{\{)/, inner: CODE },
  { open: '@"', close: '"', escapes: /^""/ },
  { open: '$"', close: '"', escapes: /^(?:\\.?|\{\{)/, inner: CODE, oneLine: true },
  quoted('"', { oneLine: true }),
  { open: /^'(?:\\[^']{1,9}|\\'|[^\\'])'/ },
]);
