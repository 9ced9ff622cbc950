"""Conversations in SQL: one method, one transaction.

Every method that serves a person takes the owner, and reads and changes only what that owner has. Anything
else raises `NotFound`, as if it did not exist. Methods return the frozen values of `assistant.conversation`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import uuid_utils
from sqlalchemy import Connection, Row, bindparam, select

from assistant.conversation import Conversation, Message, Role, Status, Turn
from storage.database import Database, leave_traces
from storage.errors import ClientIdReused, NotFound, StillAnswering, UnknownMessage, UnknownParent
from storage.owners import NOBODY
from storage.rows import MOST_CHARACTERS, conversation_of, message_of, messages_of
from storage.running import lease, utc_now
from storage.schema import RUNNING, conversations, messages

# Limits of one transaction, so that reading takes little memory and removing little room on the disk.
MOST_MESSAGES = 200  # that are read, if the caller names no limit
MOST_REMOVED = 100
MOST_IDS = 1000
MOST_POSITION = 2**31

# Statements are built once, because building one costs more than running it.
_is_owned = conversations.c.owner == bindparam("owner")
_is_visible = _is_owned & conversations.c.deleted_at.is_(None)
_limit = bindparam("limit", type_=sa.Integer)
OWNED = select(conversations).where(conversations.c.id == bindparam("id"), _is_owned)
_listed = (conversations.c.updated_at, conversations.c.id)
LISTED = select(conversations).where(_is_visible).order_by(*(key.desc() for key in _listed)).limit(_limit)
LISTED_AFTER = LISTED.where(
    sa.tuple_(*_listed)
    < sa.tuple_(bindparam("updated_at", type_=conversations.c.updated_at.type), bindparam("id"))
)
MESSAGES = select(messages).where(messages.c.conversation_id == bindparam("id")).limit(_limit)
MESSAGES_BEFORE = MESSAGES.where(messages.c.position < bindparam("before")).order_by(
    messages.c.position.desc()
)
MESSAGES_AFTER = MESSAGES.where(messages.c.position > bindparam("after")).order_by(messages.c.position)
ANSWERING = select(messages.c.id).where(messages.c.conversation_id == bindparam("id"), RUNNING).limit(1)
IDS_AFTER = (
    select(conversations.c.id)
    .where(_is_visible, conversations.c.id > bindparam("after"))
    .order_by(conversations.c.id)
    .limit(MOST_IDS)
)
REPLY = (
    select(messages)
    .join(conversations)
    .where(messages.c.id == bindparam("id"), messages.c.role == Role.ASSISTANT, _is_visible)
)
IN_CONVERSATION = select(messages.c.id).where(
    messages.c.id == bindparam("id"), messages.c.conversation_id == bindparam("conversation_id")
)
ASKED = (
    select(messages.c.id, messages.c.client_digest, messages.c.conversation_id)
    .join(conversations)
    .where(_is_visible, messages.c.client_id == bindparam("client_id"))
)
ASKED_IN = ASKED.where(messages.c.conversation_id == bindparam("conversation_id"))
ASKED_FIRST = ASKED.where(messages.c.position == 0)
FIRST_REPLY = (
    select(messages.c.id)
    .where(messages.c.parent_id == bindparam("id"))
    .order_by(messages.c.position)
    .limit(1)
)
_theirs = conversations.alias()
LAST_UPDATE = select(sa.func.max(_theirs.c.updated_at)).where(_theirs.c.owner == bindparam("owner"))
# What a question, or another answer to it, has to know of its conversation.
_is_inside = messages.c.conversation_id == conversations.c.id
GROWING = OWNED.add_columns(
    select(sa.func.max(messages.c.position)).where(_is_inside).scalar_subquery().label("last"),
    sa.exists().where(_is_inside, RUNNING).label("is_answering"),
    LAST_UPDATE.scalar_subquery().label("last_update"),
)
CREATE = sa.insert(conversations).returning(conversations)
ADD = sa.insert(messages)
GROWN = (
    sa.update(conversations)
    .where(conversations.c.id == bindparam("conversation"))
    .values(active_leaf_id=bindparam("leaf"), updated_at=bindparam("top"), title=bindparam("new_title"))
)
_step = (messages.c.id, messages.c.parent_id, messages.c.role, messages.c.content, messages.c.position)
_branch = select(*_step).where(messages.c.id == bindparam("id")).cte("branch", recursive=True)
# Each step goes back, so that no damage makes it walk in a circle.
_parent = (messages.c.id == _branch.c.parent_id) & (messages.c.position < _branch.c.position)
BRANCH = select(_branch.union_all(select(*_step).where(_parent)))
CONVERSATION_OF = (
    select(conversations.c.id, conversations.c.grounding)
    .join(messages)
    .where(messages.c.id == bindparam("id"))
)
DOOMED = select(conversations.c.id).where(conversations.c.owner == NOBODY).limit(1)
# Answers before what they answer: SQLite follows a cascade no deeper than a thousand of them.
LAST_MESSAGE = (
    select(messages.c.id, sa.func.length(messages.c.content).label("length"))
    .where(messages.c.conversation_id == bindparam("id"))
    .order_by(messages.c.position.desc())
    .limit(1)
)
REMOVE_MESSAGE = sa.delete(messages).where(messages.c.id == bindparam("message"))
REMOVE_CONVERSATION = sa.delete(conversations).where(conversations.c.id == bindparam("conversation"))


@dataclass(frozen=True, slots=True)
class StoredQuestion:
    """The ids of a question, of its reply and of their conversation.

    `is_new` is false if the same `client_id` was stored before, and nothing was added.
    """

    message_id: str
    reply_id: str
    conversation_id: str
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class Branch:
    """What a reply answers: the turns from the root of the conversation's tree to the question.

    `grounding` says whether documentation is looked up for the answer.
    """

    conversation_id: str
    turns: list[Turn]
    grounding: bool


@dataclass(frozen=True, slots=True)
class Latest:
    """Stands for the id of the conversation's active leaf, where a parent's id is expected."""


LATEST = Latest()


class BadCursor(ValueError):
    """A page cursor that this store did not give out."""


class ConversationStore:
    """The conversations of every owner, in one database."""

    def __init__(
        self, database: Database, *, process: str | None = None, now: Callable[[], datetime] = utc_now
    ) -> None:
        """`process` will run the replies to the questions that are stored here."""
        self._database = database
        self._process = process or database.process
        self._now = now

    # Conversations

    async def create_conversation(
        self, owner: str, title: str | None = None, *, grounding: bool = True, site: str | None = None
    ) -> Conversation:
        return await self._database.write(
            lambda connection: conversation_of(self._create(connection, owner, title or "", grounding, site))
        )

    async def conversations(
        self, owner: str, *, limit: int, cursor: str | None = None
    ) -> tuple[list[Conversation], str | None]:
        """A page, newest update first, and the cursor of the next page. Raises `BadCursor`."""
        statement, wanted = LISTED, {"owner": owner, "limit": limit + 1}
        if cursor is not None:
            statement, wanted = LISTED_AFTER, wanted | _read_cursor(cursor)

        def work(connection: Connection) -> tuple[list[Conversation], str | None]:
            rows = connection.execute(statement, wanted).all()
            page = [conversation_of(row) for row in rows[:limit]]
            return page, _write_cursor(page[-1]) if len(rows) > limit else None

        return await self._database.read(work)

    async def conversation(
        self, owner: str, conversation_id: str, *, limit: int = MOST_MESSAGES, before: int | None = None
    ) -> tuple[Conversation, Sequence[Message]]:
        """A conversation and its newest messages, of those before position `before`, in the order in which
        they were stored. Long messages make a page shorter than `limit`."""
        page = {"id": conversation_id, "before": MOST_POSITION if before is None else before, "limit": limit}
        found, newest = await self._page(owner, MESSAGES_BEFORE, page)
        return found, newest[::-1]

    async def latest(self, owner: str) -> tuple[str | None, str | None]:
        """The conversation that was used last, and the reply that runs in it."""

        def work(connection: Connection) -> tuple[str | None, str | None]:
            row = connection.execute(LISTED, {"owner": owner, "limit": 1}).first()
            return (None, None) if row is None else (row.id, connection.scalar(ANSWERING, {"id": row.id}))

        return await self._database.read(work)

    async def messages(
        self, owner: str, conversation_id: str, *, after: int = -1
    ) -> tuple[Conversation, Sequence[Message]]:
        """A conversation and its oldest messages, of those after position `after`."""
        page = {"id": conversation_id, "after": after, "limit": MOST_MESSAGES}
        return await self._page(owner, MESSAGES_AFTER, page)

    async def ids(self, owner: str, *, after: str = "") -> Sequence[str]:
        """The next ids of conversations after the id `after`, in an order that never changes."""
        page = {"owner": owner, "after": after}
        return await self._database.read(lambda connection: connection.scalars(IDS_AFTER, page).all())

    async def change(
        self,
        owner: str,
        conversation_id: str,
        *,
        title: str | None = None,
        active_leaf_id: str | None = None,
        grounding: bool | None = None,
    ) -> Conversation:
        """Change what is given. That does not move the conversation in the list, which is ordered by
        questions and answers. Raises `NotFound` and `UnknownMessage`."""

        def work(connection: Connection) -> Conversation:
            row = _owned(connection, owner, conversation_id)
            if title is not None:
                leave_traces(connection)
            if active_leaf_id is not None and not _has(connection, conversation_id, active_leaf_id):
                raise UnknownMessage("The message is not one of this conversation.")
            return conversation_of(
                _update(
                    connection,
                    row,
                    title=title or row.title,
                    active_leaf_id=active_leaf_id or row.active_leaf_id,
                    grounding=row.grounding if grounding is None else grounding,
                )
            )

        return await self._database.write(work)

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Hide a conversation until `restore` brings it back or `purge` removes it for good."""

        def work(connection: Connection) -> None:
            _update(connection, _owned(connection, owner, conversation_id), deleted_at=self._now())

        await self._database.write(work, makes_room=True)

    async def restore(self, owner: str, conversation_id: str) -> Conversation:
        """Bring a deleted conversation back. One that is not deleted stays as it is."""

        def work(connection: Connection) -> Conversation:
            row = _owned(connection, owner, conversation_id, or_deleted=True)
            return conversation_of(_update(connection, row, deleted_at=None))

        return await self._database.write(work)

    async def purge(self, *, older_than: timedelta) -> int:
        """Remove conversations for good that were erased, or deleted longer ago than `older_than`.

        Returns how many.
        """

        def take(connection: Connection) -> None:
            gone = conversations.c.deleted_at <= self._now() - older_than
            connection.execute(sa.update(conversations).where(gone).values(owner=NOBODY))

        await self._database.write(take, makes_room=True)
        removed = 0
        while (now_removed := await self._database.write(_remove_some, makes_room=True)) is not None:
            removed += now_removed
        return removed

    # Questions and replies

    async def ask(
        self,
        owner: str,
        conversation_id: str | None,
        text: str,
        *,
        parent_id: str | Latest | None = LATEST,
        client_id: str | None = None,
        title: str = "",
        grounding: bool = True,
        site: str | None = None,
    ) -> StoredQuestion:
        """Store a question and its pending reply. A conversation without a title gets `title`.

        Without a conversation the question begins a new one with `grounding`, at a `site` if one is given;
        its `client_id` is then compared with the first questions of all conversations. Raises `NotFound`,
        `UnknownParent`, `ClientIdReused` and `StillAnswering`, and stores nothing then.
        """

        def work(connection: Connection) -> StoredQuestion:
            conversation = (
                None if conversation_id is None else _owned(connection, owner, conversation_id, GROWING)
            )
            if earlier := _asked_before(connection, owner, conversation_id, client_id, text, parent_id):
                return earlier
            if conversation is None:
                new = self._create(connection, owner, "", grounding, site)
                conversation = _owned(connection, owner, new.id, GROWING)
            parent = conversation.active_leaf_id if isinstance(parent_id, Latest) else parent_id
            if isinstance(parent_id, str) and not _has(connection, conversation.id, parent_id):
                raise UnknownParent("The parent is not a message of this conversation.")
            question = {
                "id": _new_id(),
                "parent_id": parent,
                "role": Role.USER,
                "content": text,
                "status": Status.DONE,
                "client_id": client_id,
                "client_digest": None if client_id is None else _digest(text, parent_id),
            }
            reply = self._pending_reply(question["id"])
            self._add(connection, conversation, question, reply, title=conversation.title or title)
            return StoredQuestion(str(question["id"]), str(reply["id"]), conversation.id)

        return await self._database.write(work)

    async def asked(
        self,
        owner: str,
        conversation_id: str | None,
        text: str,
        *,
        parent_id: str | Latest | None = LATEST,
        client_id: str | None = None,
    ) -> StoredQuestion | None:
        """What `ask` returned for the same `client_id` before, or None. Raises `ClientIdReused`."""

        def work(connection: Connection) -> StoredQuestion | None:
            if conversation_id is not None:
                _owned(connection, owner, conversation_id)
            return _asked_before(connection, owner, conversation_id, client_id, text, parent_id)

        return await self._database.read(work)

    async def retry(self, owner: str, reply_id: str) -> StoredQuestion:
        """Store a pending sibling of a reply. Raises `NotFound` and `StillAnswering`."""

        def work(connection: Connection) -> StoredQuestion:
            row = _owned_reply(connection, owner, reply_id)
            conversation = _owned(connection, owner, row.conversation_id, GROWING)
            sibling = self._pending_reply(row.parent_id)
            self._add(connection, conversation, sibling, title=conversation.title)
            return StoredQuestion(str(row.parent_id), str(sibling["id"]), conversation.id)

        return await self._database.write(work)

    async def reply(self, owner: str, reply_id: str) -> Message:
        """A reply, with the text that is stored so far. Raises `NotFound`."""

        def work(connection: Connection) -> Message:
            return message_of(connection, _owned_reply(connection, owner, reply_id))

        return await self._database.read(work)

    async def branch(self, reply_id: str) -> Branch:
        """What a reply answers. A reply that was removed has no turns."""

        def work(connection: Connection) -> Branch:
            rows = {own_id: rest for own_id, *rest in connection.execute(BRANCH, {"id": reply_id}).all()}
            turns = []
            node = rows[reply_id][0] if reply_id in rows else None
            while node is not None:
                node, role, content, _ = rows.pop(node)
                if not isinstance(content, str):
                    raise TypeError  # as `rows.checked` does
                turns.append(Turn(Role(role), content))
            found = connection.execute(CONVERSATION_OF, {"id": reply_id}).first()
            conversation_id, grounding = found or ("", False)
            return Branch(str(conversation_id), turns[::-1], bool(grounding))

        return await self._database.read(work)

    async def _page(
        self, owner: str, statement: sa.Select[Any], page: dict[str, Any]
    ) -> tuple[Conversation, Sequence[Message]]:
        def work(connection: Connection) -> tuple[Conversation, Sequence[Message]]:
            conversation = conversation_of(_owned(connection, owner, page["id"]))
            read = messages_of(connection, statement, page)
            if read and not page.get("after", -1) < read[-1].position < page.get("before", MOST_POSITION):
                raise LookupError  # an index is damaged: pages would have no end
            return conversation, read

        return await self._database.read(work)

    def _create(
        self, connection: Connection, owner: str, title: str, grounding: bool, site: str | None
    ) -> Row[Any]:
        now = self._now()
        top = _top(now, connection.scalar(LAST_UPDATE, {"owner": owner}))
        new = {
            "id": _new_id(),
            "owner": owner,
            "site": site,
            "title": title,
            "grounding": grounding,
            "created_at": now,
            "updated_at": top,
        }
        return connection.execute(CREATE, new).one()

    def _add(self, connection: Connection, conversation: Row[Any], *new: dict[str, Any], title: str) -> None:
        """Add messages at the end of a conversation. The last one becomes its active leaf."""
        if conversation.is_answering:
            raise StillAnswering("This conversation is still answering. Stop the reply or wait for its end.")
        now = self._now()
        first = 0 if conversation.last is None else conversation.last + 1
        common = {"conversation_id": conversation.id, "provenance": {}, "created_at": now}
        common |= dict.fromkeys(("client_id", "client_digest", "process", "lease_until"))
        rows = [{**common, **message, "position": first + n} for n, message in enumerate(new)]
        connection.execute(ADD, rows)
        top = _top(now, conversation.last_update)
        grown = {"conversation": conversation.id, "leaf": new[-1]["id"], "top": top, "new_title": title}
        connection.execute(GROWN, grown)

    def _pending_reply(self, question_id: Any) -> dict[str, Any]:
        return {
            "id": _new_id(),
            "parent_id": question_id,
            "role": Role.ASSISTANT,
            "content": "",
            "status": Status.PENDING,
            **lease(self._process, self._now()),
        }


def _remove_some(connection: Connection) -> int | None:
    """Remove some messages and conversations that belong to nobody.

    Returns how many conversations, or None if nothing was left.
    """
    if connection.scalar(DOOMED) is None:
        return None
    leave_traces(connection)
    removed = length = 0
    for _ in range(MOST_REMOVED):
        if (doomed := connection.scalar(DOOMED)) is None or length > MOST_CHARACTERS:
            break
        if (last := connection.execute(LAST_MESSAGE, {"id": doomed}).first()) is not None:
            length += last.length
            gone = connection.execute(REMOVE_MESSAGE, {"message": last.id})
        else:
            gone = connection.execute(REMOVE_CONVERSATION, {"conversation": doomed})
            removed += 1
        if not gone.rowcount:
            raise LookupError  # an index is damaged: this would have no end
    return removed


def _top(now: datetime, last: datetime | None) -> datetime:
    """The time that puts a conversation on top of its owner's list, even if the clock was set back."""
    return now if last is None or last < now else last + timedelta(microseconds=1)


def _new_id() -> str:
    return str(uuid_utils.uuid7())


def _owned(
    connection: Connection,
    owner: str,
    conversation_id: str,
    statement: sa.Select[Any] = OWNED,
    *,
    or_deleted: bool = False,
) -> Row[Any]:
    row = connection.execute(statement, {"id": conversation_id, "owner": owner}).one_or_none()
    if row is None or (row.deleted_at is not None and not or_deleted):
        raise NotFound("There is no such conversation.")
    return row


def _owned_reply(connection: Connection, owner: str, reply_id: str) -> Row[Any]:
    row = connection.execute(REPLY, {"id": reply_id, "owner": owner}).one_or_none()
    if row is None:
        raise NotFound("There is no such reply.")
    return row


def _update(connection: Connection, conversation: Row[Any], **values: Any) -> Row[Any]:
    """Store these values in a conversation and return its row."""
    changed = sa.update(conversations).where(conversations.c.id == conversation.id).values(**values)
    return connection.execute(changed.returning(conversations)).one()


def _has(connection: Connection, conversation_id: str, message_id: str) -> bool:
    ids = {"id": message_id, "conversation_id": conversation_id}
    return connection.scalar(IN_CONVERSATION, ids) is not None


def _asked_before(
    connection: Connection,
    owner: str,
    conversation_id: str | None,
    client_id: str | None,
    text: str,
    parent_id: str | Latest | None,
) -> StoredQuestion | None:
    if client_id is None:
        return None
    ids = {"owner": owner, "client_id": client_id, "conversation_id": conversation_id}
    question = connection.execute(ASKED_FIRST if conversation_id is None else ASKED_IN, ids).first()
    if question is None:
        return None
    if question.client_digest != _digest(text, parent_id):
        raise ClientIdReused("This client_id was used before with another message.")
    first_reply = connection.scalar(FIRST_REPLY, {"id": question.id})
    return StoredQuestion(question.id, str(first_reply), question.conversation_id, is_new=False)


def _digest(text: str, parent_id: str | Latest | None) -> str:
    body = [text, "latest" if isinstance(parent_id, Latest) else [parent_id]]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def _write_cursor(conversation: Conversation) -> str:
    place = json.dumps([conversation.updated_at.isoformat(), conversation.id])
    return base64.urlsafe_b64encode(place.encode()).decode()


def _read_cursor(cursor: str) -> dict[str, Any]:
    try:
        updated_at, conversation_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        moment = datetime.fromisoformat(updated_at)
        if moment.tzinfo is None or not isinstance(conversation_id, str):
            raise BadCursor
        moment.astimezone(UTC), conversation_id.encode()  # what the database is given
    except (ValueError, TypeError, OverflowError) as error:
        raise BadCursor("The cursor is not one that this server gave out.") from error
    return {"updated_at": moment, "id": conversation_id}
