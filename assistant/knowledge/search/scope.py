"""Finds the packages and folders of documentation that a question names: "upload a file in FastAPI".

Which there are comes from the index. A name that is hardly ever used for anything else (`pydantic`), or that
stands where the name of a package does ("with requests"), is certain. Another one (`click`, `rich`) may also
be an ordinary word, so the search decides by what it finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from assistant.knowledge.index import Index, scope_key
from assistant.knowledge.search.words import IMPORTED_AS

MOST_WORDS_OF_NAME = 3  # "Django REST framework"
MOST_TOKENS = 400
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


@dataclass(frozen=True, slots=True)
class Scope:
    packages: tuple[str, ...] = ()
    is_certain: bool = False  # whether a question surely means these packages
    names: tuple[str, ...] = ()  # as the question writes them

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(scope_key, self.packages)))


def named_scope(index: Index, text: str) -> tuple[Scope, str]:
    """The packages that a question names, and the question without their names. If some are certain, the
    others are taken for ordinary words."""
    found = list(_named(index, text))
    certain = [each for each in found if each[3]]
    chosen = certain or found[:2]
    packages = dict.fromkeys(name for each in chosen for name in sorted(each[2]))
    rest = text
    for start, end, _, _ in reversed(chosen):
        rest = f"{_BEFORE.sub('', rest[:start])} {rest[end:]}"
    names = tuple(text[start:end] for start, end, _, _ in chosen)
    return Scope(tuple(packages), bool(certain), names), rest if chosen else text


def _named(index: Index, text: str) -> Iterator[tuple[int, int, frozenset[str], bool]]:
    """Where each name stands, what it may mean, and whether it is certain."""
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
            yield start, end, meant, _is_certain(index, text, start, end, key, meant)
            at += length - 1
            break
        at += 1


def _is_certain(index: Index, text: str, start: int, end: int, key: str, meant: frozenset[str]) -> bool:
    written = text[start:end]
    if any(char.isupper() for char in written[1:]):  # FastAPI
        return True
    own = index.frequency(written, tuple(map(scope_key, meant)))
    others = index.frequency(written) - own
    if others <= USED_ELSEWHERE or others < own:
        return True
    begins = start == 0 or text[:start].rstrip()[-1:] in ("", ".", "?", "!", "\n")
    if written[0].isupper() and not begins:
        return True
    return bool(_BEFORE.search(text[:start][-40:]) and _AFTER.match(text[end:][:40]))
