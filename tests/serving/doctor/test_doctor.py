"""The doctor examines upstreams that each do one thing wrong, and real servers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from serving.doctor.checks import MULTIBYTE_PROMPT
from serving.doctor.command import examine
from serving.doctor.report import Finding, Report, Status
from serving.engine import EngineState, Infill, InvalidRequest, SamplingParams
from serving.engines.openai_client import OpenAIUpstream
from tests.serving.conftest import PATIENCE, serve
from tests.serving.engines.conftest import becomes, started
from tests.support.fake_server import FakeServer
from tests.support.fake_upstream import DONE, data, piece, usage
from tests.support.tiny_gguf import write_tiny_gguf

WORDS = [f" {first}{second}" for first in ("alpha", "beta", "gamma", "delta") for second in "0123456789"]
CONTEXT = 4096


class Upstream(FakeServer):
    """Does everything right but for what `wrong` names.

    It streams one piece, and the rest once the doctor has read that: the doctor calls `note_read`.
    """

    path = "/v1"

    def __init__(self, *wrong: str, listed: Any = None, running: str | None = None) -> None:
        self._tells_running = running
        self._wrong = wrong
        self._answers = 0
        self._running = 0
        self._was_read = asyncio.Event()
        self.listed = listed or {
            "data": [{"id": "fake", "max_model_len": CONTEXT, "owned_by": "vllm"}, {"id": "other"}]
        }

    def note_read(self) -> None:
        self._was_read.set()

    def routes(self) -> dict[str, Any]:
        routes = {
            "GET /v1/models": self._models,
            "GET /version": self._version,
            "GET /health": self._version,
            "POST /v1/completions": self._complete,
            "POST /v1/chat/completions": self._chat,
            "GET /metrics": self._metrics,
        }
        without = {"no chat": "POST /v1/chat/completions", "no metrics": "GET /metrics"}
        return {
            route: answer for route, answer in routes.items() if route not in map(without.get, self._wrong)
        }

    async def _models(self, request: web.Request) -> web.Response:
        if "key" in self._wrong:
            return web.json_response({"error": request.headers.get("Authorization")}, status=401)
        if isinstance(self.listed, str):
            return web.Response(text=self.listed, content_type="text/html")
        return web.json_response(self.listed)

    async def _metrics(self, request: web.Request) -> web.Response:
        running = self._tells_running or f"{self._running}.0"
        return web.Response(text=f'# HELP x\nvllm:num_requests_running{{model="fake"}} {running}\n')

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.29.0"})

    async def _chat(self, request: web.Request) -> web.Response:
        message = {"role": "assistant", "content": "yes"}
        reason = "end_turn" if "odd chat" in self._wrong else "stop"
        return web.json_response({"choices": [{"message": message, "finish_reason": reason}]})

    def _refuse(self, why: str, request: web.Request) -> web.Response:
        if "html" in self._wrong:
            return web.Response(status=500, text="<html>oh \x1b[31mno</html>", content_type="text/html")
        if "echo" in self._wrong:
            why = f"{why} {request.headers.get('Authorization')}"
        return web.json_response({"error": {"message": why}}, status=400)

    def _tokens(self, body: dict[str, Any]) -> list[str]:
        tokens, seed = list(WORDS), body.get("seed")
        if body["prompt"] == MULTIBYTE_PROMPT:
            owls = {
                "halves": ["\ud83e", "\udd89"] * 9,
                "lost": ["a\ufffd", "b"],
                "no UTF-8": ["a\ufffd", "b"],
            }
            if "lost" in self._wrong and not body.get("stream"):
                return ["a\N{OWL}", "b"]
            return next((owls[wrong] for wrong in self._wrong if wrong in owls), ["\N{OWL}"] * 9)
        if (seed is None and "unstable" in self._wrong) or (seed is not None and "no seed" in self._wrong):
            tokens[20] = f" {self._answers}"
        elif seed is not None:
            tokens[2] = f" {seed}"
        return tokens

    def _end(self, tokens: list[str], stops: list[str]) -> tuple[list[str], str]:
        """What is said of these tokens, and why it ends."""
        text = "".join(tokens)
        for stop in stops:
            at = text.find(stop)
            if at < 0 and "held back" in self._wrong:
                return [text[:-2]], "length"
            if at >= 0 and "stop ignored" not in self._wrong:
                end = {"stop included": at + len(stop), "stop leaks": at + len(stop) + 2, "text lost": at - 3}
                at = next((end[wrong] for wrong in self._wrong if wrong in end), at)
                return [text[:at]], "stop"
        reason = {"odd reason": "max_tokens", "no reason": None}
        return tokens, next((reason[wrong] for wrong in self._wrong if wrong in reason), "length")

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self._answers += 1
        if not isinstance(body["prompt"], str):
            return self._refuse("prompt must be a string", request)
        if "no text" in self._wrong:
            return self._refuse("this model only chats", request)
        given = len(body["prompt"].split())
        if given > CONTEXT and "cuts" in self._wrong:
            given = CONTEXT
        elif given > CONTEXT:
            long = {"odd context": "the maximum is 2048 tokens", "no number": "too long"}
            why = f"the maximum context length is {CONTEXT} tokens"
            return self._refuse(next((long[w] for w in self._wrong if w in long), why), request)
        if "suffix" in body and "suffix refused" in self._wrong:
            return self._refuse("suffix is not currently supported", request)
        if "suffix" in body and "suffix left out" not in self._wrong:
            given += len(body["suffix"].split())
        tokens, reason = self._end(self._tokens(body)[: body["max_tokens"]], body.get("stop", []))
        made = min(len(tokens), body["max_tokens"]) + ("lies" in self._wrong) * 100
        if not body.get("stream"):
            counts = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
            choice = {"text": "".join(tokens), "finish_reason": reason}
            counted = {} if "no counts" in self._wrong else {"usage": counts}
            return web.json_response({"choices": [choice], **counted})
        events = [
            *map(said, tokens),
            piece("", reason),
            *([] if "no counts" in self._wrong else [usage(given, made)]),
            DONE,
        ]
        if "event error" in self._wrong:
            events[1:] = [data({"error": {"message": "CUDA died"}})]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._running += 1
        try:
            if "buffered" not in self._wrong:
                self._was_read.clear()
                await response.write(events.pop(0))
                await self._was_read.wait()
            await response.write(b"".join(events))
        finally:
            self._running -= "deaf" not in self._wrong
        return response


def said(text: str) -> bytes:
    """A piece of text as an event, with halves of characters in the way of JSON."""
    return b"data: " + json.dumps({"choices": [{"text": text, "finish_reason": None}]}).encode() + b"\n\n"


def ticks() -> Callable[[], int]:
    """A clock that goes on by a second with each look at it."""
    return itertools.count(1).__next__


async def examined(upstream: Upstream, **options: Any) -> Report:
    async with asyncio.timeout(PATIENCE):
        return await examine(upstream.url, clock=ticks(), on_text=upstream.note_read, **options)


def of(report: Report, name: str) -> Finding:
    return next(finding for finding in report.findings if finding.name == name)


async def test_an_upstream_that_does_everything_right_is_usable() -> None:
    async with Upstream() as upstream:
        report = await examined(upstream)
    assert report.is_usable
    assert {f.name: str(f.status) for f in report.findings if f.status is not Status.RIGHT} == {
        "end of the text": "made up for"  # the protocol says `stop` for two things
    }
    assert of(report, "software").observation == "vLLM 0.29.0"
    assert of(report, "models").observation == "fake, and 1 more."
    assert of(report, "chat").observation == (
        "The server answers a chat with a system message, and the answer ends by itself."
    )
    assert of(report, "streaming").observation == "40 pieces came in 2 reads, as they were generated."
    assert "4,096 tokens, and refuses a longer prompt: 400 'the maximum" in of(report, "context").observation
    assert report.table().endswith("Nothing is wrong that we do not make up for.\n")
    assert json.loads(report.as_json())["usable"] is True


@pytest.mark.parametrize(
    ("wrong", "name", "status", "message"),
    [
        ("stop leaks", "stop sequences", "made up for", "the text goes on after it"),
        ("stop included", "stop sequences", "made up for", "the text ends with it"),
        ("stop ignored", "stop sequences", "made up for", "the server ignores it"),
        ("text lost", "stop sequences", "made up for", "text before it is lost"),
        ("held back", "stop sequences", "made up for", "the server drops text"),
        ("odd reason", "end of the text", "wrong", "the reason 'max_tokens'"),
        ("no reason", "end of the text", "wrong", "gives no reason"),
        ("unstable", "temperature 0", "wrong", "The same prompt gave two different answers"),
        ("no seed", "seed", "wrong", "The same seed gave two different answers."),
        ("no counts", "token counts", "made up for", "No answer reports the number of generated tokens."),
        ("lies", "token counts", "wrong", "140 tokens where at most 48 were asked for"),
        ("odd chat", "chat", "wrong", "A chat ends for the reason end_turn."),
        ("no chat", "chat", "made up for", "404"),
        ("suffix left out", "fill in the middle", "wrong", "the server ignores `suffix` without an error"),
        ("suffix refused", "fill in the middle", "made up for", "suffix is not currently supported"),
        ("buffered", "streaming", "wrong", "All 40 pieces came at once"),
        ("halves", "characters", "made up for", "come in halves"),
        ("lost", "characters", "wrong", "U+FFFD"),
        ("no UTF-8", "characters", "cannot tell", "The model itself"),
        ("html", "errors", "made up for", "without a message in JSON"),
        ("html", "context", "wrong", "without a clear error"),
        ("cuts", "context", "wrong", "cuts a longer prompt to 4,096 without an error"),
        ("odd context", "context", "cannot tell", "has other numbers"),
        ("no number", "context", "right", "refuses a longer prompt: 400 'too long'"),
        ("no metrics", "cancel", "cannot tell", "no /metrics or /slots"),
        ("deaf", "cancel", "wrong", "the server still computes"),
        ("no text", "text", "wrong", "this model only chats"),
        ("event error", "text", "wrong", "CUDA died"),
    ],
)
async def test_each_fault_is_found(
    wrong: str, name: str, status: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.doctor.checks.SETTLE_SECONDS", 0.2)
    async with Upstream(wrong) as upstream:
        report = await examined(upstream)
    assert str(of(report, name).status) == status, report.table()
    assert message in of(report, name).observation
    assert report.is_usable is all(finding.status is not Status.WRONG for finding in report.findings)
    assert report.is_usable or report.table().endswith(" wrong.\n")


@pytest.mark.parametrize(
    ("listed", "model", "message"),
    [
        ("<html>Welcome</html>", None, "not JSON: is this the base address?"),
        ({"data": []}, None, "--upstream-model"),
        ({"data": [{"id": "fake"}]}, "mine", "no model 'mine'. It has fake"),
    ],
)
async def test_a_server_that_cannot_be_examined_is_wrong(
    listed: Any, model: str | None, message: str
) -> None:
    async with Upstream(listed=listed) as upstream:
        report = await examined(upstream, model=model)
    assert not report.is_usable
    assert message in report.findings[-1].observation
    assert len(report.findings) < 4


async def test_nonsense_in_the_list_and_in_the_counts_is_ignored() -> None:
    listed = {"data": [{"id": "fake", "owned_by": ["vllm"]}]}
    for running in ("NaN", "+Inf", "none"):
        async with Upstream(listed=listed, running=running) as upstream:
            report = await examined(upstream)
        assert of(report, "text").status is Status.RIGHT
        assert "no /metrics or /slots" in of(report, "cancel").observation


async def test_a_server_without_a_list_is_asked_for_the_named_model() -> None:
    async with Upstream(listed="<html>") as upstream:
        report = await examined(upstream, model="fake")
    assert of(report, "reachable").status is Status.MADE_UP
    assert of(report, "software").status is Status.UNKNOWN
    assert of(report, "context").status is Status.MADE_UP
    assert of(report, "text").status is Status.RIGHT


async def test_a_silent_server_ends_the_examination() -> None:
    left = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client goes
        writer.close()
        await writer.wait_closed()
        left.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        report = await examine(f"http://127.0.0.1:{port}/v1", check_seconds=0.2)
        await left.wait()
    assert [(f.name, str(f.status)) for f in report.findings] == [("reachable", "wrong")]


async def test_an_unreachable_server_is_reported() -> None:
    report = await examine("http://127.0.0.1:9/v1")
    assert [(f.name, str(f.status)) for f in report.findings] == [("reachable", "wrong")]
    assert "Nobody answers" in report.findings[0].observation


async def test_a_password_and_a_key_are_not_both_sent() -> None:
    report = await examine("http://somebody:secret@127.0.0.1:9/v1", key="sk-1")
    assert "Only one of them" in report.findings[0].observation
    assert "secret" not in report.table()


async def test_no_key_and_no_control_character_is_shown() -> None:
    for wrong in ("echo", "key", "html"):
        async with Upstream(wrong) as upstream:
            upstream.url = upstream.url.replace("http://", "http://somebody:pass%40word@")
            report = await examined(upstream)
            shown = report.table() + report.as_json()
            assert "word@" not in shown
            assert "somebody" not in shown
            assert "c29tZWJvZHk6cGFzc0B3b3Jk" not in shown  # as it is sent
            upstream.url = upstream.url.replace("somebody:pass%40word@", "")
            report = await examined(upstream, key="sk-secret-123")
            shown = report.table() + report.as_json()
            assert "secret" not in shown
            assert "\x1b" not in shown
            assert ("[key]" in shown) is (wrong == "echo")


async def test_the_examination_is_limited_in_time() -> None:
    async with Upstream() as upstream:
        report = await examine(upstream.url, check_seconds=1, total_seconds=2)  # no answer ever ends
        assert of(report, "text").observation.startswith("There was no answer within")
        assert of(report, "cancel").observation == "The limit of 2 seconds for the whole examination is over."
        report = await examine(upstream.url, total_seconds=0)
    assert {finding.status for finding in report.findings} == {Status.UNKNOWN}


class OldTgi(FakeServer):
    """Speaks TGI's protocol as TGI does: a stop sequence stays in the text, errors come as events."""

    def routes(self) -> dict[str, Any]:
        return {
            "GET /info": self._info,
            "POST /generate": self._generate,
            "POST /generate_stream": self._generate,
            "POST /chat_tokenize": self._chat_tokenize,
        }

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"model_id": "bigcode/starcoder2-3b", "max_total_tokens": 64, "version": "3.3.7"}
        )

    async def _chat_tokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"error": "no chat template"}, status=404)

    async def _generate(self, request: web.Request) -> web.Response:
        body = await request.json()
        is_stream, parameters = request.path == "/generate_stream", body["parameters"]
        if not isinstance(body["inputs"], str) or len(body["inputs"].split()) > 64:
            error = {"error": "`inputs` must have less than 64 tokens", "error_type": "validation"}
            return self._streamed([error]) if is_stream else web.json_response(error, status=422)
        tokens, reason = WORDS[: parameters["max_new_tokens"]], "length"
        for stop in parameters.get("stop", []):
            end = "".join(tokens).index(stop) + len(stop)
            tokens, reason = ["".join(tokens)[:end]], "stop_sequence"
        details = {"finish_reason": reason, "generated_tokens": len(tokens)}
        if not is_stream:
            return web.json_response({"generated_text": "".join(tokens), "details": details})
        events: list[dict[str, Any]] = [{"token": {"id": 1, "text": t, "special": False}} for t in tokens]
        events[-1] |= {"generated_text": "".join(tokens), "details": {**details, "input_length": 2}}
        return self._streamed(events)

    def _streamed(self, events: list[dict[str, Any]]) -> web.Response:
        return web.Response(body=b"".join(map(data, events)), content_type="text/event-stream")


async def test_tgi_is_detected_and_its_stop_sequences_are_made_up_for() -> None:
    async with OldTgi() as upstream:
        report = await examine(upstream.url, clock=ticks())
    assert report.kind == "tgi"
    assert of(report, "software").observation == "TGI 3.3.7"
    assert of(report, "stop sequences").status is Status.MADE_UP
    assert "the text ends with it" in of(report, "stop sequences").observation
    assert of(report, "end of the text").status is Status.RIGHT
    assert of(report, "token counts").observation == "Prompt 2, answer 40, and they agree."
    assert of(report, "chat").status is Status.MADE_UP
    assert of(report, "fill in the middle").status is Status.MADE_UP
    assert "refuses a longer prompt: 422" in of(report, "context").observation
    assert of(report, "streaming").status is Status.WRONG  # it sends all at once


@contextlib.contextmanager
def llama_server(model: Path) -> Iterator[str]:
    """llama.cpp's own HTTP server."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel, params.kv_unified = 512, 2, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.verbosity, params.warmup, params.ui = 0, False, False
    params.endpoint_metrics = params.endpoint_slots = True
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


async def test_a_real_llama_server_is_usable(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", infilling=True)
    with llama_server(model) as url:
        report = await examine(url, kind="openai")
        async with started(OpenAIUpstream(url)) as engine:
            await becomes(engine, EngineState.READY)
            params = SamplingParams(max_new_tokens=3, seed=1)
            for _ in range(20):  # whatever it does with its connections
                assert [event async for event in engine.generate("the code", params)]
            with pytest.raises(InvalidRequest, match="markers"):  # it would leave the suffix out
                [event async for event in engine.generate(Infill("a", "b"), params)]
    assert report.is_usable, report.table()
    statuses = {finding.name: str(finding.status) for finding in report.findings}
    fast = {name: statuses.pop(name) for name in ("streaming", "cancel")}
    assert set(fast.values()) <= {"right", "cannot tell"}
    made_up = {"stop sequences", "end of the text", "chat", "fill in the middle", "keep-alive"}
    others = {**dict.fromkeys(made_up, "made up for"), "characters": "cannot tell"}
    assert len(statuses) == 15
    assert statuses == {**dict.fromkeys(statuses, "right"), **others}
    assert of(report, "software").observation.startswith("llama.cpp")
    assert "the server drops text" in of(report, "stop sequences").observation


async def test_our_own_server_is_right_in_both_protocols(tiny_model: Path) -> None:
    async with serve("--model", str(tiny_model), "--threads", "1") as served:
        await served.becomes("ready")
        for kind, url in (("tgi", served.url), ("openai", f"{served.url}/v1")):
            report = await examine(url)
            assert report.kind == kind  # it has detected the protocol
            assert report.is_usable, report.table()
            assert of(report, "software").observation == "tech-assistant"
            for name in ("stop sequences", "temperature 0", "seed", "token counts", "errors", "context"):
                assert of(report, name).status is Status.RIGHT, report.table()
