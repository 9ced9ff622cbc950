"""The figures of a report, of a history that is small enough to count by hand."""

import csv
import io
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from assistant.conversation import Feedback, Rating, Source, Status
from assistant.provenance import Provenance
from assistant.report.formats import COLUMNS, FORMULA, as_csv, as_text
from assistant.report.report import (
    MOST_EXAMPLES,
    MOST_GAPS,
    Outcome,
    SiteReport,
    beginning,
    make_report,
)
from storage.exchanges import MOST_EXCHANGES, Exchange

NOW = datetime(2026, 3, 10, 15, tzinfo=UTC)
QUOTATION, MODEL = "documentation", "a-model"


def source(page: str) -> Source:
    address = f"https://docs.example.org/{page}"
    return Source(page, page.partition("#")[0].title(), "p", "1", "", f"{page}.md:3", address, "")


def exchange(
    question: str,
    day: int,
    *,
    by: str = MODEL,
    sources: tuple[Source, ...] = (),
    status: Status = Status.DONE,
    seconds: float | None = None,
    rating: Rating | None = None,
    comment: str | None = None,
    question_id: str = "",
) -> Exchange:
    feedback = None if rating is None else Feedback(rating, comment, NOW)
    asked_at = datetime(2026, 3, day, 12, tzinfo=UTC)
    provenance = Provenance(model=by, seconds=seconds)
    return Exchange(
        question_id or f"{question} {day}", question, asked_at, status, provenance, sources, feedback
    )


HISTORY = [
    exchange("How do I add a user?", 10, sources=(source("users#add"), source("users#new")), seconds=2.0),
    exchange("How do I rotate the API key?", 10, by=QUOTATION, seconds=0.5),
    exchange("thanks!", 10, by=QUOTATION, seconds=0.1),
    exchange("What does it cost?", 9, seconds=4.0, rating=Rating.DOWN, comment="  Ask ann@acme.io instead "),
    exchange("Is there an API?", 9, sources=(source("api"),), rating=Rating.UP),
    exchange("rotating api keys", 8, by=QUOTATION, seconds=0.5),
    # Answered again after it was stopped: the newest reply says how, and each rating counts.
    exchange(
        "How do I pay?", 6, sources=(source("users"),), seconds=3.0, rating=Rating.UP, question_id="pay"
    ),
    exchange("How do I pay?", 6, status=Status.STOPPED, rating=Rating.DOWN, question_id="pay"),
    exchange("Why?", 4, status=Status.FAILED),
]


def of_day(report: SiteReport, day: int) -> dict[Outcome, int]:
    (found,) = [one for one in report.days if one.date == date(2026, 3, day)]
    return {outcome: count for outcome, count in found.outcomes.items() if count}


def test_the_figures_of_a_small_history() -> None:
    report = make_report(HISTORY, 7, NOW)
    assert [day.date.day for day in report.days] == [4, 5, 6, 7, 8, 9, 10]
    assert beginning(7, NOW) == datetime(2026, 3, 4, tzinfo=UTC)
    assert [day.questions for day in report.days] == [1, 0, 1, 0, 1, 2, 3]
    assert of_day(report, 10) == {Outcome.DOCUMENTED: 1, Outcome.NOT_FOUND: 1, Outcome.SMALL_TALK: 1}
    assert of_day(report, 9) == {Outcome.UNDOCUMENTED: 1, Outcome.DOCUMENTED: 1}
    assert of_day(report, 6) == {Outcome.DOCUMENTED: 1}
    assert of_day(report, 4) == {Outcome.FAILED: 1}
    assert list(report.outcomes.values()) == [3, 1, 2, 1, 1]
    assert report.questions == 8
    assert report.ratings == {Rating.UP: 2, Rating.DOWN: 2}
    assert report.seconds == 1.25  # of 0.1, 0.5, 0.5, 2, 3 and 4
    assert [(page.url, page.title, page.answers) for page in report.pages] == [
        ("https://docs.example.org/users", "Users", 2),
        ("https://docs.example.org/api", "Api", 1),
    ]
    assert [(gap.questions, gap.not_found, gap.rated_down, gap.newest.day) for gap in report.gaps] == [
        (2, 2, 0, 10),
        (1, 0, 1, 9),
        (1, 0, 1, 6),
    ]
    assert report.gaps[0].examples == ("How do I rotate the API key?", "rotating api keys")
    assert report.gaps[1].comments == ("Ask [e-mail] instead",)
    assert not report.is_cut


def test_an_empty_report() -> None:
    report = make_report([], 30, NOW)
    assert (report.questions, len(report.days), report.seconds, report.gaps, report.pages) == (
        0,
        30,
        None,
        (),
        (),
    )
    assert as_csv(report) == ",".join(f'"{name}"' for name in COLUMNS) + "\r\n"
    assert "from 2026-02-09 to 2026-03-10" in as_text(report, "Docs")


def test_examples_are_masked_short_and_few() -> None:
    long = "Where is " + "x" * 1000
    asked = [
        *(
            exchange(f"key {n} for ann{n}@acme.io in /home/ann{n}/x at +49 170 123456{n}?", 9, by=QUOTATION)
            for n in range(9)
        ),
        exchange(long, 9, by=QUOTATION),
        exchange("mail a\u200bnn@ac\u2060me.io or 4111\n1111\n1111\n1111", 9, by=QUOTATION),
        exchange("a\x1b[31m\u202ered\u2066 \r\n  thing\x00", 9, by=QUOTATION),
    ]
    keys, *others = make_report(asked, 7, NOW).gaps
    assert (keys.questions, len(keys.examples)) == (9, MOST_EXAMPLES)
    assert keys.examples[0] == "key 0 for [e-mail] in /home/[user]/x at [phone]?"
    assert {gap.examples[0] for gap in others} == {
        long[:299] + "…",
        "mail [e-mail] or [card number]",
        "a[31mred thing",
    }


def test_much_is_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [exchange(f"about w{number}x", 9, by=QUOTATION) for number in range(2 * MOST_GAPS)]
    report = make_report(many, 7, NOW)
    assert (len(report.gaps), report.is_cut) == (MOST_GAPS, False)
    monkeypatch.setattr("assistant.report.report.MOST_GROUPED", 1)
    newest = replace(many[5], asked_at=NOW)
    assert make_report([*many, newest], 7, NOW).gaps[0].newest == many[0].asked_at
    cut = make_report([exchange("q", 9, question_id=str(n)) for n in range(MOST_EXCHANGES)], 7, NOW)
    assert cut.is_cut
    assert "Only the newest" in as_text(cut, "Docs")


FORMULAS = [
    "=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "  =1", "\r=1", "\n=1", "＝1", "|x",
    "%0A=1",
    '"=1', "'=1", '=HYPERLINK("http://evil.test","x")', "\u200b=1", "\ufeff=1", "\x00=1", '","=1', "a\n=1\n",
]  # fmt: skip


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_is_a_formula_and_each_gap_is_a_row(formula: str) -> None:
    asked = [exchange(f"{formula} why", 9, by=QUOTATION, rating=Rating.DOWN, comment=formula)]
    text = as_csv(make_report(asked, 7, NOW))
    head, row = csv.reader(io.StringIO(text, newline=""))
    assert (tuple(head), len(row)) == (COLUMNS, len(COLUMNS))
    assert [cell for cell in row if cell.lstrip().startswith(FORMULA)] == []
    assert row[0] == row[1] == row[2] == "1"
    shown = row[4].removeprefix("'")
    assert shown.endswith("why")
    assert "\n" not in shown


def test_the_text_has_every_figure_and_no_control_characters() -> None:
    asked = [*HISTORY, exchange("\x1b]0;evil\x07 title", 5, by=QUOTATION)]
    text = as_text(make_report(asked, 7, NOW), "Docs")
    assert text.replace("\n", "").isprintable()
    for part in (
        "       9  Questions",
        "       2  Rated down",
        "Users  https://docs.exa",
    ):
        assert part in text
    assert "rotating api keys" in text
    assert "“Ask [e-mail] instead”" in text
    assert timedelta(days=6) == beginning(1, NOW) - beginning(7, NOW)
