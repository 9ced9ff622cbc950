// Small helpers to build and copy DOM. Text only ever goes in as text: nothing here takes markup.

/** An element with attributes (null and false leave one out, true writes an empty one) and children. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** A line icon of 24 by 24 from path data; hidden from screen readers, so its button needs a name. */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  const shape = document.createElementNS(SVG, "path");
  for (const [name, value] of Object.entries({ viewBox: "0 0 24 24", "aria-hidden": "true" })) {
    svg.setAttribute(name, value);
  }
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

export const ICONS = {
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  done: "M5 13l4 4L19 7",
  retry: "M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6",
  down: "M12 5v14M6 13l6 6 6-6",
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  panel: "M4 5h16v14H4zM10 5v14",
  close: "M6 6l12 12M18 6L6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
};

/** Put text on the clipboard; false where the browser allows neither way. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard outside a secure context (plain http on a name other than localhost): the old way.
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

/** A button that copies what `text()` gives at that moment, and says for a while that it did. */
export function copyButton(text, { name = "Copy", label = name } = {}) {
  const word = element("span", {}, name);
  const button = element("button", { type: "button", class: "copy", "aria-label": label });
  button.append(icon(ICONS.copy), word);
  let back;
  button.addEventListener("click", async () => {
    const copied = await copyText(text());
    word.textContent = copied ? "Copied" : "Not allowed here";
    button.setAttribute("aria-label", word.textContent);
    button.firstChild.replaceWith(icon(copied ? ICONS.done : ICONS.close));
    clearTimeout(back);
    back = setTimeout(() => {
      word.textContent = name;
      button.setAttribute("aria-label", label);
      button.firstChild.replaceWith(icon(ICONS.copy));
    }, 2000);
  });
  return button;
}
