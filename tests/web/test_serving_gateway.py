"""The gateway to the serving layer: alone, and in the application as people start it."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from text_generation import Client

from assistant.engine import Endpoint
from assistant.web.serving_gateway import (
    BROKEN_OFF,
    LARGEST_BODY,
    OPEN,
    ServingGateway,
    target_of,
)
from assistant.web.throttle import WRONG_KEYS
from serving.protocols.application import create_app as create_serving
from tests.support.application import Application, upstream, wait_for
from tests.support.application import running as application_running
from tests.support.fake_engine import FakeEngine
from tests.support.tiny_gguf import write_tiny_gguf
from tests.web.conftest import running

KEY = "key-of-clients-0123"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
CLOSED = {"/download", "/prefix"}


class Layer:
    """A serving layer whose answers the test writes. `requests` are those that arrived."""

    def __init__(self) -> None:
        self.requests: list[SimpleNamespace] = []
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.left = asyncio.Event()
        self.status = 200

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append(SimpleNamespace(path=request.url.path, headers=request.headers, body=body))
        if not request.url.path.endswith("stream"):
            headers = {"Set-Cookie": "a=b", "Access-Control-Allow-Origin": "*", "Retry-After": "7"}
            return PlainTextResponse("whole", self.status, headers)
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await self.pieces.get()) is not None:
                if piece == b"break":
                    raise ConnectionError
                yield piece
        finally:
            self.left.set()


@pytest.fixture
async def layer() -> Layer:
    return Layer()


@contextlib.asynccontextmanager
async def gateway_to(endpoint: Endpoint) -> AsyncIterator[tuple[httpx.AsyncClient, ServingGateway]]:
    inner = Starlette(routes=[Route("/{path:path}", lambda _: PlainTextResponse("page"))])
    gateway = ServingGateway(inner, endpoint=lambda: endpoint, key=KEY)
    async with (
        running(gateway) as address,
        httpx.AsyncClient(verify=False, base_url=address, headers=AUTHORIZED, timeout=20) as client,
    ):
        yield client, gateway


@pytest.fixture
async def client(layer: Layer) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=[Route("/{path:path}", layer.answer, methods=["GET", "POST"])])
    async with running(app) as address, gateway_to(Endpoint(address, "own-key")) as (client, _):
        yield client


async def test_only_named_headers_are_forwarded(client: httpx.AsyncClient, layer: Layer) -> None:
    headers = {"Cookie": "owner=me", "X-Session-Id": "s", "X-Forwarded-For": "1.2.3.4", "Origin": "http://e"}
    answer = await client.post("/serving/generate", headers={**headers, "Host": "elsewhere"}, content=b"{}")
    (request,) = layer.requests
    assert (answer.text, request.path, request.body) == ("whole", "/generate", b"{}")
    assert request.headers["authorization"] == "Bearer own-key"
    assert request.headers["x-session-id"] == "s"
    assert not {"cookie", "x-forwarded-for", "origin"} & set(request.headers)
    assert answer.headers["retry-after"] == "7"
    assert not {"set-cookie", "access-control-allow-origin"} & set(answer.headers)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_every_path_needs_the_key(client: httpx.AsyncClient, layer: Layer) -> None:
    assert (await client.get("/serving/info")).status_code == 200  # an address with a right key never waits
    layer.requests.clear()
    for given_key in ("", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x", f"Bearer {KEY[:-1]}"):
        for path in ("/serving", "/serving/", "/serving/info", "/serving/download", "/v1/models"):
            answer = await client.get(path, headers={"Authorization": given_key})
            assert answer.status_code == 401
            error = answer.json()["error"]
            message = error["message"] if path.startswith("/v1") else error
            assert message == "The key is missing or wrong."
    assert layer.requests == []
    assert (await client.get("/elsewhere", headers={"Authorization": ""})).text == "page"


async def test_an_address_that_guesses_keys_must_wait(client: httpx.AsyncClient, layer: Layer) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    for _ in range(WRONG_KEYS):
        assert (await client.get("/v1/models", headers={"Authorization": ""})).status_code == 401
    for _ in range(WRONG_KEYS):
        assert (await client.get("/v1/models", headers=wrong)).status_code == 401
    for headers in (wrong, AUTHORIZED):  # even the right key must wait
        tgi, chat = [await client.get(path, headers=headers) for path in ("/serving/info", "/v1/models")]
        assert (tgi.status_code, chat.status_code, tgi.headers["retry-after"]) == (429, 429, "60")
        assert tgi.json()["error_type"] == chat.json()["error"]["code"] == "overloaded"
    assert layer.requests == []
    assert (await client.get("/elsewhere", headers=wrong)).text == "page"


async def test_routes_for_the_operator_are_closed(client: httpx.AsyncClient, layer: Layer) -> None:
    for path in ("download", "prefix", "%64ownload", "v1/%2e%2e/download", "v1/..%2fprefix", "/download"):
        for method in ("POST", "PUT", "DELETE"):
            assert (await client.request(method, f"/serving/{path}")).status_code in (404, 405)
    assert layer.requests == []


def test_each_route_of_the_serving_layer_is_listed_as_open_or_closed() -> None:
    v1, root = create_serving(FakeEngine()).routes
    assert isinstance(v1, Mount)
    assert isinstance(root, Mount)
    assert (v1.path, root.path) == ("/v1", "")
    assert {route.path for route in root.routes if isinstance(route, Route)} == OPEN | CLOSED


@given(st.lists(st.sampled_from(["serving", "v1", "download", "prefix", "..", ".", "", "%", "a b"])))
def test_no_path_leads_to_a_closed_route(parts: list[str]) -> None:
    target = target_of("/" + "/".join(parts))
    if target is not None:
        assert os.path.normpath("/" + target.lstrip("/")) not in CLOSED
        assert target in OPEN or target.startswith("/v1/")


async def test_a_body_over_the_limit_is_not_read_further(client: httpx.AsyncClient, layer: Layer) -> None:
    assert (await client.post("/serving/generate", content=b"x" * LARGEST_BODY)).status_code == 200
    host, port = client.base_url.host, client.base_url.port
    announced = f"Content-Length: {LARGEST_BODY + 1}".encode()
    zeros = b"Content-Length: " + b"0" * 5000
    for length in (announced, b"Content-Length: 1000000000", zeros, b"Transfer-Encoding: chunked"):
        reader, writer = await asyncio.open_connection(host, port)
        lines = (
            b"POST /v1/completions HTTP/1.1",
            b"Host: x",
            b"Authorization: Bearer " + KEY.encode(),
            length,
        )
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
        if b"chunked" in length:
            chunk = b"x" * (LARGEST_BODY + 1)
            writer.write(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
        async with asyncio.timeout(20):
            assert b" 413 " in await reader.readline()  # without waiting for the rest
        writer.close()
    assert len(layer.requests) == 1


async def test_a_stream_arrives_piece_by_piece(client: httpx.AsyncClient, layer: Layer) -> None:
    async with client.stream("POST", "/serving/generate_stream", content=b"{}") as answer:
        pieces = answer.aiter_raw()
        for piece in (b"data: 1\n\n", b"data: ", b"2\n\n"):
            await layer.pieces.put(piece)  # the next one is sent after this one was read
            assert await anext(pieces) == piece
        await layer.pieces.put(None)
        assert [piece async for piece in pieces] == []


async def test_a_client_that_leaves_ends_the_request(client: httpx.AsyncClient, layer: Layer) -> None:
    async with client.stream("POST", "/serving/generate_stream", content=b"{}") as answer:
        await layer.pieces.put(b"data: 1\n\n")
        await anext(answer.aiter_raw())
    async with asyncio.timeout(20):
        await layer.left.wait()


async def test_a_stream_that_breaks_between_events_says_so(client: httpx.AsyncClient, layer: Layer) -> None:
    for piece in (b"data: 1\n\n", b"break"):
        await layer.pieces.put(piece)
    text = (await client.post("/serving/generate_stream", content=b"{}")).text
    last = json.loads(text.removeprefix("data: 1\n\ndata: "))
    assert last == {"error": BROKEN_OFF, "error_type": "incomplete_generation"}
    for piece in (b"data: {", b"break"):
        await layer.pieces.put(piece)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/v1/stream", content=b"{}")


async def test_streams_end_with_an_error_when_the_server_ends(layer: Layer) -> None:
    app = Starlette(routes=[Route("/{path:path}", layer.answer, methods=["POST"])])
    async with running(app) as address, gateway_to(Endpoint(address)) as (client, gateway):
        async with client.stream("POST", "/v1/stream", content=b"{}") as answer:
            await layer.pieces.put(b"data: 1\n\n")
            pieces = answer.aiter_raw()
            await anext(pieces)
            gateway.end()
            rest = b"".join([piece async for piece in pieces])
        assert b"shutting down" in rest
        assert rest.endswith(b"data: [DONE]\n\n")
        assert (await client.post("/serving/generate")).status_code == 503


async def test_without_a_serving_layer_the_error_has_the_protocols_shape(unused_tcp_port: int) -> None:
    nowhere = Endpoint(f"http://127.0.0.1:{unused_tcp_port}")
    for endpoint in (Endpoint(None), nowhere, Endpoint(None, failure="no such file")):
        async with gateway_to(endpoint) as (client, _):
            tgi, chat = await client.get("/serving/info"), await client.get("/v1/models")
        assert (tgi.status_code, tgi.json()["error_type"]) == (503, "unhealthy")
        assert (chat.status_code, chat.json()["error"]["code"]) == (503, "unhealthy")
        assert tgi.headers["retry-after"]
        assert tgi.json()["error"] == chat.json()["error"]["message"]


async def test_a_refused_key_of_ours_is_not_the_clients_error(
    client: httpx.AsyncClient, layer: Layer
) -> None:
    layer.status = 401
    answer = await client.get("/serving/info")
    assert (answer.status_code, "this server's key" in answer.json()["error"]) == (503, True)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    folder = tmp_path_factory.mktemp("exposed")
    model = write_tiny_gguf(folder / "tiny.gguf", context=8192)
    arguments = ("--model", str(model), "--threads", "1", "--expose-serving", "--serving-key", KEY)
    arguments = (*arguments, "--documentation")
    with application_running(folder / "data", *arguments, page=False) as application:
        application.wait_until("ready")
        application.client.headers.update(AUTHORIZED)
        yield application


@pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")
def test_clients_of_both_protocols_are_answered(application: Application) -> None:
    tgi = Client(f"{application.address}/serving/", headers=AUTHORIZED, timeout=60)
    text = "".join(event.token.text for event in tgi.generate_stream("the code", max_new_tokens=7))
    assert text == tgi.generate("the code", max_new_tokens=7).generated_text != ""
    with openai.OpenAI(base_url=f"{application.address}/v1", api_key=KEY) as client:
        sampling = {"max_tokens": 7, "temperature": 0}
        answers = client.completions.create(model="any", prompt="the code", stream=True, **sampling)
        assert "".join(answer.choices[0].text for answer in answers) != ""
    with (
        openai.OpenAI(base_url=f"{application.address}/v1", api_key="wrong") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
    body = {"inputs": "the", "parameters": {"max_new_tokens": 5, "return_full_text": False}}
    assert application.client.post("/serving/generate", json=body).json()["generated_text"]
    assert KEY not in application.log


def test_the_models_with_documentation_answer_beside_it(application: Application) -> None:
    application.wait_for_documentation()
    asked = {"messages": [{"role": "user", "content": "How do I remove a folder with everything in it?"}]}
    with openai.OpenAI(base_url=f"{application.address}/v1", api_key=KEY) as client:
        assert [model.id for model in client.models.list()][1:] == [
            "documentation",
            "tiny.gguf+documentation",
        ]
        quoted = client.chat.completions.create(model="documentation", **asked)
        assert "shutil.rmtree(path" in (quoted.choices[0].message.content or "")
        answers = client.chat.completions.create(
            model="tiny.gguf+documentation", max_tokens=1, stream=True, **asked
        )
        *_, last = answers
        assert last.choices[0].finish_reason == "length"
        assert last.sources[0]["name"] == quoted.sources[0]["name"] == "shutil.rmtree"


def test_a_client_that_leaves_stops_the_engine(application: Application) -> None:
    body = {"inputs": "the code", "parameters": {"max_new_tokens": 8000}}
    with application.client.stream("POST", "/serving/generate_stream", json=body) as answer:
        next(answer.iter_lines())
    wait_for(lambda: "tgi_batch_current_size 0\n" in application.client.get("/serving/metrics").text)


def test_a_killed_engine_ends_the_stream_and_the_next_request_works(tmp_path: Path) -> None:
    with upstream("One two three four five. " * 40) as url:
        arguments = ("--upstream", url, "--expose-serving", "--serving-key", KEY)
        with application_running(tmp_path / "data", *arguments, page=False) as application:
            application.wait_until("ready")
            application.client.headers.update(AUTHORIZED)
            body = {"inputs": "q", "parameters": {"max_new_tokens": 1000}}
            lines = []
            with contextlib.suppress(httpx.RemoteProtocolError):
                with application.client.stream("POST", "/serving/generate_stream", json=body) as answer:
                    for line in answer.iter_lines():
                        if not lines:
                            os.kill(application.serving_pid(), signal.SIGKILL)
                        lines.append(line)
                assert "incomplete_generation" in "".join(lines)
            assert '"generated_text":"' not in "".join(lines)
            wait_for(lambda: application.client.get("/serving/health").status_code == 200)
            body["parameters"] = {"max_new_tokens": 3}
            assert application.client.post("/serving/generate", json=body).json()["generated_text"]
