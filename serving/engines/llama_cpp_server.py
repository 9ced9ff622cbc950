"""llama.cpp's own HTTP server, inside this process: loads a model, takes requests, and shows whether it
hangs.

We use its HTTP interface on a Unix socket that no other user can open. Only there does llama.cpp stop
computing a request that is cancelled while it still reads the prompt.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from serving.engine import GenerationFailed, IncompleteGeneration, ServingError
from serving.engines.event_stream import read_data
from serving.engines.llama_cpp_messages import Event, decode_event
from serving.engines.remote import message, refusal

log = logging.getLogger(__name__)

# Tokens of a prompt between two checks for a cancelled request. Larger batches hardly read a prompt faster on
# CPUs, and go on computing for many seconds after it was cancelled.
BATCH = 128
PROMPT_CACHE_MIB = 512
LONGEST_SOCKET_PATH = 100  # bytes; macOS allows 103
CHECK_SECONDS = 15.0  # between two checks for a hanging server
MISSES = 2  # checks in a row without an answer: a server on a machine that was asleep misses only one


class LoadFailed(Exception):
    """The text says why the model cannot be loaded."""


@dataclass(eq=False)
class LlamaCppServer:
    """Serves the model file `model` once `start` has returned. A working server takes at most `silence`
    seconds between two tokens, or two batches of a prompt. `prefixes` is the directory for saved states."""

    model: Path
    parallel: int
    threads: int
    prefixes: Path | None
    silence: float
    build = ""  # the version of llama.cpp
    read_percent = 0  # how much of the model file has been read
    _directory: str | None = None
    _session: aiohttp.ClientSession | None = None
    _address = ""
    _server: Any = None  # of xllamacpp: it serves for as long as this reference exists

    def __post_init__(self) -> None:
        self._key = secrets.token_urlsafe(32)
        self._closing = threading.Event()

    async def start(self, context: int) -> None:
        """Load the model with a context of so many tokens. Raises `LoadFailed`."""
        self._directory = tempfile.mkdtemp(prefix="serving-")  # only this user can open it
        path = os.path.join(self._directory, "llama.sock")
        connector: aiohttp.BaseConnector
        # llama.cpp closes a connection after a stream without announcing it: use each connection once.
        if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            connector = aiohttp.UnixConnector(path, force_close=True, limit=0)
        else:
            path = ""
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        await _in_thread(self._load, context, path)
        self._address = "http://llama.cpp" if path else self._server.listening_address
        # A server that is destroyed before its first answer may hang, so ask for one token.
        await self.ask("completion", prompt=[0], n_predict=1)

    async def close(self) -> None:
        self._closing.set()
        if self._session is not None:
            await self._session.close()
        self._server = None
        self.remove_socket()

    def remove_socket(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def ask(self, path: str, **body: Any) -> Any:
        """The JSON answer to a POST with this body, or to a GET without one. Raises `ServingError`."""
        async with self._send("POST" if body else "GET", path, body or None) as response:
            return msgspec.json.decode(await response.read())

    async def events(self, request: dict[str, Any]) -> AsyncGenerator[Event]:
        """The events of a streamed completion. Raises `ServingError`."""
        async with self._send("POST", "completion", request) as response:
            data = read_data(response.content, first_seconds=self.silence, between_seconds=self.silence)
            async with contextlib.aclosing(data) as lines:
                async for line in lines:
                    try:
                        yield decode_event(line)
                    except ValueError:
                        raise IncompleteGeneration(message(line) or "The engine failed.") from None

    @contextlib.asynccontextmanager
    async def _send(self, method: str, path: str, body: Any) -> AsyncGenerator[aiohttp.ClientResponse]:
        assert self._session is not None
        try:
            async with self._session.request(method, f"{self._address}/{path}", json=body) as response:
                if response.status != 200:
                    raise refusal("engine", response.status, {}, await response.read())
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise GenerationFailed("The engine does not answer.") from error

    async def hang(self) -> None:
        """Returns when the server hangs. Until then it describes its slots between any two batches."""
        missed = 0
        while missed < MISSES:
            await asyncio.sleep(min(CHECK_SECONDS, self.silence))
            try:
                async with asyncio.timeout(self.silence / MISSES):
                    await self.ask("slots")
                missed = 0
            except TimeoutError:
                missed += 1
            except ServingError as error:
                log.warning("llama.cpp does not describe its slots: %s", error)

    def _load(self, context: int, socket_path: str) -> None:
        self._read_file()
        if self._closing.is_set():
            return
        # Idle threads must sleep: on a shared machine, waiting in a loop costs more than the computation.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            import xllamacpp  # 100 MB of native code, imported only if needed, and after the line above
        except ImportError as error:
            raise LoadFailed(
                f"llama.cpp itself cannot be loaded: {error}. A library of the system may be missing "
                "(libgomp: `apt install libgomp1` on Debian)."
            ) from error

        self.build = xllamacpp.__version__
        params = xllamacpp.CommonParams()
        params.model.path = str(self.model)
        params.n_ctx = context
        params.n_parallel = self.parallel
        params.n_threads_http = self.parallel + 4  # one for each stream, the rest for short questions
        params.kv_unified = True  # otherwise each parallel answer gets only its share of the context
        params.special = True  # write special tokens out: we recognise them by their ids
        params.n_batch = params.n_ubatch = BATCH
        if self.prefixes is not None:
            params.slot_save_path = os.path.join(self.prefixes, "")
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.cache_ram_mib = PROMPT_CACHE_MIB
        params.warmup = False
        params.verbosity = 0
        params.ui = False
        params.cors_origins = ""
        params.api_keys = [self._key]
        if socket_path:
            params.hostnames = [socket_path]
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise LoadFailed(
                f"llama.cpp cannot load {self.model.name}: the file is damaged or of a type that it does "
                "not know, or there is not enough memory."
            ) from error

    def _read_file(self) -> None:
        """Read the file into the system's cache. xllamacpp stops all Python threads while it loads a model,
        which takes minutes from a disk, but from the cache only about a second for four gigabytes."""
        size, read, buffer = self.model.stat().st_size, 0, bytearray(1 << 24)
        with self.model.open("rb", buffering=0) as file:
            while (count := file.readinto(buffer)) and not self._closing.is_set():
                read += count
                self.read_percent = min(100, 100 * read // size)


def _in_thread(function: Callable[..., None], *args: object) -> asyncio.Future[None]:
    """Run in a daemon thread, so that the process can exit in the meantime: loading cannot be interrupted."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            function(*args)
        except BaseException as error:  # noqa: BLE001 - the waiting task raises it
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, name="load-model", daemon=True).start()
    return asyncio.wrap_future(future)
