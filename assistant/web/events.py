"""The events of a reply as Server-Sent Events.

The id of an event is the number of code points of the reply so far, so a stream can be resumed even after a
restart. The id of the last event ends in `!`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import asdict

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from assistant.conversation import Failure, Status
from assistant.events import Cited, Delta, End, ReplyEvent, Reset, Waiting
from assistant.web.disconnect import while_connected

PING_SECONDS = 15.0
EVENT_ID = re.compile(r"([0-9]{1,15})!?")


def position_of(event_id: str | None) -> int | None:
    """The code point after which to resume, or None for an id that is not ours."""
    if event_id is None:
        return 0
    match = EVENT_ID.fullmatch(event_id)
    return int(match[1]) if match else None


class EventStream(Response):
    """The response with the events, and with a comment at intervals that keeps the connection alive.

    It uses ASGI directly because its cost arises for each token of each reader.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[ReplyEvent], *, ping_seconds: float = PING_SECONDS) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._ping_seconds = ping_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        pinging = asyncio.create_task(self._ping(send))
        try:
            is_connected = await while_connected(asyncio.create_task(self._send_all(send)), receive)
        finally:
            pinging.cancel()
        if is_connected:
            await send({"type": "http.response.body", "body": b""})

    async def _send_all(self, send: Send) -> None:
        async for event in self._events:
            await send({"type": "http.response.body", "body": encode(event), "more_body": True})

    async def _ping(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._ping_seconds)
            await send({"type": "http.response.body", "body": b": ping\n\n", "more_body": True})


def encode(event: ReplyEvent) -> bytes:
    """One event on the wire. The data is JSON, so a line break in the text cannot end it."""
    data: dict[str, str | None]
    match event:
        case Waiting(before):  # has no position in the text, so it has no id
            return b'event: waiting\ndata: {"before": %d}\n\n' % before
        case Cited(sources):
            cited = json.dumps({"sources": [asdict(source) for source in sources]})
            return f"event: sources\ndata: {cited}\n\n".encode()
        case Delta(text, position):
            name, event_id, data = "delta", str(position), {"text": text}
        case Reset(text, position):
            name, event_id, data = "reset", str(position), {"text": text}
        case End(Status.FAILED, _, failure, position):
            failure = failure or Failure("internal", "The reply failed.")
            name, event_id, data = "error", f"{position}!", {"type": failure.type, "message": failure.message}
        case End(status, finish_reason, failure, position):
            name, event_id, data = "done", f"{position}!", {"status": status, "finish_reason": finish_reason}
            if failure is not None:
                data["message"] = failure.message
    return f"id: {event_id}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()
