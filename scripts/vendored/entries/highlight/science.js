import { julia } from "@codemirror/legacy-modes/mode/julia";
import { octave as matlab } from "@codemirror/legacy-modes/mode/octave";
import { r as rWords } from "@codemirror/legacy-modes/mode/r";
import { stex as latex } from "@codemirror/legacy-modes/mode/stex";
import { delimited, quoted, toEnd, withLiterals } from "../../highlight/literals.js";

export { julia, latex, matlab };

export const r = withLiterals(rWords, [
  toEnd("#"),
  {
    open: /^r(["'])(-*)([([{])/i,
    before: /(?:^|\W)$/,
    close: ([, mark, dashes, opens]) => delimited.close(["", opens]) + dashes + mark,
  },
  quoted('"'),
  quoted("'"),
  { open: /^`[^`]*`/, style: "variable" },
  { open: /^%[^%\s]*%/, style: "operator" },
]);
