from pathlib import Path
from types import SimpleNamespace

import pytest

from storage.database import Database
from storage.disk import FLOOR, RESERVE, Disk
from storage.errors import DiskFull
from storage.store import ConversationStore

MEGABYTE = 1 << 20


class Room:
    """What the disk tells of itself."""

    def __init__(self, total: int, free: int) -> None:
        self.total, self.free = total, free

    def __call__(self, path: Path) -> SimpleNamespace:
        return SimpleNamespace(total=self.total, free=self.free)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    room = Room(1 << 40, 1 << 39)
    monkeypatch.setattr("storage.disk.shutil.disk_usage", room)
    return room


@pytest.fixture
def disk(tmp_path: Path, room: Room) -> Disk:
    return Disk(tmp_path / "reserve")


@pytest.mark.parametrize(("total", "floor"), [(1 << 40, FLOOR), (16 * MEGABYTE, 4 * MEGABYTE)])
def test_the_floor_of_a_small_disk_is_a_quarter_of_it(room: Room, disk: Disk, total: int, floor: int) -> None:
    room.total, room.free = total, floor
    assert disk.look() is None
    room.free = floor - 1
    assert isinstance(disk.look(), DiskFull)


def test_free_pages_of_the_database_count_for_half_of_the_floor(room: Room, disk: Disk) -> None:
    room.free = FLOOR // 2
    assert disk.look(FLOOR // 2) is None
    room.free -= 1
    assert disk.look(1 << 40) is not None


def test_a_disk_that_does_not_tell_is_not_full(room: Room, disk: Disk) -> None:
    room.total = room.free = 0
    assert disk.look() is None


def test_the_reserve_is_kept_only_above_the_floor(room: Room, disk: Disk, tmp_path: Path) -> None:
    room.free = FLOOR
    disk.keep_reserve()
    assert not (tmp_path / "reserve").exists()
    room.free = FLOOR + RESERVE
    disk.keep_reserve()
    assert (tmp_path / "reserve").stat().st_size == RESERVE
    disk.give_up_reserve()
    assert not (tmp_path / "reserve").exists()


def test_a_start_on_a_full_disk_gives_the_reserve_up_and_the_next_keeps_it_again(
    room: Room, tmp_path: Path
) -> None:
    reserve = tmp_path / "chats.db.reserve"
    Database(tmp_path / "chats.db").close()
    assert reserve.exists()
    room.free = 0
    Database(tmp_path / "chats.db").close()
    assert not reserve.exists()
    room.free = room.total
    Database(tmp_path / "chats.db").close()
    assert reserve.exists()


async def test_a_disk_that_is_almost_full_is_read_and_deleted_from(
    room: Room, database: Database, store: ConversationStore
) -> None:
    chat = await store.create_conversation("ann", "kept")
    room.free = 3 * MEGABYTE
    with pytest.raises(DiskFull, match=r"almost full \(3\.0 MB left\)"):
        await store.create_conversation("ann")
    with pytest.raises(DiskFull):
        await database.check()
    assert (await store.conversation("ann", chat.id))[0].title == "kept"
    await store.delete("ann", chat.id)
    room.free = room.total
    await store.create_conversation("ann")
