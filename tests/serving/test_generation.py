from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine import (
    Accepted,
    Chunk,
    End,
    FinishReason,
    IncompleteGeneration,
    SamplingParams,
)
from serving.generation import Finished, generate
from tests.serving.test_stopping import STOPS, TEXTS, first_match
from tests.support.fake_engine import FakeEngine, Step

ROOM = 1 << 20


async def run(
    *steps: Step, stops: list[str] | None = None, max_new_tokens: int | None = None, room: int = ROOM
) -> tuple[list[str], Finished, FakeEngine]:
    """The texts of all chunks, the last one's too, the end, and the engine."""
    engine = FakeEngine(*steps)
    params = SamplingParams(max_new_tokens=max_new_tokens, seed=1)
    texts = []
    async for event in generate(engine, "prompt", params, stops or [], room=room):
        if isinstance(event, Chunk):
            texts.append(event.text)
        elif isinstance(event, Finished):
            finished = event
            texts.append(event.last.text)
        else:
            assert event == Accepted(7)
    return texts, finished, engine


async def test_end_of_text_while_text_is_held_back_gives_it_out_as_ordinary_text() -> None:
    texts, finished, _ = await run("a", "\nHum", stops=["\nHuman:"])
    assert texts == ["a", "", "\nHum"]
    assert finished.finish_reason is FinishReason.END_OF_TEXT
    assert not finished.last.special


async def test_end_of_text_alone_is_a_special_token_without_text() -> None:
    texts, finished, _ = await run("a", End(FinishReason.END_OF_TEXT, 7, 2))
    assert texts == ["a", ""]
    assert finished.last.special
    assert finished.generated_tokens == 2


async def test_length_limit_while_text_is_held_back_gives_it_out_with_the_last_token() -> None:
    texts, finished, _ = await run(
        "a", "\nH", "um", End(FinishReason.LENGTH), stops=["\nHuman:"], max_new_tokens=3
    )
    assert texts == ["a", "", "\nHum"]
    assert finished.finish_reason is FinishReason.LENGTH
    assert finished.last.token_id == 2


async def test_there_are_as_many_events_as_tokens_at_the_length_limit() -> None:
    texts, _, _ = await run("a", "b", End(FinishReason.LENGTH), max_new_tokens=2)
    assert texts == ["a", "b"]


async def test_stop_that_completes_on_the_last_allowed_token_is_the_reason() -> None:
    texts, finished, _ = await run("a.", "b", End(FinishReason.LENGTH), stops=["."], max_new_tokens=1)
    assert texts == ["a"]
    assert finished.finish_reason is FinishReason.STOP_SEQUENCE
    assert finished.stop == "."


async def test_stop_cancels_the_engine_before_the_end_is_read() -> None:
    engine = FakeEngine("a", "b.c", asyncio.Event())
    params = SamplingParams(max_new_tokens=None, seed=1)
    async for event in generate(engine, "prompt", params, ["."], room=ROOM):
        if isinstance(event, Finished):
            assert engine.cancelled.is_set()
            assert engine.running == 0
            assert event.generated_tokens == 2


async def test_stop_in_the_prompt_or_across_its_end_does_not_fire() -> None:
    engine = FakeEngine("man: hi")
    params = SamplingParams(max_new_tokens=None, seed=1)
    events = [e async for e in generate(engine, "a\nHuman:\nHu", params, ["\nHuman:"], room=ROOM)]
    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason is FinishReason.END_OF_TEXT


async def test_an_engine_that_counts_otherwise_loses_nothing_after_the_limit() -> None:
    texts, finished, _ = await run("a", "b", "c", max_new_tokens=2)
    assert texts == ["a", "b", "c", ""]
    assert finished.finish_reason is FinishReason.END_OF_TEXT


async def test_an_engine_that_knows_no_limit_is_ended_with_what_was_held_back() -> None:
    texts, finished, engine = await run(
        *["more "] * 7, "\nHum", *["more "] * 90, stops=["\nHuman:"], max_new_tokens=2
    )
    assert "".join(texts) == "more " * 7 + "\nHum"
    assert finished.finish_reason is FinishReason.LENGTH
    assert engine.cancelled.is_set()


async def test_an_engine_that_ends_without_an_end_is_incomplete() -> None:
    class Broken(FakeEngine):
        async def generate(self, prompt, params):  # type: ignore[no-untyped-def]
            yield Accepted(1)
            yield Chunk("a")

    params = SamplingParams(max_new_tokens=None, seed=1)
    with pytest.raises(IncompleteGeneration):
        [e async for e in generate(Broken(), "p", params, [], room=ROOM)]


@given(TEXTS, STOPS, st.lists(st.integers(0, 5)))
async def test_the_texts_add_up_to_exactly_the_text_before_the_first_stop(
    text: str, stops: list[str], lengths: list[int]
) -> None:
    pieces, rest = [], text
    for length in lengths:
        pieces.append(rest[:length])
        rest = rest[length:]
    texts, finished, _ = await run(*pieces, rest, stops=stops)
    assert ("".join(texts), finished.stop) == first_match(stops, text)


@given(st.lists(st.text(max_size=30)), st.integers(1, 200))
async def test_the_text_never_outgrows_its_room(pieces: list[str], room: int) -> None:
    texts, finished, engine = await run(*pieces, room=room)
    text, whole = "".join(texts), "".join(pieces)
    assert whole.startswith(text)
    assert len(msgspec.json.encode(text)) - 2 <= room
    if len(msgspec.json.encode(whole)) - 2 <= room:
        assert text == whole
    else:
        assert finished.finish_reason is FinishReason.LENGTH
    assert engine.running == 0
