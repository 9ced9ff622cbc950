import asyncio
import json

import pytest
from aiohttp import web
from text_generation.types import Parameters

from assistant.errors import GenerationFailed, Overloaded, Refused, Unreachable
from assistant.serving_client import ServingClient, Timeouts, new_session
from tests.support.fake_tgi import FakeTGI, last, token

PATIENCE = 60.0  # seconds; only an upper bound for waiting


async def generated(url: str, *timeouts: Timeouts) -> str:
    async with new_session() as session:
        client = ServingClient(url, None, session, *timeouts)
        async with client.generation("q", Parameters()) as events:
            return "".join([event.token.text async for event in events])


async def test_an_event_may_arrive_in_any_pieces(tgi: FakeTGI) -> None:
    data = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in (token("é🦀"), last("!")))
    tgi.answers = [[b": keep-alive\n\n", *(bytes([byte]) for byte in data)]]
    assert await generated(tgi.url) == "é🦀!"


async def test_an_event_may_be_larger_than_half_a_mebibyte(tgi: FakeTGI) -> None:
    text = "x" * 600_000
    tgi.answers = [[token(text), last()]]
    assert await generated(tgi.url) == text


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (web.json_response({"error": "full", "error_type": "overloaded"}, status=429), Overloaded),
        (web.json_response({"error": "bad seed", "error_type": "validation"}, status=422), Refused),
        (web.json_response({"error": "oops", "error_type": "generation"}, status=424), GenerationFailed),
        (web.Response(text="<html>no</html>", status=500), GenerationFailed),
        (web.Response(text="", status=503), Unreachable),
        ([{"error": "loading", "error_type": "unhealthy"}], Unreachable),
        ([{"error": "oops", "error_type": "incomplete_generation"}], GenerationFailed),
        ([token("half"), {"error": "oops", "error_type": "incomplete_generation"}], GenerationFailed),
        ([b"data: {half\n\n"], GenerationFailed),
        ([b"data: \xff\xfe\n\n"], GenerationFailed),
        ([b"<html>\n"], GenerationFailed),
        ([token("half")], GenerationFailed),
        ([], GenerationFailed),
        ([token("half"), ConnectionResetError], Unreachable),
        ([b"data: " + b"x" * (2 << 20)], GenerationFailed),
    ],
)
async def test_every_failure_is_a_model_error(tgi: FakeTGI, response: object, error: type[Exception]) -> None:
    tgi.answers = [response]
    with pytest.raises(error) as caught:
        await generated(tgi.url)
    assert str(caught.value)


async def test_a_missing_server_is_unreachable(unused_tcp_port: int) -> None:
    with pytest.raises(Unreachable):
        await generated(f"http://127.0.0.1:{unused_tcp_port}")


async def test_a_silent_server_is_unreachable_in_the_middle_of_an_answer(tgi: FakeTGI) -> None:
    tgi.answers = [[token("half"), asyncio.Event()]]
    timeouts = Timeouts(first=2 * PATIENCE, between=0.05)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unreachable, match="silent"):
            await generated(tgi.url, timeouts)


async def test_a_silent_server_is_unreachable_before_an_answer_begins() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client disconnects
        writer.close()
        await writer.wait_closed()
        closed.set()

    closed = asyncio.Event()
    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(Unreachable, match="silent"):
            await generated(f"http://{host}:{port}", Timeouts(first=0.05))
        await asyncio.wait_for(closed.wait(), PATIENCE)
