from pathlib import Path
from types import SimpleNamespace

import pytest

from storage.database import Database
from storage.disk import FLOOR, RESERVE, Disk
from storage.errors import DiskFull
from storage.store import ConversationStore

MEGABYTE = 1 << 20
Usage = SimpleNamespace  # as `shutil.disk_usage` returns it


@pytest.fixture
def usage(monkeypatch: pytest.MonkeyPatch) -> Usage:
    usage = Usage(total=1 << 40, free=1 << 39)
    monkeypatch.setattr("storage.disk.shutil.disk_usage", lambda path: usage)
    return usage


@pytest.fixture
def disk(tmp_path: Path, usage: Usage) -> Disk:
    return Disk(tmp_path / "reserve")


@pytest.mark.parametrize(("total", "floor"), [(1 << 40, FLOOR), (16 * MEGABYTE, 4 * MEGABYTE)])
def test_the_floor_of_a_small_disk_is_a_quarter_of_it(
    usage: Usage, disk: Disk, total: int, floor: int
) -> None:
    usage.total, usage.free = total, floor
    assert disk.look() is None
    usage.free = floor - 1
    assert isinstance(disk.look(), DiskFull)


def test_unused_pages_of_the_database_count_for_half_of_the_floor(usage: Usage, disk: Disk) -> None:
    usage.free = FLOOR // 2
    assert disk.look(FLOOR // 2) is None
    usage.free -= 1
    assert disk.look(1 << 40) is not None


def test_a_disk_of_unknown_size_is_not_full(usage: Usage, disk: Disk) -> None:
    usage.total = usage.free = 0
    assert disk.look() is None


def test_the_reserve_is_kept_only_above_the_floor(usage: Usage, disk: Disk, tmp_path: Path) -> None:
    usage.free = FLOOR
    disk.keep_reserve()
    assert not (tmp_path / "reserve").exists()
    usage.free = FLOOR + RESERVE
    disk.keep_reserve()
    assert (tmp_path / "reserve").stat().st_size == RESERVE
    disk.give_up_reserve()
    assert not (tmp_path / "reserve").exists()


def test_a_start_on_a_full_disk_removes_the_reserve_and_the_next_start_creates_it_again(
    usage: Usage, tmp_path: Path
) -> None:
    reserve = tmp_path / "chats.db.reserve"
    Database(tmp_path / "chats.db").close()
    assert reserve.exists()
    usage.free = 0
    Database(tmp_path / "chats.db").close()
    assert not reserve.exists()
    usage.free = usage.total
    Database(tmp_path / "chats.db").close()
    assert reserve.exists()


async def test_an_almost_full_disk_still_allows_reading_and_deleting(
    usage: Usage,
    database: Database,
    store: ConversationStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    chat = await store.create_conversation("ann", "kept")
    usage.free = 3 * MEGABYTE
    for _ in range(3):
        with pytest.raises(DiskFull, match=r"almost full \(3\.0 MB left\)") as refused:
            await store.create_conversation("ann")
        assert str(tmp_path) not in str(refused.value)  # readers get this sentence
    assert caplog.text.count(f"the disk of {tmp_path} is almost full") == 1
    with pytest.raises(DiskFull):
        await database.check()
    assert (await store.conversation("ann", chat.id))[0].title == "kept"
    await store.delete("ann", chat.id)
    usage.free = usage.total
    await store.create_conversation("ann")
