// Code in colour, line by line, and the marks of characters that nobody can see.
//
// The modes of CodeMirror read a line after the other and keep a state between them, so a block that is still
// being written is never read twice. Each line is an element of its own, so the browser lays out only the last one
// anew. The text always stands at once. Its colours follow when the mode is loaded, and not more at a time than a
// page can do without a pause.

import { element } from "./dom.js";

const LONGEST = 1000; // UTF-16 units of a line that is coloured; a minified file is not worth the time
const DEEPEST = 300; // open brackets; some modes take longer for each line the more there are
const AT_ONCE = 8000; // units that are coloured before the page gets its turn

/** What CodeMirror calls a token, as the name of a class; the first that fits counts. */
const KINDS = [
  ["comment", /comment/],
  ["string", /string|regexp|character/],
  ["number", /number/],
  ["added", /inserted|positive/],
  ["removed", /deleted|negative/],
  ["word", /keyword|atom|bool|null|self|tag|header|heading/],
  ["call", /\bdef|definition|link/],
  ["type", /type|class|builtin|standard|qualifier/],
  ["meta", /meta|attribute|label|annotation|instruction/],
  ["name", /variable|property|^name/],
];

const NAMES = {
  "00AD": "soft hyphen",
  "200B": "zero-width space",
  "200C": "zero-width non-joiner",
  "200D": "zero-width joiner",
  "200E": "left-to-right mark",
  "200F": "right-to-left mark",
  "202A": "left-to-right embedding",
  "202B": "right-to-left embedding",
  "202C": "end of a direction",
  "202D": "left-to-right override",
  "202E": "right-to-left override",
  2060: "word joiner",
  2066: "left-to-right isolate",
  2067: "right-to-left isolate",
  2068: "isolate",
  2069: "end of an isolate",
  FEFF: "byte order mark",
};

// Letters that a joiner connects or keeps apart, as their spelling needs.
const JOINED = ["Arab", "Beng", "Deva", "Gujr", "Guru", "Khmr", "Knda", "Mlym", "Mong", "Mymr", "Orya", "Sinh"]
  .concat(["Syrc", "Taml", "Telu", "Tibt"])
  .map((script) => `\\p{sc=${script}}`)
  .join("");
const EMOJI = String.raw`\p{ExtPict}(?:\uFE0F|\p{EMod})?`;
const USEFUL = [
  String.raw`${EMOJI}(?:\u200D${EMOJI})*`,
  String.raw`\u{1F3F4}[\u{E0061}-\u{E007A}]{4,6}\u{E007F}`, // a flag
  String.raw`[\d#*]\uFE0F\u20E3|\p{S}[\uFE0E\uFE0F]`,
  String.raw`\p{sc=Han}[\uFE00-\uFE02\u{E0100}-\u{E01EF}]`,
  String.raw`[${JOINED}][\u200C\u200D]|\p{sc=Mong}[\u180B-\u180D\u180F]`,
];
const HIDDEN = String.raw`(?![\t\n])[\p{Cc}\p{DI}\u2028\u2029\uFFF9-\uFFFB]`;
const NOTABLE = new RegExp(`${[USEFUL[1], USEFUL[0], ...USEFUL.slice(2)].join("|")}|(${HIDDEN})`, "gu");

/**
 * The nodes that show a text, in which each hidden character is marked by its number. The text stays the same.
 * It may be the part of a `line` that begins `at` a place.
 */
export function markHidden(text, line = text, at = 0) {
  if (/^[\t\n -~]*$/.test(text)) return text ? [document.createTextNode(text)] : [];
  const nodes = [];
  const end = at + text.length;
  const add = (to) => to > at && nodes.push(document.createTextNode(line.slice(at, to)));
  NOTABLE.lastIndex = at;
  for (let found; (found = NOTABLE.exec(line)) && found.index < end;) {
    const [, hidden] = found;
    if (!hidden) continue;
    add(found.index);
    at = NOTABLE.lastIndex;
    const number = hidden.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    const title = `Hidden character${NAMES[number] ? `: ${NAMES[number]}` : ""}`;
    nodes.push(element("span", { class: "hidden-character", "data-code": `U+${number}`, title }, hidden));
  }
  add(end);
  return nodes;
}

const kinds = new Map(); // of the styles that were seen

function kindOf(style, next) {
  if (!kinds.has(style)) kinds.set(style, KINDS.find(([, pattern]) => pattern.test(style))?.[0] ?? "");
  const kind = kinds.get(style);
  return kind !== "name" ? kind : next === "(" ? "call" : "";
}

/** Cut a line into [kind, text] pairs; the state becomes that of the next line. */
function piecesOf({ mode, StringStream }, line, state) {
  const pieces = [];
  const stream = new StringStream(line, 4);
  stream.indentUnit = 2;
  if (line === "") mode.blankLine?.(state, 2);
  while (!stream.eol()) {
    let style = null;
    for (let tries = 0; stream.pos === stream.start && tries < 9; tries++) style = mode.token(stream, state);
    if (stream.pos === stream.start) stream.next();
    const kind = style ? kindOf(style, stream.peek()) : "";
    if (pieces.at(-1)?.[0] === kind) pieces.at(-1)[1] += stream.current();
    else pieces.push([kind, stream.current()]);
    stream.start = stream.pos;
  }
  return pieces;
}

let core = null;

/** Load what reads a language: { mode, copied, StringStream }. The mode is null where nobody knows the language. */
async function readerOf(language) {
  try {
    const { modeOf, ...reader } = await (core ??= import("./vendor/highlight/core.js"));
    return { ...reader, mode: await modeOf(language) };
  } catch {
    core = null; // the next block tries again
    return { mode: null };
  }
}

/** The code of a block as it grows. `code` is an empty element; its text is at any time what was appended. */
export class CodeView {
  #reader = { mode: null };
  #state = {}; // of the mode, after the last line that has its colours
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
    this.coloured = readerOf(language).then((reader) => {
      this.#reader = reader;
      this.#state = reader.mode?.startState?.(2) ?? {};
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
      this.#line ??= this.code.appendChild(element("span", { class: "line" }));
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

  #endLine() {
    this.#line ??= this.code.appendChild(element("span", { class: "line" }));
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
      if (this.#reader.mode) line.replaceChildren(...nodes, "\n");
      this.#deepen(text);
      left -= text.length + 50;
      if (left > 0 || !this.#reader.mode) continue;
      await new Promise((done) => setTimeout(done));
      left = AT_ONCE;
    }
    this.#waiting = [];
    this.#isBusy = false;
    this.#show(this.#isLong ? markHidden(this.#text) : this.#nodesOf(this.#text, true));
  }

  /** The nodes of a line, in colours if the language is known. One that may grow leaves the state as it is. */
  #nodesOf(line, mayGrow = false) {
    const { mode, copied } = this.#reader;
    if (!mode) return markHidden(line);
    let pieces;
    try {
      pieces = piecesOf(this.#reader, line, mayGrow ? copied(mode, this.#state) : this.#state);
    } catch {
      if (!mayGrow) this.#reader.mode = null; // what follows a line that it cannot read has no colours
      return markHidden(line);
    }
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
    if (this.#depth > DEEPEST) this.#reader.mode = null;
  }
}
