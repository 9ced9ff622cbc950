"""Judges whether what the search found is right for a question of `benchmarks/questions/`.

A passage is right if it is an accepted one: by its name, by another name of the same object
(`starlette.background.BackgroundTasks` is `fastapi.BackgroundTasks`), or by its file and heading. An answer
to an error is judged by its text, with the patterns that the question brings.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from assistant.knowledge.answer import answer
from assistant.knowledge.passage import Passage, SearchResult

NOT_THERE = re.compile(r"\b(?:no|not|without|none|neither|unknown)\b|n't\b", re.IGNORECASE)

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    first: bool = False
    three: bool = False
    silent: bool = False
    refused: bool | None = None  # None: the question has an answer

    @property
    def is_perfect(self) -> bool:
        return self.first and self.three if self.refused is None else self.refused


def judge(entry: Entry, result: SearchResult) -> Verdict:
    passages = result.passages[:3]
    if "explains" in entry:
        helps = is_helpful(entry, answer(entry["text"], result).text)
        return Verdict(helps, helps, not result.passages)
    accepted: Sequence[str] = entry.get("accepted", ())
    if not accepted:
        missing = entry.get("missing")
        told = missing is not None and says_missing(answer(entry["text"], result).text, missing)
        return Verdict(refused=not passages or told)
    right = [{one for one in accepted if is_right(entry, passage, one)} for passage in passages]
    found = set[str]().union(*right)
    three = found == set(accepted) if entry.get("kind") == "difference" else bool(found)
    return Verdict(bool(right and right[0]), three, not passages)


def is_helpful(entry: Entry, text: str) -> bool:
    """Whether an answer to an error explains it, shows the signature of the call, and names a fix."""
    pasted = {line.strip() for line in entry["text"].splitlines()}
    new = "\n".join(line for line in text.splitlines() if line.strip(" >") not in pasted)
    signatures: Sequence[str] = entry["signature"]
    return (
        any(re.search(pattern, new, re.IGNORECASE) for pattern in entry["explains"])
        and (not signatures or any(signature in new for signature in signatures))
        and any(re.search(pattern, text, re.IGNORECASE) for pattern in entry["fix"])
    )


def says_missing(text: str, name: str) -> bool:
    """Whether a line of the answer, outside of quotations, says that a name does not exist."""
    return any(
        name in line and NOT_THERE.search(line) is not None
        for line in text.splitlines()
        if not line.startswith(">")
    )


def is_right(entry: Entry, passage: Passage, accepted: str) -> bool:
    """Whether a passage is an accepted one: a name of the same object, or a section of a file."""
    if "folder" not in entry:
        return passage.name == accepted or _is_same(passage.name, accepted)
    file, _, heading = accepted.partition("#")
    path = re.sub(r":\d+$", "", passage.location)
    return (
        passage.package == entry["folder"]
        and path.endswith(file)
        and _without_marks(heading) in _without_marks(passage.title)
    )


def _without_marks(heading: str) -> str:
    return " ".join(re.sub("[`*]", "", heading).lower().split())


@functools.cache
def _is_same(found: str, accepted: str) -> bool:
    if found.rpartition(".")[2] != accepted.rpartition(".")[2]:
        return False
    wanted = resolve(accepted)
    is_telling = callable(wanted) or isinstance(wanted, (property, classmethod, staticmethod, ModuleType))
    return is_telling and resolve(found, may_import=False) is wanted


def resolve(name: str, *, may_import: bool = True) -> Any:
    """The object of a dotted name, or None. Unless it may import, it sees what is imported already."""
    parts = name.split(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is deprecated still exists
        for cut in range(len(parts), 0, -1):
            module = ".".join(parts[:cut])
            try:
                thing: Any = importlib.import_module(module) if may_import else sys.modules[module]
            except (ImportError, KeyError):
                continue
            return _member(thing, parts[cut:])
        return _member(importlib.import_module("builtins"), parts)


def _member(thing: Any, path: Sequence[str]) -> Any:
    for part in path:
        # The static member comes first: an inherited method or property is the same object in each class.
        thing = inspect.getattr_static(thing, part, None) or getattr(thing, part, None)
    return thing
