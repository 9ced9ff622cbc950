"""A hub of models for `huggingface_hub`: its API, and the storage that it redirects clients to.

These are two servers, since the real hub stores its files elsewhere. The attributes script what goes wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

PIECE = 16 << 10


@dataclass(frozen=True)
class Asked:
    """A request: to the `hub` or its `storage`."""

    of: str
    method: str
    path: str
    headers: dict[str, str]  # by their names in lower case


class FakeHub:
    """`url` is for HF_ENDPOINT. Each answer takes the first item of a list below."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}  # by OWNER/NAME/FILE
        self.asked: list[Asked] = []
        self.sent = 0  # bytes of files
        # Status and headers of answers to questions about a file.
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.cuts: list[int] = []  # the connection breaks off after so many bytes
        self.damaged = 0  # how many answers have a wrong byte
        self.silent = 0  # how many answers end after their headers
        self.ignores_ranges = False
        self.confuses_ranges = False  # sends the whole file in place of the requested range
        self.tells_hash = True
        self.says: dict[str, str | None] = {}  # other headers about a file; None omits one
        self.gate = threading.Event()  # while it is closed, no file is sent beyond `gate_at`
        self.gate.set()
        self.gate_at = 0
        self.reached = threading.Event()  # a file has been sent up to the gate
        self.url = ""
        self._storage = ""
        self._closing = threading.Event()

    def add(self, repo: str, file: str, content: bytes) -> None:
        self.files[f"{repo}/{file}"] = content

    def asked_of(self, of: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.of == of]

    @contextlib.contextmanager
    def running(self) -> Iterator[FakeHub]:
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(_Server(self, of)) for of in ("hub", "storage")]
            self.url, self._storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
            threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
            for thread in threads:
                thread.start()
            try:
                yield self
            finally:
                self._closing.set()
                self.gate.set()
                for server, thread in zip(servers, threads, strict=True):
                    server.shutdown()
                    thread.join()

    def answer(self, to: _Handler) -> None:
        path = unquote(urlsplit(to.path).path)
        headers = {name.lower(): value for name, value in to.headers.items()}
        self.asked.append(Asked(to.server.of, to.command, path, headers))
        if to.server.of == "storage":
            self._send_file(to, self.files[path.lstrip("/")], headers.get("range"))
        elif api := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            files = [name for name in self.files if name.startswith(api[1] + "/")]
            siblings = [{"rfilename": name.removeprefix(api[1] + "/")} for name in files]
            status = 200 if files else 404
            to.send(status, json.dumps({"id": api[1], "siblings": siblings}).encode(), {})
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/main/(.+)", path):
            self._send_place(to, file[1], file[2])
        else:
            to.send(404, b"", {})

    def _send_place(self, to: _Handler, repo: str, file: str) -> None:
        """The address of a file, its size and its hash."""
        if self.refusals:
            to.send(self.refusals[0][0], b"", self.refusals.pop(0)[1])
        elif (content := self.files.get(f"{repo}/{file}")) is None:
            is_there = any(name.startswith(repo + "/") for name in self.files)
            code = "EntryNotFound" if is_there else "RepoNotFound"
            to.send(404 if is_there else 401, b"", {"X-Error-Code": code})
        else:
            etag = hashlib.sha256(content).hexdigest() if self.tells_hash else "of-another-kind"
            said = {
                "Location": f"{self._storage}/{repo}/{file}",
                "X-Repo-Commit": "c" * 40,
                "X-Linked-Etag": f'"{etag}"',
                "X-Linked-Size": str(len(content)),
                **self.says,
            }
            to.send(302, b"", {name: value for name, value in said.items() if value is not None})

    def _send_file(self, to: _Handler, content: bytes, range: str | None) -> None:
        start = 0
        if range and not self.ignores_ranges:
            start = int(range.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                to.send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
        if self.damaged:
            self.damaged -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        is_partial = start > 0
        start *= not self.confuses_ranges
        range_sent = (
            {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if is_partial else {}
        )
        headers = {"Content-Length": str(len(content) - start), **range_sent}
        to.send(206 if is_partial else 200, None, headers)
        if self.silent:
            self.silent -= 1
            self._closing.wait(30)
            to.close_connection = True
            return
        end = min(len(content), start + self.cuts.pop(0)) if self.cuts else len(content)
        while start < end:
            stop = min(start + PIECE, end)
            if not self.gate.is_set():
                stop = max(min(stop, self.gate_at), start)
            if stop == start:
                self.reached.set()
                self.gate.wait()
                continue
            to.wfile.write(content[start:stop])
            to.wfile.flush()
            self.sent += stop - start
            start = stop
        if end < len(content):
            to.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: FakeHub, of: str) -> None:
        self.hub, self.of = hub, of
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self.server.hub.answer(self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def send(self, status: int, body: bytes | None, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
