"""What both protocols have in common: errors, silence, limits, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from serving.engine import GenerationFailed, IncompleteGeneration, InvalidRequest, Overloaded, Unhealthy
from serving.protocols.application import create_app
from tests.serving.protocols.conftest import CHATS, COMPLETIONS, PATIENCE, Connection, ask, client, events
from tests.support.fake_engine import FakeEngine

FULL, BROKEN = "rate_limit_exceeded", "incomplete_generation"
STREAM = {"stream": True}
STREAMS: list[Any] = [("/", STREAM), ("/generate_stream", {}), (COMPLETIONS, STREAM), (CHATS, STREAM)]
EVERY_STREAM = pytest.mark.parametrize(("path", "body"), STREAMS)
EVERY_WAY = pytest.mark.parametrize(
    ("path", "body"), [*STREAMS, ("/", {}), ("/generate", {}), (COMPLETIONS, {}), (CHATS, {})]
)


def error_of(answer: httpx.Response) -> tuple[Any, ...]:
    """The status, the message, and the types of the error in this protocol."""
    error = answer.json()
    if "error_type" in error:
        assert error.keys() == {"error", "error_type"}
        return answer.status_code, error["error"], error["error_type"]
    assert error["error"].keys() == {"message", "type", "param", "code"}
    return answer.status_code, *(error["error"][name] for name in ("message", "type", "code"))


@pytest.mark.parametrize("key", [None, "secret"])
@pytest.mark.parametrize("path", ["/v1/", "/v1/nowhere", "/v1//models", "/v1/health", "/v1", "/v10", "/no"])
async def test_each_path_has_the_error_shape_of_its_protocol(path: str, key: str | None) -> None:
    async with client(FakeEngine(), api_key=key) as http:
        answer = await http.get(path)
    status, _, *types = error_of(answer)
    assert (status, len(types)) == (404 if key is None else 401, 2 if path.startswith("/v1/") else 1)


@EVERY_WAY
@pytest.mark.parametrize(
    ("error", "tgi", "openai"),
    [
        (InvalidRequest("no"), (422, "validation"), (400, "invalid_request_error", None)),
        (Overloaded("no", retry_after=3), (429, "overloaded"), (429, "rate_limit_error", FULL)),
        (GenerationFailed("no"), (424, "generation"), (500, "server_error", "generation")),
        (IncompleteGeneration("no"), (500, BROKEN), (500, "server_error", BROKEN)),
        (Unhealthy("no"), (503, "unhealthy"), (503, "service_unavailable_error", "unhealthy")),
        (RuntimeError("secret"), (500, "internal"), (500, "server_error", None)),
    ],
)
async def test_errors_before_the_request_is_accepted_have_their_own_status(
    path: str, body: Any, error: Exception, tgi: tuple[Any, ...], openai: tuple[Any, ...]
) -> None:
    answer = await ask(path, engine=FakeEngine("x", before=[error]), **body)
    status, message, *types = error_of(answer)
    assert (status, *types) == (openai if path.startswith("/v1/") else tgi)
    assert message.removeprefix("Input validation error: ") in (str(error), "Internal error")
    assert "secret" not in message
    assert answer.headers.get("retry-after") == ("3" if status == 429 else None)


@EVERY_STREAM
@pytest.mark.parametrize(
    ("error", "message"), [(Unhealthy("gone"), "gone"), (RuntimeError("secret"), "Internal error")]
)
async def test_an_error_after_text_is_an_event_of_the_type_that_clients_know(
    path: str, body: Any, error: Exception, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(path, "Hello", error, **body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    is_openai = path.startswith("/v1/")
    assert answer.text.endswith("data: [DONE]\n\n") == is_openai
    *_, shown, last = events(answer.text.removesuffix("data: [DONE]\n\n"))
    assert "Hello" in json.dumps(shown)
    shape = {"message": message, "type": "server_error", "param": None, "code": BROKEN}
    assert last == ({"error": shape} if is_openai else {"error": message, "error_type": BROKEN})
    assert ("secret" in caplog.text) == (message == "Internal error")


@EVERY_STREAM
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.usefixtures("impatient")
async def test_silent_streams_are_kept_alive_and_send_their_headers_early(
    path: str, body: Any, before: bool, held: asyncio.Event
) -> None:
    engine = FakeEngine("x", before=[held]) if before else FakeEngine("x", held)
    connection = Connection(create_app(engine), path, **body)
    async with asyncio.timeout(PATIENCE):
        assert (await connection.sent.get())["status"] == 200
    for _ in range(2):
        await connection.sends(b":\n\n")
    held.set()
    await connection.ended()


@EVERY_WAY
@pytest.mark.parametrize("before", [True, False])
async def test_a_client_that_leaves_cancels_its_computation(
    path: str, body: Any, before: bool, held: asyncio.Event
) -> None:
    engine = FakeEngine(before=[held]) if before else FakeEngine("a\nHu", held)
    stops = ["\nHuman:"]
    connection = Connection(create_app(engine), path, **body, parameters={"stop": stops}, stop=stops, n=2)
    async with asyncio.timeout(PATIENCE):
        await engine.waiting.wait()
        connection.leave.set()
        await engine.cancelled.wait()
    await connection.ended()
    assert engine.running == 0


@EVERY_WAY
async def test_more_requests_than_allowed_are_refused_and_room_comes_back(
    path: str, body: Any, held: asyncio.Event
) -> None:
    engine = FakeEngine("x", held)
    app = create_app(engine, max_concurrent_requests=1)
    first = Connection(app, "/generate")
    await engine.waiting.wait()
    refused = await ask(path, engine=app, **body, n=2)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert error_of(refused)[2] == ("rate_limit_error" if path.startswith("/v1/") else "overloaded")
    first.leave.set()
    await first.ended()
    held.set()
    assert (await ask(path, engine=app, **body, n=2)).status_code == 200
