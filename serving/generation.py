"""Generate a text with any engine and cut it exactly at the first stop sequence.

The protocols get all their texts here. The engine yields the bytes of tokens; the matcher of
`serving/stopping.py` decides which of them are safe to show. The texts of all tokens, including the last one,
add up to exactly the generated text. This module knows no HTTP.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import math
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
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
"""The most bytes that one character takes in JSON: control characters are written as `\\u0001`."""
MOST_CHUNKS_PER_TOKEN = 4
"""An engine may send the bytes of a character one by one, and a character has at most four."""
LARGEST_TEXT = 480 << 10
"""Bytes of a text in JSON. The last event of a stream repeats it, and clients refuse lines over 512 KiB."""

_encode = msgspec.json.Encoder().encode
_Utf8 = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One text to generate, whatever protocol asked for it."""

    prompt: Prompt
    params: SamplingParams
    stops: Sequence[str] = ()
    include_stop: bool = False  # whether the text ends after the stop sequence instead of before it
    session: str | None = None
    largest_text: int = LARGEST_TEXT  # the most bytes that the text may take in JSON


class Token(msgspec.Struct):
    """A token, or several that the engine sent together, with the text that has become safe to show."""

    id: int
    text: str
    logprob: float | None
    special: bool


@dataclass(slots=True)
class Delta:
    """What one step adds to the text: a token, and details that only some protocols report."""

    token: Token
    token_count: int = 1  # how many tokens the engine generated in this step
    top: Sequence[TopToken] = ()


@dataclass(slots=True, kw_only=True)
class Finished(Delta):
    """The last delta, which also has the text that was held back until now, and the end of the generation."""

    finish_reason: FinishReason
    generated_tokens: int
    input_tokens: int | None
    stop: str | None


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """A finished generation."""

    seed: int
    deltas: Sequence[Delta]
    end: Finished

    @property
    def text(self) -> str:
        return "".join(delta.token.text for delta in self.deltas)

    @property
    def likelihood(self) -> float:
        """The geometric mean of the tokens' probabilities; 0 where the engine reports none."""
        known = [delta.token.logprob for delta in self.deltas if delta.token.logprob is not None]
        return math.exp(math.fsum(known) / len(known)) if known else 0.0


async def generate(engine: Engine, request: GenerationRequest) -> AsyncGenerator[Accepted | Delta]:
    """Yield `Accepted`, then tokens whose text is safe to show, then `Finished`. Raises `ServingError`.

    A token has an empty text while its text is held back. The engine is cancelled as soon as a stop sequence
    completes, which none does within the first `min_new_tokens`. Bytes that are not UTF-8 become U+FFFD. If
    the text ends inside a character, that character is left out.

    A text that outgrows `largest_text` ends as if it had reached its token limit. So does the text of an
    engine that ignores that limit.
    """
    params, room = request.params, request.largest_text
    most_chunks = MOST_CHUNKS_PER_TOKEN * (params.max_new_tokens or MOST_NEW_TOKENS)
    matcher, decode = StopMatcher(request.stops), _Utf8("replace").decode
    generated = 0
    input_tokens: int | None = None
    finish_reason: FinishReason | None = None
    last: Delta | None = None

    chunks = engine.generate(request.prompt, params, session=request.session)
    async with contextlib.aclosing(chunks) as events:
        async for event in events:
            if isinstance(event, Accepted):
                input_tokens = event.input_tokens
                yield event
            elif isinstance(event, Chunk):
                if last is not None:  # it was not the last one
                    yield last
                    last = None
                generated += event.tokens
                may_stop = generated > params.min_new_tokens
                text = decode(matcher.feed(event.data) if may_stop else event.data)
                stop = matcher.matched
                if stop is None and may_stop and event.special is not None and event.special in request.stops:
                    stop = matcher.matched = event.special
                    text += decode(matcher.flush())
                if stop is not None:
                    finish_reason = FinishReason.STOP_SEQUENCE
                    if request.include_stop:
                        text += stop
                if text:
                    size = len(_encode(text)) - 2
                    if size > room:
                        text, finish_reason = text[: room // WIDEST_CHARACTER], FinishReason.LENGTH
                    room -= size
                if finish_reason is None and generated >= most_chunks:
                    text, finish_reason = text + decode(matcher.flush()), FinishReason.LENGTH
                special = not text and event.special is not None
                delta = Delta(
                    Token(event.token_id, text, event.logprob, special),
                    event.tokens,
                    event.top[: params.top_tokens],
                )
                if finish_reason is not None:
                    last = delta
                    break
                if generated == params.max_new_tokens or not event.data:
                    # At the limit or an end token: the end follows at once. This token takes the text that is
                    # then released. Any other token without text loses nothing by waiting.
                    last = delta
                else:
                    yield delta
            else:
                last = last or Delta(Token(0, "", None, True), token_count=0)
                last.token.text += decode(matcher.flush())
                last.token.special = not last.token.text
                finish_reason = event.finish_reason
                generated = generated if event.generated_tokens is None else event.generated_tokens
                input_tokens = input_tokens if event.input_tokens is None else event.input_tokens
                break

    # The engine has stopped by now, however slowly the client reads the end.
    if finish_reason is None or last is None:
        raise IncompleteGeneration("The engine's answer broke off.")
    yield Finished(
        *(last.token, last.token_count, last.top),
        finish_reason=finish_reason,
        generated_tokens=generated,
        input_tokens=input_tokens,
        stop=matcher.matched,
    )


async def collect(events: AsyncGenerator[Accepted | Delta], *, seed: int) -> GenerationResult:
    """Run a generation to its end. Raises `ServingError`."""
    async with contextlib.aclosing(events):
        deltas = [event async for event in events if isinstance(event, Delta)]
    end = deltas[-1]
    assert isinstance(end, Finished)  # otherwise `generate` has raised an error
    return GenerationResult(seed, deltas, end)


async def run_together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all coroutines at once and return their results. The first that fails cancels the others.

    They are created only now, so that nothing is left over when this is closed before it runs."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def best_of(engine: Engine, request: GenerationRequest, count: int) -> list[GenerationResult]:
    """Generate `count` texts with different seeds and sort them, the likeliest first.

    Raises `ServingError`; a generation that fails cancels the others."""

    def one(number: int) -> Coroutine[Any, Any, GenerationResult]:
        params = replace(request.params, seed=request.params.seed + number, logprobs=True)
        return collect(generate(engine, replace(request, params=params)), seed=params.seed)

    results = await run_together(map(one, range(count)))
    if not any(result.likelihood for result in results):
        raise InvalidRequest("`best_of` != 1 is not supported by this engine: it reports no probabilities")
    return sorted(results, key=lambda result: result.likelihood, reverse=True)
