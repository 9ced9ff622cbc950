"""The allow-list of Gradio's routes: those that its page and `/chat` for its client need, and no others.

Gradio trusts its input: it opens files and addresses that an event names, and takes its own address from
headers and queries. So only the routes, headers and queries named here pass. The body of an event is one
question. The page is the one that Gradio wrote at the start, and only the inline scripts in it may run.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Annotated
from urllib.parse import parse_qs, urlencode

import httpx
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.logs import in_a_line
from assistant.web.problems import Problem
from assistant.web.security import MAX_BODY, bounded_body, page_policy, replayed
from assistant.web.static_files import accepts_gzip, gzipped

log = logging.getLogger(__name__)

PAGE, CONFIG, INFO, EVENTS = "/", "/config", "/gradio_api/info", "/gradio_api/queue/data"
READ = re.compile(
    rf"{CONFIG}|{INFO}|{EVENTS}|/theme\.css|/(?:assets|static)/(?:[\w-][\w.@-]*/)*[\w-][\w.@-]*", re.ASCII
)
PASSED_ON = frozenset({b"host", b"accept", b"accept-encoding"})
SESSION = re.compile(r"[\w-]{1,100}", re.ASCII)
WRITTEN_FOR = "gradio.invalid"  # the host in the page that Gradio writes, which `open_routes` removes

Session = Annotated[str, StringConstraints(pattern=rf"^{SESSION.pattern}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    fn_index: int
    session_hash: Session


class Join(_Body):
    """A question to `/chat`, as Gradio's Python and JavaScript clients send it."""

    data: tuple[str]
    event_data: None = None
    trigger_id: int | None = None


class Cancel(_Body):
    """A client's request to cancel an event."""

    event_id: Session


BODIES: dict[str, type[_Body]] = {"/gradio_api/queue/join": Join, "/gradio_api/cancel": Cancel}


class GradioRoutes:
    """Gradio's application `app` behind the allow-list. `open_routes` makes it once `app` has started."""

    def __init__(self, app: ASGIApp, page: bytes, chat: int) -> None:
        self._app = app
        self._page = page
        self._gzipped_page = gzipped(page)  # it holds nothing of its reader, so its length tells nothing
        self._policy = page_policy(page)
        self._chat = chat  # the number of the only event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, is_read = scope["path"], scope["method"] in ("GET", "HEAD")
        if path == PAGE and is_read:
            # A new response each time, because middleware adds the reader's cookie to it.
            headers = {"Content-Security-Policy": self._policy, "Vary": "Accept-Encoding"}
            is_gzipped = accepts_gzip(Headers(scope=scope))
            if is_gzipped:
                headers["Content-Encoding"] = "gzip"
            page = self._gzipped_page if is_gzipped else self._page
            await HTMLResponse(page, headers=headers)(scope, receive, send)
        elif READ.fullmatch(path) and is_read:
            await self._forward(scope, receive, send)
        elif path in BODIES and scope["method"] == "POST":
            await self._forward_event(scope, receive, send)
        else:
            await Problem(404, "not_found", "There is nothing at this path.")(scope, receive, send)

    async def _forward_event(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = await bounded_body("0", receive, MAX_BODY)
        try:
            event = BODIES[scope["path"]].model_validate_json(received[0] if received else b"")
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            await Problem(422, "invalid", f"{where}: {first['msg']}")(scope, receive, send)
            return
        if event.fn_index != self._chat:
            await Problem(404, "not_found", "The only event here is /chat.")(scope, receive, send)
            return
        json_only = [*_passed(scope), (b"content-type", b"application/json")]
        await self._forward(scope, replayed(event.model_dump_json().encode(), receive), send, json_only)

    async def _forward(
        self, scope: Scope, receive: Receive, send: Send, headers: RawHeaders | None = None
    ) -> None:
        """Forward a request to Gradio. If Gradio fails, log one line and end the answer."""
        session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        query = urlencode({"session_hash": session}) if SESSION.fullmatch(session) else ""
        forwarded = {**scope, "headers": headers or _passed(scope), "query_string": query.encode()}
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(forwarded, receive, sending)
        except Exception as error:  # noqa: BLE001 - a client's input can make Gradio raise anything
            log.warning("Gradio failed at %s: %s", scope["path"], in_a_line(error))
            if has_begun:
                await send({"type": "http.response.body", "body": b""})
            else:
                await Problem(500, "internal", "Gradio failed.")(scope, receive, send)


RawHeaders = list[tuple[bytes, bytes]]


def _passed(scope: Scope) -> RawHeaders:
    return [(name, value) for name, value in scope["headers"] if name in PASSED_ON]


async def open_routes(app: ASGIApp) -> GradioRoutes:
    """The routes of a Gradio application that has started. Raises RuntimeError if it has other events."""
    # Without a host, the page uses the address from which the browser loaded it.
    page = (await _read(app, PAGE)).replace(f"http://{WRITTEN_FOR}".encode(), b"")
    config = json.loads(await _read(app, CONFIG))
    events = [event["id"] for event in config["dependencies"]]
    if len(events) != 1:
        raise RuntimeError(f"the page has {len(events)} events, but may have only /chat")
    return GradioRoutes(app, page, events[0])


async def _read(app: ASGIApp, path: str) -> bytes:
    """The application's own answer to GET `path`."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{WRITTEN_FOR}") as client:
        answer = await client.get(path)
    if answer.status_code != 200:
        raise RuntimeError(f"Gradio answered {answer.status_code} to GET {path}")
    return answer.content
