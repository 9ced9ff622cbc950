import { cmake } from "@codemirror/legacy-modes/mode/cmake";
import { diff } from "@codemirror/legacy-modes/mode/diff";
import { dockerFile as dockerfile } from "@codemirror/legacy-modes/mode/dockerfile";
import { nginx } from "@codemirror/legacy-modes/mode/nginx";
import { properties as ini } from "@codemirror/legacy-modes/mode/properties";
import { protobuf as protobufWords } from "@codemirror/legacy-modes/mode/protobuf";
import { toml as tomlWords } from "@codemirror/legacy-modes/mode/toml";
import { BACKSLASH, SLASHES, quoted, toEnd, withLiterals, words } from "../../highlight/literals.js";

export { cmake, diff, dockerfile, ini, nginx };

/** How far in the lines stand that belong to what a line of YAML opens at its end. */
function indentOf(line) {
  const [lead] = /^\s*(?:-\s+)*/.exec(line);
  return /[|>]/.test(line[lead.length]) ? lead.trimEnd().length - 1 : lead.length;
}
const YAML_VALUE = /(?:^\s*|[:,[{?-]\s+|[[{,]|\s[&!]\S+\s+)$/;
const YAML = {
  definition: /^[\w$./@*-]{1,80}(?: [\w$./@*-]{1,40}){0,4}(?=\s?:(?:\s|$))/,
  variableName: /^[&*][\w-]+/,
  meta: /^(?:---|\.\.\.|%.*|![\w!/-]*)/,
};
export const yaml = withLiterals(words("true false null yes no on off", YAML), [
  toEnd("#", /(?:^|\s)$/),
  {
    open: /^[|>][-+\d]*(?=\s*(?:#.*)?$)/,
    before: YAML_VALUE,
    until: (_, first) => {
      const indent = indentOf(first);
      return (line) => line.trim() !== "" && /^ */.exec(line)[0].length <= indent;
    },
    exclusive: true,
  },
  { open: '"', before: YAML_VALUE, close: '"', escapes: BACKSLASH },
  { open: "'", before: YAML_VALUE, close: "'", escapes: /^''/ },
]);

export const toml = withLiterals(tomlWords, [
  toEnd("#"),
  quoted('"""'),
  { open: "'''", close: "'''" },
  quoted('"', { oneLine: true }),
  { open: /^'[^']*'?/ },
]);

export const protobuf = withLiterals(protobufWords, [
  ...SLASHES,
  quoted('"', { oneLine: true }),
  quoted("'", { oneLine: true }),
]);

export const hcl = withLiterals(
  words("null true false for in if else endif endfor", { definition: /^\w+(?=\s*=[^=>])/ }),
  [
    toEnd("#"),
    ...SLASHES,
    {
      open: /^<<[-~]?(\w+)/,
      until:
        ([, tag]) =>
        (line) =>
          line.trim() === tag,
    },
    {
      open: '"',
      close: '"',
      escapes: /^(?:\\.?|\$\$\{|%%\{)/,
      oneLine: true,
      inner: [
        ["${", "}"],
        ["%{", "}"],
      ],
    },
  ],
);

const MAKE =
  "define endef else endif export ifdef ifeq ifndef ifneq include override private sinclude undefine unexport vpath";
export const makefile = withLiterals(
  words(MAKE, {
    definition: /^[\w./%-]+(?=\s*:(?![=:]))/,
    variableName: /^\$(?:[({]\w+[)}]|[@<^?*%+|$]|\w)/,
  }),
  [toEnd("#", /(?:^|[^\\])$/), { open: /^"(?:[^"\\]|\\.)*"/ }, { open: /^'[^']*'/ }],
);

const GRAPHQL =
  "directive enum extend fragment implements input interface mutation on query repeatable scalar schema subscription type union true false null";
export const graphql = withLiterals(words(GRAPHQL, { meta: /^@\w+/, variableName: /^\$\w+/ }), [
  toEnd("#"),
  { open: '"""', close: '"""', escapes: /^\\"""/ },
  quoted('"', { oneLine: true }),
]);
