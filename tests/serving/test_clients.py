"""`python -m serving` as a real process, with the clients that people use."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub import errors as hub_errors
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_openai import ChatOpenAI, OpenAI
from text_generation import AsyncClient, Client
from text_generation.errors import (
    GenerationError,
    IncompleteGenerationError,
    OverloadedError,
    ValidationError,
)
from text_generation.types import FinishReason

from tests.serving.conftest import PATIENCE, Served, events_of, eventually, serve
from tests.serving.test_stopping import cut, first_match
from tests.support.fake_upstream import RESET, FakeUpstream, piece, text
from tests.support.tiny_gguf import MARKERS, write_tiny_gguf

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # The client's own use of pydantic.
    pytest.mark.filterwarnings("ignore:The `dict` method is deprecated"),
]

HI = [{"role": "user", "content": "the code"}]
SEVEN: Any = {"model": "any", "max_tokens": 7, "temperature": 0}
WORDS = ["the", " code", "\n", "Human", ":", " is", " a"]
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }}\n{% endfor %}code"


def embedded(model: Path, *arguments: str) -> contextlib.AbstractAsyncContextManager[Served]:
    return serve("--model", str(model), "--threads", "1", *arguments, state="ready")


@contextlib.asynccontextmanager
async def upstreamed(*arguments: str) -> AsyncIterator[tuple[Served, FakeUpstream]]:
    async with FakeUpstream() as fake, serve("--upstream", fake.url, *arguments, state="ready") as served:
        yield served, fake


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "chat.gguf"
    return write_tiny_gguf(path, chat_template=TEMPLATE, infilling=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny(tiny_model: Path) -> AsyncIterator[Served]:
    """The embedded engine, with a model that has no chat template."""
    async with embedded(tiny_model) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def templated(chat_model: Path) -> AsyncIterator[Served]:
    """The embedded engine, with a model that has a chat template."""
    async with embedded(chat_model) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chained(templated: Served) -> AsyncIterator[Served]:
    """A serving layer whose upstream is another serving layer."""
    async with serve("--upstream", f"{templated.url}/v1", state="ready") as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def faked() -> AsyncIterator[tuple[Served, FakeUpstream]]:
    """A serving layer, and the fake upstream behind it."""
    async with upstreamed() as both:
        yield both


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unreachable() -> AsyncIterator[Served]:
    """A serving layer whose upstream does not listen."""
    async with serve("--upstream", "http://127.0.0.1:9/v1") as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyed(tiny_model: Path) -> AsyncIterator[Served]:
    """A serving layer that got its key from the environment."""
    key = {"TECH_ASSISTANT_SERVING_KEY": "secret"}
    async with serve("--model", str(tiny_model), "--threads", "1", **key) as served:
        yield served


@pytest.fixture(params=["llama.cpp", "openai"])
def either(request: pytest.FixtureRequest) -> Served:
    """A serving layer with the embedded engine, and one with an upstream."""
    if request.param == "llama.cpp":
        return request.getfixturevalue("tiny")
    served, upstream = request.getfixturevalue("faked")
    upstream.answer(*text(*WORDS, finish_reason="length"))
    return served


@pytest.fixture(params=["templated", "tiny", "chained"])
def chatting(request: pytest.FixtureRequest) -> Served:
    return request.getfixturevalue(request.param)


async def generated(served: Served, reason: FinishReason, *, is_async: bool = True, **asked: Any) -> str:
    """The text that TGI's client gets, with and without a stream."""
    asked = {"prompt": "the code", "max_new_tokens": 7, **asked}
    if is_async:
        client = AsyncClient(served.url, timeout=PATIENCE)
        whole = await client.generate(**asked)
        events = [event async for event in client.generate_stream(**asked)]
    else:
        sync = Client(served.url, timeout=PATIENCE)
        whole = await asyncio.to_thread(sync.generate, **asked)
        events = await asyncio.to_thread(lambda: list(sync.generate_stream(**asked)))
    text = whole.generated_text
    assert "".join(token.text for token in whole.details.tokens) == text
    assert "".join(event.token.text for event in events) == events[-1].generated_text == text
    assert [event.details is None for event in events] == [True] * (len(events) - 1) + [False]
    assert whole.details.finish_reason is events[-1].details.finish_reason is reason
    if reason is FinishReason.Length:
        assert whole.details.generated_tokens == len(events) == 7
    return text


async def test_tgis_clients_generate_and_stream_and_cut_at_a_stop(either: Served) -> None:
    text = await generated(either, FinishReason.Length)
    assert await generated(either, FinishReason.Length, is_async=False) == text
    stop = text[4:9]
    expected = text[: text.index(stop)]
    assert await generated(either, FinishReason.StopSequence, stop_sequences=[stop]) == expected


async def test_clients_get_the_errors_that_they_know(
    tiny: Served, faked: tuple[Served, FakeUpstream]
) -> None:
    async def streamed(client: AsyncClient, text: str, **asked: Any) -> None:
        assert [event async for event in client.generate_stream(text, **asked)]

    client = AsyncClient(tiny.url, timeout=PATIENCE)
    with pytest.raises(ValidationError, match="max_new_tokens"):
        await client.generate("the", max_new_tokens=5000)
    with pytest.raises(ValidationError, match="max_new_tokens"):
        await streamed(client, "the", max_new_tokens=5000)
    with pytest.raises(ValidationError, match="inputs"):
        await client.generate("the " * 3000, max_new_tokens=1)

    served, upstream = faked
    client = AsyncClient(served.url, timeout=PATIENCE)
    for status, error in ((503, OverloadedError), (500, GenerationError)):
        upstream.answer(b"", status=status)
        with pytest.raises(error):
            await (client.generate("the") if status == 503 else streamed(client, "the"))
    for work in (client.generate, functools.partial(streamed, client)):
        upstream.answer(piece("some"), 0.1, RESET)
        with pytest.raises(IncompleteGenerationError):
            await work("the")


async def test_an_unreachable_upstream_is_reported_in_info_and_to_clients(unreachable: Served) -> None:
    info = await unreachable.becomes("failed")
    assert "cannot be reached" in info["state_detail"]
    assert (await unreachable.get("/health"))[0] == 503
    status, answer = await unreachable.post("/generate", {"inputs": "Hi"})
    assert (status, answer["error_type"]) == (503, "unhealthy")


async def test_a_client_that_leaves_a_stream_frees_the_only_slot(slow_model: Path) -> None:
    async with embedded(slow_model, "--parallel", "1") as served:
        body = {"inputs": " the" * 6000, "parameters": {"max_new_tokens": 1}, "stream": True}
        for _ in range(2):  # while the prompt is read, and then with another request waiting
            leaving = asyncio.create_task(served.post("/", body))

            async def computing() -> bool:
                return b"tgi_batch_current_size 1" in (await served.get("/metrics"))[1]

            await eventually(computing)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        body = {"inputs": "the", "parameters": {"max_new_tokens": 3}}
        status, answer = await served.post("/generate", body)
        assert (status, bool(answer["generated_text"])) == (200, True)


letters = st.sampled_from("ab\n é🦉言")


@settings(max_examples=100, deadline=None)
@given(
    st.text(letters, max_size=60),
    st.lists(st.text(letters, min_size=1, max_size=5), max_size=4),
    st.lists(st.integers(0, 60), max_size=8),
    st.lists(st.integers(0, 3000), max_size=8),
)
async def test_any_text_in_any_pieces_ends_before_the_first_match(
    faked: tuple[Served, FakeUpstream], whole: str, stops: list[str], cuts: list[int], byte_cuts: list[int]
) -> None:
    served, upstream = faked
    pieces = [piece for piece in cut(whole, cuts) if piece]
    raw = b"".join(step for step in text(*pieces) if isinstance(step, bytes))
    upstream.answer(*cut(raw, byte_cuts))
    body = {"inputs": "Hi", "parameters": {"stop": stops, "details": True}}
    status, answer = await served.post("/generate", body)
    assert status == 200, answer
    events = events_of(await served.streamed("/generate_stream", body))
    expected, stop = first_match(stops, whole)
    assert "".join(event["token"]["text"] for event in events) == expected
    for end in (answer, events[-1]):
        assert end["generated_text"] == expected
        assert end["details"]["finish_reason"] == ("eos_token" if stop is None else "stop_sequence")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_and_running_streams_get_an_error(how: signal.Signals) -> None:
    async with upstreamed("--drain-seconds", "0") as (served, upstream):
        upstream.answer(piece("Hello"), asyncio.Event())
        async with served.http.post(served.url, json={"inputs": "Hi", "stream": True}) as stream:
            assert b"Hello" in await stream.content.readany()
            served.process.send_signal(how)
            assert b'"error_type":"incomplete_generation"' in await stream.read()
        await served.ended()


async def test_sigterm_lets_running_answers_finish_and_refuses_new_ones() -> None:
    async with upstreamed() as (served, upstream):
        upstream.answer(piece("Hello"), rest := asyncio.Event(), *text(" you"))
        async with served.http.post(served.url, json={"inputs": "Hi", "stream": True}) as stream:
            assert b"Hello" in await stream.content.readany()
            served.process.send_signal(signal.SIGTERM)

            async def refuses() -> bool:
                return (await served.get("/health"))[0] == 503

            await eventually(refuses)
            rest.set()
            assert b'"generated_text":"Hello you"' in await stream.read()
        await served.ended()


async def test_the_process_answers_and_ends_while_a_model_is_being_loaded(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "large.gguf", blocks=2, width=1024)
    async with serve("--model", str(model), "--threads", "1") as served:
        status, info = await served.get("/info")
        assert status == 200
        assert info["state"] in ("loading", "ready")
        served.process.terminate()
        await served.ended()


async def test_a_damaged_model_is_reported_in_info_without_a_crash(tmp_path: Path, tiny_model: Path) -> None:
    damaged = write_tiny_gguf(tmp_path / "damaged.gguf")
    with damaged.open("r+b") as file:
        file.truncate(150_000)
    async with serve("--model", str(damaged), "--threads", "1") as served:
        info = await served.becomes("failed")
        assert "damaged.gguf" in info["state_detail"]
        status, answer = await served.post("/generate", {"inputs": "Hi"})
        assert (status, answer["error_type"]) == (503, "unhealthy")


async def test_the_key_may_come_from_the_environment(keyed: Served) -> None:
    keyed.http.headers.pop("Authorization", None)
    assert (await keyed.get("/info"))[0] == 401
    keyed.http.headers["Authorization"] = "Bearer secret"
    await keyed.becomes("ready")


@contextlib.asynccontextmanager
async def asynchronous(served: Served, key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{served.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=key, timeout=PATIENCE, max_retries=0) as client:
        yield client


async def test_openai_sync_client_completes_and_chats(chatting: Served) -> None:
    def work() -> None:
        url = f"{chatting.url}/v1"
        with openai.OpenAI(base_url=url, api_key="none", timeout=PATIENCE, max_retries=0) as client:
            whole = client.completions.create(prompt="the code", **SEVEN)
            pieces = list(client.completions.create(prompt="the code", stream=True, **SEVEN))
            assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text != ""
            assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
            assert whole.usage is not None
            assert whole.usage.completion_tokens == 7
            chat = client.chat.completions.create(messages=HI, **SEVEN)
            events = list(client.chat.completions.create(messages=HI, stream=True, **SEVEN))
            said = "".join(event.choices[0].delta.content or "" for event in events)
            assert said == chat.choices[0].message.content != ""
            assert events[0].choices[0].delta.role == chat.choices[0].message.role == "assistant"
            assert events[-1].choices[0].finish_reason == chat.choices[0].finish_reason

    await asyncio.to_thread(work)


async def test_openai_async_client_gets_stops_usage_and_probabilities(chatting: Served) -> None:
    async with asynchronous(chatting) as client:
        chat = await client.chat.completions.create(messages=HI, logprobs=True, top_logprobs=2, **SEVEN)
        logprobs = chat.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert "".join(token.token for token in logprobs.content) == chat.choices[0].message.content
        assert all(token.logprob < 0 and len(token.top_logprobs) == 2 for token in logprobs.content)
        assert chat.usage is not None
        assert chat.usage.completion_tokens == 7 == chat.usage.total_tokens - chat.usage.prompt_tokens

        usage = {"include_usage": True}
        events = await client.chat.completions.create(messages=HI, stream=True, stream_options=usage, **SEVEN)
        last = [event async for event in events][-1]
        assert (last.choices, last.usage) == ([], chat.usage)

        text = (await client.completions.create(prompt="the code", **SEVEN)).choices[0].text
        stop = text[4:9]
        cut_short = (await client.completions.create(prompt="the code", stop=[stop], **SEVEN)).choices[0]
        assert (cut_short.text, cut_short.finish_reason) == (text[: text.index(stop)], "stop")
        assert cut_short.model_extra == {"stop_reason": stop}
        several = await client.completions.create(prompt=["the code", "list"], n=2, logprobs=1, **SEVEN)
        assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
        assert several.choices[0].text == several.choices[1].text == text != several.choices[2].text
        for choice in several.choices:
            assert choice.logprobs is not None
            assert "".join(choice.logprobs.tokens or ()) == choice.text
            places = zip(choice.logprobs.text_offset or (), choice.logprobs.tokens or (), strict=True)
            assert all(choice.text[place:].startswith(token) for place, token in places)


async def test_openai_client_gets_json_of_its_schema(templated: Served) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["list", "map"]}, "size": {"type": "integer", "maximum": 9}},
        "required": ["kind", "size"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    async with asynchronous(templated) as client:
        for seed in range(3):
            chat = await client.chat.completions.create(
                model="any", messages=HI, response_format=form, seed=seed, max_tokens=200
            )
            answer = json.loads(chat.choices[0].message.content or "")
            assert answer.keys() == {"kind", "size"}
            assert answer["kind"] in ("list", "map")


async def test_openai_client_lists_the_model(chat_model: Path, templated: Served) -> None:
    async with asynchronous(templated) as client:
        [model] = [model async for model in client.models.list()]
        assert model.id == chat_model.name
        assert await client.models.retrieve(chat_model.name) == model
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-9")


async def test_openai_client_gets_the_errors_that_it_knows(
    keyed: Served, faked: tuple[Served, FakeUpstream], unreachable: Served
) -> None:
    keyed.http.headers["Authorization"] = "Bearer secret"
    await keyed.becomes("ready")
    async with asynchronous(keyed, "wrong") as client:
        with pytest.raises(openai.AuthenticationError, match="missing or wrong") as wrong:
            await client.models.list()
        assert wrong.value.code == "invalid_api_key"
    async with asynchronous(keyed, "secret") as client:
        for streamed in (False, True):
            with pytest.raises(openai.BadRequestError, match="`max_tokens`") as refused:
                await client.completions.create(model="m", prompt="x", max_tokens=5000, stream=streamed)
            assert refused.value.type == "invalid_request_error"
            assert refused.value.code == "context_length_exceeded"
            tools: Any = [{"type": "function", "function": {"name": "f"}}]
            with pytest.raises(openai.BadRequestError, match="`tools`"):
                await client.chat.completions.create(model="m", messages=HI, tools=tools, stream=streamed)
    served, upstream = faked
    async with asynchronous(served) as client:
        upstream.answer(b"", status=503, headers={"Retry-After": "7"})
        for streamed in (False, True):
            with pytest.raises(openai.RateLimitError) as limited:
                await client.completions.create(model="m", prompt="x", stream=streamed)
            assert limited.value.response.headers["retry-after"] == "7"
        upstream.answer(b"", status=500)
        with pytest.raises(openai.InternalServerError):
            await client.completions.create(model="m", prompt="x")
        upstream.answer(piece("some"), 0.1, RESET)
        stream = await client.completions.create(model="m", prompt="x", stream=True)
        assert (await anext(stream)).choices[0].text == "some"
        with pytest.raises(openai.APIError, match="broke off"):
            await anext(stream)
    async with asynchronous(unreachable) as client:
        await unreachable.becomes("failed")
        with pytest.raises(openai.InternalServerError, match="cannot be reached") as gone:
            await client.completions.create(model="m", prompt="x")
        assert gone.value.status_code == 503


async def test_langchains_clients_complete_and_chat(chatting: Served) -> None:
    # They leave the connections that they make by themselves open.
    async with openai.DefaultAsyncHttpxClient() as http:
        asked: Any = {"base_url": f"{chatting.url}/v1", "api_key": "none", "model": "any", "max_retries": 0}
        asked |= {"http_async_client": http, "timeout": PATIENCE, "max_tokens": 8, "temperature": 0}
        chat = ChatOpenAI(**asked)
        whole = await chat.ainvoke("the code")
        pieces = [chunk async for chunk in chat.astream("the code", stream_usage=True)]
        said = str(whole.content)
        assert "".join(str(piece.content) for piece in pieces) == said != ""
        assert whole.usage_metadata is not None
        assert whole.usage_metadata["output_tokens"] == 8
        counts = [piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata]
        assert counts == [8]
        assert (await chat.ainvoke("the code", stop=[said[5:8]])).content == said.partition(said[5:8])[0]

        completion = OpenAI(**asked)
        text = await completion.ainvoke("the code")
        assert "".join([piece async for piece in completion.astream("the code")]) == text != ""
        assert await completion.abatch(["the code", "the code"]) == [text, text]


async def test_hub_clients_generate_and_stream(either: Served) -> None:
    def work() -> None:
        client = InferenceClient(model=either.url, timeout=PATIENCE)
        asked: Any = {"prompt": "the code", "max_new_tokens": 7}
        text = client.text_generation(**asked)
        assert text == "".join(client.text_generation(**asked, stream=True))
        whole = client.text_generation(**asked, details=True)
        events = list(client.text_generation(**asked, details=True, stream=True))
        assert whole.generated_text == text == events[-1].generated_text
        assert whole.details is not None
        assert events[-1].details is not None
        assert whole.details.generated_tokens == events[-1].details.generated_tokens == 7
        assert whole.details.finish_reason == events[-1].details.finish_reason == "length"

    await asyncio.to_thread(work)
    async with AsyncInferenceClient(model=either.url, timeout=PATIENCE) as client:
        text = await client.text_generation("the code", max_new_tokens=7)
        pieces = [p async for p in await client.text_generation("the code", max_new_tokens=7, stream=True)]
        assert "".join(pieces) == text


async def test_hub_clients_chat(chatting: Served) -> None:
    def work() -> None:
        for client in (
            InferenceClient(model=chatting.url, timeout=PATIENCE),
            InferenceClient(base_url=f"{chatting.url}/v1", timeout=PATIENCE),
        ):
            asked: Any = {"max_tokens": 7, "temperature": 0.0}
            whole = client.chat_completion(HI, **asked)
            events = list(client.chat_completion(HI, stream=True, **asked))
            said = "".join(event.choices[0].delta.content or "" for event in events)
            assert said == whole.choices[0].message.content != ""
            assert whole.usage.completion_tokens == 7
            assert events[-1].choices[0].finish_reason == "length"

    await asyncio.to_thread(work)
    async with AsyncInferenceClient(base_url=chatting.url, timeout=PATIENCE) as client:
        answer = await client.chat_completion(HI, max_tokens=3, logprobs=True, top_logprobs=2)
        assert answer.choices[0].logprobs is not None
        assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2


async def test_hub_clients_get_the_errors_that_they_know(
    tiny: Served, faked: tuple[Served, FakeUpstream]
) -> None:
    served, upstream = faked

    def work() -> None:
        client = InferenceClient(model=tiny.url, timeout=PATIENCE)
        with pytest.raises(hub_errors.ValidationError, match="max_new_tokens"):
            client.text_generation("the code", max_new_tokens=5000)
        with pytest.raises(hub_errors.HfHubHTTPError, match="max_tokens"):
            client.chat_completion(HI, max_tokens=5000)

        client = InferenceClient(model=served.url, timeout=PATIENCE)
        with pytest.raises(hub_errors.OverloadedError):
            client.text_generation("the code")
        upstream.answer(piece("some"), 0.1, RESET)
        with pytest.raises(hub_errors.IncompleteGenerationError):
            client.text_generation("the code")

    upstream.answer(b"", status=503)
    await asyncio.to_thread(work)


FIM = "<fim_prefix>def list<fim_suffix>return value<fim_middle>"
QWEN_FIM = "<|fim_prefix|>def list<|fim_suffix|>return value<|fim_middle|>"
EDITOR = {"max_new_tokens": 60, "temperature": 0.2, "top_p": 0.95}


@pytest.mark.parametrize("prompt", [FIM, QWEN_FIM])
async def test_editors_get_their_completion_with_either_protocol(templated: Served, prompt: str) -> None:
    """The bodies of the language server that editor plugins use, with its default parameters."""
    body = {"parameters": {**EDITOR, "return_full_text": False}, "inputs": prompt}
    status, answer = await templated.post("/generate", body)
    assert status == 200
    assert answer.keys() == {"generated_text"}  # one object; it refuses a list
    assert answer["generated_text"]
    body = {"inputs": prompt, "parameters": {"parameters": {"return_full_text": False}}}  # none are set
    status, answer = await templated.post("/generate", body)
    assert (status, bool(answer["generated_text"])) == (200, True)
    status, answer = await templated.post("/generate", {"inputs": "", "parameters": {}})
    assert status == 422
    assert isinstance(answer["error"], str)
    for body in (
        {"parameters": EDITOR, "prompt": prompt, "model": "bigcode/starcoder2-15b", "stream": False},
        {"max_tokens": 60, "temperature": 0.2, "top_p": 0.95, "stop": None}
        | {"prompt": prompt, "model": None, "stream": False},
    ):
        status, answer = await templated.post("/v1/completions", body)
        assert status == 200
        assert answer["choices"][0]["text"]
    marks, own = list(MARKERS.values())[:3], prompt == FIM
    _, spans = await templated.post("/tokenize", {"inputs": prompt})
    assert [span["text"] for span in spans if span["text"] in marks] == (marks if own else [])


async def test_a_suffix_asks_for_the_text_between(templated: Served, tiny: Served) -> None:
    async with asynchronous(templated) as client:
        asked: Any = {"model": "m", "max_tokens": 9, "temperature": 0}
        written = await client.completions.create(prompt=FIM, **asked)
        asked |= {"suffix": "return value"}
        suffixed = await client.completions.create(prompt="def list", **asked)
        assert suffixed.choices[0].text == written.choices[0].text != ""
        assert suffixed.usage == written.usage
        # The model's own markers in a text are text: they take more than a token each.
        marked = await client.completions.create(prompt="def list<fim_middle>", **asked)
        assert marked.usage is not None
        assert written.usage is not None
        assert marked.usage.prompt_tokens > written.usage.prompt_tokens + 1
    async with asynchronous(tiny) as client:
        with pytest.raises(openai.BadRequestError, match="suffix"):
            await client.completions.create(model="m", prompt="a", suffix="b")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_curl_gets_a_stream_and_an_error(chatting: Served) -> None:
    async def curl(path: str, body: Any) -> tuple[str, str]:
        process = await asyncio.create_subprocess_exec(
            *("curl", "--silent", "--no-buffer", "--write-out", "\n%{http_code} %{content_type}"),
            *("--json", json.dumps(body), f"{chatting.url}{path}"),
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            out, _ = await process.communicate()
        text, _, status = out.decode().rpartition("\n")
        return text, status

    text, status = await curl("/v1/chat/completions", {"messages": HI, "max_tokens": 3, "stream": True})
    assert status == "200 text/event-stream"
    assert text.startswith('data: {"id":"chatcmpl-')
    assert text.endswith("\n\ndata: [DONE]\n\n")
    text, status = await curl("/generate", {"inputs": "the code", "parameters": {"max_new_tokens": 3}})
    assert (status, list(json.loads(text))) == ("200 application/json", ["generated_text"])
    text, status = await curl("/v1/completions", {"prompt": [1, 2]})
    assert (status, json.loads(text)["error"]["param"]) == ("400 application/json", "prompt")


# Field by field, as the protocol documents them.
TOKEN = {"id", "text", "logprob", "special"}
DETAILS = {"finish_reason", "generated_tokens", "seed", "prefill", "tokens"}
INFO = {
    *("model_id", "model_sha", "model_pipeline_tag", "max_concurrent_requests", "max_best_of"),
    *("max_stop_sequences", "max_input_tokens", "max_total_tokens", "validation_workers"),
    *("max_client_batch_size", "router", "version"),
}
OURS_IN_INFO = {
    *("max_batch_size", "max_top_n_tokens", "engine", "state", "state_detail", "max_queue_size"),
    *("chat_template", "bos_token", "eos_token", "adapters", "license", "infilling", "download"),
    "parameters",
}


async def test_answers_have_tgis_documented_fields_and_no_others(tiny: Served) -> None:
    asked: dict[str, Any] = {"max_new_tokens": 3, "details": True, "do_sample": True}
    status, whole = await tiny.post("/generate", {"inputs": "the code", "parameters": asked})
    assert (status, set(whole)) == (200, {"generated_text", "details"})
    details = whole["details"]
    assert set(details) == DETAILS | {"stop_sequence"}
    assert details["prefill"] == []
    assert isinstance(details["seed"], int)
    assert [set(token) for token in details["tokens"]] == [TOKEN] * 3
    more = {"decoder_input_details": True, "top_n_tokens": 2, "best_of": 2}
    _, rich = await tiny.post("/generate", {"inputs": "the code", "parameters": asked | more})
    assert set(rich["details"]) == DETAILS | {"stop_sequence", "top_tokens", "best_of_sequences"}
    assert all(set(token) == {"id", "text", "logprob"} for token in rich["details"]["prefill"])
    assert [[set(t) for t in top] for top in rich["details"]["top_tokens"]] == [[TOKEN] * 2] * 3
    [other] = rich["details"]["best_of_sequences"]
    assert set(other) == DETAILS | {"stop_sequence", "top_tokens", "generated_text"}

    for path in ("/generate_stream", "/"):
        body = {"inputs": "the code", "parameters": asked, "stream": True}
        events = events_of(await tiny.streamed(path, body))
        assert [set(event) for event in events] == [{"index", "token", "generated_text", "details"}] * 3
        assert [event["index"] for event in events] == [1, 2, 3]
        assert [set(event["token"]) for event in events] == [TOKEN] * 3
        assert [event["details"] for event in events[:-1]] == [None, None]
        assert set(events[-1]["details"]) == {
            *("finish_reason", "generated_tokens", "seed", "input_length", "stop_sequence")
        }

    _, plain = await tiny.post("/", {"inputs": "the code"})
    assert [set(answer) for answer in plain] == [{"generated_text"}]
    _, info = await tiny.get("/info")
    assert set(info) == INFO | OURS_IN_INFO
    _, tokens = await tiny.post("/tokenize", {"inputs": "the code"})
    assert [set(token) for token in tokens] == [{"id", "text", "start", "stop"}] * len(tokens)
    for path in ("/generate", "/generate_stream", "/"):
        status, error = await tiny.post(path, {"inputs": "the", "parameters": {"max_new_tokens": 0}})
        assert (status, set(error), error["error_type"]) == (422, {"error", "error_type"}, "validation")
