import { lua } from "@codemirror/legacy-modes/mode/lua";
import { perl as perlWords } from "@codemirror/legacy-modes/mode/perl";
import { powerShell as powershell } from "@codemirror/legacy-modes/mode/powershell";
import { ruby as rubyWords } from "@codemirror/legacy-modes/mode/ruby";
import { vb } from "@codemirror/legacy-modes/mode/vb";
import { delimited, quoted, toEnd, withLiterals, words } from "../../highlight/literals.js";

export { lua, powershell, vb };

const lastLine = (tag) => (line) => line.trim() === tag;
const THE_REST = {
  open: /^__(?:END|DATA)__$/,
  before: /^$/,
  style: "comment",
  rest: true,
  until: () => () => false,
};

// A slash begins a regular expression where no value can have ended.
const PERL_VALUE =
  /(?:^|[=~(,!|&{};?:]|\b(?:and|grep|if|join|map|not|or|return|split|unless|until|while|x))\s*$/;
const NO_NAME = /(?:^|[^\w$@%&>-])$/;
export const perl = withLiterals(perlWords, [
  {
    open: /^=[a-z]\w*/,
    before: /^$/,
    style: "comment",
    rest: true,
    until: () => (line) => line.startsWith("=cut"),
  },
  THE_REST,
  { open: /^\$[#"'`/&;,.]/, style: "variable" },
  { open: /^<<~?(?:(["'])(.*?)\1|([A-Za-z_]\w*))/, until: (match) => lastLine(match[2] ?? match[3]) },
  { open: /^(?:q[qwrx]?|m)(?!\s+#)\s*([^\w\s,;=)>}])/, before: NO_NAME, flags: true, ...delimited },
  { open: /^(?:s|tr|y)(?!\s+#)\s*([^\w\s,;=)>}])/, before: NO_NAME, again: true, flags: true, ...delimited },
  { open: /^(\/)/, before: PERL_VALUE, flags: true, ...delimited },
  { open: /^\//, style: "operator" },
  toEnd("#"),
  quoted('"'),
  quoted("'"),
  quoted("`"),
]);

const RUBY_VALUE =
  /(?:^|[=(,[{|&!?:;<>~+*-]|\b(?:and|do|elsif|if|in|match|not|or|puts|return|split|then|unless|until|when|while|yield))\s*$/;
const RUBY_CODE = { inner: [["#{", "}"]] };
const RUBY_HEREDOC = /^<<(?:[~-](["'`]?)(\w+)\1|(["'`]?)([A-Z]\w*)\3)/;
export const ruby = withLiterals(rubyWords, [
  {
    open: /^=begin\b/,
    before: /^$/,
    style: "comment",
    rest: true,
    until: () => (line) => line.startsWith("=end"),
  },
  THE_REST,
  { open: RUBY_HEREDOC, before: /\W$|^$/, until: (match) => lastLine(match[2] ?? match[4]) },
  { open: /^%[QWIrx]([^\w\s=])/, before: /\W$|^$/, flags: true, ...delimited, ...RUBY_CODE },
  { open: /^%[qwis]([^\w\s=])/, before: /\W$|^$/, ...delimited },
  { open: /^%([([{<|!])/, before: RUBY_VALUE, ...delimited, ...RUBY_CODE },
  { open: /^(\/)/, before: RUBY_VALUE, flags: true, ...delimited, ...RUBY_CODE },
  { open: /^\?\\?\S(?!\w)/, before: /(?:^|[\s(,[=])$/ },
  { open: /^[%/?]/, style: "operator" },
  toEnd("#"),
  { open: /^:?(["'`])/, ...delimited, ...RUBY_CODE },
]);

const BATCH = `
  call cd choice cls copy del dir do echo else endlocal equ exist exit for geq goto gtr if in leq lss md mkdir
  move neq not off on pause popd pushd rd ren set setlocal shift start type
`;
const BATCH_WORDS = { anyCase: true, variableName: /^%(?:~?\w+%?|%~?\w+)|^![\w]+!/, labelName: /^:\w+/ };
export const batch = withLiterals(words(BATCH, BATCH_WORDS), [
  toEnd("@?rem\\b|::", /(?:^|[&(|])\s*$/),
  { open: /^"[^"]*"?/ },
]);

const VIM = `
  augroup autocmd call catch colorscheme command const def echo echom echomsg else elseif end enddef endfor
  endfunction endif endtry endwhile execute export finally finish for function highlight if import in let map
  nnoremap noremap normal return set setlocal silent source syntax throw try unlet vim9script vnoremap while
`;
export const vim = withLiterals(words(VIM, { variableName: /^[bglsvwt]:\w+/ }), [
  toEnd('"', /^\s*$/),
  { open: /^"(?:[^"\\]|\\.)*"/ },
  toEnd('"', /\s$/),
  { open: /^'(?:[^']|'')*'/ },
]);
