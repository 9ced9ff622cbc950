"""Tests that concern all routes of the API."""

import re

import pytest
from httpx import AsyncClient

from tests.support.fake_model import FakeServed
from tests.web.api_client import ask, is_problem


async def test_another_owner_finds_nothing(address: str, client: AsyncClient, chat: str) -> None:
    ids = await ask(client, chat)
    async with AsyncClient(base_url=address, timeout=20) as stranger:
        requests = [
            ("GET", f"/api/conversations/{chat}", None),
            ("PATCH", f"/api/conversations/{chat}", {"title": "t"}),
            ("DELETE", f"/api/conversations/{chat}", None),
            ("POST", f"/api/conversations/{chat}/restore", None),
            ("POST", f"/api/conversations/{chat}/messages", {"text": "q"}),
            ("GET", f"/api/replies/{ids['reply_id']}", None),
            ("GET", f"/api/replies/{ids['reply_id']}/events", None),
            ("POST", f"/api/replies/{ids['reply_id']}/stop", None),
            ("POST", f"/api/replies/{ids['reply_id']}/retry", None),
            ("PUT", f"/api/messages/{ids['reply_id']}/feedback", {"rating": "down", "text": "t"}),
        ]
        for method, path, body in requests:
            response = await stranger.request(method, path, json=body)
            assert is_problem(response, 404, "not_found"), (method, path)
        assert (await stranger.get("/api/conversations")).json()["conversations"] == []
        export = (await stranger.get("/api/me/export")).json()
        assert (export["conversations"], export["licences"], export["error"]) == ([], [], None)
        erased = await stranger.post("/api/me/erase", json={"confirm": "erase everything"})
        assert erased.status_code == 204
        document = (await stranger.get("/api/openapi.json")).json()
    # A new route must be added to these requests, or to the routes that read nothing of another owner.
    tried = {(method.lower(), re.sub(r"[0-9a-f-]{36}", "{}", path)) for method, path, _ in requests}
    ownerless = {
        ("get", "/api/engine"),
        ("post", "/api/engine/download"),  # the operator's
        ("delete", "/api/engine/download"),
        ("put", "/api/licences/{}"),
        ("post", "/api/me/revoke"),
        ("get", "/api/conversations"),
        ("post", "/api/conversations"),
        ("post", "/api/messages"),
        ("get", "/api/me/export"),  # of the requesting owner, as tested above
        ("post", "/api/me/erase"),
    }
    routes = {
        (method, re.sub(r"\{\w+\}", "{}", path))
        for path, item in document["paths"].items()
        for method in item
    }
    assert routes == tried | ownerless
    assert (await client.get(f"/api/conversations/{chat}")).json()["title"] == "q"


async def test_unknown_paths_and_wrong_methods_are_problems(client: AsyncClient, chat: str) -> None:
    for path in ("/api", "/api/", "/api/nothing", "/api/conversations/a/b/c", "/api/conversations/"):
        for method in ("GET", "POST", "DELETE", "PUT"):
            response = await client.request(method, path)
            assert is_problem(response, 404, "not_found"), (method, path)
    for method, path in (
        ("PUT", "/api/conversations"),
        ("DELETE", "/api/conversations"),
        ("POST", f"/api/conversations/{chat}"),
        ("GET", f"/api/conversations/{chat}/messages"),
        ("POST", "/api/replies/x/events"),
        ("GET", "/api/replies/x/stop"),
    ):
        response = await client.request(method, path)
        assert is_problem(response, 405, "method_not_allowed"), (method, path)
        assert response.headers["allow"]
    assert (await client.options("/api/conversations")).status_code == 405


async def test_the_serving_layer_is_not_on_the_public_port(client: AsyncClient) -> None:
    for path in ("/serving", "/serving/", "/serving/generate", "/serving/info", "/v1", "/v1/models"):
        for method in ("GET", "POST", "PUT"):
            assert (await client.request(method, path)).status_code == 404


async def test_static_files_are_cached_and_revalidated(client: AsyncClient) -> None:
    first = await client.get("/ui/chat.js")
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    again = await client.get("/ui/chat.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")
    assert (await client.get("/ui/../api.py")).status_code == 404


async def test_health_and_openapi(client: AsyncClient) -> None:
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/ready")).json() == {"engine": "ready", "page": False}
    assert (await client.get("/api/openapi.json")).json()["info"]["title"] == "Tech Assistant"


async def test_an_unexpected_error_reveals_nothing(
    client: AsyncClient, served: FakeServed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "status", None)
    response = await client.get("/api/engine")
    assert is_problem(response, 500, "internal")
    assert "NoneType" not in response.text
