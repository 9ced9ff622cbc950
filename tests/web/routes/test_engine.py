"""The engine, the download of its model, and the licence."""

from dataclasses import asdict
from urllib.parse import quote

from httpx import AsyncClient

from assistant.engine import Download, EngineState, Licence
from tests.support.fake_model import FakeServed
from tests.web.api_client import ask, engine_of, is_problem, new_chat, try_ask


async def test_only_the_operator_controls_the_download(client: AsyncClient, served: FakeServed) -> None:
    download = Download("running", "Small Coder", "o/r", "small.gguf", "Apache-2.0", 1000, 430)
    served.set(EngineState.FETCHING, download=download)
    assert (await engine_of(client))["download"] == {**asdict(download), "may_change": True}
    assert (await client.delete("/api/engine/download")).status_code == 204
    assert (await client.post("/api/engine/download")).status_code == 202
    assert served.steered == ["declined", "begun"]
    through_proxies = [{name: "203.0.113.7"} for name in ("X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP")]
    # The last one is the name of a proxy that adds no headers.
    through_proxies += [{"X-Forwarded-Proto": "https"}, {"Via": "1.1 proxy"}, {"Host": "203.0.113.1"}]
    for through_a_proxy in through_proxies:
        shown = (await engine_of(client, **through_a_proxy))["download"]
        assert shown["may_change"] is False, through_a_proxy
        for method in ("POST", "DELETE"):
            response = await client.request(method, "/api/engine/download", headers=through_a_proxy)
            assert is_problem(response, 403, "not_the_operator")
    assert served.steered == ["declined", "begun"]
    for host in ("localhost:7860", "LOCALHOST", "[::1]:7860", "127.0.0.1"):
        assert (await engine_of(client, Host=host))["download"]["may_change"] is True, host


async def test_each_owner_accepts_the_licence_before_the_first_question(
    address: str, client: AsyncClient, served: FakeServed
) -> None:
    terms = Licence("bigcode-openrail-m", "BigCode OpenRAIL-M", "https://example.org/terms", must_accept=True)
    served.set(EngineState.READY, licence=terms)
    chat = await new_chat(client)
    asked = await try_ask(client, chat)
    assert is_problem(asked, 403, "licence_not_accepted")
    assert terms.url in asked.json()["detail"]
    assert is_problem(await client.put("/api/licences/another"), 404, "not_found")
    for _ in range(2):
        assert (await client.put(f"/api/licences/{terms.id}")).status_code == 204
    shown = {"id": terms.id, "name": terms.name, "url": terms.url, "accepted": True}
    assert (await engine_of(client))["licence"] == shown
    await ask(client, chat)
    async with AsyncClient(base_url=address, timeout=20) as stranger:
        assert (await engine_of(stranger))["licence"]["accepted"] is False
        asked = await try_ask(stranger, await new_chat(stranger))
        assert is_problem(asked, 403, "licence_not_accepted")


async def test_the_id_of_a_licence_can_be_any_text(client: AsyncClient, served: FakeServed) -> None:
    name = "https://example.org/a licence/1.0?x#y"
    served.set(EngineState.READY, licence=Licence(name, name, name, must_accept=True))
    assert (await client.put(f"/api/licences/{quote(name, safe='')}")).status_code == 204
    assert (await engine_of(client))["licence"]["accepted"] is True


async def test_only_the_operator_sees_what_other_servers_say(client: AsyncClient, served: FakeServed) -> None:
    secret = "The upstream at http://10.66.77.88:8000/v1 cannot be reached."
    served.set(EngineState.FAILED, "The model cannot be reached.", cause=secret)
    own = await engine_of(client)
    public = await client.get("/api/engine", headers={"X-Forwarded-For": "203.0.113.7"})
    # The page shows the detail to everybody, even on the operator's machine.
    assert own["detail"] == public.json()["detail"] == "The model cannot be reached."
    assert (own["cause"], public.json()["cause"]) == (secret, None)
    refused = await try_ask(client, await new_chat(client))
    assert is_problem(refused, 503, "no_model")
    for answer in (public, refused, await client.get("/ready")):
        assert "10.66" not in answer.text
