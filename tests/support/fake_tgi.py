"""A server of TGI's protocol with scripted answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.support.fake_server import FakeServer

REACHED = "reached"
"""A step of an answer: `FakeTGI.reached` is set."""


def token(text: str, *, special: bool = False, id: int = 1, logprob: float | None = None) -> dict[str, Any]:
    """A token event."""
    return {"index": 1, "token": {"id": id, "text": text, "logprob": logprob, "special": special}}


def last(text: str = "", finish_reason: str = "eos_token", **details: Any) -> dict[str, Any]:
    """The event that ends a generation."""
    more = {"finish_reason": finish_reason, "generated_tokens": 3, "seed": 7, "input_length": 11, **details}
    return {**token(text), "generated_text": "all", "details": more}


class FakeTGI(FakeServer):
    """`info`, `templated`, `spans` and `health` are the answers of /info, /chat_tokenize, /tokenize and
    /health. `answers` are the next generations: a `web.Response`, or a list of events, raw bytes, an
    `asyncio.Event` to wait for, and pauses in seconds. Without `templated` there is no /chat_tokenize;
    without `spans` /tokenize only counts."""

    def __init__(self) -> None:
        self.info: dict[str, Any] | None = {"model_id": "fake", "max_total_tokens": 4096}
        self.steered: dict[str, dict[str, Any]] = {}  # by method: the new /info after a request to /download
        self.beginnings: list[str] = []  # of prompts, sent to /prefix
        self.answers: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.reached = asyncio.Event()
        self.left = asyncio.Event()  # a client has disconnected during an answer
        self.tokens_of_a_byte = 0.25
        self.spans: Any = None
        self.templated: Any = None
        self.chats: list[dict[str, Any]] = []
        self.health = 200

    async def _info(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        if self.info is None:
            return web.Response(status=502, text="<html>bad gateway</html>")
        return web.json_response(self.info)

    async def _download(self, request: web.Request) -> web.Response:
        if request.method not in self.steered:
            return web.Response(status=404)
        self.info = self.steered[request.method]
        return web.Response(status=202)

    async def _tokenize(self, request: web.Request) -> web.Response:
        text = (await request.json())["inputs"]
        if isinstance(self.spans, web.Response):
            return self.spans
        if self.spans is not None:
            return web.json_response(self.spans)
        return web.json_response([{"id": 0}] * int(len(text.encode()) * self.tokens_of_a_byte))

    async def _chat_tokenize(self, request: web.Request) -> web.Response:
        self.chats.append(await request.json())
        if self.templated is None:
            return web.Response(status=404)
        return web.json_response(self.templated)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=self.health)

    async def _prefix(self, request: web.Request) -> web.Response:
        self.beginnings.append((await request.json())["inputs"])
        return web.Response(status=202)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        answer = self.answers.pop(0)
        if isinstance(answer, web.Response):
            return answer
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for part in answer:
                if isinstance(part, asyncio.Event):
                    await part.wait()
                elif isinstance(part, float):
                    await asyncio.sleep(part)
                elif part == REACHED:
                    self.reached.set()
                elif part is ConnectionResetError:
                    assert request.transport is not None
                    request.transport.abort()
                    break
                else:
                    data = part if isinstance(part, bytes) else f"data: {json.dumps(part)}\n\n".encode()
                    await response.write(data)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        return response

    def routes(self) -> dict[str, Any]:
        return {
            "GET /info": self._info,
            "POST /tokenize": self._tokenize,
            "PUT /prefix": self._prefix,
            "* /download": self._download,
            "POST /chat_tokenize": self._chat_tokenize,
            "GET /health": self._health,
            "POST /": self._generate,
            "POST /generate_stream": self._generate,
        }

    def running(self) -> FakeTGI:
        return self
