"""Documentation without an index, which finds what a test gives it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

from assistant.knowledge.documentation import (
    Documentation,
    DocumentationState,
    DocumentationStatus,
    DocumentationUnreadable,
)
from assistant.knowledge.index_writer import ReadUnit
from assistant.knowledge.passage import Batch, Passage, SearchResult

RMTREE = Passage(
    name="shutil.rmtree",
    kind="function",
    title="shutil.rmtree",
    text="Recursively delete a directory tree.",
    package="Python",
    version="3.11.2",
    licence="PSF-2.0",
    location="shutil.py:722",
    corpus="python",
    signature="shutil.rmtree(path, ignore_errors=False, onerror=None)",
)
FOUND = SearchResult(passages=(RMTREE,), confidence=1.0)


def passage(name: str, text: str = "What it does.", **fields: str) -> Passage:
    fields = {"signature": f"{name}()", **fields}
    return dataclasses.replace(RMTREE, name=name, title=name, text=text, **fields)


def unit(key: str, *passages: Passage, fingerprint: str = "1", root: str = "", **batch: Any) -> ReadUnit:
    """What the reading of a unit gave, to be put into an index."""
    return ReadUnit(key, passages[0].corpus, fingerprint, root, Batch(passages, **batch))


class FakeDocumentation(Documentation):
    """Returns `found` for every question, as soon as `gate` is set, and knows the names in it. `asked`
    records all questions, each after its earlier ones."""

    def __init__(
        self, found: SearchResult = FOUND, state: DocumentationState = DocumentationState.READY
    ) -> None:
        super().__init__(None)
        self.status = DocumentationStatus(state, passages=1, done=1, total=1)
        self.is_searchable = state is DocumentationState.READY
        self.found = found
        self.error: DocumentationUnreadable | None = None
        self.asked: list[tuple[str, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def search(self, question: str, *, previous: Sequence[str] = (), limit: int = 4) -> SearchResult:
        self.asked.append((*previous, question))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return dataclasses.replace(self.found, passages=self.found.passages[:limit])

    async def passages_named(self, name: str) -> list[Passage]:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [one for one in self.found.passages if f".{one.name}".endswith(f".{name}")]

    async def names_like(self, name: str) -> list[str]:
        return list(dict.fromkeys(one.name for one in self.found.passages))

    async def covers(self) -> list[str]:
        return list(dict.fromkeys(f"{one.package} {one.version}" for one in self.found.passages))
