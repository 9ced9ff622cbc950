"""The documentation in the application: a process reads it, searches wait for it, and both end together."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

import pytest

from assistant.knowledge.documentation import (
    SEE_LOG,
    Documentation,
    DocumentationState,
    DocumentationUnreadable,
)
from assistant.knowledge.passage import SearchResult
from tests.support.application import children, is_alive, wait_for

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")


QUESTION = "How do I quuxify a frobnicator?"


@pytest.fixture
async def documentation(tmp_path: Path) -> AsyncIterator[Documentation]:
    """The documentation of a folder, not yet started."""
    (tmp_path / "docs").mkdir()
    guide = tmp_path / "docs" / "guide.md"
    guide.write_text("# Quuxifying\n\nTo quuxify a frobnicator, turn its crank twice.\n")
    documentation = of_folder(tmp_path)
    yield documentation
    await documentation.close()


def of_folder(tmp_path: Path) -> Documentation:
    arguments = ["--no-python", "--docs", str(tmp_path / "docs")]
    return Documentation(tmp_path / "data" / "documentation.db", arguments)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[IO[str]]:
    """The lock of the index, held as another build holds it."""
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "documentation.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def reader() -> int | None:
    """The process id of the reader. Other tests may have left other child processes."""
    for pid in children(os.getpid()):
        if b"assistant.knowledge" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


async def reach(documentation: Documentation, state: DocumentationState) -> None:
    async with asyncio.timeout(30), documentation._changed:
        await documentation._changed.wait_for(lambda: documentation.status.state is state)


async def test_it_is_read_and_then_searched(documentation: Documentation) -> None:
    assert documentation.status.state is DocumentationState.BUILDING
    await documentation.start()
    found = await documentation.search(QUESTION)
    await reach(documentation, DocumentationState.READY)
    found = await documentation.search(QUESTION)
    assert [passage.text for passage in found.passages] == ["To quuxify a frobnicator, turn its crank twice."]
    assert found.passages[0].location == "guide.md:3"
    assert (documentation.status.passages, documentation.status.done) == (1, 1)


async def test_passages_are_found_by_name_by_the_end_of_a_name_and_by_its_spelling(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "api.rst").write_text(
        ".. function:: frob.crank.turn(times)\n\n   Turn it.\n\n.. function:: frob.stop()\n\n   Stop it.\n"
    )
    documentation = of_folder(tmp_path)
    await documentation.start()
    await reach(documentation, DocumentationState.READY)
    for name in ("frob.crank.turn", "crank.turn", "TURN"):
        assert [passage.text for passage in await documentation.passages_named(name)] == ["Turn it."]
    assert await documentation.passages_named("rank.turn") == []
    assert await documentation.names_like("frob.crank.tunr") == ["frob.crank.turn"]
    (stop,) = await documentation.passages_named("frob.stop")
    assert await documentation.covers() == [stop.package]
    await documentation.close()


async def test_a_folder_that_cannot_be_read_is_told_of_by_its_name_alone(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for number in range(12):
        (tmp_path / "docs" / f"{number}.org").write_text("@node Top")
    arguments = ["--no-python", "--docs", str(tmp_path / "docs"), "--docs", str(tmp_path / "gone")]
    documentation = Documentation(tmp_path / "data" / "documentation.db", arguments)
    await documentation.start()
    await reach(documentation, DocumentationState.READY)
    await documentation.close()
    assert documentation.status.detail == (
        "The documentation in the folder “gone” is missing: there is no such folder. "
        "0 of 12 files in the folder “docs” could be read. 12 files are of kinds that cannot be read: .org."
    )


async def test_without_an_index_nothing_is_read_or_found() -> None:
    documentation = Documentation(None)
    await documentation.start()
    assert await documentation.search("What does len do?") == SearchResult()
    assert (documentation.status.state, documentation.can_answer) == (DocumentationState.OFF, False)
    await documentation.close()


async def test_a_search_waits_while_documentation_is_read(
    documentation: Documentation, lock: IO[str]
) -> None:
    await documentation.start()
    asking = asyncio.create_task(documentation.search(QUESTION))
    await asyncio.sleep(0)
    assert (documentation.can_answer, documentation.is_searchable) == (True, False)
    fcntl.flock(lock, fcntl.LOCK_UN)
    await asyncio.wait_for(asking, 30)
    assert documentation.is_searchable


async def test_where_it_cannot_be_kept_is_for_the_log_alone(
    tmp_path: Path, documentation: Documentation, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").write_text("in the way")
    await documentation.start()
    with pytest.raises(DocumentationUnreadable) as caught:
        await documentation.search(QUESTION)
    assert str(caught.value) == documentation.status.detail == SEE_LOG
    assert "documentation.db cannot be written" in caplog.text
    assert documentation.status.state is DocumentationState.FAILED
    assert not documentation.can_answer


async def test_the_next_start_continues_after_a_killed_reader(
    tmp_path: Path, documentation: Documentation, lock: IO[str]
) -> None:
    await documentation.start()
    os.kill(await asyncio.to_thread(wait_for, reader), signal.SIGKILL)
    await reach(documentation, DocumentationState.FAILED)
    with pytest.raises(DocumentationUnreadable):
        await documentation.search(QUESTION)
    await documentation.close()
    fcntl.flock(lock, fcntl.LOCK_UN)
    documentation = of_folder(tmp_path)
    await documentation.start()
    await reach(documentation, DocumentationState.READY)
    assert (await documentation.search(QUESTION)).passages
    await documentation.close()


async def test_a_reader_that_cannot_start_is_reported_at_once(
    tmp_path: Path, documentation: Documentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = asyncio.create_task(documentation.search(QUESTION))
    await asyncio.sleep(0)
    monkeypatch.setattr("sys.executable", str(tmp_path / "no python"))
    await documentation.start()
    for question in (asking, documentation.search(QUESTION)):
        with pytest.raises(DocumentationUnreadable, match=SEE_LOG):
            await asyncio.wait_for(question, 30)
    assert documentation.status.state is DocumentationState.FAILED


@pytest.mark.parametrize(
    "line",
    [b"7", b"null", b"[1]", b'"text"', b"print", b"", b"[" * 50_000, b'{"state": "nonsense"}', b"\xff\xfe"],
)
async def test_other_output_of_the_reader_does_not_end_the_reading(
    documentation: Documentation, line: bytes
) -> None:
    await documentation._read_report(line + b"\n")
    assert documentation.status.state is DocumentationState.BUILDING


async def test_a_failed_reader_keeps_the_index_of_an_earlier_start(documentation: Documentation) -> None:
    await documentation._read_report(b'{"searchable": true, "passages": 7}\n')
    await documentation._read_report(b'{"state": "failed", "detail": "The disk is full."}\n')
    assert (documentation.status.state, documentation.status.passages) == (DocumentationState.READY, 7)


async def test_the_reader_ends_with_the_application(documentation: Documentation, lock: IO[str]) -> None:
    await documentation.start()
    pid = await asyncio.to_thread(wait_for, reader)
    await documentation.close()
    assert not is_alive(pid)


async def test_a_question_of_any_length_is_answered_or_refused(documentation: Documentation) -> None:
    await documentation.start()
    await reach(documentation, DocumentationState.READY)
    for question in ("", " ", "?" * 50_000, "quuxify " * 7_000, '"AND" OR (NEAR', "\u202e\x00 x"):
        await documentation.search(question, previous=["quuxify"])
