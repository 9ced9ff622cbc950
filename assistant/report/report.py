"""What the owner of a site learns of its visitors: how much was asked, how it was answered, and what the
documentation lacks.

    exchanges of the site ──> make_report ──> SiteReport ──> a page, a CSV file or a text (`formats.py`)

Nothing in a report says who asked. What visitors wrote is shown in examples alone, with personal data masked.
"""

from __future__ import annotations

import enum
import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from assistant.conversation import Feedback, Rating, Source, Status
from assistant.knowledge.plain_text import readable
from assistant.knowledge.search.small_talk import may_need_documentation
from assistant.privacy.masking import found, masked
from assistant.report.groups import grouped
from storage.exchanges import MOST_EXCHANGES, Exchange

PERIODS = (7, 30, 90)  # days
MOST_GROUPED = 5000  # questions, the newest
MOST_EXAMPLES = 3
MOST_LOOKED_AT = 10  # texts of a gap, to find examples that differ when they are masked
MOST_PAGES = 20
MOST_GAPS = 100
LONGEST_EXAMPLE = 300  # characters
LONGEST_SUBJECT = 300  # characters of a question by which it is grouped


class Outcome(enum.StrEnum):
    """How a question was answered."""

    DOCUMENTED = "documented"  # the answer quotes or cites the documentation
    UNDOCUMENTED = "undocumented"  # the model's answer cites nothing
    NOT_FOUND = "not_found"  # the documentation has no answer, and no model wrote one
    FAILED = "failed"  # it was stopped, failed or was interrupted
    SMALL_TALK = "small_talk"  # greetings and thanks, for which nothing was looked up


@dataclass(frozen=True, slots=True)
class Day:
    """The questions of a day, in UTC."""

    date: date
    outcomes: Mapping[Outcome, int]

    @property
    def questions(self) -> int:
        return sum(self.outcomes.values())


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the documentation, and how many answers cite or quote it."""

    title: str
    url: str
    answers: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Questions for the same that the documentation did not answer, or whose answer was rated down."""

    questions: int
    not_found: int
    rated_down: int
    newest: datetime
    examples: tuple[str, ...]  # masked, newest first
    comments: tuple[str, ...]  # of those who rated down; masked, newest first


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What was asked on the `days` until today. `is_cut` says that there was too much to read all of it."""

    days: tuple[Day, ...]
    ratings: Mapping[Rating, int]
    pages: tuple[Page, ...]
    seconds: float | None  # median time from a question to the end of its answer
    gaps: tuple[Gap, ...]  # those with the most questions first
    is_cut: bool

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        return {outcome: sum(day.outcomes[outcome] for day in self.days) for outcome in Outcome}

    @property
    def questions(self) -> int:
        return sum(day.questions for day in self.days)


def beginning(days: int, now: datetime) -> datetime:
    """When a report on so many days begins. Today is the last of them."""
    first = now.astimezone(UTC).date() - timedelta(days=days - 1)
    return datetime.combine(first, time(), UTC)


def make_report(exchanges: Sequence[Exchange], days: int, now: datetime) -> SiteReport:
    """The report on the exchanges since `beginning`, of which the newest replies to a question come first."""
    since = beginning(days, now).date()
    asked: dict[str, Exchange] = {}  # by question: its newest reply, which says how it was answered
    for exchange in exchanges:
        asked.setdefault(exchange.question_id, exchange)
    daily: dict[date, Counter[Outcome]] = defaultdict(Counter)
    for exchange in asked.values():
        daily[exchange.asked_at.date()][outcome_of(exchange)] += 1
    seconds = [one.provenance.seconds for one in asked.values() if one.status is Status.DONE]
    known = [second for second in seconds if second is not None]
    given = [one.feedback.rating for one in exchanges if one.feedback is not None]
    return SiteReport(
        days=tuple(
            Day(day, {outcome: daily[day][outcome] for outcome in Outcome})
            for day in (since + timedelta(days=number) for number in range(days))
        ),
        ratings={rating: given.count(rating) for rating in Rating},
        pages=_pages(exchanges),
        seconds=statistics.median(known) if known else None,
        gaps=_gaps(exchanges, asked),
        is_cut=len(exchanges) >= MOST_EXCHANGES,
    )


def outcome_of(exchange: Exchange) -> Outcome:
    if exchange.status is not Status.DONE:
        return Outcome.FAILED
    if exchange.cited:
        return Outcome.DOCUMENTED
    if not may_need_documentation(exchange.question):
        return Outcome.SMALL_TALK
    is_quotation = exchange.provenance.model == "documentation"
    return Outcome.NOT_FOUND if is_quotation else Outcome.UNDOCUMENTED


def _pages(exchanges: Sequence[Exchange]) -> tuple[Page, ...]:
    """The pages that most answers cite or quote. Several passages of one page count once an answer."""
    answers: Counter[str] = Counter()
    titles: dict[str, str] = {}
    for exchange in exchanges:
        cited: dict[str, Source] = {}
        for source in exchange.cited:
            page = source.url.partition("#")[0] or source.location.rpartition(":")[0] or source.location
            cited.setdefault(page, source)
        answers.update(cited.keys())
        for page, source in cited.items():
            titles.setdefault(page, source.title or source.name)
    return tuple(
        Page(_cut(_line(titles[page])), page, count)
        for page, count in sorted(answers.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAGES]
    )


def _gaps(exchanges: Sequence[Exchange], asked: Mapping[str, Exchange]) -> tuple[Gap, ...]:
    rated_down: dict[str, list[Feedback]] = defaultdict(list)  # by question
    for exchange in exchanges:
        if exchange.feedback is not None and exchange.feedback.rating is Rating.DOWN:
            rated_down[exchange.question_id].append(exchange.feedback)
    open_questions = [
        exchange
        for exchange in asked.values()
        if exchange.question_id in rated_down or outcome_of(exchange) is Outcome.NOT_FOUND
    ]
    open_questions.sort(key=lambda exchange: exchange.asked_at, reverse=True)
    newest = open_questions[:MOST_GROUPED]
    groups = grouped([_subject(exchange.question) for exchange in newest])
    groups.sort(key=len, reverse=True)  # those of one size stay in order: the newest first
    return tuple(_gap([newest[place] for place in group], rated_down) for group in groups[:MOST_GAPS])


def _gap(members: Sequence[Exchange], rated_down: Mapping[str, Sequence[Feedback]]) -> Gap:
    down = [rated_down.get(one.question_id, ()) for one in members]
    return Gap(
        questions=len(members),
        not_found=sum(outcome_of(one) is Outcome.NOT_FOUND for one in members),
        rated_down=sum(map(bool, down)),
        newest=members[0].asked_at,
        examples=_examples(one.question for one in members),
        comments=_examples(feedback.text for each in down for feedback in each if feedback.text),
    )


def _subject(question: str) -> str:
    """The beginning of a question without personal data, which would set questions for the same apart."""
    subject = question[:LONGEST_SUBJECT]
    for one in reversed(found(subject)):
        subject = f"{subject[: one.start]} {subject[one.end :]}"
    return subject


def _examples(texts: Iterable[str]) -> tuple[str, ...]:
    """The first different texts, as they may be shown."""
    shown: dict[str, None] = {}
    for text in itertools.islice(dict.fromkeys(texts), MOST_LOOKED_AT):
        shown[_cut(masked(_line(text)))] = None  # hidden characters must not hide what is to be masked
        if len(shown) == MOST_EXAMPLES:
            break
    return tuple(shown)


def _line(text: str) -> str:
    return " ".join(readable(text).split())


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_EXAMPLE else f"{line[: LONGEST_EXAMPLE - 1]}…"
