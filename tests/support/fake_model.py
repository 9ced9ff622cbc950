"""A model whose answers a test scripts piece by piece, and a stand-in for what serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata

from assistant.conversation import Source, Turn
from assistant.engine import EngineState, EngineStatus
from assistant.errors import NoModel


class ScriptedModel:
    """Stands for `TechAssistantChat`. The test scripts each answer with `say`, `fail` and `end`.

    The prompt has room for the first `room_for` passages.
    """

    model_name = "scripted"
    context = 8192

    def __init__(self) -> None:
        self.sampling = {"temperature": 0.0}
        self.asked: list[list[Turn]] = []
        self.passages: list[Sequence[Source] | None] = []  # that came with each question
        self.options: list[dict[str, Any]] = []  # that came with each question
        self.tones: list[str] = []  # that came with each question
        self.room_for = 10
        self.usage: UsageMetadata | None = None
        self.cancelled = asyncio.Event()
        self._script: asyncio.Queue[Any] = asyncio.Queue()

    def count_tokens(self, text: str) -> int:
        return len(text)

    def say(self, *pieces: str) -> None:
        for piece in pieces:
            self._script.put_nowait(piece)

    def fail(self, error: Exception) -> None:
        self._script.put_nowait(error)

    def end(self, finish_reason: str | None = "eos_token") -> None:
        self._script.put_nowait({"finish_reason": finish_reason} if finish_reason else {})

    async def answer(
        self,
        turns: Sequence[Turn],
        *,
        passages: Sequence[Source] | None = None,
        session: str | None = None,
        tone: str = "",
        stop: list[str] | None = None,
        options: dict[str, Any] | None = None,
    ) -> AsyncGenerator[AIMessageChunk]:
        self.asked.append(list(turns))
        self.tones.append(tone)
        self.options.append({**(options or {}), "stop": stop, "session": session})
        self.passages.append(passages)
        try:
            if passages is not None:
                used = min(len(passages), self.room_for)
                yield AIMessageChunk("", response_metadata={"passages_used": used})
            while True:
                piece = await self._script.get()
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, dict):
                    metadata = {**piece, "template_hash": "abc", "seed": 7}
                    yield AIMessageChunk("", response_metadata=metadata, usage_metadata=self.usage)
                    return
                yield AIMessageChunk(piece)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class FakeServed:
    """Stands for `ServedModel`, with the status that the test sets."""

    def __init__(self, model: ScriptedModel | None = None) -> None:
        self.model = model
        self.looked = False
        self.steered: list[str] = []  # the requests to begin or decline the download
        self._changed = asyncio.Event()
        self.set(EngineState.NONE if model is None else EngineState.READY)

    def set(self, state: EngineState, detail: str | None = None, **more: Any) -> None:
        name = None if self.model is None else self.model.model_name
        self.status = EngineStatus(state, name, detail, **more)
        self.changed()
        self._changed.set()

    def changed(self) -> None:
        """Replaced by the callback that `start` is given."""

    def start(self, changed: Callable[[], None]) -> None:
        self.changed = changed  # type: ignore[method-assign]

    async def close(self) -> None:
        pass

    def look_now(self) -> None:
        self.looked = True

    async def begin_download(self) -> None:
        self.steered.append("begun")

    async def decline_download(self) -> None:
        self.steered.append("declined")

    async def ready(self, seconds: float, *, also_lost: bool = True) -> ScriptedModel:
        while self.status.state is EngineState.LOADING and (also_lost or not self.status.is_lost):
            self._changed.clear()
            await self._changed.wait()
        if self.model is None or self.status.state is not EngineState.READY:
            raise NoModel("There is no model.")
        return self.model
