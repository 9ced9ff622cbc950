"""Random texts, stops and cuts through the running server: every byte must be right, streamed and whole.

The expected text is computed here from the rule alone, with no code of the server. The environment variables
RANDOM_TEXTS and RANDOM_SEED choose more texts, or different ones.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from tests.serving.conftest import Served, events_of, serve
from tests.serving.test_stopping import cut
from tests.support.fake_upstream import DONE

TEXTS = int(os.environ.get("RANDOM_TEXTS", "500"))
"""For each upstream. The embedded engine, which computes its tokens, gets a quarter as many."""
SEED = os.environ.get("RANDOM_SEED", "1")
AT_ONCE = 8

LINES = ["\r\n", "\r", "\n", "\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\0", "\n\n"]
WORDS = [
    *("Human", "Assistant", ":", "-----", "a", "b", "aab", "data: ", "[DONE]", '"', "\\", "\\u00e4", "{}"),
    "用户",
]
WIDE = ["🦉", "🏳️‍🌈", "é", "e\u0301", "ß", "한", "\U0010ffff", "\ue000", "\ufeff", "\ufffd"]


@dataclass(frozen=True)
class RandomText:
    """A text as the bytes of its tokens, and the parameters of the request for it."""

    number: int
    tokens: Sequence[bytes]
    stops: Sequence[str]
    include_stop: bool
    limit: int | None  # the token limit of the request; None: no limit that the text reaches

    @property
    def generated(self) -> Sequence[bytes]:
        return self.tokens[: self.limit]


def drawn(number: int, engine: str) -> tuple[RandomText, Random]:
    """The text of this number, and the random generator after it."""
    chance = Random(f"{SEED} {engine} {number}")
    pieces = [_piece(chance) for _ in range(chance.choice((0, 1, 3, 10, 40)))]
    data = "".join(pieces).encode()
    if chance.random() < 0.3:  # bytes that are not text
        for _ in range(chance.randint(1, 6)):
            place = chance.randint(0, len(data))
            inserted = chance.randbytes(chance.randint(1, 3))
            data = data[:place] + inserted + data[place + chance.randint(0, 2) :]
    count = chance.choice((0, 1, 1, 2, 3, 5, 16))
    stops = [_stop(chance, pieces) for _ in range(count)]
    cuts = [chance.randint(0, len(data)) for _ in range(chance.choice((0, 2, len(data) // 4, len(data))))]
    tokens = [token for token in cut(data, cuts) if token]
    limit = chance.randint(1, len(tokens)) if tokens and chance.random() < 0.3 else None
    return RandomText(number, tokens, stops, chance.random() < 0.2, limit), chance


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
    """Usually a part of the text, or nearly one."""
    text = "".join(pieces)
    if text and chance.random() < 0.6:
        begin = chance.randrange(len(text))
        stop = text[begin : begin + chance.choice((1, 2, 5, 30))]
        return stop if chance.random() < 0.5 else stop + _piece(chance)
    return "".join(_piece(chance) for _ in range(chance.randint(1, 4)))


def expected(text: RandomText) -> tuple[str, str]:
    """The text and its end: the stop that completes first, and of several the longest."""
    data, stops = b"".join(text.generated), [(stop.encode(), stop) for stop in text.stops]
    for end in range(len(data) + 1):
        complete = [pair for pair in stops if data[:end].endswith(pair[0])]
        if complete:
            raw, stop = max(complete, key=lambda pair: len(pair[0]))
            return as_text(data[: end - len(raw)]) + (stop if text.include_stop else ""), f"stop {stop}"
    return as_text(data), "eos_token" if text.limit is None else "length"


def as_text(data: bytes) -> str:
    """Decoded without an incomplete character at the end. Other invalid bytes are replaced."""
    for length in (1, 2, 3):
        try:
            data[-length:].decode()
        except UnicodeDecodeError as error:
            if length <= len(data) and (error.start, error.reason) == (0, "unexpected end of data"):
                return data[:-length].decode(errors="replace")
    if data[-2:-1] == b"\xed" and b"\xa0" <= data[-1:] <= b"\xbf":
        return data[:-2].decode(errors="replace")  # half of a surrogate pair is incomplete too
    return data.decode(errors="replace")


def openai_wire(text: RandomText) -> bytes:
    end = openai_event(b"", "stop" if text.limit is None else "length")
    return b"".join([*map(openai_event, text.generated), end, DONE])


def tgi_wire(text: RandomText) -> bytes:
    tokens = [*text.generated, "</s>"] if text.limit is None else text.generated
    end = ("eos_token" if text.limit is None else "length", len(tokens))
    return b"".join([*map(tgi_event, tokens[:-1]), tgi_event(tokens[-1], end)])


@contextlib.asynccontextmanager
async def upstream(engine: str) -> AsyncIterator[Served]:
    """A running server and its upstream, which generates the text of the number in the prompt."""
    wire = openai_wire if engine == OPENAI else tgi_wire

    def answer(number: int) -> Sequence[bytes]:
        text, chance = drawn(number, engine)
        events = wire(text)

        def places(most: int, length: int) -> list[int]:
            return [chance.randint(0, length) for _ in range(chance.choice((0, 3, most)))]

        sent = in_chunks(events, places(len(events) // 8, len(events)))
        return cut(sent, places(len(sent) // 16, len(sent)))

    path = "/v1/completions" if engine == OPENAI else "/generate_stream"
    async with (
        raw_upstream(answer, path=path) as url,
        serve("--upstream", url + ("/v1" if engine == OPENAI else ""), state="ready") as served,
    ):
        yield served


async def answers(served: Served, inputs: str, text: RandomText) -> list[tuple[str, str]]:
    """The text and its end: as streamed, as repeated at the end of the stream, and as one answer."""
    parameters: dict[str, Any] = {"max_new_tokens": text.limit or 400, "stop": text.stops, "details": True}
    body = {"inputs": inputs, "parameters": {**parameters, "include_stop": text.include_stop}}
    events = events_of(await served.streamed("/generate_stream", body))
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
    served: Served, texts: Sequence[RandomText], inputs: Callable[[RandomText], str], engine: str
) -> None:
    """Request all texts, several at once."""
    waiting = iter(texts)

    async def request_next() -> None:
        for text in waiting:
            got = await answers(served, inputs(text), text)
            assert got == [expected(text)] * 3, f"text {text.number} of seed {SEED} by {engine}: {text}"

    tasks = [asyncio.ensure_future(request_next()) for _ in range(AT_ONCE)]
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
        await all_right(served, texts, lambda text: f"Text {text.number}", engine)
    stopped = sum(expected(text)[1].startswith("stop ") for text in texts)
    assert 0.2 * TEXTS < stopped < 0.8 * TEXTS
    count.append(f"{engine}: {TEXTS} random texts right, streamed and whole; {stopped} ended by a stop")


@pytest.mark.of_case(32)
@pytest.mark.parametrize("engine", [LLAMA_CPP])
async def test_random_texts_of_the_embedded_engine(engine: str, tmp_path: Path, count: list[str]) -> None:
    texts = [drawn(number, engine)[0] for number in range(TEXTS // 4)]
    cases = [Case(32, text.tokens, text.stops, "") for text in texts]
    async with embedded(tmp_path, cases) as scripted:
        play = scripted.play
        await all_right(scripted.served, texts, lambda text: play(cases[text.number]), engine)
    stopped = sum(expected(text)[1].startswith("stop ") for text in texts)
    count.append(f"{engine}: {len(texts)} random texts right, streamed and whole; {stopped} ended by a stop")
