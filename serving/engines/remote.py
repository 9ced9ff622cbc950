"""What all engines on other servers share, whichever protocol the server speaks.

An engine asks its server what it offers at the start and then at intervals, and sooner after a failure. It
closes the connection to make the server stop computing an answer.
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
from typing import Any, ClassVar, TypeVar

import aiohttp
import msgspec

from serving.addresses import without_user
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
    Overloaded,
    Prompt,
    SamplingParams,
    ServingError,
    TokenSpan,
    Unhealthy,
)
from serving.engines.event_stream import read_data
from serving.models.catalogue import Infilling, infilling_of

Event = TypeVar("Event")
log = logging.getLogger(__name__)

DEFAULT_CONTEXT = 8192  # tokens, where the server does not report it
CHECK_SECONDS = {EngineState.READY: 30.0}
CHECK_SOON_SECONDS = 1.0
LONGEST_ANSWER = 1 << 20  # bytes of an answer that is not a stream
KEY_REFUSED = "refuses our key (TECH_ASSISTANT_UPSTREAM_KEY)"
INVALID_STATUSES = (400, 413, 422)  # the request itself is at fault


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a server may take, in seconds."""

    connect: float = 5.0  # to accept a connection, and to answer a short question
    first: float = 120.0
    """From the request to the first event: the request may queue, and the server reads the prompt."""
    between: float = 30.0
    """From one event to the next. Comments, with which servers keep connections open, do not count."""


class RemoteEngine(ABC):
    """An `Engine` that asks the server at the address `url`. Each subclass speaks one protocol. With
    `model=None` it uses the first model of the server."""

    name: ClassVar[str]
    takes_chats: ClassVar[bool]

    def __init__(
        self, url: str, *, model: str | None = None, api_key: str | None = None, limits: Limits = Limits()
    ) -> None:
        self.url = self.base_url(url)
        self._public_url = without_user(self.url)
        self._model = model
        self._api_key = api_key
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None
        self._watch: asyncio.Task[None] | None = None
        self._failure_noticed = asyncio.Event()
        self._info = EngineInfo(
            engine=self.name,
            state=EngineState.LOADING,
            state_detail=f"Looking for the upstream at {self._public_url}.",
            model_id=model,
            chats=self.takes_chats,
        )

    @staticmethod
    @abstractmethod
    def base_url(url: str) -> str:
        """The address that the paths of this protocol are appended to, for the address of a server."""

    @property
    def info(self) -> EngineInfo:
        return self._info

    async def start(self) -> None:
        self._session = client_session(self._api_key, self._limits)
        self._watch = asyncio.create_task(self._keep_checking())

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
    async def _check(self) -> EngineInfo:
        """What the server offers now. Raises aiohttp's errors, OSError and ValueError."""

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> ServingError:
        """The error for an answer with a status other than 200."""
        return refusal("upstream", status, headers, body)

    def _require_ready(self) -> None:
        if self._info.state is not EngineState.READY or self._session is None:
            raise Unhealthy(self._info.state_detail or "The upstream is not ready.")

    def _max_new_tokens(self, params: SamplingParams) -> int:
        """The requested limit; without one, a limit that leaves most of the context to the prompt."""
        return params.max_new_tokens or min(MOST_NEW_TOKENS, (self._info.context or DEFAULT_CONTEXT) // 4)

    def _with_markers(self, prompt: Infill, markers: Infilling) -> str:
        """The prompt that makes the model fill in the middle. Raises `InvalidRequest`."""
        for marker in (markers.prefix, markers.suffix, markers.middle):
            if marker in prompt.prefix or marker in prompt.suffix:
                raise InvalidRequest(
                    f"the surrounding text contains {marker}, which this upstream would read as a marker"
                )
        return f"{markers.prefix}{prompt.prefix}{markers.suffix}{prompt.suffix}{markers.middle}"

    def _markers(self) -> Infilling | None:
        return self._info.infilling or infilling_of(self._info.model_id)

    async def _events(
        self, stack: contextlib.AsyncExitStack, path: str, request: dict[str, Any], session: str | None
    ) -> AsyncGenerator[bytes]:
        """Send the request, and return the data of the events in the answer once the server begins to answer.
        Raises `ServingError`, also while the events are read."""
        assert self._session is not None
        begun = asyncio.get_running_loop().time()
        # If several servers share this address, the header keeps a conversation on one of them.
        headers = {} if session is None else {SESSION_HEADER: session}
        posting = self._session.post(f"{self.url}/{path}", json=request, headers=headers)
        try:
            async with asyncio.timeout(self._limits.first):
                response = await stack.enter_async_context(posting)
        except (aiohttp.ServerTimeoutError, aiohttp.ClientConnectorError) as error:
            raise self._lost() from error
        except TimeoutError as error:
            self._failure_noticed.set()
            raise self._silent(self._limits.first) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken_off() from error
        if response.status != 200:
            body = b""
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(self._limits.connect):
                    body = await read_body(response)
            raise self._refusal(response.status, response.headers, body)
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

    async def _ask(self, url: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """See `ask`."""
        assert self._session is not None
        return await ask(self._session, url, body, seconds=self._limits.connect)

    def _lost(self) -> Unhealthy:
        self._info = self._not_ready("cannot be reached")
        self._failure_noticed.set()
        return Unhealthy(self._info.state_detail or "")

    def _silent(self, seconds: float) -> GenerationFailed:
        return GenerationFailed(f"The upstream has not answered within {seconds:g} seconds.")

    def _broken_off(self) -> Unhealthy:
        """Perhaps only this connection: the next check will show."""
        self._failure_noticed.set()
        return Unhealthy(f"The upstream at {self._public_url} broke the connection off.")

    def _not_ready(self, problem: str, state: EngineState = EngineState.FAILED) -> EngineInfo:
        detail = f"The upstream at {self._public_url} {problem}."
        return replace(self._info, state=state, state_detail=detail)

    async def _keep_checking(self) -> None:
        while True:
            self._failure_noticed.clear()
            before = self._info
            try:
                self._info = await self._check()
            except (aiohttp.ClientError, OSError, ValueError) as error:
                log.debug("checking the upstream", exc_info=error)
                self._info = self._not_ready("cannot be reached")
            except Exception:  # the checks must go on
                log.exception(
                    "the upstream at %s sends an answer that we do not understand", self._public_url
                )
                self._info = self._not_ready("sends an answer that we do not understand")
            if self._info != before:
                log.info("upstream: %s %s", self._info.state, self._info.state_detail or self._info.model_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS.get(self._info.state, CHECK_SOON_SECONDS)):
                    await self._failure_noticed.wait()
                    if self._info.state is not EngineState.READY:
                        await asyncio.sleep(CHECK_SOON_SECONDS)


def client_session(api_key: str | None, limits: Limits) -> aiohttp.ClientSession:
    """The HTTP session for all requests to a server."""
    headers = {"Accept-Encoding": "identity"}  # compression would hold tokens back
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    return aiohttp.ClientSession(
        # llama.cpp closes a connection after a stream without announcing it, and other servers close idle
        # ones: a connection that is used twice may be closed at the moment of the second request.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect),
    )


async def ask(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any] | None = None, *, seconds: float | None
) -> tuple[int, Any]:
    """Status and JSON (None for anything but JSON) of a short question: a POST if it has a body, else a GET.
    Raises aiohttp's errors and OSError."""
    method = "GET" if body is None else "POST"
    async with asyncio.timeout(seconds), session.request(method, url, json=body) as response:
        content = await read_body(response)
    try:
        return response.status, msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return response.status, None


async def read_body(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to `LONGEST_ANSWER`."""
    body = bytearray()
    while len(body) < LONGEST_ANSWER and (piece := await response.content.read(LONGEST_ANSWER - len(body))):
        body += piece
    return bytes(body)


def refusal(server: str, status: int, headers: Mapping[str, str], body: bytes) -> ServingError:
    """The error for an answer with a status other than 200. `server` is what to call it in the message."""
    text = message(body)
    if status in (401, 403):
        return GenerationFailed(f"The {server} {KEY_REFUSED}.")
    if status in INVALID_STATUSES:
        return InvalidRequest(text or f"The {server} has refused the request ({status}).")
    if status in (429, 503):  # servers whose queue is full answer with either
        return Overloaded(text or f"The {server} is overloaded.", retry_after=seconds_of(headers))
    return GenerationFailed(f"The {server} has answered {status}{': ' + text if text else '.'}")


class TextDecoder:
    """Turns pieces of text into UTF-8 where a server cuts them inside a character. Such a piece contains
    single bytes of the character, or one of its two UTF-16 surrogates, neither of which is valid JSON."""

    def __init__(self) -> None:
        self._high_surrogate = ""

    def decode(self, text: str) -> bytes:
        text, self._high_surrogate = self._high_surrogate + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._high_surrogate = text[:-1], text[-1]
        try:
            return text.encode()
        except UnicodeEncodeError:
            # Pairs of surrogates become a character. `surrogateescape` stands for single bytes. A surrogate
            # without its partner is lost.
            joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
            return _SINGLE_SURROGATE.sub("\ufffd", joined).encode("utf-8", "surrogateescape")


_SINGLE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def read_event(decoder: msgspec.json.Decoder[Event], line: bytes) -> Event:
    """An event of a stream. Raises `IncompleteGeneration` if the line is not one."""
    try:
        return decoder.decode(line)
    except (ValueError, RecursionError):
        try:
            return msgspec.convert(parse_lenient_json(line), decoder.type)
        except ValueError as error:
            raise IncompleteGeneration("The upstream has sent something that is not an event.") from error


def parse_lenient_json(content: bytes) -> Any:
    """JSON, even with invalid UTF-8 and unpaired surrogates in it; None for anything but JSON."""
    try:
        return json.loads(content.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None


def finish_reason(reasons: Mapping[str, FinishReason], name: str) -> FinishReason:
    """The finish reason for the server's name of it. Raises `IncompleteGeneration` for an unknown name."""
    if (reason := reasons.get(name)) is None:
        raise IncompleteGeneration(f"The upstream ended the text for the reason {name!r}.")
    return reason


def problem_of(status: int, answer: Any) -> tuple[str, EngineState] | None:
    """Why a server that answers a short question in this way is not ready; None if it may be."""
    if status == 503:
        return "is still loading", EngineState.LOADING
    if status in (401, 403):
        return KEY_REFUSED, EngineState.FAILED
    if status >= 500:
        return f"answers {status}: {message_of(answer)}".rstrip(": ").rstrip("."), EngineState.FAILED
    return None


def text_of(values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) and value else None


def seconds_of(headers: Mapping[str, str]) -> int:
    """How long the server asks clients to wait, in `Retry-After`; 1 if it does not say."""
    after = headers.get("Retry-After", "")
    return int(after) if re.fullmatch("[0-9]{1,6}", after) else 1


def message(body: bytes) -> str:
    """The message in the body of an error, in any of the usual formats; empty if there is none."""
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
