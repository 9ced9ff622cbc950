"""The loader, the frame and the tokens that it gets; what it shares with nobody."""

import asyncio
import base64
import gzip
import hashlib
import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from assistant import site_command
from assistant.sites import Site, Sites, changed
from assistant.web.application import create_app
from assistant.web.connections import Connections, Limits
from assistant.web.identity import cookie_name as chat_cookie_name
from assistant.web.widget.loader import loader_integrity
from assistant.web.widget.tokens import cookie_name
from tests.support.fake_documentation import FakeDocumentation
from tests.support.fake_model import ScriptedModel
from tests.support.parts import Parts
from tests.web.api_client import answered, is_problem
from tests.web.conftest import KEY, running
from tests.web.widget.conftest import ORIGIN, OTHER_ORIGIN, add_site, token_of, try_token, visitor

SECRET = "s" * 48


def policy(response: httpx.Response) -> dict[str, str]:
    parts = response.headers["content-security-policy"].split("; ")
    return dict(part.split(" ", 1) for part in parts)


def settings_of(response: httpx.Response) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json" id="settings">(.*?)</script>', response.text)
    return dict(json.loads(data))


async def test_every_site_gets_the_same_loader(client: httpx.AsyncClient) -> None:
    compressed = await client.get("/widget/v1.js", headers={"Origin": ORIGIN})
    plain = await client.get("/widget/v1.js", headers={"Accept-Encoding": "identity"})
    head = await client.head("/widget/v1.js")
    assert (compressed.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)
    assert compressed.content == plain.content
    digest = base64.b64encode(hashlib.sha384(plain.content).digest()).decode()
    assert loader_integrity() == f"sha384-{digest}"
    for response in (compressed, plain, head):
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.headers["cross-origin-resource-policy"] == "cross-origin"
        assert response.headers["cache-control"] == "public, max-age=3600"
        assert response.headers["content-type"].startswith("text/javascript")
        assert "set-cookie" not in response.headers
    again = await client.get("/widget/v1.js", headers={"If-None-Match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert len(gzip.compress(plain.content, 9)) <= 5 * 1024


async def test_only_the_pages_of_a_site_may_frame_it(client: httpx.AsyncClient, sites: Sites) -> None:
    text = "</script><script>alert(1)</script><!--"
    one = add_site(sites, origins=[ORIGIN, "https://*.example.com"], greeting=text, suggestions=[text])
    other = add_site(sites, origins=["http://[::1]:8000"], texts={"send": text}, uses_model=False)
    none = add_site(sites, origins=[])
    for site, ancestors in (
        (one, f"{ORIGIN} https://*.example.com"),
        (other, "http://[::1]:8000"),
        (none, "'none'"),
    ):
        response = await client.get(f"/widget/{site.key}")
        assert response.status_code == 200
        found = policy(response)
        assert found.pop("frame-ancestors") == ancestors
        assert found["default-src"] == "'none'"
        assert {"'unsafe-inline'", "'unsafe-eval'", "*"}.isdisjoint(" ".join(found.values()).split())
        assert "clipboard-write=(self)" in response.headers["permissions-policy"]
        assert "camera=()" in response.headers["permissions-policy"]
        assert "x-frame-options" not in response.headers
        assert "set-cookie" not in response.headers
        assert response.text.count("<script") == 2  # the settings and the module
        settings = settings_of(response)
        assert (settings["key"], settings["origins"]) == (site.key, list(site.origins))
        assert (settings["greeting"], settings["texts"]) == (site.greeting, dict(site.texts))
        assert not settings.keys() & {"docs", "identity_keys", "report_secret_hash", "limits", "tone"}
    assert settings_of(await client.get(f"/widget/{one.key}"))["answers"] == "model"
    assert settings_of(await client.get(f"/widget/{other.key}"))["answers"] == "documentation"


async def test_an_unknown_site_is_told_so_in_words(client: httpx.AsyncClient, site: Site) -> None:
    for key in ("a" * 16, site.key.upper(), "..%2f..%2fx", "%00" * 12, "x", "v1.js.map", "é" * 12):
        response = await client.get(f"/widget/{key}")
        assert response.status_code == 404, key
        assert "<script" not in response.text
        token = await client.post(f"/widget/{key}/token", json={"origin": ORIGIN})
        assert is_problem(token, 404, "not_found"), key


async def test_a_page_of_another_site_gets_no_token_and_reads_no_answer(
    client: httpx.AsyncClient, site: Site
) -> None:
    for origin in (OTHER_ORIGIN, "null", "", "*", f"{ORIGIN}.evil.example", ORIGIN.replace("https", "http")):
        assert is_problem(await try_token(client, site.key, origin=origin), 403, "unlisted_origin"), origin
    path, body = f"/widget/{site.key}/token", {"origin": ORIGIN}
    for headers in ({"Origin": ORIGIN}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        response = await client.post(path, json=body, headers=headers)
        assert is_problem(response, 403, "foreign_origin"), headers
    assert is_problem(
        await client.post(path, json=body, headers={"Host": "evil.example"}), 421, "unknown_host"
    )
    own = str(client.base_url).rstrip("/")
    got = await client.post(path, json=body, headers={"Origin": own, "Sec-Fetch-Site": "same-origin"})
    frame = await client.get(f"/widget/{site.key}", headers={"Origin": ORIGIN})
    engine = await client.get(
        "/api/engine", headers={"Origin": ORIGIN, "Authorization": f"Bearer {got.json()['token']}"}
    )
    preflight = await client.options(path, headers={"Origin": ORIGIN})
    for response in (got, frame, engine, preflight):
        assert not [name for name in response.headers if name.startswith("access-control-")]
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert preflight.status_code == 405


async def test_a_body_is_checked(client: httpx.AsyncClient, site: Site) -> None:
    for body in (
        *({}, {"origin": 3}, {"origin": ORIGIN, "other": 1}, {"origin": "x" * 301}),
        *({"origin": ORIGIN, "token": "x" * 1001}, {"origin": ORIGIN, "identity": "x" * 4097}),
        {"origin": ORIGIN, "token": "\ud800"},
    ):
        data = json.dumps(body).encode()
        response = await client.post(
            f"/widget/{site.key}/token", content=data, headers={"Content-Type": "application/json"}
        )
        assert is_problem(response, 422, "invalid"), body


async def test_a_visitor_goes_on_where_they_were(
    address: str, client: httpx.AsyncClient, site: Site, model: ScriptedModel
) -> None:
    """By the token in the frame's memory, or by a partitioned cookie; also in the middle of an answer."""
    given = await try_token(client, site.key)
    first = given.json()
    assert (first["visitor"], first["conversation_id"], first["running_reply_id"]) == ("new", None, None)
    assert first["expires_in"] == 900
    cookie, *attributes = given.headers["set-cookie"].split("; ")
    assert cookie.startswith(f"{cookie_name(site)}=")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=None", "Partitioned"} < set(attributes)
    async with visitor(address, first["token"]) as frame:
        ids = (await frame.post("/api/messages", json={"text": "q"})).json()
    signed, _, signature = cookie.rpartition(".")  # the last sign of a signature has bits that do not count
    tampered = f"{signed}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    for headers, token, is_known in (
        ({}, first["token"], True),
        ({"Cookie": f"a=b; {cookie}"}, None, True),
        ({"Cookie": cookie}, "nonsense", True),
        ({"Cookie": tampered}, None, False),
        ({"Cookie": cookie.replace(cookie_name(site), "other")}, None, False),
        ({}, first["token"][:-1], False),
        ({}, None, False),
    ):
        async with httpx.AsyncClient(base_url=address, headers=headers) as next_page:
            found = (await try_token(next_page, site.key, token=token)).json()
        assert (found["visitor"] == "known") is is_known, headers
        assert (found["conversation_id"] == ids["conversation_id"]) is is_known
        assert (found["running_reply_id"] == ids["reply_id"]) is is_known
        async with visitor(address, found["token"]) as frame:
            reply = await frame.get(f"/api/replies/{ids['reply_id']}")
            assert reply.status_code == (200 if is_known else 404)


async def test_a_cookie_is_set_where_browsers_keep_it(client: httpx.AsyncClient, site: Site) -> None:
    for host, is_kept in (("localhost:7860", True), ("docs.localhost", True), ("127.0.0.1", False)):
        response = await client.post(
            f"/widget/{site.key}/token", json={"origin": ORIGIN}, headers={"Host": host}
        )
        assert ("set-cookie" in response.headers) is is_kept, host


async def test_the_widget_reads_no_cookie_of_the_chat(
    client: httpx.AsyncClient, site: Site, chat: str
) -> None:
    assert list(client.cookies) == [chat_cookie_name(KEY)]
    for path in (f"/widget/{site.key}", "/widget/v1.js"):
        assert "set-cookie" not in (await client.get(path)).headers
    found = (await try_token(client, site.key)).json()
    assert (found["visitor"], found["conversation_id"]) == ("new", None)


# The site's own user


def signed(site: Site, key: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    now = int(time.time())
    usual = {"sub": "ann", "aud": site.key, "exp": now + 240, "jti": f"{time.monotonic_ns()}"}
    return jwt.encode(
        {name: value for name, value in {**usual, **claims}.items() if value is not None},
        key,
        algorithm=algorithm,
    )


async def test_the_user_of_a_site_takes_over_what_the_visitor_asked(
    address: str, client: httpx.AsyncClient, sites: Sites, model: ScriptedModel
) -> None:
    site = add_site(sites, identity_keys=[SECRET, "o" * 48])
    anonymous = await token_of(client, site.key)
    async with visitor(address, anonymous) as frame:
        model.say("Half of ")
        ids = (await frame.post("/api/messages", json={"text": "q"})).json()
        named = (await try_token(client, site.key, token=anonymous, identity=signed(site))).json()
        assert (named["conversation_id"], named["running_reply_id"]) == (
            ids["conversation_id"],
            ids["reply_id"],
        )
        assert (await frame.get("/api/conversations")).json()["conversations"] == []
    async with visitor(address, named["token"]) as frame, asyncio.timeout(20):
        model.say("an answer.")
        model.end()
        assert "event: done" in (await frame.get(f"/api/replies/{ids['reply_id']}/events")).text
        assert (await frame.get(f"/api/replies/{ids['reply_id']}")).json()["content"] == "Half of an answer."
    async with httpx.AsyncClient(base_url=address) as phone:  # by the older key, on another device
        token = signed(site, "o" * 48)
        assert (await try_token(phone, site.key, identity=token)).json()["conversation_id"] is not None
        other = await try_token(phone, site.key, identity=signed(site, sub="bob"))
        assert other.json()["conversation_id"] is None
        again = await try_token(phone, site.key, token=named["token"])  # renewed, still the user
        assert again.json()["conversation_id"] is not None
        out = await try_token(phone, site.key)
        assert out.json()["conversation_id"] is None


async def test_a_jwt_is_accepted_only_as_it_should_be(
    client: httpx.AsyncClient, sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    site = add_site(sites, identity_keys=[SECRET])
    other = add_site(sites, identity_keys=[SECRET])
    now = int(time.time())
    good = signed(site)
    header, payload, signature = good.split(".")
    bad = {
        "alg none": jwt.encode(
            {"sub": "a", "aud": site.key, "exp": now + 9, "jti": "1"}, "", algorithm="none"
        ),
        "stripped": f"{header}.{payload}.",
        "HS512": signed(site, SECRET * 2, "HS512"),
        "another key": signed(site, "x" * 48),
        "another site": signed(other),
        "two audiences": signed(site, aud=[site.key, other.key]),
        "no audience": signed(site, aud=None),
        "ended": signed(site, exp=now - 60),
        "too long": signed(site, exp=now + 3600),
        "endless": signed(site, exp=None),
        "exp as text": signed(site, exp="soon"),
        "exp too large": signed(site, exp=10**20),
        "not yet": signed(site, nbf=now + 3600),
        "no user": signed(site, sub=None),
        "empty user": signed(site, sub=""),
        "long user": signed(site, sub="x" * 201),
        "no id": signed(site, jti=None),
        "tampered": f"{header}.{payload[:-2]}AA.{signature}",
        "nonsense": "x.y.z",
        "empty": "",
    }
    caplog.set_level(logging.DEBUG)
    for name, token in bad.items():
        response = await try_token(client, site.key, identity=token)
        assert is_problem(response, 403, "bad_identity"), name
        assert not token or token not in response.text
    assert (await try_token(client, site.key, identity=good)).status_code == 200
    replayed = await try_token(client, site.key, identity=good)
    assert is_problem(replayed, 403, "bad_identity")
    same_id = await try_token(client, site.key, identity=signed(site, sub="bob", jti=jwt_id(good)))
    assert is_problem(same_id, 403, "bad_identity")
    assert (await try_token(client, other.key, identity=signed(other, jti=jwt_id(good)))).status_code == 200
    sites.save(changed(site, identity_keys=[]))
    assert is_problem(await try_token(client, site.key, identity=signed(site)), 403, "bad_identity")
    assert not [token for token in (good, *bad.values()) if token and token in caplog.text]


def jwt_id(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])


# Limits


async def test_a_visitor_a_network_and_a_site_may_ask_so_much(
    address: str, client: httpx.AsyncClient, sites: Sites, model: ScriptedModel, parts: Parts
) -> None:
    limits = {"visitor_minute": 2, "address_minute": 5, "site_minute": 6, "characters": 20}
    site = add_site(sites, limits=limits)
    statuses: list[list[int]] = []
    for _ in range(4):
        async with httpx.AsyncClient(base_url=address) as one:
            token = await token_of(one, site.key)
        async with visitor(address, token) as frame:
            asked = [
                await frame.post("/api/messages", json={"text": "q", "client_id": str(n)}) for n in range(3)
            ]
            statuses.append([response.status_code for response in asked])
            again = await frame.post("/api/messages", json={"text": "q", "client_id": "0"})
            assert again.status_code == asked[0].status_code  # what was stored is not asked again
            too_long = await frame.post("/api/messages", json={"text": "x" * 21})
            assert is_problem(too_long, 422, "question_too_long")
            refused = asked[-1]
            assert is_problem(refused, 429, "limit")
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert re.search(r"Ask again in .*\d+ seconds?\.", refused.json()["detail"])
    assert statuses == [[202, 202, 429], [202, 202, 429], [202, 429, 429], [429] * 3]
    chat = await client.post("/api/messages", json={"text": "q" * 100})
    assert chat.status_code == 202  # the chat itself has no such limits


async def test_the_address_is_the_one_that_a_named_proxy_reports(
    parts: Parts, sites: Sites, client: httpx.AsyncClient, address: str
) -> None:
    site = add_site(sites, limits={"address_minute": 1})
    app = create_app(parts.replies, parts.chats, sites, key=KEY)
    statuses = []
    async with running(app, Connections(Limits(), ["127.0.0.1/32"])) as behind:
        for where, reported in ((address, "7"), (address, "8"), (behind, "7"), (behind, "8"), (behind, "7")):
            async with visitor(where, await token_of(client, site.key)) as frame:
                frame.headers["X-Forwarded-For"] = f"198.51.100.1, 203.0.113.{reported}"
                statuses.append((await frame.post("/api/messages", json={"text": "q"})).status_code)
    assert statuses == [202, 429, 202, 202, 429]


async def test_a_site_may_use_so_many_tokens_a_day(
    address: str, client: httpx.AsyncClient, sites: Sites, model: ScriptedModel
) -> None:
    site = add_site(sites, limits={"tokens_day": 100})
    other = add_site(sites)
    model.usage = {"input_tokens": 90, "output_tokens": 9, "total_tokens": 99}
    async with visitor(address, await token_of(client, site.key)) as frame:
        chat = str((await frame.post("/api/conversations")).json()["id"])
        await answered(frame, model, chat, "q", "An answer.")
        ids = await answered(frame, model, chat, "q", "An answer.")
        refused = await frame.post(f"/api/conversations/{chat}/messages", json={"text": "q"})
        assert is_problem(refused, 429, "limit")
        assert 12 * 3600 < int(refused.headers["retry-after"]) <= 24 * 3600
        assert is_problem(await frame.post(f"/api/replies/{ids['reply_id']}/retry"), 429, "limit")
    async with visitor(address, await token_of(client, other.key)) as frame:
        chat = str((await frame.post("/api/conversations")).json()["id"])
        await answered(frame, model, chat, "q", "An answer.")


async def test_a_stopped_answer_counts_as_well(
    address: str, client: httpx.AsyncClient, sites: Sites, model: ScriptedModel
) -> None:
    """Otherwise whoever stops each answer before its end would use tokens without a limit."""
    site = add_site(sites, limits={"tokens_day": 50})
    async with visitor(address, await token_of(client, site.key)) as frame:
        asked = (await frame.post("/api/messages", json={"text": "q" * 60})).json()
        model.say("Some")
        async with frame.stream("GET", f"/api/replies/{asked['reply_id']}/events") as events:
            await anext(events.aiter_lines())
        await frame.post(f"/api/replies/{asked['reply_id']}/stop")
        refused = await frame.post("/api/messages", json={"text": "q"})
        assert is_problem(refused, 429, "limit")


# What a site sets


async def test_a_site_decides_how_it_is_answered(
    address: str,
    client: httpx.AsyncClient,
    sites: Sites,
    model: ScriptedModel,
    documentation: FakeDocumentation,
) -> None:
    polite = add_site(sites, tone="Be polite.")
    async with visitor(address, await token_of(client, polite.key)) as frame:
        chat = str((await frame.post("/api/conversations")).json()["id"])
        await answered(frame, model, chat, "How do I remove a folder?", "So.")
    assert (model.tones, documentation.asked) == (
        ["Be polite."],
        [],
    )  # the chat's documentation is not its own
    quoting = add_site(sites, uses_model=False)
    async with visitor(address, await token_of(client, quoting.key)) as frame:
        engine = (await frame.get("/api/engine")).json()
        assert (engine["answers"], engine["model"]) == (None, None)
        refused = await frame.post("/api/messages", json={"text": "q"})
        assert is_problem(refused, 503, "no_model")
        assert "sh scripts/run" not in refused.text  # that is for the operator
    assert len(model.asked) == 1


async def test_the_command_works_while_the_application_runs(
    address: str, client: httpx.AsyncClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def site(*arguments: str) -> str:
        assert site_command.main(["site", *arguments, "--data", str(tmp_path)]) == 0
        return capsys.readouterr().out

    key = re.search(r'data-site="(\w+)"', site("add", "Docs", "--origin", ORIGIN))[1]  # type: ignore[index]
    token = await token_of(client, key)
    async with visitor(address, token) as frame:
        assert (await frame.get("/api/engine")).status_code == 200
        site("set", key, "--origin", OTHER_ORIGIN, "--greeting", "Hello")
        assert settings_of(await client.get(f"/widget/{key}"))["greeting"] == "Hello"
        assert is_problem(await frame.get("/api/engine"), 401, "site_token")
        assert is_problem(await try_token(client, key, token=token), 403, "unlisted_origin")
        site("set", key, "--origin", ORIGIN)
        assert (await frame.get("/api/engine")).status_code == 200
        site("remove", key)
        assert is_problem(await frame.get("/api/engine"), 401, "site_token")
    assert (await client.get(f"/widget/{key}")).status_code == 404
    assert is_problem(await try_token(client, key), 404, "not_found")
