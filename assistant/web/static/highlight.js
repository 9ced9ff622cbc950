// Code in colour, line by line, and the marks of characters that nobody can see.
//
// The modes of CodeMirror read a line after the other and keep a state between them, so a block that is still
// being written is never read twice. Each line is an element of its own, so the browser lays out only the last one
// anew. The text always stands at once. Its colours follow when the mode is loaded, and not more at a time than a
// page can do without a pause.

import { element } from "./dom.js";

const LONGEST = 1000; // UTF-16 units of a line that is coloured; a minified file is not worth the time
const DEEPEST = 300; // open brackets; some modes take longer for each line the more there are
const TOGETHER = 50; // lines in one element, so that a line that changes costs the browser little
const LONG = 20; // such elements in a block whose lines out of sight are not laid out
const MOST_MARKS = 30; // in a line; the rest of one that hides more is a single mark
const AT_ONCE = 8000; // units that are coloured before the page gets its turn

const NAMES = Object.fromEntries(
  `AD soft hyphen, 200B zero-width space, 200C zero-width non-joiner, 200D zero-width joiner, 2060 word joiner,
   FEFF byte order mark, 200E left-to-right mark, 200F right-to-left mark, 202A left-to-right embedding,
   202B right-to-left embedding, 202C end of a direction, 202D left-to-right override,
   202E right-to-left override, 2066 left-to-right isolate, 2067 right-to-left isolate, 2069 end of an isolate`
    .split(/,\s+/)
    .map((entry) => [parseInt(entry, 16), entry.replace(/^\w+ /, "")]),
);

// What needs a hidden character: letters that a joiner connects or keeps apart, emoji, flags, and keys; some
// ideographs have variants.
const SCRIPTS = "Arab Beng Deva Gujr Guru Khmr Knda Mlym Mong Mymr Orya Sinh Syrc Taml Telu Tibt".split(" ");
const EMOJI = String.raw`\p{ExtPict}(?:\uFE0F|\p{EMod})?`;
const HIDDEN = /(?![\t\n])[\p{Cc}\p{DI}\u2028\u2029\uFFF9-\uFFFB]/gu;
const NOTABLE = new RegExp(
  String.raw`[${SCRIPTS.map((name) => `\\p{sc=${name}}`).join("")}][\u200C\u200D]|\p{sc=Mong}[\u180B-\u180D\u180F]|` +
    String.raw`\u{1F3F4}[\u{E0061}-\u{E007A}]{4,6}\u{E007F}|${EMOJI}(?:\u200D${EMOJI})*|[\d#*]\uFE0F\u20E3|` +
    String.raw`\p{S}[\uFE0E\uFE0F]|\p{sc=Han}[\uFE00-\uFE02\u{E0100}-\u{E01EF}]|` +
    `(?<hidden>${HIDDEN.source})`,
  "gu",
);

/**
 * The nodes that show a text, in which each hidden character is marked by its number. The text stays the same.
 * It may be the part of a `line` that begins `at` a place.
 */
export function markHidden(text, line = text, at = 0) {
  if (/^[\t\n -~]*$/.test(text)) return text ? [document.createTextNode(text)] : [];
  const nodes = [];
  const end = at + text.length;
  let marks = 0;
  const add = (to) => to > at && nodes.push(document.createTextNode(line.slice(at, to)));
  NOTABLE.lastIndex = at;
  for (let found; (found = NOTABLE.exec(line)) && found.index < end;) {
    const { hidden } = found.groups;
    if (!hidden) continue;
    add(found.index);
    at = NOTABLE.lastIndex;
    const point = hidden.codePointAt(0);
    const code = `U+${point.toString(16).toUpperCase().padStart(4, "0")}`;
    const isLast = ++marks > MOST_MARKS;
    const title = isLast ? "Many hidden characters" : `Hidden character: ${NAMES[point] ?? code}`;
    const marked = isLast ? line.slice(found.index, end) : hidden;
    nodes.push(element("span", { class: "hidden-character", "data-code": code, title }, marked));
    if (isLast) return nodes;
  }
  add(end);
  return nodes;
}

let core = null;

/** What reads a language, or null where nobody knows it or it could not be loaded. */
async function languageOf(name) {
  try {
    return await (await (core ??= import("./vendor/highlight/core.js"))).languageOf(name);
  } catch {
    core = null; // the next block tries again
    return null;
  }
}

/** The code of a block as it grows. `code` is an empty element; its text is at any time what was appended. */
export class CodeView {
  #language = null;
  #state; // of the language, after the last line that has its colours
  #depth = 0;
  #waiting = []; // whole lines without colours yet: [element, text]
  #line = null; // the element of the last line, which may grow
  #text = ""; // of the last line, or of the last part of a long one
  #shown = []; // the nodes that show this text
  #isLong = false;
  #isBusy = true;

  constructor(code, language) {
    this.code = code;
    /** Resolves when all of the text has its colours. */
    this.coloured = languageOf(language).then((found) => {
      this.#language = found;
      this.#state = found?.start();
      return this.#colour();
    });
  }

  append(text) {
    const [first, ...rest] = text.split("\n");
    this.#extend(first);
    for (const part of rest) {
      this.#endLine();
      this.#extend(part);
    }
    if (this.#isBusy) this.#show(markHidden(this.#text));
    else this.coloured = this.#colour();
  }

  /** Add to the last line. A long one is shown in parts, so that a piece does not cost the whole of it. */
  #extend(text) {
    while (text !== "") {
      this.#beginLine();
      const part = text.slice(0, Math.max(1, LONGEST - this.#text.length));
      text = text.slice(part.length);
      this.#text += part;
      const isPair = /[\uD800-\uDBFF]$/.test(this.#text) && this.#text.length === LONGEST;
      if (this.#text.length < LONGEST || isPair) continue;
      this.#show(markHidden(this.#text));
      this.#shown = [];
      this.#text = "";
      this.#isLong = true;
    }
  }

  #beginLine() {
    if (this.#line) return;
    let { lastChild } = this.code;
    if (!(lastChild?.childElementCount < TOGETHER)) {
      lastChild = this.code.appendChild(element("span", { class: "lines" }));
      if (this.code.childElementCount === LONG) this.code.classList.add("long");
    }
    this.#line = lastChild.appendChild(element("span", { class: "line" }));
  }

  #endLine() {
    this.#beginLine();
    this.#show(markHidden(this.#text));
    this.#line.append("\n");
    if (!this.#isLong) this.#waiting.push([this.#line, this.#text]);
    this.#line = null;
    this.#text = "";
    this.#shown = [];
    this.#isLong = false;
  }

  #show(nodes) {
    for (const node of this.#shown) node.remove();
    this.#line?.append(...nodes);
    this.#shown = nodes;
  }

  async #colour() {
    this.#isBusy = true;
    let left = AT_ONCE;
    for (const [line, text] of this.#waiting) {
      const nodes = this.#nodesOf(text);
      if (!this.#language) break;
      if (text === "") continue;
      line.replaceChildren(...nodes, "\n");
      this.#deepen(text);
      left -= text.length + 50;
      if (left > 0) continue;
      await new Promise((done) => setTimeout(done));
      left = AT_ONCE;
    }
    this.#waiting = [];
    this.#isBusy = false;
    this.#show(this.#isLong ? markHidden(this.#text) : this.#nodesOf(this.#text, true));
  }

  /** The nodes of a line, in colours if the language is known. One that may grow leaves the state as it is. */
  #nodesOf(line, mayGrow = false) {
    const language = this.#language;
    if (!language) return markHidden(line);
    let pieces;
    try {
      pieces = language.read(line, mayGrow ? language.copy(this.#state) : this.#state);
    } catch {
      if (!mayGrow) this.#language = null; // what follows a line that it cannot read has no colours
      return markHidden(line);
    }
    if (line.match(HIDDEN)?.length > MOST_MARKS) return markHidden(line);
    let at = 0;
    return pieces.flatMap(([kind, text]) => {
      const nodes = markHidden(text, line, at);
      at += text.length;
      return kind ? [element("span", { class: `hl-${kind}` }, ...nodes)] : nodes;
    });
  }

  #deepen(line) {
    for (const [bracket] of line.matchAll(/[([{}\])]/g)) {
      this.#depth = Math.max(0, this.#depth + ("([{".includes(bracket) ? 1 : -1));
    }
    if (this.#depth > DEEPEST) this.#language = null;
  }
}
