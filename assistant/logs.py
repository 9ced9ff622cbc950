"""The log, which nobody who reaches the server can flood or forge.

Anybody can make the server say something, again and again. So what repeats is counted, each place in the code
has so many lines a minute, a line is one line whatever it quotes, and a client's fault has no traceback.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

from starlette.requests import ClientDisconnect

A_WHILE = 60.0  # seconds in which lines are counted
MOST_LINES = 50  # of one place in the code, in that time
LONGEST_LINE = 1000  # characters
MOST_TRACEBACK_LINES = 60


@dataclass(slots=True)
class _Count:
    """What was written for the first time at `since`, and how many more there were."""

    since: float
    line: str
    written: int = 0
    more: int = 0


class Log(logging.StreamHandler[TextIO]):
    """Writes each record as one line, and a traceback under it the first time.

    What says the same as a record of the last minute is counted. The count is written when the minute is over
    and the next record comes, or at the end.
    """

    def __init__(self, stream: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._now = now
        self._counts: dict[Hashable, _Count] = {}  # in the order of their beginnings

    def emit(self, record: logging.LogRecord) -> None:
        try:
            now = self._now()
            self._tell(until=now - A_WHILE)
            error = record.exc_info[1] if record.exc_info else None
            line = _one_line(f"{record.levelname} {record.name}: {record.getMessage().rstrip()}")
            if error is not None and _is_of_a_client(error):
                line, error = f"{line}: {in_a_line(error)}", None
            here = (record.pathname, record.lineno)
            same = (record.name, record.levelno, line if error is None else in_a_line(error))
            if (count := self._counts.get(same)) is not None:
                count.more += 1
                return
            at_all = self._counts.setdefault(here, _Count(now, line))
            if at_all.written == MOST_LINES:
                at_all.more += 1
                return
            at_all.written += 1
            self._counts[same] = _Count(now, line)
            self._write(line if error is None else "\n".join([line, *_traceback(error)]))
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)

    def close(self) -> None:
        self.acquire()
        try:
            self._tell(until=float("inf"))
        finally:
            self.release()
        super().close()

    def _tell(self, *, until: float) -> None:
        """Write how many more there were of what began before `until`."""
        while self._counts and (first := next(iter(self._counts.items())))[1].since <= until:
            key, count = first
            del self._counts[key]
            if count.more:
                what = "more lines from the same place" if count.written else "the same again"
                self._write(f"{count.line} ({what} within a minute: {count.more:,})")

    def _write(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.flush()


def begin(stream: TextIO) -> None:
    """Have all that is told go to `stream`, warnings of libraries too."""
    logging.basicConfig(level=logging.INFO, handlers=[Log(stream)])
    for noisy in ("httpx", "uvicorn", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def in_a_line(error: BaseException) -> str:
    """What an error is and where it was raised, without its words: they may quote what people write."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return type(error).__name__ + _place(frame)


def _place(frame: TracebackType | None) -> str:
    if frame is None:
        return ""
    code = frame.tb_frame.f_code
    return f" in {code.co_name} ({code.co_filename}:{frame.tb_lineno})"


def _is_of_a_client(error: BaseException) -> bool:
    """Whether it is only that a client has gone."""
    is_closed = isinstance(error, RuntimeError) and "the handler is closed" in str(error)  # as uvloop has it
    return is_closed or isinstance(error, ClientDisconnect | ConnectionResetError | BrokenPipeError)


def _one_line(text: str) -> str:
    """Text without what ends a line or moves a terminal's cursor."""
    text = text if len(text) <= LONGEST_LINE else text[:LONGEST_LINE] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _traceback(error: BaseException) -> list[str]:
    """The end of a traceback, indented, so that no line of it looks like one of the log."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return [f"    {_one_line(line)}" for line in lines[-MOST_TRACEBACK_LINES:]]
