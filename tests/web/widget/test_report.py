"""The report of a site over HTTP: who sees it, and what stands in it."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from itsdangerous import TimestampSigner
from sqlalchemy import update
from starlette.types import ASGIApp

from assistant.conversation import Rating, Source, Status
from assistant.provenance import Provenance
from assistant.sites import Sites, changed, hash_of, make_site
from assistant.web.application import create_app
from assistant.web.throttle import WRONG_KEYS
from assistant.web.widget.report import SIGNED_IN_SECONDS
from storage.database import Database
from storage.feedback import FeedbackStore
from storage.journal import Journal
from storage.running import Outcome
from storage.schema import conversations
from storage.store import ConversationStore
from tests.browser.hostile import HOSTILE
from tests.support.fake_model import FakeServed, ScriptedModel
from tests.support.parts import Parts

KEY = b"k" * 32
ONE, OTHER, SECRETLESS, UNKNOWN = "siteone0000000", "siteother00000", "sitesecretless", "siteunknown000"
SECRETS = {ONE: "secret of one", OTHER: "secret of other"}


@dataclass
class Place:
    """An application with sites, as clients at different addresses reach it."""

    app: ASGIApp
    sites: Sites
    database: Database

    @asynccontextmanager
    async def client(
        self, address: str = "192.0.2.1", base: str = "http://localhost"
    ) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app, client=(address, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            yield client

    async def ask(
        self,
        site: str | None,
        question: str,
        *sources: Source,
        comment: str | None = None,
        by: str = "documentation",
    ) -> None:
        """A question of a visitor, and its answer, which a comment rates down."""
        store, journal = ConversationStore(self.database), Journal(self.database)
        journal.start()
        asked = await store.ask("visitor", None, question)
        theirs = conversations.c.id == asked.conversation_id
        await self.database.write(
            lambda connection: connection.execute(update(conversations).where(theirs).values(site=site))
        )
        entry = journal.open(asked.reply_id)
        journal.cite(entry, sources)
        await journal.settle(entry, Outcome(Status.DONE, provenance=Provenance(model=by, seconds=1.5)))
        if comment is not None:
            await FeedbackStore(self.database).give("visitor", asked.reply_id, Rating.DOWN, comment)
        await journal.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    sites = Sites(tmp_path / "sites")
    for key in (ONE, OTHER, SECRETLESS):
        secret = SECRETS.get(key)
        hashed = "" if secret is None else hash_of(secret)
        sites.save(make_site(key=key, name=f"Name of {key}", origins=(), report_secret_hash=hashed))
    database = Database(tmp_path / "chats.db")
    parts = Parts(database, FakeServed(ScriptedModel()))
    yield Place(create_app(parts.replies, parts.chats, sites, key=KEY), sites, database)
    database.close()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def sign_in(client: httpx.AsyncClient, site: str, secret: str) -> httpx.Response:
    return await client.post(f"/sites/{site}/report", data={"secret": secret})


class Elements(HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[tuple[str, str]] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements |= {(tag, name) for name, _ in attrs} | {(tag, "")}
        self.links += [str(value) for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


# What stands in it


async def test_each_site_has_a_report_of_its_own_questions_alone(place: Place) -> None:
    page = Source("n", "Users", "p", "1", "", "users.md:3", "https://docs.example.org/users#add", "q")
    await place.ask(ONE, "How do I add a user?", page)
    await place.ask(ONE, "How do I rotate the API key for ann@acme.io?", comment="Ask +49 170 1234567")
    await place.ask(OTHER, "What does OTHER cost?")
    await place.ask(None, "What does NOBODY ask?")
    async with place.client() as client:
        for site, own, others in (
            (ONE, "rotate the API key", "OTHER cost"),
            (OTHER, "OTHER cost", "API key"),
        ):
            for file in ("report", "report.csv?days=7", "report?days=90", "report?days=8"):
                answer = await client.get(f"/sites/{site}/{file}", headers=bearer(SECRETS[site]))
                assert answer.status_code == 200
                assert answer.headers["cache-control"] == "no-store, private"
                assert own in answer.text
                for absent in (others, "NOBODY", "ann@acme.io", "1234567", "visitor"):
                    assert absent not in answer.text
        shown = Elements((await client.get(f"/sites/{ONE}/report", headers=bearer(SECRETS[ONE]))).text)
        text = " ".join(shown.text.split())
        for part in ("Name of siteone0000000", "Questions 2", "documentation 50 %", "0 / 1", "1.5 s"):
            assert part in text
        assert "https://docs.example.org/users" in shown.links
        table = await client.get(f"/sites/{ONE}/report.csv", headers=bearer(SECRETS[ONE]))
        assert table.headers["content-type"] == "text/csv; charset=utf-8"
        assert table.headers["content-disposition"].startswith('attachment; filename="gaps-siteone')
        (row,) = csv.DictReader(io.StringIO(table.content.decode("utf-8-sig"), newline=""))
        assert (row["questions"], row["not_found"], row["rated_down"]) == ("1", "1", "1")
        assert row["example_1"] == "How do I rotate the API key for [e-mail]?"
        assert row["comment_1"] == "Ask [phone]"


async def test_what_visitors_write_is_text_whatever_it_is(place: Place) -> None:
    harmless = Source("n", "Title", "p", "1", "", "a.md:1", "https://docs.example.org/a", "q")
    await place.ask(OTHER, "how?", harmless, comment="why")
    await place.ask(OTHER, "how else?", Source("n", "T", "p", "1", "", "a.md:1", "", "q"), comment="why")
    odd = (
        "javascript:alert(1)",
        "JaVaScRiPt:x",
        "data:text/html,x",
        "//evil.test",
        'https://x.org/"onclick=a',
        "https://a@b.org/",
    )
    for number, text in enumerate(HOSTILE):
        url = odd[number % len(odd)]
        await place.ask(ONE, text, Source(text, text, text, "1", "", text, url, text), comment=text)
        await place.ask(ONE, f"{text} {number}")
    site = place.sites.existing(ONE)
    place.sites.save(changed(site, name="<script>alert(1)</script>"))
    async with place.client() as client:
        expected = Elements((await client.get(f"/sites/{OTHER}/report", headers=bearer(SECRETS[OTHER]))).text)
        answer = await client.get(f"/sites/{ONE}/report", headers=bearer(SECRETS[ONE]))
    found = Elements(answer.text)
    assert found.elements - expected.elements <= {("ul", ""), ("li", "")}
    attributes = {name for _, name in found.elements}
    assert attributes & {"style", "src", "srcset", "onclick", "onload"} == set()
    assert "script" not in {tag for tag, _ in found.elements}
    assert {link for link in found.links if not re.match(r"/ui/|report|sign-out", link)} == {
        'https://x.org/"onclick=a'
    }
    assert found.text.count("alert(1)") > len(HOSTILE)
    policy = answer.headers["content-security-policy"]
    for part in ("default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy


async def test_a_site_that_nobody_asked_has_a_page_too(place: Place) -> None:
    async with place.client() as client:
        answer = await client.get(f"/sites/{ONE}/report", headers=bearer(SECRETS[ONE]))
        assert "Nobody has asked anything in these 30 days." in answer.text
        assert (await client.head(f"/sites/{ONE}/report", headers=bearer(SECRETS[ONE]))).status_code == 200


# Who sees it


async def test_a_wrong_secret_and_an_unknown_site_look_the_same(place: Place) -> None:
    answers = set()
    for number, site in enumerate((ONE, UNKNOWN, SECRETLESS, "x", "%00", "%3Cb%3E", "x" * 500)):
        async with place.client(f"198.51.100.{number}") as client:
            for answer in (
                await client.get(f"/sites/{site}/report", headers=bearer("wrong")),
                await client.get(f"/sites/{site}/report.csv", headers=bearer("wrong")),
                await client.get(f"/sites/{site}/report", headers=bearer(SECRETS[OTHER])),
                await sign_in(client, site, "wrong"),
                await sign_in(client, site, ""),
            ):
                headers = tuple(sorted((name, value) for name, value in answer.headers.items()))
                answers.add((answer.status_code, answer.text, headers))
            assert client.cookies == httpx.Cookies()
    ((status, page, headers),) = answers
    assert (status, dict(headers)["www-authenticate"]) == (401, "Bearer")
    assert "the secret is wrong" in page
    for file in ("report", "report.csv"):
        async with place.client("198.51.100.99") as client:
            without = {
                (await client.get(f"/sites/{site}/{file}")).text for site in (ONE, UNKNOWN, SECRETLESS)
            }
            assert len(without) == 1


async def test_who_signs_in_gets_a_cookie_for_this_report_alone(place: Place) -> None:
    async with place.client(base="https://localhost") as client:
        answer = await sign_in(client, ONE, SECRETS[ONE])
        assert (answer.status_code, answer.headers["location"]) == (303, f"/sites/{ONE}/report")
        line = answer.headers["set-cookie"]
        assert line.startswith("__Secure-ta-report=")
        assert line.endswith(f"; Max-Age=3600; Path=/sites/{ONE}; HttpOnly; SameSite=Strict; Secure")
        assert hash_of(SECRETS[ONE]) not in line
        assert (await client.get(f"/sites/{ONE}/report")).status_code == 200
        assert (await client.get(f"/sites/{ONE}/report.csv")).status_code == 200
        for file in ("report", "report.csv"):
            assert (await client.get(f"/sites/{OTHER}/{file}", headers={"Cookie": line})).status_code == 401
        assert (await client.get("/api/conversations", headers={"Cookie": line})).json()[
            "conversations"
        ] == []
        out = await client.post(f"/sites/{ONE}/sign-out")
        assert (out.status_code, out.headers["set-cookie"].split("; ")[:2]) == (
            303,
            ["__Secure-ta-report=", "Max-Age=0"],
        )
        assert (await client.get(f"/sites/{ONE}/report")).status_code == 401
        assert (await client.post(f"/sites/{UNKNOWN}/sign-out")).status_code == 401
    async with place.client() as client:
        line = (await sign_in(client, ONE, SECRETS[ONE])).headers["set-cookie"]
        assert line.startswith("ta-report=")
        assert "Secure" not in line


def forged(
    site: str, hashed: str, key: bytes = KEY, salt: str = "report of {} {}", value: bytes = b"owner"
) -> str:
    signer = TimestampSigner(key, salt=salt.format(site, hashed), digest_method=hashlib.sha256)
    return signer.sign(value).decode()


async def test_no_other_cookie_opens_a_report(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.client() as client:
        await sign_in(client, ONE, SECRETS[ONE])
        cookie = client.cookies["ta-report"]
        other = (
            (await sign_in(client, OTHER, SECRETS[OTHER]))
            .headers["set-cookie"]
            .partition("=")[2]
            .partition(";")[0]
        )
        client.cookies.clear()

        async def opens(value: str, site: str = ONE) -> bool:
            answer = await client.get(f"/sites/{site}/report", headers={"Cookie": f"ta-report={value}"})
            assert answer.status_code in (200, 401)
            return answer.status_code == 200

        assert await opens(cookie)
        name, time, signature = cookie.split(".")
        swapped = signature[:-5] + ("AAAAA" if signature[-5:] != "AAAAA" else "BBBBB")
        wrong = ["", "x", ".", "..", other, f"{name}.{time}", f"{name}.{time}.", f"{name}.{time}.{swapped}"]
        wrong += [f"other.{time}.{signature}", cookie * 2, "x" * 5000, f"owner.zzzzzz.{signature}", '"a.b.c"']
        wrong += [forged(ONE, hash_of(SECRETS[ONE]), key=b"x" * 32), forged(ONE, "0" * 64), forged(OTHER, "")]
        for value in wrong:
            assert not await opens(value), value
        assert not await opens(forged(SECRETLESS, ""), SECRETLESS)
        assert not await opens(forged(UNKNOWN, ""), UNKNOWN)
        assert await opens(f"x; ta-report={cookie}")  # a planted one locks nobody out

        clock = TimestampSigner.get_timestamp
        monkeypatch.setattr(
            TimestampSigner, "get_timestamp", lambda self: clock(self) + SIGNED_IN_SECONDS + 5
        )
        assert not await opens(cookie)
        monkeypatch.undo()
        assert await opens(cookie)
        site = place.sites.existing(ONE)
        place.sites.save(changed(site, report_secret_hash=hash_of("new")))
        assert not await opens(cookie)
        place.sites.save(changed(site, report_secret_hash=""))
        assert not await opens(cookie)
        place.sites.save(site)
        assert await opens(cookie)
        place.sites.remove(ONE)
        assert not await opens(cookie)


async def test_an_address_that_guesses_secrets_must_wait(place: Place) -> None:
    async with place.client("203.0.113.1") as guesser, place.client("203.0.113.2") as owner:
        await sign_in(guesser, OTHER, SECRETS[OTHER])  # to have the secret of one site helps with no other
        attempts: list[Callable[[], object]] = [
            lambda: guesser.get(f"/sites/{ONE}/report", headers=bearer("wrong")),
            lambda: guesser.get(f"/sites/{UNKNOWN}/report.csv", headers=bearer("wrong")),
            lambda: sign_in(guesser, ONE, "wrong"),
            lambda: sign_in(guesser, SECRETLESS, ""),
        ]
        for number in range(WRONG_KEYS):
            assert (await attempts[number % 4]()).status_code == 401  # type: ignore[misc]
        for site in (ONE, UNKNOWN):
            for refused in (
                await sign_in(guesser, site, SECRETS[ONE]),
                await guesser.get(f"/sites/{site}/report.csv", headers=bearer(SECRETS[ONE])),
            ):
                assert refused.status_code == 429
                assert 50 < int(refused.headers["retry-after"]) <= 60
                assert "Try again in" in refused.text
        assert (await guesser.get(f"/sites/{OTHER}/report")).status_code == 200
        assert (
            await guesser.get(f"/sites/{OTHER}/report", headers=bearer(SECRETS[OTHER]))
        ).status_code == 200
        assert (await sign_in(owner, ONE, SECRETS[ONE])).status_code == 303


async def test_other_pages_and_odd_requests_get_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with place.client() as client:
        for headers in (
            {"Origin": "https://evil.test"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Host": "evil.test"},
        ):
            answer = await client.post(f"/sites/{ONE}/report", data={"secret": SECRETS[ONE]}, headers=headers)
            assert answer.status_code in (403, 421)
            assert "set-cookie" not in answer.headers
        for body in (
            b"",
            b"secret",
            b"secret=%ff%00",
            b"\xff\x00=&&&",
            b"a=1&" * 1000,
            b"secret=" + b"x" * 200_000,
        ):
            answer = await client.post(f"/sites/{ONE}/report", content=body)
            assert answer.status_code in (401, 429), body[:20]
    async with place.client("198.51.100.5") as client:
        for value in ("Bearer", "Bearer ", "Basic c2VjcmV0", f"bearer  {SECRETS[ONE]} ", "Bearer \u00ff"):
            answer = await client.get(
                f"/sites/{ONE}/report", headers={"Authorization": value.encode("latin-1")}
            )
            assert answer.status_code == (200 if SECRETS[ONE] in value else 401), value
        for method in ("PUT", "DELETE", "PATCH"):
            assert (await client.request(method, f"/sites/{ONE}/report")).status_code == 405
        assert not answer.headers.get("access-control-allow-origin")
    assert SECRETS[ONE] not in caplog.text
