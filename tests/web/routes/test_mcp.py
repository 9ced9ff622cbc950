"""The MCP server, by the official client in both ages of the protocol, and by requests as the specification
writes them."""

import asyncio
import base64
import dataclasses
import json
from typing import Any

import httpx
import mcp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.knowledge.documentation import DocumentationState, DocumentationUnreadable
from assistant.knowledge.passage import SearchResult
from assistant.web.documentation_tools import LONGEST_PASSAGE, MOST_CALLS, MOST_NAMES
from assistant.web.mcp import MOST_BATCHED, STATELESS, WITH_HANDSHAKE
from assistant.web.security import MAX_BODY
from tests.support.fake_documentation import RMTREE, FakeDocumentation, passage

FLASK = passage(
    "flask.Flask.run", "Runs it.\r\n\x1b[0mTwice.", package="Flask", version="3.1", location="app.py:1"
)
LONG = passage("pkg.long", "word " * 30_000, package="my-pkg", version="1", location="pkg.py:5")
TWIN = dataclasses.replace(LONG, text="Another one.", location="pkg.py:99", example="")
EXAMPLE = dataclasses.replace(RMTREE, example="rmtree(path)", example_location="x.py:3")
FOUND = SearchResult(passages=(EXAMPLE, FLASK, LONG, TWIN), confidence=0.75)
TOOLS = ["search_documentation", "get_passage", "check_names"]
ACCEPT = "application/json, text/event-stream"


@pytest.fixture
async def documentation() -> FakeDocumentation:
    return FakeDocumentation(FOUND)


def request(method: str, params: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}, **more}


async def post(client: httpx.AsyncClient, message: Any, **headers: str) -> httpx.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers = {"Accept": ACCEPT, "Content-Type": "application/json", **headers}
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return await client.post("/mcp", content=body, headers=headers)


def meta(version: Any = STATELESS, **more: Any) -> dict[str, Any]:
    given = {"protocolVersion": version, "clientCapabilities": {}, **more}
    return {f"io.modelcontextprotocol/{name}": value for name, value in given.items() if value is not None}


async def stateless(client: httpx.AsyncClient, method: str, **params: Any) -> httpx.Response:
    """A request of 2026-07-28 as its specification writes it."""
    headers = {"MCP-Protocol-Version": STATELESS, "Mcp-Method": method}
    if "name" in params:
        headers["Mcp-Name"] = params["name"]
    return await post(client, request(method, {**params, "_meta": meta()}), **headers)


async def call(client: httpx.AsyncClient, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await stateless(client, "tools/call", name=tool, arguments=arguments)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["result"])


async def failure(client: httpx.AsyncClient, tool: str, **arguments: Any) -> str:
    """The text of a tool that has failed."""
    result = await call(client, tool, **arguments)
    assert result["isError"] is True
    assert "structuredContent" not in result
    return str(result["content"][0]["text"])


@pytest.mark.parametrize("mode", ["auto", STATELESS, "legacy"])
async def test_the_official_client_uses_every_tool(address: str, mode: str) -> None:
    async with mcp.Client(f"{address}/mcp", mode=mode) as client:
        assert client.protocol_version == (WITH_HANDSHAKE[0] if mode == "legacy" else STATELESS)
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == TOOLS
        assert all(tool.description and tool.output_schema for tool in tools)
        # The client checks each result against the tool's schema.
        found = await client.call_tool("search_documentation", {"question": "remove a folder", "limit": 1})
        (first,) = found.structured_content["passages"]
        assert (first["name"], first["location"]) == ("shutil.rmtree", "shutil.py:722")
        assert "Recursively delete a directory tree." in found.content[0].text
        whole = await client.call_tool("get_passage", {"name": "shutil.rmtree"})
        assert whole.structured_content["passage"]["text"] == RMTREE.text
        names = await client.call_tool("check_names", {"names": ["shutil.rmtree", "shutil.rmtre"]})
        assert [one["exists"] for one in names.structured_content["names"]] == [True, False]
        failed = await client.call_tool("search_documentation", {"question": " "})
        assert failed.is_error
        with pytest.raises(mcp.MCPError, match="Unknown tool"):
            await client.call_tool("remove_documentation", {})


async def test_clients_of_2025_begin_with_a_handshake(client: httpx.AsyncClient) -> None:
    for version in (*WITH_HANDSHAKE, "2024-11-05", "2099-01-01", STATELESS):
        await begin(client, version)


async def begin(client: httpx.AsyncClient, version: str) -> None:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    begun = await post(client, request("initialize", params, id="a"))
    result = begun.json()["result"]
    assert (begun.status_code, begun.json()["id"], "resultType" in result) == (200, "a", False)
    agreed = result["protocolVersion"]
    assert agreed == (version if version in WITH_HANDSHAKE else WITH_HANDSHAKE[0])
    assert result["serverInfo"]["name"] == "tech-assistant"
    assert "mcp-session-id" not in begun.headers
    headers = {"MCP-Protocol-Version": agreed}
    noted = await post(client, {"jsonrpc": "2.0", "method": "notifications/initialized"}, **headers)
    assert (noted.status_code, noted.content) == (202, b"")
    assert (await post(client, request("ping"), **headers)).json()["result"] == {}
    for sent in (headers, {}):  # clients of 2025-03-26 send no header
        listed = (await post(client, request("tools/list"), **sent)).json()["result"]
        assert [tool["name"] for tool in listed["tools"]] == TOOLS
        assert listed.keys() == {"tools"}
    unknown = await post(client, request("server/discover"), **headers)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (200, -32601)


async def test_requests_of_2026_need_no_handshake(client: httpx.AsyncClient) -> None:
    discovered = (await stateless(client, "server/discover")).json()["result"]
    assert discovered["supportedVersions"] == [STATELESS, *WITH_HANDSHAKE]
    assert (discovered["resultType"], discovered["capabilities"]) == ("complete", {"tools": {}})
    assert discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "tech-assistant"
    listed = (await stateless(client, "tools/list")).json()["result"]
    assert (listed["ttlMs"] > 0, listed["cacheScope"]) == (True, "public")
    for method in ("initialize", "ping", "prompts/list", "subscriptions/listen", "x" * 200):
        answer = await stateless(client, method)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, -32601)
        assert answer.json()["id"] == 1
    noted = await post(client, {"jsonrpc": "2.0", "method": "n"}, MCP_Protocol_Version=STATELESS)
    assert (noted.status_code, noted.content) == (202, b"")


CALL = {"name": "get_passage", "arguments": {"name": "shutil.rmtree"}, "_meta": meta()}
RIGHT = {"MCP-Protocol-Version": STATELESS, "Mcp-Method": "tools/call", "Mcp-Name": "get_passage"}


def encoded(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


AGREEMENTS: list[tuple[dict[str, str | None], dict[str, Any], int | None]] = [
    ({}, {}, None),
    ({"Mcp-Name": encoded("get_passage")}, {}, None),
    ({"Mcp-Session-Id": "s", "Last-Event-ID": "3"}, {}, None),  # of older revisions: ignored
    ({"Mcp-Name": encoded("get_passag")}, {}, -32020),
    ({"Mcp-Name": "=?base64?!?="}, {}, -32020),
    ({"Mcp-Name": "check_names"}, {}, -32020),
    ({"Mcp-Name": None}, {}, -32020),
    ({"Mcp-Method": None}, {}, -32020),
    ({"Mcp-Method": "tools/list"}, {}, -32020),
    ({"MCP-Protocol-Version": None}, {}, -32020),
    ({"MCP-Protocol-Version": "2025-11-25"}, {}, -32020),
    ({}, {"_meta": meta("2025-11-25")}, -32020),
    ({}, {"_meta": meta(3)}, -32020),
    ({}, {"_meta": meta(clientCapabilities=None)}, -32602),
    ({}, {"_meta": meta(clientCapabilities=[])}, -32602),
    ({}, {"_meta": meta(None)}, -32602),
    ({}, {"_meta": 3}, -32602),
    ({"MCP-Protocol-Version": "2099-01-01"}, {"_meta": meta("2099-01-01")}, -32022),
    ({"MCP-Protocol-Version": "2099-01-01"}, {"_meta": {}}, -32022),
    ({"MCP-Protocol-Version": ""}, {"_meta": {}}, -32022),
    ({}, {"arguments": []}, -32602),
    ({"Mcp-Name": "nothing"}, {"name": "nothing"}, -32602),
    ({"Mcp-Name": ""}, {"name": 3}, -32020),
]


async def test_headers_must_agree_with_the_request(client: httpx.AsyncClient) -> None:
    for headers, params, code in AGREEMENTS:
        sent = {name: value for name, value in {**RIGHT, **headers}.items() if value is not None}
        answer = await post(client, request("tools/call", {**CALL, **params}), **sent)
        error = answer.json().get("error", {})
        expected = (200 if code is None else 400, code)
        assert (answer.status_code, error.get("code")) == expected, (headers, params)
        if code == -32022:
            assert error["data"]["supported"] == [STATELESS, *WITH_HANDSHAKE]


async def test_blanks_around_a_header_do_not_count(address: str) -> None:
    body = json.dumps(request("tools/call", CALL)).encode()
    host = address.removeprefix("http://")
    lines = [f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close"]
    lines += [f"{name}: \t {value} \t" for name, value in RIGHT.items()]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(head.encode() + body)
    async with asyncio.timeout(20):
        assert b" 200 " in await reader.readline()
    writer.close()


async def test_a_header_that_comes_twice_is_refused(client: httpx.AsyncClient) -> None:
    headers = [*RIGHT.items(), ("Mcp-Name", "check_names"), ("Content-Type", "application/json")]
    body = json.dumps(request("tools/call", CALL))
    answer = await client.post("/mcp", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


NO_MESSAGES = [
    *((b"", -32700), (b"{", -32700), (b"\xff", -32700), (b"[" * 100_000, -32700), (b"NaN", -32700)),
    *((b"9" * 5000, -32700), (b"3", -32600), (b'"x"', -32600), (b"null", -32600), (b"[]", -32600)),
    *((b"{}", -32600), (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600)),
    (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600),
    (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', -32600),
    (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', -32600),
    (b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}', -32600),
    (b'{"jsonrpc": "2.0", "id": "' + b"x" * 300 + b'", "method": "ping"}', -32600),
    (b'{"jsonrpc": "2.0", "id": 1}', -32600),
    (b'{"jsonrpc": "2.0", "id": 1, "method": 3}', -32600),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', -32602),
]


async def test_what_is_no_message_is_an_error(client: httpx.AsyncClient) -> None:
    for body, code in NO_MESSAGES:
        answer = await post(client, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), body[:80]
        assert answer.json()["jsonrpc"] == "2.0"


async def test_answers_and_odd_requests_are_taken(client: httpx.AsyncClient) -> None:
    assert (
        await post(client, {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": None})
    ).status_code == 200
    assert (await post(client, {"jsonrpc": "2.0", "id": 1, "result": {}})).status_code == 202
    for number in ("", "\ud800", "a\n", -5, 0, 1 << 60):
        answer = await post(client, request("ping", id=number))
        assert (answer.status_code, json.loads(answer.content)["id"]) == (200, number)


async def test_only_2025_03_26_has_batches(client: httpx.AsyncClient) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/x"}
    batch = [request("ping", id=1), note, request("nothing", id=2), 3]
    for headers in ({}, {"MCP-Protocol-Version": "2025-03-26"}):
        answer = await post(client, batch, **headers)
        assert answer.status_code == 200
        assert [(one["id"], "error" in one) for one in answer.json()] == [(1, False), (2, True), (None, True)]
    assert (await post(client, [note, note])).status_code == 202
    assert (await post(client, [request("ping")] * (MOST_BATCHED + 1))).status_code == 400
    for version in (STATELESS, "2025-06-18"):
        answer = await post(client, batch, MCP_Protocol_Version=version)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)


async def test_other_methods_types_and_origins_are_refused(client: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD", "DELETE", "PUT", "OPTIONS"):
        answer = await client.request(method, "/mcp", headers={"Accept": "text/event-stream"})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    ping = request("ping")
    assert (await post(client, ping, Content_Type="text/plain")).status_code == 415
    assert (await post(client, ping, Accept="text/html")).status_code == 406
    for accepted in ("*/*", "application/*;q=0.5, text/html", "APPLICATION/JSON"):
        assert (await post(client, ping, Accept=accepted)).status_code == 200
    assert (await post(client, ping, Origin="http://evil.example")).status_code == 403
    assert (await post(client, ping, Sec_Fetch_Site="cross-site")).status_code == 403
    assert (await post(client, ping, Host="evil.example")).status_code == 421
    assert (await post(client, ping, Origin=str(client.base_url).rstrip("/"))).status_code == 200
    assert (await post(client, b" " * (MAX_BODY + 1))).status_code == 413
    answer = await post(client, ping)
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(TOOLS),
    arguments=st.dictionaries(
        st.sampled_from(["question", "limit", "package", "name", "names", "location", "\ud800"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=20),
            lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3),
            max_leaves=5,
        ),
    ),
)
async def test_no_arguments_break_a_tool(
    client: httpx.AsyncClient, name: str, arguments: dict[str, Any]
) -> None:
    result = await call(client, name, **arguments)
    assert result["content"][0]["text"]
    assert result["isError"] is not ("structuredContent" in result)


async def test_a_search_keeps_to_a_package_and_to_its_limit(
    client: httpx.AsyncClient, documentation: FakeDocumentation
) -> None:
    result = await call(client, "search_documentation", question="How do I run it?", package="flask")
    data = result["structuredContent"]
    assert [one["name"] for one in data["passages"]] == ["flask.Flask.run"]
    assert (data["confidence"], data["unknown"], data["did_you_mean"]) == (0.75, None, [])
    assert data["passages"][0]["text"] == "Runs it.\n[0mTwice."  # without characters that nobody sees
    assert documentation.asked == [("How do I run it in Flask",)]
    for package in ("my_pkg", "My.Pkg"):
        found = await call(client, "search_documentation", question="q", package=package, limit=1)
        (one,) = found["structuredContent"]["passages"]
        assert (one["package"], len(one["text"]) < 3000) == ("my-pkg", True)
    text = await failure(client, "search_documentation", question="q", package="numpy")
    assert text == "There is no documentation of 'numpy' here. It covers my-pkg, Python, Flask."
    module = await call(client, "search_documentation", question="q", package="pkg.long")
    assert module["structuredContent"]["passages"][0]["package"] == "my-pkg"


async def test_a_search_without_an_answer_says_so(
    client: httpx.AsyncClient, documentation: FakeDocumentation
) -> None:
    documentation.found = SearchResult()
    result = await call(client, "search_documentation", question="Who am I?")
    assert result["structuredContent"]["passages"] == []
    assert "no clear answer" in result["content"][0]["text"]
    documentation.found = SearchResult(unknown="os.foo", did_you_mean=("os.fork",))
    result = await call(client, "search_documentation", question="os.foo")
    assert result["structuredContent"]["unknown"] == "os.foo"
    assert result["content"][0]["text"].endswith("no os.foo. Names that are spelled alike: os.fork")


async def test_a_passage_is_whole_and_chosen_among_several(client: httpx.AsyncClient) -> None:
    first = (await call(client, "get_passage", name="pkg.long"))["structuredContent"]
    assert (len(first["passage"]["text"]), first["is_cut"]) == (LONGEST_PASSAGE, True)
    assert [one["location"] for one in first["others"]] == ["pkg.py:99"]
    other = await call(client, "get_passage", name="long", package="my.pkg", location="pkg.py:99")
    assert other["structuredContent"]["passage"]["text"] == "Another one."
    assert not other["structuredContent"]["is_cut"]
    elsewhere = await failure(client, "get_passage", name="pkg.long", package="Flask")
    assert (
        elsewhere
        == "pkg.long is not there, but here: pkg.long, my-pkg, pkg.py:5; pkg.long, my-pkg, pkg.py:99"
    )
    text = (await call(client, "get_passage", name="rmtree()"))["content"][0]["text"]
    assert "Example (x.py:3):\n\nrmtree(path)" in text
    missing = await failure(client, "get_passage", name="shutil.rmtre")
    assert missing.startswith(
        "The documentation here has no shutil.rmtre. Names that are spelled alike: shutil"
    )


async def test_names_are_checked(client: httpx.AsyncClient) -> None:
    result = await call(
        client, "check_names", names=["shutil.rmtree()", "Flask.run", "long", "long.er", "x.y"]
    )
    exact, ending, several, missing, uncovered = result["structuredContent"]["names"]
    assert (exact["exists"], exact["kind"], exact["signature"]) == (True, "function", RMTREE.signature)
    assert exact["package"] == "Python 3.11.2"
    assert (ending["full_name"], ending["alike"]) == ("flask.Flask.run", [])
    assert several["alike"] == []  # the other one has the same name
    assert (missing["exists"], missing["full_name"], len(missing["alike"])) == (False, None, 3)
    assert (missing["is_covered"], uncovered["exists"], uncovered["is_covered"]) == (True, False, False)
    lines = result["content"][0]["text"].splitlines()
    assert lines[3].startswith("long.er: does not exist in the documentation here. Alike: ")
    assert lines[4].startswith("x.y: unknown, because nothing here documents x. Alike: ")
    assert "at most 20" in await failure(client, "check_names", names=["x"] * (MOST_NAMES + 1))
    assert "at least 1" in await failure(client, "check_names", names=[])


async def test_a_tool_that_cannot_look_up_says_why(
    client: httpx.AsyncClient, documentation: FakeDocumentation
) -> None:
    documentation.error = DocumentationUnreadable("It is being read.")
    assert await failure(client, "search_documentation", question="q") == "It is being read."
    off = dataclasses.replace(documentation.status, state=DocumentationState.OFF)
    documentation.status = off
    assert "without it" in await failure(client, "search_documentation", question="q")


async def test_one_address_gets_half_of_the_turns(
    client: httpx.AsyncClient, documentation: FakeDocumentation
) -> None:
    documentation.gate.clear()
    calls = [
        asyncio.create_task(call(client, "search_documentation", question=f"q{number}"))
        for number in range(MOST_CALLS // 2 + 1)
    ]
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    (refused,) = done
    assert refused.result()["isError"]
    assert "Too many questions" in refused.result()["content"][0]["text"]
    documentation.gate.set()
    results = await asyncio.gather(*calls)
    assert sum(result["isError"] for result in results) == 1


async def test_a_fault_of_ours_reveals_nothing(
    client: httpx.AsyncClient, documentation: FakeDocumentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documentation, "found", None)
    answer = await stateless(client, "tools/call", name="search_documentation", arguments={"question": "q"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, -32603)
    assert "NoneType" not in answer.text
