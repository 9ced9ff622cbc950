"""Turns errors into HTTP answers. Every error under `/api` is `application/problem+json` (RFC 9457).

`type` is for programs, `detail` is a sentence for people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from assistant.errors import (
    AssistantError,
    Closing,
    EmptyText,
    LicenceNotAccepted,
    LimitReached,
    NoModelLoaded,
    NothingToFetch,
    NotTheOperator,
    QuestionTooLarge,
    QueueFull,
)
from storage.errors import (
    ClientIdReused,
    DatabaseUnavailable,
    NotFound,
    StillAnswering,
    StorageError,
    UnknownMessage,
    UnknownParent,
)
from storage.store import BadCursor

RETRY_AFTER_SECONDS = 5  # if the error has no `retry_after`

# Error, status, type. The first match counts.
KNOWN: tuple[tuple[type[Exception], int, str], ...] = (
    (EmptyText, 422, "empty_text"),
    (NoModelLoaded, 503, "no_model"),
    (LicenceNotAccepted, 403, "licence_not_accepted"),
    (NotTheOperator, 403, "not_the_operator"),
    (NothingToFetch, 409, "nothing_to_fetch"),
    (QueueFull, 429, "queue_full"),
    (LimitReached, 429, "limit"),
    (QuestionTooLarge, 422, "question_too_long"),
    (Closing, 503, "closing"),
    (NotFound, 404, "not_found"),
    (UnknownParent, 422, "unknown_parent"),
    (UnknownMessage, 422, "unknown_message"),
    (ClientIdReused, 409, "client_id_reused"),
    (StillAnswering, 409, "still_answering"),
    (DatabaseUnavailable, 503, "storage"),
    (BadCursor, 422, "bad_cursor"),
)


class Problem(Response):
    """A problem document. `type` is an identifier such as `not_found`, `detail` a sentence."""

    media_type = "application/problem+json"

    def __init__(
        self, status: int, type: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        title = HTTPStatus(status).phrase
        body = {"type": type, "title": title, "status": status, "detail": detail, **more}
        super().__init__(json.dumps(body), status, headers)


def problem_of(error: Exception) -> Problem:
    """The problem document for an error in `KNOWN`. Raises any other error again."""
    for kind, status, name in KNOWN:
        if isinstance(error, kind):
            after = getattr(error, "retry_after", RETRY_AFTER_SECONDS)
            headers = {"Retry-After": str(after)} if status in (429, 503) else None
            return Problem(status, name, str(error), headers=headers)
    raise error


def answer_with_problems(app: FastAPI) -> None:
    """Make the application answer every error with a problem document."""

    @app.exception_handler(AssistantError)
    @app.exception_handler(StorageError)
    @app.exception_handler(BadCursor)
    async def ours(request: Request, error: Exception) -> Response:
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [{"at": list(problem["loc"]), "message": problem["msg"]} for problem in error.errors()]
        where = ".".join(str(part) for part in errors[0]["at"]) if errors else "body"
        detail = f"{where}: {errors[0]['message']}" if errors else "The request is not valid."
        return Problem(422, "invalid", detail, errors=errors)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        names = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
        name = names.get(error.status_code, "http")
        return Problem(error.status_code, name, str(error.detail), headers=error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:  # the server logs it
        return Problem(500, "internal", "The application failed. Its log has the details.")
