// The two buttons by which a reader rates an answer, and the question why it was bad.

import { call } from "../api.js";
import { ICONS, element, iconButton } from "../dom.js";
import { texts } from "./texts.js";

const LONGEST = 1000; // characters of a reason

/** The nodes for the actions of an answer. `host` has announce(text) and alert(text). */
export function ratingOf({ message, note }, host) {
  const put = async (rating, text = null) => {
    try {
      await call("PUT", `/messages/${message.id}/feedback`, { rating, text });
      host.alert("");
      return true;
    } catch (problem) {
      host.alert(problem.message);
      return false;
    }
  };

  const paint = () => {
    up.ariaPressed = String(message.feedback === "up");
    down.ariaPressed = String(message.feedback === "down");
  };

  const rate = async (given) => {
    const rating = message.feedback === given ? null : given;
    if (!(await put(rating))) return;
    message.feedback = rating;
    paint();
    form?.remove();
    if (rating === "down") ask();
    else if (rating) host.announce(texts.thanks);
  };

  let form = null;
  const ask = () => {
    const box = element("textarea", { rows: "2", maxlength: LONGEST, "aria-label": texts.why });
    const close = () => {
      form.remove();
      down.focus({ preventScroll: true });
    };
    const submit = async (event) => {
      event.preventDefault();
      if (box.value.trim() !== "" && !(await put("down", box.value.trim()))) return;
      close();
      host.announce(texts.thanks);
    };
    const keydown = (event) => {
      if (event.key !== "Escape") return;
      close();
      event.stopPropagation();
    };
    form = element(
      "form",
      { class: "editor why", submit, keydown },
      element("p", {}, element("b", {}, texts.why), ` ${texts.whyHint}`),
      box,
      element(
        "div",
        { class: "buttons" },
        element("button", { type: "button", click: close }, texts.skipWhy),
        element("button", { type: "submit", class: "send" }, texts.sendWhy),
      ),
    );
    note.after(form);
    box.focus({ preventScroll: true });
    form.scrollIntoView({ block: "nearest" });
  };

  const up = iconButton(texts.good, ICONS.good, () => rate("up"));
  const down = iconButton(texts.bad, ICONS.good, () => rate("down"), { class: "icon bad" });
  paint();
  return [up, down];
}
