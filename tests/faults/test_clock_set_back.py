"""The clock is set back by hours, many times: chats keep their order, their pages and their owners."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import httpx
import itsdangerous
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from assistant.conversation import Status
from assistant.web.identity import Identity
from storage.journal import Journal
from storage.running import Outcome
from storage.store import ConversationStore, StoredQuestion
from tests.faults.conftest import Count
from tests.storage.conftest import Clock as SteadyClock

OWNER = "ann"
SEED = 7
CHATS = 60
STEPS = 200


class Clock(SteadyClock):
    """A clock that a test can set back."""

    times_set_back = 0

    def set_back(self, hours: float) -> None:
        self.now -= timedelta(hours=hours)
        self.times_set_back += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def answer(journal: Journal, asked: StoredQuestion, text: str) -> None:
    entry = journal.open(asked.reply_id)
    journal.append(entry, text)
    await journal.settle(entry, Outcome(Status.DONE))


async def titles(store: ConversationStore, limit: int = 100) -> list[str]:
    return [chat.title for chat in (await store.conversations(OWNER, limit=limit))[0]]


async def test_messages_stay_in_order_and_the_chat_that_was_written_last_comes_first(
    store: ConversationStore, journal: Journal, clock: Clock, count: Count
) -> None:
    chance = random.Random(SEED)
    chats = [await store.create_conversation(OWNER, str(number)) for number in range(5)]
    expected: dict[str, list[str]] = {chat.id: [] for chat in chats}
    for step in range(STEPS):
        chat = chance.choice(chats)
        if chance.random() < 0.2:
            clock.set_back(chance.uniform(0.1, 30))
        asked = await store.ask(OWNER, chat.id, f"q{step}")
        if chance.random() < 0.2:
            clock.set_back(chance.uniform(0.1, 30))
        await answer(journal, asked, f"a{step}")
        expected[chat.id] += [f"q{step}", f"a{step}"]
        assert (await titles(store))[0] == chat.title
    for chat in chats:
        _, messages = await store.conversation(OWNER, chat.id)
        assert [message.content for message in messages] == expected[chat.id]
    await store.create_conversation(OWNER, "new")
    assert (await titles(store))[0] == "new"
    count(f"clock set back: {clock.times_set_back} times, questions and answers {2 * STEPS}, all in order")


async def test_pages_lose_and_repeat_no_chat_that_is_written_while_they_are_turned(
    store: ConversationStore, journal: Journal, clock: Clock, count: Count
) -> None:
    chance = random.Random(SEED)
    chats = [await store.create_conversation(OWNER, str(number)) for number in range(CHATS)]
    listed: Counter[str] = Counter()
    cursor = None
    while True:
        page, cursor = await store.conversations(OWNER, limit=7, cursor=cursor)
        listed.update(chat.title for chat in page)
        if cursor is None:
            break
        clock.set_back(chance.uniform(0.1, 30))
        seen = chance.choice([chat for chat in chats if chat.title in listed])
        await answer(journal, await store.ask(OWNER, seen.id, "q"), "a")
    assert listed == Counter(str(number) for number in range(CHATS))
    count(f"clock set back: {clock.times_set_back} times between pages, chats {CHATS}, each listed once")


async def test_an_owner_whose_cookie_was_given_in_the_future_stays_the_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owners: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        owners.append(scope["state"]["owner"])
        await Response()(scope, receive, send)

    transport = httpx.ASGITransport(Identity(app, key=b"k" * 32, marks={}))
    now = itsdangerous.TimestampSigner.get_timestamp
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        with monkeypatch.context() as patch:
            in_a_month = "get_timestamp", lambda signer: now(signer) + 30 * 24 * 3600
            patch.setattr(itsdangerous.TimestampSigner, *in_a_month)
            await client.get("/")
        await client.get("/")
    assert owners[0] == owners[1]
