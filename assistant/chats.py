"""What the faces of the application ask of stored conversations, for one owner at a time.

A deleted conversation can be restored for a while. Then it is removed for good, in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import timedelta

from assistant.conversation import Conversation, Message
from assistant.replies import Replies
from assistant.sites import Sites
from storage.database import Database
from storage.errors import DatabaseUnavailable, NotFound
from storage.exchanges import ExchangeStore
from storage.feedback import FeedbackStore
from storage.owners import OwnerStore
from storage.running import utc_now
from storage.sites import SiteStore
from storage.store import ConversationStore

log = logging.getLogger(__name__)

RESTORABLE = timedelta(seconds=60)  # how long a deleted conversation can be restored
TIDY_SECONDS = 20.0
COOKIE_KEPT = timedelta(days=400)  # since it was last renewed; browsers keep none longer
CLEAN_SECONDS = 5.0  # how long erasing waits until the files hold nothing of the owner either


class Chats:
    """The conversations of every owner."""

    def __init__(
        self,
        database: Database,
        store: ConversationStore,
        owners: OwnerStore,
        replies: Replies,
        sites: Sites | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._owners = owners
        self._replies = replies
        self._sites = sites or Sites()
        self._site_store = SiteStore(database)
        self._tidying: asyncio.Task[None] | None = None
        self.marks: dict[str, str] = {}  # by owner: the mark of valid cookies, if older ones were revoked
        # These need nothing but storage.
        self.check = database.check
        self.create = store.create_conversation
        self.page = store.conversations
        self.latest = store.latest
        self.conversation = store.conversation
        self.reply = store.reply
        self.change = store.change
        self.restore = store.restore
        self.acceptances = owners.acceptances
        self.rate = FeedbackStore(database).give
        self.exchanges = ExchangeStore(database)  # of all owners, for the report of a site
        self.use_identity = self._site_store.use_identity

    async def load(self) -> None:
        """Read the marks of revoked cookies. Raises `DatabaseUnavailable`."""
        self.marks.update(await self._owners.marks())

    async def start(self) -> None:
        """Remove for good what was deleted or is kept no longer, now and from now on."""
        await self._tidy()
        self._tidying = asyncio.create_task(self._keep_tidy())

    async def close(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Delete a conversation and stop its reply. `restore` brings it back for at least `RESTORABLE`."""
        await self._store.delete(owner, conversation_id)
        await self._replies.stop_conversation(conversation_id)

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
                        _, messages = await self._store.messages(owner, after, after=message.position)

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

    async def take_over(self, site: str, owner: str, new_owner: str) -> None:
        """Give the chats that an owner has at a site to another one, also those that are answered now."""
        await self._replies.rename_owner(owner, new_owner)
        await self._site_store.take_over(site, owner, new_owner)

    async def _tidy_sites(self) -> None:
        """Remove the chats that a site keeps no longer, and all of those of removed sites."""
        for site in self._sites.all():
            if site.keep_days is not None:
                await self._site_store.expire(site.key, utc_now() - timedelta(days=site.keep_days))
        for key in self._sites.removed():
            await self._replies.site_documentation.drop(key)
            await self._site_store.expire(key)
            self._sites.forget(key)

    async def _keep_tidy(self) -> None:
        await self._database.examine()
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            await self._tidy()
            # Rewriting the database makes everybody wait: it is done when no reply runs.
            await self._database.clean(rewrite=not self._replies.are_running)

    async def _tidy(self) -> None:
        try:
            await self._tidy_sites()
            await self._store.purge(older_than=RESTORABLE)
        except DatabaseUnavailable as error:  # chats can still be read, and the next round tries again
            log.error("deleted conversations could not be removed: %s", error)
        except Exception:  # whatever it is, there must be a next round
            log.exception("deleted conversations could not be removed")
