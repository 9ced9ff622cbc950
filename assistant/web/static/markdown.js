// Markdown to DOM: makes elements from the tokens that dialect.js reads, and shows a text while it grows.
//
// Text of a model is not trusted. It becomes text nodes and attributes, never markup: raw HTML is shown as the
// text that it is (only <br> breaks a line, because table cells have no other way), images become links, and
// links lead to http, https and mailto only.
//
// A view grows by pieces. All top-level blocks but the last one are finished and not read again. A new version
// of the last block is merged into the shown one, so that a selection in what stays is kept. A block of code
// and a table, which may be long, grow by lines.

import { read, shown } from "./dialect.js";
import { copyButton, element } from "./dom.js";
import { CodeView, markHidden } from "./highlight.js";

const LEVELS_ABOVE = 2; // headings above those of an answer: the conversation's and the message's

// ----------------------------------------------------------------------------------------------- links

/** An address that a link may lead to, in its normal form, or null. */
function safeAddress(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null; // relative ones too: in an answer they would lead to pages of ours
  }
}

function linkTo(address, title) {
  const href = safeAddress(address);
  if (!href) return element("span", { title });
  return element("a", { href, title, target: "_blank", rel: "noopener noreferrer nofollow" });
}

const CITATIONS = /(?<![\w)\]])\[\d{1,2}\](?: ?\[\d{1,2}\])*(?![\w(])/g;

/** A text in which numbers in brackets are links to what they cite, but not right after a word: `argv[1]`. */
function cited(text, cite) {
  const nodes = [];
  let done = 0;
  for (const { 0: run, index } of text.matchAll(CITATIONS)) {
    for (const { 0: mark, index: inRun } of run.matchAll(/\[\d+\]/g)) {
      const link = cite(Number(mark.slice(1, -1)));
      if (!link) continue;
      nodes.push(text.slice(done, index + inRun), link);
      done = index + inRun + mark.length;
    }
  }
  return [...nodes, text.slice(done)];
}

/** The mark of a footnote, which leads to the note, or that of the note, which leads back. */
function noteMark(label, isNote) {
  const click = () => {
    const marks = [...button.closest(".text").querySelectorAll("sup[data-note] button")];
    const others = marks.filter((one) => one !== button && one.textContent === label);
    const other = others.find((one) => Boolean(one.closest(".footnote")) !== isNote);
    other?.scrollIntoView({ block: "nearest" });
    other?.focus({ preventScroll: true });
  };
  const name = isNote ? `Note ${label}: back to the text` : `Note ${label}`;
  const button = element("button", { type: "button", "aria-label": name, click }, label);
  return element("sup", { "data-note": label }, button);
}

// --------------------------------------------------------------------------------------------- elements

const LETTER = /\p{L}/u;
const FROM_THE_RIGHT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/** The direction of a block's text, by its first letter outside code. null if it has none. */
function directionOf({ token, children }) {
  if (token.type === "inline") {
    const word = token.children.find(({ type, content }) => type === "text" && LETTER.test(content));
    return word ? (FROM_THE_RIGHT.test(LETTER.exec(word.content)[0]) ? "rtl" : "ltr") : null;
  }
  for (const child of children) {
    const direction = directionOf(child);
    if (direction) return direction;
  }
  return null;
}

/** The nodes of a paragraph's tokens. */
function inlines(tokens, links) {
  const open = [document.createDocumentFragment()];
  const isLinked = () => open.some((node) => node.nodeName === "A");
  let text = ""; // becomes one node: adding to a node's text copies all of it
  const flush = () => {
    if (text !== "") open.at(-1).append(text);
    text = "";
  };
  const add = (...nodes) => {
    for (const node of nodes) {
      if (typeof node === "string") text += node;
      else {
        flush();
        open.at(-1).append(node);
      }
    }
  };
  for (const token of tokens) {
    const content = shown(token.content);
    switch (token.type) {
      case "text":
        if (isLinked()) add(content);
        else add(...cited(content, links.cite));
        break;
      case "code_inline":
        add(element("code", { dir: "ltr" }, ...markHidden(content)));
        break;
      case "formula":
        add(formula(content, false));
        break;
      case "softbreak":
        add("\n");
        break;
      case "hardbreak":
        add(element("br"), "\n");
        break;
      case "html_inline":
        add(/^<br\s*\/?>$/i.test(content) ? element("br") : content);
        break;
      case "image": {
        const link = isLinked() ? element("span") : linkTo(token.attrGet("src"), token.attrGet("title"));
        link.classList.add("image");
        link.append(inlines(token.children, links).textContent.trim() || "image");
        add(link);
        break;
      }
      case "footnote_ref":
        add(noteMark(token.meta.label, false));
        break;
      default: // strong, em, s, link
        if (token.nesting > 0) {
          const isLink = token.type === "link_open";
          const tag = token.tag === "s" ? "del" : token.tag;
          const node = isLink ? linkTo(token.attrGet("href"), token.attrGet("title")) : element(tag);
          add(node);
          open.push(node);
        } else if (token.nesting < 0) {
          flush();
          open.pop();
        } else add(content);
    }
  }
  flush();
  return open[0];
}

/** The attributes of what may scroll sideways, which the keyboard must reach. */
function scrolling(name) {
  return { tabindex: "0", role: "group", "aria-label": name };
}

let drawFormula = null;

/** The element of a formula. Its source stands there until it is drawn. */
export function formula(tex, isBlock) {
  const source = isBlock ? `$$${tex}$$` : `\\(${tex}\\)`;
  const isWide = isBlock || tex.length > 24;
  const attributes = { class: "formula", dir: "ltr", "data-tex": tex, ...(isWide && scrolling("Formula")) };
  const node = element(isBlock ? "div" : "span", attributes, source);
  if (drawFormula) drawFormula(node);
  else import("./formulas.js").then((module) => (drawFormula = module.drawFormula)(node), () => {});
  return node;
}

// What is known of each block of code: {info, language, text, view}. `fill` makes the view.
const codes = new WeakMap();

/** A block of code, with a head that has its language and a button. Most are only compared with the shown one. */
function codeBlock(info, text) {
  const language = info.trim().split(/\s/)[0].slice(0, 40);
  const code = element("code");
  const head = element("figcaption", {}, element("span", { class: "language" }, language || "text"));
  head.append(copyButton(() => code.textContent, { label: "Copy code", word: "Copy" }));
  const attributes = { ...scrolling(`Code, ${language || "text"}`), dir: "ltr" };
  const figure = element("figure", { class: "code" }, head, element("pre", attributes, code));
  codes.set(figure, { info, language, text, view: null });
  return figure;
}

/** Show the code of a block that is placed on the page. */
function fill(figure) {
  const known = codes.get(figure);
  const code = figure.querySelector("code");
  known.view = new CodeView(code, known.language);
  known.view.append(known.text);
  if (known.language !== "mermaid") return;
  const source = () => code.textContent;
  const addButton = ({ diagramButton }) => figure.querySelector(".language").after(diagramButton(source));
  import("./diagrams.js").then(addButton, () => {}); // without it, the code stays what it is
}

/** The code of a fence's content, whose last line break is not part of it. */
const codeOf = (content) => shown(content).replace(/\n$/, "");

/** The element of a block. A paragraph of a tight list is a fragment. */
function build(block, links) {
  const { token, children } = block;
  const dir = directionOf(block);
  const inside = () => children.map((child) => build(child, links));
  switch (token.type) {
    case "inline":
      return inlines(token.children, links);
    case "paragraph_open": {
      const [{ token: inline }] = children;
      const [first, ...others] = inline.children;
      if (first?.type === "formula" && first.block && others.length === 0) return formula(first.content, true);
      return token.hidden ? inlines(inline.children, links) : element("p", { dir }, ...inside());
    }
    case "heading_open": {
      const level = Number(token.tag[1]);
      return element(`h${Math.min(6, level + LEVELS_ABOVE)}`, { "data-level": level, dir }, ...inside());
    }
    case "hr":
      return element("hr");
    case "blockquote_open":
      return alertOf(children, dir, links) ?? element("blockquote", { dir }, ...inside());
    case "bullet_list_open":
    case "ordered_list_open":
      return element(token.tag, { start: token.attrGet("start"), dir }, ...inside());
    case "list_item_open":
      return itemOf(children, dir, links);
    case "fence":
    case "code_block":
      return codeBlock(token.info, codeOf(token.content));
    case "table_open":
      return tableOf(children, links);
    case "html_block":
      return element("p", { class: "html", dir: "auto" }, shown(token.content).trimEnd());
    case "footnote_reference_open": {
      const mark = noteMark(token.meta.label, true);
      return element("div", { class: "footnote", role: "note", dir }, mark, ...inside());
    }
    default:
      throw new Error(`There is no element for ${token.type}.`);
  }
}

/** The tokens of the first paragraph of a quotation or an item, and what a pattern finds in the first text. */
function beginning(children, pattern) {
  const [first] = children;
  const tokens = first?.token.type === "paragraph_open" ? first.children[0].token.children : [];
  return { tokens, found: tokens[0]?.type === "text" && pattern.exec(tokens[0].content) };
}

/** GitHub's alerts: a quotation whose first line is a mark such as [!NOTE]. null for other quotations. */
function alertOf(children, dir, links) {
  const { tokens, found } = beginning(children, /^\[!(note|tip|important|warning|caution)\]$/i);
  if (!found || (tokens[1] && tokens[1].type !== "softbreak")) return null;
  tokens.splice(0, 2);
  const kind = found[1].toLowerCase();
  const title = element("p", { class: "title" }, kind[0].toUpperCase() + kind.slice(1));
  const rest = (tokens.length > 0 ? children : children.slice(1)).map((child) => build(child, links));
  return element("blockquote", { class: "alert", "data-kind": kind, dir }, title, ...rest);
}

function itemOf(children, dir, links) {
  const { tokens, found: task } = beginning(children, /^\[([ xX])\]\s/);
  if (task) tokens[0].content = tokens[0].content.slice(task[0].length);
  const item = element("li", { class: task && "task", dir }, ...children.map((child) => build(child, links)));
  if (task) {
    const isDone = task[1] !== " ";
    const attributes = { class: "task", role: "img", "aria-label": isDone ? "done" : "to do" };
    const box = element("span", attributes, isDone ? "☑" : "☐");
    (item.firstElementChild?.matches("p") ? item.firstElementChild : item).prepend(box, " ");
  }
  return item;
}

function tableOf(children, links) {
  const cellOf = (cell) => {
    const { tag } = cell.token;
    const attributes = { scope: tag === "th" && "col", dir: directionOf(cell) };
    const node = element(tag, attributes, build(cell.children[0], links));
    const align = cell.token.attrGet("style"); // as text-align:right
    if (align) node.style.textAlign = align.split(":")[1];
    return node;
  };
  const parts = children.map((part) => {
    const rows = part.children.map((row) => element("tr", {}, ...row.children.map(cellOf)));
    return element(part.token.tag, {}, ...rows);
  });
  const attributes = { class: "table", ...scrolling("Table"), dir: directionOf(children[0]) };
  return element("div", attributes, element("table", {}, ...parts));
}

// ---------------------------------------------------------------------------------------------- merging

/** Show `nodes` at the end of a parent, in place of `olds`. Returns the nodes that are there then. */
function merge(parent, olds, nodes) {
  for (const old of olds.slice(nodes.length)) old.remove();
  return nodes.map((node, index) => {
    if (olds[index] && takesOver(olds[index], node)) return olds[index];
    if (olds[index]) olds[index].replaceWith(node);
    else parent.append(node);
    for (const figure of figuresIn(node)) fill(figure);
    return node;
  });
}

function figuresIn(node) {
  return node.nodeName === "FIGURE" ? [node] : (node.querySelectorAll?.("figure") ?? []);
}

/** Make a node like another one, as far as that keeps what stays. Returns false if it must be replaced. */
function takesOver(node, other) {
  if (node.nodeName !== other.nodeName) return false;
  if (node.nodeType === Node.TEXT_NODE) {
    const [{ data }, { data: next }] = [node, other];
    let same = 0;
    while (same < data.length && data[same] === next[same]) same += 1;
    if (same < Math.max(data.length, next.length)) node.replaceData(same, data.length, next.slice(same));
    return true;
  }
  if (codes.has(node)) return growCode(node, codes.get(other));
  if (node.matches(".formula")) return node.dataset.tex === other.dataset.tex;
  if (figuresIn(other).length === 0 && node.isEqualNode(other)) return true;
  // Links and marks listen for what they show. Attributes have an order, which a comparison of pages sees.
  const names = node.getAttributeNames().filter((name) => name !== "aria-level");
  if (node.matches("a, sup") || names.join() !== other.getAttributeNames().join()) return false;
  for (const name of names) node.setAttribute(name, other.getAttribute(name));
  merge(node, [...node.childNodes], [...other.childNodes]);
  return true;
}

/** Add what a block of code does not show yet. Returns false if it shows something else. */
function growCode(figure, { info, text }) {
  const code = codes.get(figure);
  if (code.info !== info || !text.startsWith(code.text)) return false;
  code.view.append(text.slice(code.text.length));
  code.text = text;
  return true;
}

// ------------------------------------------------------------------------------------------------- view

// A line of marks only, which may still become a rule, a fence, an underline, an item.
const MARKS = /^[ \t]*(?:[-=*_+#>~` ]+|\d{1,9}[.)]?[ \t]*)$/;
const ROW = /^ {0,3}\|/;
const DELIMITER_ROW = /^[-:| \t]*$/;

/** How many characters at the end of a growing text are not shown until it is known what they are. */
function undecided(text) {
  const lines = text.slice(-2000).split("\n");
  const [before, above, last] = ["", "", ...lines].slice(-3);
  if (ROW.test(above) && !ROW.test(before) && DELIMITER_ROW.test(last)) return above.length + 1 + last.length;
  if ((ROW.test(last) && !ROW.test(above)) || MARKS.test(last)) return last.length;
  return 0;
}

/** Where a line of a text begins. */
function lineStart(text, line) {
  let start = 0;
  for (; line > 0; line--) start = text.indexOf("\n", start) + 1;
  return start;
}

/** How many lines of a last block must be read before its next line. 0 if it does not grow by lines. */
function headLines({ token }, lines) {
  const [first, end] = token.map;
  if (token.type === "table_open") return end === lines ? 2 : 0;
  const isOpen = token.type === "fence" && end - first - 1 === countLines(token.content);
  return isOpen ? 1 : 0;
}

const countLines = (text) => text.split("\n").length - 1;

const hasDefinitions = ({ references, notes }) => Object.keys({ ...references, ...notes }).length > 0;

const HEADINGS = "[data-level]";

/** Markdown in a container of its own, growing by pieces. */
export class MarkdownView {
  #text = "";
  #shown = 0; // how much of it was rendered
  #isInParts = false; // whether that was read in parts, so that some definitions came too late
  #lines = 0; // where the last line begins that was not complete
  #start = 0; // where the last top-level block begins
  #tail = []; // the nodes from there on
  #from = 0; // where to read on: at #start, or further down in a block that grows by lines
  #growing = null; // such a block: {head, node, code, rows}; its `head` is read again before what follows #from
  #links = { references: {}, notes: {} }; // what complete lines define
  #defines = false; // whether anything was defined

  /** `cite(number)` gives the link for `[number]` in the text, null where it means nothing. */
  constructor(container, { cite = () => null } = {}) {
    this.container = container;
    this.#links.cite = cite;
  }

  get source() {
    return this.#text;
  }

  /** How many of the container's children are finished. */
  get finished() {
    return this.container.childNodes.length - this.#tail.length;
  }

  append(text) {
    this.#add(text, false);
  }

  /** Show another text. It is read again with the next piece, if there is one. */
  set(text) {
    this.container.replaceChildren();
    this.#text = "";
    this.#defines = false;
    this.#restart();
    this.#add(text, true);
  }

  #add(text, isLast) {
    this.#text += text.replaceAll("\r", "").replace(/[\0\ufdd0]/g, "\ufffd");
    this.#render(this.#text.length - undecided(this.#text.slice(this.#from)), isLast);
  }

  /** No more will come: show the rest. */
  finish() {
    this.#render(this.#text.length, true);
    if (this.#defines && this.#isInParts) {
      this.#restart(); // a link or a note may be defined further down than it is used
      this.#render(this.#text.length, true);
    }
    this.#tail = [];
    this.#start = this.#from = this.#text.length;
    this.#growing = null;
  }

  /** Read everything again. */
  #restart() {
    this.#tail = [...this.container.childNodes];
    this.#shown = this.#lines = this.#start = this.#from = 0;
    this.#growing = null;
    Object.assign(this.#links, { references: {}, notes: {} });
  }

  #render(end, isLast) {
    if (end <= this.#shown) return;
    this.#shown = end;
    this.#isInParts = this.#from > 0 || hasDefinitions(this.#links);
    const head = this.#growing?.head ?? "";
    const source = head + this.#text.slice(this.#from, end);
    const found = read(source, this.#links);
    const { blocks } = found;
    this.#defines ||= hasDefinitions(found);
    const isGrowing = this.#growing !== null;
    if (isGrowing && !this.#grow(blocks[0])) {
      this.#growing = null; // the last line has changed what the block is
      this.#from = this.#start;
      this.#shown = this.#lines = 0;
      this.#render(end, isLast);
      return;
    }
    const [olds, news] = isGrowing ? [this.#tail.slice(1), blocks.slice(1)] : [this.#tail, blocks];
    const nodes = news.map((block) => build(block, this.#links));
    const merged = merge(this.container, olds, nodes);
    this.#tail = isGrowing ? [this.#growing.node, ...merged] : merged;
    if (merged.some((node) => node.matches(HEADINGS) || node.querySelector(HEADINGS))) this.#order();
    if (!isLast) this.#settle(source, head, found);
  }

  /** Show what a block that grows by lines has more. Returns false if it is something else now. */
  #grow(block) {
    const { node, code, rows } = this.#growing;
    if (code !== null) {
      const { info, content } = block.token;
      return block.token.type === "fence" && growCode(node, { info, text: codeOf(code + content) });
    }
    if (block.token.type !== "table_open") return false;
    const table = node.firstChild;
    const news = [...(build(block, this.#links).firstChild.tBodies[0]?.rows ?? [])];
    const body = table.tBodies[0] ?? table.createTBody();
    merge(body, [...body.rows].slice(rows), news);
    if (body.rows.length === 0) body.remove();
    return true;
  }

  /** Whole lines decide which blocks are finished: what the last one is may change with its next letter. */
  #settle(source, head, found) {
    const complete = source.lastIndexOf("\n") + 1;
    const base = this.#from - head.length; // of the places in `source`
    if (base + complete <= this.#lines) return;
    this.#lines = base + complete;
    const text = source.slice(0, complete);
    const { blocks, references, notes } = complete === source.length ? found : read(text, this.#links);
    Object.assign(this.#links, { references, notes });
    const index = blocks.length - 1;
    if (index < 0) return;
    const last = blocks[index];
    const [first] = last.token.map;
    const goesOn = this.#growing !== null && index === 0;
    if (!goesOn) {
      this.#growing = null;
      this.#start = this.#from = base + lineStart(text, first);
      this.#tail = this.#tail.slice(index);
    }
    const count = headLines(last, countLines(text));
    if (count === 0) return;
    const { code, rows } = this.#growing ?? { code: "", rows: 0 };
    const isCode = last.token.type === "fence";
    this.#growing = {
      head: text.slice(lineStart(text, first), lineStart(text, first + count)),
      node: this.#tail[0],
      code: isCode ? code + last.token.content : null,
      rows: isCode ? 0 : rows + (last.children[1]?.children.length ?? 0),
    };
    this.#from = this.#lines;
  }

  /** Leave no level of headings out, whatever the text does: some readers go from one to the next. */
  #order() {
    const open = [];
    for (const heading of this.container.querySelectorAll(HEADINGS)) {
      const { level } = heading.dataset;
      while (open.at(-1) >= level) open.pop();
      open.push(level);
      heading.setAttribute("aria-level", LEVELS_ABOVE + open.length);
    }
  }
}
