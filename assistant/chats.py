"""What the faces of the application ask of stored conversations, for one owner at a time.

A deleted conversation can be restored for a while. Then it is removed for good, in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from assistant.conversation import Conversation, Message
from assistant.replies import Replies
from storage.database import Database
from storage.errors import DatabaseUnavailable, NotFound
from storage.owners import OwnerStore
from storage.store import MOST_MESSAGES, ConversationStore

log = logging.getLogger(__name__)

RESTORABLE = timedelta(seconds=60)  # how long a deleted conversation can be restored
TIDY_SECONDS = 20.0
COOKIE_KEPT = timedelta(days=400)  # since it was last renewed; browsers keep none longer
CLEAN_SECONDS = 5.0  # how long erasing waits until the files hold nothing of the owner either


class Chats:
    """The conversations of every owner."""

    def __init__(
        self, database: Database, store: ConversationStore, owners: OwnerStore, replies: Replies
    ) -> None:
        self._database = database
        self._store = store
        self._owners = owners
        self._replies = replies
        self._tidying: asyncio.Task[None] | None = None
        self.marks: dict[str, str] = {}  # by owner: the mark of valid cookies, if older ones were revoked

    async def load(self) -> None:
        """Read the marks of revoked cookies. Raises `DatabaseUnavailable`."""
        self.marks.update(await self._owners.marks())

    async def start(self) -> None:
        """Remove for good what was deleted, now and from now on."""
        await self._tidy()
        self._tidying = asyncio.create_task(self._keep_tidy())

    async def close(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)

    async def check(self) -> None:
        """Raises `DatabaseUnavailable` when questions cannot be stored."""
        await self._database.check()

    # Conversations

    async def create(self, owner: str, title: str | None = None, *, grounding: bool = True) -> Conversation:
        return await self._store.create_conversation(owner, title or "", grounding=grounding)

    async def page(
        self, owner: str, *, limit: int, cursor: str | None = None
    ) -> tuple[list[Conversation], str | None]:
        """One page of an owner's conversations, and the cursor of the next."""
        return await self._store.conversations(owner, limit=limit, cursor=cursor)

    async def conversation(
        self, owner: str, conversation_id: str, *, limit: int = MOST_MESSAGES, before: int | None = None
    ) -> tuple[Conversation, Sequence[Message]]:
        """A conversation and its newest messages, of those before position `before`."""
        return await self._store.conversation(owner, conversation_id, limit=limit, before=before)

    async def reply(self, owner: str, reply_id: str) -> Message:
        """A reply as it is stored now."""
        return await self._store.reply(owner, reply_id)

    async def change(
        self,
        owner: str,
        conversation_id: str,
        *,
        title: str | None = None,
        active_leaf_id: str | None = None,
        grounding: bool | None = None,
    ) -> Conversation:
        return await self._store.change(
            owner, conversation_id, title=title, active_leaf_id=active_leaf_id, grounding=grounding
        )

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Delete a conversation and stop its reply. `restore` brings it back for at least `RESTORABLE`."""
        await self._store.delete(owner, conversation_id)
        await self._replies.stop_conversation(conversation_id)

    async def restore(self, owner: str, conversation_id: str) -> Conversation:
        return await self._store.restore(owner, conversation_id)

    # Everything of an owner

    async def export(self, owner: str) -> AsyncIterator[Conversation | Message]:
        """Each conversation of an owner, followed by its messages, read page by page."""
        after = ""
        while ids := await self._store.ids(owner, after=after):
            for after in ids:
                with contextlib.suppress(NotFound):  # it was deleted meanwhile
                    conversation, messages = await self._store.messages(owner, after)
                    yield conversation
                    while messages:
                        for message in messages:
                            yield message
                        last = messages[-1].position
                        _, messages = await self._store.messages(owner, after, after=last)

    async def acceptances(self, owner: str) -> dict[str, datetime]:
        """The licences that an owner has accepted, and when."""
        return await self._owners.acceptances(owner)

    async def revoke(self, owner: str) -> None:
        """Make all cookies invalid that an owner has got until now. The conversations stay."""
        self.marks[owner] = await self._owners.revoke(owner, kept=COOKIE_KEPT)

    async def erase(self, owner: str) -> None:
        """Remove everything of an owner at once and for good, deleted conversations too.

        A question that arrives meanwhile is either removed too, or stored afterwards as something new.
        """
        if not await self._owners.erase(owner):
            return
        await self._replies.stop_owner(owner)
        await self._store.purge(older_than=RESTORABLE)
        await self._database.clean(rewrite=True, patience=CLEAN_SECONDS)

    async def _keep_tidy(self) -> None:
        await self._database.examine()
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            await self._tidy()
            # Rewriting the database makes everybody wait: it is done when no reply runs.
            await self._database.clean(rewrite=not self._replies.are_running)

    async def _tidy(self) -> None:
        try:
            await self._store.purge(older_than=RESTORABLE)
        except DatabaseUnavailable as error:  # chats can still be read, and the next round tries again
            log.error("deleted conversations could not be removed: %s", error)
        except Exception:  # whatever it is, there must be a next round
            log.exception("deleted conversations could not be removed")
