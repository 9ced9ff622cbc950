"""The parts of the application that `app.py` wires, without a server."""

from __future__ import annotations

from typing import Any

from assistant.chats import Chats
from assistant.knowledge.documentation import Documentation
from assistant.licences import Licences
from assistant.replies import Replies
from assistant.site_documentation import SiteDocumentation
from assistant.sites import Sites
from storage.database import Database
from storage.journal import Journal
from storage.owners import OwnerStore
from storage.running import Running
from storage.store import ConversationStore


class Parts:
    """`process` names the process whose parts these are, if it is not the database's own.

    As many replies may wait as may run, so that one owner alone may run them all.
    """

    def __init__(
        self,
        database: Database,
        served: Any,
        documentation: Documentation | None = None,
        sites: Sites | None = None,
        *,
        process: str | None = None,
        max_replies: int = 8,
        max_waiting: int | None = None,
        total_seconds: float | None = None,
    ) -> None:
        store, owners = ConversationStore(database, process=process), OwnerStore(database)
        self.licences = Licences(owners, served)
        self.replies = Replies(
            store,
            Journal(database, process=process),
            Running(database, process=process),
            served,
            documentation or Documentation(None),
            self.licences,
            SiteDocumentation(sites or Sites()),
            max_replies=max_replies,
            max_waiting=max_replies if max_waiting is None else max_waiting,
            total_seconds=total_seconds,
        )
        self.chats = Chats(database, store, owners, self.replies, sites)

    async def start(self) -> None:
        await self.replies.start()
        await self.chats.start()

    async def close(self) -> None:
        await self.replies.close()
        await self.chats.close()
