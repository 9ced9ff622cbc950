"""The events of a reply for one who follows it, whichever process runs the reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from assistant.admission import Ticket
from assistant.conversation import Message, Source, Status
from assistant.events import Cited, Delta, End, ReplyEvent, Reset, Waiting
from storage.errors import NotFound
from storage.journal import NOT_STORED, JournalEntry
from storage.running import Running
from storage.store import ConversationStore


async def follow_here(ticket: Ticket, entry: JournalEntry, after: int | None) -> AsyncIterator[ReplyEvent]:
    """Follow a reply that this process runs."""
    async for before in ticket.positions():
        yield Waiting(before)
    async for event in entry.follow(after):
        yield event


async def follow_stored(
    store: ConversationStore,
    running: Running,
    owner: str,
    reply: Message,
    is_held: bool,
    after: int | None,
    pause: float,
) -> AsyncIterator[ReplyEvent]:
    """Follow a reply that has ended, or that another process runs if it `is_held`. `pause` is the time in
    seconds between two looks at the text of another process."""
    sources: tuple[Source, ...] = ()
    while True:
        text, length = reply.content, len(reply.content)
        if reply.sources != sources:
            yield Cited(sources := reply.sources)
        if after is None or after > length:
            yield Reset(text, length)
        elif after < length:
            yield Delta(text[after:], length)
        after = length
        if reply.status.is_final:
            yield End(reply.status, reply.finish_reason, reply.failure, length)
            return
        if not is_held:  # its process has ended, or the database refuses to store its end
            yield End(Status.FAILED, None, NOT_STORED, length)
            return
        await asyncio.sleep(pause)
        try:
            is_held = await running.is_held(reply.id)
            reply = await store.reply(owner, reply.id)
        except NotFound:  # it was deleted
            yield End(Status.STOPPED, None, None, length)
            return
