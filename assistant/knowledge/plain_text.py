"""Turns plain text, such as a docstring, into Markdown that shows the same text.

Recognises wrapped paragraphs, lists and interpreter sessions. Text that depends on its indentation becomes a
block of code. Only white space and invisible characters are lost. Every character that Markdown would
interpret is escaped, so no text can end the block that contains it.

`readable` removes what a person cannot see. All other functions expect a text that went through it.
"""

from __future__ import annotations

import itertools
import re
import textwrap
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

WRAPPED_FROM = 55  # columns; the author ended a shorter line on purpose, a longer one may be wrapped
LONGEST_WORD = 60  # characters; a text is cut between words, but within a longer "word"


def readable(text: str) -> str:
    """The text without invisible characters: control characters, marks that reverse the direction of
    writing, surrogates. Lines end with a line feed alone."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").expandtabs(8)
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(
        char for char in text if char in _ALLOWED or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
    )


_ALLOWED = frozenset("\n\u200c\u200d")  # some languages need the two joiners


def escaped(line: str) -> str:
    """A line of Markdown that shows this text. Text between double backticks becomes code, as in
    reStructuredText."""
    return _AT_THE_BEGINNING.sub(r"\1\\\2", _SPECIAL.sub(_escape, line))


def _escape(found: re.Match[str]) -> str:
    chars = found[0]
    if found["code"]:
        return chars
    text, (start, end) = found.string, found.span()
    before, after = text[start - 1 : start], text[end : end + 1]
    if chars[0] == "_":
        return chars if before.isalnum() and after.isalnum() else "\\_" * len(chars)
    if chars == "*" and before.isspace() and after.isspace():
        return chars
    return f"\\{chars}"


_SPECIAL = re.compile(
    r"(?P<code>(?<!`)``(?![`\s])[^`\n]*(?<![`\s])``(?!`))"
    r"|_+|[\\`*~\[|]|<(?![\s=]|$)|&(?=\#?\w{1,32};)",
    re.VERBOSE,
)
_AT_THE_BEGINNING = re.compile(r"^(\s*\d{0,9})((?<!\d)[#>=]|(?<!\d)[-+](?=[\s-]|$)|(?<=\d)[.)](?=\s|$))")


def code(text: str) -> str:
    """A span of code within a line."""
    text = " ".join(text.split())
    mark = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{mark}{pad}{text}{pad}{mark}" if text else ""


def code_block(text: str, language: str) -> str:
    """A block of code. Its fence is longer than any in the text."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def block_quote(markdown: str) -> str:
    """Markdown in a block quote, which ends whatever the Markdown leaves open."""
    return "\n".join(f"> {line}".rstrip() for line in markdown.split("\n"))


def link(shown: str, address: str) -> str:
    """The Markdown `shown` as a link; without the link if the address is not one for a browser."""
    if not re.fullmatch(r"https?://[^\s<>\\\x00-\x1f]{1,500}", address):
        return shown
    address = re.sub(r"&(?=#?[A-Za-z0-9]{1,32};)", "&amp;", address)
    return f"[{shown}](<{address}>)"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


_FENCED = re.compile(r"^ {0,3}`{3,}[^`\n]*\n\s*[^`\s][^`]*^ {0,3}`{3,} *$", re.MULTILINE)
_MARKDOWN = re.compile(r"^#{2,4} \S|^(?:!!!|\?\?\?) \w|\]\(https?://", re.MULTILINE)


def is_markdown(text: str) -> bool:
    """Whether a plain text, such as a docstring, is written in Markdown: it has a block of code in a fence,
    or a heading, a note or a link as Markdown writes them, and no mark of reStructuredText."""
    is_rest = ">>>" in text or ".. " in text or "::\n" in text or "`_" in text
    return bool(_FENCED.search(text) or (not is_rest and _MARKDOWN.search(text)))


def to_markdown(text: str) -> str:
    """Markdown that shows a readable text, which may itself be Markdown."""
    if is_markdown(text):
        from assistant.knowledge.reading.markdown import in_plain_commonmark

        return in_plain_commonmark(text)
    return "\n\n".join(_block_to_markdown(block) for block in _blocks(text))


class _Block(NamedTuple):
    kind: str  # prose, heading, list, continued (a further paragraph of a list), text, session
    lines: tuple[str, ...]


_PROMPT = re.compile(r"\s*>>>(?: |$)")
_ITEM = re.compile(r"(?P<mark>\s*(?:[-*+]|\d{1,2}[.)])\s+)\S")
_UNDERLINE = re.compile(r"([=*~^\"'#+-])\1{2,}\s*")
_PYTHON = re.compile(
    r"\s*(?:@\w|(?:from|import) [\w.]+|(?:async )?(?:def|class|with|for|while|if|match) .*:\s*(?:#.*)?$|try:$"
    r"|(?:print|return|yield|raise|assert|del|await)\b[ (]|[\w.]+(?:, [\w.]+)* [-+*/|&]?= \S|[\w.]+\(.*\)$)",
    re.MULTILINE,
)


def _blocks(text: str) -> list[_Block]:
    blocks: list[_Block] = []
    for lines in _paragraphs(text):
        for block in _classified(lines, blocks):
            last = blocks[-1] if blocks else None
            if last and last.kind == block.kind and block.kind in ("text", "session"):
                blocks[-1] = _Block(block.kind, (*last.lines, "", *block.lines))
            else:
                blocks.append(block)
    return blocks


def _paragraphs(text: str) -> Iterator[list[str]]:
    for has_text, lines in itertools.groupby(text.split("\n"), lambda line: bool(line.strip())):
        if has_text:
            yield [line.rstrip() for line in lines]


def _classified(lines: list[str], before: list[_Block]) -> Iterator[_Block]:
    prompt = next((at for at, line in enumerate(lines) if _PROMPT.match(line)), None)
    if prompt == 0:
        yield _Block("session", tuple(lines))
    elif prompt is not None:
        yield from _classified(lines[:prompt], before)
        yield _Block("session", tuple(lines[prompt:]))
    elif is_heading(lines):
        yield _Block("heading", (lines[0].strip(),))
    elif _is_list(lines):
        yield _Block("list", tuple(lines))
    elif _continues(lines, before):
        yield _Block("continued", tuple(lines))
    elif not any(line[0].isspace() for line in lines):
        yield _Block("prose", tuple(lines))
    else:
        flush = next((at for at, line in enumerate(lines) if line[0].isspace()), len(lines))
        if flush and lines[flush - 1].endswith(":") and all(line[0].isspace() for line in lines[flush:]):
            yield _Block("prose", tuple(lines[:flush]))
            lines = lines[flush:]
        yield _Block("text", tuple(lines))


def is_heading(lines: list[str]) -> bool:
    """Whether these are two lines of which the second underlines the first."""
    return len(lines) == 2 and bool(_UNDERLINE.fullmatch(lines[1])) and len(lines[1]) >= len(lines[0]) - 2


def _is_list(lines: list[str]) -> bool:
    """Whether Markdown would also read this as a list: all lines of an item begin where its text begins."""
    width = -1
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if item := _ITEM.match(line):
            if width < 0 and indent > 3:
                return False
            width = len(item["mark"])
        elif indent != width:
            return False
    return width > 0


def _continues(lines: list[str], before: list[_Block]) -> bool:
    """Whether this is a further paragraph of the list above."""
    if not before or before[-1].kind not in ("list", "continued"):
        return False
    items = [item for line in before[-1].lines if (item := _ITEM.match(line))]
    width = len(items[-1]["mark"]) if items else len(before[-1].lines[0]) - len(before[-1].lines[0].lstrip())
    return width > 0 and all(len(line) - len(line.lstrip()) == width for line in lines)


def _block_to_markdown(block: _Block) -> str:
    match block.kind:
        case "prose":
            lines = lines_on_purpose(block.lines)
            return "\n".join(f"{escaped(line)}\\" if ends else escaped(line) for line, ends in lines)
        case "heading":
            title = escaped(block.lines[0])  # bold needs a word
            return f"**{title}**" if re.search(r"\w", title) else title
        case "list" | "continued":
            return "\n".join(_escaped_item(line, block.kind == "list") for line in block.lines)
    plain = textwrap.dedent("\n".join(block.lines))
    is_code = block.kind == "session" or _PYTHON.match(plain)
    return code_block(plain, "python" if is_code else "text")


def lines_on_purpose(lines: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """The lines of a paragraph, each with whether its author ended it on purpose rather than wrapped it."""
    for line, following in zip(lines, (*lines[1:], ""), strict=True):
        room_for = following.split(" ", 1)[0]
        yield line, following != "" and len(line) + 1 + len(room_for) < WRAPPED_FROM


def _escaped_item(line: str, may_begin: bool) -> str:
    item = _ITEM.match(line) if may_begin else None
    mark = item["mark"] if item else line[: len(line) - len(line.lstrip())]
    return mark + escaped(line[len(mark) :])


def excerpt(text: str, longest: int, grace: int = 0) -> tuple[str, bool]:
    """The beginning of a text up to the end of a paragraph, and whether the text was cut. It is up to `grace`
    characters longer than `longest` if that saves a cut, or if it would else be shorter than half."""
    text = text.strip("\n").rstrip()
    if len(text) <= longest + grace:
        return text, False
    cut = _end_of_paragraph(text, longest)
    if cut < longest // 2:
        cut = _end_of_paragraph(text, longest + grace) or text.rfind("\n", longest // 2, longest) + 1
    if not cut:
        cut = text.rfind(" ", max(0, longest - LONGEST_WORD), longest) + 1 or longest
    return text[:cut].rstrip(), True


def _end_of_paragraph(text: str, longest: int) -> int:
    """Where the last paragraph within `longest` ends, not counting headings and announcements."""
    best = start = 0
    for end in re.finditer(r"\n\s*\n", text[:longest]):
        last = text[start : end.start()].split("\n")
        start = end.end()
        if not is_heading(last) and not last[-1].endswith(":"):
            best = end.start()
    return best


def described(text: str) -> str:
    """The text without the signatures at the head of many docstrings; all of it if nothing else follows."""
    rest = text.strip("\n")
    while rest:
        paragraph, _, after = rest.partition("\n\n")
        begun = 0
        while found := _SIGNATURE.match(paragraph, begun):
            begun = found.end()
        if not begun or _SIGNATURE_IN_WORDS.match(paragraph, begun):
            return rest
        rest = f"{paragraph[begun:]}\n\n{after}".strip("\n")
    return text


# "rmdir(path)", "int([x]) -> integer", "D.clear() -> None.  Remove all …", with the indented lines below.
# More than three words after the arrow are a description.
_SIGNATURE = re.compile(
    r"""
    (?:\w+[ ]=[ ])? [^\W\d][\w.]* \( (?:[^()]|\([^()]*\))* \)
    (?:[ ]*--?>[ ]* [^\s,.]+ (?:[ ][^\s,.]+){0,2})?
    (?:\.?[ ]*(?:\n[ ]+\S.*)*(?:\n|\Z) | \.[ ]+)
    """,
    re.VERBOSE,
)
_SIGNATURE_IN_WORDS = re.compile(r"[\w.]+\(.*->")


def first_sentence(text: str, longest: int = 240) -> tuple[str, bool]:
    """The first sentence of a readable text on one line, and whether it was cut. Skips signatures, headings
    and code if there is anything else."""
    blocks = _blocks(described(text))
    block = next((block for block in blocks if block.kind in ("prose", "list")), None)
    if block is None:
        block = next((block for block in blocks if block.kind == "text"), blocks[0] if blocks else None)
    if block is None:
        return "", False
    lines = []
    for line, ends in lines_on_purpose(block.lines):
        lines.append(line)
        if ends or block.kind == "text":
            break
    words = " ".join(" ".join(lines).split())
    if block.kind == "list" and (item := _ITEM.match(words)):
        words = words[len(item["mark"]) :]
    end = _SENTENCE_ENDS.search(words)
    sentence = words[: end.end()] if end else words
    if len(sentence) <= longest:
        return sentence, False
    return sentence[: sentence.rfind(" ", longest - LONGEST_WORD, longest) + 1 or longest].rstrip(), True


_SENTENCE_ENDS = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\bcf)[.!?][\"')\]]*(?=\s+[^a-z\s])"
)
