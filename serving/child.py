"""Keep `python -m serving` running as a child process, for as long as the parent lives and no longer.

Knows processes, restarts and the child's one line of output; refuses to know what it serves. Only the
standard library: whoever starts a child does not load what the child is made of.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

log = logging.getLogger("serving")

ROOT = Path(__file__).resolve().parent.parent
BAD_USAGE = 2  # exit code: starting again would not help
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.2, 10.0
STEADY_SECONDS = 60.0  # a child that ran for so long has not failed at starting
TERMINATE_SECONDS = 1.5
LONGEST_LINE = 2000  # characters of the child's words that are kept


class ChildFailed(Exception):
    """The child cannot be started; the text is what it said."""


class ServingChild:
    """One serving process on a loopback port, with a random key. `arguments` name the engine.

    `url` is None while there is no process that listens, and changes with each restart. `failure` says why
    there is none and will be none. `on_exit` is told the code of each process that ended by itself.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        on_exit: Callable[[int], None] | None = None,
    ) -> None:
        self.url: str | None = None
        self.api_key = secrets.token_urlsafe(32)
        self.failure: str | None = None
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._on_exit = on_exit
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
        reading = asyncio.gather(self._read_address(process.stdout), self._pass_on(process.stderr))
        try:
            await process.wait()
            await reading
        finally:
            self.url = None
            process.stdin.close()
            if process.returncode is None:
                await self._end(process)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
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

    async def _read_address(self, stdout: asyncio.StreamReader) -> None:
        async for line in _lines(stdout):
            if line.startswith("serving on "):
                self.url = line.removeprefix("serving on ")
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
