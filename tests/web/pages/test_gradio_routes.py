"""Only the routes of Gradio that its page and its client need are open. None opens a file or an address."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant.web.pages.gradio_routes import BODIES, GradioRoutes, open_routes
from assistant.web.security import page_policy
from tests.support.application import ROOT
from tests.support.gradio_attack import CLOSED, FILES, nested

READ = ("/", "/config", "/theme.css", "/assets/{path:path}", "/static/{path:path}", "/gradio_api/info")
OPEN = {
    *(("GET", path) for path in (*READ, "/gradio_api/queue/data")),
    *(("HEAD", "/"), ("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/cancel")),
}
PAGE = b"<script>one()</script>"
JOIN = {"data": ["How?"], "fn_index": 0, "session_hash": "a-session"}


class Behind:
    """Stands for Gradio and remembers the requests that reach it."""

    def __init__(self) -> None:
        self.reached: list[tuple[Scope, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b"" if scope["method"] == "GET" else (await receive())["body"]
        self.reached.append((scope, body))
        await PlainTextResponse("reached")(scope, receive, send)


@pytest.fixture
def behind() -> Behind:
    return Behind()


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost:7860")


@pytest.fixture
def client(behind: Behind) -> httpx.AsyncClient:
    return client_of(GradioRoutes(behind, PAGE, chat=0))


def test_each_route_of_gradio_is_listed_as_open_or_closed() -> None:
    command = [sys.executable, "-m", "tests.support.gradio_attack"]
    routes = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {tuple(route.split()) for route in routes.splitlines()} == OPEN | CLOSED


async def test_closed_routes_never_reach_gradio(client: httpx.AsyncClient, behind: Behind) -> None:
    odd = ("/assets/", "/static/.env", "/assets/%2e%2e/x", "/assets/a//b", "/config%0a")
    tried = [("GET", path) for path in odd]
    for method, path in sorted(CLOSED):
        filled = re.sub(r"{(\w+)(:path)?}", r"\1", path)
        tried += [(method, variant) for variant in (filled, f"{filled}/", f"/{filled}", f"{filled}?page=x")]
    for method, path in tried:
        url = httpx.URL("http://localhost", raw_path=path.encode())
        answer = await client.request(method, url, content=json.dumps(JOIN))
        assert answer.status_code == 404, (method, path)
    assert behind.reached == []


async def test_only_named_headers_and_queries_reach_gradio(client: httpx.AsyncClient, behind: Behind) -> None:
    headers = {"X-Forwarded-Host": "evil.example", "X-Gradio-Server": "http://evil.example", "Cookie": "a=b"}
    await client.get("/gradio_api/queue/data?session_hash=a-session&more=1", headers=headers)
    await client.get("/config?deep_link=../x&session_hash=%2Fetc", headers=headers)
    assert [scope["query_string"] for scope, _ in behind.reached] == [b"session_hash=a-session", b""]
    for scope, _ in behind.reached:
        assert {name for name, _ in scope["headers"]} <= {b"host", b"accept", b"accept-encoding"}


def bodies() -> Iterator[object]:
    """Bodies of an event with a file in each position and at different depths."""
    for file in FILES:
        for value in nested(file):
            yield {**JOIN, "data": [value]}
            yield {**JOIN, "data": value}
            yield {**JOIN, "event_data": value}
            yield {**JOIN, "trigger_id": value}
            yield {**JOIN, "session_hash": value}
            yield {**JOIN, "more": value}
            yield value
    yield from ({**JOIN, "data": []}, {**JOIN, "data": ["a", "b"]}, {**JOIN, "fn_index": "0"}, {}, [], None)
    yield {**JOIN, "session_hash": "../x"}


async def test_the_body_of_an_event_is_one_question_and_nothing_else(
    client: httpx.AsyncClient, behind: Behind
) -> None:
    refused = 0
    for path in BODIES:
        for body in bodies():
            answer = await client.post(path, content=json.dumps(body))
            assert (answer.status_code, answer.json()["type"]) == (422, "invalid"), body
            refused += 1
        for content in (b"", b"[" * 200_000, b"\xff", json.dumps(JOIN).encode()[:-1]):
            assert (await client.post(path, content=content)).status_code == 422
    assert refused > 500
    assert behind.reached == []
    other = await client.post("/gradio_api/queue/join", json={**JOIN, "fn_index": 1})
    assert (other.status_code, behind.reached) == (404, [])
    await client.post("/gradio_api/queue/join", json={**JOIN, "event_data": None, "trigger_id": 3})
    await client.post("/gradio_api/cancel", json={"fn_index": 0, "session_hash": "a", "event_id": "b"})
    assert [json.loads(body)["fn_index"] for _, body in behind.reached] == [0, 0]


async def test_the_page_is_the_one_that_was_loaded(client: httpx.AsyncClient, behind: Behind) -> None:
    answers = [await client.get(path) for path in ("/", "/?deep_link=x", "https://127.0.0.1/")]
    for answer in answers:
        assert answer.content == PAGE
        assert answer.headers["content-security-policy"] == page_policy(PAGE)
    assert (await client.head("/")).status_code == 200
    assert behind.reached == []


async def test_the_page_holds_no_address_of_the_server() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope["headers"])[b"host"].decode()
        page = f"<script>at('http://{host}')</script>"
        config = json.dumps({"dependencies": [{"id": 7}]})
        await PlainTextResponse(page if scope["path"] == "/" else config)(scope, receive, send)

    async with client_of(await open_routes(app)) as client:
        assert (await client.get("/")).text == "<script>at('')</script>"
        answer = await client.post("/gradio_api/queue/join", json={**JOIN, "fn_index": 7})
        assert answer.status_code == 200


async def test_each_reader_gets_only_their_own_cookie_with_the_page(behind: Behind) -> None:
    app = GradioRoutes(behind, PAGE, chat=0)

    async def with_cookie(scope: Scope, receive: Receive, send: Send) -> None:
        async def giving(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"set-cookie", scope["path"].encode() + scope["query_string"]))
            await send(message)

        await app(scope, receive, giving)

    async with client_of(with_cookie) as readers:
        for reader in ("ann", "bob"):
            answer = await readers.get(f"/?{reader}")
            assert answer.headers.get_list("set-cookie") == [f"/{reader}"]


async def test_a_failure_of_gradio_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def before(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("secret")

    async def within(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("secret")

    for app, status, text in ((before, 500, "Gradio failed."), (within, 200, "half")):
        async with client_of(GradioRoutes(app, b"", chat=0)) as client:
            answer = await client.get("/config")
            assert answer.status_code == status
            assert text in answer.text
    lines = [message.partition(" in ")[0] for message in caplog.messages]
    assert lines == ["Gradio failed at /config: ValueError"] * 2
    assert caplog.records[0].exc_info is None


async def test_a_page_with_another_event_is_not_served() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(json.dumps({"dependencies": [{"id": 0}, {"id": 1}]}))(scope, receive, send)

    with pytest.raises(RuntimeError, match="2 events"):
        await open_routes(app)


async def test_the_page_is_compressed_for_who_accepts_it(client: httpx.AsyncClient) -> None:
    for accepted, coding in (("gzip", "gzip"), ("br", None), ("gzip;q=0", None)):
        response = await client.get("/", headers={"Accept-Encoding": accepted})
        assert (response.content, response.headers.get("content-encoding")) == (PAGE, coding)
        assert response.headers["vary"] == "Accept-Encoding"
        assert response.headers["content-security-policy"] == page_policy(PAGE)
