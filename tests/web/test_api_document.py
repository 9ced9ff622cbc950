import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant import errors
from assistant.engine import EngineState, Licence
from assistant.web.openapi import PROBLEM
from assistant.web.problems import KNOWN
from assistant.web.security import MAX_BODY
from tests.support.fake_model import FakeServed, ScriptedModel

JSON = {"Content-Type": "application/json"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_the_examples_of_the_document_run(address: str, model: ScriptedModel) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    script = "set -eu\n" + commands.replace("http://127.0.0.1:7860", address).replace("curl ", "curl --fail ")
    model.say("Open it.")
    model.end()
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, error = await shell.communicate()
    assert shell.returncode == 0, error.decode()
    answers = out.decode()
    assert '"title":"Reading files"' in answers
    assert 'event: delta\ndata: {"text": "Open it."}' in answers
    assert 'id: 8\nevent: delta\ndata: {"text": "n it."}' in answers
    assert answers.count("event: done") == 2
    assert '{"status":"done"}' in answers


# The inputs for each operation. Most are invalid.
NAMES = ["%00", "%ff", "..%2f..", "x" * 1000, "🦀"]
QUERIES = ["", "?limit=x", "?limit=0", "?limit=" + "9" * 5000, "?cursor=x", "?last_event_id=x", "?%ff=%00"]
BODIES = [
    *(None, b"", b"{", b"\xff", b'"\xff"', b"[" * 100_000, b"x" * 300_000, b"null", b"[]", b'{"text": 3}'),
    *(b'{"text": " "}', b'{"text": "\\ud800"}', b'{"text": "q", "parent_id": "nobody"}', b'{"text": "q"}'),
    *(b'{"text": "again"}', b'{"title": "t"}', b'{"active_leaf_id": "nobody"}'),
]
HEADERS: list[dict[str, str]] = [
    *({}, {"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}),
    *({"Content-Type": "text/plain"}, {"Cookie": "x" * 40_000}, {"Last-Event-ID": "x"}, {"Via": "1.1 proxy"}),
]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def declared(operation: dict[str, Any]) -> set[tuple[int, str]]:
    """The statuses of an operation and the types of its problems."""
    found = set()
    for status, response in operation["responses"].items():
        if int(status) < 400:
            found.add((int(status), ""))
        else:
            assert list(response["content"]) == ["application/problem+json"], status
            problem, this = response["content"]["application/problem+json"]["schema"]["allOf"]
            assert problem == {"$ref": "#/components/schemas/Problem"}
            found |= {(int(status), name) for name in this["properties"]["type"]["enum"]}
    return found


async def test_every_answer_is_declared(
    client: httpx.AsyncClient, served: FakeServed, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = (await client.get("/api/openapi.json")).json()
    seen: set[tuple[int, str]] = set()

    async def ask(method: str, path: str, operation: Any, body: bytes | None = None, **headers: str) -> None:
        request = client.build_request(method, path, content=body, headers={**JSON, **headers})
        try:
            response = await client.send(request, stream=True)
            text = await response.aread() if response.status_code >= 400 else b""
        except httpx.TransportError:  # the server closes the connection during a body that is too large
            assert len(body or b"") > MAX_BODY
            return
        kind = response.headers.get("content-type", "").partition(";")[0]
        name = ""
        if text:
            assert kind == "application/problem+json", (method, path)
            problem = json.loads(text)
            assert problem.keys() - {"errors"} == set(PROBLEM["required"])
            name = problem["type"]
        elif response.status_code != 204:
            assert kind in operation["responses"][str(response.status_code)]["content"], (method, path)
        await response.aclose()
        assert (response.status_code, name) in declared(operation), (method, path, body, headers)
        seen.add((response.status_code, name))

    terms = Licence("terms", "Terms", "https://example.org/terms", must_accept=True)
    for state, licence in ((EngineState.READY, None), (EngineState.READY, terms), (EngineState.NONE, None)):
        served.set(state, "Because.", licence=licence)
        for method, path, operation in operations(document):
            for name in NAMES if "{" in path else ():
                await ask(method, re.sub(r"\{\w+\}", name, path), operation, b'{"text": "q"}')
            name = chat = str((await client.post("/api/conversations")).json()["id"])
            if "/replies/" in path:
                asked = await client.post(f"/api/conversations/{chat}/messages", json={"text": "q"})
                name = asked.json().get("reply_id", chat)
            where = re.sub(r"\{\w+\}", name, path)
            for body in BODIES if "requestBody" in operation else ():
                await ask(method, where, operation, body)
            for query in QUERIES:
                await ask(method, where + query, operation)
            for headers in HEADERS:
                await ask(method, where, operation, **headers)
            await client.delete(f"/api/conversations/{chat}")  # also stops its reply
    monkeypatch.setattr(served, "status", None)
    await ask("GET", "/api/engine", document["paths"]["/api/engine"]["get"])
    # Problems that need more than one request, or a fault.
    elsewhere = {"client_id_reused", "nothing_to_fetch", "queue_full", "closing", "storage", "too_large"}
    elsewhere |= {"pipelined", "timeout", "too_many_requests", "too_many_connections"}
    elsewhere |= {"site_token", "not_for_widgets", "limit", "question_too_long"}  # of the visitors of sites
    elsewhere |= {"address_too_long", "headers_too_large", "too_many_headers"}
    every = {one for _, _, operation in operations(document) for one in declared(operation)}
    assert {name for _, name in every - seen} <= elsewhere


async def test_every_error_is_declared_and_described(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/openapi.json")).json()
    every = {one for _, _, operation in operations(document) for one in declared(operation) if one[1]}
    assert {(status, name) for _, status, name in KNOWN} <= every
    rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    described = {(int(status), name) for status, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert described - {(405, "method_not_allowed")} == every
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])
    scheme = document["components"]["securitySchemes"]["cookie"]
    assert (scheme["in"], scheme["name"]) == ("cookie", next(iter(client.cookies)))


async def test_every_route_has_an_example(client: httpx.AsyncClient) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    examples = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    paths = (await client.get("/api/openapi.json")).json()["paths"]
    for path, item in paths.items():
        pattern = re.sub(r"\\\{\w+\\\}", r"\\$\\w+", re.escape(path))
        assert re.search(rf"\$TECH{pattern}[\"?]", examples), path
        for method in item:
            described = method.upper() + " " + re.sub(r"\{\w+\}", "{id}", path)
            assert described in text or path == "/api/engine", described


def test_every_failure_of_a_reply_is_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in {error.type for error in vars(errors).values() if isinstance(error, type)} - {"refused"}:
        assert f"`{name}`" in text, name
