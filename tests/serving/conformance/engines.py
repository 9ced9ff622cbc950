"""A running `python -m serving` in front of each engine, and how it is made to say a case's tokens."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.serving.conformance.cases import LLAMA_CPP, OPENAI, TGI, Case
from tests.serving.conftest import Served, serve
from tests.support.fake_tgi import REACHED, FakeTGI
from tests.support.fake_upstream import DONE, FakeUpstream, usage
from tests.support.scripted_gguf import Script, TokenText, prompt, write_scripted_gguf
from tests.support.tiny_gguf import END

FOR_EVER = "for-ever"
"""The name of a script of the embedded engine that never ends."""


@dataclass
class Upstream:
    """A server elsewhere that a test plays."""

    requests: list[dict[str, Any]]
    reached: asyncio.Event
    """It waits as it was told to, and has sent what comes before."""
    left: asyncio.Event
    """Its client went away in the middle of an answer."""
    event: Callable[[bytes], bytes]
    """An event that has just these bytes for a text."""
    answer: Callable[..., None]
    """What it answers from now on: events, and what to wait for between them."""


@dataclass
class Spoken:
    """An engine that says what it is told to."""

    name: str
    served: Served
    play: Callable[[Case], str]
    """Have a case said by the answers to come; returns the prompt that has to be sent."""
    upstream: Upstream | None = None

    def steps(self, case: Case) -> list[Sequence[TokenText]]:
        """What the model says, cut as the engine tells it: the tokens of each event."""
        if self.name == LLAMA_CPP:
            return embedded_steps(case.tokens, case.limit)
        return [step if isinstance(step, tuple) else (step,) for step in case.says]

    def counted(self, case: Case) -> int:
        """How many tokens a case takes, the one that ends the text included."""
        if case.stop is None:
            return case.limit or len(case.tokens) + 1
        said, count = b"", 0
        least = case.asked.get("min_new_tokens", 0)
        for step in self.steps(case):
            # A step of several is one to who is told no tokens.
            count += 1 if self.name == OPENAI else len(step)
            if count > least:
                said += b"".join(told if isinstance(told, bytes) else told.encode() for told in step)
            if case.stop.encode() in said:
                break
        return count


def spelled(step: Sequence[TokenText]) -> bytes:
    """The bytes of some tokens; a mark has none."""
    return b"".join(told for told in step if isinstance(told, bytes))


def embedded_steps(tokens: Sequence[TokenText], limit: int | None) -> list[list[TokenText]]:
    """Tokens as llama.cpp tells them: those that end inside a character with the one that completes it, and
    each alone where the limit comes before."""
    steps: list[list[TokenText]] = [[]]
    for told in tokens[:limit]:
        steps[-1].append(told)
        if isinstance(told, str) or not _ends_within(spelled(steps[-1])):
            steps.append([])
    if limit is not None and limit <= len(tokens):
        steps += [[told] for told in steps.pop()]
    return [step for step in steps if step]


def _ends_within(data: bytes) -> bool:
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            return back < {0xC0: 2, 0xD0: 2, 0xE0: 3, 0xF0: 4}.get(byte & 0xF0, 1)
    return False


@contextlib.asynccontextmanager
async def embedded(directory: Path, cases: Sequence[Case]) -> AsyncIterator[Spoken]:
    """The embedded engine. One model says all cases: what follows is chosen by the mark in the prompt."""
    scripts = {
        f"case-{place}": Script(case.tokens, given=1 + len(case.after.encode()))
        for place, case in enumerate(cases)
    }
    scripts[FOR_EVER] = Script([b"\n"], endless=True)
    model = write_scripted_gguf(directory / "scripted.gguf", scripts, context=8192)
    names = {id(case): f"case-{place}" for place, case in enumerate(cases)}
    async with serve("--model", str(model), "--threads", "1") as served:
        await served.becomes("ready")
        yield Spoken(LLAMA_CPP, served, lambda case: prompt(names[id(case)]) + case.after)


@contextlib.asynccontextmanager
async def openai() -> AsyncIterator[Spoken]:
    """An upstream of OpenAI's protocol."""
    async with FakeUpstream() as fake:
        fake.model_list = [{"id": "fake", "max_model_len": 8192, "owned_by": "vllm"}]
        upstream = Upstream(fake.requests, fake.streaming, fake.disconnected, openai_event, fake.answer)
        async with serve("--upstream", fake.url) as served:
            await served.becomes("ready")
            yield Spoken(OPENAI, served, functools.partial(_play, upstream, _openai_answer), upstream)


@contextlib.asynccontextmanager
async def tgi() -> AsyncIterator[Spoken]:
    """An upstream of TGI's protocol."""
    async with FakeTGI().running() as fake:

        def answer(*steps: Any) -> None:
            # Each waits once; one request is made for each way to ask.
            gated = [
                part for step in steps for part in ([step] if isinstance(step, bytes) else [REACHED, step])
            ]
            fake.answers[:] = [gated] * 10

        upstream = Upstream(fake.requests, fake.reached, fake.left, tgi_event, answer)
        async with serve("--upstream", fake.url) as served:
            await served.becomes("ready")
            yield Spoken(TGI, served, functools.partial(_play, upstream, _tgi_answer), upstream)


def _play(upstream: Upstream, answer: Callable[[Case], Sequence[bytes]], case: Case) -> str:
    upstream.answer(*answer(case))
    return "The question." + case.after


def _openai_answer(case: Case) -> list[bytes]:
    steps = [step if isinstance(step, tuple) else (step,) for step in case.says]
    reason, count = "stop", len(case.tokens) + 1
    if case.reason == "length":
        steps, reason, count = steps[: case.limit], "length", case.limit or 0
    *events, last = map(spelled, steps)
    end = (
        [openai_event(last, reason)]
        if case.ends_with_last
        else [openai_event(last), openai_event(b"", reason)]
    )
    return [*map(openai_event, events), *end, usage(7, count), DONE]


def openai_event(data: bytes, finish_reason: str | None = None) -> bytes:
    """One event with just these bytes in its text, whatever they are."""
    return b'data: {"choices": [{"index": 0, "text": %b, "finish_reason": %b}]}\n\n' % (
        in_json(data),
        json.dumps(finish_reason).encode(),
    )


def _tgi_answer(case: Case) -> list[bytes]:
    tokens, reason, count = case.tokens, "eos_token", len(case.tokens) + 1
    if case.reason == "length":
        tokens, reason, count = tokens[: case.limit], "length", case.limit or 0
    if reason == "eos_token" and not case.ends_with_last:
        tokens = [*tokens, END]
    return [*map(tgi_event, tokens[:-1]), tgi_event(tokens[-1], (reason, count))]


def tgi_event(told: TokenText, end: tuple[str, int] | None = None) -> bytes:
    """The event of a token, with the reason and the number of tokens at the end."""
    details = b"null"
    if end is not None:
        details = json.dumps(
            {"finish_reason": end[0], "generated_tokens": end[1], "seed": None, "input_length": 7}
        ).encode()
    return (
        b'data: {"index": 1, "token": {"id": 5, "text": %b, "logprob": -0.5, "special": %b}, '
        b'"generated_text": %b, "details": %b}\n\n'
        % (
            in_json(told if isinstance(told, bytes) else told.encode()),
            b"false" if isinstance(told, bytes) else b"true",
            b"null" if end is None else b'"all"',
            details,
        )
    )


def in_json(data: bytes) -> bytes:
    """As a string of JSON, but for the bytes that JSON may not have: they stand as they are."""
    text = data.decode("utf-8", "surrogateescape")
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogateescape")
