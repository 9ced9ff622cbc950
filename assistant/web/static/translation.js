// Words of the page in another language. The English words are their own keys. The browser chat is in English.

let words = {};

export function translate(given) {
  words = given;
}

/** A text of the page in its language. */
export function t(text) {
  return words[text] ?? text;
}
