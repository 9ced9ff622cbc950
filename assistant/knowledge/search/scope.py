"""Finds the packages and folders of documentation that a question names: "upload a file in FastAPI".

Which there are comes from the index. A name that is hardly ever used for anything else (`pydantic`), or that
stands where the name of a package does ("with requests"), is certain. Another one (`click`, `rich`) may also
be an ordinary word, so the search decides by what it finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from assistant.knowledge.index import Index, scope_key
from assistant.knowledge.search.words import IMPORTED_AS

MOST_WORDS_OF_NAME = 3  # "Django REST framework"
MOST_TOKENS = 400
SHORTEST_NAME = 4  # letters of a name that may be certain because it is no word
USED_ELSEWHERE = 20  # passages of others; a name in more of them, and in more than its own, is also a word

_TOKEN = re.compile(r"(?<![\w./@-])[A-Za-z][\w+#-]*(?:\.js)?(?![\w/(\[=-]|\.\w)(?:['’]s\b)?")
_AFTER = re.compile(
    r"[`\"']?\s*(?:$|[?!.,;:)]|['’]s\b|(?:module|package|library|lib|docs?|documentation|cli|app|api|project|"
    r"framework|command|python|server|client|tests?|version|when|if|so|instead|without|but|and|or|vs|versus)\b)",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"\b(?:in|with|using|use|via|import|from|inside)\s+(?:the\s+|python(?:['’]s)?\s+|my\s+)?[`\"']?$",
    re.IGNORECASE,
)
# What a name is, said after it: "the websockets library".
_KIND = re.compile(
    r"^[`\"']?\s+(?:python\s+)?(?:library|lib|package|module|framework|project|docs?|documentation)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Scope:
    packages: tuple[str, ...] = ()
    is_certain: bool = False  # whether a question surely means these packages
    names: tuple[str, ...] = ()  # as the question writes them

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(scope_key, self.packages)))


class _Name(NamedTuple):
    """Where a name stands in a question, and the packages that it may mean."""

    start: int
    end: int
    packages: frozenset[str]
    is_certain: bool


def named_scope(index: Index, text: str) -> tuple[Scope, str]:
    """The packages that a question names, and the question without their names. If some are certain, the
    others are taken for ordinary words."""
    found = list(_named(index, text))
    certain = [name for name in found if name.is_certain]
    chosen = certain or found[:2]
    packages = dict.fromkeys(package for name in chosen for package in sorted(name.packages))
    rest = text
    for name in reversed(chosen):
        rest = f"{_BEFORE.sub('', rest[: name.start])} {_KIND.sub('', rest[name.end :])}"
    names = tuple(text[name.start : name.end] for name in chosen)
    return Scope(tuple(packages), bool(certain), names), rest


def _named(index: Index, text: str) -> Iterator[_Name]:
    packages = index.packages()
    tokens = [found for _, found in zip(range(MOST_TOKENS), _TOKEN.finditer(text), strict=False)]
    at = 0
    while at < len(tokens):
        for length in range(min(MOST_WORDS_OF_NAME, len(tokens) - at), 0, -1):
            first, last = tokens[at], tokens[at + length - 1]
            if text[first.end() : last.start()].count("\n") or (
                length > 1 and re.search(r"[^\w\s-]", text[first.start() : last.end()])
            ):
                continue
            written = re.sub(r"['’]s$", "", text[first.start() : last.end()])
            key = scope_key(written)
            root = scope_key(IMPORTED_AS.get(written.lower(), "").partition(".")[0])
            meant = packages.get(key) or packages.get(re.sub(r"js$|\d+$", "", key)) or packages.get(root)
            if not meant or len(key) < 2:
                continue
            start, end = first.start(), first.start() + len(written)
            yield _Name(start, end, meant, _is_certain(index, text, start, end, meant))
            at += length - 1
            break
        at += 1


def _is_certain(index: Index, text: str, start: int, end: int, meant: frozenset[str]) -> bool:
    written = text[start:end]
    if any(char.isupper() for char in written[1:]):  # FastAPI
        return True
    own = index.frequency(written, tuple(map(scope_key, meant)))
    if len(written) >= SHORTEST_NAME and _is_no_word(index, written):
        return True
    others = index.frequency(written) - own
    if others <= USED_ELSEWHERE or others < own:
        return True
    begins = start == 0 or text[:start].rstrip()[-1:] in ("", ".", "?", "!", "\n")
    if written[0].isupper() and not begins:
        return True
    return bool(_BEFORE.search(text[:start][-40:]) and _AFTER.match(text[end:][:40]))


def _is_no_word(index: Index, name: str) -> bool:
    """Whether a name has no other meaning: the documentation of the standard library, which seldom mentions
    packages, never has it."""
    library = ("python",)
    return not index.frequency(name, corpora=library) and index.frequency("python", corpora=library) > 0
