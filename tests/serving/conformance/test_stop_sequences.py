"""The conformance list of stop sequences, through the running server, for each engine.

Each case is requested in every way that TGI's protocol has. All answers must match `cases.py` to the byte.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from tests.serving.conformance.cases import CASES, HUMAN, OPENAI, TGI, Case
from tests.serving.conformance.conftest import ENGINES
from tests.serving.conformance.engines import FOR_EVER, ScriptedEngine, spelled
from tests.serving.conftest import PATIENCE, events_of, eventually
from tests.serving.test_stopping import must_wait
from tests.support.scripted_gguf import prompt

pytestmark = pytest.mark.asyncio(loop_scope="session")


def each(cases: Iterable[Case], number: int | None = None) -> list[Any]:
    """Each case with each of its engines. It counts as the given case number, or as its own."""
    cases = list(cases)
    return [
        pytest.param(engine, case, marks=pytest.mark.of_case(number or case.number), id=f"{engine}-{place}")
        for engine in ENGINES
        for place, case in enumerate(cases)
        if engine in case.only
    ]


@pytest.mark.parametrize(("engine", "case"), each(CASES))
async def test_every_way_to_ask_gives_the_written_text(scripted: ScriptedEngine, case: Case) -> None:
    inputs = scripted.play(case)
    before = inputs if case.asked.get("return_full_text") else ""
    text = before + case.shown
    expected = (case.reason, case.stop, scripted.counted(case))

    for details in (None, False):
        events = await stream(scripted, inputs, asked(case, details=details))
        assert before + "".join(event["token"]["text"] for event in events) == text
        assert [event["index"] for event in events] == list(range(1, len(events) + 1))
        assert [event["generated_text"] for event in events] == [None] * (len(events) - 1) + [text]
        end = events[-1]["details"]
        assert (end["finish_reason"], end["stop_sequence"], end["generated_tokens"]) == expected

    status, whole = await scripted.served.post("/generate", generation(inputs, case, details=True))
    assert status == 200, whole
    assert whole["generated_text"] == text
    end = whole["details"]
    assert (end["finish_reason"], end["stop_sequence"], end["generated_tokens"]) == expected
    with_details = await stream(scripted, inputs, asked(case))
    assert end["tokens"] == [event["token"] for event in with_details]

    plain, body = {"generated_text": text}, generation(inputs, case, details=False)
    assert await scripted.served.post("/generate", body) == (200, plain)
    assert await scripted.served.post("/", generation(inputs, case)) == (200, [plain])


PLAIN = [case for case in CASES if not case.asked and case.number != 23]


@pytest.mark.parametrize(("engine", "case"), each(PLAIN, 31))
async def test_no_event_holds_back_more_than_may_become_a_stop(scripted: ScriptedEngine, case: Case) -> None:
    seen, shown = b"", ""
    events = await stream(scripted, scripted.play(case), asked(case))
    for event, step in zip(events[:-1], scripted.steps(case), strict=False):
        seen += spelled(step)
        shown += event["token"]["text"]
        safe = seen[: len(seen) - must_wait(case.stops, seen)]
        assert shown == safe.decode(errors="ignore")  # without an incomplete character at the end


@pytest.mark.of_case(31)
@pytest.mark.parametrize("engine", [OPENAI, TGI])
async def test_safe_text_is_shown_while_the_upstream_is_silent(scripted: ScriptedEngine) -> None:
    says = {"so": "so", "\nHum": "", "ble ": "\nHumble ", "pie\n": "pie", "\n": "\n", "Human": ""}
    gates = [asyncio.Event() for _ in says]
    upstream = scripted.upstream
    assert upstream is not None
    events = [upstream.event(text.encode()) for text in says]
    upstream.answer(*itertools.chain(*zip(events, gates, strict=True)), upstream.event(b": hi"))
    body = {"inputs": "The question.", "parameters": {"stop": [HUMAN]}}
    async with scripted.served.http.post(f"{scripted.served.url}/generate_stream", json=body) as answer:
        for gate, shown in zip(gates, says.values(), strict=True):
            (event,) = events_of(await answer.content.readuntil(b"\n\n"))
            assert event["token"]["text"] == shown
            gate.set()
        (event,) = events_of(await answer.content.readuntil(b"\n\n"))
        assert event["generated_text"] == "so\nHumble pie\n"
        assert event["details"]["stop_sequence"] == HUMAN


@pytest.mark.of_case(28)
@pytest.mark.parametrize("engine", [TGI])
async def test_an_engine_without_a_minimum_of_tokens_refuses_it(scripted: ScriptedEngine) -> None:
    await refused(scripted, {"min_new_tokens": 2}, "`min_new_tokens` is not supported by this engine")


@pytest.mark.of_case(29)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stops", [[""], ["a", ""]])
async def test_an_empty_stop_is_refused(scripted: ScriptedEngine, stops: list[str]) -> None:
    await refused(scripted, {"stop": stops}, "`stop` must not contain an empty string")


@pytest.mark.of_case(30)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("stops", "message"),
    [
        (["a"] * 17, "`stop` supports up to 16 stop sequences. Given: 17"),
        (["🦉" * 257], "`stop` supports sequences of up to 256 characters. Given: 257"),
    ],
)
async def test_too_many_and_too_long_stops_are_refused(
    scripted: ScriptedEngine, stops: list[str], message: str
) -> None:
    await refused(scripted, {"stop": stops}, message)


async def refused(scripted: ScriptedEngine, parameters: dict[str, Any], message: str) -> None:
    """Every way is refused, before the request reaches the engine."""
    asked_before = len(scripted.upstream.requests) if scripted.upstream else 0
    for path in ("/generate", "/generate_stream", "/"):
        status, answer = await scripted.served.post(path, {"inputs": "a", "parameters": parameters})
        assert (status, answer["error_type"]) == (422, "validation")
        assert message in answer["error"]
    assert asked_before == (len(scripted.upstream.requests) if scripted.upstream else 0)


@pytest.mark.of_case(37)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
async def test_a_client_that_leaves_while_text_is_held_back_cancels_the_engine(
    scripted: ScriptedEngine, path: str
) -> None:
    succeeded = await metric(scripted, "tgi_request_success")
    if scripted.upstream is not None:
        scripted.upstream.left.clear()
        scripted.upstream.reached.clear()
        scripted.upstream.answer(scripted.upstream.event(b"a\nHum"), asyncio.Event())
    stops = ["\n" * 255 + "x", HUMAN]
    body = {"inputs": prompt(FOR_EVER), "parameters": {"max_new_tokens": None, "stop": stops}}
    asking = asyncio.ensure_future(scripted.served.post(path, body))
    async with asyncio.timeout(PATIENCE):
        if scripted.upstream is not None:
            await scripted.upstream.reached.wait()
        else:
            await eventually(lambda: metric(scripted, "tgi_batch_current_size"))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled()
        if scripted.upstream is not None:
            await scripted.upstream.left.wait()

    async def nothing_runs() -> bool:
        return await metric(scripted, "tgi_batch_current_size") == 0

    await eventually(nothing_runs)
    assert await metric(scripted, "tgi_request_success") == succeeded


async def metric(scripted: ScriptedEngine, name: str) -> float:
    _, lines = await scripted.served.get("/metrics")
    values = dict(line.rsplit(" ", 1) for line in lines.decode().splitlines() if not line.startswith("#"))
    return float(values[name])


def generation(inputs: str, case: Case, **more: Any) -> dict[str, Any]:
    return {"inputs": inputs, "parameters": asked(case, **more)}


def asked(case: Case, **more: Any) -> dict[str, Any]:
    return {"max_new_tokens": case.limit or 200, "stop": list(case.stops), **case.asked, **more}


async def stream(scripted: ScriptedEngine, inputs: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream, from its raw bytes."""
    body = {"inputs": inputs, "parameters": parameters}
    return events_of(await scripted.served.streamed("/generate_stream", body))
