"""The documentation for other programs, by the Model Context Protocol (`/mcp`)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from starlette.responses import Response

from assistant.knowledge.documentation import Documentation
from assistant.web.api import METHODS
from assistant.web.problems import Problem

if TYPE_CHECKING:
    from assistant.web.mcp import McpServer


def add_mcp_route(app: FastAPI, documentation: Documentation) -> None:
    @functools.cache
    def server() -> McpServer:
        from assistant.web.mcp import McpServer  # the schemas of its tools take 20 ms to build

        return McpServer(documentation)

    @app.api_route("/mcp", methods=METHODS, include_in_schema=False)
    async def mcp(request: Request) -> Response:
        if request.method != "POST":  # clients of 2025 ask for a stream by GET, and end a session by DELETE
            return Problem(405, "method_not_allowed", "MCP needs POST here.", headers={"Allow": "POST"})
        return await server().answer(request)
