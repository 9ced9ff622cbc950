from collections import Counter

import pytest

from assistant.errors import LimitReached, QuestionTooLarge
from assistant.limits import Limits
from assistant.sites import Site, make_site, new_key
from assistant.visitors import DAY, THE_SITE, YOU, YOUR_NETWORK, Visitor, admit, charge


def site_with(**limits: int) -> Site:
    return make_site(key=new_key(), name="Docs", origins=["https://docs.example.org"], limits=limits)


class Clock:
    time = 0.0

    def __call__(self) -> float:
        return self.time


def test_a_thousand_visitors_get_what_their_site_allows() -> None:
    """They ask every minute for two hours: many behind one address, the others behind 99."""
    clock = Clock()
    limits = Limits(clock=clock)
    most = {"visitor": 20, "address": 100, "site": 9000}
    site = site_with(**{f"{who}_day": count for who, count in most.items()}, visitor_minute=1)
    addresses = [f"address {number % 100 if number > 200 else 0}" for number in range(1000)]
    visitors = [Visitor(site, f"visitor {number}", address) for number, address in enumerate(addresses)]
    asked: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for _ in range(120):
        for visitor in visitors:
            try:
                admit(limits, visitor)
                asked.update([visitor.owner, visitor.address, "site"])
            except LimitReached as error:
                refused[str(error).partition(".")[0]] += 1
        clock.time += 60
    share = 120 * 60 / DAY  # of a day: so much has become free again meanwhile
    assert [name for name, count in asked.items() if count > most[name.split()[0]] * (1 + share) + 1] == []
    assert asked["site"] >= most["site"]
    assert set(refused) == {YOU, YOUR_NETWORK, THE_SITE}
    assert len(limits) <= 2 * (1000 + 100 + 1)


def test_a_question_is_bounded_and_limits_are_of_one_site() -> None:
    limits = Limits(clock=Clock())
    one, other = site_with(site_day=1, characters=5), site_with(tokens_day=10)
    with pytest.raises(QuestionTooLarge, match="5 are possible"):
        admit(limits, Visitor(one, "ann", "::1"), "123456")
    admit(limits, Visitor(one, "ann", "::1"), "12345")
    with pytest.raises(LimitReached, match="Many people"):
        admit(limits, Visitor(one, "bob", "::2"))
    admit(limits, Visitor(other, "ann", "::1"))
    charge(limits, Visitor(other, "ann", "::1"), 11)
    with pytest.raises(LimitReached, match="Many people"):
        admit(limits, Visitor(other, "bob", "::2"))
