import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, insert, select, text

from assistant.conversation import Role, Status, Turn
from storage.database import Database
from storage.errors import (
    ClientIdReused,
    DatabaseUnavailable,
    NotFound,
    StillAnswering,
    UnknownMessage,
    UnknownParent,
)
from storage.journal import Journal
from storage.owners import OwnerStore
from storage.running import Outcome, Running
from storage.schema import messages
from storage.store import LATEST, MOST_MESSAGES, BadCursor, ConversationStore, Latest, StoredQuestion
from tests.storage.conftest import Clock

OWNER = "ann"
# Cursors that are well-formed, of a moment before time began and of a name with half a character.
EARLY = "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjAwIiwieCJd"
HALF = "WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwiXHVkODAwIl0="


async def answered(
    store: ConversationStore, journal: Journal, asked: StoredQuestion, text: str = "yes"
) -> StoredQuestion:
    entry = journal.open(asked.reply_id)
    journal.append(entry, text)
    await journal.settle(entry, Outcome(Status.DONE))
    return asked


async def test_a_question_and_its_pending_reply_are_stored_together(store: ConversationStore) -> None:
    chat = await store.create_conversation(OWNER)
    asked = await store.ask(OWNER, chat.id, "why?", title="Why")
    found, (question, reply) = await store.conversation(OWNER, chat.id)
    assert (question.id, question.role, question.content, question.status) == (
        asked.message_id,
        Role.USER,
        "why?",
        Status.DONE,
    )
    assert (reply.id, reply.role, reply.content, reply.status) == (
        asked.reply_id,
        Role.ASSISTANT,
        "",
        Status.PENDING,
    )
    assert (question.parent_id, reply.parent_id) == (None, question.id)
    assert (found.active_leaf_id, found.title) == (reply.id, "Why")


async def test_a_title_that_stands_is_not_replaced(store: ConversationStore) -> None:
    chat = await store.create_conversation(OWNER, "Mine")
    await store.ask(OWNER, chat.id, "why?", title="Why")
    assert (await store.conversation(OWNER, chat.id))[0].title == "Mine"


async def test_the_same_client_id_is_asked_once(store: ConversationStore) -> None:
    chat = await store.create_conversation(OWNER)
    first = await store.ask(OWNER, chat.id, "why?", client_id="k")
    again = await store.ask(OWNER, chat.id, "why?", client_id="k")
    assert (again.message_id, again.reply_id, again.is_new) == (first.message_id, first.reply_id, False)
    assert await store.asked(OWNER, chat.id, "why?", client_id="k") == again
    assert len((await store.conversation(OWNER, chat.id))[1]) == 2


async def test_a_first_question_makes_its_conversation_once(store: ConversationStore) -> None:
    with pytest.raises(UnknownParent):
        await store.ask(OWNER, None, "why?", parent_id="nonsense")
    assert await store.conversations(OWNER, limit=10) == ([], None)
    first = await store.ask(OWNER, None, "why?", client_id="k", title="Why")
    again = await store.ask(OWNER, None, "why?", client_id="k", title="Why")
    assert await store.asked(OWNER, None, "why?", client_id="k") == again
    assert (again.reply_id, again.conversation_id, again.is_new) == (
        first.reply_id,
        first.conversation_id,
        False,
    )
    with pytest.raises(ClientIdReused):
        await store.ask(OWNER, None, "how?", client_id="k")
    theirs = await store.ask("bob", None, "why?", client_id="k")
    assert theirs.is_new
    page, _ = await store.conversations(OWNER, limit=10)
    assert [(chat.id, chat.title) for chat in page] == [(first.conversation_id, "Why")]


@pytest.mark.parametrize(("text", "parent_id"), [("how?", LATEST), ("why?", None)])
async def test_a_client_id_with_another_body_is_refused(
    store: ConversationStore, text: str, parent_id: Latest | None
) -> None:
    chat = await store.create_conversation(OWNER)
    await store.ask(OWNER, chat.id, "why?", client_id="k")
    with pytest.raises(ClientIdReused):
        await store.ask(OWNER, chat.id, text, parent_id=parent_id, client_id="k")
    with pytest.raises(ClientIdReused):
        await store.asked(OWNER, chat.id, text, parent_id=parent_id, client_id="k")


async def test_client_ids_of_two_conversations_are_apart(store: ConversationStore) -> None:
    one, two = [await store.create_conversation(OWNER) for _ in range(2)]
    asked = [await store.ask(OWNER, chat.id, "why?", client_id="k") for chat in (one, two)]
    assert asked[0].message_id != asked[1].message_id


async def test_a_conversation_answers_one_question_at_a_time(
    store: ConversationStore, journal: Journal
) -> None:
    chat = await store.create_conversation(OWNER)
    asked = await store.ask(OWNER, chat.id, "why?")
    with pytest.raises(StillAnswering):
        await store.ask(OWNER, chat.id, "how?")
    with pytest.raises(StillAnswering):
        await store.retry(OWNER, asked.reply_id)
    await answered(store, journal, asked)
    await store.ask(OWNER, chat.id, "how?")


async def test_the_path_leads_from_the_root_to_the_question_of_its_own_branch(
    store: ConversationStore, journal: Journal
) -> None:
    chat = await store.create_conversation(OWNER)
    first = await answered(store, journal, await store.ask(OWNER, chat.id, "q1"), "a1")
    second = await answered(store, journal, await store.ask(OWNER, chat.id, "q2"), "a2")
    assert (await store.branch(second.reply_id)).turns == [
        Turn(Role.USER, "q1"),
        Turn(Role.ASSISTANT, "a1"),
        Turn(Role.USER, "q2"),
    ]
    edited = await answered(store, journal, await store.ask(OWNER, chat.id, "q2b", parent_id=first.reply_id))
    assert [turn.content for turn in (await store.branch(edited.reply_id)).turns] == ["q1", "a1", "q2b"]
    root = await answered(store, journal, await store.ask(OWNER, chat.id, "new", parent_id=None))
    assert (await store.branch(root.reply_id)).turns == [Turn(Role.USER, "new")]


async def test_a_retry_is_a_sibling_and_becomes_the_active_leaf(
    store: ConversationStore, journal: Journal
) -> None:
    chat = await store.create_conversation(OWNER)
    first = await answered(store, journal, await store.ask(OWNER, chat.id, "why?"))
    second = await store.retry(OWNER, first.reply_id)
    found, messages = await store.conversation(OWNER, chat.id)
    assert second.message_id == first.message_id
    assert [m.parent_id for m in messages] == [None, first.message_id, first.message_id]
    assert found.active_leaf_id == second.reply_id


async def test_an_unknown_parent_stores_nothing(store: ConversationStore) -> None:
    chat, other = [await store.create_conversation(OWNER) for _ in range(2)]
    foreign = await store.ask(OWNER, other.id, "elsewhere")
    for parent in ("nonsense", foreign.message_id):
        with pytest.raises(UnknownParent):
            await store.ask(OWNER, chat.id, "why?", parent_id=parent)
    assert (await store.conversation(OWNER, chat.id))[1] == []


async def test_nothing_of_another_owner_can_be_seen_or_touched(
    store: ConversationStore, owners: OwnerStore
) -> None:
    chat = await store.create_conversation(OWNER, "Mine")
    asked = await store.ask(OWNER, chat.id, "why?", client_id="k")
    other = "bob"
    for attempt in (
        store.conversation(other, chat.id),
        store.messages(other, chat.id),
        store.change(other, chat.id, title="Theirs"),
        store.change(other, chat.id, active_leaf_id=asked.message_id),
        store.delete(other, chat.id),
        store.restore(other, chat.id),
        store.ask(other, chat.id, "why?", client_id="k"),
        store.asked(other, chat.id, "why?", client_id="k"),
        store.retry(other, asked.reply_id),
        store.reply(other, asked.reply_id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await store.conversations(other, limit=10) == ([], None)
    assert await store.ids(other) == []
    assert await owners.erase(other) is False
    assert (await store.conversation(OWNER, chat.id))[0].title == "Mine"


async def test_a_question_is_not_a_reply(store: ConversationStore) -> None:
    chat = await store.create_conversation(OWNER)
    asked = await store.ask(OWNER, chat.id, "why?")
    with pytest.raises(NotFound):
        await store.reply(OWNER, asked.message_id)


async def test_pages_list_each_conversation_once_newest_update_first(store: ConversationStore) -> None:
    chats = [await store.create_conversation(OWNER, str(n)) for n in range(7)]
    await store.ask(OWNER, chats[2].id, "why?")
    await store.change(OWNER, chats[1].id, title="renamed")  # no reason to move it
    titles, cursor = [], None
    while True:
        page, cursor = await store.conversations(OWNER, limit=3, cursor=cursor)
        titles += [chat.title for chat in page]
        if cursor is None:
            break
    assert titles == ["2", "6", "5", "4", "3", "renamed", "0"]


async def test_conversations_of_the_same_moment_are_all_listed(
    store: ConversationStore, clock: Clock
) -> None:
    moment = clock.now
    for n in range(5):
        clock.now = moment - timedelta(seconds=1)
        await store.create_conversation(OWNER, str(n))
    page, cursor = await store.conversations(OWNER, limit=3)
    rest, _ = await store.conversations(OWNER, limit=3, cursor=cursor)
    assert sorted(chat.title for chat in [*page, *rest]) == list("01234")


@pytest.mark.parametrize(
    "cursor", ["x", "é", "bm9uc2Vuc2U=", "WzEsMl0=", "WyIyMDI2LTAxLTAxIiwiYSJd", EARLY, HALF]
)
async def test_a_cursor_of_nobody_is_refused(store: ConversationStore, cursor: str) -> None:
    with pytest.raises(BadCursor):
        await store.conversations(OWNER, limit=3, cursor=cursor)


async def test_deleting_takes_messages_and_journal_along(
    store: ConversationStore, database: Database, journal: Journal
) -> None:
    chat = await store.create_conversation(OWNER)
    asked = await store.ask(OWNER, chat.id, "why?")
    entry = journal.open(asked.reply_id)
    journal.append(entry, "half")
    async for _ in entry.follow():
        break
    await store.delete(OWNER, chat.id)
    assert await store.purge(older_than=timedelta(0)) == 1
    journal.append(entry, " an answer")
    await journal.settle(entry, Outcome(Status.STOPPED))
    for table in ("conversation", "message", "piece"):
        count = await database.execute(
            lambda connection, table=table: connection.exec_driver_sql(
                f"SELECT count(*) FROM {table}"
            ).scalar()
        )
        assert count == 0, table
    with pytest.raises(NotFound):
        await store.conversation(OWNER, chat.id)


async def test_what_is_deleted_is_not_there_and_can_be_restored_for_a_while(
    store: ConversationStore, journal: Journal, clock: Clock
) -> None:
    kept, chat = [await store.create_conversation(OWNER, title) for title in ("Kept", "Deleted")]
    asked = await answered(store, journal, await store.ask(OWNER, chat.id, "why?", client_id="k"))
    before = await store.conversation(OWNER, chat.id)
    await store.delete(OWNER, chat.id)
    for attempt in (
        store.conversation(OWNER, chat.id),
        store.change(OWNER, chat.id, title="t"),
        store.delete(OWNER, chat.id),
        store.ask(OWNER, chat.id, "how?"),
        store.asked(OWNER, chat.id, "why?", client_id="k"),
        store.retry(OWNER, asked.reply_id),
        store.reply(OWNER, asked.reply_id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert [one.id for one in (await store.conversations(OWNER, limit=10))[0]] == [kept.id]
    minute = timedelta(minutes=1)
    assert await store.purge(older_than=minute) == 0
    for _ in range(2):  # the second time nothing is to be done
        assert (await store.restore(OWNER, chat.id)).title == "Deleted"
    assert await store.conversation(OWNER, chat.id) == before
    await store.delete(OWNER, chat.id)
    clock.now += minute
    assert await store.purge(older_than=minute) == 1
    with pytest.raises(NotFound):
        await store.restore(OWNER, chat.id)
    assert (await store.conversation(OWNER, kept.id))[0].title == "Kept"


async def test_a_conversation_of_a_thousand_answers_is_read_in_pages_and_removed_for_good(
    store: ConversationStore, database: Database, clock: Clock
) -> None:
    chat = await store.create_conversation(OWNER)
    row = {"conversation_id": chat.id, "role": "user", "content": "", "status": "done"}
    rows = [
        {
            **row,
            "id": str(position),
            "position": position,
            "parent_id": str(position - 1) if position else None,
            "provenance": {},
            "created_at": clock.now,
        }
        for position in range(2000)
    ]
    await database.write(lambda connection: connection.execute(insert(messages), rows))
    read = []
    while page := (await store.messages(OWNER, chat.id, after=len(read) - 1))[1]:
        assert len(page) <= MOST_MESSAGES
        read += [message.position for message in page]
    assert read == list(range(2000))
    _, newest = await store.conversation(OWNER, chat.id)
    assert [message.position for message in newest] == read[-MOST_MESSAGES:]
    await store.delete(OWNER, chat.id)
    assert await store.purge(older_than=timedelta(0)) == 1
    assert await database.read(lambda connection: connection.scalar(select(func.count(messages.c.id)))) == 0


async def test_a_conversation_says_whether_documentation_is_looked_up(store: ConversationStore) -> None:
    chat = await store.create_conversation(OWNER)
    without = await store.create_conversation(OWNER, grounding=False)
    first = await store.ask(OWNER, None, "why?", grounding=False)
    asked = await store.ask(OWNER, chat.id, "why?", grounding=False)  # it is the conversation's to say
    assert (chat.grounding, without.grounding) == (True, False)
    assert (await store.branch(asked.reply_id)).grounding is True
    assert (await store.branch(first.reply_id)).grounding is False
    assert (await store.change(OWNER, chat.id, grounding=False)).grounding is False
    assert (await store.change(OWNER, chat.id, title="Named")).grounding is False
    assert (await store.branch(asked.reply_id)).grounding is False


async def test_a_licence_is_accepted_once_and_by_each_alone(owners: OwnerStore) -> None:
    assert not await owners.has_accepted(OWNER, "openrail")
    await asyncio.gather(*(owners.accept(OWNER, "openrail") for _ in range(3)))
    assert await owners.has_accepted(OWNER, "openrail")
    assert not await owners.has_accepted("bob", "openrail")
    assert not await owners.has_accepted(OWNER, "another")


async def test_the_branch_on_show_is_remembered(store: ConversationStore, journal: Journal) -> None:
    chat, other = [await store.create_conversation(OWNER) for _ in range(2)]
    first = await answered(store, journal, await store.ask(OWNER, chat.id, "why?"))
    second = await answered(store, journal, await store.retry(OWNER, first.reply_id))
    foreign = await store.ask(OWNER, other.id, "elsewhere")
    before = (await store.conversation(OWNER, chat.id))[0]
    assert before.active_leaf_id == second.reply_id
    changed = await store.change(OWNER, chat.id, active_leaf_id=first.reply_id)
    assert (changed.active_leaf_id, changed.updated_at) == (first.reply_id, before.updated_at)
    for nowhere in ("nonsense", foreign.message_id):
        with pytest.raises(UnknownMessage):
            await store.change(OWNER, chat.id, title="t", active_leaf_id=nowhere)
    assert (await store.conversation(OWNER, chat.id))[0] == changed
    following = await store.ask(OWNER, chat.id, "and then?")
    assert (await store.branch(following.reply_id)).turns[-1].content == "and then?"
    assert (await store.conversation(OWNER, chat.id))[1][-2].parent_id == first.reply_id


async def test_what_an_earlier_process_left_is_interrupted_with_its_text(
    store: ConversationStore, database: Database, journal: Journal
) -> None:
    chat = await store.create_conversation(OWNER)
    asked = await store.ask(OWNER, chat.id, "why?")
    entry = journal.open(asked.reply_id)
    for piece in ("Because ", "of ", "🦀"):
        journal.append(entry, piece)
    async for event in entry.follow():
        if event.position == 12:
            break
    assert (await store.reply(OWNER, asked.reply_id)).status is Status.STREAMING
    following = Running(database, process="next")
    assert await following.settle_abandoned() == 1
    reply = await store.reply(OWNER, asked.reply_id)
    assert (reply.status, reply.content, reply.finish_reason) == (
        Status.INTERRUPTED,
        "Because of 🦀",
        None,
    )
    assert await following.settle_abandoned() == 0


async def test_a_clock_set_back_does_not_reorder_a_chat(
    store: ConversationStore, journal: Journal, clock: Clock
) -> None:
    chat = await store.create_conversation(OWNER)
    for n in range(4):
        clock.now -= timedelta(days=1)
        await answered(store, journal, await store.ask(OWNER, chat.id, f"q{n}"), f"a{n}")
    _, messages = await store.conversation(OWNER, chat.id)
    assert [m.content for m in messages] == ["q0", "a0", "q1", "a1", "q2", "a2", "q3", "a3"]


async def test_a_revocation_is_kept_as_long_as_the_cookies_that_it_ends(
    owners: OwnerStore, clock: Clock
) -> None:
    kept = timedelta(days=400)
    first = await owners.revoke("ann", kept=kept)
    second = await owners.revoke("ann", kept=kept)
    assert first != second
    assert await owners.marks() == {"ann": second}
    clock.now += timedelta(days=399)
    third = await owners.revoke("ben", kept=kept)
    assert await owners.marks() == {"ann": second, "ben": third}
    clock.now += timedelta(days=2)
    third = await owners.revoke("ben", kept=kept)
    assert await owners.marks() == {"ben": third}


@pytest.mark.parametrize(
    "damage",
    [
        "content = x'ff'",
        "content = CAST(x'43616e617279ff' AS TEXT)",  # it is "Canary", and half a character
        "status = 'Canary'",
        "role = 'Canary'",
        "provenance = '{Canary'",
        "provenance = '[\"Canary\"]'",
        "sources = '[{\"Canary\": 1}]'",
        "created_at = 'Canary'",
        "position = position + 0.5",
        "parent_id = id",
    ],
)
async def test_what_damage_made_of_a_row_is_told_without_it(
    store: ConversationStore, database: Database, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = await store.create_conversation(OWNER)
    chat = await store.create_conversation(OWNER)
    asked = await store.ask(OWNER, chat.id, "Canary")
    await Running(database, process="next").settle_abandoned()
    await database.write(lambda connection: connection.execute(text(f"UPDATE message SET {damage}")))
    refused = []
    for attempt in (store.conversation(OWNER, chat.id), store.branch(asked.reply_id)):
        try:
            await attempt
        except DatabaseUnavailable as error:
            refused.append(str(error))
    assert refused
    assert all("is damaged" in words for words in refused)
    with pytest.raises(DatabaseUnavailable, match="is damaged"):
        await database.check()
    assert "Canary" not in f"{refused}{caplog.text}"
    assert await store.conversation(OWNER, other.id) == (other, [])
