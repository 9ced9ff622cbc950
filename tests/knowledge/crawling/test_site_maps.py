"""robots.txt, sitemaps, llms.txt and links, as sites write them and as attackers do."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from assistant.knowledge.crawling.fetcher import FetchFailed
from assistant.knowledge.crawling.site_maps import read_links, read_llms, read_robots, read_sitemap


@pytest.mark.parametrize(
    ("robots", "path", "allowed"),
    [
        ("", "/a", True),
        ("User-agent: *\nDisallow:", "/a", True),
        ("User-agent: *\nDisallow: /", "/a", False),
        ("User-agent: *\nDisallow: /\nAllow: /a", "/a", True),  # the longest decides, in any order
        ("User-agent: *\nAllow: /a\nDisallow: /a/b", "/a/b/c", False),
        ("User-agent: *\nDisallow: /a\nAllow: /a", "/a", True),
        ("User-agent: *\nDisallow: /*.php$", "/x/a.php", False),
        ("User-agent: *\nDisallow: /*.php$", "/x/a.php?b=1", True),
        ("User-agent: *\nDisallow: /a*b*c", "/a/x/b/y/c/z", False),
        ("User-agent: *\nDisallow: /a*b*c", "/a/x/c/y/b", True),
        ("User-agent: *\nDisallow: /a$", "/ab", True),
        ("User-agent: *\nDisallow: /*?", "/a?b", False),
        ("User-agent: *\nDisallow: /%7Eme/ä", "/~me/%C3%A4", False),
        ("User-agent: *\nDisallow: /a%2Fb", "/a/b", True),
        ("user-AGENT : techassistant/9 # us\nDISALLOW: /a # no", "/a", False),
        ("User-agent: other\nUser-agent: TechAssistant\n\nDisallow: /a", "/a", False),
        ("User-agent: other\nDisallow: /a", "/a", True),
        ("User-agent: *\nDisallow: /\nUser-agent: TechAssistant\nDisallow: /b", "/a", True),
        (
            "User-agent: TechAssistant\nDisallow: /a\nUser-agent: x\nUser-agent: techassistant\nDisallow: /b",
            "/b",
            False,
        ),
        ("Disallow: /a\n: x\nnonsense", "/a", True),
    ],
)
def test_the_longest_rule_for_us_decides(robots: str, path: str, allowed: bool) -> None:
    assert read_robots(robots).allows(URL(f"http://x{path}")) == allowed


def test_a_hostile_pattern_takes_no_long_time() -> None:
    rules = read_robots("User-agent: *\n" + f"Disallow: /{'*a' * 400}*b\n" * 600)
    assert rules.allows(URL(f"http://x/{'a' * 900}"))  # by backtracking, this would never end


@given(st.text(alphabet="<>/='\"a hrefbsmt:;&#x[](){}\n\0!?*$.", max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    read_links(text)
    read_llms(text)
    read_robots(text).allows(URL("http://x/a"))
    with contextlib.suppress(FetchFailed):
        read_sitemap(text.encode())
    with contextlib.suppress(FetchFailed):
        read_sitemap(b"<urlset>" + text.encode())


@pytest.mark.parametrize(
    "piece", ["<a ", "<a href=", '<a href="', "<a x=' ", "a=", "<meta content='0;url=", "](", "]( <"]
)
def test_a_long_hostile_page_is_read_in_one_go(piece: str) -> None:
    assert len(read_links(piece * 200_000).addresses) <= 50_000
    assert len(read_llms(piece * 200_000)) <= 50_000


def test_a_sitemap_that_is_cut_gives_what_it_has() -> None:
    assert read_sitemap(b"<urlset><url><loc>http://x/a</loc></url><url><lo") == (["http://x/a"], [])
    assert read_sitemap(b"<urlset><url><loc>" + b"a" * 5000 + b"</loc></url></urlset>") == ([], [])
    assert read_sitemap(b"<urlset><image><loc>http://x/a.png</loc></image></urlset>") == ([], [])
