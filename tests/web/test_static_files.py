import gzip
from pathlib import Path

import httpx
import pytest
from httpx import AsyncClient
from starlette.datastructures import Headers

from assistant.web.security import FRAME_POLICY, Guard
from assistant.web.static_files import FRAME, STATIC, Static, accepts_gzip, without_comments

FILE = "/ui/chat.css"
PLAIN = (STATIC / "chat.css").read_bytes()


async def raw(
    client: AsyncClient, path: str, method: str = "GET", **headers: str
) -> tuple[httpx.Response, bytes]:
    """An answer and the bytes of its body, which the client has not decoded."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.stream(method, path, headers=headers) as response:
        return response, b"".join([part async for part in response.aiter_raw()])


@pytest.mark.parametrize(
    ("accepted", "is_gzip"),
    [
        *(("gzip", True), ("GZIP", True), ("br, gzip;q=0.1", True), ("*", True), ("deflate, *;q=0.5", True)),
        *(("identity;q=0.5, gzip;q=1.0", True), ("gzip ; q=1", True)),
        *(("", False), ("br", False), ("identity", False), ("gzip;q=0", False), ("gzip;q=0.000", False)),
        *(("*;q=0", False), ("gzip;q=0, *", False), ("identity, gzip;q=0.5", False), ("gzip;q=x", False)),
    ],
)
async def test_a_file_is_compressed_for_who_accepts_it(
    client: AsyncClient, accepted: str, is_gzip: bool
) -> None:
    assert accepts_gzip(Headers({"Accept-Encoding": accepted})) is is_gzip
    response, body = await raw(client, FILE, accept_encoding=accepted)
    assert (response.status_code, response.headers["vary"]) == (200, "Accept-Encoding")
    assert response.headers["content-length"] == str(len(body))
    assert response.headers.get("content-encoding") == ("gzip" if is_gzip else None)
    assert (gzip.decompress(body) if is_gzip else body) == (without_comments(PLAIN) if is_gzip else PLAIN)
    assert not is_gzip or len(body) < len(PLAIN) / 3


def test_lines_that_are_only_comments_are_sent_empty() -> None:
    source = b"// a\na; // b\n  /** c\n   * d */\n/* e */ f\n/*\n*/\ng: url(//h)\n"
    assert without_comments(source) == b"\na; // b\n\n\n/* e */ f\n\n\ng: url(//h)\n"


async def test_each_form_of_a_file_is_revalidated(client: AsyncClient) -> None:
    tags = set()
    for accepted in ("gzip", "identity"):
        first, _ = await raw(client, FILE, accept_encoding=accepted)
        tags.add(tag := first.headers["etag"])
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again, body = await raw(client, FILE, accept_encoding=accepted, if_none_match=known)
            assert (again.status_code, body) == (304, b"")
            assert again.headers["vary"] == "Accept-Encoding"
            assert again.headers["cache-control"] == "no-cache"
        again, _ = await raw(
            client, FILE, accept_encoding=accepted, if_modified_since=first.headers["last-modified"]
        )
        assert again.status_code == 304
        again, body = await raw(client, FILE, accept_encoding=accepted, if_none_match='"old"')
        assert (again.status_code, bool(body)) == (200, True)
    assert len(tags) == 2


async def test_head_tells_what_get_would_send(client: AsyncClient) -> None:
    for accepted in ("gzip", "identity"):
        got, _ = await raw(client, FILE, accept_encoding=accepted)
        head, body = await raw(client, FILE, "HEAD", accept_encoding=accepted)
        told = ("content-type", "content-length", "content-encoding", "etag", "last-modified", "vary")
        assert [head.headers.get(name) for name in told] == [got.headers.get(name) for name in told]
        assert (head.status_code, body) == (200, b"")


async def test_a_range_is_of_the_file_itself(client: AsyncClient) -> None:
    response, body = await raw(client, FILE, accept_encoding="gzip", range="bytes=2-9")
    assert (response.status_code, body) == (206, PLAIN[2:10])
    assert "content-encoding" not in response.headers
    compressed, _ = await raw(client, FILE, accept_encoding="gzip")
    tag = compressed.headers["etag"]  # a range of another form would be a piece that does not fit
    response, body = await raw(client, FILE, accept_encoding="gzip", range="bytes=2-9", if_range=tag)
    assert (response.status_code, body) == (200, PLAIN)


async def test_what_is_small_or_belongs_to_one_reader_is_not_compressed(
    client: AsyncClient, chat: str
) -> None:
    await client.patch(f"/api/conversations/{chat}", json={"title": "t" * 200})
    for path in ("/ui/favicon.svg", "/api/openapi.json", f"/api/conversations/{chat}", "/api/engine"):
        response, _ = await raw(client, path, accept_encoding="gzip")
        assert (response.status_code, response.headers.get("content-encoding")) == (200, None)


async def test_only_the_scripts_of_the_frame_may_be_loaded_by_another_origin(tmp_path: Path) -> None:
    (tmp_path / "vendor").mkdir()
    others = ("chat.js", "vendor/markdown-it.js", "mermaid.js")
    for name in (*FRAME, *others):
        (tmp_path / name).write_text("x" * 1000)
    transport = httpx.ASGITransport(Guard(Static(tmp_path), names=()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for name in (*FRAME, *others):
            first = await client.get(f"/{name}")
            again = await client.get(f"/{name}", headers={"If-None-Match": first.headers["etag"]})
            plain = await client.get(f"/{name}", headers={"Accept-Encoding": "identity"})
            assert [response.status_code for response in (first, again, plain)] == [200, 304, 200]
            for response in (first, again, plain):
                is_for_frame = name in ("diagram.js", "vendor/mermaid.js")
                policy = "cross-origin" if is_for_frame else "same-origin"
                assert response.headers["cross-origin-resource-policy"] == policy
                is_frame = response.headers["content-security-policy"] == FRAME_POLICY
                assert is_frame == (name == "diagram.html")
