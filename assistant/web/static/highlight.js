// Colours for code, line by line, so that a block which is still being written is never coloured twice.
//
// Knows words, comments, strings and numbers of the usual languages and nothing of their grammar: a generic
// scanner with a table. A line goes in with the state that the line before left, and comes out as
// [kind, text] pairs whose texts, joined, are the line exactly. An unknown language is one plain piece.

const words = (text) => new Set(text.trim().split(/\s+/));

const C_LIKE = { line: ["//"], block: [["/*", "*/"]], strings: ['"', "'"] };

const JS_WORDS = `
  async await break case catch class const continue debugger default delete do else export extends
  false finally for from function get if import in instanceof let new null of return set static super
  switch this throw true try typeof undefined var void while with yield
`;
const C_WORDS = `
  auto bool break case char const continue default do double else enum extern false float for goto if
  inline int long NULL nullptr register return short signed sizeof static struct switch true typedef
  union unsigned void volatile while
`;

const LANGUAGES = {
  python: {
    line: ["#"],
    multi: ['"""', "'''"],
    strings: ['"', "'"],
    words: words(`
      and as assert async await break case class continue def del elif else except False finally for
      from global if import in is lambda match None nonlocal not or pass raise return self True try
      while with yield
    `),
  },
  javascript: { ...C_LIKE, multi: ["`"], words: words(JS_WORDS) },
  typescript: {
    ...C_LIKE,
    multi: ["`"],
    words: words(`
      ${JS_WORDS} abstract any as boolean declare enum implements interface keyof namespace never
      number private protected public readonly satisfies string type unknown
    `),
  },
  json: { strings: ['"'], words: words("true false null") },
  shell: {
    line: ["#"],
    lineNeedsSpace: true,
    strings: ['"', "'"],
    spanning: true,
    words: words(`
      case cd do done echo elif else esac eval exec exit export fi for function if in local read
      return set shift source then trap unset until while
    `),
  },
  c: { ...C_LIKE, line: ["//"], directive: "#", words: words(C_WORDS) },
  cpp: {
    ...C_LIKE,
    directive: "#",
    words: words(`
      ${C_WORDS} catch class concept const_cast constexpr delete dynamic_cast explicit friend mutable
      namespace new noexcept operator override private protected public requires static_cast template
      this throw try typename using virtual
    `),
  },
  csharp: {
    ...C_LIKE,
    words: words(`
      abstract as async await base bool break case catch char class const continue decimal default
      delegate do double else enum event false finally float for foreach get if in int interface
      internal is lock long namespace new null object out override params private protected public
      readonly record ref return sealed set static string struct switch this throw true try typeof
      using var virtual void while yield
    `),
  },
  java: {
    ...C_LIKE,
    multi: ['"""'],
    words: words(`
      abstract assert boolean break byte case catch char class continue default do double else enum
      extends false final finally float for if implements import instanceof int interface long new
      null package private protected public record return short static super switch synchronized this
      throw throws true try var void volatile while yield
    `),
  },
  kotlin: {
    ...C_LIKE,
    multi: ['"""'],
    words: words(`
      as break by class companion continue data do else false for fun if import in interface internal
      is lateinit null object open override package private protected public return sealed super
      suspend this throw true try typealias val var when while
    `),
  },
  go: {
    ...C_LIKE,
    multi: ["`"],
    words: words(`
      any bool break byte case chan const continue default defer else error fallthrough false float64
      for func go goto if import int interface map nil package range return select string struct
      switch true type var
    `),
  },
  rust: {
    ...C_LIKE,
    strings: ['"'],
    spanning: true,
    words: words(`
      as async await bool break const continue crate dyn else enum extern false fn for if impl in let
      loop match mod move mut pub ref return self Self static str String struct super trait true type
      u8 u32 u64 unsafe use usize where while i32 i64 f64
    `),
  },
  ruby: {
    line: ["#"],
    strings: ['"', "'"],
    words: words(`
      alias and begin break case class def do else elsif end ensure false for if in module next nil
      not or puts raise redo require rescue retry return self super then true undef unless until when
      while yield
    `),
  },
  php: {
    ...C_LIKE,
    line: ["//", "#"],
    words: words(`
      abstract array as break case catch class const continue default do echo else elseif extends
      false final fn for foreach function global if implements interface namespace new null private
      protected public return static switch this throw trait true try use var while yield
    `),
  },
  sql: {
    line: ["--"],
    block: [["/*", "*/"]],
    strings: ["'", '"'],
    anyCase: true,
    words: words(`
      add all alter and as asc begin between by case commit constraint create cross default delete
      desc distinct drop else end exists foreign from full group having if in index inner insert into
      is join key left like limit not null offset on or order outer primary references right rollback
      select set table then transaction union unique update using values view when where with
    `),
  },
  yaml: {
    line: ["#"],
    lineNeedsSpace: true,
    strings: ['"', "'"],
    words: words("true false null yes no on off"),
  },
  toml: { line: ["#"], multi: ['"""', "'''"], strings: ['"', "'"], words: words("true false") },
  css: {
    block: [["/*", "*/"]],
    strings: ['"', "'"],
    words: words("important media supports import keyframes from to auto none inherit initial unset"),
  },
  html: { block: [["<!--", "-->"]], strings: ['"', "'"], tags: true, words: words("") },
  lua: {
    line: ["--"],
    block: [["--[[", "]]"]],
    strings: ['"', "'"],
    words: words(`
      and break do else elseif end false for function goto if in local nil not or repeat return then
      true until while
    `),
  },
  haskell: {
    line: ["--"],
    block: [["{-", "-}"]],
    strings: ['"'],
    words: words(`
      case class data deriving do else if import in infix instance let module newtype of then type
      where
    `),
  },
  swift: {
    ...C_LIKE,
    multi: ['"""'],
    strings: ['"'],
    words: words(`
      as break case catch class continue default defer do else enum extension false for func guard if
      import in init inout is let nil private protocol public repeat return self static struct super
      switch throw throws true try var where while
    `),
  },
  r: {
    line: ["#"],
    strings: ['"', "'"],
    words: words("break else FALSE for function if in library NA next NULL repeat return TRUE while"),
  },
};

const ALIASES = {
  py: "python",
  python3: "python",
  pycon: "python",
  js: "javascript",
  jsx: "javascript",
  mjs: "javascript",
  node: "javascript",
  ts: "typescript",
  tsx: "typescript",
  sh: "shell",
  bash: "shell",
  zsh: "shell",
  console: "shell",
  dockerfile: "shell",
  makefile: "shell",
  "c++": "cpp",
  cc: "cpp",
  hpp: "cpp",
  h: "c",
  cs: "csharp",
  "c#": "csharp",
  golang: "go",
  rs: "rust",
  rb: "ruby",
  yml: "yaml",
  ini: "toml",
  kt: "kotlin",
  scss: "css",
  less: "css",
  xml: "html",
  svg: "html",
  vue: "html",
  jsonc: "json",
  hs: "haskell",
  postgresql: "sql",
  sqlite: "sql",
  mysql: "sql",
};

const LONGEST_COLOURED = 2000; // UTF-16 units; a minified file is not worth the time

const WORD = /[\p{L}_$][\p{L}\p{N}_$]*/uy;
const NUMBER = /(?:0[xX][\da-fA-F_]+|0[bB][01_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)[a-zA-Z%]*/y;
const TAG = /<\/?[A-Za-z][\w:.-]*|\/?>/y;

/** The rules for a language's name as written after a fence, or null. */
function rulesOf(name) {
  const key = name.toLowerCase();
  const found = Object.hasOwn(ALIASES, key) ? ALIASES[key] : key;
  return Object.hasOwn(LANGUAGES, found) ? LANGUAGES[found] : null;
}

/**
 * Cut one line into [kind, text] pairs; kind is "comment", "string", "number", "word", "call" or "".
 * `state` is what the line before gave back (null at first): what ends a comment or string that is open.
 */
function highlightLine(rules, line, state) {
  if (rules === null || line.length > LONGEST_COLOURED) return { pieces: [["", line]], state };
  const pieces = [];
  const push = (kind, text) => {
    if (text === "") return;
    const last = pieces.at(-1);
    if (last && last[0] === kind) last[1] += text;
    else pieces.push([kind, text]);
  };
  let at = 0;

  // Consume up to the end that is waited for; it stays awaited when the line does not have it.
  const finish = (open) => {
    const end = endOf(line, at, open);
    push(open.kind, line.slice(at, end.at));
    at = end.at;
    return end.found ? null : open;
  };
  let open = state;
  if (open) open = finish(open);

  if (!open && rules.directive && line.trimStart().startsWith(rules.directive)) {
    const text = /^\s*#\s*\w*/.exec(line)[0];
    push("word", text);
    at = text.length;
  }
  while (at < line.length && !open) {
    const opening = openingAt(rules, line, at);
    if (opening === "line") {
      push("comment", line.slice(at));
      at = line.length;
    } else if (opening) {
      push(opening.kind, line.slice(at, at + opening.length));
      at += opening.length;
      open = finish(opening);
      if (open && !open.spans) open = null;
    } else {
      const [kind, text] = plainAt(rules, line, at);
      push(kind, text);
      at += text.length;
    }
  }
  return { pieces, state: open };
}

function endOf(line, from, { end, escapes }) {
  for (let at = from; at < line.length; at++) {
    if (escapes && line[at] === "\\") at++;
    else if (line.startsWith(end, at)) return { at: at + end.length, found: true };
  }
  return { at: line.length, found: false };
}

function openingAt(rules, line, at) {
  for (const [start, end] of rules.block ?? []) {
    if (line.startsWith(start, at)) return { kind: "comment", end, length: start.length, spans: true };
  }
  for (const start of rules.line ?? []) {
    if (line.startsWith(start, at) && (!rules.lineNeedsSpace || at === 0 || /\s/.test(line[at - 1])))
      return "line";
  }
  for (const quote of rules.multi ?? []) {
    if (line.startsWith(quote, at)) {
      return { kind: "string", end: quote, length: quote.length, spans: true, escapes: true };
    }
  }
  const quote = rules.strings?.find((one) => line[at] === one);
  if (!quote || (rules.tags && !/=\s*$/.test(line.slice(0, at)))) return null;
  return { kind: "string", end: quote, length: 1, spans: Boolean(rules.spanning), escapes: true };
}

function plainAt(rules, line, at) {
  if (rules.tags) {
    TAG.lastIndex = at;
    const tag = TAG.exec(line);
    if (tag) return ["word", tag[0]];
  }
  WORD.lastIndex = at;
  const word = WORD.exec(line)?.[0];
  if (word) {
    const known = rules.words.has(rules.anyCase ? word.toLowerCase() : word);
    if (known) return ["word", word];
    return [line[at + word.length] === "(" ? "call" : "", word];
  }
  NUMBER.lastIndex = at;
  const number = NUMBER.exec(line)?.[0];
  return number ? ["number", number] : ["", line[at]];
}

/** The code of a block as it grows: whole lines are coloured once, only the last one again. */
export class CodeView {
  #rules;
  #state = null;
  #open = ""; // the last line, not ended yet
  #last = []; // the nodes that show it

  constructor(code, language) {
    this.code = code;
    this.#rules = rulesOf(language);
  }

  append(text) {
    const lines = (this.#open + text).split("\n");
    this.#open = lines.pop();
    for (const node of this.#last) node.remove();
    const nodes = [];
    for (const line of lines) {
      const { pieces, state } = highlightLine(this.#rules, line, this.#state);
      this.#state = state;
      nodes.push(...spans(pieces), "\n");
    }
    this.#last = this.#open === "" ? [] : spans(highlightLine(this.#rules, this.#open, this.#state).pieces);
    this.code.append(...nodes, ...this.#last);
  }
}

function spans(pieces) {
  return pieces.map(([kind, text]) => {
    if (!kind) return document.createTextNode(text);
    const span = document.createElement("span");
    span.className = `hl-${kind}`;
    span.textContent = text;
    return span;
  });
}
