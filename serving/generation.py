"""Any engine, with exact stop sequences: the one way in which protocols get text.

Knows engines and the matcher; refuses to know HTTP. Here the bytes of the engine's tokens meet the text that
is safe to show: the texts of all tokens, the last one included, add up to exactly the generated text.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import math
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from serving.engine import (
    MOST_NEW_TOKENS,
    Accepted,
    Chunk,
    Engine,
    FinishReason,
    IncompleteGeneration,
    InvalidRequest,
    Prompt,
    SamplingParams,
    TopToken,
)
from serving.stopping import StopMatcher

T = TypeVar("T")

WIDEST_CHARACTER = 6
"""Bytes of one character in JSON at most: control characters are written as `\\u0001`."""
PIECES_OF_A_TOKEN = 4
"""That an engine may send for one token at most: the bytes of a wide character."""

_encode = msgspec.json.Encoder().encode
_Utf8 = codecs.getincrementaldecoder("utf-8")


LARGEST_TEXT = 480 << 10
"""Bytes of a text in JSON. The last event of a stream repeats it, and clients refuse lines over 512 KiB."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A text that somebody wants, by whatever protocol."""

    prompt: Prompt
    params: SamplingParams
    stops: Sequence[str] = ()
    include_stop: bool = False
    """The text ends behind the stop sequence, not before it."""
    session: str | None = None
    room: int = LARGEST_TEXT
    """For the text, in bytes of JSON."""


class Token(msgspec.Struct):
    """A token, or several that an engine sent together, with the text that has become safe to show."""

    id: int
    text: str
    logprob: float | None
    special: bool


@dataclass(slots=True)
class Shown:
    """One step of a text: its token, and what only some protocols tell of it."""

    token: Token
    tokens: int = 1
    """That the engine made for it."""
    top: Sequence[TopToken] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation. `last` is its last token, with the text that had waited until now."""

    last: Shown
    finish_reason: FinishReason
    generated_tokens: int
    input_tokens: int | None
    stop: str | None


@dataclass(frozen=True, slots=True)
class Whole:
    """A generation that has ended, as a whole."""

    seed: int
    tokens: Sequence[Shown]
    end: Finished

    @property
    def text(self) -> str:
        return "".join(shown.token.text for shown in self.tokens)

    @property
    def likelihood(self) -> float:
        """Of the average token; 0 where the engine does not tell."""
        known = [shown.token.logprob for shown in self.tokens if shown.token.logprob is not None]
        return math.exp(math.fsum(known) / len(known)) if known else 0.0


async def generate(engine: Engine, asked: Asked) -> AsyncGenerator[Accepted | Shown | Finished]:
    """`Accepted`, tokens whose text is safe to show, `Finished`. Raises `ServingError`.

    A token's text is empty while it is held back. As soon as a stop completes, the engine is cancelled; none
    does within the first `min_new_tokens`. What is no UTF-8 is shown as U+FFFD; the part of a character with
    which the text ends is not shown.

    A text that outgrows its room ends as if by its length limit. So does one whose engine goes on and on,
    whatever limit it was given.
    """
    params, room = asked.params, asked.room
    most_pieces = PIECES_OF_A_TOKEN * (params.max_new_tokens or MOST_NEW_TOKENS)
    matcher, decode = StopMatcher(asked.stops), _Utf8("replace").decode
    generated = 0
    input_tokens: int | None = None
    finish_reason: FinishReason | None = None
    last: Shown | None = None

    async with contextlib.aclosing(engine.generate(asked.prompt, params, session=asked.session)) as events:
        async for event in events:
            if isinstance(event, Accepted):
                input_tokens = event.input_tokens
                yield event
            elif isinstance(event, Chunk):
                if last is not None:  # it was not the last after all
                    yield last
                    last = None
                generated += event.tokens
                may_stop = generated > params.min_new_tokens
                text = decode(matcher.feed(event.data) if may_stop else event.data)
                stop = matcher.matched
                if stop is None and may_stop and event.special is not None and event.special in asked.stops:
                    stop = matcher.matched = event.special
                    text += decode(matcher.flush())
                if stop is not None:
                    finish_reason = FinishReason.STOP_SEQUENCE
                    if asked.include_stop:
                        text += stop
                if text:
                    size = len(_encode(text)) - 2
                    if size > room:
                        text, finish_reason = text[: room // WIDEST_CHARACTER], FinishReason.LENGTH
                    room -= size
                if finish_reason is None and generated >= most_pieces:
                    text, finish_reason = text + decode(matcher.flush()), FinishReason.LENGTH
                special = not text and event.special is not None
                shown = Shown(
                    Token(event.token_id, text, event.logprob, special),
                    event.tokens,
                    event.top[: params.top_tokens],
                )
                if finish_reason is not None:
                    last = shown
                    break
                if generated == params.max_new_tokens or not event.data:
                    # At the limit, or an end token: the end will follow at once and belongs to this token,
                    # and with it what was held back. Any other token without text loses nothing by waiting.
                    last = shown
                else:
                    yield shown
            else:
                last = last or Shown(Token(0, "", None, True), tokens=0)
                last.token.text += decode(matcher.flush())
                last.token.special = not last.token.text
                finish_reason = event.finish_reason
                generated = generated if event.generated_tokens is None else event.generated_tokens
                input_tokens = input_tokens if event.input_tokens is None else event.input_tokens
                break

    # The engine computes nothing any more, however slowly the reader takes the rest.
    if finish_reason is None or last is None:
        raise IncompleteGeneration("The engine's answer broke off.")
    yield Finished(last, finish_reason, generated, input_tokens, matcher.matched)


async def whole(events: AsyncGenerator[Accepted | Shown | Finished], *, seed: int) -> Whole:
    """All of a generation. Raises `ServingError`."""
    tokens: list[Shown] = []
    end: Finished | None = None
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, Finished):
                end = event
            if not isinstance(event, Accepted):
                tokens.append(event.last if isinstance(event, Finished) else event)
    assert end is not None  # or it would have raised
    return Whole(seed, tokens, end)


async def together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What they result in. The first that fails ends the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def best_of(engine: Engine, asked: Asked, count: int) -> list[Whole]:
    """So many generations with seeds of their own, the likeliest first. Raises `ServingError`: one that
    fails ends the others."""

    def one(number: int) -> Coroutine[Any, Any, Whole]:
        params = replace(asked.params, seed=asked.params.seed + number, logprobs=True)
        return whole(generate(engine, replace(asked, params=params)), seed=params.seed)

    results = await together([one(number) for number in range(count)])
    if not any(result.likelihood for result in results):
        raise InvalidRequest("`best_of` != 1 is not supported by this engine: it tells no probabilities")
    return sorted(results, key=lambda result: result.likelihood, reverse=True)
