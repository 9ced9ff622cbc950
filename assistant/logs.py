"""The log. No client can flood or forge it.

Anyone can make the server log something again and again. So repeated lines are counted, each line of code may
log only so often a minute, each record is one line whatever it quotes, and a client that disconnects causes
no traceback.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TextIO

from starlette.requests import ClientDisconnect

PERIOD = 60.0  # seconds in which lines are counted
MOST_LINES = 50  # of one line of code, in that time
LONGEST_LINE = 1000  # characters
MOST_TRACEBACK_LINES = 60


@dataclass(slots=True)
class _Count:
    """How often a line repeats: `more` times after the first, which was written at `since`."""

    since: float
    line: str
    written: int = 0
    more: int = 0


class Log(logging.StreamHandler[TextIO]):
    """Writes each record as one line, with a traceback below it the first time.

    It counts the records that repeat one of the last minute, and writes the count with the next record after
    that minute, or at the end.
    """

    def __init__(self, stream: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._now = now
        self._counts: dict[Hashable, _Count] = {}  # oldest first

    def emit(self, record: logging.LogRecord) -> None:
        try:
            now = self._now()
            self._write_counts(until=now - PERIOD)
            error = record.exc_info[1] if record.exc_info else None
            line = _one_line(f"{record.levelname} {record.name}: {record.getMessage().rstrip()}")
            if error is not None and _is_disconnect(error):
                line, error = f"{line}: {in_a_line(error)}", None
            code_line = (record.pathname, record.lineno)
            same = (record.name, record.levelno, line if error is None else in_a_line(error))
            if (count := self._counts.get(same)) is not None:
                count.more += 1
                return
            of_code_line = self._counts.setdefault(code_line, _Count(now, line))
            if of_code_line.written == MOST_LINES:
                of_code_line.more += 1
                return
            of_code_line.written += 1
            self._counts[same] = _Count(now, line)
            self._write(line if error is None else "\n".join([line, *_traceback(error)]))
        except Exception:  # noqa: BLE001 - like every handler of logging
            self.handleError(record)

    def close(self) -> None:
        self.acquire()
        try:
            self._write_counts(until=float("inf"))
        finally:
            self.release()
        super().close()

    def _write_counts(self, *, until: float) -> None:
        """Write the counts that began before `until`, and forget them."""
        while self._counts and (first := next(iter(self._counts.items())))[1].since <= until:
            key, count = first
            del self._counts[key]
            if count.more:
                what = "more lines from the same code" if count.written else "repeated"
                self._write(f"{count.line} ({what} within a minute: {count.more:,})")

    def _write(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.flush()


def begin(stream: TextIO) -> None:
    """Send all logging to `stream`, including the warnings of libraries."""
    logging.basicConfig(level=logging.INFO, handlers=[Log(stream)])
    for noisy in ("httpx", "uvicorn", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def in_a_line(error: BaseException) -> str:
    """The type of an error and where it was raised. Its message is left out: it may quote users' text."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        place = f" in {frame.f_code.co_name} ({frame.f_code.co_filename}:{line})"
    return type(error).__name__ + place


def _is_disconnect(error: BaseException) -> bool:
    """Whether the error only means that a client has disconnected."""
    is_closed = isinstance(error, RuntimeError) and "the handler is closed" in str(error)  # uvloop's error
    return is_closed or isinstance(error, ClientDisconnect | ConnectionResetError | BrokenPipeError)


def _one_line(text: str) -> str:
    """The text, shortened, without characters that end a line or move a terminal's cursor."""
    text = text if len(text) <= LONGEST_LINE else text[:LONGEST_LINE] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _traceback(error: BaseException) -> list[str]:
    """The end of a traceback, indented, so that none of its lines looks like a record."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return [f"    {_one_line(line)}" for line in lines[-MOST_TRACEBACK_LINES:]]
