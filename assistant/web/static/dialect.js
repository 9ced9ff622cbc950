// The dialect of Markdown that answers are written in: CommonMark with GitHub's extensions, as markdown-it reads them,
// formulas, and code outside backticks, which is left alone.

import { MarkdownIt, cjkFriendly, footnotes } from "./vendor/markdown-it.js";

const DEEPEST = 40; // levels of nested blocks; deeper ones are read as text
const MOST_COLUMNS = 64; // of a table
const LONGEST_ADDRESS = 4000; // UTF-16 units of a link's address or title; longer ones are text
const MOST_BRACKETS = 500; // of a paragraph that begin no link; the brackets after them are text

const parser = new MarkdownIt({ html: true, linkify: true, maxNesting: 200 });
parser.use(cjkFriendly).use(footnotes);
parser.disable(["footnote_tail", "footnote_inline"]); // a note stays where it was written
parser.validateLink = () => true; // linkTo decides
parser.normalizeLinkText = (text) => text;
parser.normalizeLink = parser.utils.lib.mdurl.encode;
parser.linkify.set({ fuzzyLink: false }); // main.rs and asyncio.run are no addresses
parser.linkify.add("ftp:", null).add("//", null).add("www.", {
  validate(text, end, { re }) {
    const match = at(re.get_http_validator(), `//${text.slice(end - 4)}`, 0)?.[0] ?? "";
    return /\w\.\w/.test(match) ? match.length - 6 : 0;
  },
  normalize: (match) => (match.url = `https://${match.url}`),
});

/** Replace the function of a rule by `change` of it. */
function changeRule({ ruler }, name, change) {
  const rule = ruler.__rules__.find((one) => one.name === name);
  rule.fn = change(rule.fn);
}

// The end of an address, a title or a link is not looked for in the whole text, each time that one may begin.
for (const name of ["parseLinkDestination", "parseLinkTitle"]) {
  const parse = parser.helpers[name];
  parser.helpers[name] = (text, start, end, ...rest) => {
    return parse(text, start, Math.min(end, start + LONGEST_ADDRESS), ...rest);
  };
}

for (const name of ["link", "image"]) {
  changeRule(parser.inline, name, (fn) => (state, ...rest) => {
    if (!"[!".includes(state.src[state.pos]) || state.brackets > MOST_BRACKETS) return false;
    const isLink = fn(state, ...rest);
    if (!isLink) state.brackets = (state.brackets ?? 0) + 1;
    return isLink;
  });
}

// What stands after < is no address, unless all in <> is one.
const { match } = parser.linkify;
parser.linkify.match = (text) => {
  return match.call(parser.linkify, text)?.filter(({ index }) => text[index - 1] !== "<");
};
changeRule(parser.inline, "linkify", (fn) => (state, ...rest) => {
  return state.src[state.pos] === ":" && !/<[a-z]+$/i.test(state.pending.slice(-9)) && fn(state, ...rest);
});

for (const name of ["blockquote", "list", "footnote_def"]) {
  changeRule(parser.block, name, (fn) => (state, ...rest) => state.level < DEEPEST && fn(state, ...rest));
}

changeRule(parser.block, "table", (fn) => (state, line, ...rest) => {
  const head = state.src.slice(state.bMarks[line], state.eMarks[Math.min(line + 1, state.lineMax)]);
  return head.split("|").length <= 2 * MOST_COLUMNS + 2 && fn(state, line, ...rest);
});

// The rule does not say which lines a note has.
changeRule(parser.block, "footnote_def", (fn) => (state, line, ...rest) => {
  const index = state.tokens.length;
  const isNote = fn(state, line, ...rest);
  if (isNote && state.tokens[index]) state.tokens[index].map = [line, state.line];
  return isNote;
});

// Names that languages write between two underscores. Any other word may be bold.
const SPECIAL = new RegExp(
  `^(?:${[
    "[ir]?(?:add|and|divmod|floordiv|lshift|matmul|mod|mul|or|pow|rshift|sub|truediv|xor)",
    "abs|all|asm|attribute|bool|buffer|bytes|call|class|complex|contains|copy|debug|deepcopy",
    "a?(?:enter|exit|iter|next)|await|ceil|floor|round|trunc|index|int|float|invert|neg|pos|len|hash|sizeof",
    "(?:get|set|del)(?:attr|attribute|item|state)?|delete|missing|new|init|prepare|reduce|slots|mro",
    "eq|ne|lt|le|gt|ge|repr|str|format|dir|doc|dict|bases|code|closure|defaults|kwdefaults|globals|self|func",
    "main|name|qualname|module|file|path|fspath|package|loader|spec|cached|builtins|import|future|annotations",
    "cause|context|traceback|wrapped|reversed|instancecheck|subclasses|version|pycache|proto|typename|tests",
    "global|device|host|shared|constant|FILE|LINE|DATE|TIME|FUNCTION|DIR|CLASS|METHOD|NAMESPACE|DATA|END",
  ].join("|")})$`,
);

/** Python's __init__ and the like are names, not bold text. So is a part of code such as obj.__x__ or __x__(). */
parser.inline.ruler.before("emphasis", "dunder", (state, silent) => {
  const { src, pos } = state;
  if (src[pos] !== "_" || /[\w\\]/.test(src[pos - 1] ?? " ")) return false;
  const match = at(/__([A-Za-z]\w*?)__(?!\w)/y, src, pos);
  if (!match) return false;
  const [whole, name] = match;
  const end = pos + whole.length;
  const before = src.slice(Math.max(0, pos - 2), pos);
  const isInCode = /\w\.$/.test(before) || /^(?:\(|\[|\.\w)/.test(src.slice(end, end + 2));
  return (isInCode || SPECIAL.test(name) || /^[^_]+(?:_[^_]+)+$/.test(name)) && say(state, whole, silent);
});

const POWER = /(?<=[\w)\]])\*\*(?=\d)/y;

/** The stars of f(*args, *, **options) and of x**2 are no emphasis. */
parser.inline.ruler.before("emphasis", "operators", (state, silent) => {
  const { src, pos } = state;
  if (src[pos] !== "*") return false;
  const before = src.slice(Math.max(0, pos - 200), pos);
  if (at(POWER, src, pos) && !before.replace(/\w\*\*\d/g, "").includes("**")) return say(state, "**", silent);
  const stars = /[([{,\s]$/.test(before) && at(/\*{1,2}(?=(?:[A-Za-z_][\w.]*)?\s*[,)\]}=:([])/y, src, pos)?.[0];
  return Boolean(stars) && /[\w\])]\((?:[^()\n]|\([^()\n]*\))*$/.test(before) && say(state, stars, silent);
});
/** Take a text as it is. */
function say(state, text, silent) {
  if (!silent) state.pending += text;
  state.pos += text.length;
  return true;
}

const DELIMITERS = { "\\(": "\\)", "\\[": "\\]", $$: "$$" };

/** Formulas between \( \), \[ \] and $$. A single $ is a dollar. */
parser.inline.ruler.before("escape", "formula", (state, silent) => {
  const { src, pos } = state;
  const begin = src.slice(pos, pos + 2);
  if (!Object.hasOwn(DELIMITERS, begin)) return false;
  const end = nextIndex(state, DELIMITERS[begin], pos + 2);
  const tex = src.slice(pos + 2, Math.max(end, pos + 2));
  if (!isFormula(tex)) return false;
  const isAlone = begin !== "\\(" && src.slice(0, pos).trim() === "" && src.slice(end + 2).trim() === "";
  if (begin === "$$" && !isAlone && /^\s|\s$/.test(tex)) return false;
  if (!silent) Object.assign(state.push("formula", "", 0), { content: tex.trim(), block: isAlone });
  state.pos = end + 2;
  return true;
});

/** Where a text is next found in a state's source, without a second search of the same part. */
function nextIndex(state, text, from) {
  const found = (state.found ??= {});
  if (!(found[text] >= from) && found[text] !== -1) found[text] = state.src.indexOf(text, from);
  return found[text];
}

/** Whether a text can be a formula: it has a sign of mathematics, or is one letter or number. */
function isFormula(tex) {
  return /[A-Za-z\d\p{L}]/u.test(tex) && !/^\s*\p{L}{2,}(?:[\s,.]+\p{L}{2,})*\s*$/u.test(tex);
}

/** Match a sticky pattern at a place. */
function at(pattern, text, place) {
  pattern.lastIndex = place;
  return pattern.exec(text);
}

// GitHub's tables end a cell at a bar in `code`. While the text is read, this character stands for such a bar.
const BAR = "\ufdd0";
const CODE = /(?<![\\`])(`+)(?!`)([^\n]*?[^`\n])\1(?!`)/g;

function hideBars(text) {
  if (!text.includes("|") || !text.includes("`")) return text;
  const hide = (code) => code.replace(/(?<!\\)\|/g, BAR);
  const lines = text.split("\n").map((line) => (line.includes("|") ? line.replace(CODE, hide) : line));
  return lines.join("\n");
}

/** The text of a token, as it was written. */
export function shown(text) {
  return text.replaceAll(BAR, "|");
}

/**
 * Read a text into its top-level `blocks`, each {token, children}. `links` are the `references` and `notes` that were
 * defined before, and `cite`. Also returns both with those that the text defines.
 */
export function read(text, links) {
  const refs = Object.fromEntries(Object.keys(links.notes).map((label) => [label, -1])); // not yet used
  const env = { references: { ...links.references }, footnotes: { refs }, cite: links.cite };
  const root = { children: [] };
  const open = [root];
  for (const token of parser.parse(hideBars(text), env)) {
    if (token.nesting < 0) open.pop();
    else {
      const block = { token, children: [] };
      open.at(-1).children.push(block);
      if (token.nesting > 0) open.push(block);
    }
  }
  return { blocks: root.children, references: env.references, notes: env.footnotes.refs };
}

/** A number that cites a source is not the label of a link. */
parser.core.ruler.after("block", "citations", ({ env }) => {
  for (const label of Object.keys(env.references)) {
    if (/^\d+$/.test(label) && env.cite(Number(label))) delete env.references[label];
  }
});
