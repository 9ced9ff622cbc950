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
    EngineState,
    FinishReason,
    GenerationFailed,
    Grammar,
    GrammarKind,
    IncompleteGeneration,
    Infill,
    InvalidRequest,
    Overloaded,
    SamplingParams,
    ServingError,
    TopToken,
    Unhealthy,
)
from serving.engines.event_stream import LONGEST_LINE
from serving.engines.openai_client import OpenAIUpstream
from tests.serving.conftest import PATIENCE
from tests.serving.engines.conftest import (
    PARAMS,
    becomes,
    failure_of,
    happens,
    is_cancelled_at,
    pieces,
    remote,
    running,
)
from tests.support.fake_upstream import DONE, RESET, FakeUpstream, data, piece, text, usage

Engine = contextlib.AbstractAsyncContextManager[OpenAIUpstream]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


def engine(upstream: FakeUpstream, **options: Any) -> Engine:
    return remote(OpenAIUpstream, upstream, **options)


@pytest.fixture
async def asked(upstream: FakeUpstream) -> AsyncIterator[OpenAIUpstream]:
    async with engine(upstream) as asked:
        yield asked


async def generate(engine: OpenAIUpstream, params: SamplingParams = PARAMS) -> tuple[str, End]:
    events = [event async for event in engine.generate("Hi", params)]
    assert events[0] == Accepted(None)
    assert isinstance(events[-1], End)
    data = b"".join(event.data for event in events if isinstance(event, Chunk))
    return data.decode(), events[-1]


async def failure(upstream: FakeUpstream, **options: Any) -> tuple[str, ServingError]:
    """The text that came before the generation failed, and how it failed."""
    async with engine(upstream, **options) as asked:
        outputs, error = await failure_of(asked)
    return b"".join(output.data for output in outputs if isinstance(output, Chunk)).decode(), error


COUNTS = {"prompt_tokens": 3, "completion_tokens": 1}


def broken(text: bytes) -> bytes:
    return b'data: {"choices": [{"text": "' + text + b'"}]}\n\n'


COMMENTS = b": ping\n\nevent: x\nid: 4\nretry: 5\n\n"
STOP = piece("", "stop")
DEEP = b'{"error": ' + b"[" * 100_000
OWL = "a \N{OWL} b"
MULTIBYTE = "Grüße 🦉\r\n\u2028"
BYTES = b"".join(step for step in text("Grüße", " 🦉", "\r\n\u2028") if isinstance(step, bytes))


@pytest.mark.parametrize(
    ("steps", "expected", "end"),
    [
        pytest.param(text("Hello", " you"), "Hello you", (7, 2), id="counts after the text"),
        pytest.param([piece("x", "stop", usage=COUNTS), usage(9, 9)], "x", (3, 1), id="counts with the text"),
        pytest.param([piece("Hello"), STOP, DONE], "Hello", (None, None), id="no counts"),
        pytest.param([piece("Hello"), STOP], "Hello", (None, None), id="no counts and nothing else"),
        pytest.param([broken(b"a \xf0\x9f"), broken(b"\xa6\x89 b"), STOP], OWL, None, id="cut in bytes"),
        pytest.param([broken(b"a \xf0"), broken(b"\x9f\xa6\x89 b"), STOP], OWL, None, id="cut after a byte"),
        pytest.param([broken(b"a \\ud83e"), broken(b"\\udd89 b"), STOP], OWL, None, id="cut in surrogates"),
        pytest.param(
            [broken(b"a\\udd89"), broken(b"\\ud83e"), broken(b"b"), STOP],
            "a\ufffd\ufffdb",
            None,
            id="surrogates without a partner",
        ),
        pytest.param(
            [COMMENTS, piece("a", extra={"deep": [1]}), COMMENTS, piece("b", "stop"), DONE],
            "ab",
            None,
            id="comments and unknown fields",
        ),
        pytest.param([BYTES[i : i + 1] for i in range(len(BYTES))], MULTIBYTE, None, id="byte by byte"),
        pytest.param([BYTES], MULTIBYTE, None, id="all at once"),
        pytest.param([BYTES.replace(b"\n", b"\r\n")], MULTIBYTE, None, id="lines that end in CRLF"),
    ],
)
async def test_the_text_and_its_counts_come_from_the_stream(
    upstream: FakeUpstream,
    asked: OpenAIUpstream,
    steps: list[Any],
    expected: str,
    end: tuple[int | None, int | None] | None,
) -> None:
    upstream.answer(*steps)
    found, found_end = await generate(asked)
    assert (found, found_end.finish_reason) == (expected, FinishReason.END_OF_TEXT)
    assert end in (None, (found_end.input_tokens, found_end.generated_tokens))


async def test_the_length_limit_is_reported(upstream: FakeUpstream, asked: OpenAIUpstream) -> None:
    upstream.answer(*text("Hello", finish_reason="length"))
    assert (await generate(asked))[1].finish_reason is FinishReason.LENGTH


async def test_a_request_is_complete_and_has_no_stop_sequence(upstream: FakeUpstream) -> None:
    upstream.answer(*text("x"))
    params = SamplingParams(
        max_new_tokens=9,
        seed=3,
        temperature=0.5,
        top_k=4,
        top_p=0.9,
        repetition_penalty=1.2,
        frequency_penalty=0.1,
    )
    async with engine(upstream, api_key="key") as asked:
        await generate(asked, params)
    assert upstream.requests == [
        {
            "model": "fake", "prompt": "Hi", "stream": True, "stream_options": {"include_usage": True},
            "max_tokens": 9, "seed": 3, "temperature": 0.5, "top_k": 4, "top_p": 0.9,
            "repetition_penalty": 1.2, "frequency_penalty": 0.1,
        }
    ]  # fmt: skip
    assert upstream.headers[0]["Authorization"] == "Bearer key"


@pytest.mark.parametrize("owner", ["vllm", "sglang"])
async def test_recommended_sampling_steps_are_switched_off(upstream: FakeUpstream, owner: str) -> None:
    upstream.model_list = [{"id": "fake", "owned_by": owner}]
    upstream.answer(*text("x"))
    async with engine(upstream) as asked:
        await generate(asked)
        await generate(asked, SamplingParams(max_new_tokens=9, seed=3, top_k=4, repetition_penalty=1.2))
    neutral, wanted = upstream.requests
    assert (neutral["top_k"], neutral["min_p"], neutral["repetition_penalty"]) == (-1, 0.0, 1.0)
    assert (wanted["top_k"], wanted["min_p"], wanted["repetition_penalty"]) == (4, 0.0, 1.2)


async def test_a_missing_sampling_step_is_refused(upstream: FakeUpstream, asked: OpenAIUpstream) -> None:
    with pytest.raises(InvalidRequest, match="typical_p"):
        await generate(asked, SamplingParams(max_new_tokens=9, seed=3, temperature=1, typical_p=0.5))


@st.composite
def pieces_of_characters(draw: st.DrawFn) -> list[bytes]:
    """A text as JSON strings, whose characters may be cut into two of them: as bytes, or as halves."""
    written: list[bytes] = []
    for character in draw(st.text(max_size=12)):
        as_json, as_bytes = json.dumps(character).encode()[1:-1], character.encode()
        if len(as_bytes) == 1 or draw(st.booleans()):
            written.append(as_json)
        elif len(as_json) == 12 and draw(st.booleans()):
            written += [as_json[:6], as_json[6:]]
        else:
            cut = draw(st.integers(1, len(as_bytes) - 1))
            written += [as_bytes[:cut], as_bytes[cut:]]
    return written


# The same server answers all examples.
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data(), characters=pieces_of_characters(), newline=st.sampled_from([b"\n", b"\r\n"]))
async def test_however_the_bytes_are_cut_the_text_is_the_same(
    upstream: FakeUpstream,
    asked: OpenAIUpstream,
    draw: st.DataObject,
    characters: list[bytes],
    newline: bytes,
) -> None:
    answer = b"".join([*map(broken, characters), piece("", "stop"), DONE]).replace(b"\n", newline)
    bytewise = draw.draw(st.booleans())
    steps = [bytes([byte]) for byte in answer] if bytewise else pieces(draw, answer)
    whole = json.loads(b'"' + b"".join(characters) + b'"')
    upstream.answer(*(step for one in steps for step in (one, 0.0)))
    assert (await generate(asked))[0] == whole


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        pytest.param([b"<html>"], "", id="html without an end"),
        pytest.param([b"data: <html>\n\n"], "not an event", id="no JSON"),
        pytest.param([b'data: {"choices": 1}\n\n'], "not an event", id="JSON of another shape"),
        pytest.param([b"data: " + DEEP + b"\n\n"], "not an event", id="nested too deeply"),
        pytest.param([b'data: {"choices": [{"text": "a'], "", id="half an event"),
        pytest.param([RESET], "", id="reset"),
        pytest.param([DONE], "", id="done without a reason"),
        pytest.param([], "", id="nothing"),
        pytest.param([piece("", "abort")], "abort", id="aborted"),
        pytest.param([data({"error": {"message": "CUDA died"}})], "CUDA died", id="error event"),
        pytest.param([b"data: " + b"x" * (LONGEST_LINE + 1)], "too long", id="line without an end"),
    ],
)
async def test_a_broken_answer_keeps_its_text(
    upstream: FakeUpstream, broken: list[Any], message: str
) -> None:
    # A pause, so that the reset does not overtake the text.
    upstream.answer(piece("Hello"), 0.05, *broken)
    text, error = await failure(upstream)
    assert text == "Hello"
    assert isinstance(error, IncompleteGeneration)
    assert message in str(error)


async def test_a_page_instead_of_a_stream_is_incomplete(upstream: FakeUpstream) -> None:
    upstream.answer(b"<html>Welcome</html>", content_type="text/html")
    assert isinstance((await failure(upstream))[1], IncompleteGeneration)


async def test_an_upstream_that_stalls_is_given_up(upstream: FakeUpstream) -> None:
    never = asyncio.Event()
    for stall, options in (
        ([never], {"first": 0.05}),
        ([b": hello\n\n", piece("Hello"), never], {"between": 0.05}),
    ):
        upstream.disconnected.clear()
        upstream.answer(*stall)
        _, error = await failure(upstream, **options)
        assert isinstance(error, IncompleteGeneration | GenerationFailed)
        await happens(upstream.disconnected)


async def test_closing_an_answer_closes_the_connection(upstream: FakeUpstream, asked: OpenAIUpstream) -> None:
    upstream.answer(*[piece("more ")] * 20, asyncio.Event())
    async with contextlib.aclosing(asked.generate("Hi", PARAMS)) as events:
        async for event in events:
            if isinstance(event, Chunk):
                break
    await happens(upstream.disconnected)


@pytest.mark.parametrize("steps", [[asyncio.Event()], [b": reading\n\n", asyncio.Event()]])
async def test_cancelling_disconnects(
    upstream: FakeUpstream, asked: OpenAIUpstream, steps: list[Any]
) -> None:
    upstream.answer(*steps)
    task = asyncio.create_task(generate(asked))
    await is_cancelled_at(upstream.streaming, task, upstream.disconnected)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest), (413, InvalidRequest), (422, InvalidRequest), (401, GenerationFailed),
        (404, GenerationFailed), (429, Overloaded), (503, Overloaded), (500, GenerationFailed),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", [b"<html>no</html>", b'{"error": {"message": "why"}}', b""])
async def test_each_status_has_its_error(
    upstream: FakeUpstream, status: int, error: type[ServingError], body: bytes
) -> None:
    upstream.answer(body, status=status, content_type="text/html")
    _, caught = await failure(upstream)
    assert type(caught) is error
    assert str(caught)
    assert "html" not in str(caught)


WHY = "This model's maximum context length is 4096 tokens."


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"error": {"message": WHY}}, 400, WHY),
        ({"message": WHY}, 400, WHY),
        ({"detail": WHY}, 400, WHY),
        ({"error": WHY}, 400, WHY),
        ({"detail": [{"loc": ["body", "seed"], "msg": WHY, "type": "value_error"}]}, 422, WHY),
        (DEEP, 500, "The upstream has answered 500."),
    ],
)
async def test_refusals_have_a_message(upstream: FakeUpstream, body: Any, status: int, message: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    upstream.answer(content, status=status, content_type="application/json")
    assert str((await failure(upstream))[1]) == message


@pytest.mark.parametrize(
    ("after", "seconds"), [("17", 17), ("²", 1), ("soon", 1), ("-1", 1), ("9" * 5000, 1)]
)
async def test_an_overloaded_upstream_says_how_long(upstream: FakeUpstream, after: str, seconds: int) -> None:
    upstream.answer(b"", status=429, headers={"Retry-After": after})
    _, error = await failure(upstream)
    assert isinstance(error, Overloaded)
    assert error.retry_after == seconds


async def test_name_context_and_size_come_from_the_list_of_models(upstream: FakeUpstream) -> None:
    trained = {"meta": {"n_ctx_train": 2048, "n_params": 135_000_000}}
    lists = (
        ({"max_model_len": 32768}, 32768, None),
        (trained, 2048, 135_000_000),
        ({"meta": {"n_ctx": 512, "n_ctx_train": 2048, "n_params": "many"}}, 512, None),
        ({"meta": []}, 8192, None),
        ({"max_model_len": "many"}, 8192, None),
    )
    for listed, context, parameters in lists:
        upstream.model_list = [{"id": "first", **listed}, {"id": "second"}]
        async with engine(upstream) as asked:
            assert asked.info.state is EngineState.READY
            assert (asked.info.model_id, asked.info.context) == ("first", context)
            assert asked.info.parameters == parameters
            assert asked.info.chat_template is None
    async with engine(upstream, model="second") as asked:
        assert asked.info.model_id == "second"


@pytest.mark.parametrize(
    ("listed", "model", "message"),
    [([], None, "--upstream-model"), (404, None, "--upstream-model"), (500, "m", "500"), (401, "m", "key"),
     ([{"id": "other"}], "mine", "'mine', but: other")],
)  # fmt: skip
async def test_an_unusable_upstream_says_why(
    upstream: FakeUpstream, listed: Any, model: str | None, message: str
) -> None:
    upstream.model_list = listed
    async with engine(upstream, model=model) as asked:
        assert asked.info.state is EngineState.FAILED
        assert message in (asked.info.state_detail or "")
        with pytest.raises(Unhealthy):
            await generate(asked)


async def test_an_upstream_without_a_list_of_models_works_with_a_named_model(upstream: FakeUpstream) -> None:
    upstream.model_list = 404
    upstream.answer(*text("x"))
    async with engine(upstream, model="mine") as asked:
        await generate(asked)
    assert upstream.requests[0]["model"] == "mine"


async def test_an_upstream_that_goes_away_is_unhealthy_and_found_again(upstream: FakeUpstream) -> None:
    upstream.answer(*text("x"))
    async with engine(upstream) as asked:
        assert asked.info.state is EngineState.READY
        await upstream.__aexit__()
        with pytest.raises(Unhealthy, match=r"cannot be reached|broke"):
            await generate(asked)

        await becomes(asked, EngineState.FAILED)
        await upstream.__aenter__()

        await becomes(asked, EngineState.READY)
        assert (await generate(asked))[0] == "x"


async def test_a_broken_connection_is_forgiven(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reset(request: web.Request, answer: object) -> web.StreamResponse:
        monkeypatch.undo()
        assert request.transport is not None
        request.transport.abort()
        return web.StreamResponse()

    monkeypatch.setattr(upstream, "send", reset)
    upstream.answer(*text("x"))
    async with engine(upstream) as asked:
        with pytest.raises(Unhealthy, match="broke the connection off"):
            await generate(asked)
        assert (await generate(asked))[0] == "x"


async def test_missing_counts_cost_little_time(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.engines.openai_client.USAGE_SECONDS", 0.05)
    upstream.answer(piece("x", "stop"), asyncio.Event())
    async with engine(upstream) as asked:
        async with asyncio.timeout(PATIENCE):
            assert (await generate(asked))[0] == "x"


async def test_an_address_without_a_path_gets_the_usual_one(upstream: FakeUpstream) -> None:
    async with running(OpenAIUpstream(upstream.url.removesuffix("/v1") + "/")) as asked:
        assert asked.info.state is EngineState.READY


def of_kind(upstream: FakeUpstream, kind: str | None) -> Engine:
    upstream.model_list = [{"id": "fake", "max_model_len": 100, **({"owned_by": kind} if kind else {})}]
    upstream.answer(*text("x"))
    return engine(upstream)


JSON = Grammar(GrammarKind.JSON, '{"type": "object"}')
REGEX = Grammar(GrammarKind.REGEX, "a+")
SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    ("kind", "wish", "sent"),
    [
        ("vllm", {"grammar": JSON}, {"structured_outputs": {"json": SCHEMA}}),
        ("vllm", {"grammar": REGEX}, {"structured_outputs": {"regex": "a+"}}),
        ("sglang", {"grammar": JSON}, {"json_schema": '{"type": "object"}'}),
        ("sglang", {"grammar": REGEX}, {"regex": "a+"}),
        ("llamacpp", {"grammar": JSON}, {"json_schema": SCHEMA}),
        ("llamacpp", {"grammar": REGEX}, None),
        (
            None,
            {"grammar": JSON},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
        ),
        (None, {"grammar": REGEX}, None),
        ("vllm", {"min_new_tokens": 2}, {"min_tokens": 2}),
        ("sglang", {"min_new_tokens": 2}, {"min_tokens": 2}),
        ("llamacpp", {"min_new_tokens": 2}, None),
        (None, {"min_new_tokens": 2}, None),
        ("vllm", {"truncate": 3}, {"truncate_prompt_tokens": 3}),
        ("sglang", {"truncate": 3}, None),
        ("llamacpp", {"typical_p": 0.5, "temperature": 1.0}, {"typical_p": 0.5}),
        ("vllm", {"typical_p": 0.5, "temperature": 1.0}, None),
        (
            "llamacpp",
            {},
            {"top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0, "repeat_last_n": 100},
        ),
        ("llamacpp", {"top_k": 4, "repetition_penalty": 1.2}, {"top_k": 4, "repeat_penalty": 1.2}),
        (None, {"presence_penalty": 0.3}, {"presence_penalty": 0.3}),
        ("vllm", {"logprobs": True}, {"logprobs": 1}),
        (None, {"top_tokens": 3}, {"logprobs": 3}),
        (None, {"max_new_tokens": None}, {"max_tokens": 25}),
        (None, {"adapter_id": "unknown"}, None),
    ],
)
async def test_each_software_gets_its_own_parameters(
    upstream: FakeUpstream, kind: str | None, wish: dict[str, Any], sent: dict[str, Any] | None
) -> None:
    """What a kind has no word for is refused; the others are sent nothing of it."""
    params = SamplingParams(**{"max_new_tokens": 9, "seed": 3, **wish})
    async with of_kind(upstream, kind) as asked:
        if sent is None:
            with pytest.raises(InvalidRequest):
                await generate(asked, params)
            assert upstream.requests == []
        else:
            await generate(asked, params)
            assert sent.items() <= upstream.requests[0].items()


async def test_unknown_software_is_not_asked_for_logprobs(upstream: FakeUpstream) -> None:
    async with of_kind(upstream, None) as asked:
        await generate(asked, SamplingParams(max_new_tokens=9, seed=3, logprobs=True))
    assert "logprobs" not in upstream.requests[0]


async def test_an_adapter_is_a_model_with_a_parent(upstream: FakeUpstream) -> None:
    upstream.model_list = [{"id": "fake"}, {"id": "mine", "parent": "fake"}]
    upstream.answer(*text("x"))
    async with engine(upstream) as asked:
        assert list(asked.info.adapters) == ["mine"]
        await generate(asked, SamplingParams(max_new_tokens=9, seed=3, adapter_id="mine"))
    assert upstream.requests[0]["model"] == "mine"


LIKELY = {"logprob": -4, "top_logprobs": [{"token": "e", "logprob": -5}, {"token": "f"}]}


async def test_texts_and_chats_have_probabilities(upstream: FakeUpstream, asked: OpenAIUpstream) -> None:
    upstream.answer(
        data({"choices": [{"text": "a", "logprobs": {"token_logprobs": [-1], "top_logprobs": [{"b": -2}]}}]}),
        data({"choices": [{"text": "c", "logprobs": {"token_logprobs": [-3], "top_logprobs": None}}]}),
        data({"choices": [{"delta": {"content": "d"}, "logprobs": {"content": [LIKELY]}}]}),
        piece("", "stop"),
        DONE,
    )
    events = [event async for event in asked.generate("Hi", PARAMS)]
    assert [(event.logprob, list(event.top)) for event in events if isinstance(event, Chunk)] == [
        (-1, [TopToken(0, "b", -2)]),
        (-3, []),
        (-4, [TopToken(0, "e", -5), TopToken(0, "f", 0)]),
    ]


async def test_infilling_uses_markers_or_a_suffix(upstream: FakeUpstream) -> None:
    upstream.answer(*text("x"))
    for model in ("fake", "Qwen/Qwen2.5-Coder-7B"):
        upstream.model_list = [{"id": model}]
        async with engine(upstream) as asked:
            async for _ in asked.generate(Infill("a", "b"), PARAMS):
                pass
    assert (upstream.requests[0]["prompt"], upstream.requests[0]["suffix"]) == ("a", "b")
    assert upstream.requests[1]["prompt"] == "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
    async with engine(upstream) as asked:
        with pytest.raises(InvalidRequest, match="fim_suffix"):
            await anext(asked.generate(Infill("a<|fim_suffix|>", "b"), PARAMS))


@pytest.mark.parametrize("nonsense", [1.5, "fake", {"id": "fake"}, [[]], [{"no": "id"}], None])
async def test_anything_but_a_list_of_models_counts_as_no_list(upstream: FakeUpstream, nonsense: Any) -> None:
    upstream.model_list = nonsense
    async with engine(upstream) as asked:
        assert asked.info.state is EngineState.FAILED
        assert "lists no model" in (asked.info.state_detail or "")
    async with engine(upstream, model="mine") as asked:
        assert asked.info.state is EngineState.READY


async def test_an_answer_that_is_not_understood_is_checked_again(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(model: dict[str, Any]) -> int:
        raise TypeError

    monkeypatch.setattr("serving.engines.remote.CHECK_SOON_SECONDS", 0.02)
    with monkeypatch.context() as patched:
        patched.setattr("serving.engines.openai_client._context", fail)
        async with engine(upstream) as asked:
            assert "do not understand" in (asked.info.state_detail or "")
            patched.undo()
            await becomes(asked, EngineState.READY)
    assert "TypeError" in caplog.text


async def test_a_list_of_models_may_come_in_pieces(upstream: FakeUpstream) -> None:
    upstream.model_list = [{"id": f"model-{number}", "max_model_len": 77} for number in range(5000)]
    async with engine(upstream) as asked:
        assert (asked.info.model_id, asked.info.context) == ("model-0", 77)


async def test_comments_do_not_count_as_an_answer(upstream: FakeUpstream) -> None:
    upstream.answer(*[step for _ in range(500) for step in (b": waiting\n\n", 0.01)])
    assert "nothing for 0.2 seconds" in str((await failure(upstream, first=0.2))[1])


@pytest.mark.parametrize(
    ("props", "tokens", "template"),
    [
        (None, [1], None),
        ({"chat_template": ""}, [1], None),
        ({"chat_template": "{{ own }}", "bos_token": "<s>", "eos_token": "</s>"}, [1], "{{ own }}"),
        ({"chat_template": "<|im_start|>"}, [1], "<|im_start|>"),
        ({"chat_template": "<|im_start|>"}, [1, 2, 3], None),
        ({"chat_template": "<|im_start|>"}, None, "<|im_start|>"),
    ],
)
async def test_a_template_of_llama_server_is_reported_if_it_is_the_models_own(
    upstream: FakeUpstream, props: Any, tokens: Any, template: str | None
) -> None:
    upstream.props, upstream.tokens_of_a_mark = props, tokens
    async with of_kind(upstream, "llamacpp") as asked:
        info = asked.info
        assert info.chat_template == template
        # Without its properties it is not known whether it has one: it may, or will say that it has not.
        assert info.chats is (template is not None or props is None)
        marks = ("<s>", "</s>") if props and "bos_token" in props else (None, None)
        assert (info.bos_token, info.eos_token) == marks


async def test_a_chat_is_sent_as_its_messages(upstream: FakeUpstream, asked: OpenAIUpstream) -> None:
    upstream.answer(
        data({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
        data({"choices": [{"delta": {"content": "Hello"}}]}),
        data({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
        DONE,
    )
    messages = [{"role": "user", "content": "Hi"}]
    params = SamplingParams(max_new_tokens=9, seed=3, top_tokens=2)
    events = [event async for event in asked.generate(Chat(messages), params)]
    assert [event.data for event in events if isinstance(event, Chunk)] == [b"Hello"]
    (request,) = upstream.requests
    assert request["messages"] == messages
    assert "prompt" not in request
    assert (request["logprobs"], request["top_logprobs"]) == (True, 2)
