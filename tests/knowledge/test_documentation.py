"""The documentation in the application: a process reads it, searches wait for it, and both end together."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "guide.md").write_text("# Quuxifying\n\nTo quuxify a frobnicator, turn its crank twice.\n")
    return folder


def of_folder(tmp_path: Path, folder: Path) -> Documentation:
    return Documentation(tmp_path / "data" / "documentation.db", ["--no-python", "--docs", str(folder)])


def reader() -> int | None:
    """The process id of the reader. Other tests may have left other child processes."""
    for pid in children(os.getpid()):
        if b"assistant.knowledge" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


async def until(documentation: Documentation, is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30), documentation._changed:
        await documentation._changed.wait_for(is_so)


async def test_it_is_read_and_then_searched(tmp_path: Path, folder: Path) -> None:
    documentation = of_folder(tmp_path, folder)
    assert documentation.status.state is DocumentationState.BUILDING
    await documentation.start()
    found = await documentation.search("How do I quuxify a frobnicator?")
    await until(documentation, lambda: documentation.status.state is DocumentationState.READY)
    found = await documentation.search("How do I quuxify a frobnicator?")
    assert [passage.text for passage in found.passages] == ["To quuxify a frobnicator, turn its crank twice."]
    assert found.passages[0].location == "guide.md:3"
    assert (documentation.status.passages, documentation.status.done) == (1, 1)
    await documentation.close()


async def test_without_an_index_nothing_is_read_or_found(tmp_path: Path) -> None:
    documentation = Documentation(None)
    await documentation.start()
    assert await documentation.search("What does len do?") == SearchResult()
    assert (documentation.status.state, documentation.can_answer) == (DocumentationState.OFF, False)
    await documentation.close()


async def test_a_search_waits_while_documentation_is_read(tmp_path: Path, folder: Path) -> None:
    documentation = of_folder(tmp_path, folder)
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "documentation.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another build does
        await documentation.start()
        asking = asyncio.create_task(documentation.search("How do I quuxify a frobnicator?"))
        await asyncio.sleep(0)
        assert (documentation.can_answer, documentation.is_searchable) == (True, False)
        fcntl.flock(lock, fcntl.LOCK_UN)
        await asyncio.wait_for(asking, 30)
    assert documentation.is_searchable
    await documentation.close()


async def test_where_it_cannot_be_kept_is_for_the_log_alone(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").write_text("in the way")
    documentation = of_folder(tmp_path, folder)
    await documentation.start()
    with pytest.raises(DocumentationUnreadable) as caught:
        await documentation.search("How do I quuxify a frobnicator?")
    assert str(caught.value) == documentation.status.detail == SEE_LOG
    assert "documentation.db cannot be written" in caplog.text
    assert documentation.status.state is DocumentationState.FAILED
    assert not documentation.can_answer
    await documentation.close()


async def test_the_next_start_continues_after_a_killed_reader(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "documentation.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        documentation = of_folder(tmp_path, folder)
        await documentation.start()
        os.kill(await asyncio.to_thread(wait_for, reader), signal.SIGKILL)
        await until(documentation, lambda: documentation.status.state is DocumentationState.FAILED)
        with pytest.raises(DocumentationUnreadable):
            await documentation.search("How do I quuxify a frobnicator?")
        await documentation.close()
    documentation = of_folder(tmp_path, folder)
    await documentation.start()
    await until(documentation, lambda: documentation.status.state is DocumentationState.READY)
    assert (await documentation.search("How do I quuxify a frobnicator?")).passages
    await documentation.close()


async def test_a_reader_that_cannot_start_is_reported_at_once(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documentation = of_folder(tmp_path, folder)
    asking = asyncio.create_task(documentation.search("How do I quuxify a frobnicator?"))
    await asyncio.sleep(0)
    monkeypatch.setattr("sys.executable", str(tmp_path / "no python"))
    await documentation.start()
    for question in (asking, documentation.search("How do I quuxify a frobnicator?")):
        with pytest.raises(DocumentationUnreadable, match=SEE_LOG):
            await asyncio.wait_for(question, 30)
    assert documentation.status.state is DocumentationState.FAILED
    await documentation.close()


@pytest.mark.parametrize(
    "line",
    [b"7", b"null", b"[1]", b'"text"', b"print", b"", b"[" * 50_000, b'{"state": "nonsense"}', b"\xff\xfe"],
)
async def test_other_output_of_the_reader_does_not_end_the_reading(tmp_path: Path, line: bytes) -> None:
    documentation = of_folder(tmp_path, tmp_path)
    await documentation._read_report(line + b"\n")
    assert documentation.status.state is DocumentationState.BUILDING
    await documentation.close()


async def test_a_failed_reader_keeps_the_index_of_an_earlier_start(tmp_path: Path) -> None:
    documentation = of_folder(tmp_path, tmp_path)
    await documentation._read_report(b'{"searchable": true, "passages": 7}\n')
    await documentation._read_report(b'{"state": "failed", "detail": "The disk is full."}\n')
    assert (documentation.status.state, documentation.status.passages) == (DocumentationState.READY, 7)
    await documentation.close()


async def test_the_reader_ends_with_the_application(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "documentation.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        documentation = of_folder(tmp_path, folder)
        await documentation.start()
        pid = await asyncio.to_thread(wait_for, reader)
        await documentation.close()
        assert not is_alive(pid)


async def test_a_question_of_any_length_is_answered_or_refused(tmp_path: Path, folder: Path) -> None:
    documentation = of_folder(tmp_path, folder)
    await documentation.start()
    await until(documentation, lambda: documentation.status.state is DocumentationState.READY)
    for question in ("", " ", "?" * 50_000, "quuxify " * 7_000, '"AND" OR (NEAR', "\u202e\x00 x"):
        await documentation.search(question, previous=["quuxify"])
    await documentation.close()
