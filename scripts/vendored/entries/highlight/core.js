// Reads code by the modes of CodeMirror. Each group of modes is loaded when it is first needed.

import StringStream from "codemirror/src/util/StringStream.js";
import { copied } from "../../highlight/state.js";

// Of each module: its modes, each with the other names of its language.
const GROUPS = [
  [
    () => import("./python.js"),
    {
      python: "py python2 python3 py3 pyi gyp ipython sage starlark bzl",
      pycon: "python-console python-repl",
    },
  ],
  [
    () => import("./javascript.js"),
    {
      javascript: "js mjs cjs node nodejs jsx ecmascript",
      typescript: "ts mts cts deno",
      tsx: "typescriptreact",
      json: "jsonc json5 jsonl ndjson geojson webmanifest jsonld json-ld",
    },
  ],
  [
    () => import("./html.js"),
    {
      html: "htm xhtml vue svelte astro handlebars hbs",
      xml: "svg xsd xsl xslt rss atom plist xaml mathml csproj",
      css: "postcss",
      scss: "sass",
      less: "",
    },
  ],
  [() => import("./php.js"), { php: "php3 php4 php5 php7 php8 phtml" }],
  [() => import("./markdown.js"), { markdown: "md mdx mkd mkdown commonmark gfm rmd" }],
  [
    () => import("./clike.js"),
    {
      c: "h",
      cpp: "c++ cc cxx cp hpp hh hxx h++ cuda cu arduino ino glsl hlsl",
      csharp: "cs c# dotnet csx",
      java: "jsh",
      kotlin: "kt kts",
      scala: "sc sbt",
      dart: "",
      groovy: "gradle jenkinsfile gvy",
      objectivec: "objc obj-c objective-c mm objectivecpp",
    },
  ],
  [
    () => import("./systems.js"),
    { go: "golang", rust: "rs", swift: "", zig: "", pascal: "delphi pas objectpascal" },
  ],
  [
    () => import("./bash.js"),
    {
      bash: "sh zsh shell ksh ash dash shellscript fish",
      console: "shell-session shellsession terminal sh-session bash-session",
    },
  ],
  [
    () => import("./scripts.js"),
    {
      lua: "luau",
      perl: "pl pm perl5",
      powershell: "ps1 ps pwsh psm1 psd1 posh",
      ruby: "rb rake gemfile rbw jruby podspec",
      vb: "vbnet vb.net visualbasic vba",
      batch: "bat cmd dos batchfile",
      vim: "vimscript viml vimrc",
    },
  ],
  [
    () => import("./sql.js"),
    {
      sql: "postgresql postgres pgsql psql plpgsql sqlite sqlite3 plsql tsql t-sql mssql ddl",
      mysql: "mariadb",
    },
  ],
  [
    () => import("./config.js"),
    {
      cmake: "cmakelists",
      diff: "patch udiff",
      dockerfile: "docker containerfile",
      ini: "properties cfg conf config dosini env dotenv editorconfig desktop systemd service",
      nginx: "nginxconf",
      yaml: "yml",
      toml: "",
      protobuf: "proto proto3 protocol-buffers",
      hcl: "tf terraform tfvars opentofu tofu",
      makefile: "make mk mak gnumakefile",
      graphql: "gql graphqls",
    },
  ],
  [
    () => import("./functional.js"),
    {
      clojure: "clj cljs cljc edn",
      erlang: "erl hrl",
      haskell: "hs",
      ocaml: "ml mli reasonml",
      fsharp: "fs f# fsx fsi",
      elixir: "ex exs heex",
    },
  ],
  [() => import("./science.js"), { julia: "jl", matlab: "octave m", latex: "tex", r: "rscript splus" }],
];

const FOUND = new Map();
for (const [load, modes] of GROUPS) {
  for (const [mode, names] of Object.entries(modes)) {
    for (const name of `${mode} ${names}`.trim().split(" ")) FOUND.set(name, { load, mode });
  }
}

// The kinds of what a mode calls its tokens; the first that fits counts.
const KINDS = [
  ["comment", /comment/],
  ["string", /string|regexp|character/],
  ["number", /number/],
  ["added", /inserted|positive/],
  ["removed", /deleted|negative/],
  ["word", /keyword|atom|bool|null|self|tag|header|heading/],
  ["call", /\bdef|definition|link/],
  ["type", /type|class|builtin|standard|qualifier/],
  ["meta", /meta|attribute|label|annotation|instruction/],
  ["name", /variable|property|^name/],
];

const seen = new Map(); // styles and their kinds

function kindOf(style, next) {
  if (!seen.has(style)) seen.set(style, KINDS.find(([, pattern]) => pattern.test(style))?.[0] ?? "");
  const kind = seen.get(style);
  return kind !== "name" ? kind : next === "(" ? "call" : "";
}

function piecesOf(mode, line, state) {
  const pieces = [];
  const stream = new StringStream(line, 4);
  stream.indentUnit = 2;
  if (line === "") mode.blankLine?.(state, 2);
  while (!stream.eol()) {
    let style = null;
    for (let tries = 0; stream.pos === stream.start && tries < 9; tries++) style = mode.token(stream, state);
    if (stream.pos === stream.start) stream.next();
    const kind = style ? kindOf(style, stream.peek()) : "";
    if (pieces.at(-1)?.[0] === kind) pieces.at(-1)[1] += stream.current();
    else pieces.push([kind, stream.current()]);
    stream.start = stream.pos;
  }
  return pieces;
}

/**
 * What reads the language of a name, or null when nobody knows it. `start` gives the state before the first line,
 * `copy` a copy of one. `read` cuts a line into [kind, text] pairs, and the state becomes that of the next line.
 */
export async function languageOf(name) {
  const found = FOUND.get(name.toLowerCase());
  if (!found) return null;
  const mode = (await found.load())[found.mode];
  return {
    start: () => mode.startState?.(2) ?? {},
    copy: (state) => copied(mode, state),
    read: (line, state) => piecesOf(mode, line, state),
  };
}
