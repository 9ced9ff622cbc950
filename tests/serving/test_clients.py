"""`python -m serving` as a real process, asked by the clients that people use."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_generation import AsyncClient, Client
from text_generation.errors import (
    GenerationError,
    IncompleteGenerationError,
    OverloadedError,
    ValidationError,
)
from text_generation.types import FinishReason

from tests.serving.conftest import PATIENCE, ROOT, Served, eventually, serve
from tests.serving.test_stopping import cut, first_match
from tests.support.fake_upstream import RESET, FakeUpstream, piece, text
from tests.support.tiny_gguf import write_tiny_gguf

# The client's own use of pydantic.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")

WORDS = ["the", " code", "\n", "Human", ":", " is", " a"]


@contextlib.asynccontextmanager
async def embedded(model: Path, *arguments: str) -> AsyncIterator[Served]:
    async with serve("--model", str(model), "--threads", "1", *arguments) as served:
        await served.becomes("ready")
        yield served


@contextlib.asynccontextmanager
async def upstreamed() -> AsyncIterator[tuple[Served, FakeUpstream]]:
    async with FakeUpstream() as upstream, serve("--upstream", upstream.url) as served:
        await served.becomes("ready")
        yield served, upstream


@pytest.fixture(params=["llama.cpp", "openai"])
async def either(request: pytest.FixtureRequest, tiny_model: Path) -> AsyncIterator[Served]:
    if request.param == "llama.cpp":
        async with embedded(tiny_model) as served:
            yield served
    else:
        async with upstreamed() as (served, upstream):
            upstream.answer(*text(*WORDS, finish_reason="length"))
            yield served


async def test_sync_client_generates_and_streams(either: Served) -> None:
    client = Client(either.url, timeout=PATIENCE)
    whole = await asyncio.to_thread(client.generate, "the code", max_new_tokens=7)
    events = await asyncio.to_thread(lambda: list(client.generate_stream("the code", max_new_tokens=7)))
    assert whole.details.generated_tokens == 7
    assert whole.details.finish_reason is FinishReason.Length
    assert "".join(token.text for token in whole.details.tokens) == whole.generated_text
    assert "".join(event.token.text for event in events) == events[-1].generated_text == whole.generated_text
    assert events[-1].details is not None
    assert events[-1].details.finish_reason is FinishReason.Length
    assert len(events) == 7


async def test_async_client_generates_and_streams(either: Served) -> None:
    client = AsyncClient(either.url, timeout=PATIENCE)
    whole = await client.generate("the code", max_new_tokens=7)
    events = [event async for event in client.generate_stream("the code", max_new_tokens=7)]
    assert "".join(event.token.text for event in events) == events[-1].generated_text == whole.generated_text
    assert [event.details is None for event in events] == [True] * (len(events) - 1) + [False]


async def test_a_stop_sequence_is_cut_alike_in_both_ways(either: Served) -> None:
    client = AsyncClient(either.url, timeout=PATIENCE)
    free = await client.generate("the code", max_new_tokens=7)
    stop = free.generated_text[4:9]
    expected = free.generated_text[: free.generated_text.index(stop)]
    whole = await client.generate("the code", max_new_tokens=7, stop_sequences=[stop])
    events = [e async for e in client.generate_stream("the code", max_new_tokens=7, stop_sequences=[stop])]
    assert whole.generated_text == expected == "".join(event.token.text for event in events)
    assert whole.details.finish_reason is FinishReason.StopSequence
    assert events[-1].details is not None
    assert events[-1].details.finish_reason is FinishReason.StopSequence


async def test_clients_get_the_errors_that_they_know(tiny_model: Path) -> None:
    async with embedded(tiny_model) as served:
        client = AsyncClient(served.url, timeout=PATIENCE)
        with pytest.raises(ValidationError, match="max_new_tokens"):
            await client.generate("the", max_new_tokens=5000)
        with pytest.raises(ValidationError, match="max_new_tokens"):
            [e async for e in client.generate_stream("the", max_new_tokens=5000)]
        with pytest.raises(ValidationError, match="inputs"):
            await client.generate("the " * 3000, max_new_tokens=1)
    async with upstreamed() as (served, upstream):
        client = AsyncClient(served.url, timeout=PATIENCE)
        upstream.answer(b"", status=503)
        with pytest.raises(OverloadedError):
            await client.generate("the")
        upstream.answer(b"", status=500)
        with pytest.raises(GenerationError):
            [e async for e in client.generate_stream("the")]
        upstream.answer(piece("some"), 0.1, RESET)
        with pytest.raises(IncompleteGenerationError):
            [e async for e in client.generate_stream("the")]
        upstream.answer(piece("some"), 0.1, RESET)
        with pytest.raises(IncompleteGenerationError):
            await client.generate("the")


async def test_an_upstream_that_nobody_answers_for_is_told_in_info_and_to_clients() -> None:
    async with serve("--upstream", "http://127.0.0.1:9/v1") as served:
        info = await served.becomes("failed")
        assert "cannot be reached" in info["state_detail"]
        assert (await served.get("/health"))[0] == 503
        status, answer = await served.post("/generate", {"inputs": "Hi"})
        assert (status, answer["error_type"]) == (503, "unhealthy")


async def test_leaving_a_stream_frees_the_only_place_of_the_engine(slow_model: Path) -> None:
    async with embedded(slow_model, "--parallel", "1") as served:
        body = {"inputs": " the" * 6000, "parameters": {"max_new_tokens": 1}, "stream": True}
        for _ in range(2):  # while the prompt is being read, and with another request behind it
            leaving = asyncio.create_task(served.post("/", body))

            async def computing() -> bool:
                return b"tgi_batch_current_size 1" in (await served.get("/metrics"))[1]

            await eventually(computing)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        status, answer = await served.post(
            "/generate", {"inputs": "the", "parameters": {"max_new_tokens": 3}}
        )
        assert (status, bool(answer["generated_text"])) == (200, True)


def test_any_text_in_any_pieces_ends_before_the_first_match() -> None:
    letters = st.sampled_from("ab\n é🦉言")
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        served, upstream = runner.run(stack.enter_async_context(upstreamed()))

        @settings(max_examples=100, deadline=None)
        @given(
            st.text(letters, max_size=60),
            st.lists(st.text(letters, min_size=1, max_size=5), max_size=4),
            st.lists(st.integers(0, 60), max_size=8),
            st.lists(st.integers(0, 3000), max_size=8),
        )
        def check(whole: str, stops: list[str], cuts: list[int], byte_cuts: list[int]) -> None:
            pieces = [piece for piece in cut(whole, cuts) if piece]
            raw = b"".join(step for step in text(*pieces) if isinstance(step, bytes))
            upstream.answer(*cut(raw, byte_cuts))
            whole_answer, streamed = runner.run(ask_both_ways(served, stops))
            expected, stop = first_match(stops, whole)
            reason = "eos_token" if stop is None else "stop_sequence"
            assert whole_answer["generated_text"] == streamed[-1]["generated_text"] == expected
            assert "".join(event["token"]["text"] for event in streamed) == expected
            for details in (whole_answer["details"], streamed[-1]["details"]):
                assert details["finish_reason"] == reason

        try:
            check()
        finally:
            runner.run(stack.aclose())


async def ask_both_ways(served: Served, stops: list[str]) -> tuple[Any, list[Any]]:
    body = {"inputs": "Hi", "parameters": {"stop": stops, "details": True}}
    status, whole = await served.post("/generate", body)
    assert status == 200, whole
    async with served.http.post(served.url + "/generate_stream", json=body) as answer:
        blocks = (await answer.read()).split(b"\n\n")
    return whole, [json.loads(block[6:]) for block in blocks if block.startswith(b"data: ")]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_at_once_and_tells_running_streams(how: signal.Signals) -> None:
    async with upstreamed() as (served, upstream):
        upstream.answer(piece("Hello"), asyncio.Event())
        async with served.http.post(served.url, json={"inputs": "Hi", "stream": True}) as stream:
            assert b"Hello" in await stream.content.readany()
            served.process.send_signal(how)
            rest = await stream.read()
            assert b'"error_type":"incomplete_generation"' in rest
        async with asyncio.timeout(PATIENCE):
            await served.process.wait()


async def test_it_ends_while_a_model_is_being_loaded_and_answers_until_then(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "large.gguf", blocks=2, width=1024)
    async with serve("--model", str(model), "--threads", "1") as served:
        status, info = await served.get("/info")
        assert status == 200
        assert info["state"] in ("loading", "ready")
        served.process.terminate()
        async with asyncio.timeout(PATIENCE):
            await served.process.wait()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required"),
        (["--model", "/nowhere/x.gguf"], "/nowhere/x.gguf"),
        (["--model", __file__], "not a GGUF file"),
        (["--upstream", "localhost:8000"], "must be an address"),
        (["--upstream", "http://x", "--model", "y"], "not allowed with"),
        (["--model", "TINY", "--host", "no.such.host.invalid"], "cannot listen"),
        (["--model", "TINY", "--port", "99999"], "cannot listen"),
        (["--model", "TINY", "--parallel", "0"], "--parallel"),
    ],
)
async def test_what_cannot_work_ends_with_code_2_and_a_clear_last_line(
    arguments: list[str], words: str, tiny_model: Path
) -> None:
    arguments = [str(tiny_model) if argument == "TINY" else argument for argument in arguments]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "serving", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode == 2
    assert out == b""
    assert words in err.decode().splitlines()[-1]
    assert b"Traceback" not in err


async def test_a_damaged_model_shows_in_info_and_not_as_a_crash(tmp_path: Path, tiny_model: Path) -> None:
    damaged = write_tiny_gguf(tmp_path / "damaged.gguf")
    with damaged.open("r+b") as file:
        file.truncate(150_000)
    async with serve("--model", str(damaged), "--threads", "1") as served:
        info = await served.becomes("failed")
        assert "damaged.gguf" in info["state_detail"]
        status, answer = await served.post("/generate", {"inputs": "Hi"})
        assert (status, answer["error_type"]) == (503, "unhealthy")


async def test_the_key_may_come_from_the_environment(tiny_model: Path) -> None:
    async with serve(
        "--model", str(tiny_model), "--threads", "1", TECH_ASSISTANT_SERVING_KEY="secret"
    ) as served:
        assert (await served.get("/info"))[0] == 401
        served.http.headers["Authorization"] = "Bearer secret"
        await served.becomes("ready")
