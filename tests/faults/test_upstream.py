"""An upstream, alone or one of two, stalls, breaks off or sends nonsense.

The application and the serving layer are real processes. Each fault costs one reply; the next one works.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from assistant.knowledge.answer import INSTEAD
from tests.faults.conftest import Count
from tests.support.application import PATIENCE, peak_memory
from tests.support.fake_upstream import NEVER, RESET, FakeUpstream, Step, data, piece, text
from tests.support.listening import Chain, ask, client_of, hear, in_front_of, messages_of, new_chat, under_way

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the processes of Linux")

SECONDS = "0.5"  # the serving layer's time limits for the upstream, which these tests wait for
MEGABYTE = 1 << 20
WELL = "All is well."


@dataclass(frozen=True)
class Fault:
    name: str
    steps: Iterable[Step]
    text: str  # the text that is kept
    end: str  # the finish reason, or the type of the failure
    logged: str = ""  # part of the log; readers get nothing that the upstream sent
    status: int = 200
    content_type: str = "text/event-stream"


OUR_MESSAGES = ("", "The engine is not ready.", "The answer broke off: the engine failed.")
HELLO = piece("Hello")
OWL = piece(" 🦉")
HALF = OWL.index("🦉".encode()) + 2
EVENT = b'data: {"choices": [{"text": "%b"}]}\n\n'

FAULTS = (
    Fault("stalls before its headers", [NEVER], "", "engine_failed", "has not answered within 0.5 seconds"),
    Fault("stalls before the first byte", [b"", NEVER], "", "engine_failed", "nothing for 0.5 seconds"),
    Fault("stalls between two pieces", [HELLO, NEVER], "Hello", "engine_failed", "nothing for 0.5 seconds"),
    Fault("resets before its headers", [RESET], "", "engine_unreachable", "broke the connection off"),
    Fault("resets before the first byte", [b": hi\n\n", 0.05, RESET], "", "engine_failed", "broke off"),
    Fault("resets after the first piece", [HELLO, 0.05, RESET], "Hello", "engine_failed", "broke off"),
    Fault("ends without an end", [HELLO], "Hello", "engine_failed", "broke off"),
    Fault("answers 500", [b'{"error": "CUDA"}'], "", "engine_failed", "500: CUDA", status=500),
    Fault("answers 500 with a page", [b"<html>"], "", "engine_failed", "answered 500.", status=500),
    Fault("answers with a page", [b"<html>"], "", "engine_failed", "text/html", content_type="text/html"),
    Fault("sends a page as a stream", [b"<html>\n\n</html>"], "", "engine_failed", "broke off"),
    Fault("sends no JSON", [HELLO, b"data: <html>\n\n"], "Hello", "engine_failed", "is not an event"),
    Fault("cuts a character in two", [HELLO, OWL[:HALF], 0.05, OWL[HALF:], *text()], "Hello 🦉", "eos_token"),
    Fault("ends in half a character", [HELLO, OWL[:HALF]], "Hello", "engine_failed", "is not an event"),
    Fault("sends what is not UTF-8", [HELLO, EVENT % b"\xc3(", *text()], "Hello\ufffd(", "eos_token"),
    Fault("sends half of a pair", [HELLO, EVENT % rb"\ud83e", *text()], "Hello", "eos_token"),
    Fault("reports an error", [HELLO, data({"error": "CUDA"})], "Hello", "engine_failed", "failed: CUDA"),
    Fault("sends a line without an end", [HELLO, *[b"x" * 4096] * 300], "Hello", "engine_failed", "too long"),
)


class Upstream(FakeUpstream):
    """An upstream that can also break off before its headers, or answer without an end."""

    endless: bytes | None = None

    def forget(self) -> None:
        """Drop the answers that were not asked for."""
        self._answers.clear()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        if self.endless is None:
            return await super()._complete(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for sent in itertools.count():
                await response.write(self.endless % sent)
        except (asyncio.CancelledError, ConnectionError):
            self.disconnected.set()
            raise
        return response

    async def send(self, request: web.Request, answer: Any) -> web.StreamResponse:
        if answer.steps and answer.steps[0] == RESET and request.transport is not None:
            request.transport.abort()
        return await super().send(request, answer)


async def answer(chain: Chain, question: str) -> tuple[str, str, str]:
    """The text of a reply, its finish reason or the type of its failure, and the failure's message."""
    async with client_of(chain.application) as client, asyncio.timeout(PATIENCE):
        while (await client.get("/api/engine")).json()["state"] != "ready":
            await asyncio.sleep(0.05)
        chat = await new_chat(client)
        heard = await hear(client, await ask(client, chat, question))
        stored = (await messages_of(client, chat))[-1]
        assert stored["content"] == heard.text
        if heard.end == "done":
            assert stored["status"] == "done"
            assert stored["finish_reason"] == heard.end_data["finish_reason"]
            return heard.text, stored["finish_reason"], ""
        assert (stored["status"], stored["error"]) == ("failed", heard.end_data)
        return heard.text, heard.end_data["type"], heard.end_data["message"]


def memory(chain: Chain) -> dict[str, int]:
    """The largest number of bytes of memory that each process has had."""
    assert chain.application.process is not None
    pids = {"application": chain.application.process.pid, "serving layer": chain.layer.pid}
    return {name: peak_memory(pid) for name, pid in pids.items()}


def in_a_chain(
    directory: Path, *upstreams: Upstream, options: Sequence[str] = ()
) -> contextlib.AbstractAsyncContextManager[Chain]:
    limits = ("--first-seconds", SECONDS, "--between-seconds", SECONDS)
    asks = ("--max-new-tokens", "64", *options)
    return in_front_of(*upstreams, data=directory / "data", layer_options=limits, options=asks)


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    async with Upstream() as upstream, in_a_chain(tmp_path, upstream) as chain:
        yield chain


async def test_each_fault_of_the_upstream_ends_its_reply_and_no_other(chain: Chain, count: Count) -> None:
    for fault in FAULTS:
        logged = len(chain.log)
        chain.upstream.answer(*fault.steps, status=fault.status, content_type=fault.content_type)
        kept, end, message = await answer(chain, fault.name)
        assert (kept, end) == (fault.text, fault.end), (fault.name, message)
        assert fault.logged in chain.log[logged:], fault.name
        assert message in OUR_MESSAGES, fault.name
        chain.upstream.answer(*text(WELL))
        assert await answer(chain, "and now?") == (WELL, "eos_token", ""), fault.name
        assert await under_way(chain.layer) == 0, fault.name
    assert "Traceback" not in chain.log, chain.log
    assert "ERROR" not in chain.log, chain.log
    failed = sum(fault.end.startswith("engine") for fault in FAULTS)
    count(f"upstream: faults {len(FAULTS)}, failed with a reason {failed}, next ones answered {len(FAULTS)}")


async def test_an_upstream_without_an_end_is_ended_and_costs_no_memory(chain: Chain, count: Count) -> None:
    """It ignores its limit, and sends words, one long line, or no text at all."""
    chain.upstream.answer(*text(WELL))
    await answer(chain, "a first answer, for which everything is loaded")
    before = memory(chain)
    for endless, pattern, expected_end in (
        (piece("more %d "), r"(more \d+ )+", "length"),
        (piece("x" * 1000 + "%d"), r"(x{1000}\d+)+", "length"),
        (b"data: %09d ", "", "engine_failed"),
    ):
        chain.upstream.endless = endless
        chain.upstream.disconnected.clear()
        kept, end_seen, message = await answer(chain, "go on")
        assert re.fullmatch(pattern, kept), kept[:100]
        assert end_seen == expected_end, message
        async with asyncio.timeout(PATIENCE):
            await chain.upstream.disconnected.wait()
        assert await under_way(chain.layer) == 0
    grown = {name: memory(chain)[name] - before[name] for name in before}
    count(
        "endless answers: 3, memory grown by "
        + ", ".join(f"{size / MEGABYTE:.0f} MB ({name})" for name, size in grown.items())
    )
    assert max(grown.values()) < 64 * MEGABYTE


async def test_an_upstream_that_drips_for_ever_is_ended_by_the_total_limit(
    tmp_path: Path, count: Count
) -> None:
    async with (
        Upstream() as upstream,
        in_a_chain(tmp_path, upstream, options=("--total-seconds", "2")) as chain,
    ):
        upstream.answer(*[step for _ in range(10_000) for step in (piece("drip "), 0.05)])
        kept, end, message = await answer(chain, "drip")
        assert re.fullmatch("(drip )+", kept)
        assert (end, message) == ("engine_failed", "The answer was not complete within 2 seconds.")
        async with asyncio.timeout(PATIENCE):
            await upstream.disconnected.wait()
        assert await under_way(chain.layer) == 0
        upstream.answer(*text(WELL))
        assert await answer(chain, "and now?") == (WELL, "eos_token", "")
    count(f"an upstream that drips: ended after 2 s with {len(kept)} code points kept, the next one answered")


async def test_an_upstream_that_is_down_is_stood_in_for_by_the_documentation(
    tmp_path: Path, documentation_options: tuple[str, ...], count: Count
) -> None:
    """A question comes in the moment in which it goes, and another while it is known to be away."""
    rounds = 3
    async with (
        Upstream() as upstream,
        in_a_chain(tmp_path, upstream, options=documentation_options) as chain,
        client_of(chain.application) as client,
        asyncio.timeout(2 * PATIENCE),
    ):
        await asyncio.to_thread(chain.application.wait_for_documentation)
        for _ in range(rounds):
            upstream.answer(*text(WELL))
            assert await answer(chain, "Well?") == (WELL, "eos_token", "")
            await upstream.__aexit__()
            for _ in range(2):
                chat = await new_chat(client)
                heard = await hear(client, await ask(client, chat, "How do I remove a tree?"))
                (_, reply) = await messages_of(client, chat)
                assert (heard.end, heard.text) == ("done", reply["content"])
                assert heard.text.startswith(INSTEAD)
                assert "shutil.rmtree" in heard.text
                assert reply["provenance"]["model"] == "documentation"
                while (await client.get("/api/engine")).json()["state"] != "failed":
                    await asyncio.sleep(0.05)
            await upstream.__aenter__()
        assert await answer(chain, "And now?") == (WELL, "eos_token", "")
    count(f"an upstream that goes: {rounds} times, questions answered by the documentation {2 * rounds}")


async def test_what_one_of_two_fails_at_before_its_first_token_the_other_answers(
    tmp_path: Path, count: Count
) -> None:
    """Each fault before any text, a refusal for lack of room, and the end of one of the two."""
    early = [fault for fault in FAULTS if fault.end.startswith("engine") and not fault.text]
    early.append(Fault("has no room", [b""], "", "", status=429, content_type="text/plain"))
    retried = 0
    async with Upstream() as one, Upstream() as other, in_a_chain(tmp_path, one, other) as chain:
        for fault in early:
            other.answer(*text(WELL))
            one.answer(*fault.steps, status=fault.status, content_type=fault.content_type)
            before = len(one.requests)
            while len(one.requests) == before:  # each conversation has its own: ask until it is this one's
                assert await answer(chain, fault.name) == (WELL, "eos_token", ""), fault.name
            retried += 1
            one.answer(*text(WELL))
            before = len(one.requests)
            while len(one.requests) == before:  # it works again, and is asked again
                assert await answer(chain, "and now?") == (WELL, "eos_token", ""), fault.name
        await one.__aexit__()
        for _ in range(3):
            assert await answer(chain, "and without it?") == (WELL, "eos_token", "")
        assert await under_way(chain.layer) == 0
        assert "Traceback" not in chain.log, chain.log
        assert chain.log.count("retrying at") >= retried
    count(f"two upstreams: faults before the first token {retried}, replies failed 0")


async def test_what_one_of_two_fails_at_after_its_first_token_is_reported_and_its_text_kept(
    tmp_path: Path,
) -> None:
    late = [fault for fault in FAULTS if fault.end.startswith("engine") and fault.text]
    async with Upstream() as one, Upstream() as other, in_a_chain(tmp_path, one, other) as chain:
        for fault in late:
            for upstream in (one, other):
                upstream.answer(*fault.steps)
            before = len(one.requests) + len(other.requests)
            kept, end, message = await answer(chain, fault.name)
            assert (kept, end) == (fault.text, fault.end), (fault.name, message)
            assert message in OUR_MESSAGES, fault.name
            assert len(one.requests) + len(other.requests) == before + 1, fault.name
            for upstream in (one, other):
                upstream.forget()
