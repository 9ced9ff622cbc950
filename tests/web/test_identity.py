import secrets
import time
from http.cookies import SimpleCookie

import httpx
import itsdangerous
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from assistant.web import identity
from assistant.web.identity import KEPT_SECONDS, MOST_TRIED, Identity, cookie_name, give_anew, owner_of

KEY, OLD_KEY = b"k" * 32, b"o" * 32
NAME, OLD_NAME = cookie_name(KEY), cookie_name(OLD_KEY)
DAY = 24 * 3600


def browser(
    *keys: bytes, marks: dict[str, str] | None = None, cookies: object = None, scheme: str = "http"
) -> httpx.AsyncClient:
    """A browser at a server whose every path answers with the owner. `/api/me/revoke` revokes cookies."""
    known = {} if marks is None else marks

    async def whoami(request: Request) -> Response:
        if request.url.path == "/api/me/revoke":
            known[owner_of(request)] = secrets.token_hex(8)
            give_anew(request)
        return PlainTextResponse(owner_of(request), headers={"Cache-Control": "max-age=60"})

    app = Starlette(routes=[Route("/{path:path}", whoami, methods=["GET", "POST"])])
    key, *older = keys or (KEY,)
    transport = httpx.ASGITransport(app=Identity(app, key=key, older_keys=older, marks=known))
    return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://localhost", cookies=cookies)


async def owner(client: httpx.AsyncClient) -> str:
    return (await client.get("/")).text


async def test_a_cookie_is_given_once_and_recognised() -> None:
    async with browser() as client:
        first, again = await client.get("/"), await client.get("/")
    assert first.text == again.text
    assert "set-cookie" not in again.headers
    ((name, morsel),) = SimpleCookie(first.headers["set-cookie"]).items()
    assert (name, morsel["max-age"]) == (NAME, str(KEPT_SECONDS))
    assert (morsel["path"], morsel["samesite"]) == ("/", "Lax")
    assert morsel["httponly"]
    assert not morsel["secure"]
    assert not morsel["domain"]


@pytest.mark.parametrize(
    ("path", "is_given", "is_private"),
    [
        *((path, True, True) for path in ("/", "/api/engine", "/api/nothing")),
        ("/gradio_api/queue/data", False, True),
        *((path, False, False) for path in ("/api", "/ui/chat.js", "/assets/index.js", "/health", "/ready")),
        *((path, False, False) for path in ("/nothing", "//api/engine", "/v1/models")),
    ],
)
async def test_only_the_page_and_the_api_give_cookies_and_their_answers_are_private(
    path: str, is_given: bool, is_private: bool
) -> None:
    async with browser() as client:
        response = await client.get(f"http://localhost{path}")
    assert ("set-cookie" in response.headers) is is_given
    assert response.headers["cache-control"] == ("no-store, private" if is_private else "max-age=60")


async def test_under_https_only_a_cookie_of_this_host_counts() -> None:
    async with browser() as plain:
        known = await owner(plain)
    async with browser(scheme="https", cookies={NAME: plain.cookies[NAME]}) as client:
        response = await client.get("/")
        assert response.text != known
        assert await owner(client) == response.text
    ((name, morsel),) = SimpleCookie(response.headers["set-cookie"]).items()
    assert (name, morsel["path"], morsel["domain"]) == (f"__Host-{NAME}", "/", "")
    assert morsel["secure"]
    async with browser(cookies={f"__Host-{NAME}": morsel.value}) as plain:
        assert await owner(plain) != response.text


async def test_a_forged_cookie_makes_a_new_owner() -> None:
    async with browser() as client:
        known = await owner(client)
        value = client.cookies[NAME]
    for forged in (
        *(value[:-2] + ("AA" if value[-2] != "A" else "BB"), "ann", "", '"', value.replace(".", "!")),
        *(value.replace(known, "ann"), value.replace(known, f"{known}.mark"), f"{value}{'!' * 200}"),
    ):
        async with browser() as stranger:
            other = await stranger.get("/", headers={"Cookie": f"{NAME}={forged}"})
        assert other.text != known, forged
        assert "set-cookie" in other.headers


async def test_owners_survive_a_restart_and_installations_do_not_mix() -> None:
    async with browser() as client:
        known = await owner(client)
    async with browser(cookies=client.cookies) as restarted:
        assert await owner(restarted) == known
    async with browser(b"z" * 32, cookies=client.cookies) as other:
        assert await owner(other) != known
        assert len(other.cookies) == 2  # both owners are kept


@pytest.mark.parametrize(
    ("age", "is_known", "is_renewed"),
    [
        (0, True, False),
        (6 * DAY, True, False),
        (8 * DAY, True, True),
        (KEPT_SECONDS - DAY, True, True),
        (KEPT_SECONDS + DAY, False, True),
        (-30 * DAY, True, True),  # the clock was set back since
        (-KEPT_SECONDS - DAY, False, True),
    ],
)
async def test_a_cookie_expires_and_is_renewed(
    monkeypatch: pytest.MonkeyPatch, age: int, is_known: bool, is_renewed: bool
) -> None:
    then = int(time.time()) - age
    monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda signer: then)
    async with browser() as client:
        known = await owner(client)
        monkeypatch.undo()
        response = await client.get("/")
        assert (response.text == known) is is_known
        assert ("set-cookie" in response.headers) is is_renewed
        assert await owner(client) == response.text


async def test_revoked_cookies_are_invalid_and_the_owner_gets_a_new_one() -> None:
    marks: dict[str, str] = {}
    async with browser(marks=marks) as client, browser(marks=marks) as bystander:
        known, other = await owner(client), await owner(bystander)
        given = [client.cookies[NAME]]
        for _ in range(3):  # within one second
            assert (await client.post("/api/me/revoke")).text == known
            given.append(client.cookies[NAME])
            assert await owner(client) == known
            remembered = await client.get("/", headers={"Cookie": f"{NAME}={given[-2]}"})
            assert remembered.text != known
            client.cookies.set(NAME, given[-1], domain="localhost.local", path="/")
        assert await owner(bystander) == other
    assert len(set(given)) == 4
    for known_marks in (marks, dict(marks)):  # while the server runs, and after a restart
        for value in given:
            async with browser(marks=known_marks, cookies={NAME: value}) as later:
                assert (await owner(later) == known) is (value == given[-1])


async def test_a_cookie_revoked_during_a_request_is_not_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a late answer would replace the new cookie of the browser that has revoked the old ones."""
    monkeypatch.setattr("assistant.web.identity.RENEWED_AFTER_SECONDS", -1)
    marks: dict[str, str] = {}

    async def meanwhile(request: Request) -> Response:
        marks[owner_of(request)] = "new"
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/", meanwhile)])
    transport = httpx.ASGITransport(app=Identity(app, key=KEY, marks=marks))
    async with browser() as client:
        assert "set-cookie" in (await client.get("/")).headers
    with_cookie = httpx.AsyncClient(transport=transport, base_url="http://localhost", cookies=client.cookies)
    async with with_cookie as late:
        assert "set-cookie" not in (await late.get("/")).headers


@pytest.mark.parametrize(("scheme", "prefix"), [("http", ""), ("https", "__Host-")])
async def test_an_older_key_is_replaced_at_once(scheme: str, prefix: str) -> None:
    async with browser(OLD_KEY, scheme=scheme) as client:
        known = await owner(client)
    async with browser(KEY, OLD_KEY, scheme=scheme, cookies=client.cookies) as client:
        assert await owner(client) == known
        assert list(client.cookies) == [f"{prefix}{NAME}"]  # the old one was removed
        assert "set-cookie" not in (await client.get("/")).headers
    async with browser(KEY, scheme=scheme, cookies=client.cookies) as client:
        assert await owner(client) == known
    renamed = {f"{prefix}{OLD_NAME}": client.cookies[f"{prefix}{NAME}"]}
    async with browser(OLD_KEY, scheme=scheme, cookies=renamed) as client:
        assert await owner(client) != known


async def test_of_several_cookies_the_first_valid_one_counts() -> None:
    async with browser() as client:
        known = await owner(client)
        ours = f"{NAME}={client.cookies[NAME]}"
    planted = [f"{NAME}=planted{n}" for n in range(MOST_TRIED)]
    rubbish = [f'a="{ours[:20]}', f"x{ours}", f" {NAME}", f"{NAME.upper()}={ours}", "=", '"', "\xff"]
    for cookies, is_known in (
        ([*planted[1:], ours], True),
        ([*planted, ours], False),
        ([*rubbish, ours, *rubbish], True),
        (rubbish, False),
    ):
        for between in ("; ", ";"):
            header = between.join(cookies).encode("latin-1")
            async with browser() as client:
                response = await client.get("/", headers={b"Cookie": header})
            assert (response.text == known) is is_known, header
    async with browser() as client:
        response = await client.get("/", headers=[("Cookie", "a=1"), ("Cookie", ours)])
    assert response.text == known


PAIRS = st.lists(
    st.binary(max_size=20).filter(lambda part: b";" not in part)
    | st.sampled_from([b"n", b"n=", b" n=1", b"xn=1"]),
    max_size=20,
)


@given(before=PAIRS, value=st.binary(max_size=20), after=PAIRS)
def test_our_cookie_is_found_among_any_others(before: list[bytes], value: bytes, after: list[bytes]) -> None:
    value = value.replace(b";", b"")
    ours = b"our_name=" + value
    assert identity.values_of(b"our_name", [b"; ".join([*before, ours, *after])]) == [value]
    assert identity.values_of(b"our_name", [*before, ours, *after]) == [value]
    assert identity.values_of(b"our_name", before) == []


@pytest.mark.parametrize("piece", [b"a=1; ", b";", b"; ", b"our_name=", b";our_name=", b"x", b'"', b"\\"])
def test_a_hostile_cookie_header_costs_only_its_length(piece: bytes) -> None:
    header = piece * (32 * 1024 // len(piece))
    found = identity.values_of(b"our_name", [header])
    assert len(found) <= MOST_TRIED
    assert sum(map(len, found)) <= len(header)
