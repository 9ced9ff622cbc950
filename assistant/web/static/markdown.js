// Markdown to DOM: the core of CommonMark with GitHub's tables, task lists, strikethrough and autolinks.
//
// Text of a model is not trusted. Nodes are made by createElement and filled by text alone, never from
// markup, so there is nothing to sanitise: raw HTML is shown as the text that it is (but for <br>, which
// table cells cannot do without), images become links, and links lead to http, https and mailto only.
//
// A view grows by pieces. All top-level blocks but the last one are finished and never touched again; what a
// piece costs is the last block. A fenced block, which may be long, even grows line by line.

import { copyButton, element } from "./dom.js";
import { CodeView } from "./highlight.js";

// Deeper nesting than anybody writes, which would exhaust the browser, is read as text.
const DEEPEST_BLOCKS = 24;
const MOST_OPENERS = 100;
const MOST_COLUMNS = 64;

// ---------------------------------------------------------------------------------------------- blocks

const FENCE = /^(?:(`{3,})([^`]*)|(~{3,})(.*))$/;
const HEADING = /^(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const RULE = /^(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const MARKER = /^(?:([-+*])|(\d{1,9})([.)]))(?=[ \t]|$)/;
const UNDERLINE = /^(?:(=+)|(-+))[ \t]*$/;
const DELIMITER_CELL = /^:?-+:?$/;

/** Reads lines one after the other and builds the tree of blocks, by CommonMark's own algorithm. */
class BlockParser {
  constructor() {
    this.root = { type: "document", children: [] };
    this.stack = [this.root];
    this.definitions = new Map();
    this.number = 0;
    this.lineOffset = 0;
  }

  get tip() {
    return this.stack.at(-1);
  }

  /** `offset` is where the line begins in the text, kept for the blocks that begin with it. */
  read(line, offset) {
    this.line = line;
    this.offsetBefore = this.lineOffset; // of the line before this one
    this.lineOffset = offset;
    this.number += 1;
    this.at = 0;
    this.column = 0;
    this.tabRest = 0; // columns of a tab at `at` that were consumed already

    let matched = 1;
    while (matched < this.stack.length) {
      const goesOn = this.#continues(this.stack[matched]);
      if (goesOn === "closed") return;
      if (!goesOn) break;
      matched += 1;
    }
    const unmatched = this.stack.length - matched;
    let container = this.stack[matched - 1];
    let started = false;

    while (container.type !== "fence" && container.type !== "indented") {
      const next = this.#start(container, matched);
      if (!next) break;
      started = true;
      container = next;
      matched = this.stack.length;
      if (!("children" in container)) break;
    }
    const blank = this.#isBlank();
    if (!started && unmatched > 0 && !blank && this.tip.type === "paragraph") {
      this.tip.lines.push(this.#rest().trimStart()); // a lazy continuation
      this.tip.end = this.number;
      return;
    }
    if (!started) this.#closeTo(matched);
    this.#addText(this.tip, blank);
  }

  finish() {
    this.#closeTo(1);
    return this.root.children;
  }

  #addText(block, blank) {
    switch (block.type) {
      case "fence":
        if (block.start === this.number) return;
        block.lines.push(this.#rest());
        block.end = this.number;
        return;
      case "indented":
        block.lines.push(this.#rest());
        if (!blank) block.end = this.number;
        return;
      case "table":
        if (block.end < this.number) block.rows.push(cellsOf(this.#rest()));
        block.end = this.number;
        return;
      case "paragraph":
        block.lines.push(this.#rest().trimStart());
        block.end = this.number;
        return;
      case "heading":
      case "rule":
        return;
      default:
        if (!blank) {
          const paragraph = this.#add({ type: "paragraph", lines: [] });
          paragraph.lines.push(this.#rest().trimStart());
        }
    }
  }

  #continues(block) {
    const { indent, blank, char } = this.#peek();
    switch (block.type) {
      case "quote":
        if (indent > 3 || char !== ">") return false;
        this.#advance(indent + 1);
        this.#skipOneSpace();
        return true;
      case "list":
        return true;
      case "item":
        if (blank) return block.children.length > 0;
        if (indent < block.width) return false;
        this.#advance(block.width);
        return true;
      case "fence": {
        if (closes(this.#rest(), block.mark)) {
          block.end = this.number;
          this.#closeTo(this.stack.indexOf(block));
          return "closed";
        }
        this.#advance(Math.min(indent, block.indent));
        return true;
      }
      case "indented":
        if (indent >= 4) this.#advance(4);
        else if (blank) this.#advance(indent);
        else return false;
        return true;
      case "paragraph":
      case "table":
        return !blank;
      default:
        return false;
    }
  }

  /** Begin a block of `container` with what is at the cursor; null when there is none to begin. */
  #start(container, depth) {
    const { indent, blank, char, text } = this.#peek();
    if (blank) return null;
    const outer = "children" in container ? depth : depth - 1; // a paragraph or table ends here
    const begin = (block) => {
      this.#closeTo(outer);
      return this.#add(block);
    };
    if (indent >= 4) {
      if (this.tip.type === "paragraph" || container.type === "table") return null;
      this.#advance(4);
      return begin({ type: "indented", lines: [] });
    }
    if (char === ">" && depth < DEEPEST_BLOCKS) {
      this.#advance(indent + 1);
      this.#skipOneSpace();
      return begin({ type: "quote", children: [] });
    }
    let match = char === "#" && HEADING.exec(text);
    if (match) {
      return begin({
        type: "heading",
        level: match[1].length,
        text: /^#+$/.test(match[2] ?? "") ? "" : match[2],
      });
    }
    match = (char === "`" || char === "~") && FENCE.exec(text);
    if (match) {
      const mark = match[1] ?? match[3];
      return begin({ type: "fence", mark, indent, info: (match[2] ?? match[4]).trim(), lines: [] });
    }
    if (container.type === "paragraph") {
      const made = this.#underlined(container, text) ?? this.#tabled(container, text);
      if (made) return made;
    }
    if (RULE.test(text)) return begin({ type: "rule" });
    return this.#startItem(container, depth, outer);
  }

  #underlined(paragraph, text) {
    const match = UNDERLINE.exec(text);
    if (!match || !this.#stripDefinitions(paragraph)) return null;
    const heading = { type: "heading", level: match[1] ? 1 : 2, text: paragraph.lines.join("\n").trim() };
    return this.#replace(paragraph, heading);
  }

  #tabled(paragraph, text) {
    if (!text.includes("-") || !/^[-:| \t]+$/.test(text)) return null;
    const columns = cellsOf(text);
    const header = paragraph.lines.at(-1) ?? ""; // none when definitions were all there was
    if (
      !columns.every((cell) => DELIMITER_CELL.test(cell)) ||
      !(header.includes("|") || text.includes("|"))
    ) {
      return null;
    }
    const head = cellsOf(header);
    if (head.length !== columns.length || head.length > MOST_COLUMNS) return null;
    const align = columns.map((cell) => {
      if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
      return cell.startsWith(":") ? "left" : null;
    });
    const table = { type: "table", head, align, rows: [] };
    if (paragraph.lines.length === 1) return this.#replace(paragraph, table);
    paragraph.lines.pop(); // what stands before the header row stays a paragraph
    paragraph.end -= 1;
    this.#closeTo(this.stack.length - 1);
    return this.#add(table, this.number - 1, this.offsetBefore);
  }

  #startItem(container, depth, outer) {
    const { indent, text } = this.#peek();
    const match = MARKER.exec(text);
    if (!match || depth >= DEEPEST_BLOCKS) return null;
    const after = text.slice(match[0].length);
    const isEmpty = after.trim() === "";
    if (container.type === "paragraph" && (isEmpty || (match[2] && Number(match[2]) !== 1))) return null;
    const kind = match[1] ?? match[3];
    this.#advance(indent + match[0].length);
    let padding = this.#peek().indent;
    if (isEmpty || padding > 4) padding = 1;
    this.#advance(isEmpty ? this.#peek().indent : padding);
    const item = { type: "item", children: [], width: indent + match[0].length + padding };
    if (container.type === "list" && container.kind === kind) {
      this.#closeTo(depth);
      return this.#add(item);
    }
    this.#closeTo(container.type === "list" ? depth - 1 : outer);
    this.#add({ type: "list", children: [], kind, first: match[2] ? Number(match[2]) : null });
    return this.#add(item);
  }

  #add(block, start = this.number, offset = this.lineOffset) {
    while (!("children" in this.tip) || (this.tip.type === "list" && block.type !== "item")) {
      this.#closeTo(this.stack.length - 1);
    }
    Object.assign(block, { start, end: this.number, offset });
    this.tip.children.push(block);
    this.stack.push(block);
    return block;
  }

  #replace(paragraph, block) {
    const siblings = this.stack.at(-2).children;
    Object.assign(block, { start: paragraph.start, end: this.number, offset: paragraph.offset });
    siblings[siblings.indexOf(paragraph)] = block;
    this.stack[this.stack.length - 1] = block;
    return block;
  }

  #closeTo(depth) {
    while (this.stack.length > depth) {
      const block = this.stack.pop();
      if (block.type === "paragraph" && !this.#stripDefinitions(block)) {
        const siblings = this.tip.children;
        siblings.splice(siblings.indexOf(block), 1);
      }
      if (block.type === "indented") while (block.lines.at(-1)?.trim() === "") block.lines.pop();
    }
  }

  /** Take the link reference definitions off a paragraph's beginning; false when nothing is left of it. */
  #stripDefinitions(paragraph) {
    if (!paragraph.lines[0]?.startsWith("[")) return paragraph.lines.length > 0;
    let text = paragraph.lines.join("\n");
    for (let rest; (rest = readDefinition(text, this.definitions)) !== null;) text = rest;
    paragraph.lines = text === "" ? [] : text.split("\n");
    return text.trim() !== "";
  }

  // The cursor counts columns, since a tab reaches to the next multiple of four.

  #peek() {
    let { at } = this;
    let indent = this.tabRest;
    if (this.tabRest) at += 1;
    for (; at < this.line.length; at++) {
      if (this.line[at] === " ") indent += 1;
      else if (this.line[at] === "\t") indent += 4 - ((this.column + indent) % 4);
      else break;
    }
    const text = this.line.slice(at);
    return { indent, blank: text === "", char: text[0], text };
  }

  #isBlank() {
    return this.#peek().blank;
  }

  /** Go forward by so many columns. */
  #advance(columns) {
    while (columns > 0 && this.at < this.line.length) {
      if (this.line[this.at] === "\t") {
        const width = this.tabRest || 4 - (this.column % 4);
        const used = Math.min(width, columns);
        this.tabRest = width - used;
        this.column += used;
        columns -= used;
        if (this.tabRest === 0) this.at += 1;
      } else {
        this.at += 1;
        this.column += 1;
        columns -= 1;
      }
    }
  }

  #skipOneSpace() {
    if (this.line[this.at] === " " || this.line[this.at] === "\t") this.#advance(1);
  }

  #rest() {
    if (!this.tabRest) return this.line.slice(this.at);
    return " ".repeat(this.tabRest) + this.line.slice(this.at + 1);
  }
}

/** Whether a line ends the fenced block that `mark` began. */
function closes(line, mark) {
  const [, found] = /^ {0,3}(`{3,}|~{3,})[ \t]*$/.exec(line) ?? [];
  return found !== undefined && found[0] === mark[0] && found.length >= mark.length;
}

/** The cells of a table's row, trimmed; an escaped bar belongs to its cell. */
function cellsOf(line) {
  const row = line.trim().replace(/^\|/, "");
  const cells = [];
  let cell = "";
  for (let at = 0; at < row.length; at++) {
    if (row[at] === "\\" && row[at + 1] === "|") {
      cell += "|";
      at += 1;
    } else if (row[at] === "|") {
      cells.push(cell.trim());
      cell = "";
    } else cell += row[at];
  }
  if (cell.trim() !== "" || !row.endsWith("|")) cells.push(cell.trim());
  return cells;
}

// ------------------------------------------------------------------------------------------------ links

const LABEL = /\[((?:[^\\[\]]|\\[^]){1,999})\]/y;
const TITLE = /"((?:[^"\\]|\\[^]){0,999})"|'((?:[^'\\]|\\[^]){0,999})'|\(((?:[^()\\]|\\[^]){0,999})\)/y;
const POINTED = /<((?:[^<>\n\\]|\\.){0,2000})>/y;
const SPACES = /[ \t]*(?:\n[ \t]*)?/y;

function sticky(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

/** Read a link's destination at `at`: [destination, where it ends], or null. */
function readDestination(text, at) {
  if (text[at] === "<") {
    const match = sticky(POINTED, text, at);
    return match && [unescape(match[1]), at + match[0].length];
  }
  let depth = 0;
  let end = at;
  for (; end < text.length && end - at < 4000; end++) {
    const char = text[end];
    if (char === "\\" && end + 1 < text.length) end += 1;
    else if (char === "(") depth += 1;
    else if (char === ")" && depth-- === 0) break;
    else if (/[\s\x00-\x1f]/.test(char)) break;
  }
  return depth > 0 ? null : [unescape(text.slice(at, end)), end];
}

/** Read a definition at the text's beginning; gives the text after it, or null when there is none. */
function readDefinition(text, definitions) {
  const label = sticky(LABEL, text, 0);
  if (!label || label[1].trim() === "" || text[label[0].length] !== ":") return null;
  let at = label[0].length + 1;
  at += sticky(SPACES, text, at)[0].length;
  const destination = at < text.length && readDestination(text, at);
  if (!destination || destination[1] === at) return null;
  let [href, end] = destination;
  const space = sticky(SPACES, text, end)[0];
  const title = space && sticky(TITLE, text, end + space.length);
  const endOfLine = (from) => /^[ \t]*(?:\n|$)/.exec(text.slice(from));
  let tail = title && endOfLine(end + space.length + title[0].length);
  if (tail) end += space.length + title[0].length;
  else tail = endOfLine(end);
  if (!tail) return null;
  const key = normalLabel(label[1]);
  if (!definitions.has(key)) {
    definitions.set(key, {
      href,
      title: tail && title ? unescape(title[1] ?? title[2] ?? title[3]) : null,
    });
  }
  return text.slice(end + tail[0].length);
}

function normalLabel(label) {
  return label.trim().replace(/\s+/g, " ").toLowerCase().toUpperCase();
}

const PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
const ENTITY = /&(?:#[xX][\da-fA-F]{1,6}|#\d{1,7}|[A-Za-z][A-Za-z\d]{1,31});/y;
const entities = new Map();

/** The character that a character reference stands for, or the reference itself. */
function decoded(reference) {
  if (reference[1] === "#") {
    const number = /^&#[xX]/.test(reference)
      ? parseInt(reference.slice(3), 16)
      : parseInt(reference.slice(2), 10);
    const isCharacter = number > 0 && number <= 0x10ffff && !(number >= 0xd800 && number <= 0xdfff);
    return isCharacter ? String.fromCodePoint(number) : "\ufffd";
  }
  if (!entities.has(reference)) {
    // The browser knows all two thousand names. What it is given is one name between & and ;, nothing else.
    const text = new DOMParser().parseFromString(reference, "text/html").body.textContent;
    entities.set(reference, text);
  }
  return entities.get(reference);
}

function unescape(text) {
  return text.replace(/\\([^])|&(?:#[xX]?[\da-fA-F]{1,7}|[A-Za-z][A-Za-z\d]{1,31});/g, (all, char) => {
    if (char !== undefined) return PUNCTUATION.includes(char) ? char : all;
    return decoded(all);
  });
}

/** An address that a link may lead to, in its normal form, or null. */
function safeAddress(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null; // relative ones too: in an answer they would lead to pages of ours
  }
}

function linkTo(address, title, ...children) {
  const href = safeAddress(address);
  if (!href) return element("span", { title }, ...children);
  return element("a", { href, title, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}

// ---------------------------------------------------------------------------------------------- inlines

const PLAIN = /[^\\`*_~![\]<&\n]+/y;
const BREAK = /<br\s*\/?>/iy;
const POINTED_LINK = /<([A-Za-z][A-Za-z\d+.-]{1,31}:[^\s<>]{0,2000})>/y;
const POINTED_MAIL = /<([\w.!#$%&'*+/=?^`{|}~-]{1,64}@[A-Za-z\d-]{1,63}(?:\.[A-Za-z\d-]{1,63}){0,8})>/y;
const IS_SPACE = /\s/;
const IS_PUNCTUATION = /[\p{P}\p{S}]/u;

/**
 * Reads the text of one block into nodes, by CommonMark's own algorithm.
 *
 * `links` are {definitions, cite}: `cite(number)` gives the link for `[number]`, null where it means nothing.
 */
class InlineParser {
  constructor(text, links) {
    this.text = text;
    this.at = 0;
    this.links = links;
    this.root = document.createDocumentFragment();
    this.delimiters = []; // runs of * _ ~ that may open or close
    this.brackets = []; // [ and ![ that may open a link
    this.runs = null; // where runs of backticks are, by their length
  }

  parse() {
    const { text } = this;
    while (this.at < text.length) {
      const char = text[this.at];
      if (char === "\n") this.#newline();
      else if (char === "\\") this.#backslash();
      else if (char === "`") this.#code();
      else if (char === "*" || char === "_" || char === "~") this.#delimiter(char);
      else if (char === "[") this.#bracket(false);
      else if (char === "!" && text[this.at + 1] === "[") this.#bracket(true);
      else if (char === "]") this.#closeBracket();
      else if (char === "<") this.#pointed();
      else if (char === "&") this.#entity();
      else this.#say(sticky(PLAIN, text, this.at)?.[0] ?? char);
    }
    this.#emphasise(0);
    this.root.normalize();
    linkBareAddresses(this.root);
    linkCitations(this.root, this.links.cite);
    return this.root;
  }

  #say(text, length = text.length) {
    const node = document.createTextNode(text);
    this.root.append(node);
    this.at += length;
    return node;
  }

  #newline() {
    const last = this.root.lastChild;
    const spaces = last?.nodeType === Node.TEXT_NODE ? / *$/.exec(last.data)[0].length : 0;
    if (spaces) last.data = last.data.slice(0, -spaces);
    if (spaces >= 2) this.root.append(element("br"));
    this.#say("\n");
    while (this.text[this.at] === " ") this.at += 1;
  }

  #backslash() {
    const next = this.text[this.at + 1];
    if (next === "\n") {
      this.root.append(element("br"));
      this.at += 1;
    } else if (next && PUNCTUATION.includes(next)) this.#say(next, 2);
    else this.#say("\\");
  }

  #code() {
    if (!this.runs) {
      this.runs = new Map();
      for (const { 0: run, index } of this.text.matchAll(/`+/g)) {
        if (!this.runs.has(run.length)) this.runs.set(run.length, []);
        this.runs.get(run.length).push(index);
      }
    }
    const run = /`+/y;
    const mark = sticky(run, this.text, this.at)[0];
    const starts = this.runs.get(mark.length) ?? [];
    while (starts.length && starts[0] <= this.at) starts.shift();
    if (!starts.length) {
      this.#say(mark);
      return;
    }
    const end = starts[0];
    let code = this.text.slice(this.at + mark.length, end).replaceAll("\n", " ");
    if (/^ .* $/.test(code) && code.trim() !== "") code = code.slice(1, -1);
    this.root.append(element("code", {}, code));
    this.at = end + mark.length;
  }

  #delimiter(char) {
    let length = 1;
    while (this.text[this.at + length] === char) length += 1;
    const before = previousCharacter(this.text, this.at);
    const after = nextCharacter(this.text, this.at + length);
    const node = this.#say(char.repeat(length));
    if (this.delimiters.length >= MOST_OPENERS || (char === "~" && length > 2)) return;
    const spaceAfter = IS_SPACE.test(after);
    const spaceBefore = IS_SPACE.test(before);
    const pointAfter = IS_PUNCTUATION.test(after);
    const pointBefore = IS_PUNCTUATION.test(before);
    const left = !spaceAfter && (!pointAfter || spaceBefore || pointBefore);
    const right = !spaceBefore && (!pointBefore || spaceAfter || pointAfter);
    const opens = char === "_" ? left && (!right || pointBefore) : left;
    const closes = char === "_" ? right && (!left || pointAfter) : right;
    if (opens || closes) this.delimiters.push({ char, length, original: length, node, opens, closes });
  }

  #bracket(isImage) {
    const node = this.#say(isImage ? "![" : "[");
    if (this.brackets.length >= MOST_OPENERS) return;
    this.brackets.push({ node, isImage, at: this.at, bottom: this.delimiters.length, active: true });
  }

  #closeBracket() {
    const opener = this.brackets.pop();
    if (!opener?.active) {
      this.#say("]");
      return;
    }
    const start = this.at;
    const link = this.#inlineTarget(start + 1) ?? this.#referenceTarget(start, opener);
    if (!link) {
      this.#say("]");
      return;
    }
    this.#emphasise(opener.bottom);
    const inside = [];
    for (let node = opener.node.nextSibling; node; node = node.nextSibling) inside.push(node);
    const made = linkTo(link.href, link.title, ...inside);
    for (const nested of made.querySelectorAll("a")) nested.replaceWith(...nested.childNodes);
    if (opener.isImage) {
      const words = made.textContent.trim();
      made.replaceChildren(words || "image");
      made.classList.add("image");
    } else {
      for (const one of this.brackets) if (!one.isImage) one.active = false; // no link in a link
    }
    opener.node.replaceWith(made);
    this.at = link.end;
  }

  #inlineTarget(at) {
    if (this.text[at] !== "(") return null;
    at += 1;
    at += sticky(SPACES, this.text, at)[0].length;
    const destination = readDestination(this.text, at);
    if (!destination) return null;
    const [href, end] = destination;
    const space = sticky(SPACES, this.text, end)[0].length;
    const title = space ? sticky(TITLE, this.text, end + space) : null;
    let close = end + space + (title?.[0].length ?? 0);
    close += sticky(SPACES, this.text, close)[0].length;
    if (this.text[close] !== ")") return null;
    const words = title && (title[1] ?? title[2] ?? title[3]);
    return { href, title: words == null ? null : unescape(words), end: close + 1 };
  }

  #referenceTarget(at, opener) {
    let label = this.text.slice(opener.at, at);
    let end = at + 1;
    if (this.text[end] === "[") {
      const match = sticky(LABEL, this.text, end);
      if (match) {
        label = match[1];
        end += match[0].length;
      } else if (this.text[end + 1] === "]") end += 2;
    }
    if (label.length > 999) return null;
    if (/^\d+$/.test(label) && this.links.cite(Number(label))) return null; // ours, whatever it is defined as
    const found = this.links.definitions.get(normalLabel(label));
    return found ? { ...found, end } : null;
  }

  #pointed() {
    const link = sticky(POINTED_LINK, this.text, this.at);
    const mail = link ? null : sticky(POINTED_MAIL, this.text, this.at);
    const lineBreak = link || mail ? null : sticky(BREAK, this.text, this.at);
    if (link) this.root.append(linkTo(link[1], null, link[1]));
    else if (mail) this.root.append(linkTo(`mailto:${mail[1]}`, null, mail[1]));
    else if (lineBreak) this.root.append(element("br"));
    else {
      this.#say("<");
      return;
    }
    this.at += (link ?? mail ?? lineBreak)[0].length;
  }

  #entity() {
    const match = sticky(ENTITY, this.text, this.at);
    if (match) this.#say(decoded(match[0]), match[0].length);
    else this.#say("&");
  }

  /** Pair the delimiters above `bottom` and wrap what stands between. */
  #emphasise(bottom) {
    const { delimiters } = this;
    const nothingBelow = new Map(); // where to stop looking for an opener, by the kind of closer
    let index = bottom;
    while (index < delimiters.length) {
      const closer = delimiters[index];
      if (!closer.closes) {
        index += 1;
        continue;
      }
      const kind = `${closer.char}${closer.opens}${closer.original % 3}`;
      const floor = Math.max(bottom, nothingBelow.get(kind) ?? bottom);
      let found = index - 1;
      while (found >= floor && !pairs(delimiters[found], closer)) found -= 1;
      if (found < floor) {
        nothingBelow.set(kind, index);
        if (!closer.opens) delimiters.splice(index, 1);
        else index += 1;
        continue;
      }
      const opener = delimiters[found];
      const length = closer.char === "~" ? closer.length : Math.min(opener.length, closer.length, 2);
      const tag = closer.char === "~" ? "del" : length === 2 ? "strong" : "em";
      const wrap = element(tag);
      for (let node = opener.node.nextSibling; node && node !== closer.node;) {
        const next = node.nextSibling;
        wrap.append(node);
        node = next;
      }
      opener.node.after(wrap);
      delimiters.splice(found + 1, index - found - 1);
      index = found + 1;
      for (const one of [closer, opener]) {
        one.length -= length;
        one.node.data = one.node.data.slice(length);
        if (one.length > 0) continue;
        const place = delimiters.indexOf(one);
        one.node.remove();
        delimiters.splice(place, 1);
        if (place < index) index -= 1;
      }
      for (const [key, place] of nothingBelow) if (place > index) nothingBelow.set(key, index);
    }
    delimiters.length = Math.min(delimiters.length, bottom);
  }
}

function pairs(opener, closer) {
  if (!opener.opens || opener.char !== closer.char) return false;
  if (closer.char === "~") return opener.length === closer.length;
  const both = opener.closes || closer.opens;
  return !(
    both &&
    (opener.original + closer.original) % 3 === 0 &&
    (opener.original % 3 || closer.original % 3)
  );
}

function previousCharacter(text, at) {
  if (at === 0) return " ";
  const low = text.charCodeAt(at - 1);
  return low >= 0xdc00 && low <= 0xdfff && at > 1 ? text.slice(at - 2, at) : text[at - 1];
}

function nextCharacter(text, at) {
  return at >= text.length ? " " : String.fromCodePoint(text.codePointAt(at));
}

const BARE_LINK = /(?:https?:\/\/|www\.)[^\s<>]{2,2000}/.source;
const BARE_MAIL = /[\w.+-]{1,64}@[A-Za-z\d-]{1,63}(?:\.[A-Za-z\d-]{2,63}){1,8}/.source;
const BARE = new RegExp(`(?<![\\w/@.:+-])(?:${BARE_LINK}|${BARE_MAIL})`, "g");

/** Addresses written as they are become links (GitHub's extension), but not in code and not in links. */
function linkBareAddresses(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) {
    const text = walker.currentNode;
    if (/https?:\/\/|www\.|@/.test(text.data) && !text.parentElement?.closest("a, code")) texts.push(text);
  }
  for (const text of texts) {
    const nodes = [];
    let done = 0;
    for (const match of text.data.matchAll(BARE)) {
      const address = trimmedAddress(match[0]);
      const isMail = !/^(?:https?:\/\/|www\.)/.test(address);
      const href = isMail
        ? `mailto:${address}`
        : address.startsWith("www.")
          ? `https://${address}`
          : address;
      if (!safeAddress(href) || (!isMail && !/[^.]\.[^.]|localhost|\d/.test(address))) continue;
      nodes.push(text.data.slice(done, match.index), linkTo(href, null, address));
      done = match.index + address.length;
    }
    if (nodes.length) text.replaceWith(...nodes, text.data.slice(done));
  }
}

const CITATIONS = /(?<![\w)\]])\[\d{1,2}\](?: ?\[\d{1,2}\])*(?![\w(])/g;

/** Numbers in brackets become links to what they cite, but not in code, nor right after a word: `argv[1]`. */
function linkCitations(root, cite) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode);
  for (const text of texts) {
    if (!text.data.includes("[") || text.parentElement?.closest("a, code")) continue;
    const nodes = [];
    let done = 0;
    for (const { 0: run, index } of text.data.matchAll(CITATIONS)) {
      for (const { 0: mark, index: at } of run.matchAll(/\[\d+\]/g)) {
        const link = cite(Number(mark.slice(1, -1)));
        if (!link) continue;
        nodes.push(text.data.slice(done, index + at), link);
        done = index + at + mark.length;
      }
    }
    if (nodes.length) text.replaceWith(...nodes, text.data.slice(done));
  }
}

/** Punctuation at its end belongs to the sentence, and so does a parenthesis that is not opened in it. */
function trimmedAddress(address) {
  for (;;) {
    const last = address.at(-1);
    const opened = address.split("(").length;
    const closed = address.split(")").length;
    if ("?!.,:;*_~'\"|".includes(last) || (last === ")" && closed > opened)) address = address.slice(0, -1);
    else return address;
  }
}

// ------------------------------------------------------------------------------------------------ nodes

const ABOVE = 2; // levels of headings: the conversation, and the message in it

/** The head of a code block with its language and a copy button, and the empty code under it. */
function codeBlock(info) {
  const language = unescape(info.split(/\s/)[0]).slice(0, 40);
  const code = element("code");
  const head = element("figcaption", {}, element("span", { class: "language" }, language || "text"));
  head.append(copyButton(() => code.textContent, { label: "Copy code", word: "Copy" }));
  // Scrolls sideways, hence reachable by keyboard.
  const pre = element(
    "pre",
    { tabindex: "0", role: "group", "aria-label": `Code, ${language || "text"}` },
    code,
  );
  return { figure: element("figure", { class: "code" }, head, pre), view: new CodeView(code, language) };
}

function nodeOf(block, links) {
  const inline = (text) => new InlineParser(text, links).parse();
  switch (block.type) {
    case "paragraph":
      return element("p", {}, inline(block.lines.join("\n").trimEnd()));
    case "heading":
      return element(
        `h${Math.min(6, block.level + ABOVE)}`,
        { "data-level": block.level },
        inline((block.text ?? "").trim()),
      );
    case "rule":
      return element("hr");
    case "quote":
      return element("blockquote", {}, ...block.children.map((child) => nodeOf(child, links)));
    case "fence":
    case "indented": {
      const { figure, view } = codeBlock(block.info ?? "");
      view.append(block.lines.join("\n"));
      return figure;
    }
    case "table":
      return tableOf(block, inline);
    default:
      return listOf(block, links);
  }
}

function tableOf({ head, align, rows }, inline) {
  const cell = (tag, text, column) => {
    const node = element(tag, tag === "th" ? { scope: "col" } : {}, inline(text));
    if (align[column]) node.style.textAlign = align[column];
    return node;
  };
  const body = rows.map((row) =>
    element("tr", {}, ...align.map((_, column) => cell("td", row[column] ?? "", column))),
  );
  const table = element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...head.map((t, c) => cell("th", t, c)))),
  );
  if (body.length) table.append(element("tbody", {}, ...body));
  return element("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, table);
}

function listOf(list, links) {
  const isLoose = list.children.some((item, index) => {
    const parts = [...item.children, list.children[index + 1]].filter(Boolean);
    return parts.some((part, at) => at > 0 && part.start - lastLine(parts[at - 1]) > 1);
  });
  const items = list.children.map((item) => itemOf(item, isLoose, links));
  const start = list.first !== null && list.first !== 1 ? list.first : null;
  return element(list.first === null ? "ul" : "ol", { start }, ...items);
}

function lastLine(block) {
  return block.children?.length ? lastLine(block.children.at(-1)) : block.end;
}

function itemOf(item, isLoose, links) {
  const node = element("li");
  const [first] = item.children;
  const task = first?.type === "paragraph" ? /^\[([ xX])\][ \t]/.exec(first.lines[0]) : null;
  if (task) first.lines[0] = first.lines[0].slice(task[0].length);
  for (const child of item.children) {
    const made = nodeOf(child, links);
    if (child.type === "paragraph" && !isLoose) node.append(...made.childNodes);
    else node.append(made);
  }
  if (task) {
    const done = task[1] !== " ";
    const box = element(
      "span",
      { class: "task", role: "img", "aria-label": done ? "done" : "to do" },
      done ? "☑" : "☐",
    );
    node.classList.add("task");
    (node.firstElementChild?.matches("p") ? node.firstElementChild : node).prepend(box, " ");
  }
  return node;
}

// ------------------------------------------------------------------------------------------------- view

// A line of marks only, which may still become a rule, a fence, an underline, an item.
const MARKS = /^[ \t]*(?:[-=*_+#>~` ]{1,40}|\d{1,9}[.)]?[ \t]*)$/;
const ROW = /^ {0,3}\|/;
const DELIMITERS = /^[-:| \t]*$/;

const HEADINGS = "[data-level]";

/** Markdown in a container of its own, growing by pieces. */
export class MarkdownView {
  #text = "";
  #shown = 0; // how much of it was rendered
  #stable = 0; // where the last top-level block begins
  #tail = []; // the nodes from there on
  #finished = 0; // how many nodes will not change any more
  #code = null; // the fenced block at the end, when it is one that grows line by line
  #links; // what is defined in the text, and what can be cited
  #hasDefinitions = false;

  /** `cite(number)` gives the link for `[number]` in the text, null where it means nothing. */
  constructor(container, { cite = () => null } = {}) {
    this.container = container;
    this.#links = { definitions: new Map(), cite };
  }

  get source() {
    return this.#text;
  }

  /** How many of the container's children are finished. */
  get finished() {
    return this.#finished;
  }

  append(text) {
    this.#text += text.replaceAll("\r", "").replaceAll("\0", "\ufffd");
    this.#render(this.#text.length - undecided(this.#text.slice(this.#stable)));
  }

  set(text) {
    this.#clear();
    this.#text = "";
    this.append(text);
  }

  /** No more will come: show the rest. */
  finish() {
    this.#render(this.#text.length);
    if (this.#hasDefinitions) {
      this.#clear(); // a link may be defined further down than it is used
      this.#render(this.#text.length);
    }
    this.#finished = this.container.childNodes.length;
    this.#tail = [];
    this.#stable = this.#text.length;
    this.#code = null;
  }

  #clear() {
    this.container.replaceChildren();
    this.#tail = [];
    this.#stable = this.#shown = this.#finished = 0;
    this.#code = null;
    this.#links.definitions = new Map();
    this.#hasDefinitions = false;
  }

  #render(end) {
    if (end <= this.#shown) return;
    if (this.#code && this.#growCode(end)) {
      this.#shown = end;
      return;
    }
    this.#shown = end;
    const parser = new BlockParser();
    const lines = this.#text.slice(this.#stable, end).split("\n");
    const unfinished = lines.pop();
    let offset = 0;
    for (const line of lines) {
      parser.read(line, offset);
      offset += line.length + 1;
    }
    // Whole lines decide which blocks are finished: what the last one is may change with its next letter.
    const open = parser.root.children.at(-1)?.offset ?? 0;
    if (unfinished !== "") parser.read(unfinished, offset);
    const fence = parser.stack[1]?.type === "fence" ? parser.stack[1] : null;
    const blocks = parser.finish();
    for (const [label, definition] of parser.definitions) {
      this.#links.definitions.set(label, definition); // again: the one at the end may have grown
      this.#hasDefinitions = true;
    }
    for (const node of this.#tail) node.remove();
    const nodes = blocks.map((block) => nodeOf(block, this.#links));
    this.container.append(...nodes);
    this.#tail = nodes.filter((_, index) => blocks[index].offset >= open);
    if (nodes.some((node) => node.matches(HEADINGS) || node.querySelector(HEADINGS))) this.#order();
    this.#finished = this.container.childNodes.length - this.#tail.length;
    this.#stable += open;
    if (fence?.indent === 0 && fence.offset === open && lines.length > 0) this.#beginCode(fence, end);
  }

  /** Leave no level of headings out, whatever the text does: some readers go from one to the next. */
  #order() {
    const open = [];
    for (const heading of this.container.querySelectorAll(HEADINGS)) {
      const { level } = heading.dataset;
      while (open.at(-1) >= level) open.pop();
      open.push(level);
      heading.setAttribute("aria-level", ABOVE + open.length);
    }
  }

  /** The open fenced block at the end grows line by line from here on. */
  #beginCode(fence, end) {
    const { figure, view } = codeBlock(fence.info);
    const start = this.#text.indexOf("\n", this.#stable) + 1;
    this.#tail[0].replaceWith(figure);
    this.#tail = [figure];
    this.#code = { view, mark: fence.mark, line: start, shown: start };
    this.#growCode(end);
  }

  /** Add to the open fenced block; false when it was closed and more may follow. */
  #growCode(end) {
    const { view, mark } = this.#code;
    for (let next; (next = this.#text.indexOf("\n", this.#code.line)) >= 0 && next < end;) {
      if (closes(this.#text.slice(this.#code.line, next), mark)) {
        return this.#endCode(next + 1, end);
      }
      this.#code.line = next + 1;
    }
    const rest = this.#text.slice(this.#code.line, end);
    // The last line break is not part of the code, and a last line that ends the block neither.
    const until = rest === "" || closes(rest, mark) ? this.#code.line - 1 : end;
    if (until > this.#code.shown) {
      view.append(this.#text.slice(this.#code.shown, until));
      this.#code.shown = until;
    }
    return true;
  }

  #endCode(after, end) {
    const { view, line, shown } = this.#code;
    if (line - 1 > shown) view.append(this.#text.slice(shown, line - 1));
    this.#code = null;
    this.#tail = [];
    this.#finished = this.container.childNodes.length;
    this.#stable = after;
    return after >= end;
  }
}

/** How many characters at the end of a growing text are not shown until it is known what they are. */
function undecided(text) {
  const lines = text.slice(-2000).split("\n");
  const [before, above, last] = ["", "", ...lines].slice(-3);
  if (ROW.test(above) && !ROW.test(before) && DELIMITERS.test(last)) return above.length + 1 + last.length;
  if ((ROW.test(last) && !ROW.test(above)) || MARKS.test(last)) return last.length;
  return 0;
}
