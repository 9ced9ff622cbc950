from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.engine import (
    Accepted,
    Chat,
    Chunk,
    End,
    EngineInfo,
    EngineState,
    FinishReason,
    GenerationFailed,
    Grammar,
    GrammarKind,
    IncompleteGeneration,
    Infill,
    InvalidRequest,
    Overloaded,
    Prompt,
    SamplingParams,
    ServingError,
    TokenSpan,
    TopToken,
    Unhealthy,
)
from serving.engines.tgi_client import TgiUpstream
from serving.generation import GenerationRequest, collect
from serving.generation import generate as generate_around
from serving.models.catalogue import Infilling
from tests.serving.conftest import serve
from tests.serving.engines.conftest import (
    PARAMS,
    becomes,
    failure_of,
    happens,
    is_cancelled_at,
    pieces,
    remote,
)
from tests.support.fake_tgi import REACHED, FakeTGI, last, token

Engine = contextlib.AbstractAsyncContextManager[TgiUpstream]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeTGI]:
    async with FakeTGI().running() as upstream:
        yield upstream


def engine(upstream: FakeTGI, **options: Any) -> Engine:
    return remote(TgiUpstream, upstream, **options)


@pytest.fixture
async def asked(upstream: FakeTGI) -> AsyncIterator[TgiUpstream]:
    async with engine(upstream) as asked:
        yield asked


async def events_of(engine: TgiUpstream, prompt: Prompt = "Hi", params: SamplingParams = PARAMS) -> list[Any]:
    return [event async for event in engine.generate(prompt, params)]


async def failure(upstream: FakeTGI, **limits: float) -> tuple[list[Any], ServingError]:
    async with engine(upstream, **limits) as asked:
        return await failure_of(asked)


def as_event(event: dict[str, Any]) -> bytes:
    return f"data:{json.dumps(event, ensure_ascii=False)}\n\n".encode()


async def test_a_stream_has_tokens_chances_reason_and_counts(upstream: FakeTGI, asked: TgiUpstream) -> None:
    likely = [{"id": 4, "text": " you", "logprob": -0.5, "special": False}, {"id": 5, "text": " me"}]
    upstream.answers.append(
        [
            token("Hello", id=3, logprob=-1.5),
            {**token(" you", id=4, logprob=-0.5), "top_tokens": likely},
            last("", generated_tokens=2, input_length=9),
        ]
    )
    assert await events_of(asked) == [
        Accepted(None),
        Chunk(b"Hello", 3, logprob=-1.5),
        Chunk(b" you", 4, logprob=-0.5, top=(TopToken(4, " you", -0.5), TopToken(5, " me", 0.0))),
        Chunk(b"", 1),
        End(FinishReason.END_OF_TEXT, 9, 2),
    ]


async def test_a_special_token_is_reported_and_is_no_text(upstream: FakeTGI, asked: TgiUpstream) -> None:
    end = {**last(), "token": {"id": 2, "text": "<|im_end|>", "logprob": -0.1, "special": True}}
    upstream.answers.append([token("Hello"), end])
    events = await events_of(asked)
    assert events[2] == Chunk(b"", 2, logprob=-0.1, special="<|im_end|>")


@pytest.mark.parametrize("name", ["length", "eos_token", "stop_sequence"])
async def test_finish_reasons(upstream: FakeTGI, asked: TgiUpstream, name: str) -> None:
    upstream.answers.append([last("x", name)])
    reason = FinishReason.LENGTH if name == "length" else FinishReason.END_OF_TEXT
    assert (await events_of(asked))[-1].finish_reason is reason


async def test_an_end_without_details_is_an_end(upstream: FakeTGI, asked: TgiUpstream) -> None:
    for most, reason in ((20, FinishReason.END_OF_TEXT), (2, FinishReason.LENGTH)):
        upstream.answers.append([token("a"), {**token("b"), "generated_text": "ab", "details": None}])
        params = SamplingParams(max_new_tokens=most, seed=5)
        assert (await events_of(asked, params=params))[-1] == End(reason)


async def test_a_request_is_complete_and_has_no_stop_sequence(upstream: FakeTGI) -> None:
    upstream.answers.append([last()])
    params = SamplingParams(
        max_new_tokens=9,
        seed=3,
        temperature=0.5,
        top_k=4,
        top_p=0.9,
        typical_p=0.8,
        repetition_penalty=1.2,
        frequency_penalty=0.1,
        truncate=7,
        grammar=Grammar(GrammarKind.JSON, '{"type": "object"}'),
        adapter_id="mine",
        top_tokens=2,
    )
    async with engine(upstream, api_key="key") as asked:
        [_ async for _ in asked.generate("Hi", params, session="chat")]
    assert upstream.requests == [
        {
            "inputs": "Hi",
            "parameters": {
                "max_new_tokens": 9, "do_sample": True, "details": True, "return_full_text": False, "seed": 3,
                "temperature": 0.5, "top_k": 4, "top_p": 0.9, "typical_p": 0.8, "repetition_penalty": 1.2,
                "frequency_penalty": 0.1, "truncate": 7, "adapter_id": "mine", "top_n_tokens": 2,
                "grammar": {"type": "json", "value": {"type": "object"}},
            },
        }
    ]  # fmt: skip
    assert upstream.headers[-1]["Authorization"] == "Bearer key"
    assert upstream.headers[-1]["X-Session-Id"] == "chat"


async def test_temperature_zero_sends_no_sampling_parameters(upstream: FakeTGI, asked: TgiUpstream) -> None:
    upstream.answers += [[last()], [last()]]
    await events_of(asked, params=SamplingParams(max_new_tokens=None, seed=3, top_k=4, top_p=0.9))
    params = SamplingParams(
        max_new_tokens=1,
        seed=3,
        temperature=1,
        top_p=1.0,
        typical_p=1.0,
        grammar=Grammar(GrammarKind.REGEX, "a+"),
    )
    await events_of(asked, params=params)
    greedy, drawn = (request["parameters"] for request in upstream.requests)
    assert greedy == {
        "max_new_tokens": 1024, "do_sample": False, "details": True, "return_full_text": False
    }  # fmt: skip
    assert "top_p" not in drawn
    assert "typical_p" not in drawn
    assert drawn["grammar"] == {"type": "regex", "value": "a+"}


@pytest.mark.parametrize("name", ["min_new_tokens", "presence_penalty"])
async def test_parameters_tgi_lacks_are_refused(upstream: FakeTGI, asked: TgiUpstream, name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        await events_of(asked, params=SamplingParams(**{"max_new_tokens": 9, "seed": 3, name: 1}))
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("error_type", "error"),
    [
        ("validation", InvalidRequest), ("overloaded", Overloaded), ("generation", GenerationFailed),
        ("incomplete_generation", IncompleteGeneration), ("unhealthy", Unhealthy), ("else", GenerationFailed),
        ("incomplete_generation_stream", IncompleteGeneration), (None, GenerationFailed),
    ],
)  # fmt: skip
async def test_an_error_at_the_start_of_a_stream_keeps_its_type(
    upstream: FakeTGI, error_type: str | None, error: type[ServingError]
) -> None:
    upstream.answers.append([{"error": "Input validation error: why", "error_type": error_type}])
    outputs, caught = await failure(upstream)
    assert outputs == []  # the request was not accepted
    assert type(caught) is error
    assert "why" in str(caught)
    assert (str(caught) == "why") is (error is InvalidRequest)


async def test_an_error_after_text_is_incomplete_and_keeps_the_text(upstream: FakeTGI) -> None:
    upstream.answers.append([token("Hello"), {"error": "CUDA died", "error_type": "generation"}])
    outputs, error = await failure(upstream)
    assert outputs == [Accepted(None), Chunk(b"Hello", 1)]
    assert isinstance(error, IncompleteGeneration)
    assert "CUDA died" in str(error)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest), (413, InvalidRequest), (422, InvalidRequest), (429, Overloaded),
        (401, GenerationFailed), (404, GenerationFailed), (424, GenerationFailed),
        (500, IncompleteGeneration), (503, Unhealthy),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", ["<html>no</html>", '{"error": "why", "error_type": "x"}', ""])
async def test_each_status_has_its_error(
    upstream: FakeTGI, status: int, error: type[ServingError], body: str
) -> None:
    upstream.answers.append(web.Response(status=status, text=body, headers={"Retry-After": "17"}))
    outputs, caught = await failure(upstream)
    assert outputs == []
    assert type(caught) is error
    assert str(caught)
    assert "html" not in str(caught)
    if "why" in body and status != 401:
        assert "why" in str(caught)
    assert getattr(caught, "retry_after", 17) == 17


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"data: <html>\n\n"], id="no JSON"),
        pytest.param([b'data: {"token": 1}\n\n'], id="JSON of another shape"),
        pytest.param([b'data: {"index": 1}\n\n'], id="no token"),
        pytest.param([b'data: {"token": {"id": 1'], id="half an event"),
        pytest.param([last("", "tired")], id="unknown reason"),
        pytest.param([0.05, ConnectionResetError], id="reset"),
    ],
)
async def test_a_broken_answer_keeps_its_text(upstream: FakeTGI, broken: list[Any]) -> None:
    upstream.answers.append([token("Hello"), *broken])
    outputs, error = await failure(upstream)
    assert b"".join(event.data for event in outputs if isinstance(event, Chunk)) == b"Hello"
    assert type(error) is IncompleteGeneration


async def test_a_server_that_sends_only_comments_is_silent(upstream: FakeTGI) -> None:
    """A router whose engine hangs goes on sending comments."""
    comments = [part for _ in range(200) for part in (b":\n\n", 0.01)]
    for begun, limits in (([], {"first": 0.1}), ([token("Hello")], {"between": 0.1})):
        upstream.left.clear()
        upstream.answers.append([*begun, *comments])
        outputs, error = await failure(upstream, **limits)
        assert len(outputs) == 2 * len(begun)
        assert "nothing for 0.1 seconds" in str(error)
        await happens(upstream.left)


@pytest.mark.parametrize("beginning", [[], [token("x")]])
async def test_cancelling_disconnects(upstream: FakeTGI, asked: TgiUpstream, beginning: list[Any]) -> None:
    upstream.answers.append([*beginning, REACHED, asyncio.Event()])
    await is_cancelled_at(upstream.reached, asyncio.create_task(events_of(asked)), upstream.left)


async def test_our_stop_sequence_ends_the_computation(upstream: FakeTGI, asked: TgiUpstream) -> None:
    upstream.answers.append([token("a\nHu"), token("man: b"), asyncio.Event()])
    events = generate_around(asked, GenerationRequest("Hi", PARAMS, ["\nHuman:"]))
    assert (await collect(events, seed=5)).text == "a"
    await happens(upstream.left)


PARTS = st.lists(st.text(max_size=8), min_size=1, max_size=6)


# The same server answers all examples.
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), texts=PARTS, newline=st.sampled_from([b"\n", b"\r\n"]))
async def test_however_the_bytes_are_cut_the_text_is_the_same(
    upstream: FakeTGI, asked: TgiUpstream, data: st.DataObject, texts: list[str], newline: bytes
) -> None:
    events = b"".join([*(as_event(token(text)) + b":\n\n" for text in texts), as_event(last(""))])
    answer = events.replace(b"\n", newline)
    upstream.answers.append([part for piece in pieces(data, answer) for part in (piece, 0.0)])
    chunks = [event for event in await events_of(asked) if isinstance(event, Chunk)]
    assert b"".join(chunk.data for chunk in chunks).decode() == "".join(texts)


async def test_model_and_context_come_from_info(upstream: FakeTGI) -> None:
    upstream.info = {"model_id": "bigcode/starcoder2-3b", "max_total_tokens": 2048, "max_batch_size": 4}
    async with engine(upstream) as asked:
        assert asked.info == EngineInfo(
            engine="tgi", state=EngineState.READY, model_id="bigcode/starcoder2-3b", context=2048, parallel=4
        )


async def test_another_serving_layer_reports_more(upstream: FakeTGI) -> None:
    marks = {"prefix": "<P>", "suffix": "<S>", "middle": "<M>"}
    upstream.info = {
        "model_id": "m", "max_total_tokens": 64, "state": "ready", "chat_template": "{{ x }}",
        "bos_token": "<s>", "eos_token": "</s>", "adapters": ["a"], "infilling": marks,
        "parameters": 135,
    }  # fmt: skip
    upstream.answers.append([last("y")])
    async with engine(upstream) as asked:
        info = asked.info
        assert (info.chat_template, info.bos_token, info.eos_token) == ("{{ x }}", "<s>", "</s>")
        assert info.parameters == 135
        assert (list(info.adapters), info.infilling) == (["a"], Infilling("<P>", "<S>", "<M>"))
        await events_of(asked, Infill("x", "z"))
    assert upstream.requests[0]["inputs"] == "<P>x<S>z<M>"


@pytest.mark.parametrize(
    ("info", "health", "model", "state", "message"),
    [
        (None, 200, None, EngineState.FAILED, "answers 502"),
        ({"hello": 1}, 200, None, EngineState.FAILED, "no /info"),
        ({"model_id": "m", "max_input_tokens": 1}, 503, None, EngineState.FAILED, "not healthy"),
        ({"model_id": "m", "max_input_tokens": 1}, 200, "n", EngineState.FAILED, "no model 'n', but: m"),
        (
            {"model_id": None, "max_total_tokens": None, "state": "fetching", "state_detail": "Half."},
            200, None, EngineState.LOADING, "not ready: Half.",
        ),
        (
            {"model_id": None, "max_total_tokens": None, "state": "failed"},
            200, None, EngineState.FAILED, "not ready: failed.",
        ),
    ],
)  # fmt: skip
async def test_an_unusable_upstream_says_why(
    upstream: FakeTGI, info: Any, health: int, model: str | None, state: EngineState, message: str
) -> None:
    upstream.info, upstream.health = info, health
    async with engine(upstream, model=model) as asked:
        assert asked.info.state is state
        assert message in (asked.info.state_detail or "")
        with pytest.raises(Unhealthy):
            await events_of(asked)


async def test_an_ill_upstream_is_checked_again(upstream: FakeTGI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engines.remote.CHECK_SOON_SECONDS", 0.02)
    upstream.answers.append(web.Response(status=503))
    async with engine(upstream) as asked:
        upstream.health = 503
        with pytest.raises(Unhealthy):
            await events_of(asked)

        await becomes(asked, EngineState.FAILED)
        upstream.health = 200
        await becomes(asked, EngineState.READY)


async def test_the_upstream_applies_its_chat_template(upstream: FakeTGI) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    upstream.templated = {"tokenize_response": [], "templated_text": "<user>Hi<assistant>"}
    upstream.answers.append([last("x")])
    async with engine(upstream) as asked:
        assert asked.info.chats
        await events_of(asked, Chat(messages))
    assert upstream.requests[0]["inputs"] == "<user>Hi<assistant>"
    assert upstream.chats[-1]["messages"] == messages


async def test_the_beginning_of_text_token_is_not_sent_twice(upstream: FakeTGI, asked: TgiUpstream) -> None:
    def span(id: int, text: str, start: int, stop: int) -> dict[str, Any]:
        return {"id": id, "text": text, "start": start, "stop": stop}

    tokens = [span(1, "", 0, 0), span(1, "<s>", 0, 3), span(7, "Hi", 3, 5)]
    for spans, inputs in ((tokens, "Hi"), (tokens[1:], "<s>Hi"), ([], "<s>Hi")):
        upstream.templated = {"tokenize_response": spans, "templated_text": "<s>Hi"}
        upstream.answers.append([last("x")])
        await events_of(asked, Chat([]))
        assert upstream.requests[-1]["inputs"] == inputs


async def test_without_templates_and_markers_there_are_no_chats_and_no_infilling(upstream: FakeTGI) -> None:
    async with engine(upstream) as asked:
        assert not asked.info.chats
        with pytest.raises(InvalidRequest, match="chat"):
            await events_of(asked, Chat([]))
        with pytest.raises(InvalidRequest, match="middle"):
            await events_of(asked, Infill("a", "b"))
    upstream.info = {"model_id": "bigcode/starcoder2-3b", "max_total_tokens": 2048}
    upstream.answers.append([last("x")])
    async with engine(upstream) as asked:
        await events_of(asked, Infill("a", "b"))
        with pytest.raises(InvalidRequest, match="fim_middle"):
            await events_of(asked, Infill("a<fim_middle>", "b"))
    assert upstream.requests[0]["inputs"] == "<fim_prefix>a<fim_suffix>b<fim_middle>"


async def test_tokenize_returns_spans_or_none(upstream: FakeTGI, asked: TgiUpstream) -> None:
    upstream.spans = [{"id": 5, "text": "He", "start": 0, "stop": 2}]
    assert await asked.tokenize("He") == [TokenSpan(5, "He", 0, 2)]
    for unknown in ([{"id": 0}], {"no": 1}, web.Response(status=404)):
        upstream.spans = unknown
        assert await asked.tokenize("He") is None
    upstream.spans = web.json_response({"error": "too long", "error_type": "validation"}, status=422)
    with pytest.raises(InvalidRequest, match="too long"):
        await asked.tokenize("He")


async def test_the_program_serves_it(upstream: FakeTGI) -> None:
    upstream.answers.append([token("a\nHu"), token("man: b"), last("")])
    async with serve("--upstream", upstream.url) as served:
        info = await served.becomes("ready")
        assert (info["engine"], info["model_id"], info["max_total_tokens"]) == ("tgi", "fake", 4096)
        body = {"inputs": "Hi", "parameters": {"stop": ["\nHuman:"], "details": True}}
        status, answer = await served.post("/generate", body)
        assert (status, answer["generated_text"]) == (200, "a")
        upstream.answers.append([{"error": "Input validation error: too long", "error_type": "validation"}])
        assert await served.post("/generate", body) == (
            422,
            {"error": "Input validation error: too long", "error_type": "validation"},
        )
