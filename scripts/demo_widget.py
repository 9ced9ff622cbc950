"""`sh scripts/run --demo-widget`: the application, and a small site of its docs that embeds the widget.

To a browser the two are different sites, so the widget behaves as it does on the web. The other options are
those of app.py.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import functools
import html
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt

from assistant.settings import read_settings
from assistant.sites import Site, Sites, changed, make_site, new_key
from assistant.web.widget.loader import script_line

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NAME = "Tech Assistant Docs"
FIRST = "embed"  # the page that / shows
SUGGESTIONS = (
    "How do I embed the widget?",
    "How do I run it behind nginx?",
    "Which models can I use?",
)
PORT = 7861  # of the site
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{title}</title><link rel="icon" href="data:,"><style>
body {{ max-width: 72rem; margin: 0 auto; padding: 0 24px 96px; font: 17px/1.65 system-ui, sans-serif;
  display: grid; grid-template-columns: 13rem minmax(0, 44rem); gap: 0 48px }}
nav {{ position: sticky; top: 0; align-self: start; padding: 32px 0 }}
nav b, nav a {{ display: block; padding: 4px 0; color: inherit; text-decoration: none }}
nav a:hover {{ text-decoration: underline }}
a {{ color: light-dark(#3558a8, #93b2f4) }}
:is(p, li) {{ overflow-wrap: anywhere }}
pre, table {{ overflow: auto; font-size: 14px; max-width: 100% }}
table {{ display: block }}
pre {{ padding: 12px 16px; border-radius: 8px; background: light-dark(#f3f4f6, #24282f) }}
td, th {{ padding: 4px 12px 4px 0; text-align: start; vertical-align: top }}
@media (max-width: 48rem) {{ body {{ display: block }} nav {{ position: static }} }}
</style>{line}</head><body><nav><b>{name}</b>{links}</nav><main>{body}</main></body></html>
"""


class Pages:
    """The pages of the documentation, made from its Markdown."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._names = sorted(path.stem for path in DOCS.glob("*.md"))

    def page(self, path: str) -> bytes | None:
        name = re.sub(r"(?:/|\.md|\.html)$", "", path.removeprefix("/")) or FIRST
        if name not in self._names:
            return None
        links = "".join(f'<a href="/{one}">{html.escape(one.capitalize())}</a>' for one in self._names)
        body = with_anchors(MarkdownIt().enable("table").render((DOCS / f"{name}.md").read_text("utf-8")))
        title = f"{name.capitalize()} · {NAME}"
        return PAGE.format(title=title, line=self._line, name=NAME, links=links, body=body).encode()


def with_anchors(body: str) -> str:
    """Give each heading the id that links to it name."""

    def anchored(match: re.Match[str]) -> str:
        level, text = match.groups()
        words = re.sub(r"<[^>]*>|[^\w\s-]", "", html.unescape(text)).strip().lower()
        anchor = html.escape(re.sub(r"\s", "-", words))
        return f'<h{level} id="{anchor}">{text}</h{level}>'

    return re.sub(r"<h([1-6])>(.*?)</h\1>", anchored, body)


class Handler(BaseHTTPRequestHandler):
    def __init__(self, pages: Pages, *arguments: object) -> None:
        self._pages = pages
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        page = self._pages.page(urlsplit(self.path).path)
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page or b"There is no such page.")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def demonstration_site(sites: Sites, address: str) -> Site:
    """The site of an earlier demonstration with the same data, or a new one."""
    found = next((site for site in sites.all() if site.name == NAME), None)
    places = {"origins": (address,), "docs": (f"{DOCS}={address}/",), "suggestions": SUGGESTIONS}
    site = changed(found, **places) if found else make_site(key=new_key(), name=NAME, **places)
    sites.save(site)
    return site


def main(arguments: list[str]) -> int:
    settings = read_settings(arguments)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", PORT), BaseHTTPRequestHandler)
    except OSError:
        server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    address = f"http://docs.localhost:{server.server_port}"
    command = [sys.executable, str(ROOT / "app.py"), *arguments]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the application ends, too
    application = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert application.stdout is not None
        for line in application.stdout:
            print(line, end="", flush=True)
            if found := re.search(r"http://\S+:(\d+)", line):
                site = demonstration_site(Sites(settings.data / "sites"), address)
                pages = Pages(script_line(site, f"http://assistant.localhost:{found[1]}"))
                server.RequestHandlerClass = functools.partial(Handler, pages)  # type: ignore[assignment]
                threading.Thread(target=server.serve_forever, daemon=True).start()
                print(f"The widget is in the pages at {address}", flush=True)
        return application.wait()
    except KeyboardInterrupt:
        return application.wait()
    finally:
        application.terminate()
        server.server_close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
