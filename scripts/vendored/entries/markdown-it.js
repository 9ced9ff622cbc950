// The Markdown parser. `sh scripts/vendor` bundles it.

export { default as MarkdownIt } from "markdown-it";
export { default as cjkFriendly } from "markdown-it-cjk-friendly";
export { default as footnotes } from "markdown-it-footnote";
