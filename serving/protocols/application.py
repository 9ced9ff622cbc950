"""The serving layer as one ASGI application: TGI's protocol at the root and OpenAI's under `/v1`.

Each protocol is an application of its own, with its own error shapes. A request passes through these modules:
`tgi_requests.py` or `openai_requests.py` checks it, `runner.py` admits it, `serving/generation.py` yields its
text, and `tgi.py` or `openai.py` writes the answer.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.engine import DownloadControl, Engine, ServingError
from serving.protocols.openai import OpenAIProtocol
from serving.protocols.runner import RequestRunner, WireProtocol
from serving.protocols.tgi import TgiProtocol

DEFAULT_LIMIT = 512  # how many requests may run or wait at once
DEFAULT_TOTAL_SECONDS = 1800.0  # how long a whole answer may take


class ServingApp(Router):
    """The application that `create_app` returns. A bare router, because each layer around a protocol would
    cost time for every token."""

    runner: RequestRunner


def create_app(
    engine: Engine,
    *,
    api_key: str | None = None,
    max_concurrent_requests: int = DEFAULT_LIMIT,
    total_seconds: float = DEFAULT_TOTAL_SECONDS,
    download: DownloadControl | None = None,
) -> ServingApp:
    """The application. It starts the engine and closes it.

    With an `api_key`, every request needs it, except for /health. `download` starts and declines the download
    of the engine's model at /download."""
    runner = RequestRunner(engine, limit=max_concurrent_requests, total_seconds=total_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            runner.admission.end()
            await engine.close()

    app = ServingApp(
        routes=[
            Mount("/v1", _protocol_app(OpenAIProtocol(runner), runner, api_key)),
            Mount("", _protocol_app(TgiProtocol(runner, download), runner, api_key)),
        ],
        lifespan=lifespan,
    )
    app.runner = runner
    return app


def _protocol_app(protocol: WireProtocol, runner: RequestRunner, api_key: str | None) -> Starlette:
    """The routes of one protocol, with every error written in the shape of that protocol."""

    async def on_serving_error(request: Request, error: Any) -> Response:
        if request.method == "POST":  # a failed GET, such as /health, is not a failed generation
            runner.metrics.failures[error.error_type] += 1
        return protocol.serving_error(error)

    async def on_http_exception(request: Request, error: Any) -> Response:
        return protocol.http_error(error.status_code, error.detail, error.headers)

    async def on_disconnect(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody receives it; it is for logs only

    async def on_unexpected_error(request: Request, error: Exception) -> Response:
        return protocol.http_error(500, "Internal error")  # Starlette raises the error again, for the log

    return Starlette(
        routes=protocol.routes(),
        middleware=[] if api_key is None else [Middleware(_RequireKey, protocol=protocol, key=api_key)],
        exception_handlers={
            ServingError: on_serving_error,
            HTTPException: on_http_exception,
            ClientDisconnect: on_disconnect,
            Exception: on_unexpected_error,
        },
    )


class _RequireKey:
    """Refuses requests without the API key."""

    def __init__(self, app: ASGIApp, protocol: WireProtocol, key: str) -> None:
        self._app = app
        self._protocol = protocol
        self._authorization = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._protocol.keyless_paths:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._authorization):
                refusal = self._protocol.http_error(
                    401, "The key is missing or wrong.", {"WWW-Authenticate": "Bearer"}
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)
