// Small helpers to build DOM nodes and to copy text. No function takes markup, only text.
//
// Labels and words of buttons are translated here; the content of elements is not.

import { t } from "./translation.js";

/**
 * An element with attributes and children. null and false omit an attribute, true makes it empty. A function
 * listens to the event of that name.
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value != null)
      node.setAttribute(name, value === true ? "" : name === "aria-label" ? t(value) : value);
  }
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon of 24 by 24 from path data. It is hidden from screen readers, so its button needs a label. */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.appendChild(document.createElementNS(SVG, "path")).setAttribute("d", path);
  return svg;
}

/** Dispatch an event that bubbles. */
export function emit(node, name, detail) {
  node.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
}

export const IS_MAC = /Mac|iP(?:hone|ad)/.test(navigator.platform);

export const TOUCH = matchMedia("(pointer: coarse)"); // whether the reader types on the screen

/** Whether a key sends a text: Enter, on a touch screen only with Ctrl or Command. */
export function isSending({ key, shiftKey, ctrlKey, metaKey }) {
  return key === "Enter" && (ctrlKey || metaKey || !(shiftKey || TOUCH.matches));
}

/** The keys that send a question and that add a line, as shown to people. */
export function enterKeys() {
  return TOUCH.matches ? [`${IS_MAC ? "⌘" : "Ctrl"} + Enter`, "Enter"] : ["Enter", "Shift + Enter"];
}

/** Whether a key belongs to an input method. */
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

/** The keys that start a new chat, as shown to people. */
export const NEW_CHAT = IS_MAC ? "⌘ ⇧ O" : "Ctrl + Shift + O";

export const ICONS = {
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  before: "M15 5l-7 7 7 7",
  after: "M9 5l7 7-7 7",
  details: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M12 11v5M12 7.5h.01",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  remove: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  done: "M5 13l4 4L19 7",
  retry: "M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6",
  down: "M12 5v14M6 13l6 6 6-6",
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  panel: "M4 5h16v14H4zM10 5v14",
  close: "M6 6l12 12M18 6L6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  book: "M5 4h13v16H7a2 2 0 0 1-2-2zM5 18a2 2 0 0 1 2-2h11",
  diagram: "M4 4h8v6H4zM12 14h8v6h-8zM8 10v7h4",
  good: "M4 11h3v9H4zM7 11l4-7a2 2 0 0 1 2 2v4h5.4a1.6 1.6 0 0 1 1.6 2l-1.5 6.4a2 2 0 0 1-2 1.6H7",
  bookOff: "M9 4h9v9M18 18v2H7a2 2 0 0 1-2-2V6M4 3l17 18",
};

/** Copy text to the clipboard. Returns false if the browser does not allow it. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard API in an insecure context (plain http except on localhost): use the old command.
    const area = element("textarea", { readonly: true, "aria-hidden": "true" });
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    try {
      return document.execCommand("copy");
    } finally {
      area.remove();
      focused?.focus?.();
    }
  }
}

/** Call `act()` when a button is pressed, and ignore further presses until it has finished. */
export function whenPressed(button, act) {
  button.addEventListener("click", async () => {
    if (button.hasAttribute("aria-disabled")) return;
    // Not `disabled`, which would lose the focus.
    button.setAttribute("aria-disabled", "true");
    try {
      await act();
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
}

/** An icon as a button. Its name is its label for screen readers and its tooltip. */
export function iconButton(name, path, act, attributes = {}) {
  const named = { type: "button", class: "icon", "aria-label": name, title: t(name), click: act };
  return element("button", { ...named, ...attributes }, icon(path));
}

/** A button with an icon and a word. */
export function wordButton(word, path, act) {
  return element("button", { type: "button", click: act }, icon(path), element("span", {}, t(word)));
}

/** A button that copies `text()` and confirms it for two seconds. `word` is shown beside the icon. */
export function copyButton(text, { label, word = "" }) {
  const button = iconButton(label, ICONS.copy, null, { class: word ? "copy" : "copy icon" });
  const shown = element("span", {}, t(word));
  const say = (name, path, text) => {
    button.ariaLabel = button.title = t(name);
    button.firstChild.replaceWith(icon(path));
    shown.textContent = t(text);
  };
  if (word) button.append(shown);
  let back;
  button.addEventListener("click", async () => {
    const copied = await copyText(text());
    const result = copied ? "Copied" : "Not allowed here";
    say(result, copied ? ICONS.done : ICONS.close, result);
    clearTimeout(back);
    back = setTimeout(say, 2000, label, ICONS.copy, word);
  });
  return button;
}
