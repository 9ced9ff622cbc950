"""The peer of the benchmarks: `gr.ChatInterface` with the same upstream, as in Gradio's documentation.

`python -m benchmarks.chat_interface URL` prints its address once it listens.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import gradio as gr


def chat_interface(upstream: str) -> gr.ChatInterface:
    session: aiohttp.ClientSession | None = None

    async def answer(message: str, history: list[dict[str, Any]]) -> AsyncIterator[str]:
        nonlocal session
        session = session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        request = {"prompt": message, "stream": True}
        text = ""
        async with session.post(f"{upstream}/completions", json=request) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        text += choice["text"]
                        yield text

    return gr.ChatInterface(answer, concurrency_limit=None, analytics_enabled=False)


if __name__ == "__main__":
    demo = chat_interface(sys.argv[1])
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    print(address.rstrip("/"), flush=True)
    demo.block_thread()
