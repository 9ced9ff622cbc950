// The sources of an answer: numbered chips, each of which opens the lines that were quoted.
//
// Knows how a source is shown, linked to from the text and copied; refuses to know where it was found. What a
// documentation says is not trusted more than an answer: text goes in as text, links lead to http and https.

import { element } from "./dom.js";

let lastName = 0; // for ids, by which chips and links name what they open

/** An address that a link may lead to, or null. */
export function webAddress(address) {
  try {
    const { protocol, href } = new URL(address);
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch {
    return null;
  }
}

/** A link to a page of somebody else. */
export function linkOut(href, words) {
  return element("a", { href, target: "_blank", rel: "noopener noreferrer" }, words);
}

export class Sources {
  #sources = [];
  #chips = [];
  #pieces = []; // what they open
  #name = `tech-sources-${(lastName += 1)}`;

  constructor() {
    this.list = element("ul", { class: "chips", role: "list" });
    this.node = element(
      "div",
      { class: "sources", role: "group", "aria-label": "Sources", hidden: true },
      this.list,
    );
    this.node.addEventListener("keydown", (event) => {
      const open = this.#pieces.findIndex((piece) => !piece.hidden);
      if (event.key !== "Escape" || open < 0) return;
      this.#open(null);
      this.#chips[open].focus();
      event.stopPropagation();
    });
  }

  /** Show these, best first; false when they are shown already. */
  set(sources) {
    if (JSON.stringify(sources) === JSON.stringify(this.#sources)) return false;
    this.#sources = sources;
    this.#chips = sources.map((source, index) => this.#chip(source, index));
    this.list.replaceChildren(...this.#chips.map((chip) => element("li", {}, chip)));
    this.#pieces = sources.map((source, index) => this.#piece(source, index));
    this.node.replaceChildren(this.list, ...this.#pieces);
    this.node.hidden = sources.length === 0;
    return true;
  }

  /** The link in a text that cites source `number`, counted from 1; null when there is none. */
  cite(number) {
    const source = this.#sources[number - 1];
    if (!source) return null;
    const title = nameOf(source);
    const attributes = { class: "cite", href: `#${this.#id(number - 1)}`, title };
    const link = element("a", { ...attributes, "aria-label": `[${number}] ${title}` }, `[${number}]`);
    link.addEventListener("click", (event) => {
      event.preventDefault(); // the address belongs to the conversation
      this.#open(number - 1);
      this.#chips[number - 1].focus({ preventScroll: true });
    });
    return link;
  }

  /** The sources as a list to stand at the end of the answer's Markdown; "" for none. */
  get markdown() {
    const lines = this.#sources.map((source, index) => {
      const name = /^[\w.]+$/.test(source.name) ? `\`${source.name}\`` : source.name;
      return [`${index + 1}. ${nameOf(source, name)}`, ...factsOf(source), webAddress(source.url)].filter(Boolean).join(", ");
    });
    return lines.length > 0 ? `Sources:\n\n${lines.join("\n")}` : "";
  }

  #id(index) {
    return `${this.#name}-${index + 1}`;
  }

  /** Open one, and close the one that was open; none for null. */
  #open(index) {
    for (const [at, chip] of this.#chips.entries()) {
      chip.setAttribute("aria-expanded", String(at === index));
      this.#pieces[at].hidden = at !== index;
    }
    this.#pieces[index]?.scrollIntoView({ block: "nearest" });
  }

  #chip(source, index) {
    const chip = element(
      "button",
      { type: "button", "aria-expanded": "false", "aria-controls": this.#id(index) },
      element("span", { class: "number" }, `[${index + 1}]`),
      element("span", { class: "name" }, nameOf(source)),
      element("span", { class: "package" }, `· ${packageOf(source)}`),
    );
    chip.addEventListener("click", () => {
      this.#open(chip.getAttribute("aria-expanded") === "true" ? null : index);
    });
    return chip;
  }

  /** What a chip opens: the words that were quoted, and where they stand. */
  #piece(source, index) {
    const href = webAddress(source.url);
    const quote = element("blockquote", { tabindex: "0", "aria-label": "Quoted lines", cite: href });
    quote.append(...quoted(source));
    const facts = element("p", { class: "facts" }, factsOf(source).join(" · "));
    if (href) facts.append(" · ", linkOut(href, new URL(href).host));
    return element(
      "div",
      { class: "source", id: this.#id(index), hidden: true },
      element("p", { class: "title" }, `[${index + 1}] ${source.title || source.name}`),
      quote,
      facts,
    );
  }
}

function isExample({ title }) {
  return /^example\b/i.test(title);
}

function nameOf(source, name = source.name) {
  return isExample(source) ? `Example: ${name}` : name;
}

function packageOf({ package: name, version }) {
  return [name, version].filter(Boolean).join(" ");
}

function factsOf(source) {
  return [packageOf(source), source.location, source.licence].filter(Boolean);
}

const SPECIAL = /^(?:\s|>>>|\.\.\. |[-*+|=~^]|\d+[.)]\s)/m; // begins a line of which each column counts
const CALL = /^[\w.]+\(.*\)(?: ->.*)?$/m;

/** The quoted words, paragraph by paragraph: prose may be broken anew, all else stands as it was written. */
function quoted(source) {
  const paragraphs = source.quote.replace(/^\n+|\s+$/g, "").split(/\n[ \t]*\n/);
  const nodes = [];
  for (const text of paragraphs) {
    const isProse = !isExample(source) && !SPECIAL.test(text) && !CALL.test(text) && /[.:!?)]$/.test(text);
    if (isProse) nodes.push(element("p", {}, text));
    else if (nodes.at(-1)?.nodeName === "PRE") nodes.at(-1).textContent += `\n\n${text}`;
    else nodes.push(element("pre", {}, text));
  }
  return nodes;
}
