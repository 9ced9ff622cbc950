"""Runs the work of an answer only as long as its client is connected."""

from __future__ import annotations

import asyncio

from starlette.types import Receive


async def while_connected(work: asyncio.Task[None], receive: Receive) -> bool:
    """Wait for the work, and cancel it if the client disconnects. Returns whether the client is connected.

    Raises what the work raises.
    """
    disconnect = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait((work, disconnect), return_when=asyncio.FIRST_COMPLETED)
    finally:
        is_connected = not disconnect.done()
        work.cancel()
        disconnect.cancel()
        await asyncio.gather(work, disconnect, return_exceptions=True)
    if not work.cancelled():
        work.result()
    return is_connected


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
