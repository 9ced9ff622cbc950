"""A report as a CSV file, one row a gap, and as a text for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from assistant.conversation import Rating
from assistant.report.report import MOST_EXAMPLES, Gap, Outcome, SiteReport

NAMES = {
    Outcome.DOCUMENTED: "Answered from the documentation",
    Outcome.UNDOCUMENTED: "Answered by the model alone",
    Outcome.NOT_FOUND: "Nothing found",
    Outcome.FAILED: "Stopped or failed",
    Outcome.SMALL_TALK: "Greetings and thanks",
}
COLUMNS = (
    *("questions", "not_found", "rated_down", "newest"),
    *(f"example_{number}" for number in range(1, MOST_EXAMPLES + 1)),
    *(f"comment_{number}" for number in range(1, MOST_EXAMPLES + 1)),
)
# Spreadsheets compute a cell that begins like this, also in full width.
FORMULA = tuple("=+-@|%\t\r\n＝＋－＠")


def as_csv(report: SiteReport) -> str:
    """The gaps. A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    writer.writerows(map(_row, report.gaps))
    return file.getvalue()


def _row(gap: Gap) -> list[str | int]:
    newest = gap.newest.strftime("%Y-%m-%d %H:%M")
    texts = (*_filled(gap.examples), *_filled(gap.comments))
    return [gap.questions, gap.not_found, gap.rated_down, newest, *map(_harmless, texts)]


def _filled(texts: tuple[str, ...]) -> tuple[str, ...]:
    return (*texts, *[""] * MOST_EXAMPLES)[:MOST_EXAMPLES]


def _harmless(text: str) -> str:
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def as_text(report: SiteReport, name: str) -> str:
    return "\n".join(_lines(report, name)) + "\n"


def _lines(report: SiteReport, name: str) -> Iterator[str]:
    first, last = report.days[0].date, report.days[-1].date
    yield f"{name}, from {first} to {last} (UTC)"
    yield f"{report.questions:8}  Questions"
    for outcome, count in report.outcomes.items():
        yield f"{count:8}  {NAMES[outcome]}"
    yield f"{report.ratings[Rating.UP]:8}  Rated up"
    yield f"{report.ratings[Rating.DOWN]:8}  Rated down"
    if report.seconds is not None:
        yield f"{report.seconds:7.1f}s  Median time to the end of an answer"
    if report.is_cut:
        yield "Only the newest conversations were read: there are too many for one report."
    if report.pages:
        yield "\nPages that most answers use:"
        yield from (f"{page.answers:8}  {page.title}  {page.url}" for page in report.pages)
    if report.gaps:
        yield "\nWhat the documentation did not answer:"
    for gap in report.gaps:
        counts = f"{gap.not_found} not found, {gap.rated_down} rated down, newest {gap.newest:%Y-%m-%d}"
        yield f"{gap.questions:8}  {gap.examples[0]}  ({counts})"
        yield from (f"          {example}" for example in gap.examples[1:])
        yield from (f"          “{comment}”" for comment in gap.comments)
