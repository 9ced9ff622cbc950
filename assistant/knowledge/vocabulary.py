"""The words by which people ask for things of Python's standard library: `vocabulary.toml` as a mapping.

Knows the form of that file: a table is a module, a class or a built-in type, and a dot in a table's name
means the same in quotes (`["datetime.datetime"]`) and without them. Refuses to know the index that is given
the phrases, and whether a name exists in the Python that runs.
"""

from __future__ import annotations

import functools
import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

FILE = Path(__file__).with_name("vocabulary.toml")
BARE = frozenset(("builtins", "keywords", "modules"))  # tables whose keys are whole names


class VocabularyMalformed(Exception):
    """The file cannot be understood; the text is a sentence for people."""


@functools.cache
def phrases() -> Mapping[str, tuple[str, ...]]:
    """The phrases for each full name: `os.path.join`, `len`, `str.split`, `yield`, `json`.

    Raises `VocabularyMalformed`.
    """
    return MappingProxyType(parse(_read()))


@functools.cache
def digest() -> str:
    """A short text that is another when the file is another, so that an index knows to be written again."""
    return hashlib.sha256(_read()).hexdigest()[:16]


def parse(data: bytes) -> dict[str, tuple[str, ...]]:
    """What a file of this form says, by full name. A name in two tables has the phrases of both."""
    try:
        tables = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise VocabularyMalformed(f"{FILE.name} is not valid TOML: {error}.") from error
    found: dict[str, tuple[str, ...]] = {}
    for name, said in _names(tables):
        found[name] = (*found.get(name, ()), *said)
    return found


def _read() -> bytes:
    try:
        return FILE.read_bytes()
    except OSError as error:
        raise VocabularyMalformed(f"{FILE.name} cannot be read: {error}.") from error


def _names(tables: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    for key, value in tables.items():
        name = f"{inside}.{key}" if inside else key
        if isinstance(value, dict):
            yield from _names(value, "" if name in BARE else name)
        elif isinstance(value, list) and value and all(isinstance(said, str) and said for said in value):
            yield name, tuple(value)
        else:
            raise VocabularyMalformed(f"{FILE.name}: {name} must be a list of phrases, each in quotes.")
