"""A model whose answers a test writes piece by piece, and what serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk

from assistant.conversation import Turn
from assistant.errors import NoModel
from assistant.served import EngineState, EngineStatus


class ScriptedModel:
    """Stands for `TechAssistantChat`. Each answer is written by the test: `say` pieces, `fail`, or `end`."""

    model_name = "scripted"

    def __init__(self) -> None:
        self.sampling = {"temperature": 0.0}
        self.asked: list[list[Turn]] = []
        self.cancelled = asyncio.Event()
        self._script: asyncio.Queue[Any] = asyncio.Queue()

    def say(self, *pieces: str) -> None:
        for piece in pieces:
            self._script.put_nowait(piece)

    def fail(self, error: Exception) -> None:
        self._script.put_nowait(error)

    def end(self, finish_reason: str | None = "eos_token") -> None:
        self._script.put_nowait({"finish_reason": finish_reason} if finish_reason else {})

    async def answer(self, turns: Sequence[Turn]) -> AsyncGenerator[AIMessageChunk]:
        self.asked.append(list(turns))
        try:
            while True:
                piece = await self._script.get()
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, dict):
                    metadata = {**piece, "template_hash": "abc", "seed": 7}
                    yield AIMessageChunk("", response_metadata=metadata)
                    return
                yield AIMessageChunk(piece)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class FakeServed:
    """Stands for `ServedModel`: the status is what the test says."""

    def __init__(self, model: ScriptedModel | None = None) -> None:
        self.model = model
        self.looked = False
        self.set(EngineState.NONE if model is None else EngineState.READY)

    def set(self, state: EngineState, detail: str | None = None, *, parallel: int | None = None) -> None:
        name = None if self.model is None else self.model.model_name
        self.status = EngineStatus(state, name, detail, parallel)
        self.changed()

    def changed(self) -> None:
        """Whoever started it is told."""

    def start(self, changed: Callable[[], None]) -> None:
        self.changed = changed  # type: ignore[method-assign]

    async def close(self) -> None:
        pass

    def look_now(self) -> None:
        self.looked = True

    async def ready(self, seconds: float) -> ScriptedModel:
        if self.model is None or self.status.state is not EngineState.READY:
            raise NoModel("There is no model.")
        return self.model
