"""Keep `python -m serving` running as a child process, for as long as the parent lives and no longer.

A child that ends is started again. A child that hangs does not end, so the parent sends it health checks
(`GET /info`) and kills it when several in a row get no answer. The parent counts checks instead of seconds:
otherwise a busy parent, or a machine that was asleep, would make a healthy child look hung.

This module needs only the standard library, so the parent does not load the serving layer.
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
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

log = logging.getLogger("serving")

ROOT = Path(__file__).resolve().parent.parent
BAD_USAGE = 2  # exit code after which a restart would not help
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.2, 10.0
STEADY_SECONDS = 60.0  # after this time, a child has started properly
TERMINATE_SECONDS = 1.5
LONGEST_LINE = 2000  # characters of a line of output; the rest is cut
START_SECONDS = 120.0  # until a child must have printed its address
HANG_SECONDS = 30.0  # a child that answers nothing for this time counts as hung
MISSES = 3  # how many checks in a row must fail in that time
# While a child loads a model, LOADING_TIMES as many checks may fail: xllamacpp blocks all of Python then.
LOADING_TIMES = 20
LOADING_STATES = ("fetching", "loading")  # in which the child loads a model, or may start to


class ChildFailed(Exception):
    """The child cannot be started. The message is the last line that it printed."""


class ServingChild:
    """One serving process on a loopback port, with a random key. `arguments` choose the engine.

    `url` changes with each restart and is None while no process listens. `failure` is set when no process can
    be started at all, and says why. A process that does not answer for `hang_seconds` is killed.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        self.url: str | None = None
        self.api_key = secrets.token_urlsafe(32)
        self.failure: str | None = None
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._patience = hang_seconds / MISSES  # for one check, in seconds
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()  # `url` or `failure` is known
        self._last_line = ""

    @property
    def pid(self) -> int | None:
        """None while no process runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Return once the first address is known. Raises `ChildFailed`."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_running())
        await self._settled.wait()
        if self.failure is not None:
            raise ChildFailed(self.failure)

    async def stop(self) -> None:
        """End the process within `TERMINATE_SECONDS`, and start no other."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def _keep_running(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            begun = time.monotonic()
            try:
                code = await self._run()
            except OSError as error:  # the system has no memory or no files left
                outcome = f"could not be started ({error})"
            else:
                outcome = f"ended with code {code}"
                if code == BAD_USAGE:
                    message = self._last_line.removeprefix("serving: ")
                    self.failure = message or "The serving process could not be started."
                    self._settled.set()
                    return
            if time.monotonic() - begun >= STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            log.warning("the serving process %s; starting it again in %.1f s", outcome, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def _run(self) -> int:
        """Run one process from its start to its end and return its exit code."""
        self._last_line = ""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "serving", *self._arguments),
            *("--host", "127.0.0.1", "--port", "0", "--exit-with-stdin", "--drain-seconds", "0"),
            stdin=asyncio.subprocess.PIPE,  # never written to; if we end, it closes and the child ends
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            # The key is not on the command line, which every user of the machine can read.
            env={**os.environ, **self._environment, "TECH_ASSISTANT_SERVING_KEY": self.api_key},
            start_new_session=True,  # Ctrl-C must reach only the parent, which then ends the child
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
            # Not `asyncio.timeout`: in the first releases of Python 3.11 it fails in a task that is being
            # cancelled, and the process would never be killed.
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
            await self._wait_for_hang(address.result())
        log.error("the serving process hangs; killing it")
        process.kill()

    async def _wait_for_hang(self, url: str) -> None:
        """Return when the process has left too many checks in a row unanswered."""
        missed, state = 0, "loading"
        while missed < (MISSES * LOADING_TIMES if state in LOADING_STATES else MISSES):
            # Check often while it loads. If it hangs right afterwards, it must not get the longer time.
            await asyncio.sleep(self._patience / (10 if missed else 100 if state == "loading" else 2))
            try:
                async with asyncio.timeout(self._patience):
                    state, missed = await self._state(url), 0
            except (TimeoutError, ConnectionError):
                missed += 1
            except OSError as error:  # we have no files or ports left, which is not the child's fault
                log.debug("the serving process could not be checked", exc_info=error)

    async def _state(self, url: str) -> str:
        """The state of the engine that the process reports; empty for an unknown answer. Raises OSError."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            # In HTTP/1.0, the server closes the connection after the answer.
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
        async for self._last_line in _lines(stderr):
            log.info("%s", self._last_line)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of a stream. Each is cut to `LONGEST_LINE` characters."""
    rest = b""
    while piece := await stream.read(4096):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip()[:LONGEST_LINE]
        rest = rest[: 4 * LONGEST_LINE]
    if rest:
        yield rest.decode("utf-8", "replace").rstrip()[:LONGEST_LINE]
