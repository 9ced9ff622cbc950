import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest

from assistant.conversation import Failure, FinishReason, Source, Status
from assistant.events import Cited, Delta, End, ReplyEvent, Reset
from assistant.web.events import EventStream, encode, position_of


class Client:
    """The server's side of ASGI: `left.set()` disconnects the client, `heard` is what it received."""

    def __init__(self) -> None:
        self.heard = b""
        self.sent: list[MutableMapping[str, Any]] = []
        self.news = asyncio.Event()
        self.left = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)
        self.heard += message.get("body", b"")
        self.news.set()

    async def hears(self, data: bytes) -> None:
        async with asyncio.timeout(20):
            while data not in self.heard:
                self.news.clear()
                await self.news.wait()


def test_sources_have_no_event_id() -> None:
    source = Source("len", "len(obj)", "Python", "3.11", "PSF-2.0", "len.__doc__", "", "a\nb\u2028c")
    name, data, *rest = encode(Cited((source,))).decode().split("\n")
    assert (name, rest) == ("event: sources", ["", ""])
    assert json.loads(data.removeprefix("data: "))["sources"][0]["quote"] == "a\nb\u2028c"


@pytest.mark.parametrize(
    ("event", "written"),
    [
        (Delta("a\r\n\u2028b", 5), ("5", "delta", {"text": "a\r\n\u2028b"})),
        (Reset("", 0), ("0", "reset", {"text": ""})),
        (
            End(Status.DONE, FinishReason.LENGTH, None, 7),
            ("7!", "done", {"status": "done", "finish_reason": "length"}),
        ),
        (End(Status.STOPPED, None, None, 7), ("7!", "done", {"status": "stopped", "finish_reason": None})),
        (
            End(Status.STOPPED, None, Failure("deleted", "Gone."), 7),
            ("7!", "done", {"status": "stopped", "finish_reason": None, "message": "Gone."}),
        ),
        (End(Status.FAILED, None, Failure("t", "m"), 7), ("7!", "error", {"type": "t", "message": "m"})),
    ],
)
def test_an_event_is_three_lines(event: ReplyEvent, written: tuple[str, str, dict[str, str]]) -> None:
    lines = encode(event).decode().split("\n")
    assert lines[:2] == [f"id: {written[0]}", f"event: {written[1]}"]
    assert json.loads(lines[2].removeprefix("data: ")) == written[2]
    assert lines[3:] == ["", ""]


def test_only_our_event_ids_have_a_position() -> None:
    assert [position_of(text) for text in (None, "0", "12", "12!")] == [0, 0, 12, 12]
    for text in ("", "!", "-1", "+1", " 1", "1 ", "1.0", "x", "1!!", "9" * 16):
        assert position_of(text) is None, text


async def test_silence_is_filled_with_pings_and_the_stream_ends_with_its_events() -> None:
    go_on = asyncio.Event()

    async def events() -> AsyncIterator[ReplyEvent]:
        yield Delta("a", 1)
        await go_on.wait()
        yield End(Status.DONE, FinishReason.EOS_TOKEN, None, 1)

    client = Client()
    answering = asyncio.create_task(
        EventStream(events(), ping_seconds=0.01)({"type": "http"}, client.receive, client.send)
    )
    await client.hears(b"\n\n: ping\n\n: ping\n\n")
    go_on.set()
    async with asyncio.timeout(20):
        await answering
    assert b"event: done" in client.heard
    assert client.sent[-1] == {"type": "http.response.body", "body": b""}
    assert (b"x-accel-buffering", b"no") in client.sent[0]["headers"]


async def test_a_reader_that_leaves_is_no_longer_written_to() -> None:
    closed = asyncio.Event()

    async def events() -> AsyncIterator[ReplyEvent]:
        try:
            yield Delta("a", 1)
            await asyncio.Event().wait()
        finally:
            closed.set()

    client = Client()
    answering = asyncio.create_task(EventStream(events())({"type": "http"}, client.receive, client.send))
    await client.hears(b"delta")
    client.left.set()
    async with asyncio.timeout(20):
        await answering
        await closed.wait()
    assert client.sent[-1].get("more_body") is True
