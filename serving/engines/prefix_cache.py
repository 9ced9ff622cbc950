"""What most prompts begin with, computed once and kept on disk: llama.cpp's state after it, for each slot.

Knows llama.cpp's slots and files of their state; refuses to know what the tokens say and when there is time
to compute them. A file belongs to one model, one context and one build of llama.cpp: all of that is in its
name, so that a state that no longer fits is never read. So is a digest of what is in it: llama.cpp believes
what it reads, and ends the whole process over a file that is cut short. What cannot be read or written is
computed anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from serving.engine import ServingError

log = logging.getLogger("serving.engines.prefix_cache")

MOST_FILES = 4  # in the directory: some ten megabytes each
SUFFIX = ".state"
HEAD = 1 << 20  # bytes of a model's file that stand for it, with its size and time

Ask = Callable[..., Awaitable[Any]]


def fingerprint(model: Path, *others: object) -> str:
    """What a state of this model is good for, as a word for file names. Raises OSError."""
    status = model.stat()
    digest = hashlib.sha256(repr((status.st_size, status.st_mtime_ns, *others)).encode())
    with model.open("rb") as file:
        digest.update(file.read(HEAD))
    return digest.hexdigest()[:16]


class PrefixCache:
    """The states in a directory that llama.cpp writes to. `ask` posts to llama.cpp: a path and a body.
    Together the slots are filled with no more than `room` tokens, but for the first."""

    def __init__(self, directory: Path, model: str, ask: Ask, *, slots: int, room: int) -> None:
        self._directory = directory
        self._model = model
        self._slots = slots
        self._room = room
        self._ask = ask
        self.tokens: Sequence[int] = ()
        """The beginning that slots are filled with, as far as it is known here."""
        self._name = ""

    async def restore_last(self) -> None:
        """Fill the slots with the beginning that this model had last."""
        last = max(self._files(f"{self._model}-*{SUFFIX}"), key=_age, default=None)
        if last is not None:
            await self._fill(last.stem.rpartition("-")[0], range(self._slots))

    async def keep(self, tokens: Sequence[int], *, fresh: bool) -> None:
        """Fill the slots with this beginning: as it is on disk, or computed now. Other slots than the first
        are filled only while they are `fresh`: conversations may be in them. Raises `ServingError`."""
        name = f"{self._model}-{hashlib.sha256(repr(list(tokens)).encode()).hexdigest()[:16]}"
        fitting = max(1, self._room // len(tokens)) if fresh else 1
        if name != self._name and not await self._fill(name, range(min(fitting, self._slots))):
            # Its answer of one token is not wanted; the state is that after the prompt.
            answer = await self._ask("completion", prompt=list(tokens), n_predict=0)
            await self._save(name, slot := int(answer["id_slot"]))
            others = [other for other in range(self._slots) if other != slot]
            await self._fill(name, others[: fitting - 1])
        self._name, self.tokens = name, tuple(tokens)

    async def _fill(self, name: str, slots: Sequence[int]) -> bool:
        path = max(self._files(f"{name}-*{SUFFIX}"), key=_age, default=None)
        if path is None:
            return False
        room = self._room
        try:
            if path.stem != f"{name}-{await asyncio.to_thread(_digest, path)}":
                raise OSError("it is damaged")
            for slot in slots:
                answer = await self._ask(f"slots/{slot}?action=restore", filename=path.name)
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
            await self._ask(f"slots/{slot}?action=save", filename=part)
            digest = await asyncio.to_thread(_digest, self._directory / part)
            (self._directory / part).replace(self._directory / f"{name}-{digest}{SUFFIX}")
            for old in sorted(self._files(f"*{SUFFIX}"), key=_age, reverse=True)[MOST_FILES:]:
                old.unlink(missing_ok=True)
        except (ServingError, OSError) as error:
            log.warning("the beginning of prompts could not be kept in %s: %s", self._directory, error)
            with contextlib.suppress(OSError):
                (self._directory / part).unlink(missing_ok=True)

    def _files(self, pattern: str) -> list[Path]:
        with contextlib.suppress(OSError):
            return list(self._directory.glob(pattern))
        return []


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0
