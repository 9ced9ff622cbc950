"""Tokens: how long they last, and what ends them before."""

import time

import pytest

from assistant.sites import Sites, changed
from assistant.web.widget.tokens import (
    COOKIE_SECONDS,
    RENEWED_SECONDS,
    USER_SECONDS,
    VALID_SECONDS,
    Pass,
    SiteTokens,
)
from tests.web.widget.conftest import ORIGIN, OTHER_ORIGIN, add_site

KEY, OLD_KEY = b"k" * 32, b"o" * 32


class Clock:
    def __init__(self) -> None:
        self.time = time.time()

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_token_ends_and_can_be_renewed_for_a_day(sites: Sites, clock: Clock) -> None:
    site = add_site(sites)
    tokens = SiteTokens(sites, [KEY], clock)
    shown = Pass(site.key, ORIGIN, "ann")
    token = tokens.sign(shown)
    for age, is_valid, is_renewable in (
        (VALID_SECONDS - 1, True, True),
        (VALID_SECONDS + 2, False, True),
        (VALID_SECONDS + RENEWED_SECONDS - 1, False, True),
        (VALID_SECONDS + RENEWED_SECONDS + 2, False, False),
        (-VALID_SECONDS - 2, False, True),  # the clock was set back
    ):
        start, clock.time = clock.time, clock.time + age
        assert (tokens.read(token) == (shown, site)) is is_valid, age
        assert (tokens.renewable(token, site, ORIGIN) == shown) is is_renewable, age
        clock.time = start


def test_a_token_is_of_one_site_one_origin_and_one_key(sites: Sites) -> None:
    site, other = add_site(sites, origins=[ORIGIN, OTHER_ORIGIN]), add_site(sites)
    tokens = SiteTokens(sites, [KEY])
    token = tokens.sign(Pass(site.key, ORIGIN, "ann"))
    assert tokens.renewable(token, site, OTHER_ORIGIN) is None
    assert tokens.renewable(token, other, ORIGIN) is None
    assert SiteTokens(sites, [OLD_KEY]).read(token) is None
    assert SiteTokens(sites, [OLD_KEY, KEY]).read(token) is not None  # the key was replaced
    cookie = tokens.cookie(site, "ann")
    assert tokens.visitor_of(site, cookie) == "ann"
    assert tokens.visitor_of(other, cookie) is None
    assert (tokens.read(cookie), tokens.visitor_of(site, token)) == (None, None)
    assert Pass(site.key, ORIGIN, "ann").owner != Pass(other.key, ORIGIN, "ann").owner
    assert Pass(site.key, ORIGIN, "ann").owner != Pass(site.key, ORIGIN, "", user="ann").owner


def test_a_token_ends_with_its_site_and_with_its_origin(sites: Sites) -> None:
    tokens = SiteTokens(sites, [KEY])
    for end in (
        lambda site: sites.save(changed(site, origins=[OTHER_ORIGIN])),
        lambda site: sites.remove(site.key),
    ):
        site = add_site(sites)
        token = tokens.sign(Pass(site.key, ORIGIN, "ann"))
        assert tokens.read(token) is not None
        end(site)
        assert tokens.read(token) is None
        assert tokens.renewable(token, site, ORIGIN) is None


def test_the_user_of_a_site_stays_signed_in_for_half_a_day(sites: Sites, clock: Clock) -> None:
    site = add_site(sites)
    tokens = SiteTokens(sites, [KEY], clock)
    user = Pass(site.key, ORIGIN, "ann", "u", int(clock.time))
    for _ in range(60):  # renewed all the time
        clock.time += VALID_SECONDS - 1
        renewed = tokens.renewable(tokens.sign(user), site, ORIGIN)
        is_in_time = clock.time - user.named_at <= USER_SECONDS
        assert renewed == (user if is_in_time else Pass(site.key, ORIGIN, "ann"))
    assert not is_in_time


def test_the_cookie_of_a_visitor_ends(sites: Sites, clock: Clock) -> None:
    site = add_site(sites)
    tokens = SiteTokens(sites, [KEY], clock)
    cookie = tokens.cookie(site, "ann")
    clock.time += COOKIE_SECONDS + 2
    assert tokens.visitor_of(site, cookie) is None
