"""Any engine, with exact stop sequences: the one way in which `api.py` gets text.

Knows engines and the matcher; refuses to know HTTP. Here the tokens of the engine meet the text that is
safe to show: the texts of all chunks, the last one included, add up to exactly the generated text.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

import msgspec

from serving.engine import (
    MOST_NEW_TOKENS,
    Accepted,
    Chunk,
    Engine,
    FinishReason,
    IncompleteGeneration,
    SamplingParams,
)
from serving.stopping import StopMatcher

WIDEST_CHARACTER = 6
"""Bytes of one character in JSON at most: control characters are written as `\\u0001`."""
PIECES_OF_A_TOKEN = 4
"""That an engine may send for one token at most: the bytes of a wide character."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation. `last` is its last token, with the text that had waited until now."""

    last: Chunk
    finish_reason: FinishReason
    generated_tokens: int
    input_tokens: int | None
    stop: str | None


async def generate(
    engine: Engine, prompt: str, params: SamplingParams, stops: Sequence[str], *, room: int
) -> AsyncGenerator[Accepted | Chunk | Finished]:
    """`Accepted`, chunks whose text is safe to show, `Finished`. Raises `ServingError`.

    A chunk's text is empty while it is held back. As soon as a stop completes, the engine is cancelled.
    A text that outgrows `room` (bytes, written as JSON) ends as if by its length limit: the last event of
    a stream repeats all of it, and clients refuse lines of more than 512 KiB. So does one whose engine goes
    on and on, whatever limit it was given.
    """
    most_pieces = PIECES_OF_A_TOKEN * (params.max_new_tokens or MOST_NEW_TOKENS)
    matcher = StopMatcher(stops)
    generated = 0
    input_tokens: int | None = None
    finish_reason: FinishReason | None = None
    last: Chunk | None = None

    async with contextlib.aclosing(engine.generate(prompt, params)) as events:
        async for event in events:
            if isinstance(event, Accepted):
                input_tokens = event.input_tokens
                yield event
            elif isinstance(event, Chunk):
                if last is not None:  # it was not the last after all
                    yield last
                    last = None
                generated += event.tokens
                text = matcher.feed(event.text)
                if text:
                    size = len(_encode(text)) - 2
                    if size > room:
                        text, finish_reason = text[: room // WIDEST_CHARACTER], FinishReason.LENGTH
                    room -= size
                if matcher.matched is not None and finish_reason is None:
                    finish_reason = FinishReason.STOP_SEQUENCE
                if finish_reason is None and generated >= most_pieces:
                    text, finish_reason = text + matcher.flush(), FinishReason.LENGTH
                chunk = event if text == event.text else replace(event, text=text)
                if finish_reason is not None:
                    last = chunk
                    break
                if generated == params.max_new_tokens or not event.text:
                    # At the limit, or an end token: the end will follow at once and belongs to this token,
                    # and with it what was held back. Any other token without text loses nothing by waiting.
                    last = chunk
                else:
                    yield chunk
            else:
                last = last or Chunk("", tokens=0)
                text = last.text + matcher.flush()
                last = replace(last, text=text, special=not text)
                finish_reason = event.finish_reason
                generated = generated if event.generated_tokens is None else event.generated_tokens
                input_tokens = input_tokens if event.input_tokens is None else event.input_tokens
                break

    # The engine computes nothing any more, however slowly the reader takes the rest.
    if finish_reason is None or last is None:
        raise IncompleteGeneration("The engine's answer broke off.")
    yield Finished(last, finish_reason, generated, input_tokens, matcher.matched)
