"""An engine whose model may still have to come from the hub: fetched, then loaded, without a restart.

    nothing here ──> FETCHING ──> LOADING ──> READY
      NONE: offered, declined or failed, with the reason and the next step

Knows when a file is fetched and when it is not: never again without being asked once somebody has declined.
Refuses to know how (`download.py`, a process of its own that is ended at any moment) and what loads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from serving.addresses import without_user
from serving.engine import (
    Accepted,
    Chunk,
    Download,
    DownloadState,
    End,
    Engine,
    EngineInfo,
    EngineState,
    NothingToFetch,
    Prompt,
    SamplingParams,
    TokenSpan,
    Unhealthy,
)
from serving.models.catalogue import Model, in_words
from serving.models.download import received
from serving.models.gguf_header import BadModelFile

log = logging.getLogger("serving.models.fetched")

ROOT = Path(__file__).resolve().parents[2]
HUB = "https://huggingface.co"
BROKE_OFF = "The download ended unexpectedly. Try again."


class Absent:
    """No model, and none to fetch; `detail` says why, and what to do."""

    def __init__(self, detail: str) -> None:
        self.info = EngineInfo(engine="none", state=EngineState.NONE, state_detail=detail)

    async def start(self) -> None:
        log.warning("%s", self.info.state_detail)

    async def close(self) -> None:
        pass

    def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        raise Unhealthy(str(self.info.state_detail))

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        raise Unhealthy(str(self.info.state_detail))


class FetchedModel:
    """The model in `models`, fetched unless it is there; `load` makes an engine of its file."""

    def __init__(
        self, model: Model, models: Path, load: Callable[[Path], Engine], *, offline: bool = False
    ) -> None:
        self._model = model
        self._models = models
        self._path = model.path(models)
        self._load = load
        self._offline = offline
        self._engine: Engine | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._is_told = False  # how large the file is
        self._info = EngineInfo(
            engine="llama.cpp",
            state=EngineState.NONE,
            model_id=self._path.name,
            licence=model.licence,
            infilling=model.infilling,
            download=Download(
                state=DownloadState.OFFERED,
                model=model.title,
                repo=model.repo,
                file=model.file,
                licence=None if model.licence is None else model.licence.id,
                bytes=model.bytes,
            ),
        )

    @property
    def info(self) -> EngineInfo:
        if self._engine is not None:
            info, model = self._engine.info, self._model
            return replace(info, licence=model.licence or info.licence, infilling=model.infilling)
        download = self._info.download
        if self._info.state is not EngineState.FETCHING or download is None:
            return self._info
        # As the file is now: the process tells it only as long as bytes come.
        download = replace(download, received=received(self._path))
        size = download.bytes
        how_far = f" ({100 * download.received // size} % of {in_words(size)})" if size else ""
        detail = f"Fetching {self._model.title}{how_far}."
        return replace(self._info, state_detail=detail, download=download)

    async def start(self) -> None:
        title = self._model.title
        if self._path.is_file():
            await self._take_over()
        elif self._offline:
            self._info = replace(self._info, download=None)
            self._tell(
                f"No model is on this machine, and --offline forbids to fetch {title}. Start once without "
                "it, or name a GGUF file by --model."
            )
        elif self._declined.exists():
            self._stay(
                DownloadState.OFFERED,
                f"{title} is not on this machine: it was declined. It can still be fetched.",
            )
        else:
            self._begin()

    async def close(self) -> None:
        await self._stop_fetching()
        if self._engine is not None:
            await self._engine.close()

    async def begin(self) -> None:
        """Fetch the file, or go on with it. Raises `NothingToFetch`."""
        self._check()
        if self._fetching is None or self._fetching.done():
            with contextlib.suppress(OSError):
                self._declined.unlink()
            self._begin()

    async def decline(self) -> None:
        """Stop at once, and begin only when asked, at the next start too. Raises `NothingToFetch`."""
        self._check()
        await self._stop_fetching()
        self._check()  # it may have become complete just now
        with contextlib.suppress(OSError):  # the next start asks again, then
            self._declined.parent.mkdir(parents=True, exist_ok=True)
            self._declined.write_text(
                f"{self._model.title} was declined: it is fetched only when somebody asks for it again.\n"
            )
        self._stay(DownloadState.DECLINED, f"{self._model.title} is not fetched: it was declined.")

    def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        return self._ready().generate(prompt, params, session=session)

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        return await self._ready().tokenize(text)

    @property
    def _declined(self) -> Path:
        return self._path.with_name(self._path.name + ".declined")

    def _check(self) -> None:
        if self._engine is not None or self._info.state is EngineState.FAILED:
            raise NothingToFetch(f"{self._model.title} is on this machine already.")
        if self._info.download is None:
            raise NothingToFetch(str(self._info.state_detail))

    def _ready(self) -> Engine:
        if self._engine is None:
            raise Unhealthy(self.info.state_detail or "The model is not here yet.")
        return self._engine

    def _begin(self) -> None:
        model = self._model
        size = "of a size that the hub will tell" if model.bytes is None else f"about {in_words(model.bytes)}"
        licence = "its licence is told there" if model.licence is None else model.licence.name
        conversion = f", as converted by {model.converted_by}" if model.converted_by else ""
        hub = without_user(os.environ.get("HF_ENDPOINT") or HUB)
        log.info(
            "fetching %s (%s; %s%s) from %s/%s, once, into %s. To decline, do so on the page, or start with "
            "--model none",
            *(model.title, size, licence, conversion, hub, model.repo, self._path.parent),
        )
        if model.licence is not None and model.licence.must_accept:
            log.info("its licence forbids some uses: read %s", model.licence.url)
        self._stay(DownloadState.RUNNING, None)
        self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            failure = await self._run()
        except OSError as error:
            failure = f"The download could not be started: {error.strerror or error}."
        except Exception:  # nobody waits for this task: it must not end unheard
            log.exception("the download could not be followed")
            failure = BROKE_OFF
        if failure is None:
            await self._take_over()
        else:
            self._stay(DownloadState.FAILED, failure)

    async def _run(self) -> str | None:
        """The download from its start to its end; returns why it failed."""
        model = self._model
        known = [] if model.sha256 is None else ["--sha256", model.sha256]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "serving.models.download", model.repo, model.file, str(self._models), *known),
            stdin=asyncio.subprocess.PIPE,  # it ends when we do, however we end
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("TECH_ASSISTANT_")},
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                said = json.loads(line)
                if "failed" in said:
                    return str(said["failed"])
                if "path" in said:
                    return None
                self._told(said["bytes"], said["received"])
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return BROKE_OFF

    def _told(self, size: int | None, has: int) -> None:
        """The hub has said how large the file is."""
        download = self._info.download
        assert download is not None
        if size is None or self._is_told:
            return
        self._is_told = True
        log.info("%s has %s, %s of them are here", self._model.file, in_words(size), in_words(has))
        self._info = replace(self._info, download=replace(download, bytes=size))

    async def _take_over(self) -> None:
        """The file is there: load it."""
        self._info = replace(self._info, download=None)
        try:
            engine = self._load(self._path)
        except BadModelFile as error:
            self._info = replace(self._info, state=EngineState.FAILED)
            self._tell(str(error))
        else:
            self._engine = engine
            await engine.start()

    async def _stop_fetching(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _stay(self, state: DownloadState, detail: str | None) -> None:
        """The download is in this state now, and why."""
        download = self._info.download
        assert download is not None
        self._is_told = False
        self._info = replace(
            self._info,
            state=EngineState.FETCHING if state is DownloadState.RUNNING else EngineState.NONE,
            download=replace(download, state=state, received=received(self._path)),
        )
        if detail is not None:
            self._tell(detail)

    def _tell(self, detail: str) -> None:
        self._info = replace(self._info, state_detail=detail)
        log.warning("%s", detail)
