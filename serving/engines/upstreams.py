"""Makes an engine of an upstream's address, and one engine of several upstreams.

With several upstreams this module alone decides which of them answers a request:

- **Choice.** A request with a session goes to the upstream that has answered the session before, because that
  one has cached how the prompt begins. Rendezvous hashing finds it: each session orders the upstreams in its
  own way and takes the first that works and has room, so when one disappears, only its sessions move. A
  request without a session goes to the upstream with the fewest requests.
- **Retry.** A request that fails before its first token is sent once more, to another upstream. Until then
  the client has received nothing but comments, so `Accepted` is held back until the first token too. An
  invalid request is never retried.
- **Retry budget.** When all upstreams fail, retries double the load. So only one request in ten may be
  retried, and a few more.
- **Circuit breaker.** An upstream that fails several times in a row before the first token gets no more
  requests until it has answered a probe. An upstream that has no room has not failed. If no other upstream is
  left, it is asked all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from urllib.parse import urlsplit

from serving.addresses import without_user
from serving.engine import (
    Accepted,
    Chat,
    Chunk,
    End,
    Engine,
    EngineInfo,
    EngineState,
    IncompleteGeneration,
    InvalidRequest,
    Overloaded,
    Prompt,
    SamplingParams,
    ServingError,
    TokenSpan,
    Unhealthy,
)
from serving.engines.openai_client import OpenAIUpstream
from serving.engines.remote import Limits, RemoteEngine, problem_of
from serving.engines.tgi_client import TgiUpstream, is_tgi, says_openai

log = logging.getLogger(__name__)

Output = Accepted | Chunk | End

FAILURES = 3  # in a row, after which an upstream gets no more requests
PROBE_SECONDS = 5.0  # before the first probe; doubled after each probe that fails
LONGEST_PROBE_SECONDS = 60.0
LONGEST_FULL_SECONDS = 30  # for which an upstream without room is avoided
RETRY_SHARE = 0.1  # of all requests
RETRY_FLOOR_SECONDS = 10.0  # each such interval allows one more retry
MOST_RETRIES = 10.0  # that can be saved up


class UpstreamProtocol(StrEnum):
    OPENAI = "openai"
    TGI = "tgi"


def upstream(
    url: str,
    protocol: UpstreamProtocol | None = None,
    *,
    model: str | None = None,
    api_key: str | None = None,
    limits: Limits = Limits(),  # noqa: B008, it is frozen
) -> Engine:
    """The engine for an address. Without a `protocol`, an address that ends in `/v1` belongs to a server of
    OpenAI's protocol; any other server is asked."""
    if "@" in urlsplit(url).netloc:
        api_key = None  # the user name and password in the address are sent in its place
    if protocol is None and not says_openai(url):
        return DetectedUpstream(url, model=model, api_key=api_key, limits=limits)
    engine = TgiUpstream if protocol is UpstreamProtocol.TGI else OpenAIUpstream
    return engine(url, model=model, api_key=api_key, limits=limits)


class DetectedUpstream(RemoteEngine):
    """An engine that first asks the server which protocol it speaks."""

    name = "upstream"
    takes_chats = False
    _engine: RemoteEngine | None = None

    @staticmethod
    def base_url(url: str) -> str:
        return url

    @property
    def info(self) -> EngineInfo:
        return self._info if self._engine is None else self._engine.info

    async def close(self) -> None:
        await super().close()
        if self._engine is not None:
            await self._engine.close()

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Output]:
        if self._engine is None:
            raise Unhealthy(self._info.state_detail or "The upstream is not ready.")
        async with contextlib.aclosing(self._engine.generate(prompt, params, session=session)) as outputs:
            async for output in outputs:
                yield output

    async def tokenize(self, text: str) -> list[TokenSpan] | None:
        return None if self._engine is None else await self._engine.tokenize(text)

    async def _check(self) -> EngineInfo:
        status, answer = await self._ask(f"{TgiUpstream.base_url(self.url)}/info")
        engine_class: type[TgiUpstream | OpenAIUpstream] = TgiUpstream
        if not is_tgi(answer):
            status, answer = await self._ask(f"{OpenAIUpstream.base_url(self.url)}/models")
            engine_class = OpenAIUpstream
            if (problem := problem_of(status, answer)) is not None:
                return self._not_ready(*problem)
            if not isinstance(answer, dict) or "data" not in answer:
                return self._not_ready(
                    "lists no models and has no /info: name its protocol with --upstream-kind"
                )
        engine = engine_class(self.url, model=self._model, api_key=self._api_key, limits=self._limits)
        await engine.start()
        self._engine = engine
        assert self._watch is not None
        self._watch.cancel()  # from now on the engine checks its server itself
        return self._info


class _Member:
    """One of several upstreams, its load and its recent failures."""

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self.public_url = without_user(url)
        self.engine = engine
        self.running_requests = 0
        self.last_request = 0  # the number of its latest request, among those to all upstreams
        self.failures = 0  # in a row
        self._chat_failed = False  # some servers answer only chats, and others only plain text
        self.probing: asyncio.Task[None] | None = None
        self.full_until = 0.0

    @property
    def is_ready(self) -> bool:
        return self.engine.info.state is EngineState.READY

    @property
    def is_broken(self) -> bool:
        return self.probing is not None

    def note_success(self) -> None:
        self.failures = 0
        self.full_until = 0.0
        probing, self.probing = self.probing, None
        if probing is not None and probing is not asyncio.current_task():
            probing.cancel()

    def note_failure(self, prompt: Prompt) -> None:
        self.failures += 1
        self._chat_failed = isinstance(prompt, Chat)
        if self.failures >= FAILURES and self.probing is None:
            log.warning("the upstream at %s failed %d times in a row", self.public_url, self.failures)
            self.probing = asyncio.create_task(self._probe())

    async def close(self) -> None:
        if self.probing is not None:
            self.probing.cancel()
            await asyncio.gather(self.probing, return_exceptions=True)
        await self.engine.close()

    async def _probe(self) -> None:
        """Send requests of one token until one succeeds."""
        seconds = PROBE_SECONDS
        while True:
            await asyncio.sleep(seconds)
            if not self.is_ready:  # the engine itself checks whether its server is back
                continue
            prompt = Chat([{"role": "user", "content": "Hello"}]) if self._chat_failed else "Hello"
            generating = self.engine.generate(prompt, SamplingParams(max_new_tokens=1, seed=0))
            try:
                async with contextlib.aclosing(generating) as outputs:
                    await _up_to_first_token(outputs)
            except ServingError as error:
                log.info("the upstream at %s still fails: %s", self.public_url, error)
            except Exception:  # the probes must go on
                log.exception("probing the upstream at %s", self.public_url)
            else:
                log.info("the upstream at %s works again", self.public_url)
                self.note_success()
                return
            seconds = min(2 * seconds, LONGEST_PROBE_SECONDS)

    def rank(self, session: str) -> bytes:
        """The session takes the upstream with the highest rank."""
        return hashlib.blake2b(f"{session}\n{self.url}".encode("utf-8", "surrogatepass")).digest()


class Upstreams:
    """One `Engine` of several, by their addresses. All of them must have the same model."""

    def __init__(self, engines: dict[str, Engine]) -> None:
        self._members = [_Member(url, engine) for url, engine in engines.items()]
        self._retries_left = MOST_RETRIES
        self._last_earned = time.monotonic()
        self._requests = 0
        self._warned: list[str] = []

    @property
    def info(self) -> EngineInfo:
        """What every ready upstream can do, and how much all of them can do together."""
        infos = [member.engine.info for member in self._members]
        ready = [info for info in infos if info.state is EngineState.READY]
        others = [info for info in infos if info.state is not EngineState.READY]
        detail = " ".join(info.state_detail for info in others if info.state_detail) or None
        if not ready:
            is_loading = any(info.state is EngineState.LOADING for info in infos)
            state = EngineState.LOADING if is_loading else EngineState.FAILED
            return replace(infos[0], state=state, state_detail=detail)
        first = ready[0]
        models = sorted({info.model_id for info in ready if info.model_id is not None})
        if len(models) > 1 and models != self._warned:
            self._warned = models
            log.warning(
                "the upstreams have different models: %s. We report %s.", ", ".join(models), first.model_id
            )
        contexts = [info.context for info in ready if info.context is not None]
        parallel = [info.parallel for info in ready]
        return replace(
            first,
            state_detail=detail,
            context=min(contexts, default=None),
            parallel=None if None in parallel else sum(number or 0 for number in parallel),
            waiting=sum(info.waiting for info in ready),
            adapters=[name for name in first.adapters if all(name in info.adapters for info in ready)],
            computed_tokens=_sum([info.computed_tokens for info in ready]),
            reused_tokens=_sum([info.reused_tokens for info in ready]),
            chats=all(info.chats for info in ready),
        )

    async def start(self) -> None:
        await asyncio.gather(*(member.engine.start() for member in self._members))

    async def close(self) -> None:
        await asyncio.gather(*(member.close() for member in self._members))

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Output]:
        now = time.monotonic()
        earned = RETRY_SHARE + (now - self._last_earned) / RETRY_FLOOR_SECONDS
        self._retries_left, self._last_earned = min(MOST_RETRIES, self._retries_left + earned), now
        member = self._choose(session)
        if member is None:
            raise Unhealthy(self.info.state_detail or "No upstream is ready.")
        is_retry = False
        while True:
            failure: ServingError
            with self._running(member):
                generating = member.engine.generate(prompt, params, session=session)
                async with contextlib.aclosing(generating) as outputs:
                    try:
                        beginning = await _up_to_first_token(outputs)
                    except InvalidRequest:
                        raise
                    except Overloaded as error:
                        seconds = min(error.retry_after, LONGEST_FULL_SECONDS)
                        member.full_until = time.monotonic() + seconds
                        failure = error
                    except ServingError as error:
                        member.note_failure(prompt)
                        failure = error
                    else:
                        member.note_success()
                        for output in beginning:
                            yield output
                        async for output in outputs:
                            yield output
                        return
            other = None if is_retry else self._choose(session, but=member, failure=failure)
            if other is None or self._retries_left < 1:
                raise failure
            self._retries_left -= 1
            log.info("retrying at %s: %s", other.public_url, failure)
            member, is_retry = other, True

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        """Not every engine can tokenize, and one may have just shut down: the first answer counts."""
        failure: ServingError | None = None
        ready = [member for member in self._members if member.is_ready]
        for member in sorted(ready, key=lambda m: (m.is_broken, m.running_requests, m.last_request)):
            try:
                tokens = await member.engine.tokenize(text)
            except InvalidRequest:
                raise
            except ServingError as error:
                failure = error
            else:
                if tokens is not None:
                    return tokens
        if failure is not None:
            raise failure
        return None

    def _choose(
        self, session: str | None, *, but: _Member | None = None, failure: ServingError | None = None
    ) -> _Member | None:
        """The upstream for a request; None if there is none. If the request failed for lack of room, only an
        upstream that may have room."""
        ready = [member for member in self._members if member.is_ready and member is not but]
        working = [member for member in ready if not member.is_broken] or ready
        free = [member for member in working if time.monotonic() >= member.full_until]
        if not free and not isinstance(failure, Overloaded):
            free = working
        if session is not None:
            return max(free, key=lambda member: member.rank(session), default=None)
        return min(free, key=lambda member: (member.running_requests, member.last_request), default=None)

    @contextlib.contextmanager
    def _running(self, member: _Member) -> Iterator[None]:
        self._requests += 1
        member.last_request = self._requests
        member.running_requests += 1
        try:
            yield
        finally:
            member.running_requests -= 1


async def _up_to_first_token(outputs: AsyncGenerator[Output]) -> list[Output]:
    """The engine's outputs up to the first token, or up to the end without any. Raises `ServingError`."""
    beginning: list[Output] = []
    async for output in outputs:
        beginning.append(output)
        if not isinstance(output, Accepted):
            return beginning
    raise IncompleteGeneration("The engine's answer broke off.")


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
