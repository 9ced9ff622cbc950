from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from serving.engine import (
    Accepted,
    Chat,
    Chunk,
    EngineState,
    GenerationFailed,
    IncompleteGeneration,
    InvalidRequest,
    Overloaded,
    ServingError,
    TokenSpan,
    Unhealthy,
)
from serving.engines.openai_client import OpenAIUpstream
from serving.engines.remote import Limits
from serving.engines.tgi_client import TgiUpstream
from serving.engines.upstreams import (
    FAILURES,
    MOST_RETRIES,
    DetectedUpstream,
    UpstreamProtocol,
    Upstreams,
    upstream,
)
from tests.serving.conftest import eventually
from tests.serving.engines.conftest import PARAMS, becomes, failure_of, happens, running, started, until
from tests.support.fake_engine import FakeEngine
from tests.support.fake_server import FakeServer
from tests.support.fake_tgi import FakeTGI, last, token
from tests.support.fake_upstream import NEVER, RESET, FakeUpstream, Step, piece, text

ILL: dict[str, tuple[Sequence[Step], dict[str, Any], type[ServingError]]] = {
    "stalls before its headers": ([NEVER], {}, GenerationFailed),
    "stalls before its first token": ([b": hi\n\n", NEVER], {}, IncompleteGeneration),
    "resets before its first token": ([b": hi\n\n", 0.05, RESET], {}, IncompleteGeneration),
    "answers 500": ([b"no"], {"status": 500, "content_type": "text/plain"}, GenerationFailed),
    "answers 429": ([b""], {"status": 429, "content_type": "text/plain"}, Overloaded),
    "answers with a page": ([b"<html>"], {"content_type": "text/html"}, IncompleteGeneration),
}


@pytest.fixture
async def two() -> AsyncIterator[list[FakeUpstream]]:
    async with FakeUpstream() as first, FakeUpstream() as second:
        yield [first, second]


@contextlib.asynccontextmanager
async def engine(upstreams: Sequence[FakeUpstream], **limits: float) -> AsyncIterator[Upstreams]:
    engines = {u.url: OpenAIUpstream(u.url, limits=Limits(**limits)) for u in upstreams}
    async with running(Upstreams(dict(engines))) as engine:
        await until(lambda: all(e.info.state is not EngineState.LOADING for e in engines.values()))
        yield engine


def answer(upstreams: Sequence[FakeUpstream], *steps: Step, **how: Any) -> None:
    """All of them give this answer next."""
    for one in upstreams:
        one.answer(*steps, **how)


async def ask(engine: Upstreams, session: str | None = None) -> str:
    events = [event async for event in engine.generate("Hi", PARAMS, session=session)]
    assert [isinstance(event, Accepted) for event in events] == [True] + [False] * (len(events) - 1)
    return b"".join(event.data for event in events if isinstance(event, Chunk)).decode()


def asked(upstreams: Sequence[FakeUpstream]) -> list[int]:
    return [len(upstream.requests) for upstream in upstreams]


@pytest.mark.parametrize("ill", ILL)
async def test_a_failure_before_any_token_is_retried_elsewhere(two: list[FakeUpstream], ill: str) -> None:
    steps, how, _ = ILL[ill]
    two[0].answer(*steps, **how)
    two[1].answer(*text("Hello"))
    async with engine(two, first=0.5) as both:
        assert await ask(both) == "Hello"
    assert asked(two) == [1, 1]


async def test_an_upstream_that_disappears_is_replaced(two: list[FakeUpstream]) -> None:
    two[1].answer(*text("Hello"))
    async with engine(two) as both:
        await two[0].__aexit__()
        assert await ask(both) == "Hello"
        assert both.info.state is EngineState.READY
        assert await ask(both) == "Hello"
        assert "cannot be reached" in (both.info.state_detail or "")


@pytest.mark.parametrize("ill", ILL)
async def test_when_both_fail_the_client_gets_the_error(two: list[FakeUpstream], ill: str) -> None:
    steps, how, error = ILL[ill]
    answer(two, *steps, **how)
    async with engine(two, first=0.5) as both:
        with pytest.raises(error):
            await ask(both)
    assert asked(two) == [1, 1]  # once more, not again and again


@pytest.mark.parametrize("end", [[NEVER], [0.05, RESET], []])
async def test_a_failure_after_a_token_is_not_retried(two: list[FakeUpstream], end: list[Step]) -> None:
    two[0].answer(piece("Hello"), *end)
    two[1].answer(*text("never"))
    async with engine(two, between=0.2) as both:
        outputs, error = await failure_of(both)
    assert isinstance(error, IncompleteGeneration)
    assert [event.data for event in outputs if isinstance(event, Chunk)] == [b"Hello"]
    assert asked(two) == [1, 0]


async def test_an_invalid_request_is_not_retried(two: list[FakeUpstream]) -> None:
    two[0].answer(b'{"error": "too long"}', status=400, content_type="application/json")
    two[1].answer(*text("never"))
    async with engine(two) as both:
        with pytest.raises(InvalidRequest, match="too long"):
            await ask(both)
    assert asked(two) == [1, 0]


async def test_only_the_sessions_of_a_missing_upstream_move() -> None:
    engines = {f"http://{name}": FakeEngine("x") for name in "abc"}
    three = Upstreams(dict(engines))

    async def homes() -> dict[str, str]:
        found = {}
        for session in map(str, range(60)):
            before = {url: len(engine.asked) for url, engine in engines.items()}
            await ask(three, session)
            (found[session],) = (url for url, engine in engines.items() if len(engine.asked) > before[url])
        return found

    at_first = await homes()
    assert set(at_first.values()) == set(engines)
    assert await homes() == at_first
    engines["http://b"].becomes(EngineState.FAILED)
    moved = await homes()
    assert set(moved.values()) == {"http://a", "http://c"}
    assert all(moved[session] == home for session, home in at_first.items() if home != "http://b")
    engines["http://b"].becomes(EngineState.READY)
    assert await homes() == at_first


async def test_the_upstream_gets_the_session(two: list[FakeUpstream]) -> None:
    answer(two, *text("x"))
    async with engine(two) as both:
        await ask(both, "s")
    assert [headers["X-Session-Id"] for one in two for headers in one.headers] == ["s"]


async def test_a_session_goes_elsewhere_while_its_upstream_has_no_room(two: list[FakeUpstream]) -> None:
    answer(two, *text("x"))
    async with engine(two) as both:
        await ask(both, "s")
        home = two[0] if two[0].requests else two[1]
        other = two[1] if home is two[0] else two[0]
        home.answer(b"", status=429, content_type="text/plain", headers={"Retry-After": "20"})
        home.answer(*text("x"))
        for _ in range(3):
            await ask(both, "s")
        assert (len(home.requests), len(other.requests)) == (2, 3)


async def test_without_a_session_the_least_busy_upstream_answers(two: list[FakeUpstream]) -> None:
    held = asyncio.Event()
    answer(two, piece("x"), held, *text())
    async with engine(two) as both:
        generating = [both.generate("Hi", PARAMS) for _ in range(6)]
        for events in generating:
            await anext(events)
        assert asked(two) == [3, 3]
        held.set()
        assert [[_ async for _ in events] for events in generating]


async def test_an_upstream_that_keeps_failing_gets_no_requests_until_it_works(
    two: list[FakeUpstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.engines.upstreams.PROBE_SECONDS", 0.05)
    two[0].answer(b"", status=500, content_type="text/plain")
    two[1].answer(*text("Hello"))
    async with engine(two) as both:
        while len(two[0].requests) < FAILURES:
            assert await ask(both) == "Hello"
        for _ in range(10):
            assert await ask(both) == "Hello"
        users = [r for r in two[0].requests if r["max_tokens"] == PARAMS.max_new_tokens]
        assert len(users) == FAILURES

        two[0].answer(*text("I am back"))

        async def is_back() -> bool:
            return await ask(both) == "I am back"

        await eventually(is_back)
    assert 1 in [request["max_tokens"] for request in two[0].requests]  # it was tried by a request of our own


class OnlyChats(FakeUpstream):
    async def _complete(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/completions":
            return web.Response(status=404)
        return await super()._complete(request)


async def test_after_a_failed_chat_the_probe_is_a_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engines.upstreams.PROBE_SECONDS", 0.05)
    chat = Chat([{"role": "user", "content": "Hi"}])
    async with OnlyChats() as ill, OnlyChats() as well:
        ill.answer(b"", status=500, content_type="text/plain")
        well.answer(*text("Hello"))
        async with engine([ill, well]) as both:

            async def is_broken() -> bool:
                async for _ in both.generate(chat, PARAMS):
                    pass
                return both._members[0].is_broken

            await eventually(is_broken)
            ill.answer(*text("I am back"))
            await until(lambda: not both._members[0].is_broken)


async def test_a_full_upstream_is_not_ill(two: list[FakeUpstream], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engines.upstreams.LONGEST_FULL_SECONDS", 0)
    two[0].answer(b"", status=429, content_type="text/plain")
    two[1].answer(*text("Hello"))
    async with engine(two) as both:
        for _ in range(2 * FAILURES):
            assert await ask(both) == "Hello"
    assert len(two[0].requests) > FAILURES


async def test_when_all_upstreams_are_broken_they_still_get_requests(two: list[FakeUpstream]) -> None:
    answer(two, b"", status=500, content_type="text/plain")
    async with engine(two) as both:
        for _ in range(2 * FAILURES):
            with pytest.raises(GenerationFailed):
                await ask(both)
        answer(two, *text("Hello"))
        assert await ask(both) == "Hello"


async def test_when_no_upstream_has_room_none_is_asked_twice(two: list[FakeUpstream]) -> None:
    answer(two, b"", status=429, content_type="text/plain", headers={"Retry-After": "9"})
    async with engine(two) as both:
        for _ in range(5):
            with pytest.raises(Overloaded) as raised:
                await ask(both)
            assert raised.value.retry_after == 9
    assert sum(asked(two)) == 2 + 4  # the first of them was asked again at the other


async def test_few_requests_are_retried(two: list[FakeUpstream], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engines.upstreams.RETRY_FLOOR_SECONDS", float("inf"))
    answer(two, b"", status=500, content_type="text/plain")
    async with engine(two) as both:
        for _ in range(60):
            with pytest.raises(GenerationFailed):
                await ask(both)
    # What was saved up, and one in ten of all; what is over the most that can be saved is lost.
    assert MOST_RETRIES <= sum(asked(two)) - 60 <= MOST_RETRIES + 6


async def test_closing_an_answer_ends_the_computation_and_makes_room(two: list[FakeUpstream]) -> None:
    two[0].answer(piece("x"), NEVER)
    async with engine(two) as both:
        async with contextlib.aclosing(both.generate("Hi", PARAMS)) as events:
            assert isinstance(await anext(events), Accepted)
        await happens(two[0].disconnected)
        assert [member.running_requests for member in both._members] == [0, 0]


async def test_the_info_describes_all_upstreams(
    two: list[FakeUpstream], caplog: pytest.LogCaptureFixture
) -> None:
    two[0].model_list = [{"id": "a", "max_model_len": 100}, {"id": "l", "parent": "a"}]
    two[1].model_list = [{"id": "b", "max_model_len": 50}]
    async with engine(two) as both:
        with caplog.at_level(logging.WARNING):
            infos = [both.info for _ in range(3)]
        assert infos[0] == infos[1]
        info = infos[0]
        assert (info.state, info.model_id, info.context, info.chats) == (EngineState.READY, "a", 50, True)
        assert list(info.adapters) == []
        warning = "the upstreams have different models: a, b. We report a."
        assert [record.getMessage() for record in caplog.records].count(warning) == 1


async def test_when_no_upstream_is_ready_the_info_says_why(two: list[FakeUpstream]) -> None:
    two[0].model_list, two[1].model_list = 500, []
    async with engine(two) as both:
        assert both.info.state is EngineState.FAILED
        assert "500" in (both.info.state_detail or "")
        assert "lists no model" in (both.info.state_detail or "")
        with pytest.raises(Unhealthy, match="500"):
            await ask(both)
        assert await both.tokenize("x") is None
        two[0].model_list = 503
        await becomes(both, EngineState.LOADING)


def detected(url: str) -> contextlib.AbstractAsyncContextManager[DetectedUpstream]:
    engine = upstream(url)
    assert isinstance(engine, DetectedUpstream)
    return started(engine)


def test_an_address_may_show_its_protocol() -> None:
    assert isinstance(upstream("http://a/v1"), OpenAIUpstream)
    assert isinstance(upstream("http://a/v1/"), OpenAIUpstream)
    assert isinstance(upstream("http://a/v1", UpstreamProtocol.TGI), TgiUpstream)
    assert isinstance(upstream("http://a", UpstreamProtocol.OPENAI), OpenAIUpstream)
    assert isinstance(upstream("http://a"), DetectedUpstream)
    assert [upstream(f"http://a{path}", UpstreamProtocol.TGI).url for path in ("", "/v1")] == ["http://a"] * 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("url", ["http://me:pass%2Fword@127.0.0.1:9", "http://me:pass%2Fword@127.0.0.1:9/v1"])
@pytest.mark.parametrize("kind", [None, *UpstreamProtocol])
async def test_a_password_in_an_address_is_shown_nowhere(
    url: str, kind: UpstreamProtocol | None, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Upstreams({url: upstream(url, kind)})
    shown = [str(engine.info)]
    async with started(engine):
        with caplog.at_level(logging.INFO):
            await becomes(engine, EngineState.FAILED)
            for _ in range(FAILURES):
                engine._members[0].note_failure("Hi")
            with pytest.raises(Unhealthy, match=r"http://127\.0\.0\.1:9.* cannot be reached") as raised:
                await ask(engine)
        shown += [str(engine.info), str(raised.value), caplog.text]
    assert "127.0.0.1:9 failed 3 times" in caplog.text.replace("/v1", "")
    assert not any("word" in message or "me:" in message for message in shown), shown


async def test_a_password_in_an_address_takes_the_place_of_the_key() -> None:
    async with FakeUpstream() as openai:
        openai.answer(*text("Hello"))
        asked = upstream(openai.url.replace("//", "//me:word@"), api_key="key")
        async with running(asked):
            events = [event async for event in asked.generate("Hi", PARAMS)]
            assert [event.data for event in events if isinstance(event, Chunk)] == [b"Hello"]
        assert openai.headers[0]["Authorization"] == "Basic bWU6d29yZA=="


async def test_a_server_that_answers_with_deep_json_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engines.remote.CHECK_SOON_SECONDS", 0.02)
    asked_before: list[str] = []

    async def info(request: web.Request) -> web.Response:
        asked_before.append(request.path)
        deep = "[" * 100_000 if len(asked_before) == 1 else '{"data": [{"id": "m"}]}'
        return web.Response(text=deep, content_type="application/json")

    class DeepAtFirst(FakeServer):
        def routes(self) -> dict[str, Any]:
            return {"GET /{any:.*}": info}

    async with DeepAtFirst() as server, detected(server.url) as engine:
        await becomes(engine, EngineState.READY)


async def test_the_protocol_of_a_server_is_detected() -> None:
    async with FakeTGI().running() as tgi, detected(tgi.url) as engine:
        tgi.answers.append([token("Hello"), last()])
        tgi.spans = []
        await becomes(engine, EngineState.READY)
        assert engine.info.engine == "tgi"
        events = [event async for event in engine.generate("Hi", PARAMS)]
        assert Chunk(b"Hello", 1) in events
        assert await engine.tokenize("") == []
    async with FakeUpstream() as openai, detected(openai.url.removesuffix("/v1")) as engine:
        openai.answer(*text("Hello"))
        await becomes(engine, EngineState.READY)
        assert engine.info.engine == "openai"
        assert len([event async for event in engine.generate("Hi", PARAMS)]) == 3
        assert await engine.tokenize("") is None


async def test_detection_goes_on_until_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engines.remote.CHECK_SOON_SECONDS", 0.02)
    async with FakeUpstream() as openai:
        openai.model_list = 401
        async with detected(openai.url.removesuffix("/v1")) as engine:
            with pytest.raises(Unhealthy):
                await anext(engine.generate("Hi", PARAMS))
            assert await engine.tokenize("x") is None
            await becomes(engine, EngineState.FAILED, "refuses our key")
            for status, state, message in (
                (500, EngineState.FAILED, "answers 500"),
                (503, EngineState.LOADING, "still loading"),
                (404, EngineState.FAILED, "--upstream-kind"),
            ):
                openai.model_list = status
                await becomes(engine, state, message)
            await openai.__aexit__()
            await becomes(engine, EngineState.FAILED, "cannot be reached")
            openai.model_list = [{"id": "m"}]
            await openai.__aenter__()
            await becomes(engine, EngineState.READY)


async def test_upstreams_of_different_protocols_work_together() -> None:
    async with FakeUpstream() as openai, FakeTGI().running() as tgi:
        openai.answer(*text("Hello"))
        tgi.answers += [[{"error": "full", "error_type": "overloaded"}], [token("Hello"), last()]]
        engines = {url: upstream(url) for url in (tgi.url, openai.url)}
        async with started(Upstreams(engines)) as both:
            await until(lambda: all(one.info.state is EngineState.READY for one in engines.values()))
            assert not both.info.chats
            for _ in range(2):  # the first answer says in its stream that there is no room
                assert await ask(both) == "Hello"
    assert (len(tgi.requests), len(openai.requests)) == (1, 2)


class Tokenizing(FakeEngine):
    def __init__(self, answer: Sequence[TokenSpan] | ServingError | None) -> None:
        super().__init__()
        self.answer = answer

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        if isinstance(self.answer, ServingError):
            raise self.answer
        return self.answer


async def test_any_upstream_that_can_tokenizes_a_text() -> None:
    spans, gone = [TokenSpan(1, "Hi", 0, 2)], Unhealthy("gone")
    wrong = InvalidRequest("no")
    cases = (
        ([gone, None, spans], spans),
        ([None, None], None),
        ([gone, None], gone),
        ([wrong, spans], wrong),
    )
    for answers, expected in cases:
        both = Upstreams({f"http://{number}": Tokenizing(answer) for number, answer in enumerate(answers)})
        if isinstance(expected, ServingError):
            with pytest.raises(type(expected)):
                await both.tokenize("Hi")
        else:
            assert await both.tokenize("Hi") == expected


async def test_the_info_adds_the_counts_of_all_upstreams() -> None:
    engines = {"http://a": FakeEngine(), "http://b": FakeEngine()}
    both = Upstreams(dict(engines))
    engines["http://a"].info = replace(engines["http://a"].info, waiting=2, computed_tokens=5)
    engines["http://b"].info = replace(engines["http://b"].info, waiting=1, context=100)
    info = both.info
    assert (info.parallel, info.waiting, info.context) == (8, 3, 100)
    assert (info.computed_tokens, info.reused_tokens) == (5, None)
    engines["http://b"].info = replace(engines["http://b"].info, parallel=None)
    assert both.info.parallel is None
    engines["http://b"].becomes(EngineState.FAILED, "It is broken.")
    info = both.info
    assert (info.state, info.state_detail, info.parallel) == (EngineState.READY, "It is broken.", 4)
    assert await both.tokenize("x") == [TokenSpan(1, "x", 0, 1)]
