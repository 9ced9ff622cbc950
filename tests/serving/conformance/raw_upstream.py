"""An upstream that cuts its bytes anywhere: inside characters, JSON and HTTP chunks.

It speaks OpenAI's protocol or TGI's. The last word of a prompt is the number of the wanted answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence

Pieces = Sequence[bytes]  # the bytes of each write

_MODELS = {
    "/v1/models": {"data": [{"id": "fake", "max_model_len": 4096}]},
    "/info": {"model_id": "fake", "max_total_tokens": 4096},
}


@contextlib.asynccontextmanager
async def raw_upstream(answer: Callable[[int], Pieces], *, path: str) -> AsyncIterator[str]:
    """Yields its address. It generates at `path`, and otherwise only lists its model."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            target = head.split(" ", 2)[1]
            if target == path:
                length = int(head.split("content-length:")[1].split("\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                number = int((body.get("prompt") or body["inputs"]).split()[-1])
                for piece in answer(number):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
            elif target in _MODELS:
                body = json.dumps(_MODELS[target]).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
                    b"content-length: %d\r\n\r\n%b" % (len(body), body)
                )
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.close()


def in_chunks(events: bytes, cuts: Sequence[int]) -> bytes:
    """A response with HTTP's chunked encoding. The chunks end at these positions."""
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(events)}), len(events)]
    chunks = [events[begin:end] for begin, end in itertools.pairwise(places) if begin < end]
    return b"".join(
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n",
            b"connection: close\r\n\r\n",
            *(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks),
            b"0\r\n\r\n",
        )
    )
