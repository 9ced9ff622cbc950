// Formulas in TeX. KaTeX draws them and is loaded with the first one. Until then, and where TeX is wrong, the
// source stands there as it was written.

import { element } from "./dom.js";

const LONGEST = 1500; // characters of a formula that is drawn
// Elements within each other in a drawn formula. More could exhaust the browser.
const TOO_DEEP = Array(80).fill("*").join(" > ");
const MOST_ELEMENTS = 3000; // in a drawn formula
const MOST_TOKENS = 20_000; // that the macros of a formula may produce
const SLICE = 20; // milliseconds of one frame for drawing

let katex = null;
let isLoading = false;
let waiting = []; // the formulas to draw

/** Draw the formula of an element, whose source is in `data-tex`, as soon as the element is on the page. */
export function drawFormula(node) {
  if (node.dataset.tex.length > LONGEST) node.title = "This formula is too long to be drawn.";
  // After the script that builds the block, before the browser paints.
  else if (waiting.push(node) === 1 || !katex) queueMicrotask(drawSome);
}

async function drawSome() {
  if (!katex) {
    if (isLoading) return;
    isLoading = true;
    try {
      [{ default: katex }] = await Promise.all([import("./vendor/katex.js"), loadStyles()]);
    } catch {
      return; // the next formula tries again
    } finally {
      isLoading = false;
    }
  }
  const end = performance.now() + SLICE;
  while (waiting.length > 0 && performance.now() < end) draw(waiting.shift());
  if (waiting.length > 0) requestAnimationFrame(drawSome);
}

function loadStyles() {
  const { promise, resolve, reject } = Promise.withResolvers();
  const failed = () => reject(link.remove());
  const href = new URL("./vendor/katex.css", import.meta.url);
  const link = element("link", { rel: "stylesheet", href, load: resolve, error: failed });
  document.head.append(link);
  return promise;
}

function refuse() {
  throw new Error("it contains a link, an image or attributes");
}

function draw(node) {
  if (!node.isConnected) return; // another element has taken its place
  const { tex } = node.dataset;
  const drawn = element("span");
  try {
    katex.render(tex, drawn, {
      displayMode: node.nodeName === "DIV",
      strict: false,
      trust: refuse,
      maxSize: 20,
      // A short formula may define macros that make a long one.
      maxExpand: /\\\w*(?:def|command|let)\b/.test(tex) ? MOST_TOKENS / tex.length : 1000,
      macros: { "\\mbox": "\\text{#1}", "\\label": () => ({ tokens: [], numArgs: 1 }) },
    });
    if (drawn.getElementsByTagName("*").length > MOST_ELEMENTS) throw new Error("it is too large");
    if (drawn.querySelector(TOO_DEEP)) throw new Error("it is nested too deeply");
    node.replaceChildren(...drawn.childNodes);
  } catch (problem) {
    node.title = `This formula cannot be drawn: ${problem.rawMessage ?? problem.message}.`;
  }
}
