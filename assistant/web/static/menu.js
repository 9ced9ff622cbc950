// A menu of actions that opens at a button, after the menu pattern of the ARIA Authoring Practices.

import { element, icon } from "./dom.js";

const GAP = 4; // px between button and menu, and between menu and window edge

export class Menu {
  #opener = null;
  #onClose = () => {};
  #listening = null; // aborting it removes the listeners of the open menu

  /** `name` is the menu's label for screen readers. */
  constructor(name) {
    const keydown = (event) => this.#key(event);
    this.node = element("div", { class: "menu", role: "menu", "aria-label": name, hidden: true, keydown });
  }

  get isOpen() {
    return this.#opener !== null;
  }

  /** Open the menu at a button. `actions` are {name, path, act}; `onClose` is called after any closing. */
  open(opener, actions, onClose = () => {}) {
    this.close();
    this.#opener = opener;
    this.#onClose = onClose;
    opener.setAttribute("aria-expanded", "true");
    this.node.replaceChildren(
      ...actions.map(({ name, path, act }) => {
        const click = (event) => {
          this.close();
          act(event);
        };
        const attributes = { type: "button", role: "menuitem", tabindex: "-1", click };
        return element("button", attributes, icon(path), name);
      }),
    );
    this.node.hidden = false;
    this.#place();
    this.node.firstChild.focus();
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    window.addEventListener("resize", () => this.close(), { signal });
    const { top } = opener.getBoundingClientRect();
    const scrolled = () => opener.getBoundingClientRect().top !== top && this.close();
    document.addEventListener("scroll", scrolled, { capture: true, passive: true, signal });
    // A press on the button also closes the menu, by the click that follows.
    const pressed = ({ target }) => !this.node.contains(target) && !opener.contains(target) && this.close();
    document.addEventListener("pointerdown", pressed, { signal });
  }

  /** Close the menu. If the focus was in it, the button gets it back. */
  close() {
    if (!this.#opener) return;
    const opener = this.#opener;
    const hadFocus = this.node.contains(document.activeElement);
    this.#opener = null;
    this.#listening.abort();
    opener.setAttribute("aria-expanded", "false");
    if (hadFocus) opener.focus();
    this.node.hidden = true;
    this.#onClose();
  }

  #place() {
    const at = this.#opener.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.node;
    const below = at.bottom + GAP;
    const top = below + height + GAP > innerHeight ? at.top - height - GAP : below;
    const left = Math.min(at.left, innerWidth - width - GAP);
    this.node.style.top = `${Math.max(GAP, top)}px`;
    this.node.style.left = `${Math.max(GAP, left)}px`;
  }

  #key(event) {
    const items = [...this.node.children];
    const at = items.indexOf(document.activeElement);
    const to = {
      ArrowDown: (at + 1) % items.length,
      ArrowUp: (at + items.length - 1) % items.length,
      Home: 0,
      End: items.length - 1,
    }[event.key];
    if (to !== undefined) items[to].focus();
    else if (event.key === "Escape" || event.key === "Tab") this.close();
    else return;
    // Tab moves on from the button. Other keys must not reach the page behind the menu.
    if (event.key !== "Tab") event.preventDefault();
    event.stopPropagation();
  }
}
