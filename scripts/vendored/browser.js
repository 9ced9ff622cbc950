// Stands in for packages of the Markdown parser that do what a browser can do itself: `entities`, whose table of
// names is a third of the parser's size, `punycode.js` and all of `mdurl` but `encode`. The page gives each address
// to URL, which knows how to write names of hosts.

export { default as encode } from "./node_modules/mdurl/lib/encode.mjs";
export default {};

const known = new Map();

/** The text of one character reference such as `&auml;`. */
export function decodeHTMLStrict(reference) {
  if (!/^&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z][a-z\d]{1,31});$/i.test(reference)) return reference;
  if (!known.has(reference)) {
    known.set(reference, new DOMParser().parseFromString(reference, "text/html").body.textContent);
  }
  return known.get(reference);
}
