"""`gradio_client` against the real application, as a program uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.support.application import Application, running
from tests.support.fake_upstream import RESET, FakeUpstream, piece, text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(
    upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Application]:
    def start() -> Any:
        application = context.__enter__()
        application.wait_until("ready")
        application.wait_for_page()
        return application

    context = running(tmp_path_factory.mktemp("programs") / "data", "--upstream", upstream.url)
    yield await asyncio.to_thread(start)
    context.__exit__(None, None, None)


pytestmark = pytest.mark.asyncio(loop_scope="module")


def client(application: Application, **options: Any) -> Client:
    return Client(
        application.address, verbose=False, analytics_enabled=False, download_files=False, **options
    )


async def test_predict_returns_the_answer_and_continues_the_conversation(
    application: Application, upstream: FakeUpstream
) -> None:
    def talk() -> list[str]:
        program = client(application)
        return [program.predict(question, api_name="/chat") for question in ("First?", "Second?")]

    upstream.answer(*text("Yes, ", "that is 🦀."))
    assert await asyncio.to_thread(talk) == ["Yes, that is 🦀."] * 2
    prompts = [request["prompt"] for request in upstream.requests[-2:]]
    assert "First?" not in prompts[0].replace("First?", "", 1)
    assert prompts[1].index("First?") < prompts[1].index("that is 🦀.") < prompts[1].index("Second?")


async def test_sessions_have_separate_conversations(application: Application, upstream: FakeUpstream) -> None:
    def talk() -> None:
        for question in ("Of the first", "Of the second"):
            client(application).predict(question, api_name="/chat")

    upstream.answer(*text("Fine."))
    await asyncio.to_thread(talk)
    assert "Of the first" not in upstream.requests[-1]["prompt"]


async def test_concurrent_questions_of_one_session_are_all_answered(
    application: Application, upstream: FakeUpstream
) -> None:
    def talk() -> list[str]:
        program = client(application)
        jobs = [program.submit(f"Number {n}", api_name="/chat") for n in range(4)]
        return [job.result(timeout=60) for job in jobs]

    upstream.answer(*text("Fine."))
    assert await asyncio.to_thread(talk) == ["Fine."] * 4


async def test_with_a_cookie_the_conversation_belongs_to_its_owner(
    application: Application, upstream: FakeUpstream
) -> None:
    def talk() -> list[dict[str, Any]]:
        with httpx.Client(base_url=application.address) as browser:
            browser.get("/api/engine")
            program = client(application, httpx_kwargs={"cookies": dict(browser.cookies)})
            program.predict("Mine", api_name="/chat")
            found: list[dict[str, Any]] = browser.get("/api/conversations").json()["conversations"]
            return found

    upstream.answer(*text("Fine."))
    assert [chat["title"] for chat in await asyncio.to_thread(talk)] == ["Mine"]


async def test_predict_raises_errors_with_their_message(
    application: Application, upstream: FakeUpstream
) -> None:
    def talk(question: str) -> str:
        with pytest.raises(AppError) as raised:
            client(application).predict(question, api_name="/chat")
        return str(raised.value)

    assert await asyncio.to_thread(talk, "  ") == "The message is empty. Write a question."
    assert "NUL" in await asyncio.to_thread(talk, "a\0b")
    upstream.answer(piece("Half an ans"), RESET)
    assert "broke off" in await asyncio.to_thread(talk, "Break")
    assert "Traceback" not in application.log
