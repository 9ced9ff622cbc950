"""What the application removes by itself: the chats that a site keeps no longer."""

from datetime import timedelta
from pathlib import Path

from assistant.sites import Sites, make_site, new_key
from storage.database import Database
from storage.running import utc_now
from storage.store import ConversationStore
from tests.support.fake_model import FakeServed
from tests.support.parts import Parts


async def test_chats_go_after_the_time_that_their_site_keeps_them_and_with_their_site(
    database: Database, tmp_path: Path
) -> None:
    sites = Sites(tmp_path / "sites")
    month, ever, gone = (
        make_site(key=new_key(), name=name, origins=["https://docs.example.org"], keep_days=days)
        for name, days in (("month", 30), ("ever", None), ("gone", None))
    )
    for site in (month, ever, gone):
        sites.save(site)
    for age in (31, 29):
        store = ConversationStore(database, now=lambda age=age: utc_now() - timedelta(days=age))  # type: ignore[misc]
        for key in (month.key, ever.key, gone.key, None):
            await store.create_conversation("ann", f"{key} {age}", site=key)
    sites.remove(gone.key)
    parts = Parts(database, FakeServed(), sites=sites)
    await parts.start()  # as at the start of the application, and every few seconds
    page, _ = await parts.chats.page("ann", limit=50)
    await parts.close()
    left = {f"{month.key} 29", f"{ever.key} 31", f"{ever.key} 29", "None 31", "None 29"}
    assert {one.title for one in page} == left
    assert sites.removed() == []
