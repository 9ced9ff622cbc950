// Takes strings, comments, heredocs and regular expressions off a mode of CodeMirror that confuses them.
//
// The mode sees only the code between them, so nothing spills. A rule says how they look:
//   open     what begins one, a string or a RegExp from the place on; without `close` or `until`, all of it
//   before   what stands before it in its line, a RegExp that ends in `$`; it sees the last 60 characters
//   close    what ends it: a string, or a function that makes it from the match of `open`
//   escapes  what is skipped inside, a RegExp
//   nests    what opens another level inside: a string, or a function as above
//   inner    code inside: pairs of what opens it and what closes it
//   oneLine  whether it ends with its line at the latest
//   again    whether a second part follows, as in s/a/b/
//   flags    whether letters after it belong to it
//   until    a function that makes, from the match of `open` and its line, a function which says of each line
//            after that one whether it is the last. The last line belongs to it, unless `exclusive`; so does the
//            rest of the first line with `rest`
//   style    "comment", or another style of CodeMirror; "string" when it is left out

import { copied } from "./state.js";

const PAIRS = { "(": ")", "[": "]", "{": "}", "<": ">" };
const CONTINUED = /(?:^|[^\\])(?:\\\\)*\\$/; // by a backslash at the end of the line
const DEEPEST = 100; // levels; hostile code opens more

export const BACKSLASH = /^\\.?/;

/** A comment that ends with its line. */
export const toEnd = (mark, before) => ({
  open: new RegExp(`^(?:${mark}).*`, "i"),
  before,
  style: "comment",
});

/** A comment with two ends. */
export const block = (open, close, nests) => ({ open, close, nests, style: "comment" });

/** A string between marks, with escapes. */
export const quoted = (mark, more) => ({ open: mark, close: mark, escapes: BACKSLASH, ...more });

export const SLASHES = [toEnd("//"), block("/*", "*/")];

/** The marks of a literal whose first group is the mark: brackets nest and close in pairs. */
export const delimited = {
  close: ([, mark]) => PAIRS[mark] ?? mark,
  nests: ([, mark]) => (PAIRS[mark] ? mark : undefined),
  escapes: BACKSLASH,
};

export function withLiterals(mode, rules) {
  const made = (part, match) => (typeof part === "function" ? part(match) : part);

  // The list of what is open is never changed in place, so copies of a state may share it.
  const push = (state, entry) => (state.open = [...state.open, entry]);
  const pop = (state) => (state.open = state.open.slice(0, -1));
  const deepen = (state, entry, by) => {
    pop(state);
    push(state, { ...entry, depth: Math.min(entry.depth + by, DEEPEST) });
  };
  const opened = (rule, match, again = rule.again) => ({
    rule,
    again,
    depth: 0,
    close: made(rule.close, match),
    nests: made(rule.nests, match),
  });

  /** Read on in the literal that is open, to its end or that of the line. */
  function inside(stream, state) {
    const { rule, ends, close, nests, again, depth } = state.open.at(-1);
    if (ends) {
      const last = ends(stream.string);
      if (last) pop(state);
      if (last && rule.exclusive) return false;
      stream.skipToEnd();
      return true;
    }
    while (!stream.eol()) {
      if (rule.escapes && stream.match(rule.escapes)) continue;
      if (stream.match(close)) {
        if (depth > 0) {
          deepen(state, state.open.at(-1), -1);
          return true;
        }
        pop(state);
        const next = again && (nests ? stream.match(/^\s*(\S)/) : ["", close]);
        if (next) push(state, opened(rule, next, false));
        else if (rule.flags) stream.eatWhile(/\w/);
        return true;
      }
      if (nests && stream.match(nests)) {
        deepen(state, state.open.at(-1), 1);
        return true;
      }
      const inner = state.open.length < DEEPEST && rule.inner?.find(([mark]) => stream.match(mark, false));
      if (inner) {
        push(state, { inner, depth: 0 });
        return true; // the mark itself is read as code
      }
      stream.next();
    }
    if (rule.oneLine && !(rule.escapes && CONTINUED.test(stream.string))) pop(state);
    return true;
  }

  function code(stream, state) {
    const entry = state.open.at(-1);
    if (entry) {
      const [open, close] = entry.inner;
      if (entry.depth === 0) {
        deepen(state, entry, 1);
        if (stream.match(open)) return "operator";
      } else if (entry.depth === 1 && stream.match(close)) {
        pop(state);
        return "operator";
      } else if (stream.peek() === close) deepen(state, entry, -1);
      else if (stream.peek() === open.at(-1)) deepen(state, entry, 1);
    }
    const before = stream.string.slice(Math.max(0, stream.pos - 60), stream.pos);
    for (const rule of rules) {
      if (rule.before && !rule.before.test(before)) continue;
      const found = stream.match(rule.open);
      if (!found) continue;
      if (rule.code) push(state, { inner: ["", made(rule.close, found)], depth: 1 });
      else if (rule.close) push(state, opened(rule, found));
      else if (rule.until) {
        const entry = { rule, ends: rule.until(found, stream.string) };
        if (rule.rest) push(state, entry);
        else state.waiting = [...state.waiting, entry];
        if (rule.rest) stream.skipToEnd();
      }
      return rule.style ?? "string";
    }
    return mode.token(stream, state.mode);
  }

  return {
    startState: () => ({ mode: mode.startState?.(2) ?? {}, open: [], waiting: [] }),
    copyState: (state) => ({ ...state, mode: copied(mode, state.mode) }),
    blankLine(state) {
      if (state.waiting.length > 0) this.begin(state);
      const entry = state.open.at(-1);
      if (entry?.ends?.("")) pop(state);
      else if (entry?.rule?.oneLine) pop(state);
      else if (!entry) mode.blankLine?.(state.mode, 2);
    },
    begin(state) {
      state.open = [...state.open, ...state.waiting.reverse()];
      state.waiting = [];
    },
    token(stream, state) {
      if (stream.sol() && state.waiting.length > 0) this.begin(state);
      const { rule } = state.open.at(-1) ?? {};
      if (rule && inside(stream, state)) return rule.style ?? "string";
      return code(stream, state);
    },
  };
}

/** A mode for what CodeMirror does not know: words, numbers, and what `styles` say, as patterns by style. */
export function words(keywords, { word = /^[\p{L}_][\p{L}\p{N}_]*/u, anyCase = false, ...styles } = {}) {
  const known = new Set(keywords.trim().split(/\s+/));
  return {
    token(stream) {
      if (stream.eatSpace()) return null;
      for (const [style, pattern] of Object.entries(styles)) if (stream.match(pattern)) return style;
      const found = stream.match(word);
      if (found) return known.has(anyCase ? found[0].toLowerCase() : found[0]) ? "keyword" : "variable";
      if (stream.match(/^\d[\w.]*/)) return "number";
      stream.next();
      return null;
    },
  };
}
