"""The models `documentation` and `NAME+documentation`, through the gateway that programs use."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages.ai import UsageMetadata
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from assistant import errors
from assistant.conversation import Role, Turn
from assistant.engine import Endpoint, EngineState
from assistant.knowledge.documentation import DocumentationState, DocumentationStatus, DocumentationUnreadable
from assistant.knowledge.passage import SearchResult
from assistant.programs import MOST_SEARCHES, ProgramAnswers
from assistant.web.documentation_models import DocumentationModels
from assistant.web.security import MAX_BODY
from assistant.web.serving_gateway import ServingGateway
from prompts.render import PromptError, QuestionTooLong
from storage.database import Database
from tests.support.fake_documentation import RMTREE, FakeDocumentation, passage
from tests.support.fake_model import FakeServed, ScriptedModel
from tests.support.parts import Parts
from tests.web.conftest import running

KEY = "key-of-clients-0123"
QUESTION = "How do I remove a folder with everything in it?"
ASKED = [{"role": "user", "content": QUESTION}]
BOTH = ("documentation", "scripted+documentation")
SOURCES = [RMTREE, passage("os.rmdir"), passage("os.unlink")]
SERVED = [{"id": "scripted"}, {"id": "adapter", "parent": "scripted"}]


@pytest.fixture
async def documentation() -> FakeDocumentation:
    return FakeDocumentation(SearchResult(passages=tuple(SOURCES), confidence=1.0))


@pytest.fixture
async def address(tmp_path: Path, served: FakeServed, documentation: FakeDocumentation) -> AsyncIterator[str]:
    """A gateway to a serving layer that has a model and an adapter, and forwards nothing else."""

    async def layer(request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer own"
        return JSONResponse({"data": SERVED} if request.url.path == "/v1/models" else "forwarded")

    database = Database(tmp_path / "chats.db")
    models = DocumentationModels(ProgramAnswers(Parts(database, served, documentation).replies))
    app = Starlette(routes=[Route("/{path:path}", layer, methods=["GET", "POST"])])
    async with running(app) as behind:
        gateway = ServingGateway(app, endpoint=lambda: Endpoint(behind, "own"), key=KEY, models=models)
        async with running(gateway) as address:
            yield address
    database.close()


@pytest.fixture
async def chats(address: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
async def client(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        verify=False, base_url=address, headers={"Authorization": f"Bearer {KEY}"}
    ) as client:
        yield client


async def refused(chats: openai.AsyncOpenAI, model: str = BOTH[0], **body: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as error:
        await chats.chat.completions.create(**{"model": model, "messages": ASKED, **body})
    return error.value


async def test_the_models_are_listed(
    chats: openai.AsyncOpenAI, documentation: FakeDocumentation, address: str
) -> None:
    assert [model.id async for model in await chats.models.list()] == ["scripted", "adapter", *BOTH]
    assert (await chats.models.retrieve(BOTH[1])).id == BOTH[1]
    with pytest.raises(openai.NotFoundError):
        await chats.models.retrieve("adapter+documentation")
    documentation.status = DocumentationStatus(DocumentationState.OFF)
    assert [model.id async for model in await chats.models.list()] == ["scripted", "adapter"]
    assert (await refused(chats)).code == "model_not_found"
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(model=BOTH[0], messages=ASKED)


async def test_without_a_serving_layer_the_documentation_answers(tmp_path: Path) -> None:
    database = Database(tmp_path / "chats.db")
    answers = ProgramAnswers(Parts(database, FakeServed(), FakeDocumentation()).replies)
    gateway = ServingGateway(Starlette(), endpoint=None, key=KEY, models=DocumentationModels(answers))
    async with (
        running(gateway) as address,
        openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as chats,
    ):
        assert [model.id async for model in await chats.models.list()] == [BOTH[0]]
        answer = await chats.chat.completions.create(model=BOTH[0], messages=ASKED)
        assert "shutil.rmtree(path" in answer.choices[0].message.content
        for model in ("any", "any+documentation"):
            assert (await refused(chats, model)).status_code == 503
    database.close()


async def test_the_documentation_quotes_whole_and_streamed(
    chats: openai.AsyncOpenAI, documentation: FakeDocumentation
) -> None:
    earlier = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "earlier"},
        {"role": "assistant", "content": "said"},
        {"role": "user", "content": [{"type": "text", "text": "How do I "}, {"type": "text", "text": "x?"}]},
    ]
    answer = await chats.chat.completions.create(model=BOTH[0], messages=earlier)
    (choice,) = answer.choices
    assert "> Recursively delete a directory tree." in choice.message.content
    assert (choice.finish_reason, answer.model, answer.object) == ("stop", BOTH[0], "chat.completion")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 0
    assert [source["name"] for source in answer.sources] == ["shutil.rmtree", "os.rmdir", "os.unlink"]
    fields = {"name", "title", "package", "version", "licence", "location", "url", "quote"}
    assert fields <= answer.sources[0].keys()  # as in the API of this application
    assert documentation.asked == [("earlier", "How do I x?")]  # without what the program tells the model

    stream = await chats.chat.completions.create(
        model=BOTH[0], messages=earlier, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks].count("stop") == 1
    assert (last.choices, last.usage.total_tokens, last.sources) == ([], 0, answer.sources)
    assert chunks[-1].sources == answer.sources

    cut = await chats.chat.completions.create(model=BOTH[0], messages=earlier, max_tokens=30)
    assert cut.choices[0].finish_reason == "length"
    assert choice.message.content.startswith(cut.choices[0].message.content)
    assert 0 < len(cut.choices[0].message.content) <= 90


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_model_is_given_passages_as_in_the_chat(
    chats: openai.AsyncOpenAI, model: ScriptedModel, is_streamed: bool
) -> None:
    model.room_for = 2
    model.usage = UsageMetadata(input_tokens=7, output_tokens=2, total_tokens=9)
    model.say("Use ", "rmtree [2].")
    model.end("length")
    asked = {
        "model": BOTH[1],
        "messages": [{"role": "developer", "content": "Be brief."}, *ASKED],
        "temperature": 0,
        "max_completion_tokens": 5,
        "seed": -3,
        "stop": ["END"],
        "extra_headers": {"X-Session-Id": "mine"},
        "extra_body": {"user": "me", "n": 1, "tools": [], "logprobs": False, "tool_choice": "auto"},
    }
    if is_streamed:
        options = {"include_usage": True}
        stream = await chats.chat.completions.create(**asked, stream=True, stream_options=options)
        *chunks, last = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        end, usage, sources = chunks[-1].choices[0].finish_reason, last.usage, last.sources
    else:
        answer = await chats.chat.completions.create(**asked)
        text, end = answer.choices[0].message.content, answer.choices[0].finish_reason
        usage, sources = answer.usage, answer.sources
    assert (text, end) == ("Use rmtree [2].", "length")
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 2, 9)
    # The prompt had no room for the third.
    assert [(source["name"], source["cited"]) for source in sources] == [
        ("shutil.rmtree", False),
        ("os.rmdir", True),
    ]
    assert model.asked == [[Turn(Role.USER, f"Be brief.\n\n{QUESTION}")]]
    assert [source.name for source in model.passages[0]] == ["shutil.rmtree", "os.rmdir", "os.unlink"]
    given = {"temperature": 0, "max_tokens": 5, "stop": ["END"], "session": "mine"}
    assert model.options == [{**given, "seed": (1 << 63) - 3}]


async def test_a_client_that_leaves_ends_the_answer(chats: openai.AsyncOpenAI, model: ScriptedModel) -> None:
    model.say("Use ")
    stream = await chats.chat.completions.create(model=BOTH[1], messages=ASKED, stream=True)
    await anext(aiter(stream))
    await stream.close()
    async with asyncio.timeout(20):
        await model.cancelled.wait()


UNSUPPORTED: list[dict[str, Any]] = [
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    *({"n": 2}, {"logprobs": True}, {"response_format": {"type": "json_object"}}, {"frequency_penalty": 1}),
    *({"tool_choice": "required"}, {"logit_bias": {"1": 1}}, {"unheard_of": "x"}, {"modalities": ["audio"]}),
    *({"temperature": 2.1}, {"temperature": "hot"}, {"top_p": 0}, {"max_tokens": 0}, {"seed": 1 << 64}),
    *({"stop": ["x"] * 5}, {"stop": ""}, {"stop": "x" * 300}, {"stop": 3}, {"messages": []}),
    *({"messages": "x"}, {"messages": [{"role": "tool", "content": "x"}]}, {"messages": [{"role": "user"}]}),
    {"messages": [*ASKED, {"role": "assistant", "content": "x"}]},
    {"messages": [{"role": "user", "content": " "}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
]


async def test_what_is_not_supported_is_an_error_that_names_it(chats: openai.AsyncOpenAI) -> None:
    for model in BOTH:
        for body in UNSUPPORTED:
            error = await refused(chats, model, extra_body=body)
            (name,) = body
            assert (error.status_code, error.type) == (400, "invalid_request_error"), body
            assert str(error.param).startswith(name)
            assert error.body["message"]
        assert (await refused(chats, model, extra_body={"user": "x" * MAX_BODY})).status_code == 413
    error = await refused(chats, stop="x")
    assert (error.param, error.code) == ("stop", "unsupported_parameter")


FAILURES: list[tuple[Exception, int, str]] = [
    (errors.Unreachable("Gone."), 503, "unhealthy"),
    (errors.NoModel("None."), 503, "unhealthy"),
    (errors.Overloaded("Busy."), 429, "rate_limit_exceeded"),
    (errors.PromptTooLong("Long."), 400, "context_length_exceeded"),
    (QuestionTooLong(9, 3), 400, "context_length_exceeded"),
    (errors.Refused("No."), 400, "engine_refused"),
    (errors.GenerationFailed("Broken."), 500, "engine_failed"),
    (PromptError("secret template"), 500, "engine_failed"),
    (RuntimeError("secret"), 500, ""),
]


async def test_each_failure_has_the_shape_of_the_protocol(
    chats: openai.AsyncOpenAI, model: ScriptedModel, served: FakeServed
) -> None:
    for failure, status, code in FAILURES:
        model.fail(failure)
        error = await refused(chats, BOTH[1])
        assert (error.status_code, error.code or "") == (status, code)
        assert "secret" not in str(error.body)
        assert ("retry-after" in error.response.headers) == (status in (429, 503))
        model.say("Use ")
        model.fail(failure)
        stream = await chats.chat.completions.create(model=BOTH[1], messages=ASKED, stream=True)
        with pytest.raises(openai.APIError):  # after the text
            assert [chunk.choices[0].delta.content async for chunk in stream] == ["", "Use "]
    assert served.looked
    model.say("Use ")
    model.end(None)
    assert (await refused(chats, BOTH[1])).code == "engine_failed"
    served.set(EngineState.LOADING, "It loads.")
    assert (await refused(chats, BOTH[1])).body["message"] == "It loads."


async def test_without_documentation_at_hand_the_model_answers(
    chats: openai.AsyncOpenAI, documentation: FakeDocumentation, model: ScriptedModel
) -> None:
    documentation.error = DocumentationUnreadable("It cannot be read.")
    error = await refused(chats)
    assert (error.status_code, error.body["message"]) == (503, "It cannot be read.")
    model.say("I think")
    model.end()
    answer = await chats.chat.completions.create(model=BOTH[1], messages=ASKED)
    assert (answer.choices[0].message.content, answer.sources) == ("I think", [])


async def test_one_address_gets_half_of_the_searches(
    chats: openai.AsyncOpenAI, documentation: FakeDocumentation
) -> None:
    documentation.gate.clear()
    asking = [
        asyncio.create_task(chats.chat.completions.create(model=BOTH[0], messages=ASKED))
        for _ in range(MOST_SEARCHES // 2 + 1)
    ]
    done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    documentation.gate.set()
    await asyncio.gather(*asking, return_exceptions=True)
    (refusal,) = done
    assert isinstance(refusal.exception(), openai.RateLimitError)
    assert sum(one.exception() is not None for one in asking) == 1


async def test_other_models_are_forwarded(client: httpx.AsyncClient) -> None:
    for model in ("scripted", "documentation2", "Documentation", 3, None):
        answer = await client.post("/v1/chat/completions", json={"model": model, "x": "documentation"})
        assert answer.json() == "forwarded", model
    for body in (b"documentation", b'["documentation"]', b"[" * 10_000 + b"documentation"):
        assert (await client.post("/v1/chat/completions", content=body)).json() == "forwarded"
    for model in BOTH:  # rather than an answer without any documentation
        answer = await client.post("/v1/completions", json={"model": model, "prompt": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    here = await client.post("/serving/v1/chat/completions", json={"model": BOTH[0], "messages": ASKED})
    assert here.json()["sources"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3),
    max_leaves=5,
)
FIELDS = ["messages", "stream", "stream_options", "max_tokens", "top_p", "stop", "user", "n", "\ud800"]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
async def test_no_body_breaks_it(client: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    body = json.dumps({"messages": ASKED, **fields, "model": "documentation"})
    answer = await client.post("/v1/chat/completions", content=body)
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert answer.json()["error"]["type"] == "invalid_request_error"
