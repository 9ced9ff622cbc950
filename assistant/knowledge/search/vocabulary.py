"""Reads `vocabulary.toml`: the phrases by which people ask for the standard library, by full name.

A table of that file is a module, a class or a built-in type. A dot in its name means the same with quotes
(`["datetime.datetime"]`) and without.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

FILE = Path(__file__).with_name("vocabulary.toml")
BARE = frozenset(("builtins", "keywords", "modules"))  # tables whose keys are full names


class VocabularyMalformed(Exception):
    """The file is not a vocabulary; the text is a sentence for people."""


@functools.cache
def phrases() -> Mapping[str, tuple[str, ...]]:
    """The phrases for each full name: `os.path.join`, `len`, `yield`. Raises `VocabularyMalformed`."""
    try:
        data = FILE.read_bytes()
    except OSError as error:
        raise VocabularyMalformed(f"{FILE.name} cannot be read: {error}.") from error
    return MappingProxyType(parse(data))


def parse(data: bytes) -> dict[str, tuple[str, ...]]:
    """The phrases in a vocabulary, by full name. A name in two tables has the phrases of both."""
    try:
        tables = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise VocabularyMalformed(f"{FILE.name} is not valid TOML: {error}.") from error
    found: dict[str, tuple[str, ...]] = {}
    for name, phrases_of_name in _names(tables):
        found[name] = (*found.get(name, ()), *phrases_of_name)
    return found


def _names(tables: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    for key, value in tables.items():
        name = f"{inside}.{key}" if inside else key
        if isinstance(value, dict):
            yield from _names(value, "" if name in BARE else name)
        elif (
            isinstance(value, list) and value and all(isinstance(phrase, str) and phrase for phrase in value)
        ):
            yield name, tuple(value)
        else:
            raise VocabularyMalformed(f"{FILE.name}: {name} must be a list of phrases, each in quotes.")
