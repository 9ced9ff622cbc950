"""Thousands of requests that cannot be answered: the log of the application stays short."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.faults.conftest import Count
from tests.support.application import running

CANARY = "canary-of-what-people-write"
TIMES = 2  # once with clients that wait for the answer, once with clients that leave
MOST_LINES = 50
LINE = re.compile(r"(INFO|WARNING|ERROR) [\w.]+: .*")

PATHS = [
    *("/", "/api/engine", "/api/conversations", "/api/conversations/x/messages", "/api/replies/x/events"),
    *("/api/nothing", "/api/openapi.json", "/ui/chat.js", "/ui/", "/health", "/ready", "/nothing", "/config"),
    *("/assets/x", "/static/x", "/theme.css", "/logout", "/serving", "/v1/x", "/gradio_api/info"),
    *("/gradio_api/queue/join", f"/gradio_api/queue/data?session_hash={CANARY}", "/gradio_api/heartbeat/x"),
    *("/gradio_api/call/chat", "/gradio_api/call/chat/x", "/gradio_api/run/chat", "/gradio_api/run/submit"),
    *("/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/component_server"),
]
BODIES = [
    *(b"[" * 100_000, b'{"a":' * 20_000, b"{", b"\xff", b'"\xff"', b"[]", b'{"text": NaN}'),
    *(b'{"text": "%s\\u0000"}', b'{"text": "%s\\ud800"}', b'{"text": "%s", "a": ' + b"9" * 5000 + b"}"),
    *(
        b'{"data": %s, "fn_index": %d, "session_hash": "%%s"}' % (data, event)
        for data in (b"null", b"[]", b'["%s"]', b'["%s", {}]', b'[{"%s": NaN}, "\\ud800"]', b"3")
        for event in (0, 1, 2, 99)
    ),
]
FORM = "multipart/form-data"
KINDS = [
    *("application/json", "application/json; charset=\xff", "application/x-www-form-urlencoded"),
    *(FORM, f"{FORM}; boundary=x"),
]
DIGITS = "9" * 5000
QUERIES = ["?%ff", "%00", "/%ff%fe", "%zz", "/../../x", f"?limit={DIGITS}", "?cursor=%ff", "\xff", "?\xff"]
HEADERS = [
    *("Range: bytes=abc", "Range: bytes=" + "0-1," * 500, f"Range: bytes={DIGITS}-"),
    *("If-Modified-Since: x", 'Cookie: \xff; a="', "Accept: text/html\xff", "Accept-Language: \xff"),
    *("X-Forwarded-Host: [::1", "X-Forwarded-Proto: \xff", "X-Forwarded-For: [::1"),
    *("x-gradio-server: http://[::1", "Last-Event-ID: \xff", "Transfer-Encoding: gzip"),
    *("Content-Length: -1", f"Content-Length: {DIGITS}"),
    *("Upgrade: h2c\r\nConnection: Upgrade", "Referer: http://[::1", "Origin: http://[::1", "Host: [::1"),
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    "dGhlIHNhbXBsZSBub25jZQ==",
]
METHODS = ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "FOO"]
HOST = b"Host: localhost\r\n"
POST = b"POST /api/conversations HTTP/1.1\r\n" + HOST
GARBAGE = [
    *(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00\xff" * 100),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /\r\n", b"GET / HTTP/1.1\r\n\r\n"),
    *(b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", b"GET http://[::1 HTTP/1.1\r\n" + HOST + b"\r\n"),
    *(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", b"GET / HTTP/1.1\r\n" + HOST + b"a b: %s\r\n\r\n"),
    b"GET / HTTP/1.1\r\n" + HOST + b"a: \0\r\n\r\n",
    *(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", POST + b"Content-Length: 500\r\n\r\n{"),
    (b"GET /gradio_api/queue/data?session_hash=x HTTP/1.1\r\n" + HOST + b"\r\n") * 50,
    (b"GET /api/conversations HTTP/1.1\r\n" + HOST + b"\r\n") * 50,
]


def request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    head = [f"{method} {target} HTTP/1.1", *headers, "Connection: close"]
    if not any(header.startswith("Host:") for header in headers):
        head.append("Host: localhost")
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def hostile() -> Iterator[bytes]:
    for path in PATHS:
        yield from (request(method, path) for method in METHODS)
        yield from (request("GET", path + query) for query in QUERIES)
        yield from (request(method, path, header) for method in ("GET", "POST") for header in HEADERS)
        for body in BODIES:
            quoted = body.replace(b"%s", CANARY.encode())
            yield request("POST", path, "Content-Type: application/json", body=quoted)
        yield from (request("POST", path, f"Content-Type: {kind}", body=b"--x\r\n\xff") for kind in KINDS)
    yield from GARBAGE


def send(address: tuple[str, int], data: bytes, *, stays: bool) -> None:
    """Send, and leave at once or, if the client `stays`, after the first bytes of the answer."""
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=0.3) as connection:
        connection.sendall(data)
        if stays:
            connection.recv(1024)


def test_hostile_requests_write_few_lines_and_no_tracebacks(tmp_path: Path, count: Count) -> None:
    with running(tmp_path / "data") as application:
        application.wait_for_page()
        url = application.client.base_url
        before = len(application.log)
        sent = 0
        for turn in range(TIMES):
            for data in hostile():
                send((url.host, url.port or 0), data, stays=turn == 0 or data in GARBAGE)
                sent += 1
        assert application.client.get("/api/conversations").status_code == 200
        application.end()
        log = application.log[before:]
    lines = log.splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []  # no traceback among them
    assert CANARY not in log
    assert len(lines) <= MOST_LINES
    count(f"log flood: {sent:,} hostile requests, {len(lines)} lines, {len(log):,} bytes, no traceback")
