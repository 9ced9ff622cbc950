"""What engines elsewhere have in common, whatever protocol they speak: one server at one address.

Knows HTTP, time limits, and how a server is watched; refuses to know what a request or an event looks like.
A server is asked at the start, and again now and then, what it is; what goes wrong in between makes it be
asked sooner. To close a connection is how such servers are told to stop computing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from serving.engine import (
    MOST_NEW_TOKENS,
    SESSION_HEADER,
    Accepted,
    Chunk,
    End,
    EngineInfo,
    EngineState,
    FinishReason,
    GenerationFailed,
    IncompleteGeneration,
    Infill,
    InvalidRequest,
    Prompt,
    SamplingParams,
    ServingError,
    TokenSpan,
    Unhealthy,
)
from serving.engines.event_stream import read_data
from serving.models.catalogue import Infilling, infilling_of

Event = TypeVar("Event")
log = logging.getLogger("serving.engines.remote")

DEFAULT_CONTEXT = 8192  # tokens, where the server does not tell
LOOK_AGAIN_SECONDS = {EngineState.READY: 30.0}
LOOK_SOON_SECONDS = 1.0
LONGEST_ANSWER = 1 << 20  # bytes of an answer that is not a stream
KEY_REFUSED = "refuses our key (TECH_ASSISTANT_UPSTREAM_KEY)"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a server may take, in seconds."""

    connect: float = 5.0
    """Until there is a connection; also for short questions."""
    first: float = 120.0
    """From the request until the first event of an answer: it waits its turn, and the prompt is read."""
    between: float = 30.0
    """From one event to the next. Comments, by which servers keep connections open, are none."""


class Remote(ABC):
    """An `Engine` at an address, by a protocol that a subclass knows."""

    def __init__(
        self,
        url: str,
        *,
        engine: str,
        model: str | None = None,
        api_key: str | None = None,
        limits: Limits = Limits(),
        chats: bool,
    ) -> None:
        self.url = url
        self._shown = shown(url)
        self._model = model
        self._api_key = api_key
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None
        self._watch: asyncio.Task[None] | None = None
        self._doubted = asyncio.Event()
        self._info = EngineInfo(
            engine=engine,
            state=EngineState.LOADING,
            state_detail=f"Looking for the upstream at {self._shown}.",
            model_id=model,
            chats=chats,
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    async def start(self) -> None:
        self._session = client_session(self._api_key, self._limits)
        self._watch = asyncio.create_task(self._keep_watching())

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    @abstractmethod
    def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]: ...

    async def tokenize(self, text: str) -> list[TokenSpan] | None:
        return None

    @abstractmethod
    async def _look(self) -> EngineInfo:
        """What the server is now. Raises aiohttp's errors, OSError and ValueError."""

    @abstractmethod
    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> ServingError:
        """What a status other than 200 means."""

    def _check_ready(self) -> None:
        if self._info.state is not EngineState.READY or self._session is None:
            raise Unhealthy(self._info.state_detail or "The upstream is not ready.")

    def _most_new_tokens(self, params: SamplingParams) -> int:
        """How many tokens to ask for: without a wish, what leaves most of the context for the prompt."""
        return params.max_new_tokens or min(MOST_NEW_TOKENS, (self._info.context or DEFAULT_CONTEXT) // 4)

    def _marked(self, prompt: Infill, marks: Infilling) -> str:
        """The prompt by which the model fills in the middle. Raises `InvalidRequest`."""
        for mark in (marks.prefix, marks.suffix, marks.middle):
            if mark in prompt.prefix or mark in prompt.suffix:
                raise InvalidRequest(
                    f"the text around contains {mark}, which this upstream would take for the model's marker"
                )
        return f"{marks.prefix}{prompt.prefix}{marks.suffix}{prompt.suffix}{marks.middle}"

    def _marks(self) -> Infilling | None:
        return self._info.infilling or infilling_of(self._info.model_id)

    async def _events(
        self, stack: contextlib.AsyncExitStack, path: str, request: dict[str, Any], session: str | None
    ) -> AsyncGenerator[bytes]:
        """The data of the events with which a request is answered, once the server has begun to answer.
        Raises `ServingError`, then and while they are read."""
        assert self._session is not None
        begun = asyncio.get_running_loop().time()
        # Where the upstream is several behind one address, this keeps a conversation on one of them.
        headers = {} if session is None else {SESSION_HEADER: session}
        posting = self._session.post(f"{self.url}/{path}", json=request, headers=headers)
        try:
            async with asyncio.timeout(self._limits.first):
                response = await stack.enter_async_context(posting)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ServerTimeoutError):
                raise self._lost() from error
            self._doubted.set()
            raise GenerationFailed(
                f"The upstream has not answered within {self._limits.first:g} seconds."
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise self._lost() from error
        except (aiohttp.ClientError, OSError) as error:  # one connection; whether it is all, a look will tell
            self._doubted.set()
            raise Unhealthy(f"The upstream at {self._shown} broke the connection off.") from error
        if response.status != 200:
            raise self._refusal(response.status, response.headers, await self._body(response))
        if response.content_type != "text/event-stream":
            raise IncompleteGeneration(
                f"The upstream has answered with {response.content_type} instead of an event stream."
            )
        lines = read_data(
            response.content,
            first_seconds=self._limits.first,
            between_seconds=self._limits.between,
            begun=begun,
            comments_count=False,
        )
        return await stack.enter_async_context(contextlib.aclosing(lines))

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(self._limits.connect):
                return await _read(response)
        return b""

    async def _ask(self, url: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON (None for anything else) of a short question, which is a POST if it has a body.
        Raises aiohttp's errors and OSError."""
        assert self._session is not None
        return await ask(self._session, url, body, seconds=self._limits.connect)

    def _lost(self) -> Unhealthy:
        self._info = self._failed("cannot be reached")
        self._doubted.set()
        return Unhealthy(self._info.state_detail or "")

    def _failed(self, what: str, state: EngineState = EngineState.FAILED) -> EngineInfo:
        return replace(self._info, state=state, state_detail=f"The upstream at {self._shown} {what}.")

    async def _keep_watching(self) -> None:
        while True:
            self._doubted.clear()
            before = self._info
            try:
                self._info = await self._look()
            except (aiohttp.ClientError, OSError, ValueError) as error:
                log.debug("looking for the upstream", exc_info=error)
                self._info = self._failed("cannot be reached")
            except Exception:  # or nobody would ever look again
                log.exception("the upstream at %s says what is not understood", self._shown)
                self._info = self._failed("says what is not understood")
            if self._info != before:
                log.info("upstream: %s %s", self._info.state, self._info.state_detail or self._info.model_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_SECONDS.get(self._info.state, LOOK_SOON_SECONDS)):
                    await self._doubted.wait()
                    if self._info.state is not EngineState.READY:
                        await asyncio.sleep(LOOK_SOON_SECONDS)


def is_http(url: str) -> bool:
    """Whether it is the whole address of a server."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, a port that is no number
        return False


def shown(url: str) -> str:
    """An address as everybody may be told it: without a name and a password for it."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url)


def client_session(api_key: str | None, limits: Limits) -> aiohttp.ClientSession:
    """What all requests to a server go through."""
    headers = {"Accept-Encoding": "identity"}  # compression would hold tokens back
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    return aiohttp.ClientSession(
        # llama.cpp closes a connection after a stream without saying so beforehand, others when it was idle
        # for a while: never race them for one.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect),
    )


async def ask(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any] | None = None, *, seconds: float
) -> tuple[int, Any]:
    """Status and JSON (None for anything else) of a short question, which is a POST if it has a body.
    Raises aiohttp's errors and OSError."""
    method = "GET" if body is None else "POST"
    async with asyncio.timeout(seconds), session.request(method, url, json=body) as got:
        content = await _read(got)
    try:
        return got.status, msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return got.status, None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, or as much of it as an answer may have."""
    body = bytearray()
    while len(body) < LONGEST_ANSWER and (piece := await response.content.read(LONGEST_ANSWER - len(body))):
        body += piece
    return bytes(body)


class CutText:
    """The bytes of texts that may be cut inside a character, as some servers do: its bytes, or the two
    halves of its UTF-16 form. JSON by the book has neither."""

    def __init__(self) -> None:
        self._half = ""

    def of(self, text: str) -> bytes:
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        try:
            return text.encode()
        except UnicodeEncodeError:
            # Halves that meet become one; bytes stand as `surrogateescape` has them; the rest is lost.
            joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
            return _LOST_HALF.sub("\ufffd", joined).encode("utf-8", "surrogateescape")


_LOST_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def read_event(decoder: msgspec.json.Decoder[Event], line: bytes) -> Event:
    """An event of a stream. Raises `IncompleteGeneration` for what is none."""
    try:
        return decoder.decode(line)
    except (ValueError, RecursionError):
        try:
            return msgspec.convert(json.loads(line.decode("utf-8", "surrogateescape")), decoder.type)
        except (ValueError, RecursionError) as error:
            raise IncompleteGeneration("The upstream has sent something that is not an event.") from error


def reason_of(reasons: Mapping[str, FinishReason], told: str) -> FinishReason:
    """Why a text has ended, by the server's word for it. Raises `IncompleteGeneration` for any other."""
    if (reason := reasons.get(told)) is None:
        raise IncompleteGeneration(f"The upstream ended the text for the reason {told!r}.")
    return reason


def seconds_of(headers: Mapping[str, str]) -> int:
    """How long to wait, by `Retry-After`."""
    after = headers.get("Retry-After", "")
    return int(after) if re.fullmatch("[0-9]{1,6}", after) else 1


def message(body: bytes) -> str:
    """The words of an error body, in any of the shapes that are about; empty for anything else."""
    try:
        return message_of(msgspec.json.decode(body))
    except (ValueError, RecursionError):
        return ""


def message_of(answer: Any) -> str:
    while isinstance(answer, dict | list):
        if isinstance(answer, list):
            answer = answer[0] if answer else None
        else:
            answer = answer.get("error") or answer.get("message") or answer.get("detail") or answer.get("msg")
    return answer[:1000] if isinstance(answer, str) else ""
