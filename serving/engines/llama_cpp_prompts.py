"""Prompts as tokens of the model: plain text, chats, and the middle of a text."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from serving.engine import MOST_NEW_TOKENS, Chat, Infill, InvalidRequest, Prompt, TokenSpan, TooLong
from serving.engines.llama_cpp_server import LlamaCppServer
from serving.engines.llama_cpp_vocabulary import Vocabulary
from serving.models.catalogue import Infilling

# Below this many tokens, a text is tokenized even if it cannot fit into the context.
LEAST_OVERSIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class PromptTokenizer:
    server: LlamaCppServer
    vocabulary: Vocabulary
    context: int
    """In tokens."""
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
