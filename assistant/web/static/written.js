// What a plain text says of itself without a reader of Markdown: where its code is, and what was only thought.

import { element } from "./dom.js";
import { markHidden } from "./highlight.js";

// A fenced block to its end or the end of the text, or words between one or two backticks in a line.
const CODE =
  /(^ {0,3}(`{3,}(?=[^`\n]*$)|~{3,})[^\n]*(?:\n[^]*?(?:^ {0,3}\2[`~]*[ \t]*(?:\n|$(?![^]))|$(?![^]))|$(?![^])))|(?<!`)(`{1,2})(?!`)[^\n]*?[^`\n]\3(?!`)/gm;

/** Nodes for a text as it was typed, with its code in elements of its own. Their text is the whole text. */
export function codeNodes(text) {
  const nodes = [];
  let end = 0;
  for (const { 0: code, 1: block, index } of text.matchAll(CODE)) {
    nodes.push(text.slice(end, index), element("code", { class: block && "block" }, ...markHidden(code)));
    end = index + code.length;
  }
  return [...nodes, text.slice(end)].filter((node) => node !== "");
}

const OPENINGS = ["<think>", "<thinking>"];
const OPENING = /<think(?:ing)?>/i;
export const THOUGHT_ENDS = /<\/think(?:ing)?>/i;

/**
 * Split what a model writes into its thought, "" if there is none, and its answer. `isThinking` says that the
 * thought has no end yet. Some models leave out the first tag. Tags later in the text, or in code, are text.
 * Of an unfinished text, the beginning of a tag is held back.
 */
export function splitThought(text, isFinished) {
  const start = text.trimStart();
  const none = { thought: "", answer: text, isThinking: false };
  if (!isFinished && OPENINGS.some((tag) => tag.startsWith(start.toLowerCase()))) return { ...none, answer: "" };
  const opening = OPENING.exec(start);
  const from = opening?.index === 0 ? opening[0].length : 0;
  let end = THOUGHT_ENDS.exec(start);
  if (from === 0) {
    if (!end) return none;
    const words = start.replace(CODE, (code) => " ".repeat(code.length));
    end = THOUGHT_ENDS.exec(words);
    if (!end || OPENING.test(words.slice(0, end.index))) return none;
  }
  if (!end) return { thought: start.slice(from).replace(/<\/?\w*$/, "").trim(), answer: "", isThinking: true };
  const answer = start.slice(end.index + end[0].length).trimStart();
  return { thought: start.slice(from, end.index).trim(), answer, isThinking: false };
}
