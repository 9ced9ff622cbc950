from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine import (
    Accepted,
    Chunk,
    End,
    FinishReason,
    GenerationFailed,
    IncompleteGeneration,
    InvalidRequest,
    SamplingParams,
)
from serving.generation import Delta, Finished, GenerationRequest, best_of, generate
from tests.serving.test_stopping import STOPS, TEXTS, first_match
from tests.support.fake_engine import FakeEngine, Step

ROOM = 1 << 20


def ask(
    stops: list[str] | None = None, max_new_tokens: int | None = None, room: int = ROOM, **params: Any
) -> GenerationRequest:
    include_stop = params.pop("include_stop", False)
    sampling = SamplingParams(max_new_tokens=max_new_tokens, seed=1, **params)
    return GenerationRequest("prompt", sampling, stops or [], include_stop, largest_text=room)


async def run(*steps: Step, **asked: Any) -> tuple[list[str], Finished, FakeEngine]:
    """The texts of all tokens including the last one, the end, and the engine."""
    engine = FakeEngine(*steps)
    texts = []
    async for event in generate(engine, ask(**asked)):
        if isinstance(event, Delta):
            texts.append(event.token.text)
        else:
            assert event == Accepted(7)
    assert isinstance(event, Finished)
    return texts, event, engine


HUMAN = "\nHuman:"
LENGTH, EOS = End(FinishReason.LENGTH), End(FinishReason.END_OF_TEXT)
MARK = Chunk(b"", 9, special="<|im_end|>")
OWL = "🦉".encode()


@pytest.mark.parametrize(
    ("steps", "asked", "texts", "end"),
    [
        # The end releases the text that is held back: with an event of its own, or with the last token.
        (["a", "\nHum"], {"stops": [HUMAN]}, ["a", "", "\nHum"], "eos_token"),
        (["a", End(FinishReason.END_OF_TEXT, 7, 2)], {}, ["a", ""], "eos_token"),
        (["a", "\nH", "um", LENGTH], {"stops": [HUMAN], "max_new_tokens": 3}, ["a", "", "\nHum"], "length"),
        # There are as many events as tokens at the limit, also if a stop completes there.
        (["a", "b", LENGTH], {"max_new_tokens": 2}, ["a", "b"], "length"),
        (["a.", "b", LENGTH], {"stops": ["."], "max_new_tokens": 1}, ["a"], "."),
        (["a", "b", "c"], {"max_new_tokens": 2}, ["a", "b", "c", ""], "eos_token"),  # the engine ignores it
        # No character is broken, and a part of one at the end is not shown.
        ([b"a " + OWL[:2], OWL[2:3], OWL[3:] + b" b"], {}, ["a ", "", "🦉 b", ""], "eos_token"),
        (["a", b" b\xf0\x9f", LENGTH], {"max_new_tokens": 2}, ["a", " b"], "length"),
        (["a", b" b\xf0\x9f", EOS], {"max_new_tokens": 2}, ["a", " b"], "eos_token"),
        ([b"a\xff", b"\xf0\x9f", "b"], {}, ["a\ufffd", "", "\ufffdb", ""], "eos_token"),
        # A special token is not text. It may be a stop.
        (["a\nHum", MARK, "an: b"], {"stops": [HUMAN]}, ["a", "", ""], HUMAN),
        (["a\nHum", MARK, "b"], {"stops": [HUMAN, "<|im_end|>"]}, ["a", "\nHum"], "<|im_end|>"),
        (["a\nHu", "man: b"], {"stops": [HUMAN], "include_stop": True}, ["a", HUMAN], HUMAN),
        (["a.", "b.", "c", ".d"], {"stops": ["."], "min_new_tokens": 2}, ["a.", "b.", "c", ""], "."),
    ],
)  # fmt: skip
async def test_texts_and_end(steps: list[Step], asked: dict[str, Any], texts: list[str], end: str) -> None:
    shown, finished, _ = await run(*steps, **asked)
    assert shown == texts
    assert (finished.stop or finished.finish_reason.value) == end
    assert (finished.finish_reason is FinishReason.STOP_SEQUENCE) == (finished.stop is not None)
    # The last token has text, or it is a special token (or a stop has taken its text).
    assert finished.token.special == (texts[-1] == "" and finished.stop is None)


async def test_the_last_token_is_counted_and_keeps_its_id() -> None:
    _, finished, _ = await run("a", End(FinishReason.END_OF_TEXT, 7, 2))
    assert finished.generated_tokens == 2
    _, finished, _ = await run("a", "\nH", "um", LENGTH, stops=[HUMAN], max_new_tokens=3)
    assert finished.token.id == 2
    _, finished, _ = await run("a\nHu", "man: b", stops=[HUMAN], include_stop=True)
    assert finished.generated_tokens == 2


async def test_an_engine_that_ignores_its_limit_is_cancelled_and_held_text_is_shown() -> None:
    texts, finished, engine = await run(
        *["more "] * 7, "\nHum", *["more "] * 90, stops=[HUMAN], max_new_tokens=2
    )
    assert "".join(texts) == "more " * 7 + "\nHum"
    assert finished.finish_reason is FinishReason.LENGTH
    assert engine.cancelled.is_set()


async def test_a_stop_in_a_token_that_ends_inside_a_character_cancels_the_engine() -> None:
    texts, finished, engine = await run("a ", b"STOP\xf0\x9f", asyncio.Event(), stops=["STOP"])
    assert texts == ["a ", ""]
    assert finished.stop == "STOP"
    assert engine.cancelled.is_set()


async def test_stop_cancels_the_engine_before_the_end_is_read() -> None:
    engine = FakeEngine("a", "b.c", asyncio.Event())
    async for event in generate(engine, ask(["."])):
        if isinstance(event, Finished):
            assert engine.cancelled.is_set()
            assert engine.running == 0
            assert event.generated_tokens == 2


async def test_a_stop_in_the_prompt_or_across_its_end_is_ignored() -> None:
    engine = FakeEngine("man: hi")
    events = [e async for e in generate(engine, replace(ask(["\nHuman:"]), prompt="a\nHuman:\nHu"))]
    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason is FinishReason.END_OF_TEXT


class Drawing(FakeEngine):
    """Generates these events for each seed, from 1."""

    def __init__(self, *by_seed: list[Chunk | End]) -> None:
        super().__init__()
        self.by_seed = by_seed

    async def generate(self, prompt, params, *, session=None):  # type: ignore[no-untyped-def]
        yield Accepted(1)
        for event in self.by_seed[params.seed - 1]:
            yield event


async def test_an_engine_that_ends_without_end_event_is_incomplete() -> None:
    with pytest.raises(IncompleteGeneration):
        [e async for e in generate(Drawing([Chunk(b"a")]), ask())]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([Chunk(b"1", logprob=-2.0), Chunk(b"2", logprob=-0.5), Chunk(b"3", logprob=-1.0)], ["2", "3", "1"]),
        ([Chunk(b"\xe7"), Chunk(b"2", logprob=-5.0)], ["2", ""]),  # a text without probabilities
    ],
)
async def test_best_of_puts_the_likeliest_first(chunks: list[Chunk], expected: list[str]) -> None:
    engine = Drawing(*([chunk, LENGTH] for chunk in chunks))
    results = await best_of(engine, ask(temperature=1.0), len(chunks))
    assert [(result.seed, result.text) for result in results] == [(int(text or 1), text) for text in expected]


async def test_best_of_is_refused_if_the_engine_reports_no_probabilities() -> None:
    with pytest.raises(InvalidRequest, match="best_of"):
        await best_of(FakeEngine("a"), ask(temperature=1.0), 2)


async def test_best_of_cancels_the_others_when_one_fails() -> None:
    engine = FakeEngine("a", GenerationFailed("no"))
    with pytest.raises(GenerationFailed):
        await best_of(engine, ask(temperature=1.0), 2)
    assert engine.running == 0


@given(TEXTS, STOPS, st.lists(st.integers(0, 5)))
async def test_the_texts_add_up_to_exactly_the_text_before_the_first_stop(
    text: str, stops: list[str], lengths: list[int]
) -> None:
    pieces: list[Step] = []
    rest = text.encode()
    for length in lengths:
        pieces.append(rest[:length])
        rest = rest[length:]
    texts, finished, _ = await run(*pieces, rest, stops=stops)
    assert ("".join(texts), finished.stop) == first_match(stops, text)


@given(st.lists(st.text(max_size=30)), st.integers(1, 200))
async def test_the_text_never_outgrows_its_limit(pieces: list[str], room: int) -> None:
    texts, finished, engine = await run(*pieces, room=room)
    text, whole = "".join(texts), "".join(pieces)
    assert whole.startswith(text)
    assert len(msgspec.json.encode(text)) - 2 <= room
    if len(msgspec.json.encode(whole)) - 2 <= room:
        assert text == whole
    else:
        assert finished.finish_reason is FinishReason.LENGTH
    assert engine.running == 0
