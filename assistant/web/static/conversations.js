// <tech-conversations>: the list of conversations, beside the chat or, on a phone, as a sheet over it.
//
// Knows the list and which one is marked; refuses to know what a conversation holds. It tells:
//
//   tech-open  one was chosen: detail {id}, null for a new one

import { call } from "./api.js";
import { ICONS, element, icon } from "./dom.js";

const PAGE = 50;
const FOLDED = "tech-assistant-folded"; // the key under which a browser remembers it
const PHONE = "(max-width: 48rem)";

function iconButton(name, path) {
  return element("button", { type: "button", class: "icon", "aria-label": name, title: name }, icon(path));
}

/** The heading under which a time stands, seen from now. */
function groupOf(time, now = new Date()) {
  const midnight = new Date(now);
  midnight.setHours(0, 0, 0, 0);
  const days = (midnight - new Date(time)) / 86_400_000;
  if (days <= 0) return "Today";
  if (days <= 1) return "Yesterday";
  if (days <= 7) return "Last seven days";
  if (days <= 30) return "Last thirty days";
  return new Date(time).toLocaleDateString(undefined, { month: "long", year: "numeric" });
}

class TechConversations extends HTMLElement {
  #current = null;
  #conversations = [];
  #next = null;
  #reading = null;
  #phone = window.matchMedia(PHONE);
  #removals = [];

  constructor() {
    super();
    this.menu = iconButton("Show conversations", ICONS.menu);
    this.heading = element("span", { class: "title" });
    this.newAbove = iconButton("New chat", ICONS.plus);
    this.bar = element("div", { class: "bar" }, this.menu, this.heading, this.newAbove);
    this.fold = iconButton("Hide conversations", ICONS.panel);
    this.new = element("button", { type: "button", class: "new" }, icon(ICONS.plus), "New chat");
    this.list = element("div", { class: "list" });
    this.panel = element(
      "nav",
      { class: "panel", "aria-label": "Conversations" },
      element("div", { class: "head" }, element("span", { class: "name" }, "Tech Assistant"), this.fold),
      this.new,
      this.list,
    );
    this.shade = element("div", { class: "shade" });
  }

  connectedCallback() {
    this.replaceChildren(this.bar, this.shade, this.panel);
    const on = (target, name, listener) => {
      target.addEventListener(name, listener);
      this.#removals.push(() => target.removeEventListener(name, listener));
    };
    on(this.menu, "click", () => this.#show(true));
    on(this.fold, "click", () => this.#show(false));
    on(this.shade, "click", () => this.#show(false));
    for (const button of [this.new, this.newAbove]) on(button, "click", () => this.#choose(null));
    on(this.panel, "keydown", (event) => {
      if (event.key === "Escape" && this.#phone.matches) this.#show(false);
    });
    on(this.#phone, "change", () => this.#show(this.#isOpenAtFirst(), { isQuiet: true }));
    this.#show(this.#isOpenAtFirst(), { isQuiet: true });
    this.refresh();
    this.dispatchEvent(new CustomEvent("tech-ready", { bubbles: true }));
  }

  disconnectedCallback() {
    for (const remove of this.#removals.splice(0)) remove();
  }

  /** The id of the conversation that is shown. */
  set current(id) {
    this.#current = id;
    this.#mark();
  }

  /** A conversation's title, as far as it is known. */
  titleOf(id) {
    return this.#conversations.find((one) => one.id === id)?.title ?? null;
  }

  /** Read the newest page again. */
  async refresh() {
    const reading = (this.#reading = {});
    try {
      const page = await call("GET", `/conversations?limit=${PAGE}`);
      if (this.#reading !== reading) return;
      const known = new Set(page.conversations.map((one) => one.id));
      const older = this.#conversations.filter((one) => !known.has(one.id));
      const hadMore = this.#conversations.length > PAGE;
      this.#conversations = hadMore ? [...page.conversations, ...older] : page.conversations;
      if (!hadMore) this.#next = page.next;
      this.#paint();
    } catch (problem) {
      if (this.#conversations.length === 0) this.#paintProblem(problem);
    }
  }

  async #more(button) {
    button.disabled = true;
    try {
      const page = await call(
        "GET",
        `/conversations?limit=${PAGE}&cursor=${encodeURIComponent(this.#next)}`,
      );
      const known = new Set(this.#conversations.map((one) => one.id));
      this.#conversations.push(...page.conversations.filter((one) => !known.has(one.id)));
      this.#next = page.next;
      this.#paint();
    } catch {
      button.disabled = false;
      button.textContent = "Not loaded. Try again";
    }
  }

  #paint() {
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    const nodes = [];
    let items = null;
    for (const conversation of this.#conversations) {
      const group = groupOf(conversation.updated_at);
      if (items?.dataset.group !== group) {
        items = element("ul", { "data-group": group, "aria-label": group });
        nodes.push(element("div", { class: "group" }, group), items);
      }
      const address = new URL(location.href);
      address.searchParams.set("c", conversation.id);
      const link = element(
        "a",
        { href: address.pathname + address.search, "data-id": conversation.id, title: conversation.title },
        conversation.title,
      );
      link.addEventListener("click", (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return; // a tab of its own
        event.preventDefault();
        this.#choose(conversation.id);
      });
      items.append(element("li", {}, link));
    }
    if (this.#next) {
      const button = element("button", { type: "button", class: "more" }, "Show more");
      button.addEventListener("click", () => this.#more(button));
      nodes.push(button);
    }
    if (nodes.length === 0)
      nodes.push(element("p", { class: "none" }, "Your conversations will be listed here."));
    this.list.replaceChildren(...nodes);
    this.#mark();
    if (focused) this.list.querySelector(`a[data-id="${CSS.escape(focused)}"]`)?.focus();
  }

  #paintProblem(problem) {
    const button = element("button", { type: "button", class: "more" }, "Try again");
    button.addEventListener("click", () => this.refresh());
    this.list.replaceChildren(element("p", { class: "none", role: "alert" }, problem.message), button);
  }

  #mark() {
    for (const link of this.list.querySelectorAll("a")) {
      if (link.dataset.id === this.#current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.heading.textContent = this.titleOf(this.#current) ?? "";
  }

  #choose(id) {
    if (this.#phone.matches) this.#show(false);
    this.dispatchEvent(new CustomEvent("tech-open", { bubbles: true, detail: { id } }));
  }

  #isOpenAtFirst() {
    if (this.#phone.matches) return false;
    try {
      return localStorage.getItem(FOLDED) !== "1";
    } catch {
      return true; // a frame of another site has no storage
    }
  }

  #show(isOpen, { isQuiet = false } = {}) {
    this.toggleAttribute("open", isOpen);
    this.menu.setAttribute("aria-expanded", String(isOpen));
    this.panel.inert = !isOpen;
    if (isQuiet) return;
    if (!this.#phone.matches) {
      try {
        localStorage.setItem(FOLDED, isOpen ? "0" : "1");
      } catch {
        // not remembered then
      }
    }
    (isOpen ? this.fold : this.menu).focus();
  }
}

customElements.define("tech-conversations", TechConversations);
