"""Reads the metadata in the header of a GGUF file, without loading the model. GGUF versions 2 and 3.

llama.cpp reads the header too, but does not report all of it: for a model without a chat template it reports
one of its own.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_UINT32, _STRING, _ARRAY, _UINT64 = 4, 8, 9, 10

Value = str | int | float | bool
Array = list[str | int]


class BadModelFile(ValueError):
    """The text says what is wrong with the file."""


def check_magic(path: Path) -> None:
    """Raises `BadModelFile` if the file cannot be read or does not begin like a GGUF file."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise BadModelFile(f"cannot read {path}: {error.strerror or error}") from error
    if start != MAGIC:
        raise BadModelFile(f"{path} is not a GGUF file")


def read_metadata(path: Path, *arrays: str) -> tuple[dict[str, Value], dict[str, Array]]:
    """The metadata by key: all single values, and the named arrays of strings or integers, which are empty if
    the file lacks them. Raises `BadModelFile`."""
    check_magic(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).metadata({key: [] for key in arrays})
    except (struct.error, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise BadModelFile(f"{path} is damaged: its header cannot be read") from error
    except OSError as error:
        raise BadModelFile(f"cannot read {path}: {error.strerror or error}") from error


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._position = len(MAGIC)

    def metadata(self, arrays: dict[str, Array]) -> tuple[dict[str, Value], dict[str, Array]]:
        """The single values, and `arrays` with the values that the file has for them."""
        version, _tensors, pairs = (self._value(number) for number in (_UINT32, _UINT64, _UINT64))
        if version not in (2, 3):
            raise BadModelFile(f"GGUF version {version} is not supported")
        metadata: dict[str, Value] = {}
        for _ in range(pairs):
            key, value = self._value(_STRING), self._value(self._value(_UINT32))
            if not isinstance(value, list):
                metadata[key] = value
            elif key in arrays:
                arrays[key] = value
        return metadata, arrays

    def _value(self, value_type: int, errors: str = "strict") -> Any:
        if value_type == _STRING:
            length = self._value(_UINT64)
            raw = self._data[self._position : self._position + length]
            if len(raw) != length:
                raise struct.error("the file ends inside a string")
            self._position += length
            return raw.decode("utf-8", errors)
        if value_type != _ARRAY:
            return self._numbers(value_type, 1)[0]
        item_type, count = self._value(_UINT32), self._value(_UINT64)
        if item_type in (_STRING, _ARRAY):
            return [self._value(item_type, "replace") for _ in range(count)]
        return self._numbers(item_type, count)

    def _numbers(self, value_type: int, count: int) -> list[Any]:
        if value_type not in _NUMBERS:
            raise struct.error(f"unknown type of value {value_type}")
        layout = f"<{count}{_NUMBERS[value_type]}"
        numbers = struct.unpack_from(layout, self._data, self._position)
        self._position += struct.calcsize(layout)
        return list(numbers)
