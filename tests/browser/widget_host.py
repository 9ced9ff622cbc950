"""A tiny web server of somebody else's site, whose pages embed the widget.

Each name below `localhost` is another site to Chromium: its pages are at docs.localhost, those of a
stranger at stranger.localhost, and the application answers as assistant.localhost.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TEXT = "<h1>Example</h1><a href=/next>Next</a>" + "".join(
    f"<p id=p{number}>Paragraph {number}.</p>" for number in range(60)
)
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Example Docs</title>
<link rel="icon" href="data:,">{head}</head><body><main>{body}</main></body></html>"""


class HostSite:
    """The pages by their paths; a path that is not there is an ordinary page with the widget."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.script = ""  # the line of the widget
        self.pages: dict[str, tuple[str, dict[str, str]]] = {}

    def address(self, path: str = "/", name: str = "docs") -> str:
        return f"http://{name}.localhost:{self.port}{path}"

    @property
    def origin(self) -> str:
        return self.address("")

    def add(self, path: str, *, head: str | None = None, body: str = TEXT, **headers: str) -> str:
        """Add a page with headers such as content_security_policy; returns its address."""
        page = PAGE.format(head=self.script if head is None else head, body=body)
        self.pages[path] = (page, {name.replace("_", "-"): value for name, value in headers.items()})
        return self.address(path)

    def answer(self, path: str) -> tuple[str, dict[str, str]]:
        return self.pages.get(path) or (PAGE.format(head=self.script, body=TEXT), {})


@contextlib.contextmanager
def host_site() -> Iterator[HostSite]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page, headers = site.answer(urlsplit(self.path).path)
            self.send_response(200)
            for name, value in {"Content-Type": "text/html", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(page.encode())))
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = HostSite(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
