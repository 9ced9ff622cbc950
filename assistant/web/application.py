"""The FastAPI root application: the security checks, the owner's identity, the API, and last Gradio's page.

The page is imported in the background, which takes seconds of CPU, while the API already answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant import __version__
from assistant.chats import Chats
from assistant.replies import Replies
from assistant.sites import Sites
from assistant.web.api import METHODS, api_routes
from assistant.web.connections import RequestLimiter
from assistant.web.identity import Identity, cookie_name
from assistant.web.openapi import describe
from assistant.web.problems import Problem, answer_with_problems
from assistant.web.routes.mcp import add_mcp_route
from assistant.web.security import Guard, page_policy
from assistant.web.static_files import STATIC, Static
from assistant.web.widget.bearer import SiteIdentity
from assistant.web.widget.routes import add_widget_routes
from assistant.web.widget.tokens import SiteTokens
from storage.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

STARTING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><meta http-equiv="refresh" content="1">
<title>Tech Assistant</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; margin: 0 }
</style>
</head><body><main role="status">Tech Assistant is starting…</main></body></html>
"""
BROKEN = STARTING.replace('<meta http-equiv="refresh" content="1">', "").replace(
    "Tech Assistant is starting…",
    "The page could not be loaded. The application's log says why. The API works.",
)


class Page:
    """The browser chat. Until its application is loaded, a page says that it is starting."""

    def __init__(self, load: Callable[[], FastAPI]) -> None:
        self._load = load
        self._app: ASGIApp | None = None
        self._failed = False

    @property
    def is_ready(self) -> bool:
        return self._app is not None

    async def run(self) -> None:
        """Load the page and keep it running until cancelled."""
        try:
            open_routes = await asyncio.to_thread(_import_routes)
            app = await asyncio.to_thread(self._load)
            async with app.router.lifespan_context(app):
                self._app = await open_routes(app)
                await asyncio.Event().wait()
        except Exception:
            self._failed = True
            log.exception("the page could not be loaded")
        finally:
            self._app = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is not None:
            await self._app(scope, receive, send)
        else:
            page = BROKEN if self._failed else STARTING
            policy = page_policy(page.encode())
            headers = {"Retry-After": "1", "Cache-Control": "no-store", "Content-Security-Policy": policy}
            await HTMLResponse(page, 503, headers)(scope, receive, send)


def _import_routes() -> Callable[[ASGIApp], Awaitable[ASGIApp]]:
    from assistant.web.pages.gradio_routes import open_routes  # its pydantic models take time to build

    return open_routes


def create_app(
    replies: Replies,
    chats: Chats,
    sites: Sites | None = None,
    *,
    key: bytes,
    older_keys: Sequence[bytes] = (),
    names: tuple[str, ...] = (),
    may_manage: bool = False,
    load_page: Callable[[], FastAPI] | None = None,
) -> ASGIApp:
    """The whole web application.

    `key` signs cookies; cookies signed with `older_keys` are valid too. `names` are the hosts to answer to
    besides addresses and localhost. With `may_manage`, a request from this machine counts as the operator's.

    The caller ends the replies (`Replies.close`) before the server waits for its connections.
    """
    sites = sites or Sites()
    page = None if load_page is None else Page(load_page)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await replies.start()
        await chats.start()
        loading = None if page is None else asyncio.create_task(page.run())
        try:
            yield
        finally:
            if loading is not None:
                loading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await loading
            await replies.close()
            await chats.close()

    app = FastAPI(
        title="Tech Assistant",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    answer_with_problems(app)
    describe(app, cookie=cookie_name(key))

    @app.get("/health", include_in_schema=False)
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        return FileResponse(STATIC / "favicon.svg")  # for browsers that ask before the page names its icon

    @app.get("/ready", include_in_schema=False)
    async def ready() -> Response:
        try:
            await chats.check()
        except DatabaseUnavailable as error:
            return Problem(503, "storage", str(error))
        return JSONResponse(
            {"engine": replies.served.status.state, "page": page is not None and page.is_ready}
        )

    @app.api_route("/serving/{path:path}", methods=METHODS, include_in_schema=False)
    @app.api_route("/serving", methods=METHODS, include_in_schema=False)
    @app.api_route("/v1/{path:path}", methods=METHODS, include_in_schema=False)
    @app.api_route("/v1", methods=METHODS, include_in_schema=False)
    async def not_exposed(request: Request) -> Response:
        return Problem(404, "not_found", "The serving layer is not exposed here.")

    app.include_router(api_routes(replies, chats, may_manage=may_manage))
    add_mcp_route(app, replies.documentation)
    tokens = SiteTokens(sites, (key, *older_keys))
    add_widget_routes(app, replies, chats, sites, tokens)
    app.mount("/ui", Static())
    if page is not None:
        app.mount("/", page)
    limiter = RequestLimiter(app)
    identity = Identity(limiter, key=key, older_keys=older_keys, marks=chats.marks)
    return Guard(SiteIdentity(limiter, identity, tokens), names=names)
