// The sources of an answer: numbered chips, each of which opens the quoted lines.
//
// Documentation is not trusted more than an answer: its text is never markup, its links are http or https.

import { element } from "./dom.js";

let lastId = 0; // for the ids of the quotations that chips and links open

/** The address if a link may lead to it, else null. */
export function webAddress(address) {
  try {
    const { protocol, href } = new URL(address);
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch {
    return null;
  }
}

/** A link to another site. */
export function linkOut(href, text) {
  return element("a", { href, target: "_blank", rel: "noopener noreferrer" }, text);
}

export class Sources {
  #sources = [];
  #cited = []; // whether the answer cites or quotes each of them
  #chips = [];
  #quotes = []; // the node that each chip opens
  #shown = []; // the indexes of the sources that are shown
  #name = `tech-sources-${(lastId += 1)}`;

  constructor() {
    this.list = element("ul", { class: "chips", role: "list" });
    this.node = element(
      "div",
      { class: "sources", role: "group", "aria-label": "Sources", hidden: true },
      this.list,
    );
    this.node.addEventListener("keydown", (event) => {
      const open = this.#quotes.findIndex((quote) => !quote.hidden);
      if (event.key !== "Escape" || open < 0) return;
      this.#open(null);
      this.#chips[open].focus();
      event.stopPropagation();
    });
  }

  /** Take the sources, best first. `show` then shows them. Returns false if they are already known. */
  set(given) {
    this.#cited = given.map(({ cited }) => cited); // known only when the answer is complete
    const sources = given.map((source) => ({ ...source, cited: undefined }));
    if (JSON.stringify(sources) === JSON.stringify(this.#sources)) return false;
    this.#sources = sources;
    this.#chips = sources.map((source, index) => this.#chip(source, index));
    this.#quotes = sources.map((source, index) => this.#quote(source, index));
    this.show(() => false);
    return true;
  }

  /** Show the sources that are `wanted(number, isCited)`, counted from 1, under their numbers. */
  show(wanted) {
    const shown = [...this.#sources.keys()].filter((index) => wanted(index + 1, this.#cited[index]));
    if (String(shown) === String(this.#shown)) return;
    this.#shown = shown;
    this.list.replaceChildren(...shown.map((index) => element("li", {}, this.#chips[index])));
    this.node.replaceChildren(this.list, ...shown.map((index) => this.#quotes[index]));
    this.node.hidden = shown.length === 0;
  }

  /** A link that cites source `number`, counted from 1, or null if there is no such source. */
  cite(number) {
    const source = this.#sources[number - 1];
    if (!source) return null;
    const title = nameOf(source);
    const attributes = { class: "cite", href: `#${this.#id(number - 1)}`, title };
    const click = (event) => {
      event.preventDefault(); // the address is the conversation's
      this.show((one) => one === number || this.#shown.includes(one - 1)); // the answer may not be complete
      this.#open(number - 1);
      this.#chips[number - 1].focus({ preventScroll: true });
    };
    return element("a", { ...attributes, "data-number": number, "aria-label": `[${number}] ${title}`, click }, `[${number}]`);
  }

  /** The sources as Markdown for the end of a copied answer, "" if there are none. */
  get markdown() {
    const lines = this.#shown.map((index) => {
      const source = this.#sources[index];
      const name = /^[\w.]+$/.test(source.name) ? `\`${source.name}\`` : source.name;
      return [`${index + 1}. ${nameOf(source, name)}`, ...factsOf(source), webAddress(source.url)].filter(Boolean).join(", ");
    });
    return lines.length > 0 ? `Sources:\n\n${lines.join("\n")}` : "";
  }

  #id(index) {
    return `${this.#name}-${index + 1}`;
  }

  /** Open one quotation and close the others. null closes all. */
  #open(index) {
    for (const [at, chip] of this.#chips.entries()) {
      chip.ariaExpanded = String(at === index);
      this.#quotes[at].hidden = at !== index;
    }
    this.#quotes[index]?.scrollIntoView({ block: "nearest" });
  }

  #chip(source, index) {
    const click = () => this.#open(this.#quotes[index].hidden ? index : null);
    return element(
      "button",
      { type: "button", "aria-expanded": "false", "aria-controls": this.#id(index), click },
      element("span", { class: "number" }, `[${index + 1}]`),
      element("span", { class: "name" }, nameOf(source)),
      element("span", { class: "package" }, `· ${packageOf(source)}`),
    );
  }

  /** The node that a chip opens: the quoted lines, and where they come from. */
  #quote(source, index) {
    const href = webAddress(source.url);
    const attributes = { tabindex: "0", "aria-label": "Quoted lines", cite: href };
    const facts = element("p", { class: "facts" }, factsOf(source).join(" · "));
    if (href) facts.append(" · ", linkOut(href, new URL(href).host));
    return element(
      "div",
      { class: "source", id: this.#id(index), hidden: true },
      element("p", { class: "title" }, `[${index + 1}] ${isExample(source) ? nameOf(source) : source.title || source.name}`),
      element("blockquote", attributes, ...quoted(source)),
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

const SPECIAL = /^(?:\s|>>>|\.\.\. |[-*+|=~^]|\d+[.)]\s)/m; // a line whose layout must be kept
const CALL = /^[\w.]+\(.*\)(?: ->.*)?$/m;

/** The quoted text as nodes: prose may be wrapped, all else keeps its lines. */
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
