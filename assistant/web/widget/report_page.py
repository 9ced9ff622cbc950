"""The page of a site's report, and the page on which its owner signs in.

The plots are SVG without scripts and without style attributes, so the page needs neither. Each has a title,
and its figures in a table below.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import jinja2

from assistant.conversation import Rating
from assistant.report.formats import NAMES
from assistant.report.report import PERIODS, Outcome, SiteReport

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEIGHT = 100  # of the plot of questions a day, in units of the drawing
GAP = 0.2  # between two bars, as a part of a bar's place


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of a plot. `kind` names its colour."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    title: str = ""


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def sign_in_page(*, problem: str = "") -> str:
    return _templates().get_template("sign_in.html").render(problem=problem)


def report_page(report: SiteReport, *, name: str, days: int) -> str:
    return (
        _templates()
        .get_template("report.html")
        .render(
            report=report,
            name=name,
            days=days,
            periods=PERIODS,
            outcomes=[(outcome.value, NAMES[outcome], count) for outcome, count in report.outcomes.items()],
            daily=daily_bars(report),
            highest=max(day.questions for day in report.days),
            parts=parts(list(report.outcomes.items())),
            up=report.ratings[Rating.UP],
            down=report.ratings[Rating.DOWN],
            percent=percent,
            is_link=is_link,
            width=len(report.days),
            height=HEIGHT,
        )
    )


def daily_bars(report: SiteReport) -> list[Bar]:
    """One bar a day, in which the outcomes stand on each other."""
    highest = max(day.questions for day in report.days) or 1
    bars = []
    for number, day in enumerate(report.days):
        below = 0.0
        for outcome in Outcome:
            if count := day.outcomes[outcome]:
                height = count * HEIGHT / highest
                top = HEIGHT - below - height
                title = f"{day.date}: {NAMES[outcome]}: {count}"
                bars.append(Bar(outcome, number + GAP / 2, round(top, 3), 1 - GAP, round(height, 3), title))
                below += height
    return bars


def parts(counts: Sequence[tuple[Outcome, int]]) -> list[Bar]:
    """One bar of width 100, which is divided as the counts are."""
    whole = sum(count for _, count in counts) or 1
    bars: list[Bar] = []
    left = 0.0
    for outcome, count in counts:
        if count:
            width = 100 * count / whole
            bars.append(Bar(outcome, round(left, 3), 0, round(width, 3), 10, f"{NAMES[outcome]}: {count}"))
            left += width
    return bars


def percent(count: int, whole: int) -> str:
    return f"{100 * count / whole:.0f} %" if whole else "–"


def is_link(url: str) -> bool:
    """Whether an address of documentation can be opened in a browser, and is nothing but a page."""
    if not re.match(r"https?://", url, re.IGNORECASE):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and "@" not in parts.netloc
