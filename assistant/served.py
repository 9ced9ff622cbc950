"""The model that the serving layer has just now: looked after in the background, waited for by replies.

Knows when to look again and what to tell people meanwhile; refuses to know who starts the server, who asks
the model, and how a server is read (`probe.py`, which is imported late: it brings LangChain along, seconds
of CPU that the API does not wait for).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.errors import NoModel
from assistant.settings import Settings

if TYPE_CHECKING:  # imported late, see `_keep_watching`
    from assistant.model import TechAssistantChat
    from assistant.probe import Probe

log = logging.getLogger(__name__)

STARTING = "The engine is starting."
NO_MODEL = (
    "No model is loaded. Start with `sh scripts/run --model FILE.gguf`, "
    "or name an OpenAI-compatible server by `--upstream http://HOST/v1`."
)

# Seconds between two looks at the server, by what the last one found.
LOOK_AGAIN = {"none": 3600.0, "loading": 0.25, "failed": 2.0, "ready": 5.0}


class EngineState(enum.StrEnum):
    NONE = "none"  # no model and no server was named
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What people may know of the engine; `detail` is a sentence."""

    state: EngineState
    model: str | None = None
    detail: str | None = None
    parallel: int | None = None  # answers that it computes at once, where it tells


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a serving layer listens; `failure` says why there is none and will be none."""

    url: str | None
    api_key: str | None = None
    failure: str | None = None


class ServedModel:
    """Watches one serving layer; `endpoint` is asked anew each time, since a restart may move it."""

    def __init__(self, settings: Settings, endpoint: Callable[[], Endpoint] | None) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._model: TechAssistantChat | None = None
        self._changed = asyncio.Condition()
        self._poked = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        state = EngineState.NONE if endpoint is None else EngineState.LOADING
        self.status = EngineStatus(state, detail=NO_MODEL if endpoint is None else STARTING)

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to look; `changed` is called whenever the status is another one."""
        if self._endpoint is not None:
            self._watch = asyncio.create_task(self._keep_watching(changed))

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    def look_now(self) -> None:
        """Look at the server at once: something was seen that makes the status doubtful."""
        if self.status.state is EngineState.READY:
            detail = "The engine is being checked."
            self.status = dataclasses.replace(self.status, state=EngineState.LOADING, detail=detail)
        self._poked.set()

    async def ready(self, seconds: float) -> TechAssistantChat:
        """The model, waited for while it loads. Raises `NoModel` when there is none to wait for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.status.state is not EngineState.LOADING)
        if self.status.state is EngineState.READY and self._model is not None:
            return self._model
        if self.status.state is EngineState.LOADING:
            raise NoModel(f"The model was not ready within {seconds:.0f} seconds. Try again later.")
        raise NoModel(self.status.detail or NO_MODEL)

    async def _keep_watching(self, changed: Callable[[], None]) -> None:
        assert self._endpoint is not None
        make_probe = await asyncio.to_thread(_import_probe)
        async with make_probe(self._settings) as probe:
            while True:
                self._poked.clear()
                endpoint = self._endpoint()
                if endpoint.failure is not None:
                    status = EngineStatus(EngineState.FAILED, detail=endpoint.failure)
                elif endpoint.url is None:
                    status = EngineStatus(EngineState.LOADING, self.status.model, STARTING)
                else:
                    status = await probe.look(endpoint)
                if status.state is EngineState.LOADING:  # it will do as much as it did before
                    status = dataclasses.replace(status, parallel=self.status.parallel)
                async with self._changed:
                    is_new = status != self.status
                    self.status, self._model = status, probe.model
                    self._changed.notify_all()
                if is_new:
                    log.info("engine: %s %s", status.state, status.detail or status.model or "")
                    changed()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN[status.state]):
                        await self._poked.wait()


def _import_probe() -> type[Probe]:
    from assistant.probe import Probe

    return Probe
