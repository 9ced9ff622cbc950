"""An OpenAI-compatible server with scripted answers: any bytes in any pieces, stalls, resets, nonsense.

In a test: `async with FakeUpstream() as upstream: upstream.answer(*upstream.text("Hello", " you"))`.
On its own: `python -m tests.support.fake_upstream --port 0 --rate 20 --text "..."` prints its address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.fake_server import FakeServer

DONE = b"data: [DONE]\n\n"
RESET = "reset"
"""A step: the connection breaks off."""
NEVER = "never"
"""A step: the server sends nothing more."""

Step = bytes | asyncio.Event | float | str
"""Bytes to send as one piece, an event to wait for, a pause in seconds, `RESET` or `NEVER`."""


def data(event: Any) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def piece(text: str, finish_reason: str | None = None, **more: Any) -> bytes:
    """One event of a completion."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return data({"id": "cmpl-1", "object": "text_completion", "choices": [choice], **more})


def usage(prompt_tokens: int, completion_tokens: int) -> bytes:
    counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return data({"id": "cmpl-1", "object": "text_completion", "choices": [], "usage": counts})


def text(*pieces: str, finish_reason: str = "stop") -> list[Step]:
    """A complete answer: these pieces, the end, the counts."""
    return [*map(piece, pieces), piece("", finish_reason), usage(7, len(pieces)), DONE]


@dataclass
class _Answer:
    steps: Sequence[Step]
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)


class FakeUpstream(FakeServer):
    """Answers each completion with the next `answer`, and repeats the last one.

    `requests` are the received bodies. `disconnected` is set when a client disconnects before the end of its
    answer, `streaming` when the last step before a wait has been sent. `model_list` is the list at
    /v1/models, or a status. `props` and `tokens_of_a_mark` are llama-server's answers at /props and
    /tokenize.
    """

    path = "/v1"

    def __init__(self, port: int = 0) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.disconnected = asyncio.Event()
        self.streaming = asyncio.Event()
        self.model_list: Any = [{"id": "fake", "object": "model", "max_model_len": 4096}]
        self.props: dict[str, Any] | None = None
        self.tokens_of_a_mark: Any = [1]
        self._port = port
        self._answers: list[_Answer] = []
        self._current = _Answer([])

    def answer(self, *steps: Step, status: int = 200, **more: Any) -> None:
        """Add an answer for the next completion."""
        self._answers.append(_Answer(steps, status, **more))

    def routes(self) -> dict[str, Any]:
        return {
            "GET /v1/models": self._models,
            "POST /v1/completions": self._complete,
            "POST /v1/chat/completions": self._complete,
            "GET /props": self._props,
            "POST /tokenize": self._tokenize,
        }

    async def _models(self, request: web.Request) -> web.Response:
        if isinstance(self.model_list, int):
            return web.Response(status=self.model_list, text="<html>no</html>", content_type="text/html")
        return web.json_response({"object": "list", "data": self.model_list})

    async def _props(self, request: web.Request) -> web.Response:
        return web.Response(status=404) if self.props is None else web.json_response(self.props)

    async def _tokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"tokens": self.tokens_of_a_mark})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        if self._answers:
            self._current = self._answers.pop(0)
        return await self.send(request, self._current)

    async def send(self, request: web.Request, answer: _Answer) -> web.StreamResponse:
        headers = {**answer.headers, "Content-Type": answer.content_type}
        response = web.StreamResponse(status=answer.status, headers=headers)
        try:
            if answer.steps and (answer.steps[0] == NEVER or isinstance(answer.steps[0], asyncio.Event)):
                await self._wait(answer.steps[0])  # before the headers
            await response.prepare(request)
            for step in answer.steps:
                if isinstance(step, bytes):
                    await response.write(step)
                elif step == NEVER or isinstance(step, asyncio.Event):
                    await self._wait(step)
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                elif request.transport is not None:
                    request.transport.abort()
            await response.write_eof()
        except (asyncio.CancelledError, ConnectionError):
            self.disconnected.set()
            raise
        return response

    async def _wait(self, step: Step) -> None:
        self.streaming.set()
        await (step if isinstance(step, asyncio.Event) else asyncio.Event()).wait()


class Talker(FakeUpstream):
    """Answers every completion with the same text, at a rate in words a second."""

    def __init__(self, words: str, rate: float, port: int) -> None:
        super().__init__(port)
        self._words = re.findall(r"\s*\S+|\s+$", words)
        self._rate = rate

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        words = self._words[: body.get("max_tokens") or None]
        steps: list[Step] = []
        for word in words:
            steps += [1 / self._rate, piece(word)] if self._rate else [piece(word)]
        finish_reason = "stop" if len(words) == len(self._words) else "length"
        counts = usage(len(body["prompt"].split()), len(words))
        return await self.send(request, _Answer([*steps, piece("", finish_reason), counts, DONE]))


class Clock(FakeUpstream):
    """Answers every completion with times: each token is the time at which it was sent, in microseconds of
    the machine's monotonic clock, so that its reader can tell how long it took."""

    def __init__(self, tokens: int, rate: float, port: int) -> None:
        super().__init__(port)
        self._tokens = tokens
        self._rate = rate

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(self._tokens):
            await asyncio.sleep(begun + (number + 1) / self._rate - loop.time())
            await response.write(piece(f"{time.monotonic_ns() // 1000} "))
        await response.write(piece("", "stop") + usage(7, self._tokens) + DONE)
        return response


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.fake_upstream")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, default=20, help="words a second; 0: as fast as can be")
    parser.add_argument("--text", default="A short answer, word by word.")
    parser.add_argument("--clock", type=int, metavar="TOKENS", help="say the time instead, so many times")
    options = parser.parse_args()
    if options.clock is None:
        say: FakeUpstream = Talker(options.text, options.rate, options.port)
    else:
        say = Clock(options.clock, options.rate, options.port)
    async with say as upstream:
        print(upstream.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
