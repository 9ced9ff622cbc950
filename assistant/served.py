"""The model that the serving layer has now: watched in the background, awaited by replies.

`probe.py` reads what a serving layer reports about itself. It is imported late, because it imports LangChain,
which takes seconds of CPU that the API does not wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from assistant.engine import FAILED, NO_MODEL, NOTHING_TO_FETCH, STARTING, Endpoint, EngineState, EngineStatus
from assistant.errors import NoModel, NothingToFetch
from assistant.settings import Settings

if TYPE_CHECKING:  # imported late, see `_keep_watching`
    from assistant.model import TechAssistantChat
    from assistant.probe import Probe

log = logging.getLogger(__name__)

NONSENSE = "What the engine reports about itself cannot be understood; the application's log says more."

# Seconds between two looks at the serving layer, by what the last one found. One without a model is watched
# too, because the operator can begin a download at any time.
LOOK_AGAIN = {"none": 1.0, "fetching": 0.5, "loading": 0.25, "failed": 2.0, "ready": 5.0}


class ServedModel:
    """Watches one serving layer. `endpoint` is called before each look, because a restart may move it."""

    def __init__(self, settings: Settings, endpoint: Callable[[], Endpoint] | None) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._model: TechAssistantChat | None = None
        self._changed = asyncio.Condition()
        self._looking = asyncio.Lock()  # so that an older look never overwrites a newer one
        self._poked = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._probe: Probe | None = None  # None until it is imported
        self._was_there = False  # whether the last look found the model ready or failed
        self._tell: Callable[[], None] = lambda: None
        state = EngineState.NONE if endpoint is None else EngineState.LOADING
        self.status = EngineStatus(state, detail=NO_MODEL if endpoint is None else STARTING)

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to watch. Calls `changed` whenever the status changes."""
        self._tell = changed
        if self._endpoint is not None:
            self._watch = asyncio.create_task(self._keep_watching())

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    def look_now(self) -> None:
        """Look at once, because a reply met an error that makes the status doubtful."""
        if self.status.state is EngineState.READY:
            detail = "The engine is being checked."
            self.status = dataclasses.replace(self.status, state=EngineState.LOADING, detail=detail)
        self._poked.set()

    async def begin_download(self) -> None:
        """Begin the download of the model's file, or resume it. Raises `NothingToFetch`."""
        await self._steer_download("POST")

    async def decline_download(self) -> None:
        """Decline the download, or stop it, until somebody begins it again. Raises `NothingToFetch`."""
        await self._steer_download("DELETE")

    async def _steer_download(self, method: str) -> None:
        if self._endpoint is None:
            raise NothingToFetch(NOTHING_TO_FETCH)
        if self._probe is None or (endpoint := self._endpoint()).url is None:
            raise NothingToFetch("The engine is starting. Try again in a moment.")
        refusal = await self._probe.steer_download(endpoint, method)
        if refusal is not None:
            raise NothingToFetch(refusal)
        await self._look(self._probe)  # so that the operator sees the new state at once

    async def ready(self, seconds: float, *, also_lost: bool = True) -> TechAssistantChat:
        """The model. Waits up to `seconds` while it loads; for one that was ready before only if `also_lost`.

        Raises `NoModel`.
        """

        def is_settled() -> bool:
            status = self.status
            return status.state is not EngineState.LOADING or (status.is_lost and not also_lost)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(is_settled)
        if self.status.state is EngineState.READY and self._model is not None:
            return self._model
        if self.status.state is EngineState.LOADING:
            raise NoModel(f"The model was not ready within {seconds:.0f} seconds. Try again later.")
        raise NoModel(self.status.detail or NO_MODEL)

    async def _keep_watching(self) -> None:
        make_probe = await asyncio.to_thread(_import_probe)
        async with make_probe(self._settings) as probe:
            self._probe = probe
            while True:
                self._poked.clear()
                await self._look(probe)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN[self.status.state]):
                        await self._poked.wait()

    async def _look(self, probe: Probe) -> None:
        """Look once, and wake everybody who waits for the model."""
        async with self._looking:
            status = await self._seen(probe)
            if status.state is EngineState.LOADING:  # it will compute as many answers at once as before
                status = dataclasses.replace(
                    status, parallel=self.status.parallel, is_lost=self.status.is_lost or self._was_there
                )
            self._was_there = status.state in (EngineState.READY, EngineState.FAILED)
            async with self._changed:
                is_new, is_told = status != self.status, _summary(status) != _summary(self.status)
                self.status, self._model = status, probe.model
                self._changed.notify_all()
        if is_told:
            log.info("engine: %s", _summary(status))
        if is_new:
            self._tell()

    async def _seen(self, probe: Probe) -> EngineStatus:
        assert self._endpoint is not None
        endpoint = self._endpoint()
        if endpoint.failure is not None:
            return EngineStatus(EngineState.FAILED, detail=FAILED, cause=endpoint.failure)
        if endpoint.url is None:
            return EngineStatus(EngineState.LOADING, self.status.model, STARTING)
        try:
            return await probe.look(endpoint)
        except Exception:  # whatever a server reports, there must be a next look
            if self.status.detail != NONSENSE:
                log.exception("the serving layer was not understood")
            return EngineStatus(EngineState.FAILED, detail=NONSENSE)


def _summary(status: EngineStatus) -> str:
    """A status for the log, without the progress of a download, which changes twice a second."""
    known = status.cause or status.detail or status.model
    text = status.model if status.state is EngineState.FETCHING else known
    return f"{status.state} {text or ''}".rstrip()


def _import_probe() -> type[Probe]:
    from assistant.probe import Probe

    return Probe
