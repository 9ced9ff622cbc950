// The picture of a Mermaid block, drawn when the reader asks for it.
//
// Mermaid makes markup from the model's text. It runs in a frame with an origin of its own, so that no mistake
// of it reaches this page.

import { ICONS, element, wordButton } from "./dom.js";

const PATIENCE = 20_000; // milliseconds until the frame must have answered
const LONGEST = 300; // characters of a message that is shown
const SMALLEST = 0.6; // of its own size, to which diagram.js shrinks a wide picture

/** The button of a code block that shows the diagram of `source()` in place of the code, and the code again. */
export function diagramButton(source) {
  const button = wordButton("Show diagram", ICONS.diagram, () => (frame ? close() : open()));
  const reason = element("p", { class: "reason", role: "alert" });
  let frame = null;
  let timer;

  const close = (text = "") => {
    window.removeEventListener("message", take);
    clearTimeout(timer);
    if (frame) {
      frame.previousElementSibling.hidden = false;
      frame.remove();
    }
    frame = null;
    button.lastChild.textContent = "Show diagram";
    reason.textContent = text;
    if (text) button.closest("figure").append(reason);
    else reason.remove();
  };

  const open = () => {
    close();
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches || document.body.matches(".dark");
    const draw = () => {
      // The frame has no origin that could be named, hence "*". It is ours: nothing else may be loaded there.
      frame.contentWindow.postMessage({ source: source(), theme: isDark ? "dark" : "light" }, "*");
    };
    const src = new URL("./diagram.html", import.meta.url);
    frame = element("iframe", { sandbox: "allow-scripts", src, title: "Diagram", load: draw });
    window.addEventListener("message", take);
    timer = setTimeout(close, PATIENCE, "The diagram is not drawn yet. It may be too large.");
    const code = button.closest("figure").querySelector("pre");
    code.hidden = true;
    code.after(frame);
    button.lastChild.textContent = "Show code";
  };

  const take = ({ source: sender, data }) => {
    if (sender !== frame.contentWindow) return;
    clearTimeout(timer);
    if (data.error) return close(`The diagram cannot be drawn. ${String(data.error).slice(0, LONGEST)}`);
    const { width, height } = data;
    Object.assign(frame.style, {
      maxWidth: `${width}px`,
      aspectRatio: `${width} / ${height}`,
      minHeight: `min(80vh, ${SMALLEST * height}px)`,
    });
  };

  return button;
}
