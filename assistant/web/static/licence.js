// A licence that has to be accepted before a question is sent: a notice at the composer, not in its way.
//
// Knows the notice; refuses to know what was going to be done, which is a function it is given.

import { element, whenPressed } from "./dom.js";
import { linkOut, webAddress } from "./sources.js";

export class Consent {
  #licence = null;
  #act = () => {};
  #from = null; // where the focus was

  /**
   * `accept(licence)` records it, and throws when that fails; `alert(words)` then says why, "" takes it back.
   * `closed()` is called when the reader has decided: the focus belongs elsewhere.
   */
  constructor({ accept, alert, closed }) {
    this.words = element("p", { id: "tech-licence" });
    const agree = element("button", { type: "button", class: "agree" }, "Accept and ask");
    const later = element("button", { type: "button" }, "Not now");
    this.node = element(
      "div",
      { class: "consent", role: "group", "aria-labelledby": this.words.id, tabindex: "-1", hidden: true },
      this.words,
      element("div", { class: "buttons" }, later, agree),
    );
    whenPressed(agree, async () => {
      const licence = this.#licence;
      const act = this.#act;
      try {
        await accept(licence);
      } catch (problem) {
        alert(problem.message);
        return;
      }
      if (licence !== this.#licence) return; // it was closed meanwhile
      this.close();
      closed();
      act();
    });
    const leave = () => {
      const from = this.#from;
      this.close();
      alert("");
      if (from?.isConnected && from !== document.body) from.focus();
      else closed();
    };
    later.addEventListener("click", leave);
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      leave();
      event.stopPropagation();
    });
  }

  /** Show it; `act` is what is done once it is accepted. */
  open(licence, model, act) {
    this.#licence = licence;
    this.#act = act;
    const name = /licen[cs]e/i.test(licence.name) ? licence.name : `${licence.name} licence`;
    const href = webAddress(licence.url);
    this.words.replaceChildren(
      `${model ?? "This model"} comes under the ${name}, which forbids some uses.`,
      ...(href ? [" ", linkOut(href, "Read it")] : []),
    );
    if (this.node.hidden) this.#from = document.activeElement;
    this.node.hidden = false;
    // Not the button: a second press of Enter accepts nothing.
    this.node.focus();
  }

  close() {
    this.node.hidden = true;
    this.#licence = null;
  }
}
