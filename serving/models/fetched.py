"""The engine for a model that may still be on the hub: fetches the file, then loads it, without a restart.

    no file ──> FETCHING ──> LOADING ──> READY
      NONE: offered, declined or failed, with the reason and the next step

After the operator has declined a download, it begins only when they ask for it. `download.py` fetches the
file in a process of its own, which can be killed at any moment.
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

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
HUB = "https://huggingface.co"
BROKE_OFF = "The download ended unexpectedly. Try again."


class Absent:
    """The engine when there is no model and none to fetch. `detail` says why, and what to do."""

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
    """Fetches the model into the folder `models` unless it is there. `load` makes an engine of the file."""

    def __init__(
        self, model: Model, models: Path, load: Callable[[Path], Engine], *, offline: bool = False
    ) -> None:
        self._model = model
        self._models = models
        self._path = model.path(models)
        self._declined = self._path.with_name(self._path.name + ".declined")
        self._load = load
        self._offline = offline
        self._engine: Engine | None = None
        self._fetching: asyncio.Task[None] | None = None
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
        # From the file: the process reports only while it receives bytes.
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
            self._set_detail(
                f"There is no model on this machine, and --offline forbids fetching {title}. Start once "
                "without --offline, or name a GGUF file with --model."
            )
        elif self._declined.exists():
            self._set_state(
                DownloadState.OFFERED,
                f"{title} is not on this machine: its download was declined. You can still start it.",
            )
        else:
            self._begin()

    async def close(self) -> None:
        await self._stop_fetching()
        if self._engine is not None:
            await self._engine.close()

    async def begin(self) -> None:
        """Start the download, or continue it. Raises `NothingToFetch`."""
        self._check()
        if self._fetching is None or self._fetching.done():
            with contextlib.suppress(OSError):
                self._declined.unlink()
            self._begin()

    async def decline(self) -> None:
        """Stop the download for good, also after a restart. Raises `NothingToFetch`."""
        self._check()
        await self._stop_fetching()
        self._check()  # the download may just have ended
        with contextlib.suppress(OSError):  # then the next start fetches it again
            self._declined.parent.mkdir(parents=True, exist_ok=True)
            self._declined.write_text(
                f"The download of {self._model.title} was declined. It begins only if you ask for it.\n"
            )
        self._set_state(
            DownloadState.DECLINED, f"{self._model.title} was not fetched: the download was declined."
        )

    def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        return self._ready().generate(prompt, params, session=session)

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        return await self._ready().tokenize(text)

    def _check(self) -> None:
        if self._engine is not None or self._info.state is EngineState.FAILED:
            raise NothingToFetch(f"{self._model.title} is on this machine already.")
        if self._info.download is None:
            raise NothingToFetch(str(self._info.state_detail))

    def _ready(self) -> Engine:
        if self._engine is None:
            raise Unhealthy(self.info.state_detail or "The model has not been fetched yet.")
        return self._engine

    def _begin(self) -> None:
        model = self._model
        size = "the hub will report the size" if model.bytes is None else f"about {in_words(model.bytes)}"
        licence = "see there for its licence" if model.licence is None else model.licence.name
        conversion = f", as converted by {model.converted_by}" if model.converted_by else ""
        hub = without_user(os.environ.get("HF_ENDPOINT") or HUB)
        log.info(
            "fetching %s (%s; %s%s) from %s/%s, once, into %s. You can decline it in the browser, or start "
            "with --model none",
            *(model.title, size, licence, conversion, hub, model.repo, self._path.parent),
        )
        if model.licence is not None and model.licence.must_accept:
            log.info("its licence forbids some uses: read %s", model.licence.url)
        self._set_state(DownloadState.RUNNING, None)
        self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            failure = await self._run()
        except OSError as error:
            failure = f"The download could not be started: {error.strerror or error}."
        except Exception:  # no other code awaits this task and would report the error
            log.exception("the download could not be followed")
            failure = BROKE_OFF
        if failure is None:
            await self._take_over()
        else:
            self._set_state(DownloadState.FAILED, failure)

    async def _run(self) -> str | None:
        """Run the download process. Returns the failure, if there was one."""
        model, has_size = self._model, False
        known = [] if model.sha256 is None else ["--sha256", model.sha256]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "serving.models.download", model.repo, model.file, str(self._models), *known),
            stdin=asyncio.subprocess.PIPE,  # the process exits when this one does, whatever the reason
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("TECH_ASSISTANT_")},
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                message = json.loads(line)
                if "failed" in message:
                    return str(message["failed"])
                if "path" in message:
                    return None
                download, size, arrived = self._info.download, message["bytes"], message["received"]
                if download is not None and size is not None and not has_size:
                    has_size = True
                    log.info(
                        "%s has %s, of which %s have arrived", model.file, in_words(size), in_words(arrived)
                    )
                    self._info = replace(self._info, download=replace(download, bytes=size))
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return BROKE_OFF

    async def _take_over(self) -> None:
        """Load the complete file."""
        self._info = replace(self._info, download=None)
        try:
            engine = self._load(self._path)
        except BadModelFile as error:
            self._info = replace(self._info, state=EngineState.FAILED)
            self._set_detail(str(error))
        else:
            self._engine = engine
            await engine.start()

    async def _stop_fetching(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _set_state(self, state: DownloadState, detail: str | None) -> None:
        download = self._info.download
        assert download is not None
        self._info = replace(
            self._info,
            state=EngineState.FETCHING if state is DownloadState.RUNNING else EngineState.NONE,
            download=replace(download, state=state, received=received(self._path)),
        )
        if detail is not None:
            self._set_detail(detail)

    def _set_detail(self, detail: str) -> None:
        self._info = replace(self._info, state_detail=detail)
        log.warning("%s", detail)
