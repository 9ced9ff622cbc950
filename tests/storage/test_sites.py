from datetime import UTC, datetime, timedelta

from storage.database import Database
from storage.sites import SiteStore
from storage.store import ConversationStore

NOW = datetime(2026, 1, 31, tzinfo=UTC)


class Clock:
    time = NOW

    def __call__(self) -> datetime:
        return self.time


async def titles(store: ConversationStore, owner: str) -> list[str]:
    page, _ = await store.conversations(owner, limit=50)
    return sorted(one.title for one in page)


async def test_a_jwt_is_new_once_until_it_ends(database: Database) -> None:
    clock = Clock()
    sites = SiteStore(database, now=clock)
    ends_at = NOW + timedelta(minutes=5)
    assert [await sites.use_identity("one", "a", ends_at) for _ in range(3)] == [True, False, False]
    assert await sites.use_identity("other", "a", ends_at)
    assert await sites.use_identity("one", "b", ends_at)
    clock.time = ends_at + timedelta(seconds=1)
    assert await sites.use_identity("one", "a", ends_at)  # it was forgotten: by then it has ended


async def test_a_user_takes_over_what_the_visitor_asked_at_this_site(database: Database) -> None:
    store, sites = ConversationStore(database), SiteStore(database)
    for owner, site in (("visitor", "one"), ("visitor", "two"), ("visitor", None), ("bob", "one")):
        await store.create_conversation(owner, f"{owner} {site}", site=site)
    await sites.take_over("one", "visitor", "user")
    assert await titles(store, "user") == ["visitor one"]
    assert await titles(store, "visitor") == ["visitor None", "visitor two"]
    assert await titles(store, "bob") == ["bob one"]


async def test_a_site_keeps_its_chats_for_a_time(database: Database) -> None:
    clock = Clock()
    store, sites = ConversationStore(database, now=clock), SiteStore(database, now=clock)
    for age in (40, 20):
        clock.time = NOW - timedelta(days=age)
        for site in ("one", "two", None):
            await store.create_conversation("ann", f"{site} {age}", site=site)
    clock.time = NOW
    await sites.expire("one", NOW - timedelta(days=30))
    assert await titles(store, "ann") == ["None 20", "None 40", "one 20", "two 20", "two 40"]
    assert await store.purge(older_than=timedelta(minutes=1)) == 1
    await sites.expire("two")
    assert await titles(store, "ann") == ["None 20", "None 40", "one 20"]
    assert await store.purge(older_than=timedelta(minutes=1)) == 2
