import base64
import hashlib

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from assistant.web.identity import Identity, owner_of
from assistant.web.security import DATA_POLICY, MAX_BODY, Guard, page_policy

PAGE = b"<script>one()</script><script src='/x.js'></script><SCRIPT type=module>two()</SCRIPT >"


async def whoami(request: Request) -> Response:
    await request.body()
    return PlainTextResponse(owner_of(request))


async def page(request: Request) -> Response:
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": page_policy(PAGE)})


async def shared(request: Request) -> Response:
    """Allows every origin, as Gradio does."""
    headers = {"Access-Control-Allow-Origin": request.headers["origin"]}
    return PlainTextResponse("", headers={**headers, "Access-Control-Allow-Credentials": "true"})


def client() -> httpx.AsyncClient:
    app = Starlette(
        routes=[Route("/", whoami, methods=["GET", "POST"]), Route("/page", page), Route("/shared", shared)]
    )
    guarded = Guard(Identity(app, key=b"k" * 32, marks={}), names=("chat.example.org",))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=guarded), base_url="http://localhost")


NAMES = {
    200: "localhost localhost:7860 127.0.0.1:7860 [::1]:7860 192.168.1.7 "
    "chat.example.org CHAT.example.org.:443",
    421: "evil.example localhost.evil.example 127.0.0.1.evil.example chat.example.org@evil.example "
    "evil.example@localhost localhost:x <script>x</script>.localhost x'.localhost [::1 [localhost]",
}


@pytest.mark.parametrize(
    ("host", "status"), [("", 421), *((host, status) for status in NAMES for host in NAMES[status].split())]
)
async def test_only_our_own_names_are_answered(host: str, status: int) -> None:
    async with client() as browser:
        assert (await browser.get("/", headers={"Host": host})).status_code == status


ORIGINS = {
    200: ("http://localhost", "https://localhost"),  # a proxy in front of us speaks TLS
    403: (
        *("http://evil.example", "http://localhost:1234", "http://localhost.evil.example", "null", ""),
        *("http://[::1", "http://localhost/", "x://localhost"),
    ),
}
SITES = {200: ("same-origin", "none"), 403: ("cross-site", "same-site")}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        *(({"Origin": origin}, status) for status in ORIGINS for origin in ORIGINS[status]),
        *(({"Sec-Fetch-Site": site}, status) for status in SITES for site in SITES[status]),
    ],
)
async def test_unsafe_methods_must_come_from_our_own_pages(headers: dict[str, str], status: int) -> None:
    async with client() as browser:
        assert (await browser.post("/", headers=headers)).status_code == status
        assert (await browser.get("/", headers=headers)).status_code == 200


async def test_no_other_site_may_read_an_answer() -> None:
    async with client() as browser:
        response = await browser.get("/shared", headers={"Origin": "https://evil.example"})
    assert response.status_code == 200
    assert [name for name in response.headers if name.startswith("access-control-")] == []


async def test_the_body_is_limited_with_and_without_a_content_length() -> None:
    async def pieces(size: int):
        for _ in range(size // 1024):
            yield b"x" * 1024

    async with client() as browser:
        assert (await browser.post("/", content=b"x" * MAX_BODY)).status_code == 200
        assert (await browser.post("/", content=b"x" * (MAX_BODY + 1))).status_code == 413
        zeros = {"Content-Length": "0" * 5000}
        assert (await browser.post("/", headers=zeros)).status_code == 413
        assert (await browser.post("/", content=pieces(MAX_BODY))).status_code == 200
        assert (await browser.post("/", content=pieces(MAX_BODY + 1024))).status_code == 413


def test_a_page_names_its_inline_scripts() -> None:
    policy = page_policy(PAGE)
    for script in (b"one()", b"two()"):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy
    assert policy.count("sha256-") == 2


async def test_every_answer_and_refusal_has_the_security_headers() -> None:
    foreign, large = {"Origin": "http://evil.example"}, {"Content-Length": "9" * 9}
    async with client() as browser:
        answers = {
            200: await browser.get("/"),
            404: await browser.get("/nowhere"),
            405: await browser.delete("/page"),
            421: await browser.get("/", headers={"Host": "evil.example"}),
            403: await browser.post("/", headers=foreign),
            413: await browser.post("/", headers=large),
        }
        page = await browser.get("/page")
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["content-security-policy"] == DATA_POLICY
    assert page.headers["content-security-policy"] == page_policy(PAGE)
    for answer in (*answers.values(), page):
        assert answer.headers["x-content-type-options"] == "nosniff"
        for name in ("referrer-policy", "cross-origin-opener-policy", "cross-origin-resource-policy"):
            assert answer.headers[name] == "same-origin"
        assert "camera=()" in answer.headers["permissions-policy"]


def test_the_policy_reaches_no_foreign_host() -> None:
    for part in page_policy(b"").split(";"):
        name, *sources = part.split()
        allowed = {"'self'", "'none'", "data:", "blob:", "'unsafe-eval'", "'unsafe-inline'", "'block'"}
        assert set(sources) <= allowed, name
