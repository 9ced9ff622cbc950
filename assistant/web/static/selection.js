// Copies a selection in the transcript as Markdown, from the nodes that markdown.js makes.
//
// Parts of the page, such as buttons and headings for screen readers, are not copied. Code alone is copied as
// it is.

import { element } from "./dom.js";

const OURS = ".unseen, .origin, .thought, .sources, .actions, .note, button";
const MARKS = { STRONG: "**", EM: "*", DEL: "~~" };

/** Answer a `copy` event inside `root` with Markdown as the text and the nodes as HTML. */
export function copyAsMarkdown(event, root) {
  const selection = document.getSelection();
  if (selection.isCollapsed || selection.rangeCount === 0) return;
  const range = selection.getRangeAt(0);
  const { commonAncestorContainer: common } = range;
  const inside = common.nodeType === Node.ELEMENT_NODE ? common : common.parentElement;
  if (!root.contains(inside) || inside.closest("pre, code, textarea, .bubble, .sources")) return;
  const copied = element("div", {}, range.cloneContents());
  for (const node of copied.querySelectorAll(OURS)) node.remove();
  event.clipboardData.setData("text/plain", markdownOf(copied));
  event.clipboardData.setData("text/html", copied.innerHTML);
  event.preventDefault();
}

/** The Markdown of an element's content. */
export function markdownOf(node) {
  return blocksOf(node).join("\n\n");
}

/** The Markdown of each block in a node. Text between blocks counts as a paragraph. */
function blocksOf(parent) {
  const blocks = [];
  let text = "";
  const end = () => {
    if (text.trim() !== "") blocks.push(text.trim());
    text = "";
  };
  for (const node of parent.childNodes) {
    const inner = blockOf(node);
    if (inner === null) text += inlineOf(node);
    else {
      end();
      blocks.push(...inner);
    }
  }
  end();
  return blocks;
}

/** A list with a block's Markdown, or with that of each block in a container. null for other nodes. */
function blockOf(node) {
  switch (node.nodeName) {
    case "P":
      return [node.matches(".html") ? node.textContent : insideOf(node).trim()];
    case "H3":
    case "H4":
    case "H5":
    case "H6":
      return [`${"#".repeat(node.dataset.level)} ${insideOf(node).trim()}`];
    case "HR":
      return ["---"];
    case "BLOCKQUOTE":
      return [prefixed(node.matches(".alert") ? alerted(node) : markdownOf(node), "> ", "> ")];
    case "FIGURE":
    case "PRE":
      return [fenced(node)];
    case "UL":
    case "OL":
      return [listed(node)];
    case "TABLE":
      return [tabled(node)];
    case "ARTICLE":
    case "DIV":
      if (node.matches(".bubble")) return [node.textContent];
      if (node.matches(".formula")) return [`$$\n${node.dataset.tex}\n$$`];
      return node.matches(".footnote") ? [noted(node)] : blocksOf(node);
    default:
      return null;
  }
}

function insideOf(node) {
  return [...node.childNodes].map(inlineOf).join("");
}

function inlineOf(node) {
  const { nodeName: name } = node;
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  if (name === "BR") return "\n";
  if (name === "CODE") {
    const text = node.textContent;
    const mark = "`".repeat(1 + Math.max(0, ...(text.match(/`+/g) ?? []).map((run) => run.length)));
    const pad = /^`|`$/.test(text) ? " " : "";
    return mark + pad + text + pad + mark;
  }
  const inside = insideOf(node);
  if (node.matches("span.task")) return node.ariaLabel === "done" ? "[x]" : "[ ]";
  if (node.matches("a.cite")) return inside;
  if (node.matches(".formula")) return `\\(${node.dataset.tex}\\)`;
  if (node.matches("[data-note]")) return `[^${node.dataset.note}]`;
  if (name === "A") {
    const isBare = [inside, `${inside}/`, `mailto:${inside}`].includes(node.href);
    return isBare ? inside : `[${inside}](${node.href})`;
  }
  const mark = MARKS[name] ?? "";
  return mark && inside ? mark + inside + mark : inside;
}

function fenced(figure) {
  const language = figure.querySelector(".language")?.textContent;
  const code = (figure.querySelector("pre") ?? figure).textContent;
  const longest = Math.max(2, ...(code.match(/`{3,}/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}${!language || language === "text" ? "" : language}\n${code.replace(/\n$/, "")}\n${fence}`;
}

function alerted(quotation) {
  const [title, ...rest] = blocksOf(quotation);
  return [`[!${title.toUpperCase()}]\n${rest[0] ?? ""}`.trimEnd(), ...rest.slice(1)].join("\n\n");
}

function noted(note) {
  const [mark, ...blocks] = blocksOf(note);
  return prefixed(blocks.join("\n\n"), `${mark}: `, "    ");
}

function listed(list) {
  const first = Number(list.getAttribute("start") ?? 1);
  const isLoose = [...list.children].some((item) => item.firstElementChild?.matches("p"));
  const items = [...list.children].map((item, index) => {
    const mark = list.nodeName === "OL" ? `${first + index}. ` : "- ";
    return prefixed(blocksOf(item).join(isLoose ? "\n\n" : "\n"), mark, " ".repeat(mark.length));
  });
  return items.join(isLoose ? "\n\n" : "\n");
}

function tabled(table) {
  const rows = [...table.rows].map((row) => {
    return [...row.cells].map((cell) => insideOf(cell).replaceAll("|", "\\|").replaceAll("\n", "<br>"));
  });
  const lines = rows.map((cells) => `| ${cells.join(" | ")} |`);
  const columns = Math.max(...rows.map((cells) => cells.length));
  return [lines[0], `|${"---|".repeat(columns)}`, ...lines.slice(1)].join("\n");
}

/** Text with `first` before its first line and `other` before all other lines. */
function prefixed(text, first, other) {
  const lines = text.split("\n").map((line, at) => (at === 0 ? first : other) + line);
  return lines.map((line) => line.trimEnd()).join("\n");
}
