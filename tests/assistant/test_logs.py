import io
import logging
import re

import pytest
from starlette.requests import ClientDisconnect

from assistant.logs import LONGEST_LINE, MOST_LINES, MOST_TRACEBACK_LINES, PERIOD, Log

LINE = re.compile(r"(INFO|WARNING|ERROR) [\w.]+: .+|    .*")


class Written:
    """A log whose clock the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self._stream = io.StringIO()
        self.handler = Log(self._stream, now=lambda: self.now)
        self.log = logging.Logger("code")
        self.log.addHandler(self.handler)

    @property
    def lines(self) -> list[str]:
        """The lines since the last call."""
        lines = self._stream.getvalue().splitlines()
        self._stream.seek(0)
        self._stream.truncate()
        assert all(LINE.fullmatch(line) for line in lines), lines
        return lines


@pytest.fixture
def written() -> Written:
    return Written()


def test_a_repeated_line_is_written_once_a_minute_and_counted(written: Written) -> None:
    for _ in range(1000):
        for name in ("one", "two"):
            written.log.warning("it is %s", name)
    assert written.lines == ["WARNING code: it is one", "WARNING code: it is two"]
    written.now += PERIOD
    written.log.info("another")
    assert written.lines == [
        "WARNING code: it is one (repeated within a minute: 999)",
        "WARNING code: it is two (repeated within a minute: 999)",
        "INFO code: another",
    ]
    written.log.info("another")
    written.handler.close()
    assert written.lines == ["INFO code: another (repeated within a minute: 1)"]


def test_one_line_of_code_logs_only_so_often_a_minute(written: Written) -> None:
    for _ in range(3):
        for number in range(10_000):
            written.log.warning("number %d", number)
            assert len(written.handler._counts) <= MOST_LINES + 3
        assert len(written.lines) <= MOST_LINES + 1
        written.now += PERIOD
        written.log.warning("elsewhere")
        assert written.lines[0] == (
            f"WARNING code: number 0 (more lines from the same code within a minute: {10_000 - MOST_LINES:,})"
        )


def test_a_traceback_is_written_once_and_bounded(written: Written) -> None:
    def fail(depth: int, message: str) -> None:
        if depth:
            fail(depth - 1, message)
        raise ValueError(message)

    for number in range(100):
        try:
            fail(90, f"a\nERROR root: forged {number}" + "x" * 10 * LONGEST_LINE)
        except ValueError:
            written.log.exception("failed")
    lines = written.lines
    assert lines[0] == "ERROR code: failed"
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
def test_a_disconnect_is_logged_without_traceback_and_message(written: Written, error: Exception) -> None:
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
def test_no_text_forges_a_line_or_moves_the_cursor(written: Written, hostile: str) -> None:
    written.log.warning("asked for %s", f"x{hostile}ERROR root: forged" + "y" * 2 * LONGEST_LINE)
    (line,) = written.lines
    assert line.isprintable()
    assert len(line) <= LONGEST_LINE + 10 * len(hostile)


def test_a_record_with_a_wrong_format_does_no_harm(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    written.log.warning("%d", "no number")
    written.log.warning("good")
    assert written.lines == ["WARNING code: good"]
