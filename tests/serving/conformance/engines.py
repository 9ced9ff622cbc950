"""A running `python -m serving` with each engine, which is made to generate the tokens of a case."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
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

FOR_EVER = "for-ever"  # the name of the embedded engine's script that never ends


@dataclass
class Upstream:
    """An upstream that a test controls."""

    requests: list[dict[str, Any]]
    reached: asyncio.Event  # set when it has reached a step that waits, and has sent all steps before
    left: asyncio.Event  # set when its client has disconnected during an answer
    event: Callable[[bytes], bytes]  # writes an event whose text has exactly these bytes
    answer: Callable[..., None]  # sets its next answers: events, and what to wait for between them


@dataclass
class ScriptedEngine:
    """An engine that generates the tokens of a case."""

    name: str
    served: Served
    play: Callable[[Case], str]  # prepares the next answers for a case, and returns the prompt to send
    upstream: Upstream | None = None

    def steps(self, case: Case) -> list[Sequence[TokenText]]:
        """The tokens of each event, as the engine reports them."""
        if self.name == LLAMA_CPP:
            return embedded_steps(case.tokens, case.limit)
        return [step if isinstance(step, tuple) else (step,) for step in case.says]

    def counted(self, case: Case) -> int:
        """How many tokens a case takes, including the one that ends the text."""
        if case.stop is None:
            return case.limit or len(case.tokens) + 1
        said, count = b"", 0
        least = case.asked.get("min_new_tokens", 0)
        for step in self.steps(case):
            # OpenAI's protocol reports no tokens, so a step of several counts as one.
            count += 1 if self.name == OPENAI else len(step)
            if count > least:
                said += b"".join(told if isinstance(told, bytes) else told.encode() for told in step)
            if case.stop.encode() in said:
                break
        return count


def spelled(step: Sequence[TokenText]) -> bytes:
    """The bytes of some tokens; a special token has none."""
    return b"".join(told for told in step if isinstance(told, bytes))


def embedded_steps(tokens: Sequence[TokenText], limit: int | None) -> list[list[TokenText]]:
    """Tokens as llama.cpp reports them: one that ends inside a character comes with the one that completes it
    or, if the limit comes first, alone."""
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
async def embedded(directory: Path, cases: Sequence[Case]) -> AsyncIterator[ScriptedEngine]:
    """The embedded engine. One model generates all cases: a special token in the prompt selects the case."""
    names = {id(case): f"case-{place}" for place, case in enumerate(cases)}
    scripts = {names[id(case)]: Script(case.tokens, given=1 + len(case.after.encode())) for case in cases}
    scripts[FOR_EVER] = Script([b"\n"], endless=True)
    model = write_scripted_gguf(directory / "scripted.gguf", scripts, context=8192)
    async with serve("--model", str(model), "--threads", "1", state="ready") as served:
        yield ScriptedEngine(LLAMA_CPP, served, lambda case: prompt(names[id(case)]) + case.after)


@contextlib.asynccontextmanager
async def openai() -> AsyncIterator[ScriptedEngine]:
    """An upstream that speaks OpenAI's protocol."""
    async with FakeUpstream() as fake:
        fake.model_list = [{"id": "fake", "max_model_len": 8192, "owned_by": "vllm"}]
        upstream = Upstream(fake.requests, fake.streaming, fake.disconnected, openai_event, fake.answer)
        async with serve("--upstream", fake.url, state="ready") as served:
            yield ScriptedEngine(OPENAI, served, functools.partial(_play, upstream, _openai_answer), upstream)


@contextlib.asynccontextmanager
async def tgi() -> AsyncIterator[ScriptedEngine]:
    """An upstream that speaks TGI's protocol."""
    async with FakeTGI().running() as fake:

        def answer(*steps: Any) -> None:
            # The test asks in several ways: each of its requests gets this answer.
            gated = [[step] if isinstance(step, bytes) else [REACHED, step] for step in steps]
            fake.answers[:] = [list(itertools.chain(*gated))] * 10

        upstream = Upstream(fake.requests, fake.reached, fake.left, tgi_event, answer)
        async with serve("--upstream", fake.url, state="ready") as served:
            yield ScriptedEngine(TGI, served, functools.partial(_play, upstream, _tgi_answer), upstream)


def _play(upstream: Upstream, answer: Callable[[Case], Sequence[bytes]], case: Case) -> str:
    upstream.answer(*answer(case))
    return "The question." + case.after


def _openai_answer(case: Case) -> list[bytes]:
    steps = [spelled(step if isinstance(step, tuple) else (step,)) for step in case.says]
    reason, count = "stop", len(case.tokens) + 1
    if case.reason == "length":
        steps, reason, count = steps[: case.limit], "length", case.limit or 0
    if not case.ends_with_last:
        steps.append(b"")
    return [*map(openai_event, steps[:-1]), openai_event(steps[-1], reason), usage(7, count), DONE]


def openai_event(data: bytes, finish_reason: str | None = None) -> bytes:
    """One event whose text has exactly these bytes."""
    event = b'data: {"choices": [{"index": 0, "text": %b, "finish_reason": %b}]}\n\n'
    return event % (in_json(data), json.dumps(finish_reason).encode())


def _tgi_answer(case: Case) -> list[bytes]:
    tokens, reason, count = case.tokens, "eos_token", len(case.tokens) + 1
    if case.reason == "length":
        tokens, reason, count = tokens[: case.limit], "length", case.limit or 0
    if reason == "eos_token" and not case.ends_with_last:
        tokens = [*tokens, END]
    return [*map(tgi_event, tokens[:-1]), tgi_event(tokens[-1], (reason, count))]


def tgi_event(told: TokenText, end: tuple[str, int] | None = None) -> bytes:
    """The event of a token. `end` is the finish reason and the number of tokens."""
    details = None
    if end is not None:
        details = {"finish_reason": end[0], "generated_tokens": end[1], "seed": None, "input_length": 7}
    text, special = (told, b"false") if isinstance(told, bytes) else (told.encode(), b"true")
    token = b'{"id": 5, "text": %b, "logprob": -0.5, "special": %b}' % (in_json(text), special)
    rest = json.dumps({"generated_text": end and "all", "details": details}).encode()
    return b'data: {"index": 1, "token": %b, %b\n\n' % (token, rest[1:])


def in_json(data: bytes) -> bytes:
    """A JSON string. Bytes that JSON does not allow are left unchanged."""
    text = data.decode("utf-8", "surrogateescape")
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogateescape")
