// The notice above the composer that asks the reader to accept the model's licence.

import { element, whenPressed } from "./dom.js";
import { linkOut, webAddress } from "./sources.js";

export class Consent {
  #licence = null;
  #act = () => {};
  #from = null; // where the focus was

  /**
   * `accept(licence)` records the consent or throws; `alert(text)` shows the error, and "" removes it.
   * `closed()` is called when the reader has decided, to move the focus.
   */
  constructor({ accept, alert, closed }) {
    this.text = element("p", { id: "tech-licence" });
    const agree = element("button", { type: "button", class: "agree" }, "Accept and ask");
    whenPressed(agree, async () => {
      const [licence, act] = [this.#licence, this.#act];
      try {
        await accept(licence);
      } catch (problem) {
        alert(problem.message);
        return;
      }
      if (licence !== this.#licence) return; // the notice was closed meanwhile
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
    const later = element("button", { type: "button", click: leave }, "Not now");
    const keydown = (event) => {
      if (event.key !== "Escape") return;
      leave();
      event.stopPropagation();
    };
    this.node = element(
      "div",
      { class: "consent", role: "group", "aria-labelledby": "tech-licence", tabindex: "-1", hidden: true, keydown },
      this.text,
      element("div", { class: "buttons" }, later, agree),
    );
  }

  /** Show the notice. `act()` is called once the reader has accepted. */
  open(licence, model, act) {
    this.#licence = licence;
    this.#act = act;
    const name = /licen[cs]e/i.test(licence.name) ? licence.name : `${licence.name} licence`;
    const href = webAddress(licence.url);
    this.text.replaceChildren(
      `${model ?? "This model"} is under the ${name}, which forbids some uses.`,
      ...(href ? [" ", linkOut(href, "Read it")] : []),
    );
    if (this.node.hidden) this.#from = document.activeElement;
    this.node.hidden = false;
    // Not the button, so that a second press of Enter accepts nothing.
    this.node.focus();
  }

  close() {
    this.node.hidden = true;
    this.#licence = null;
  }
}
