"""The audit log: entries are added and read, and never changed."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from storage.audit import KEPT, AuditEvent, AuditStore
from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.schema import audit


async def test_entries_are_added_and_read_from_the_newest(database: Database) -> None:
    store = AuditStore(database)
    for number in range(5):
        await store.record(AuditEvent.EXPORTED, f"ada {number}", "192.0.2.1", number=number)
    first = await store.entries(limit=3)
    assert [(entry.who, entry.detail) for entry in first] == [
        (f"ada {number}", {"number": number}) for number in (4, 3, 2)
    ]
    assert [entry.who for entry in await store.entries(before=first[-1].id)] == ["ada 1", "ada 0"]


async def test_an_entry_is_neither_changed_nor_removed_until_it_is_old(database: Database) -> None:
    now = datetime.now(UTC)
    store = AuditStore(database, now=lambda: now)
    await store.record(AuditEvent.SIGNED_IN, "ada")
    for statement in (sa.update(audit).values(who="bob"), sa.delete(audit)):
        with pytest.raises(DatabaseUnavailable, match="SQLITE_CONSTRAINT_TRIGGER"):
            await database.write(lambda connection, statement=statement: connection.execute(statement))
    old = AuditStore(database, now=lambda: now - KEPT - timedelta(days=1))
    await old.record(AuditEvent.SIGNED_IN, "bob")
    await store.expire()
    assert [entry.who for entry in await store.entries()] == ["ada"]
