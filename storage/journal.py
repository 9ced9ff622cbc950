"""The journal of running replies: text is stored before anybody sees it.

The text of a running reply is appended piece by piece to its `JournalEntry`. One writer commits the new text
of all entries in one transaction, and only then shows it to listeners. So a process that is killed at any
moment has stored everything that anybody has seen, and 200 replies cost one commit, not 200. At the end one
transaction folds the pieces into the message. Offsets count Unicode code points.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from assistant.conversation import Failure, Source, Status
from assistant.events import Cited, Delta, End, Reset
from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.rows import stored_sources
from storage.running import LEASES, Outcome, fold, utc_now
from storage.schema import RUNNING, messages

log = logging.getLogger(__name__)

# Seconds between two commits, by the number of running replies: a single reader waits for nothing, and under
# load fewer and larger commits leave the processor to the replies. The first words of an answer never wait
# longer than `SOON`.
PACE = ((8, 0.02), (256, 0.05), (10**9, 0.1))
SOON = 0.02
RETRY_SECONDS = 0.5  # after a commit that the database refused
GIVE_UP_AFTER = 10  # refused commits in a row: then the replies that wait for them fail

NOT_STORED = Failure("storage", "The end of this reply could not be stored: the database refuses to write.")

# A reply that was removed, or that another process has settled, gets no text and lets the others have theirs.
ADD_PIECE = sa.text(
    "INSERT INTO piece (reply_id, start, text)"
    " SELECT :reply_id, :start, :text WHERE EXISTS (SELECT 1 FROM message"
    " WHERE id = :reply_id AND status IN ('pending', 'streaming') AND process = :process)"
)
BEGIN_STREAMING = sa.text(
    "UPDATE message SET status = 'streaming' WHERE id = :reply_id AND status = 'pending'"
)
CITE = (
    sa.update(messages)
    .where(messages.c.id == sa.bindparam("reply"), RUNNING, messages.c.process == sa.bindparam("runner"))
    .values(sources=sa.bindparam("cited", type_=messages.c.sources.type))
)


class JournalEntry:
    """A running reply: its sources and the text so far, and how much of that is committed and may be seen."""

    def __init__(self, reply_id: str) -> None:
        self.reply_id = reply_id
        self.outcome: Outcome | None = None
        self.trouble: DatabaseUnavailable | None = None  # why no more text of this entry can be stored
        self._pieces: list[str] = []
        self._taken = 0  # pieces handed to the writer
        self._taken_length = 0  # their code points
        self._visible = 0  # pieces committed
        self._sources: tuple[Source, ...] = ()
        self._sources_taken: tuple[Source, ...] = ()
        self._sources_visible: tuple[Source, ...] = ()
        self._changed: asyncio.Future[None] | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        return self._sources

    @property
    def text(self) -> str:
        """All the text, whether anybody has seen it or not."""
        return "".join(self._pieces)

    @property
    def known(self) -> int:
        """How many code points are committed."""
        return sum(map(len, self._pieces[: self._visible]))

    async def follow(self, after: int | None = 0) -> AsyncIterator[Cited | Reset | Delta | End]:
        """The committed text after code point `after`, as it comes, then the end; sources before the text.

        Begins with a `Reset` if `after` is None or beyond the text.
        """
        known = self.known
        position = known if after is None or after > known else after
        if position != after:
            yield Reset(self.text[:position], position)
        seen, skip = 0, position
        cited: tuple[Source, ...] = ()
        while True:
            if self._sources_visible is not cited:
                cited = self._sources_visible
                yield Cited(cited)
            elif seen < self._visible:
                text = "".join(self._pieces[seen : self._visible])
                seen = self._visible
                if skip:
                    text, skip = text[skip:], max(0, skip - len(text))
                if text:
                    position += len(text)
                    yield Delta(text, position)
            elif (outcome := self.outcome) is not None:
                yield End(outcome.status, outcome.finish_reason, outcome.failure, position)
                return
            else:
                if self._changed is None:
                    self._changed = asyncio.get_running_loop().create_future()
                await asyncio.shield(self._changed)

    def _take(self) -> _New:
        """Take the new text and sources for the next commit."""
        text = "".join(self._pieces[self._taken :])
        start = self._taken_length
        sources = None if self._sources is self._sources_taken else self._sources
        self._taken = len(self._pieces)
        self._taken_length += len(text)
        self._sources_taken = self._sources
        return _New(self, self._taken, start, text, sources)

    def _show(self, pieces: int, sources: tuple[Source, ...] | None) -> None:
        self._visible = max(self._visible, pieces)
        if sources is not None:
            self._sources_visible = sources
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None


@dataclass(frozen=True, slots=True)
class _New:
    """What the next commit has of an entry: the text from code point `start` on, and new sources.

    After the commit `pieces` pieces of the entry are committed.
    """

    entry: JournalEntry
    pieces: int
    start: int
    text: str
    sources: tuple[Source, ...] | None


class Journal:
    """The running replies of this process."""

    def __init__(
        self, database: Database, *, process: str | None = None, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._process = process or database.process
        self._now = now
        self._entries: set[JournalEntry] = set()
        self._new_text: dict[str, JournalEntry] = {}
        self._begins = False  # whether `_new_text` has the first words of an answer
        self._woken = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._later: set[asyncio.Task[None]] = set()  # folds that the database has refused so far

    def start(self) -> None:
        self._writer = asyncio.create_task(self._write())

    async def close(self) -> None:
        tasks = [*self._later, *([] if self._writer is None else [self._writer])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def open(self, reply_id: str) -> JournalEntry:
        """Begin the entry of a reply whose message is stored."""
        self._entries.add(entry := JournalEntry(reply_id))
        return entry

    def append(self, entry: JournalEntry, text: str) -> None:
        """Add text to a reply. Raises `DatabaseUnavailable` once the database has refused for too long."""
        if entry.trouble is not None:
            raise entry.trouble
        self._begins = self._begins or not entry._pieces
        entry._pieces.append(text)
        self._new_text[entry.reply_id] = entry
        self._woken.set()

    def cite(self, entry: JournalEntry, sources: tuple[Source, ...]) -> None:
        """Give a reply its sources, or replace them. Raises as `append` does."""
        if entry.trouble is not None:
            raise entry.trouble
        entry._sources = sources
        self._new_text[entry.reply_id] = entry
        self._woken.set()

    async def settle(self, entry: JournalEntry, outcome: Outcome) -> None:
        """Fold the whole text into the message with its outcome, then show the rest and the end.

        If the database refuses that, listeners get a failure as the end, with the text that was committed.
        The journal then tries again until it succeeds, so that no generated text is lost.
        """
        self._new_text.pop(entry.reply_id, None)
        shown, ended = entry._visible, Outcome(Status.FAILED, failure=NOT_STORED)
        sources = None
        try:
            if await self._fold(entry, outcome):
                shown, ended, sources = len(entry._pieces), outcome, entry._sources
            else:  # another process has settled it, with the text that was committed
                ended = Outcome(Status.INTERRUPTED)
        except DatabaseUnavailable as error:
            log.error("reply %s could not be settled: %s", entry.reply_id, error)
            self._later.add(later := asyncio.create_task(self._fold_later(entry, outcome)))
            later.add_done_callback(self._later.discard)
        finally:
            entry.outcome = ended
            entry._show(shown, sources)
            self._entries.discard(entry)

    async def _fold(self, entry: JournalEntry, outcome: Outcome) -> bool:
        work = partial(
            fold,
            reply_id=entry.reply_id,
            text=entry.text,
            sources=entry._sources,
            outcome=outcome,
            process=self._process,
            now=self._now(),
        )
        return await self._database.write(work, makes_room=True)

    async def _fold_later(self, entry: JournalEntry, outcome: Outcome) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            with contextlib.suppress(DatabaseUnavailable):
                await self._fold(entry, outcome)
                return

    async def _write(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            batch = [entry._take() for entry in self._new_text.values()]
            self._new_text.clear()
            self._begins = False
            await self._commit(batch)
            for new in batch:
                if new.entry.trouble is None:
                    new.entry._show(new.pieces, new.sources)
            pause = next(pace for most, pace in PACE if len(self._entries) <= most)
            while pause > 0 and not self._begins:
                await asyncio.sleep(min(pause, SOON))
                pause -= SOON

    async def _commit(self, batch: list[_New]) -> None:
        """Commit a batch. An entry of which something cannot be committed gets its `trouble`."""
        for attempt in range(1, GIVE_UP_AFTER + 1):
            try:
                lost = await self._database.execute(partial(_add, batch=batch, process=self._process))
                for new in batch:
                    if new.entry.reply_id in lost:
                        new.entry.trouble = DatabaseUnavailable("Another process has ended this reply.")
                return
            except DatabaseUnavailable as error:
                log.error("the journal could not be written (%d times): %s", attempt, error)
                if attempt == GIVE_UP_AFTER:  # also for text that came meanwhile, which has waited as long
                    for entry in (*(new.entry for new in batch), *self._new_text.values()):
                        entry.trouble = error
                    self._new_text.clear()
            except Exception:  # a mistake in our code must not end all other replies
                log.exception("the journal could not be written")
                for new in batch:
                    new.entry.trouble = DatabaseUnavailable("The text could not be stored.")
                return
            await asyncio.sleep(RETRY_SECONDS)


def _add(connection: sa.Connection, batch: list[_New], process: str) -> set[str]:
    """Commit a batch. Returns the ids of the replies that `process` does not run any more."""
    cited = [
        {"reply": new.entry.reply_id, "cited": stored_sources(new.sources), "runner": process}
        for new in batch
        if new.sources is not None
    ]
    rows: list[dict[str, Any]] = [
        {"reply_id": new.entry.reply_id, "start": new.start, "text": new.text, "process": process}
        for new in batch
        if new.text
    ]
    if cited:
        connection.execute(CITE, cited)
    if not rows:
        return set()
    added = connection.execute(ADD_PIECE, rows).rowcount
    first = [{"reply_id": row["reply_id"]} for row in rows if row["start"] == 0]
    if first:
        connection.execute(BEGIN_STREAMING, first)
    if added == len(rows):
        return set()
    return {row["reply_id"] for row in rows} - set(connection.scalars(LEASES, {"runner": process}))
