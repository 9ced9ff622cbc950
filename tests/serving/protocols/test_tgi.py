from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from typing import Any

import httpx
import pytest

from serving.engine import (
    Chunk,
    EngineState,
    GenerationFailed,
    Grammar,
    GrammarKind,
    Overloaded,
    TokenSpan,
    TopToken,
)
from serving.protocols import runner
from serving.protocols.application import create_app
from tests.serving.protocols.conftest import Connection, ask, client, events
from tests.support.fake_engine import FakeEngine, Step

EVERY_WAY = pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream"])


async def generate(*steps: Step, **parameters: Any) -> dict[str, Any]:
    answer = await ask("/generate", *steps, parameters={"details": True, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def stream(*steps: Step, **parameters: Any) -> list[dict[str, Any]]:
    answer = await ask("/generate_stream", *steps, parameters=parameters)
    assert answer.status_code == 200, answer.text
    return events(answer.text)


def error_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.json().keys() == {"error", "error_type"}
    return answer.status_code, answer.json()["error_type"]


HELLO = {"generated_text": "Hello you"}
TOKENS = [
    {"id": 5, "text": "Hello", "logprob": None, "special": False},
    {"id": 4, "text": " you", "logprob": None, "special": False},
    {"id": 0, "text": "", "logprob": None, "special": True},
]
DETAILS = {"finish_reason": "eos_token", "generated_tokens": 2, "seed": None, "stop_sequence": None}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/generate", {}, HELLO),
        ("/generate", {"stream": True}, HELLO),
        ("/", {}, [HELLO]),
        (
            "/generate",
            {"parameters": {"details": True}},
            HELLO | {"details": DETAILS | {"prefill": [], "tokens": TOKENS}},
        ),
    ],
)
async def test_whole_answers(path: str, body: Any, expected: Any) -> None:
    assert (await ask(path, "Hello", " you", **body)).json() == expected


async def test_a_prefix_is_accepted_by_engines_that_can_keep_it() -> None:
    class Keeping(FakeEngine):
        async def warm(self, beginning: str) -> None:
            self.kept = beginning

    engine = Keeping()
    for asked, status in ((engine, 202), (FakeEngine(), 204)):
        answer = await ask("/prefix", engine=asked, method="PUT", inputs="You are")
        assert answer.status_code == status
        assert (await ask("/prefix", engine=asked, method="PUT", content=b"{}")).status_code == 422
    assert engine.kept == "You are"


@pytest.mark.parametrize(("path", "body"), [("/generate_stream", {}), ("/", {"stream": True})])
async def test_streams_have_an_event_for_each_token_and_the_whole_text_in_the_last(
    path: str, body: Any
) -> None:
    answer = await ask(path, "Hello", " you", **body)
    assert answer.headers["content-type"] == "text/event-stream"
    common = {"generated_text": None, "details": None}
    assert events(answer.text) == [
        {"index": 1, "token": TOKENS[0], **common},
        {"index": 2, "token": TOKENS[1], **common},
        {"index": 3, "token": TOKENS[2], **HELLO, "details": DETAILS | {"input_length": 7}},
    ]


@pytest.mark.parametrize(
    ("steps", "parameters", "text", "stop"),
    [
        (["Hello\nHu", "man: no", "more"], {"stop": ["\nHuman:"]}, "Hello", "\nHuman:"),
        (["a", "b.c"], {"stop": ["."]}, "ab", "."),
        (["a", "b.c"], {"stop": ["."], "include_stop": True}, "ab.", "."),
    ],
)
async def test_a_stop_ends_the_text_with_and_without_a_stream(
    steps: list[str], parameters: dict[str, Any], text: str, stop: str
) -> None:
    for answer in (await generate(*steps, **parameters), (await stream(*steps, **parameters))[-1]):
        details = answer["details"]
        assert (answer["generated_text"], details["stop_sequence"]) == (text, stop)
        assert (details["finish_reason"], details["generated_tokens"]) == ("stop_sequence", 2)


async def test_full_text_has_the_prompt_before_it() -> None:
    assert (await generate("llo", return_full_text=True))["generated_text"] == "Hillo"
    assert (await stream("llo", return_full_text=True))[-1]["generated_text"] == "Hillo"


async def test_line_ends_of_every_kind_survive_the_stream() -> None:
    text = "a\r\nb\rc\u2028d\u0085e\n\nf"
    answer = await stream(*text)
    assert "".join(event["token"]["text"] for event in answer) == answer[-1]["generated_text"] == text


async def test_last_event_stays_shorter_than_clients_allow() -> None:
    for text in ("words " * 40_000, "\x01" * 200_000, "言" * 400_000):
        answer = await ask("/generate_stream", *(text[i : i + 999] for i in range(0, len(text), 999)))
        assert max(map(len, answer.content.split(b"\n"))) < 512 << 10
        assert text.startswith(events(answer.text)[-1]["generated_text"])


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, {"max_new_tokens": 100, "temperature": 0.0}),
        ({"max_new_tokens": None}, {"max_new_tokens": None}),
        ({"do_sample": True}, {"temperature": 1.0}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"top_p": 0.9}, {"temperature": 1.0, "top_p": 0.9}),
        ({"top_k": 5}, {"temperature": 1.0, "top_k": 5}),
        ({"typical_p": 0.5}, {"temperature": 1.0, "typical_p": 0.5}),
        ({"repetition_penalty": 1.1}, {"temperature": 0.0, "repetition_penalty": 1.1}),
        ({"frequency_penalty": 0.5}, {"temperature": 0.0, "frequency_penalty": 0.5}),
        ({"seed": 42}, {"seed": 42}),
        ({"truncate": 10}, {"truncate": 10}),
        ({"top_n_tokens": 2, "logprobs": False}, {"top_tokens": 2, "logprobs": True}),
        ({"adapter_id": "x"}, {"adapter_id": "x"}),
        ({"min_new_tokens": 3}, {"min_new_tokens": 3}),
        ({}, {"logprobs": True}),
        ({"logprobs": None}, {"logprobs": True}),
        ({"logprobs": False}, {"logprobs": False}),
        ({"grammar": {"type": "regex", "value": "a+"}}, {"grammar": Grammar(GrammarKind.REGEX, "a+")}),
        (
            {"grammar": {"type": "json", "value": {"type": "integer"}}},
            {"grammar": Grammar(GrammarKind.JSON, '{"type":"integer"}')},
        ),
        (
            {"grammar": {"type": "json_schema", "value": {"name": "n", "schema": {"type": "integer"}}}},
            {"grammar": Grammar(GrammarKind.JSON, '{"type":"integer"}')},
        ),
        (
            {"best_of": 1, "truncate": None, "watermark": False, "decoder_input_details": False,
             "top_n_tokens": None, "grammar": None, "adapter_id": None, "unknown": 1},
            {"max_new_tokens": 100},
        ),
    ],
)  # fmt: skip
async def test_parameters_reach_the_engine(parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    engine = FakeEngine("x")
    answer = await ask("/generate", engine=engine, parameters=parameters)
    assert answer.status_code == 200, answer.text
    ((prompt, params),) = engine.asked
    assert prompt == "Hi"
    assert {name: getattr(params, name) for name in expected} == expected


async def test_a_seed_is_chosen_and_reported_when_sampling() -> None:
    engine = FakeEngine("x")
    answer = await ask("/generate", engine=engine, parameters={"do_sample": True, "details": True})
    assert answer.json()["details"]["seed"] == engine.asked[0][1].seed


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_new_tokens": 0}, {"max_new_tokens": -1}, {"max_new_tokens": "9"}, {"temperature": 0},
        {"temperature": -1.0}, {"top_k": 0}, {"top_p": 1.0}, {"top_p": 0}, {"typical_p": 1.5},
        {"repetition_penalty": 0}, {"frequency_penalty": 3}, {"seed": -1}, {"stop": "text"}, {"stop": [""]},
        {"stop": ["x"] * 17}, {"stop": ["x" * 257]}, {"stop": [1]}, {"best_of": 0},
        {"best_of": 5, "do_sample": True}, {"best_of": 2}, {"best_of": 2, "do_sample": True, "seed": 1},
        {"truncate": 0}, {"watermark": True}, {"top_n_tokens": -1}, {"top_n_tokens": 6},
        {"min_new_tokens": -1}, {"min_new_tokens": 101}, {"grammar": "a"}, {"grammar": {"type": "regex"}},
        {"grammar": {"type": "regex", "value": 1}}, {"grammar": {"type": "json", "value": "text"}},
        {"grammar": {"type": "ebnf", "value": "a"}}, {"grammar": {"type": "regex", "value": "a" * 70_000}},
        {"temperature": math.nan}, {"temperature": math.inf}, {"top_p": math.nan}, [], "text",
    ],
)  # fmt: skip
@EVERY_WAY
async def test_parameters_that_cannot_be_honoured_are_refused(path: str, parameters: Any) -> None:
    engine = FakeEngine("x")
    answer = await ask(path, engine=engine, parameters=parameters)
    assert error_of(answer) == (422, "validation")
    assert answer.json()["error"].startswith("Input validation error: ")
    assert engine.asked == []


@pytest.mark.parametrize("parameters", [{"best_of": 2, "do_sample": True}, {"decoder_input_details": True}])
async def test_details_that_no_stream_can_have_are_refused(parameters: Any) -> None:
    for path, body in (("/generate_stream", {}), ("/", {"stream": True})):
        answer = await ask(path, "x", parameters=parameters, **body)
        assert answer.status_code == 422
        assert "stream" in answer.json()["error"]


async def test_only_the_tokens_after_truncation_are_listed() -> None:
    class Letters(FakeEngine):
        async def tokenize(self, text: str) -> list[TokenSpan]:
            return [TokenSpan(ord(letter), letter, at, at + 1) for at, letter in enumerate(text)]

    both = [{"id": ord(letter), "text": letter, "logprob": None} for letter in "Hi"]
    for truncate, tokens in ((1, both[1:]), (2, both), (9, both), (None, both)):
        parameters = {"decoder_input_details": True, "truncate": truncate}
        answer = await ask("/generate", engine=Letters("x"), parameters=parameters)
        assert answer.json()["details"]["prefill"] == tokens


async def test_the_likeliest_tokens_are_listed_with_each_token() -> None:
    step = Chunk(b"a", 5, logprob=-0.5, top=[TopToken(5, "a", -0.5), TopToken(6, "b", -1.5)])
    first = {"id": 5, "text": "a", "logprob": -0.5, "special": False}
    both = [first, {**first, "id": 6, "text": "b", "logprob": -1.5}]
    assert (await generate(step, top_n_tokens=2))["details"]["top_tokens"] == [both, []]
    assert (await stream(step, top_n_tokens=2))[0]["top_tokens"] == both


async def test_the_best_of_several_comes_with_the_others() -> None:
    answer = await generate(Chunk(b"a", 5, logprob=-0.5), best_of=3, do_sample=True)
    details = answer["details"]
    assert answer["generated_text"] == "a"
    others = details["best_of_sequences"]
    assert [other["generated_text"] for other in others] == ["a", "a"]
    assert len({details["seed"], *(other["seed"] for other in others)}) == 3
    assert others[0].keys() - details.keys() == {"generated_text"}


MALFORMED = [b"", b"{", b"[]", b'"x"', b"\xff", b'{"inputs": 1}', b'{"inputs": ""}', b"{}"]
TOO_LARGE = b" " * (runner.LARGEST_BODY + 1)


@pytest.mark.parametrize("body", [*MALFORMED, b'{"inputs":"\\ud800"}', TOO_LARGE], ids=lambda body: body[:20])
async def test_malformed_and_too_large_bodies_are_refused(body: bytes) -> None:
    answer = await ask("/generate", content=body)
    assert error_of(answer) == (413 if body is TOO_LARGE else 422, "validation")


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/", "/tokenize", "/prefix"])
async def test_deeply_nested_bodies_are_refused(path: str) -> None:
    body = b'{"inputs": "x", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = await ask(path, content=body, method="PUT" if path == "/prefix" else "POST")
    assert error_of(answer) == (422, "validation")


async def test_most_and_longest_stops_are_accepted() -> None:
    assert (await generate("ab", stop=[c * 256 for c in "abcdefghijklmnop"]))["generated_text"] == "ab"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("POST", "/info", 405), ("GET", "/generate", 405), ("POST", "/v2/x", 404)],
)
async def test_unknown_routes_and_wrong_methods_are_json_errors(method: str, path: str, status: int) -> None:
    assert error_of(await ask(path, method=method))[0] == status


@pytest.mark.usefixtures("impatient")
async def test_errors_after_a_comment_but_before_text_keep_their_type(held: asyncio.Event) -> None:
    engine = FakeEngine(before=[held, Overloaded("full")])
    connection = Connection(create_app(engine), "/generate_stream")
    await connection.sends(b":\n\n")
    held.set()
    event = await connection.sends(b"data: ")
    assert json.loads(event[6:]) == {"error": "full", "error_type": "overloaded"}
    await connection.ended()


async def test_ending_reports_to_streams_and_admits_no_more_requests(held: asyncio.Event) -> None:
    engine = FakeEngine("x", held)
    app = create_app(engine)
    connection = Connection(app, "/generate_stream")
    await engine.waiting.wait()
    app.runner.admission.end()
    await connection.ended()
    sent = [connection.sent.get_nowait() for _ in range(connection.sent.qsize())]
    assert b'"error_type":"incomplete_generation"' in sent[-2]["body"]
    assert sent[-1].get("more_body", False) is False
    async with client(app) as http:
        assert (await http.post("/generate", json={"inputs": "Hi"})).status_code == 503


async def test_key_is_needed_for_everything_but_health() -> None:
    async with client(FakeEngine("x"), api_key="secret") as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            assert error_of(await http.get("/info", headers=headers)) == (401, "unauthorized")
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/info", headers={"Authorization": "Bearer secret"})).status_code == 200


async def test_health_and_info_follow_the_state_of_the_engine() -> None:
    engine = FakeEngine()
    engine.becomes(EngineState.LOADING, "Loading it.")
    async with client(engine) as http:
        health, info = await http.get("/health"), await http.get("/info")
        assert (health.status_code, info.status_code) == (503, 200)
        assert health.json() == {"error": "Loading it.", "error_type": "unhealthy"}
        assert (info.json()["state"], info.json()["state_detail"]) == ("loading", "Loading it.")
        engine.becomes(EngineState.READY)
        assert (await http.get("/health")).status_code == 200
        info = (await http.get("/info")).json()
    assert info["model_id"] == "fake-model"
    assert (info["max_total_tokens"], info["max_stop_sequences"]) == (4096, 16)
    assert (info["max_concurrent_requests"], info["chat_template"]) == (512, None)


async def test_tokenize_returns_spans_if_the_engine_can() -> None:
    answer = await ask("/tokenize")
    assert answer.json() == [{"id": 1, "text": "Hi", "start": 0, "stop": 2}]

    class Mute(FakeEngine):
        async def tokenize(self, text: str) -> None:
            return None

    assert error_of(await ask("/tokenize", engine=Mute())) == (404, "not_found")


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SLOWEST_READ_SECONDS", 0.0)
    engine, never = FakeEngine("a", "b"), asyncio.Event()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await never.wait()

    await Connection(create_app(engine), "/generate_stream", send).ended()
    assert engine.running == 0
    assert engine.cancelled.is_set()


async def test_metrics_count_requests_successes_and_failures() -> None:
    engine = FakeEngine(Chunk(b"x"), Chunk(b"y"))
    async with client(engine) as http:
        await http.post("/generate", json={"inputs": "Hi"})
        await http.post("/generate_stream", json={"inputs": "Hi"})
        await http.post("/generate", json={"inputs": ""})
        engine.steps = [GenerationFailed("no")]
        await http.post("/generate_stream", json={"inputs": "Hi"})
        lines = (await http.get("/metrics")).text.splitlines()
    assert {*lines} >= {
        *("tgi_request_count 4", "tgi_request_success 2", "tgi_queue_size 0", "tgi_batch_current_size 0"),
        *('tgi_request_failure{err="validation"} 1', 'tgi_request_failure{err="generation"} 1'),
        *("tgi_request_generated_tokens_sum 4", "tgi_request_generated_tokens_count 2"),
        *("tgi_request_input_length_sum 14", 'tgi_request_input_length_bucket{le="16"} 2'),
        'tgi_request_duration_bucket{le="+Inf"} 2',
        "tgi_request_mean_time_per_token_duration_count 2",
    }
    assert not any("prompt_tokens" in line for line in lines)  # this engine reports none


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"n": 4}),
        ("/v1/completions", {"n": 4, "stream": True}),
        ("/generate", {"parameters": {"best_of": 4, "do_sample": True}}),
    ],
)
async def test_metrics_count_waiting_and_running_texts_of_one_request(
    path: str, body: Any, held: asyncio.Event
) -> None:
    engine = FakeEngine(Chunk(b"x", logprob=-1.0), held)
    engine.info = replace(engine.info, waiting=3)
    app = create_app(engine)
    connection = Connection(app, path, **body)
    await engine.waiting.wait()
    async with client(app) as http:
        lines = (await http.get("/metrics")).text.splitlines()
        assert {"tgi_queue_size 3", "tgi_batch_current_size 1"} <= {*lines}
        engine.info = replace(engine.info, waiting=0)
        held.set()
        await connection.ended()
        assert "tgi_batch_current_size 0" in (await http.get("/metrics")).text.splitlines()


async def test_an_answer_has_a_limit_however_lively_it_is_and_its_text_is_told() -> None:
    engine = FakeEngine("Hello", asyncio.Event())
    async with client(engine, total_seconds=0.05) as http:
        streamed = events((await http.post("/generate_stream", json={"inputs": "Hi"})).text)
        whole = await http.post("/generate", json={"inputs": "Hi"})
    message = "The answer was not complete within 0.05 seconds."
    assert streamed[0]["token"]["text"] == "Hello"
    assert streamed[-1] == {"error": message, "error_type": "incomplete_generation"}
    assert (whole.status_code, whole.json()["error"]) == (500, message)
    assert engine.cancelled.is_set()
    assert engine.running == 0
