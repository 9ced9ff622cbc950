"""Two visitors of two sites, over every route of the API: each sees only what is their own."""

import logging
import re
from typing import Any

import httpx
import pytest

from assistant.sites import Site, Sites
from tests.support.fake_model import ScriptedModel
from tests.web.api_client import answered, ask, is_problem, messages_of
from tests.web.widget.conftest import OTHER_ORIGIN, add_site, token_of, visitor

NOBODYS = "00000000-0000-7000-8000-000000000000"


def rows(chat: str, message: str, reply: str) -> list[tuple[str, str, Any, str]]:
    """Every route, a body for it, and what a stranger with a token gets there: `hidden` (as if it did not
    exist), `own` (only what is their own), or `closed` (no visitor may use it)."""
    return [
        ("GET", "/api/engine", None, "own"),
        ("POST", "/api/engine/download", None, "closed"),
        ("DELETE", "/api/engine/download", None, "closed"),
        ("PUT", "/api/licences/some", None, "closed"),
        ("POST", "/api/me/revoke", None, "closed"),
        ("GET", "/api/me/export", None, "closed"),
        ("GET", "/api/conversations", None, "own"),
        ("POST", "/api/conversations", None, "own"),
        ("POST", "/api/messages", {"text": "q"}, "own"),
        ("GET", f"/api/conversations/{chat}", None, "hidden"),
        ("PATCH", f"/api/conversations/{chat}", {"title": "t"}, "hidden"),
        ("DELETE", f"/api/conversations/{chat}", None, "hidden"),
        ("POST", f"/api/conversations/{chat}/restore", None, "hidden"),
        ("POST", f"/api/conversations/{chat}/messages", {"text": "q"}, "hidden"),
        ("GET", f"/api/replies/{reply}", None, "hidden"),
        ("GET", f"/api/replies/{reply}/events", None, "hidden"),
        ("POST", f"/api/replies/{reply}/stop", None, "hidden"),
        ("POST", f"/api/replies/{reply}/retry", None, "hidden"),
        ("PUT", f"/api/messages/{reply}/feedback", {"rating": "down"}, "hidden"),
        ("POST", "/api/me/erase", {"confirm": "erase everything"}, "own"),
    ]


async def test_nobody_reaches_what_another_visitor_or_site_has(
    address: str, client: httpx.AsyncClient, site: Site, sites: Sites, model: ScriptedModel
) -> None:
    other_site = add_site(sites, origins=[OTHER_ORIGIN])
    token = await token_of(client, site.key)
    async with httpx.AsyncClient(base_url=address) as second:
        same_site = await token_of(second, site.key)
    elsewhere = await token_of(client, other_site.key, origin=OTHER_ORIGIN)
    async with visitor(address, token) as owner:
        chat = str((await owner.post("/api/conversations")).json()["id"])
        ids = await answered(owner, model, chat, "My secret question", "My secret answer")
        table = rows(chat, ids["message_id"], ids["reply_id"])
        document = (await client.get("/api/openapi.json")).json()
        routes = {
            (method.upper(), re.sub(r"\{\w+\}", "{}", path))
            for path, item in document["paths"].items()
            for method in item
        }
        tried = {
            (method, re.sub(rf"{chat}|{ids['reply_id']}|{ids['message_id']}|some$", "{}", path))
            for method, path, _, _ in table
        }
        assert tried == routes  # a new route needs a row

        strangers: list[tuple[httpx.AsyncClient, str]] = [
            (visitor(address, same_site), "token"),
            (visitor(address, elsewhere), "token"),
            (httpx.AsyncClient(base_url=address, timeout=20), "cookie"),
        ]
        for stranger, kind in strangers:
            async with stranger:
                for method, path, body, outcome in table:
                    response = await stranger.request(method, path, json=body)
                    where = (kind, method, path)
                    assert "secret" not in response.text, where
                    if outcome == "hidden":
                        assert is_problem(response, 404, "not_found"), where
                    elif kind == "token":
                        assert "set-cookie" not in response.headers, where
                        assert response.headers["cache-control"] == "no-store, private", where
                        assert (response.status_code == 403) is (outcome == "closed"), where
                        assert outcome == "own" or is_problem(response, 403, "not_for_widgets"), where
        assert [message["content"] for message in await messages_of(owner, chat)] == [
            "My secret question",
            "My secret answer",
        ]


async def test_a_token_counts_and_not_the_cookie_beside_it(
    address: str, client: httpx.AsyncClient, site: Site, chat: str
) -> None:
    headers = {"Authorization": f"Bearer {await token_of(client, site.key)}"}
    assert client.cookies  # of the owner of `chat`
    assert is_problem(await client.get(f"/api/conversations/{chat}", headers=headers), 404, "not_found")
    begun = await client.post("/api/messages", json={"text": "q"}, headers=headers)
    assert begun.status_code == 202
    path = f"/api/conversations/{begun.json()['conversation_id']}"
    assert (await client.get(path, headers=headers)).status_code == 200
    assert is_problem(await client.get(path), 404, "not_found")
    erased = await client.post("/api/me/erase", json={"confirm": "erase everything"}, headers=headers)
    assert (erased.status_code, "set-cookie" in erased.headers) == (204, False)
    assert is_problem(await client.get(path, headers=headers), 404, "not_found")
    assert (await client.get(f"/api/conversations/{chat}")).status_code == 200


async def test_no_other_token_is_accepted(address: str, client: httpx.AsyncClient, site: Site) -> None:
    token = await token_of(client, site.key)
    payload, _, signature = token.rpartition(".")
    forged = [
        *("", "x", "null", payload, f"{payload}.", f".{signature}", f"{payload}.{signature[::-1]}"),
        *(token[:-1], f"{token}x", token.upper(), f"{token}.{token}", f"a{token}", "x" * 5000, "é", "%00"),
        client.cookies.get(next(iter(client.cookies), ""), ""),  # signed by the same key, for another purpose
    ]
    for one in forged:
        headers = {b"Authorization": f"Bearer {one}".strip().encode()}
        async with httpx.AsyncClient(base_url=address) as frame:
            response = await frame.get("/api/engine", headers=headers)
            assert is_problem(response, 401, "site_token"), one
            assert response.headers["www-authenticate"] == "Bearer"
            assert "set-cookie" not in response.headers
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
    assert is_problem(await client.get("/api/engine", headers=twice), 401, "site_token")
    for scheme in ("bearer", "BEARER"):
        got = await client.get("/api/engine", headers={"Authorization": f"{scheme} {token}"})
        assert got.status_code == 200
    basic = await client.get("/api/engine", headers={"Authorization": "Basic eDp5"})  # of a proxy, say
    assert basic.status_code == 200


async def test_a_token_means_nothing_outside_the_api(client: httpx.AsyncClient, site: Site) -> None:
    token = await token_of(client, site.key)
    for path in ("/", "/mcp", "/health", "/gradio_api/info", f"/widget/{site.key}"):
        with_token = await client.get(path, headers={"Authorization": f"Bearer {token}"})
        assert with_token.status_code == (await client.get(path)).status_code


async def test_a_site_cannot_be_managed_through_its_widget(
    address: str, client: httpx.AsyncClient, site: Site
) -> None:
    """The operator's machine is trusted, but the frame there is a visitor's."""
    async with visitor(address, await token_of(client, site.key)) as frame:
        engine = (await frame.get("/api/engine")).json()
        assert (engine["cause"], engine["download"], engine["detail"]) == (None, None, None)
        chat = str((await frame.post("/api/conversations")).json()["id"])
        assert (await ask(frame, chat))["conversation_id"] == chat


async def test_no_token_is_in_the_log(
    address: str, client: httpx.AsyncClient, sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site = add_site(sites)
    token = await token_of(client, site.key)
    async with visitor(address, token) as frame:
        asked = (await frame.post("/api/messages", json={"text": "q"})).json()
        await frame.post(f"/api/replies/{asked['reply_id']}/stop")
        await frame.post("/api/messages", content=b"{")
        await frame.get("/api/me/export")
    sites.remove(site.key)
    async with visitor(address, token) as frame:
        assert is_problem(await frame.get("/api/engine"), 401, "site_token")
    assert token.partition(".")[0] not in caplog.text
    assert token.rpartition(".")[2] not in caplog.text
