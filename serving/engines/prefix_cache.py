"""Computes the shared beginning of most prompts once, and saves llama.cpp's state after it on disk.

A file is valid for one model, one context and one build of llama.cpp. Its name contains all of them, so that
a state that no longer fits is never read. The name also contains a digest of the file: llama.cpp does not
check what it reads, and a truncated file ends the whole process. If a file cannot be read or written, the
state is computed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.engine import ServingError

log = logging.getLogger(__name__)

MOST_FILES = 4  # in the directory, of some ten megabytes each
SUFFIX = ".state"
HEAD = 1 << 20  # bytes at the start of a model file that identify it, together with its size and time

Ask = Callable[..., Awaitable[Any]]


def fingerprint(model: Path, *others: object) -> str:
    """Identifies the model, and everything else that a state depends on, in file names. Raises OSError."""
    status = model.stat()
    digest = hashlib.sha256(repr((status.st_size, status.st_mtime_ns, *others)).encode())
    with model.open("rb") as file:
        digest.update(file.read(HEAD))
    return digest.hexdigest()[:16]


@dataclass
class PrefixCache:
    """The states that llama.cpp saves in a directory. `ask` sends a path and a body to llama.cpp. The slots
    are filled with `room` tokens at most, not counting the first slot."""

    directory: Path
    model: str
    ask: Ask
    slots: int
    room: int
    tokens: Sequence[int] = ()  # the prefix in the slots; empty until `keep` has set it
    _name: str = ""

    async def restore_last(self) -> None:
        """Fill the slots with the latest prefix of this model."""
        for last in self._files(f"{self.model}-*{SUFFIX}")[:1]:
            await self._fill(last.stem.rpartition("-")[0], range(self.slots))

    async def keep(self, tokens: Sequence[int], *, all_slots: bool) -> None:
        """Fill the slots with this prefix: read it from the disk, or compute it. Without `all_slots`, only
        one slot: the others may contain conversations. Raises `ServingError`."""
        name = f"{self.model}-{hashlib.sha256(repr(list(tokens)).encode()).hexdigest()[:16]}"
        fitting = max(1, self.room // len(tokens)) if all_slots else 1
        if name != self._name and not await self._fill(name, range(min(fitting, self.slots))):
            # The answer does not matter, only the state after the prompt.
            answer = await self.ask("completion", prompt=list(tokens), n_predict=0)
            await self._save(name, slot := int(answer["id_slot"]))
            others = [other for other in range(self.slots) if other != slot]
            await self._fill(name, others[: fitting - 1])
        self._name, self.tokens = name, tuple(tokens)

    async def _fill(self, name: str, slots: Sequence[int]) -> bool:
        paths = self._files(f"{name}-*{SUFFIX}")
        if not paths:
            return False
        path, room = paths[0], self.room
        try:
            if path.stem != f"{name}-{await asyncio.to_thread(_digest, path)}":
                raise OSError("it is damaged")
            for slot in slots:
                answer = await self.ask(f"slots/{slot}?action=restore", filename=path.name)
                room -= answer["n_restored"]
                if room < answer["n_restored"]:
                    break
        except (ServingError, OSError) as error:
            log.warning("%s cannot be used: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return False
        self._name = name
        with contextlib.suppress(OSError):
            os.utime(path)
        return True

    async def _save(self, name: str, slot: int) -> None:
        part = f"{name}.part"
        try:
            await self.ask(f"slots/{slot}?action=save", filename=part)
            digest = await asyncio.to_thread(_digest, self.directory / part)
            (self.directory / part).replace(self.directory / f"{name}-{digest}{SUFFIX}")
            for old in self._files(f"*{SUFFIX}")[MOST_FILES:]:
                old.unlink(missing_ok=True)
        except (ServingError, OSError) as error:
            log.warning("the beginning of prompts could not be saved in %s: %s", self.directory, error)
            with contextlib.suppress(OSError):
                (self.directory / part).unlink(missing_ok=True)

    def _files(self, pattern: str) -> list[Path]:
        """The newest first."""
        with contextlib.suppress(OSError):
            return sorted(self.directory.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
        return []


class PrefixWarmer:
    """Computes a prefix while no generation runs. A generation that begins with the prefix waits for it,
    because it could only compute the same; any other generation interrupts it."""

    def __init__(self) -> None:
        self._prefix: list[int] = []
        self._computing: asyncio.Task[None] | None = None
        self._generations = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_fresh = True  # no generation has run yet

    async def warm(self, cache: PrefixCache, prefix: list[int]) -> None:
        """Returns once `cache` holds the prefix. Raises `ServingError`."""
        self._prefix = prefix
        try:
            while prefix != list(cache.tokens):
                while self._generations:
                    await self._idle.wait()
                self._computing = asyncio.create_task(cache.keep(prefix, all_slots=self._is_fresh))
                await asyncio.wait([self._computing])
                if not self._computing.cancelled():
                    self._computing.result()
        finally:
            if self._computing is not None:
                self._computing.cancel()

    async def make_way(self, tokens: list[int]) -> None:
        """Returns when a generation with this prompt may begin."""
        if self._computing is None or self._computing.done():
            return
        if tokens[: len(self._prefix)] != self._prefix:
            self._computing.cancel()
        await asyncio.wait([self._computing])

    @contextlib.asynccontextmanager
    async def generation(self) -> AsyncGenerator[None]:
        self._generations += 1
        self._idle.clear()
        self._is_fresh = False
        try:
            yield
        finally:
            self._generations -= 1
            if not self._generations:
                self._idle.set()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
