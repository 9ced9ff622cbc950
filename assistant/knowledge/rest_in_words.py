"""Shows reStructuredText as words: what a reader of a quotation sees instead of the marks of that language.

    :func:`os.path.join`       ``os.path.join``
    .. versionadded:: 3.2      New in version 3.2.
    .. note:: Text             Note: Text
    :param path: a folder      path: a folder

Text without such marks stays as it is. Code stays code: `without_backticks` removes the last mark.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from assistant.knowledge.reading.page import word_set

CODE_DIRECTIVES = word_set(
    "code-block code sourcecode doctest testcode testoutput parsed-literal math prompt productionlist "
    "ipython jupyter-execute graphviz mermaid example run console program-output command-output"
)
SKIPPED_DIRECTIVES = word_set(
    "index contents toctree highlight module currentmodule sectionauthor moduleauthor "
    "codeauthor meta raw include literalinclude default-domain testsetup testcleanup image sectnum "
    "role default-role title autosummary automodule"
)

_DIRECTIVE = re.compile(r"(?P<indent> *)\.\. (?:[\w-]+:)?(?P<name>[\w+.-]+):: *(?P<rest>.*)")
_OTHER_MARKUP = re.compile(
    r"(?P<indent> *)\.\. (?P<note>\[[^\]\n]+\] .*)?"
)  # a label, a comment or a footnote
_OPTION = re.compile(r" +:[\w-]+:(?: .*)?")
_VERSIONS = {
    "versionadded": "New in version",
    "versionchanged": "Changed in version",
    "versionremoved": "Removed in version",
    "deprecated": "Deprecated since version",
    "deprecated-removed": "Deprecated since version",
}
# The words for notes and boxes, by the names that Sphinx and the generators of Markdown give them.
ADMONITIONS = {
    name: name.capitalize()
    for name in word_set(
        "attention caution danger error hint important note tip warning todo info example question success "
        "failure bug abstract pitfall deprecated experimental recap challenge"
    )
} | {"warn": "Warning", "seealso": "See also", "impl-detail": "CPython implementation detail",
     "deepdive": "Deep dive", "youwilllearn": "You will learn"}  # fmt: skip
_FIELD = re.compile(r"^(?P<indent> *):(?P<field>[a-z]+)(?: (?P<name>[^:\n`]+))?:(?=\s|$)")
_PARAMETERS = word_set("param parameter arg argument key keyword kwarg kwparam var ivar cvar")
_FIELDS = {
    "return": "Returns", "returns": "Returns", "rtype": "Return type", "type": "Type of", "raise": "Raises",
    "raises": "Raises", "except": "Raises", "exception": "Raises", "yield": "Yields", "yields": "Yields",
}  # fmt: skip
_ROLE = re.compile(r"(?<![\w`:]):(?P<role>(?:[A-Za-z][\w+.-]{0,40}:){1,4})`(?P<text>[^`]+)`")
_WORD_ROLES = word_set(
    "abbr abbreviation cite dfn doc download emphasis eq footcite guilabel manpage math menuselection "
    "numref ref strong sub subscript sup superscript term title title-reference token"
)
_NUMBER_ROLES = {"pep": "PEP", "rfc": "RFC", "issue": "issue", "gh": "issue", "bpo": "issue", "cve": "CVE"}
_TARGET = re.compile(r"(?P<text>[^<]*[^<\s])\s*<[^<>]*>")
_REFERENCE = re.compile(r"(?<![\w`:])`(?P<text>[^`<]{0,200}[^`<\s])(?:\s*<[^`<>]*>)?`__?(?!\w)")
_DEFAULT_ROLE = re.compile(r"(?<![\w`:\\])`(?P<text>[^`\s](?:[^`\n]*[^`\s])?)`(?![`\w])")
_SUBSTITUTION = re.compile(r"\|(\w[\w -]{0,60}\w)\|__?(?!\w)")
_CODE = re.compile(r"(?<!`)``(?![`\s])((?:[^`\n]|\n(?!\s*\n))+)(?<!\s)``(?!`)")


def in_words(text: str) -> str:
    """The text with words instead of reStructuredText's marks. Names in code stand in double backticks."""
    lines = "\n".join(_without_directives(text.split("\n")))
    shown = _REFERENCE.sub(r"\g<text>", _ROLE.sub(_role, lines))
    shown = _DEFAULT_ROLE.sub(r"``\g<text>``", _SUBSTITUTION.sub(r"\1", shown))
    return shown if shown.strip() else text


def without_backticks(text: str) -> str:
    """The text without the double backticks that mark code."""
    return _CODE.sub(r"\1", text)


def _without_directives(lines: list[str]) -> Iterator[str]:
    """The lines with words instead of directives. The text of a directive moves to the directive's margin."""
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if (directive := _DIRECTIVE.fullmatch(line)) is not None:
            name, margin = directive["name"], directive["indent"]
            end = end_of_block(lines, at, len(margin))
            if name in SKIPPED_DIRECTIVES:
                at = end
                continue
            while at < end and _OPTION.fullmatch(lines[at]):
                at += 1
            if name in CODE_DIRECTIVES:
                yield from lines[at:end]
                at = end
                continue
            body = textwrap.dedent("\n".join(lines[at:end]))
            lines[at:end] = textwrap.indent(body, margin).split("\n") if at < end else []
            label = label_of(name, directive["rest"], has_text=at < end)
            if label.endswith(":") and at < end and lines[at]:
                label, at = f"{label} {lines[at].strip()}", at + 1
            yield margin + label
        elif (markup := _OTHER_MARKUP.match(line)) is not None:
            if markup["note"]:
                yield markup["indent"] + markup["note"]
            else:
                at = end_of_block(lines, at, len(markup["indent"]))
        elif line.endswith("::") and not line.lstrip().startswith(">>>"):
            if line.strip() != "::":
                yield line[:-1]
        else:
            yield _FIELD.sub(_field, line)


def end_of_block(lines: Sequence[str], start: int, indent: int) -> int:
    """The line after the last one from `start` on that is indented deeper than `indent`."""
    end = start
    for at in range(start, len(lines)):
        if lines[at].strip():
            if indent_of(lines[at]) <= indent:
                break
            end = at + 1
    return end


def indent_of(line: str) -> int:
    return len(line[: len(line) - len(line.lstrip())].expandtabs(8))


def label_of(name: str, rest: str, *, has_text: bool) -> str:
    """The words for the first line of a directive."""
    if (words := _VERSIONS.get(name)) is not None and rest:
        version, _, text = rest.partition(" ")
        if name == "deprecated-removed":
            removed, _, text = text.partition(" ")
            version = f"{version}, to be removed in version {removed}"
        return f"{words} {version}{f': {text.strip()}' if text.strip() else ':' if has_text else '.'}"
    if name in ADMONITIONS:
        return f"{ADMONITIONS[name]}: {rest}".rstrip()
    return f"{rest.rstrip(':')}:" if name == "admonition" else rest


def _field(found: re.Match[str]) -> str:
    field, name = found["field"], found["name"] or ""
    if (words := _FIELDS.get(field)) is not None:
        return f"{found['indent']}{words}{name and ' '}{name}:"
    if field not in _PARAMETERS or not name:
        return found[0]
    kind, _, last = name.rpartition(" ")
    return f"{found['indent']}{last}{kind and f' ({kind})'}:"


def _role(found: re.Match[str]) -> str:
    role, text = found["role"].rstrip(":").rpartition(":")[2], found["text"]
    if (target := _TARGET.fullmatch(text)) is not None:
        return target["text"]
    if (number := _NUMBER_ROLES.get(role)) is not None:
        return f"{number} {text}"
    if role in _WORD_ROLES:
        return text
    text = text.rpartition(".")[2] if text.startswith("~") else text.removeprefix("!")
    return f"``{text}``"
