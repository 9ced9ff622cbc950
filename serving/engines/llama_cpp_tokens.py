"""The tokens of a model and their bytes, and prompts as tokens: plain text, chats, and the middle of a
text."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.engine import MOST_NEW_TOKENS, Chat, Infill, InvalidRequest, Prompt, TokenSpan, TooLong
from serving.engines.llama_cpp_server import LlamaCppServer
from serving.engines.remote import text_of
from serving.models.catalogue import Infilling
from serving.models.gguf_header import Array, Value, read_metadata

CONTROL = 3  # the type of special tokens in a GGUF file

# Below this many tokens, a text is tokenized even if it cannot fit into the context.
LEAST_OVERSIZE = 1 << 16


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


@dataclass(frozen=True, slots=True)
class PromptTokenizer:
    server: LlamaCppServer
    vocabulary: Vocabulary
    context: int  # in tokens
    bos_token: str | None
    markers: Infilling | None

    async def tokens(self, prompt: Prompt) -> list[int]:
        """Raises `ServingError`."""
        if isinstance(prompt, Infill):
            return await self._infill_tokens(prompt)
        if isinstance(prompt, Chat):
            return await self._chat_tokens(prompt)
        self._refuse_oversize(prompt)
        return await self._text_tokens(prompt)

    async def spans(self, text: str) -> Sequence[TokenSpan]:
        """The tokens of a text, with their positions in it."""
        self._refuse_oversize(text)
        answer = await self.server.ask("tokenize", content=text, with_pieces=True, parse_special=True)
        return _spans(text, [(token["id"], token["piece"]) for token in answer["tokens"]])

    def new_tokens_allowed(self, given: int, requested: int | None) -> int:
        """How many tokens may follow a prompt of `given` tokens. Raises `TooLong`."""
        if given >= self.context:
            raise TooLong(f"`inputs` must have less than {self.context} tokens. Given: {given}")
        if requested is None:
            return min(MOST_NEW_TOKENS, self.context - given)
        if given + requested > self.context:
            raise TooLong(
                f"`inputs` tokens + `max_new_tokens` must be <= {self.context}. "
                f"Given: {given} `inputs` tokens and {requested} `max_new_tokens`"
            )
        return requested

    async def tokenize(self, text: str | list[str | int], **options: bool) -> list[int]:
        """The tokens of a text, or of a list of texts and tokens."""
        answer = await self.server.ask("tokenize", content=text, **options)
        tokens: list[int] = answer["tokens"]
        return tokens

    async def _text_tokens(self, prompt: str | list[str | int]) -> list[int]:
        """Adds a beginning-of-text token, unless the chat template has written it already."""
        beginning = prompt if isinstance(prompt, str) else str(prompt[0])
        add_special = not (self.bos_token and beginning.startswith(self.bos_token))
        return await self.tokenize(prompt, add_special=add_special, parse_special=True)

    async def _chat_tokens(self, chat: Chat) -> list[int]:
        """Only the chat template may write special tokens. What looks like one in a message stays text: a
        placeholder carries it through the template."""
        replaced: dict[str, str] = {}
        nonce = secrets.token_hex(8)

        def placeholder(special: re.Match[str]) -> str:
            name = f"[{nonce}-{len(replaced)}]"
            replaced[name] = special[0]
            return name

        messages = [
            {
                key: self.vocabulary.special_pattern.sub(placeholder, value)
                if key != "role" and isinstance(value, str)
                else value
                for key, value in message.items()
            }
            for message in chat.messages
        ]
        prompt = str((await self.server.ask("apply-template", messages=messages))["prompt"])
        self._refuse_oversize(prompt)
        if not replaced:
            return await self._text_tokens(prompt)
        as_text = {
            special: await self.tokenize(special, parse_special=False) for special in set(replaced.values())
        }
        parts: list[str | int] = []
        for part in re.split(rf"(\[{nonce}-[0-9]+\])", prompt):
            parts += as_text[replaced[part]] if part in replaced else [part]
        return await self._text_tokens(parts)

    async def _infill_tokens(self, prompt: Infill) -> list[int]:
        if (markers := self.markers) is None:
            raise InvalidRequest("this model does not fill in the middle of a text (`suffix`)")
        self._refuse_oversize(prompt.prefix + prompt.suffix)
        tokens: list[int] = []
        for marker, text in (
            (markers.prefix, prompt.prefix),
            (markers.suffix, prompt.suffix),
            (markers.middle, ""),
        ):
            tokens += await self.tokenize(marker, add_special=not tokens, parse_special=True)
            if text:
                tokens += await self.tokenize(text, parse_special=False)
        return tokens

    def _refuse_oversize(self, text: str) -> None:
        """Refuse a text that cannot fit whatever its tokens are, because it takes long to tokenize."""
        at_least = len(text.encode("utf-8", "replace")) // self.vocabulary.longest
        if at_least > max(self.context, LEAST_OVERSIZE):
            raise TooLong(f"`inputs` must have less than {self.context} tokens. Given: {at_least} or more")


def _spans(text: str, pieces: Sequence[tuple[int, str | list[int]]]) -> list[TokenSpan]:
    """The position of each token in the text. A piece that is not whole characters is a list of bytes."""
    encoded = [(token, piece.encode() if isinstance(piece, str) else bytes(piece)) for token, piece in pieces]
    # Some vocabularies add a space before the text, which is not part of it.
    added = sum(len(piece) for _, piece in encoded) - len(text.encode())
    position = -max(0, added)  # in characters
    spans = []
    for token, piece in encoded:
        characters = sum(byte & 0xC0 != 0x80 for byte in piece)  # that begin in this piece
        continues = bool(piece) and piece[0] & 0xC0 == 0x80  # a character of the piece before
        start, position = max(0, position - continues), position + characters
        spans.append(TokenSpan(token, text[start : max(0, position)], start, max(0, position)))
    return spans
