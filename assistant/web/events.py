"""A reply's events as Server-Sent Events.

The id of an event is the number of code points sent so far, so that a resume means the same after a
reload or a restart; the terminal event's id ends in `!`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import asdict

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from assistant.conversation import Status
from assistant.events import Cited, Delta, End, ReplyEvent, Reset, Waiting

PING_SECONDS = 15.0
EVENT_ID = re.compile(r"([0-9]{1,15})!?")


def position_of(event_id: str | None) -> int | None:
    """The code point after which a listener goes on; None for an id that we did not give."""
    if event_id is None:
        return 0
    match = EVENT_ID.fullmatch(event_id)
    return int(match[1]) if match else None


class EventStream(Response):
    """A response of its own kind: the events, a comment when nothing came for a while, an end when they end.

    Written on ASGI itself because its cost is paid for each token of each reader.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[ReplyEvent], *, ping_seconds: float = PING_SECONDS) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._ping_seconds = ping_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(left(receive))
        try:
            while not (await self._first_of(sending, leaving)):
                await send({"type": "http.response.body", "body": b": ping\n\n", "more_body": True})
        finally:
            for task in (sending, leaving):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
        if not leaving.done() or leaving.cancelled():
            await send({"type": "http.response.body", "body": b""})

    async def _first_of(self, *tasks: asyncio.Task[None]) -> bool:
        done, _ = await asyncio.wait(tasks, timeout=self._ping_seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    async def _send_all(self, send: Send) -> None:
        async for event in self._events:
            await send({"type": "http.response.body", "body": encode(event), "more_body": True})


async def left(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def encode(event: ReplyEvent) -> bytes:
    """One event on the wire. The data is JSON, so no line break of the text can end it."""
    data: dict[str, str | None]
    match event:
        case Waiting(before):  # no place in the text, hence no id
            return b'event: waiting\ndata: {"before": %d}\n\n' % before
        case Cited(sources):
            cited = json.dumps({"sources": [asdict(source) for source in sources]})
            return f"event: sources\ndata: {cited}\n\n".encode()
        case Delta(text, position):
            name, event_id, data = "delta", str(position), {"text": text}
        case Reset(text, position):
            name, event_id, data = "reset", str(position), {"text": text}
        case End(Status.FAILED, _, failure, position):
            name, event_id = "error", f"{position}!"
            data = {
                "type": failure.type if failure else "internal",
                "message": failure.message if failure else "The reply failed.",
            }
        case End(status, finish_reason, _, position):
            name, event_id, data = "done", f"{position}!", {"status": status, "finish_reason": finish_reason}
    return f"id: {event_id}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()
