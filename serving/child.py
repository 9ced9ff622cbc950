"""Keep `python -m serving` running as a child process, for as long as the parent lives and no longer.

Knows processes, restarts, the child's one line of output and the one question by which it shows that it
lives; refuses to know what it serves. Only the standard library: whoever starts a child does not load what
the child is made of.

A child that ends is started again. One that hangs never ends: it is asked what it is doing (`GET /info`), and
killed when it leaves several such questions in a row unanswered. Questions are counted and not seconds, so
that a parent that was busy, or on a machine that slept, takes no child for hung.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

log = logging.getLogger("serving")

ROOT = Path(__file__).resolve().parent.parent
BAD_USAGE = 2  # exit code: starting again would not help
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.2, 10.0
STEADY_SECONDS = 60.0  # a child that ran for so long has not failed at starting
TERMINATE_SECONDS = 1.5
LONGEST_LINE = 2000  # characters of the child's words that are kept
START_SECONDS = 120.0  # until a child says where it listens
HANG_SECONDS = 30.0  # without an answer, after which a child hangs
MISSES = 3  # questions in a row in which this time passes
# A child that loads a model may be silent for so many times longer: xllamacpp stops all of Python meanwhile.
LOADING_TIMES = 20
LOADS = ("fetching", "loading")  # states in which a model is loaded, or may be before the next question


class ChildFailed(Exception):
    """The child cannot be started; the text is what it said."""


class ServingChild:
    """One serving process on a loopback port, with a random key. `arguments` name the engine.

    `url` is None while there is no process that listens, and changes with each restart. `failure` says why
    there is none and will be none. `on_exit` is told the code of each process that ended by itself, or that
    was killed because it did not answer for `hang_seconds`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        on_exit: Callable[[int], None] | None = None,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        self.url: str | None = None
        self.api_key = secrets.token_urlsafe(32)
        self.failure: str | None = None
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._on_exit = on_exit
        self._patience = hang_seconds / MISSES  # seconds for one question
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()  # there is an address, or a failure
        self._last_line = ""

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.alive else None

    async def start(self) -> None:
        """Returns when the first address is known. Raises `ChildFailed`."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_running())
        await self._settled.wait()
        if self.failure is not None:
            raise ChildFailed(self.failure)

    async def stop(self) -> None:
        """Ends the process, within `TERMINATE_SECONDS`, and does not start another."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def _keep_running(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            begun = time.monotonic()
            try:
                code = await self._run()
            except OSError as error:  # no memory or no files are left for it now
                log.warning("no serving process: %s; trying again in %.1f s", error, delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_DELAY_SECONDS)
                continue
            if self._on_exit is not None:
                self._on_exit(code)
            if code == BAD_USAGE:
                self.failure = self._words()
                self._settled.set()
                return
            if time.monotonic() - begun >= STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            log.warning("the serving process ended with code %s; starting it again in %.1f s", code, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def _run(self) -> int:
        """One process from its start to its end; returns its exit code."""
        self._last_line = ""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "serving", *self._arguments),
            *("--host", "127.0.0.1", "--port", "0", "--exit-with-stdin", "--drain-seconds", "0"),
            stdin=asyncio.subprocess.PIPE,  # never written to: it ends when we do, however we end
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            # Not on the command line, which everybody on the machine can read.
            env={**os.environ, **self._environment, "TECH_ASSISTANT_SERVING_KEY": self.api_key},
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which then ends the child
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        reading = asyncio.gather(self._read_address(process.stdout, address), self._pass_on(process.stderr))
        watching = asyncio.create_task(self._kill_if_it_hangs(process, address))
        try:
            await process.wait()
            await reading
        finally:
            self.url = None
            process.stdin.close()
            if process.returncode is None:
                await self._end(process)
            reading.cancel()
            watching.cancel()
            await asyncio.gather(reading, watching, return_exceptions=True)
        return process.returncode or 0

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            # Not `asyncio.timeout`: in a task that is being cancelled, Python 3.11's first releases let it
            # end by the cancellation, and the process would never be killed.
            ended = asyncio.ensure_future(process.wait())
            await asyncio.wait([ended], timeout=TERMINATE_SECONDS)
            if not ended.done():
                process.kill()
            await ended

    async def _kill_if_it_hangs(
        self, process: asyncio.subprocess.Process, address: asyncio.Future[str]
    ) -> None:
        await asyncio.wait([address], timeout=START_SECONDS)
        if address.done():
            await self._hangs(address.result())
        log.error("the serving process hangs; killing it")
        process.kill()

    async def _hangs(self, url: str) -> None:
        """Returns when the process has left too many questions in a row unanswered."""
        missed, state = 0, "loading"
        while missed < (MISSES * LOADING_TIMES if state in LOADS else MISSES):
            # Often while it loads, so that what hangs as soon as it is ready is not given the longer time.
            await asyncio.sleep(self._patience / (10 if missed else 100 if state == "loading" else 2))
            try:
                async with asyncio.timeout(self._patience):
                    state, missed = await self._state(url), 0
            except (TimeoutError, ConnectionError):
                missed += 1
            except OSError as error:  # no files or ports are left to ask by: that is no fault of the child
                log.debug("the serving process cannot be asked", exc_info=error)

    async def _state(self, url: str) -> str:
        """The state of the engine, as the process tells it; empty for any other answer. Raises OSError."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            # By HTTP/1.0 the connection ends with the answer.
            writer.write(f"GET /info HTTP/1.0\r\nAuthorization: Bearer {self.api_key}\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
        if not answer:
            raise ConnectionResetError
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(answer.partition(b"\r\n\r\n")[2])["state"])
        return ""

    async def _read_address(self, stdout: asyncio.StreamReader, address: asyncio.Future[str]) -> None:
        async for line in _lines(stdout):
            if line.startswith("serving on ") and not address.done():
                self.url = line.removeprefix("serving on ")
                address.set_result(self.url)
                self._settled.set()

    async def _pass_on(self, stderr: asyncio.StreamReader) -> None:
        async for line in _lines(stderr):
            self._last_line = line
            log.info("%s", line)

    def _words(self) -> str:
        """What the child said last, without its own name."""
        return self._last_line.removeprefix("serving: ") or "The serving process could not be started."


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of text, each cut to `LONGEST_LINE` characters however long it is."""
    rest = b""
    while piece := await stream.read(4096):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip()[:LONGEST_LINE]
        rest = rest[: 4 * LONGEST_LINE]
    if rest:
        yield rest.decode("utf-8", "replace").rstrip()[:LONGEST_LINE]
