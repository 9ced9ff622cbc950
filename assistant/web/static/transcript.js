// The messages of one branch in a scroller: only the last of a long one, and the reader keeps the place.
//
// Knows which of them are on the page, and how far the reader has scrolled; refuses to know where they come
// from and what they mean. The `owner` is that of the questions and answers, with two things more: it has
// `refusal`, why the conversation may not be changed now, and `versionsOf(message)`.

import { ICONS, element, iconButton } from "./dom.js";
import { Answer, Question } from "./messages.js";
import { copyAsMarkdown } from "./selection.js";

const WINDOW = 50; // messages shown at once; older ones on demand
const AT_FIRST = 8; // of them, painted before the rest: more than a screen holds
const AT_ONCE = 14; // and then, whenever the browser is idle
const ABOVE = 12; // px between the top and what is shown from its beginning
const NEAR_END = 48; // px from the end that still count as being there

const whenIdle = window.requestIdleCallback ?? ((work) => setTimeout(work, 1));

export class Transcript {
  isAtEnd = true; // whether the reader is at the end, and wants to stay when more comes
  #branch = []; // all the messages, of which some are shown
  #from = 0; // the first of them that is shown
  #parts = []; // the questions and answers that show them from there on
  #wanted = 0; // the first that will be shown when the browser was idle
  #isFilling = false;
  #top = 0; // how far down the reader was

  /** `before` are the nodes that stand above the messages, or in their place. */
  constructor(owner, ...before) {
    this.owner = owner;
    this.list = element("div", { class: "list" });
    this.earlier = element("button", { type: "button", class: "earlier", hidden: true });
    this.column = element("div", { class: "column" }, ...before, this.earlier, this.list);
    this.scroller = element(
      "div",
      { class: "scroller", tabindex: "0", role: "region", "aria-label": "Conversation" },
      this.column,
    );
    this.toEnd = iconButton("Go to the end", ICONS.down, null, { class: "to-end", hidden: true });
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.earlier.addEventListener("click", () => this.#showEarlier());
    this.toEnd.addEventListener("click", () => {
      this.goToEnd();
      this.scroller.focus({ preventScroll: true }); // the button is gone
    });
    this.list.addEventListener("copy", (event) => copyAsMarkdown(event, this.list));
    const growth = new ResizeObserver(() => this.keepEnd());
    growth.observe(this.column);
    growth.observe(this.scroller);
  }

  get branch() {
    return this.#branch;
  }

  /** What shows the last message, if that is an answer. */
  get answer() {
    const part = this.#parts.at(-1);
    return part instanceof Answer ? part : null;
  }

  /** What shows a message, if it is on the page. */
  partOf(message) {
    return this.#parts.find((part) => part.message === message) ?? null;
  }

  /** Show a branch. What stands there already stays as it is. */
  show(branch) {
    this.#moveDown(branch);
    const above = this.#branch[this.#from - 1]?.id;
    const isSameAbove = this.#parts.length > 0 && above === branch[this.#from - 1]?.id;
    let kept = 0;
    if (isSameAbove) {
      const until = Math.min(this.#parts.length, branch.length - this.#from);
      while (kept < until && this.#parts[kept].shows(branch[this.#from + kept])) kept += 1;
    }
    for (const part of this.#parts.splice(kept)) part.node.remove();
    this.#branch = branch;
    if (!isSameAbove) {
      this.#from = Math.max(0, branch.length - AT_FIRST);
      this.#wanted = Math.max(0, branch.length - WINDOW);
    }
    this.#append(isSameAbove ? WINDOW : AT_FIRST);
    this.refresh();
    this.#paintEarlier();
    this.#fillLater();
  }

  /** Older messages were read since: what is shown stands further down in the branch. */
  #moveDown(branch) {
    const first = this.#branch[0]?.id ?? null;
    const older = first === null ? 0 : branch.findIndex(({ id }) => id === first);
    if (older <= 0) return;
    this.#branch = [...branch.slice(0, older), ...this.#branch];
    this.#from += older;
    this.#wanted += older;
  }

  /** Show a branch that a person adds to: to its end, and what is far above leaves the page. */
  showEnd(branch) {
    while (!this.#isWhole) this.#fill(WINDOW);
    this.show(branch);
    const surplus = this.#parts.length - WINDOW;
    if (surplus >= WINDOW) {
      for (const part of this.#parts.splice(0, surplus)) part.node.remove();
      this.#wanted = this.#from += surplus;
      this.#paintEarlier();
    }
    this.goToEnd();
  }

  /** Show the branch through a version that stands in a part's place. The arrows stay where they are. */
  showInstead(part, version, branch) {
    const { top } = part.actions.getBoundingClientRect();
    this.isAtEnd = false;
    this.show(branch);
    const shown = this.partOf(version);
    this.scroller.scrollTop += shown.actions.getBoundingClientRect().top - top;
    return shown;
  }

  /** Say of each message which version it is, and what can be done with it now. */
  refresh(parts = this.#parts) {
    for (const part of parts) {
      const versions = this.owner.versionsOf(part.message);
      part.place = { index: versions.indexOf(part.message), count: versions.length };
      part.allow(this.owner.refusal);
    }
  }

  #partFor(message) {
    return new (message.role === "user" ? Question : Answer)(message, this.owner);
  }

  #append(count) {
    const start = this.#from + this.#parts.length;
    const parts = this.#branch.slice(start, start + count).map((message) => this.#partFor(message));
    this.list.append(...parts.map((part) => part.node));
    this.#parts.push(...parts);
    return parts;
  }

  #prepend(count) {
    const from = Math.max(0, this.#from - count);
    const parts = this.#branch.slice(from, this.#from).map((message) => this.#partFor(message));
    const height = this.scroller.scrollHeight;
    this.list.prepend(...parts.map((part) => part.node));
    this.#parts.unshift(...parts);
    this.#from = from;
    this.scroller.scrollTop += this.scroller.scrollHeight - height;
    return parts;
  }

  // ---- the rest of the window, above or below what is seen

  get #isWhole() {
    return this.#from <= this.#wanted && this.#from + this.#parts.length >= this.#branch.length;
  }

  #fillLater() {
    if (this.#isWhole || this.#isFilling) return;
    this.#isFilling = true;
    whenIdle((deadline) => {
      this.#isFilling = false;
      do this.#fill(AT_ONCE);
      while (!this.#isWhole && deadline?.timeRemaining() > 8);
      this.#fillLater();
    });
  }

  #fill(count) {
    if (this.#from > this.#wanted)
      this.refresh(this.#prepend(Math.min(count, this.#from - this.#wanted)));
    this.refresh(this.#append(count));
    this.#paintEarlier();
  }

  #paintEarlier() {
    this.earlier.hidden = this.#from === 0 || this.#from > this.#wanted;
    this.earlier.textContent = `Show ${Math.min(WINDOW, this.#from)} earlier messages`;
  }

  #showEarlier() {
    this.#wanted = Math.max(0, this.#from - WINDOW);
    const parts = this.#prepend(WINDOW);
    this.refresh(parts);
    this.#paintEarlier();
    if (!this.earlier.hidden) return;
    parts[0].node.tabIndex = -1; // the button is gone
    parts[0].node.focus({ preventScroll: true });
  }

  // ---- scrolling

  get #isNearEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  #scrolled() {
    const { scrollTop } = this.scroller;
    const isNear = this.#isNearEnd;
    // Only the reader scrolls up; that the text grew is no reason to stop following it.
    if (isNear) this.isAtEnd = true;
    else if (scrollTop < this.#top) this.isAtEnd = false;
    this.#top = scrollTop;
    this.toEnd.hidden = this.isAtEnd || isNear;
  }

  goToEnd() {
    this.isAtEnd = true;
    this.toEnd.hidden = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** Show a part from the question before it on, if it is higher than what is seen at once. */
  goToBeginning(part) {
    const first = this.#parts[this.#parts.indexOf(part) - 1] ?? part;
    const { top } = first.node.getBoundingClientRect();
    if (!this.isAtEnd || part.node.getBoundingClientRect().bottom - top <= this.scroller.clientHeight) return;
    this.isAtEnd = false;
    this.scroller.scrollTop += top - this.scroller.getBoundingClientRect().top - ABOVE;
    this.keepEnd();
  }

  /** Something has grown: stay at its end, if that is where the reader is. */
  keepEnd() {
    if (this.#parts.length === 0) this.toEnd.hidden = true;
    else if (this.isAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
    else this.toEnd.hidden = this.#isNearEnd;
  }
}
