import { go } from "@codemirror/legacy-modes/mode/go";
import { rust as rustWords } from "@codemirror/legacy-modes/mode/rust";
import { swift as swiftWords } from "@codemirror/legacy-modes/mode/swift";
import { pascal as pascalWords } from "@codemirror/legacy-modes/mode/pascal";
import { BACKSLASH, SLASHES, block, quoted, toEnd, withLiterals, words } from "../../highlight/literals.js";

export { go };

const NESTED = [toEnd("//"), block("/*", "*/", "/*")];
const CHARACTER = { open: /^b?'(?:\\u\{[^}']*\}|\\x..|\\.|[^\\'])'/u };

export const rust = withLiterals(rustWords, [
  ...NESTED,
  { open: /^[bc]?r(#*)"/, before: /(?:^|\W)$/, close: ([, hashes]) => `"${hashes}` },
  { open: /^[bc]?"/, close: '"', escapes: BACKSLASH },
  CHARACTER,
  { open: /^'\w+/, style: "labelName" },
]);

const SWIFT_ESCAPES = /^\\(?!\().?/;
export const swift = withLiterals(swiftWords, [
  ...NESTED,
  { open: /^(#+)("""|"|\/)/, close: ([, hashes, mark]) => mark + hashes },
  { open: '"""', close: '"""', escapes: SWIFT_ESCAPES, inner: [["\\(", ")"]] },
  { open: '"', close: '"', escapes: SWIFT_ESCAPES, inner: [["\\(", ")"]], oneLine: true },
]);

const ZIG = `
  addrspace align allowzero and anyframe anytype asm break callconv catch comptime const continue defer else enum
  errdefer error export extern false fn for if inline linksection noalias noinline null nosuspend opaque or orelse
  packed pub resume return struct suspend switch test threadlocal true try undefined union unreachable
  usingnamespace var volatile while
`;
export const zig = withLiterals(words(ZIG, { builtin: /^@\w+/ }), [
  toEnd("//"),
  { open: /^\\\\.*/ },
  quoted('"', { oneLine: true }),
  CHARACTER,
]);

export const pascal = withLiterals(pascalWords, [
  toEnd("//"),
  block("{", "}"),
  block("(*", "*)"),
  { open: "'", close: "'", escapes: /^''/, oneLine: true },
]);
