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
    """The texts of all chunks, the last one's too, the end, and the engine."""
    engine = FakeEngine(*steps)
    texts = []
    async for event in generate(engine, ask(**asked)):
        if isinstance(event, Delta):
            texts.append(event.token.text)
        elif isinstance(event, Finished):
            finished = event
            texts.append(event.last.token.text)
        else:
            assert event == Accepted(7)
    return texts, finished, engine


async def test_end_of_text_while_text_is_held_back_gives_it_out_as_ordinary_text() -> None:
    texts, finished, _ = await run("a", "\nHum", stops=["\nHuman:"])
    assert texts == ["a", "", "\nHum"]
    assert finished.finish_reason is FinishReason.END_OF_TEXT
    assert not finished.last.token.special


async def test_end_of_text_alone_is_a_special_token_without_text() -> None:
    texts, finished, _ = await run("a", End(FinishReason.END_OF_TEXT, 7, 2))
    assert texts == ["a", ""]
    assert finished.last.token.special
    assert finished.generated_tokens == 2


async def test_length_limit_while_text_is_held_back_gives_it_out_with_the_last_token() -> None:
    texts, finished, _ = await run(
        "a", "\nH", "um", End(FinishReason.LENGTH), stops=["\nHuman:"], max_new_tokens=3
    )
    assert texts == ["a", "", "\nHum"]
    assert finished.finish_reason is FinishReason.LENGTH
    assert finished.last.token.id == 2


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
    async for event in generate(engine, ask(["."])):
        if isinstance(event, Finished):
            assert engine.cancelled.is_set()
            assert engine.running == 0
            assert event.generated_tokens == 2


async def test_stop_in_the_prompt_or_across_its_end_does_not_fire() -> None:
    engine = FakeEngine("man: hi")
    events = [e async for e in generate(engine, replace(ask(["\nHuman:"]), prompt="a\nHuman:\nHu"))]
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
        async def generate(self, prompt, params, *, session=None):  # type: ignore[no-untyped-def]
            yield Accepted(1)
            yield Chunk(b"a")

    with pytest.raises(IncompleteGeneration):
        [e async for e in generate(Broken(), ask())]


async def test_no_character_is_broken_however_tokens_cut_it() -> None:
    owl = "🦉".encode()
    texts, _, _ = await run(b"a " + owl[:2], owl[2:3], owl[3:] + b" b")
    assert texts == ["a ", "", "🦉 b", ""]


async def test_stop_in_a_token_that_ends_within_a_character_ends_the_text_there() -> None:
    texts, finished, engine = await run("a ", b"STOP\xf0\x9f", asyncio.Event(), stops=["STOP"])
    assert texts == ["a ", ""]
    assert finished.stop == "STOP"
    assert engine.cancelled.is_set()


@pytest.mark.parametrize("end", [End(FinishReason.LENGTH), End(FinishReason.END_OF_TEXT)])
async def test_part_of_a_character_at_the_end_is_not_shown(end: End) -> None:
    texts, finished, _ = await run("a", b" b\xf0\x9f", end, max_new_tokens=2)
    assert texts == ["a", " b"]
    assert finished.finish_reason is end.finish_reason


async def test_what_is_no_utf8_is_replaced_and_the_text_goes_on() -> None:
    texts, _, _ = await run(b"a\xff", b"\xf0\x9f", "b")
    assert "".join(texts) == "a\ufffd\ufffdb"


async def test_a_mark_of_the_model_is_no_text_and_leaves_what_is_held_back_held() -> None:
    mark = Chunk(b"", 9, special="<|im_start|>")
    texts, finished, _ = await run("a\nHum", mark, "an: b", stops=["\nHuman:"])
    assert "".join(texts) == "a"
    assert finished.stop == "\nHuman:"


async def test_a_mark_of_the_model_may_be_a_stop() -> None:
    mark = Chunk(b"", 9, special="<|im_end|>")
    texts, finished, _ = await run("a\nHum", mark, "b", stops=["\nHuman:", "<|im_end|>"])
    assert "".join(texts) == "a\nHum"
    assert (finished.finish_reason, finished.stop) == (FinishReason.STOP_SEQUENCE, "<|im_end|>")


async def test_the_stop_may_be_included_and_the_text_ends_with_it() -> None:
    texts, finished, _ = await run("a\nHu", "man: b", stops=["\nHuman:"], include_stop=True)
    assert "".join(texts) == "a\nHuman:"
    assert finished.generated_tokens == 2


async def test_no_stop_fires_within_the_tokens_that_there_must_be() -> None:
    texts, finished, _ = await run("a.", "b.", "c", ".d", stops=["."], min_new_tokens=2)
    assert "".join(texts) == "a.b.c"
    assert finished.stop == "."


async def test_the_best_of_several_is_the_likeliest() -> None:
    class Drawing(FakeEngine):
        async def generate(self, prompt, params, *, session=None):  # type: ignore[no-untyped-def]
            yield Accepted(1)
            yield Chunk(str(params.seed).encode(), logprob={1: -2.0, 2: -0.5, 3: -1.0}[params.seed])
            yield End(FinishReason.END_OF_TEXT, 1, 1)

    results = await best_of(Drawing(), ask(temperature=1.0), 3)
    assert [(result.seed, result.text) for result in results] == [(2, "2"), (3, "3"), (1, "1")]


async def test_a_text_that_ends_inside_its_first_character_is_the_last_of_several() -> None:
    class Drawing(FakeEngine):
        async def generate(self, prompt, params, *, session=None):  # type: ignore[no-untyped-def]
            yield Accepted(1)
            yield Chunk(b"\xe7") if params.seed == 1 else Chunk(b"x", logprob=-5.0)
            yield End(FinishReason.LENGTH, 1, 1)

    results = await best_of(Drawing(), ask(temperature=1.0), 2)
    assert [(result.seed, result.text) for result in results] == [(2, "x"), (1, "")]


async def test_the_best_of_several_is_refused_where_no_probabilities_are_told() -> None:
    with pytest.raises(InvalidRequest, match="best_of"):
        await best_of(FakeEngine("a"), ask(temperature=1.0), 2)


async def test_one_that_fails_ends_the_other_tries() -> None:
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
