import io
import logging
import re

import pytest
from starlette.requests import ClientDisconnect

from assistant.logs import A_WHILE, LONGEST_LINE, MOST_LINES, MOST_TRACEBACK_LINES, Log

LINE = re.compile(r"(INFO|WARNING|ERROR) [\w.]+: .+|    .*")


class Written:
    """A log with a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self._stream = io.StringIO()
        self.handler = Log(self._stream, now=lambda: self.now)
        self.log = logging.Logger("place")
        self.log.addHandler(self.handler)

    @property
    def lines(self) -> list[str]:
        """What was written since the last look."""
        lines = self._stream.getvalue().splitlines()
        self._stream.seek(0)
        self._stream.truncate()
        assert all(LINE.fullmatch(line) for line in lines), lines
        return lines


@pytest.fixture
def written() -> Written:
    return Written()


def test_what_repeats_is_written_once_a_minute_and_counted(written: Written) -> None:
    for _ in range(1000):
        for name in ("one", "two"):
            written.log.warning("it is %s", name)
    assert written.lines == ["WARNING place: it is one", "WARNING place: it is two"]
    written.now += A_WHILE
    written.log.info("another")
    assert written.lines == [
        "WARNING place: it is one (the same again within a minute: 999)",
        "WARNING place: it is two (the same again within a minute: 999)",
        "INFO place: another",
    ]
    written.log.info("another")
    written.handler.close()
    assert written.lines == ["INFO place: another (the same again within a minute: 1)"]


def test_a_place_has_so_many_lines_a_minute_whatever_they_say(written: Written) -> None:
    for _ in range(3):
        for number in range(10_000):
            written.log.warning("number %d", number)
            assert len(written.handler._counts) <= MOST_LINES + 3
        assert len(written.lines) <= MOST_LINES + 1
        written.now += A_WHILE
        written.log.warning("elsewhere")
        told, _, first = written.lines[0].partition(" (")
        assert (told, first) == (
            "WARNING place: number 0",
            f"more lines from the same place within a minute: {10_000 - MOST_LINES:,})",
        )


def test_a_traceback_is_written_once_and_bounded(written: Written) -> None:
    def fail(depth: int, words: str) -> None:
        if depth:
            fail(depth - 1, words)
        raise ValueError(words)

    for number in range(100):
        try:
            fail(90, f"a\nERROR root: forged {number}" + "x" * 10 * LONGEST_LINE)
        except ValueError:
            written.log.exception("failed")
    lines = written.lines
    assert lines[0] == "ERROR place: failed"
    assert lines[-1].startswith("    ERROR root: forged 0")
    assert len(lines) <= 1 + MOST_TRACEBACK_LINES
    assert max(map(len, lines)) <= LONGEST_LINE + 5


@pytest.mark.parametrize(
    "error",
    [
        ClientDisconnect(),
        ConnectionResetError("gone"),
        RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed"),
    ],
)
def test_a_client_that_has_gone_leaves_no_traceback_and_no_words(written: Written, error: Exception) -> None:
    for _ in range(10):
        try:
            raise error
        except Exception:
            written.log.exception("failed")
    (line,) = written.lines
    assert type(error).__name__ in line
    assert "unable" not in line


@pytest.mark.parametrize(
    "hostile", ["\n", "\r", "\x1b[2J", "\u2028", "\u202e", "\x00", "\x85", "\ud800", "\x7f"]
)
def test_nobody_forges_a_line_or_moves_the_cursor(written: Written, hostile: str) -> None:
    written.log.warning("asked for %s", f"x{hostile}ERROR root: forged" + "y" * 2 * LONGEST_LINE)
    (line,) = written.lines
    assert line.isprintable()
    assert len(line) <= LONGEST_LINE + 10 * len(hostile)


def test_a_record_that_cannot_be_written_harms_nobody(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    written.log.warning("%d", "no number")
    written.log.warning("good")
    assert written.lines == ["WARNING place: good"]
