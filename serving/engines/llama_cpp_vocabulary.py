"""The tokens of a GGUF model and their bytes, which llama.cpp does not report for every token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from serving.models.catalogue import Infilling
from serving.models.gguf_header import Array, Value, read_metadata

CONTROL = 3  # the type of special tokens in a GGUF file


def read_header(model: Path) -> tuple[dict[str, Value], Vocabulary]:
    """The metadata and the vocabulary of a model file. Raises `BadModelFile`."""
    metadata, arrays = read_metadata(model, "tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
    texts, types = arrays.values()
    return metadata, Vocabulary(texts, types, text_of(metadata, "tokenizer.ggml.model"))


class Vocabulary:
    """The tokens of a model, as its file writes them."""

    def __init__(self, texts: Array, types: Array, tokenizer: str | None) -> None:
        self._texts = [str(text) for text in texts]
        self._is_byte_level = tokenizer == "gpt2"
        self.longest = max((len(text.encode()) for text in self._texts), default=1)
        """The length of the longest token in bytes."""
        self.special = {
            token: text
            for token, (text, token_type) in enumerate(zip(self._texts, types, strict=False))
            if token_type == CONTROL
        }
        """The written form of each special token."""
        longest_first = sorted(filter(None, self.special.values()), key=len, reverse=True)
        self.special_pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._incomplete = {
            data: token for token in range(len(self._texts)) if _is_incomplete(data := self.data(token))
        }

    def split(self, data: bytes, count: int, last: Sequence[int]) -> list[int]:
        """`count` tokens that together have these bytes, of which all but the last end inside a character.
        Empty if there are none, or if the last token is unknown."""
        if not last or not data.endswith(end := self.data(last[-1])):
            return []
        found: list[int] = []

        def fill(begin: int, left: int) -> bool:
            if not left:
                return begin == len(data) - len(end)
            for stop in range(len(data) - len(end) - left + 1, begin, -1):
                token = self._incomplete.get(data[begin:stop])
                if token is not None and _is_incomplete(data[:stop]):
                    found.append(token)
                    if fill(stop, left - 1):
                        return True
                    found.pop()
            return False

        return [*found, last[-1]] if fill(0, count - 1) else []

    def data(self, token: int) -> bytes:
        """The bytes of a token; empty for a special token."""
        if token in self.special or not 0 <= token < len(self._texts):
            return b""
        text = self._texts[token]
        if self._is_byte_level:
            return bytes(_BYTE_OF_LETTER.get(letter, ord("?")) for letter in text)
        if (byte := re.fullmatch("<0x([0-9A-F]{2})>", text)) is not None:
            return bytes([int(byte[1], 16)])
        return text.replace("\u2581", " ").encode()


def _is_incomplete(data: bytes) -> bool:
    """Whether these bytes begin or end inside a character."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def _letters() -> dict[str, int]:
    """The byte for each letter of a byte-level vocabulary. Printable bytes are written as themselves, all
    others as the letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTE_OF_LETTER = _letters()


def infilling_markers(metadata: dict[str, Value], special: dict[int, str]) -> Infilling | None:
    """The markers that the model file names for filling in the middle."""
    ids = [number_of(metadata, f"tokenizer.ggml.fim_{part}_token_id") for part in ("pre", "suf", "mid")]
    markers = [special.get(token) for token in ids if token is not None]
    prefix, suffix, middle = markers if len(markers) == len(ids) else (None, None, None)
    return Infilling(prefix, suffix, middle) if prefix and suffix and middle else None


def number_of(metadata: dict[str, Value], key: str) -> int | None:
    value = metadata.get(key)
    return value if isinstance(value, int) else None


def text_of(metadata: dict[str, Value], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) and value else None
