"""Random texts, stops and cuts through the running server: not one byte may be wrong, streamed or whole.

What is expected is worked out here, from the rule alone, and shares nothing with what is tested. In the
environment, RANDOM_TEXTS asks for more texts than the usual run has, and RANDOM_SEED for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.serving.conformance.cases import LLAMA_CPP, OPENAI, TGI, Case
from tests.serving.conformance.engines import embedded, openai_event, tgi_event
from tests.serving.conformance.raw_upstream import in_chunks, raw_upstream
from tests.serving.conftest import Served, serve
from tests.support.fake_upstream import DONE

TEXTS = int(os.environ.get("RANDOM_TEXTS", "2000"))
"""For each upstream; the embedded engine, which computes its tokens, has a tenth as many."""
SEED = os.environ.get("RANDOM_SEED", "1")
AT_ONCE = 8

LINES = ["\r\n", "\r", "\n", "\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\0", "\n\n"]
WORDS = [
    "Human",
    "Assistant",
    ":",
    "-----",
    "a",
    "b",
    "aab",
    "data: ",
    "[DONE]",
    '"',
    "\\",
    "\\u00e4",
    "{}",
    "用户",
]
WIDE = ["🦉", "🏳️‍🌈", "é", "e\u0301", "ß", "한", "\U0010ffff", "\ue000", "\ufeff", "\ufffd"]


@dataclass(frozen=True)
class Asked:
    """A text, as bytes in tokens, and what is asked for."""

    number: int
    tokens: Sequence[bytes]
    stops: Sequence[str]
    include_stop: bool
    limit: int | None
    """No more than so many of the tokens."""

    @property
    def said(self) -> Sequence[bytes]:
        return self.tokens[: self.limit]


def drawn(number: int, engine: str) -> tuple[Asked, Random]:
    """The text of this number, and the chance that is left."""
    chance = Random(f"{SEED} {engine} {number}")
    pieces = [_piece(chance) for _ in range(chance.choice((0, 1, 3, 10, 40)))]
    data = "".join(pieces).encode()
    if chance.random() < 0.3:  # what is no text at all
        for _ in range(chance.randint(1, 6)):
            place = chance.randint(0, len(data))
            data = (
                data[:place] + chance.randbytes(chance.randint(1, 3)) + data[place + chance.randint(0, 2) :]
            )
    count = chance.choice((0, 1, 1, 2, 3, 5, 16))
    stops = [_stop(chance, pieces) for _ in range(count)]
    cuts = [chance.randint(0, len(data)) for _ in range(chance.choice((0, 2, len(data) // 4, len(data))))]
    tokens = [token for token in cut(data, cuts) if token]
    limit = chance.randint(1, len(tokens)) if tokens and chance.random() < 0.3 else None
    return Asked(number, tokens, stops, chance.random() < 0.2, limit), chance


def _piece(chance: Random) -> str:
    kind = chance.random()
    if kind < 0.5:
        return chance.choice(WORDS)
    if kind < 0.7:
        return chance.choice(LINES)
    if kind < 0.85:
        return chance.choice(WIDE)
    code = chance.choice((chance.randrange(0x100), chance.randrange(0x10000), chance.randrange(0x110000)))
    return "?" if 0xD800 <= code < 0xE000 else chr(code)


def _stop(chance: Random, pieces: Sequence[str]) -> str:
    """Mostly something of the text, or nearly."""
    text = "".join(pieces)
    if text and chance.random() < 0.6:
        begin = chance.randrange(len(text))
        stop = text[begin : begin + chance.choice((1, 2, 5, 30))]
        return stop if chance.random() < 0.5 else stop + _piece(chance)
    return "".join(_piece(chance) for _ in range(chance.randint(1, 4)))


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


def expected(asked: Asked) -> tuple[str, str]:
    """The text and what ends it: the stop that completes first, of several the longest."""
    data, stops = b"".join(asked.said), [(stop.encode(), stop) for stop in asked.stops]
    for end in range(len(data) + 1):
        complete = [pair for pair in stops if data[:end].endswith(pair[0])]
        if complete:
            raw, stop = max(complete, key=lambda pair: len(pair[0]))
            return as_text(data[: end - len(raw)]) + (stop if asked.include_stop else ""), f"stop {stop}"
    return as_text(data), "eos_token" if asked.limit is None else "length"


def as_text(data: bytes) -> str:
    """Without the part of a character at the end; what else is no text is replaced."""
    for length in (1, 2, 3):
        try:
            data[-length:].decode()
        except UnicodeDecodeError as error:
            if length <= len(data) and (error.start, error.reason) == (0, "unexpected end of data"):
                return data[:-length].decode(errors="replace")
    if data[-2:-1] == b"\xed" and b"\xa0" <= data[-1:] <= b"\xbf":
        return data[:-2].decode(errors="replace")  # half of a pair of UTF-16: a part as well, of three bytes
    return data.decode(errors="replace")


def openai_wire(asked: Asked) -> bytes:
    end = openai_event(b"", "stop" if asked.limit is None else "length")
    return b"".join([*map(openai_event, asked.said), end, DONE])


def tgi_wire(asked: Asked) -> bytes:
    if asked.limit is None:
        return b"".join([*map(tgi_event, asked.said), tgi_event("</s>", ("eos_token", len(asked.said) + 1))])
    *events, last = asked.said
    return b"".join([*map(tgi_event, events), tgi_event(last, ("length", asked.limit))])


@contextlib.asynccontextmanager
async def upstream(engine: str) -> AsyncIterator[Served]:
    """A running server in front of an upstream that says the texts of all numbers."""
    wire = openai_wire if engine == OPENAI else tgi_wire

    def answer(number: int) -> Sequence[bytes]:
        asked, chance = drawn(number, engine)
        events = wire(asked)

        def places(most: int, length: int) -> list[int]:
            return [chance.randint(0, length) for _ in range(chance.choice((0, 3, most)))]

        sent = in_chunks(events, places(len(events) // 8, len(events)))
        return cut(sent, places(len(sent) // 16, len(sent)))

    path = "/v1/completions" if engine == OPENAI else "/generate_stream"
    async with (
        raw_upstream(answer, path=path) as url,
        serve("--upstream", url + ("/v1" if engine == OPENAI else "")) as served,
    ):
        await served.becomes("ready")
        yield served


async def answers(served: Served, inputs: str, asked: Asked) -> list[tuple[str, str]]:
    """The text and what ended it: as streamed, as told at the end of the stream, and whole."""
    parameters = {
        "max_new_tokens": asked.limit or 400,
        "stop": asked.stops,
        "include_stop": asked.include_stop,
    }
    body: dict[str, Any] = {"inputs": inputs, "parameters": {**parameters, "details": True}}
    async with served.http.post(f"{served.url}/generate_stream", json=body) as response:
        lines = (await response.read()).split(b"\n\n")
        assert response.status == 200, lines
    assert lines.pop() == b""
    events = [json.loads(line.removeprefix(b"data: ")) for line in lines if line != b":"]
    last = events[-1]
    assert last["details"] is not None, last
    streamed = "".join(event["token"]["text"] for event in events)
    status, whole = await served.post("/generate", body)
    assert status == 200, whole
    return [
        (streamed, _end(last["details"])),
        (last["generated_text"], _end(last["details"])),
        (whole["generated_text"], _end(whole["details"])),
    ]


def _end(details: dict[str, Any]) -> str:
    stop, reason = details["stop_sequence"], details["finish_reason"]
    assert (stop is None) == (reason != "stop_sequence")
    return reason if stop is None else f"stop {stop}"


async def all_right(
    served: Served, texts: Sequence[Asked], inputs: Callable[[Asked], str], engine: str
) -> None:
    """Ask for all texts, some at once."""
    waiting = iter(texts)

    async def ask_on() -> None:
        for asked in waiting:
            right = expected(asked)
            got = await answers(served, inputs(asked), asked)
            assert got == [right] * 3, f"text {asked.number} of seed {SEED} by {engine}: {asked}"

    tasks = [asyncio.ensure_future(ask_on()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.of_case(32)
@pytest.mark.parametrize("engine", [OPENAI, TGI])
async def test_random_texts_from_an_upstream(engine: str, count: list[str]) -> None:
    texts = [drawn(number, engine)[0] for number in range(TEXTS)]
    async with upstream(engine) as served:
        await all_right(served, texts, lambda asked: f"Text {asked.number}", engine)
    stopped = sum(expected(asked)[1].startswith("stop ") for asked in texts)
    assert 0.2 * TEXTS < stopped < 0.8 * TEXTS
    count.append(f"{engine}: {TEXTS} random texts right, streamed and whole; {stopped} ended by a stop")


@pytest.mark.of_case(32)
@pytest.mark.parametrize("engine", [LLAMA_CPP])
async def test_random_texts_of_the_embedded_engine(engine: str, tmp_path: Path, count: list[str]) -> None:
    texts = [drawn(number, engine)[0] for number in range(TEXTS // 10)]
    cases = [Case(32, asked.tokens, asked.stops, "") for asked in texts]
    async with embedded(tmp_path, cases) as spoken:
        play = spoken.play
        await all_right(spoken.served, texts, lambda asked: play(cases[asked.number]), engine)
    stopped = sum(expected(asked)[1].startswith("stop ") for asked in texts)
    count.append(f"{engine}: {len(texts)} random texts right, streamed and whole; {stopped} ended by a stop")
