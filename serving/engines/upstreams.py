"""Upstreams by their addresses: what each speaks, and several of them as one engine.

Knows who is well, who is busy and who was asked before; refuses to know protocols. What is asked again
elsewhere, and when, is decided here alone:

- **Where.** What has a session goes where it went before, because its beginning is known there: to the
  first, in an order of its own, of those that are well and have room (rendezvous hashing: when one goes, only
  its sessions move). Anything else goes where least is under way.
- **Again.** Once, elsewhere, and only before the first token. Until then the client has seen nothing but
  comments, so `Accepted` waits for the first token too. A request that cannot work is not asked again.
- **Not too often.** When all are ill, asking again doubles the load: one request in ten may be, and a few
  more.
- **The breaker.** One that fails several times in a row before any token is left alone, until it has given a
  token to a request of our own. To have no room is not to fail. When nobody else is left, it is asked.
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

import aiohttp

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
from serving.engines.openai_client import OpenAICompatible, base
from serving.engines.remote import KEY_REFUSED, LOOK_SOON_SECONDS, Limits, Remote, ask, client_session, shown
from serving.engines.tgi_client import Tgi, is_tgi, root, says_openai

log = logging.getLogger("serving.engines.upstreams")

Event = Accepted | Chunk | End

FAILURES = 3  # in a row, after which an upstream is left alone
PROBE_SECONDS = 5.0  # from then until it is tried, twice as long after each time that this fails
LONGEST_PROBE_SECONDS = 60.0
LONGEST_FULL_SECONDS = 30  # that one is passed over for having said that it has no room
RETRY_SHARE = 0.1  # of all requests
RETRY_FLOOR_SECONDS = 10.0  # one more may be asked again in so many seconds
MOST_RETRIES = 10.0  # that may have been saved up


class Kind(StrEnum):
    """What an upstream speaks."""

    OPENAI = "openai"
    TGI = "tgi"


def upstream(
    url: str,
    kind: Kind | None = None,
    *,
    model: str | None = None,
    api_key: str | None = None,
    limits: Limits = Limits(),  # noqa: B008, it is frozen
) -> Engine:
    """The engine at an address. Without a `kind`, an address that ends in `/v1` is OpenAI's; else the server
    is asked."""
    if "@" in urlsplit(url).netloc:
        api_key = None  # a name and a password in the address take the place where the key would be
    if kind is None and not says_openai(url):
        return Unknown(url, model=model, api_key=api_key, limits=limits)
    known = Tgi if kind is Kind.TGI else OpenAICompatible
    return known(url, model=model, api_key=api_key, limits=limits)


class Unknown:
    """An engine at an address where it is not known what is spoken, until the server has told it."""

    def __init__(self, url: str, *, model: str | None, api_key: str | None, limits: Limits) -> None:
        self._url = url
        self._model = model
        self._api_key = api_key
        self._limits = limits
        self._known: Remote | None = None
        self._asking: asyncio.Task[None] | None = None
        self._info = EngineInfo(
            engine="upstream",
            state=EngineState.LOADING,
            state_detail=f"Looking for the upstream at {shown(url)}.",
            model_id=model,
        )

    @property
    def info(self) -> EngineInfo:
        return self._info if self._known is None else self._known.info

    async def start(self) -> None:
        self._asking = asyncio.create_task(self._ask())

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._known is not None:
            await self._known.close()

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Event]:
        if self._known is None:
            raise Unhealthy(self._info.state_detail or "The upstream is not ready.")
        async with contextlib.aclosing(self._known.generate(prompt, params, session=session)) as events:
            async for event in events:
                yield event

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        return None if self._known is None else await self._known.tokenize(text)

    async def _ask(self) -> None:
        async with client_session(self._api_key, self._limits) as http:
            while (kind := await self._kind(http)) is None:
                await asyncio.sleep(LOOK_SOON_SECONDS)
        known = kind(self._url, model=self._model, api_key=self._api_key, limits=self._limits)
        await known.start()
        self._known = known

    async def _kind(self, http: aiohttp.ClientSession) -> type[Tgi | OpenAICompatible] | None:
        """What speaks the server's protocol; None while it does not tell, which `info` says then."""
        seconds = self._limits.connect
        try:
            status, told = await ask(http, f"{root(self._url)}/info", seconds=seconds)
            if is_tgi(told):
                return Tgi
            status, told = await ask(http, f"{base(self._url)}/models", seconds=seconds)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.debug("asking the upstream what it is", exc_info=error)
            self._info = self._failed("cannot be reached")
            return None
        if status == 503:
            self._info = self._failed("is still loading", EngineState.LOADING)
        elif status >= 500:
            self._info = self._failed(f"answers {status}")
        elif status in (401, 403):
            self._info = self._failed(KEY_REFUSED)
        elif isinstance(told, dict) and "data" in told:
            return OpenAICompatible
        else:
            self._info = self._failed("lists no models and has no /info: say what it is by --upstream-kind")
        return None

    def _failed(self, what: str, state: EngineState = EngineState.FAILED) -> EngineInfo:
        return replace(self._info, state=state, state_detail=f"The upstream at {shown(self._url)} {what}.")


class _Member:
    """One of several upstreams, and what is known of how it fares."""

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self.engine = engine
        self.under_way = 0
        self.last = 0  # when it was asked last, in requests
        self.failures = 0  # in a row
        self._chat_failed = False  # and not a text: some servers have only the one or the other
        self.probing: asyncio.Task[None] | None = None
        self._full_until = 0.0

    @property
    def is_ready(self) -> bool:
        return self.engine.info.state is EngineState.READY

    @property
    def is_left_alone(self) -> bool:
        return self.probing is not None

    @property
    def has_room(self) -> bool:
        return time.monotonic() >= self._full_until

    def is_full(self, seconds: int) -> None:
        self._full_until = time.monotonic() + min(seconds, LONGEST_FULL_SECONDS)

    def works(self) -> None:
        self.failures = 0
        self._full_until = 0.0
        probing, self.probing = self.probing, None
        if probing is not None and probing is not asyncio.current_task():
            probing.cancel()

    def fails(self, prompt: Prompt) -> None:
        self.failures += 1
        self._chat_failed = isinstance(prompt, Chat)
        if self.failures >= FAILURES and self.probing is None:
            log.warning("the upstream at %s failed %d times in a row", shown(self.url), self.failures)
            self.probing = asyncio.create_task(self._probe())

    async def close(self) -> None:
        if self.probing is not None:
            self.probing.cancel()
            await asyncio.gather(self.probing, return_exceptions=True)

    async def _probe(self) -> None:
        """Until it has given a token to a request of our own."""
        seconds = PROBE_SECONDS
        while True:
            await asyncio.sleep(seconds)
            if not self.is_ready:  # it is watched: it will be known when it is back
                continue
            prompt = Chat([{"role": "user", "content": "Hello"}]) if self._chat_failed else "Hello"
            generating = self.engine.generate(prompt, SamplingParams(max_new_tokens=1, seed=0))
            try:
                async with contextlib.aclosing(generating) as events:
                    await _first(events)
            except ServingError as error:
                log.info("the upstream at %s still fails: %s", shown(self.url), error)
            except Exception:  # or nobody would ever try again
                log.exception("trying the upstream at %s", shown(self.url))
            else:
                log.info("the upstream at %s works again", shown(self.url))
                self.works()
                return
            seconds = min(2 * seconds, LONGEST_PROBE_SECONDS)

    def weight(self, session: str) -> bytes:
        """Its place in the session's order."""
        return hashlib.blake2b(f"{session}\n{self.url}".encode("utf-8", "surrogatepass")).digest()


class _Retries:
    """How many requests may still be asked again."""

    def __init__(self) -> None:
        self._left = MOST_RETRIES
        self._looked = time.monotonic()

    def earn(self) -> None:
        """There is one more request."""
        now = time.monotonic()
        earned = RETRY_SHARE + (now - self._looked) / RETRY_FLOOR_SECONDS
        self._left, self._looked = min(MOST_RETRIES, self._left + earned), now

    def take(self) -> bool:
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Upstreams:
    """Several engines, by their addresses, that have the same model. An `Engine`."""

    def __init__(self, engines: dict[str, Engine]) -> None:
        self._members = [_Member(url, engine) for url, engine in engines.items()]
        self._retries = _Retries()
        self._requests = 0
        self._warned: frozenset[str] = frozenset()

    @property
    def info(self) -> EngineInfo:
        """Of all that are ready together: what each of them can do, and how much all of them can."""
        infos = [member.engine.info for member in self._members]
        ready = [info for info in infos if info.state is EngineState.READY]
        ill = [info.state_detail for info in infos if info.state is not EngineState.READY]
        detail = " ".join(detail for detail in ill if detail) or None
        if not ready:
            is_loading = any(info.state is EngineState.LOADING for info in infos)
            state = EngineState.LOADING if is_loading else EngineState.FAILED
            return replace(infos[0], state=state, state_detail=detail)
        first = ready[0]
        self._warn(frozenset(info.model_id for info in ready if info.model_id is not None), first.model_id)
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
        await asyncio.gather(*(member.engine.close() for member in self._members))

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Event]:
        self._retries.earn()
        member = self._choose(session)
        if member is None:
            raise Unhealthy(self.info.state_detail or "No upstream is ready.")
        asked_again = False
        while True:
            failure: ServingError
            with self._asking(member):
                generating = member.engine.generate(prompt, params, session=session)
                async with contextlib.aclosing(generating) as events:
                    try:
                        begun = await _first(events)
                    except InvalidRequest:
                        raise
                    except Overloaded as error:
                        member.is_full(error.retry_after)
                        failure = error
                    except ServingError as error:
                        member.fails(prompt)
                        failure = error
                    else:
                        member.works()
                        for event in begun:
                            yield event
                        async for event in events:
                            yield event
                        return
            other = None if asked_again else self._choose(session, but=member, failure=failure)
            if other is None or not self._retries.take():
                raise failure
            log.info("asked again at %s: %s", shown(other.url), failure)
            member, asked_again = other, True

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        """By the first that tells: some have no word for it, and one may just have gone."""
        failure: ServingError | None = None
        there = [member for member in self._members if member.is_ready]
        for member in sorted(there, key=lambda one: (one.is_left_alone, one.under_way, one.last)):
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
        """Whom to ask; None where there is nobody. After one had no room, only who may have some."""
        there = [member for member in self._members if member.is_ready and member is not but]
        well = [member for member in there if not member.is_left_alone] or there
        free = [member for member in well if member.has_room]
        if not free and not isinstance(failure, Overloaded):
            free = well
        if session is not None:
            return max(free, key=lambda member: member.weight(session), default=None)
        return min(free, key=lambda member: (member.under_way, member.last), default=None)

    @contextlib.contextmanager
    def _asking(self, member: _Member) -> Iterator[None]:
        self._requests += 1
        member.last = self._requests
        member.under_way += 1
        try:
            yield
        finally:
            member.under_way -= 1

    def _warn(self, models: frozenset[str], used: str | None) -> None:
        if len(models) > 1 and models != self._warned:
            self._warned = models
            log.warning(
                "the upstreams have different models: %s. %s is told.", ", ".join(sorted(models)), used
            )


async def _first(events: AsyncGenerator[Event]) -> list[Event]:
    """What an engine yields up to the first token, or the end if there is none. Raises `ServingError`."""
    begun: list[Event] = []
    async for event in events:
        begun.append(event)
        if not isinstance(event, Accepted):
            return begun
    raise IncompleteGeneration("The engine's answer broke off.")


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
