"""Reads `vocabulary.toml`: the phrases by which people ask for the standard library, by full name."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

FILE = Path(__file__).with_name("vocabulary.toml")


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
    """The phrases in a vocabulary, by full name."""
    try:
        found = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise VocabularyMalformed(f"{FILE.name} is not valid TOML: {error}.") from error
    for name, value in found.items():
        if not (isinstance(value, list) and value and all(isinstance(each, str) and each for each in value)):
            raise VocabularyMalformed(f"{FILE.name}: {name} must be a list of phrases, each in quotes.")
    return {name: tuple(value) for name, value in found.items()}
