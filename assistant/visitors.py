"""The visitors of a site, and how much they may ask."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.errors import QuestionTooLarge
from assistant.limits import Limit, Limits, Use
from assistant.sites import Site

MINUTE, DAY = 60.0, 24 * 3600.0
YOU = "You have asked many questions"
YOUR_NETWORK = "Many questions have come from your network"
THE_SITE = "Many people have asked this assistant"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who reads a page of a site. `owner` is whom the visitor's chats belong to; `address` is the client's,
    as the operator's proxies report it."""

    site: Site
    owner: str
    address: str


def admit(limits: Limits, visitor: Visitor, question: str = "") -> None:
    """Count one more question of a visitor. Raises `LimitReached` and `QuestionTooLarge`."""
    site, most = visitor.site, visitor.site.limits
    if len(question) > most.characters:
        raise QuestionTooLarge(
            f"The question is too long: it has {len(question):,} characters, and {most.characters:,} are "
            "possible here. Shorten it or split it."
        )
    limits.take(
        [
            Use(f"minute of visitor {visitor.owner}", Limit(most.visitor_minute, MINUTE), YOU),
            Use(f"day of visitor {visitor.owner}", Limit(most.visitor_day, DAY), YOU),
            Use(
                f"minute of {visitor.address} at {site.key}", Limit(most.address_minute, MINUTE), YOUR_NETWORK
            ),
            Use(f"day of {visitor.address} at {site.key}", Limit(most.address_day, DAY), YOUR_NETWORK),
            Use(f"minute of {site.key}", Limit(most.site_minute, MINUTE), THE_SITE),
            Use(f"day of {site.key}", Limit(most.site_day, DAY), THE_SITE),
            _tokens(site, 0),
        ]
    )


def charge(limits: Limits, visitor: Visitor, tokens: int) -> None:
    """Count the tokens that an answer has taken."""
    limits.add(_tokens(visitor.site, tokens))


def _tokens(site: Site, amount: int) -> Use:
    return Use(f"tokens of {site.key}", Limit(site.limits.tokens_day, DAY), THE_SITE, amount)
