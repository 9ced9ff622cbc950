"""Adds the errors and the cookie to FastAPI's description of the API at `/api/openapi.json`.

Each operation lists the errors that its route names (`raises`) and those that follow from its method, its
input and its path, so a new route has the latter automatically.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI

from assistant.errors import Closing, LicenceNotAccepted, LimitReached, NoModelLoaded, QueueFull
from assistant.web.problems import KNOWN, Problem
from assistant.web.security import SAFE_METHODS

# Status and types of errors that no route raises.
OF_ALL = {
    400: ("bad_request", "pipelined"),
    401: ("site_token",),
    403: ("not_for_widgets",),
    408: ("timeout",),
    414: ("address_too_long",),
    421: ("unknown_host",),
    429: ("too_many_requests",),
    431: ("headers_too_large", "too_many_headers"),
    500: ("internal",),
    503: ("storage", "too_many_connections"),
}
OF_CHANGES = {403: ("foreign_origin",), 413: ("too_large",)}
OF_INPUT = {422: ("invalid",)}
OF_PATHS = {404: ("not_found",)}

# The errors of every route that begins a reply.
ANSWERING = (QueueFull, LimitReached, LicenceNotAccepted, NoModelLoaded, Closing)

TYPES = "x-problem-types"
PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457. `type` is for programs, `detail` is a sentence for people.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "description": "of an `invalid` request: where and what the errors are",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["at", "message"],
                "properties": {
                    "at": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "message": {"type": "string"},
                },
            },
        },
    },
}


def raises(*errors: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """A route's own errors, as its `responses`."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        status, name = next((status, name) for kind, status, name in KNOWN if issubclass(error, kind))
        responses.setdefault(status, {"description": "", TYPES: []})[TYPES].append(name)
    return responses


def describe(app: FastAPI, *, cookie: str) -> None:
    """Add all problems and the name of the cookie to the application's description."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = generate()
        for path, item in document["paths"].items():
            for method, operation in item.items():
                _add_problems(operation, path, method.upper())
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas["Problem"] = PROBLEM
        components["securitySchemes"] = {
            "cookie": {
                "type": "apiKey",
                "in": "cookie",
                "name": cookie,
                "description": "Given on first contact. Under HTTPS its name begins with `__Host-`.",
            },
            "site": {
                "type": "http",
                "scheme": "bearer",
                "description": "The token of a site's visitor, which takes the place of the cookie.",
            },
        }
        document["security"] = [{}, {"cookie": []}, {"site": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_problems(operation: dict[str, Any], path: str, method: str) -> None:
    responses = operation["responses"]
    problems: dict[int, list[str]] = {}
    for group in _problems_of(operation, path, method):
        for status, names in group.items():
            problems.setdefault(status, []).extend(names)
    for status, response in responses.items():
        if TYPES in response:
            problems.setdefault(int(status), []).extend(response[TYPES])
    for status, found in sorted(problems.items()):
        schema = {
            "allOf": [
                {"$ref": "#/components/schemas/Problem"},
                {"properties": {"status": {"const": status}, "type": {"enum": found}}},
            ]
        }
        responses[str(status)] = {
            "description": ", ".join(f"`{name}`" for name in found),
            "content": {Problem.media_type: {"schema": schema}},
        }
        if status in (429, 503):
            responses[str(status)]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}


def _problems_of(operation: dict[str, Any], path: str, method: str) -> Iterator[Mapping[int, Sequence[str]]]:
    """The problems that follow from an operation's method, input and path."""
    yield OF_ALL
    if method not in SAFE_METHODS:
        yield OF_CHANGES
    if "parameters" in operation or "requestBody" in operation:
        yield OF_INPUT
    if "{" in path:
        yield OF_PATHS
