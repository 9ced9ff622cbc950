"""Reads the metadata in the header of a GGUF file, without loading the model. GGUF versions 2 and 3.

llama.cpp reads the header too, but does not report all of it: for a model without a chat template it reports
one of its own.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

MAGIC = b"GGUF"

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

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
        version, _tensors, pairs = self._number("I"), self._number("Q"), self._number("Q")
        if version not in (2, 3):
            raise BadModelFile(f"GGUF version {version} is not supported")
        metadata = {}
        for _ in range(int(pairs)):
            key, value_type = self._string(), int(self._number("I"))
            if value_type == _ARRAY and key in arrays:
                arrays[key] = self._array()
            elif value_type == _ARRAY:
                self._skip_array()
            else:
                metadata[key] = (
                    self._string() if value_type == _STRING else self._number(self._format(value_type))
                )
        return metadata, arrays

    def _array(self) -> Array:
        item_type, count = int(self._number("I")), int(self._number("Q"))
        if item_type == _STRING:
            return [self._string(errors="replace") for _ in range(count)]
        numbers = struct.unpack_from(f"<{count}{self._format(item_type)}", self._data, self._position)
        self._position += struct.calcsize(f"<{count}{self._format(item_type)}")
        return [int(number) for number in numbers]

    def _skip_array(self) -> None:
        item_type, count = int(self._number("I")), int(self._number("Q"))
        if item_type not in (_STRING, _ARRAY):
            self._position += count * struct.calcsize("<" + self._format(item_type))
            return
        for _ in range(count):
            if item_type == _STRING:
                length = int(self._number("Q"))
                self._position += length
            else:
                self._skip_array()

    def _format(self, value_type: int) -> str:
        if value_type not in _NUMBERS:
            raise struct.error(f"unknown type of value {value_type}")
        return _NUMBERS[value_type]

    def _number(self, format: str) -> int | float | bool:
        value: int | float | bool
        (value,) = struct.unpack_from("<" + format, self._data, self._position)
        self._position += struct.calcsize("<" + format)
        return value

    def _string(self, errors: str = "strict") -> str:
        length = int(self._number("Q"))
        raw = self._data[self._position : self._position + length]
        if len(raw) != length:
            raise struct.error("the file ends inside a string")
        self._position += length
        return raw.decode("utf-8", errors)
