"""An engine with scripted answers, for the tests of the serving layer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from serving.engine import (
    Accepted,
    Chunk,
    End,
    EngineInfo,
    EngineState,
    FinishReason,
    Prompt,
    SamplingParams,
    TokenSpan,
)

Step = str | bytes | Chunk | End | Exception | asyncio.Event


class FakeEngine:
    """Plays `steps` for each request: text and chunks, an error to raise, an event to wait for, an end.
    Without an `End` the text ends by itself. It plays the steps in `before` before it accepts the request.
    """

    def __init__(self, *steps: Step, before: Sequence[Step] = ()) -> None:
        self.steps = list(steps)
        self.before = list(before)
        self.asked: list[tuple[Prompt, SamplingParams]] = []
        self.running = 0
        self.waiting = asyncio.Event()  # a generation waits for an event
        self.cancelled = asyncio.Event()
        self.info = EngineInfo(
            engine="fake",
            state=EngineState.READY,
            model_id="fake-model",
            context=4096,
            parallel=4,
            chats=True,
        )

    def becomes(self, state: EngineState, detail: str | None = None) -> None:
        self.info = replace(self.info, state=state, state_detail=detail)

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        self.asked.append((prompt, params))
        self.running += 1
        try:
            for step in self.before:
                await self._play(step)
            yield Accepted(7)
            for step in self.steps:
                if isinstance(step, End):
                    yield step
                    return
                if (chunk := await self._play(step)) is not None:
                    yield chunk
            yield End(FinishReason.END_OF_TEXT)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise
        finally:
            self.running -= 1

    async def _play(self, step: Step) -> Chunk | None:
        if isinstance(step, asyncio.Event):
            self.waiting.set()
            await step.wait()
            return None
        if isinstance(step, Exception):
            raise step
        if isinstance(step, str | bytes):
            return Chunk(step.encode() if isinstance(step, str) else step, token_id=len(step))
        return step if isinstance(step, Chunk) else None

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        return [TokenSpan(1, text, 0, len(text))]
