import { clojure } from "@codemirror/legacy-modes/mode/clojure";
import { erlang as erlangWords } from "@codemirror/legacy-modes/mode/erlang";
import { haskell } from "@codemirror/legacy-modes/mode/haskell";
import { fSharp, oCaml } from "@codemirror/legacy-modes/mode/mllike";
import { block, delimited, quoted, toEnd, withLiterals, words } from "../../highlight/literals.js";

export { clojure, haskell, erlangWords as erlang };

const ML = [
  block(/^\(\*(?!\))/, "*)", "(*"),
  { open: /^'(?:\\[^']{1,9}|\\'|[^\\'])'/, before: /(?:^|\W)$/ },
  { open: /^'\w+/, before: /(?:^|\W)$/, style: "type" },
];
export const ocaml = withLiterals(oCaml, [
  ...ML,
  { open: /^\{(\w*)\|/, close: ([, tag]) => `|${tag}}` },
  quoted('"'),
]);
export const fsharp = withLiterals(fSharp, [
  toEnd("//"),
  ...ML,
  { open: /^\$*("{3})/, close: ([, mark]) => mark },
  { open: /^(?:@\$?|\$@)"/, close: '"', escapes: /^""/ },
  { ...quoted('"'), open: /^\$?"/ },
]);

const ELIXIR = `
  after alias and case catch cond def defdelegate defexception defguard defimpl defmacro defmacrop defmodule
  defoverridable defp defprotocol defstruct do else end false fn for if import in nil not or quote raise receive
  require rescue super throw true try unless unquote use when with
`;
const CODE = { inner: [["#{", "}"]] };
const ELIXIR_WORDS = { word: /^[\p{L}_][\p{L}\p{N}_]*[?!]?/u, meta: /^@\w+/, atom: /^:\w+|^\w+:(?=\s)/ };
export const elixir = withLiterals(words(ELIXIR, ELIXIR_WORDS), [
  { open: /^~[a-z]("""|'''|[^\w\s])/, flags: true, ...delimited, ...CODE },
  { open: /^~[A-Z]+("""|'''|[^\w\s])/, flags: true, ...delimited },
  { open: /^("""|'''|:?["'])/, ...delimited, close: ([, mark]) => mark.replace(":", ""), ...CODE },
  { open: /^\?(?:\\.|\S)/, before: /(?:^|\W)$/ },
  toEnd("#"),
]);
