import * as clike from "@codemirror/legacy-modes/mode/clike";
import { groovy } from "@codemirror/legacy-modes/mode/groovy";
import { SLASHES, quoted, withLiterals } from "../../highlight/literals.js";

export const { dart, java, kotlin, scala } = clike;
export { groovy };

const C = [
  { open: /^\/\/.*\\$/, style: "comment", rest: true, until: () => (line) => !line.endsWith("\\") },
  ...SLASHES,
  {
    open: /^#\s*(?:(?:include|import)\s*<[^>]*>|(?:error|warning|pragma).*|\w+)/,
    before: /^\s*$/,
    style: "meta",
  },
  { open: /^(?:u8|[uUL])?R"([^(]{0,16})\(/, close: ([, mark]) => `)${mark}"` },
  quoted('"', { oneLine: true }),
  { open: /^'(?:\\[^']{1,9}|\\'|[^\\'])'/, before: /(?:^|\W|\b(?:u8|[uUL]))$/ },
];
export const c = withLiterals(clike.c, C);
export const cpp = withLiterals(clike.cpp, C);
export const objectivec = withLiterals(clike.objectiveC, C);

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
