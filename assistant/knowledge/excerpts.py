"""Chooses what an answer shows of a passage: the paragraphs that answer, the lines of one parameter, a
signature in lines that fit, and an example that somebody would run."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator

from assistant.knowledge.plain_text import excerpt
from assistant.knowledge.search.words import forms

ELLIPSIS = "…"
SIGNATURE_WIDTH = 88
MOST_PARAGRAPHS = 400
LONGEST_LINE = 1_000
BEGINNING_COUNTS = 1.5  # how much more words must match elsewhere than at the beginning


def parameters(signature: str) -> list[str]:
    """The parameters of a signature, as it writes them: ["path", "*", "ignore_errors=False"]."""
    return [part.strip(", ") for part in _parts(signature)[1] if part.strip(", ")]


def name_of(parameter: str) -> str:
    """The name of a parameter: "errors" for `errors: str = "strict"`; "" for `*`."""
    found = re.match(r"[\[*\s]*([^\W\d]\w*)", parameter)
    return found[1] if found else ""


def _parts(signature: str) -> tuple[str, list[str], str]:
    """A signature cut at the commas between parameters: what is before, the parameters, what is after."""
    head, bracket, rest = signature.partition("(")
    depth, begun, quoted = 0, 0, ""
    cut: list[str] = []
    for at, char in enumerate(rest):
        if quoted:
            quoted = "" if char == quoted and rest[at - 1] != "\\" else quoted
        elif char in "'\"":
            quoted = char
        elif char in "([{":
            depth += 1
        elif char == ")" and depth <= 0:
            return head + bracket, [*cut, rest[begun:at]], rest[at:]
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            cut.append(rest[begun : at + 1])
            begun = at + 1
    return signature, [], ""


def wrapped(signature: str, longest: int) -> str:
    """A signature in lines that fit the page: all parameters on one line, or each on its own. If it is longer
    than `longest` characters, its last parameters are left out, and "…" stands for them."""
    head, inside, tail = _parts(signature)
    if not inside:
        return signature if len(signature) <= longest else f"{signature[: longest - 1]}{ELLIPSIS}"
    if len(signature) <= SIGNATURE_WIDTH:
        return signature
    if len(signature) > longest:
        tail, room = tail[:200], longest - len(head) - len(tail[:200])
        lengths = itertools.accumulate(len(part) + 6 for part in inside)
        inside = [part for part, length in zip(inside, lengths, strict=True) if length < room] + [ELLIPSIS]
    joined = "    " + " ".join(part.strip() for part in inside)
    lines = [joined] if len(joined) <= SIGNATURE_WIDTH else [f"    {part.strip()}" for part in inside]
    return "\n".join([head[:longest], *lines, tail])


def answering(text: str, question: str, longest: int, grace: int) -> tuple[str, bool, bool]:
    """The part of a long text that is nearest to a question's words, and whether text was left out before and
    after it. It begins at a paragraph; at the beginning unless another part has more of the words."""
    text = text.strip("\n").rstrip()
    start = 0
    if len(text) > longest + grace and (wanted := forms(question)):
        starts = [0, *_starts(text)][:MOST_PARAGRAPHS]
        ends = [*starts[1:], len(text)]
        found = [forms(text[begin:end]) & wanted for begin, end in zip(starts, ends, strict=True)]
        common = {word: sum(word in each for each in found) for word in wanted}
        shares = [sum(1 / common[word] for word in each) for each in found]
        best = max(range(len(starts)), key=lambda number: (shares[number], -number))
        if ends[best] > longest and shares[best] > BEGINNING_COUNTS * sum(
            share for share, end in zip(shares, ends, strict=True) if end <= longest
        ):
            start = starts[best]
    quote, is_cut = excerpt(text[start:], longest, grace)
    return quote, start > 0, is_cut


def _starts(text: str) -> Iterator[int]:
    """Where paragraphs begin: not within a block of code, and not one that is indented below another."""
    is_code = False
    is_after_blank = False
    at = 0
    for line in text.splitlines(keepends=True):
        if at and is_after_blank and not is_code and not line[:1].isspace():
            yield at
        if line.lstrip().startswith(("```", "~~~")):
            is_code = not is_code
        is_after_blank = not line.strip() if not is_code else False
        at += len(line)


def about_parameter(text: str, name: str) -> str:
    """The lines of a docstring or section that describe a parameter or an exception: a field, an entry in
    Google's or NumPy's style, an item of a list; else the first paragraph that marks its name; else ""."""
    word = re.escape(name)
    begins = re.compile(
        rf"[ \t]*(?:[-*+][ \t]+)?(?::(?:param|parameter|arg|argument|key|keyword|raises?)[ \t]"
        rf"(?:[^:\n]*[ \t])?{word}:"
        rf"|[`*]{{0,3}}{word}[`*]{{0,3}}(?:[ \t]*\([^)\n]*\))?[ \t]*(?::|[-–—=][ \t]|$))"
    )
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if len(line) > LONGEST_LINE or not (found := begins.match(line)):
            continue
        margin = len(line) - len(line.lstrip())
        end = number + 1
        while end < len(lines) and (not lines[end].strip() or lines[end][: margin + 1].isspace()):
            end += 1
        if len(line) > found.end() + 2 or "".join(lines[number + 1 : end]).strip():
            return textwrap.dedent("\n".join(lines[number:end]).rstrip())
    marked = re.compile(rf"\b{word}\b(?!\s*=)" if "_" in name else rf"[`*]{word}[`*]|\b(?:If|The) {word}\b")
    return next((each.strip("\n") for each in re.split(r"\n[ \t]*\n", text) if marked.search(each)), "")


def own_example(text: str) -> tuple[str, str]:
    """The first example of code within a text, and its language: a fenced block, or else a session of the
    interpreter. Both are empty if there is none."""
    if found := re.search(r"(?ms)^(```|~~~) *(\w*)[^\n]*\n(.{1,4000}?)^\1", text):
        return found[3].rstrip(), found[2]
    found = re.search(r"(?m)^( *)>>> [^\n]+(?:\n\1\S[^\n]*)*", text)
    return (textwrap.dedent(found[0]), "python") if found else ("", "")
