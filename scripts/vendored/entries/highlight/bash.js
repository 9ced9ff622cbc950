import { shell } from "@codemirror/legacy-modes/mode/shell";
import { BACKSLASH, toEnd, withLiterals } from "../../highlight/literals.js";
import { session } from "../../highlight/state.js";

const CODE = [
  ["$(", ")"],
  ["${", "}"],
  ["`", "`"],
];
const HEREDOC = /^<<(-?)(?!<)\s*(?:'([^']+)'|"([^"]+)"|\\?([A-Za-z_][\w.-]*))/;

export const bash = withLiterals(shell, [
  toEnd("#", /(?:^|[\s;&|()`])$/),
  { open: /^\\.|^#/, style: "escape" },
  { open: /^\$\{[^}"'`$\\]*\}/, style: "variable" },
  { open: "<<<", style: "operator" },
  {
    open: HEREDOC,
    until: ([, dash, ...tags]) => {
      const tag = tags.find(Boolean);
      return (line) => (dash ? line.replace(/^\t+/, "") : line) === tag;
    },
  },
  { open: "`", close: "`", code: true, style: "operator" },
  { open: "$'", close: "'", escapes: BACKSLASH },
  { open: "'", close: "'" },
  { open: /^\$?"/, close: '"', escapes: BACKSLASH, inner: CODE },
]);
export const console = session(bash, /^((?:\([\w.-]+\) ?)?(?:[\w.-]+@[\w.-]+[^$#%>]*)?[$%] |PS [^>]*> |> )/);
