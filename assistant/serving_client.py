"""The HTTP client of the serving layer, which speaks the protocol of text-generation-inference (TGI).

Every failure of a generation becomes a `ModelError`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pydantic
from text_generation.client import AsyncClient
from text_generation.types import Parameters, Request, StreamDetails, StreamResponse

from assistant.errors import GenerationFailed, ModelError, Overloaded, PromptTooLong, Refused, Unreachable

LONGEST_EVENT = 1 << 20  # bytes; the last event repeats the whole text
SESSION_HEADER = "X-Session-Id"
TOO_LONG = re.compile(r"\btokens\b|context", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the serving layer may be silent, in seconds.

    A whole answer may take any time: while the serving layer computes, it sends a comment at least every 15
    seconds. A longer silence means that it is gone.
    """

    connect: float = 5.0
    """To open a connection, and for a whole request that needs no generation."""
    first: float = 120.0
    """From the request to the first byte of the response."""
    between: float = 30.0
    """Between two pieces of the response."""


class GenerationDetails(StreamDetails):
    input_length: int | None = None  # part of the protocol, but missing in the client library


class TokenEvent(StreamResponse):
    """One token of a generation. The last one has `details`."""

    details: GenerationDetails | None = None


class ServingClient(AsyncClient):
    """A TGI client that shares one HTTP session and limits silence instead of the whole response time.

    The stock client opens a session for each request. It gives up on every answer that takes longer than its
    timeout, even if the stream is lively.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        session: aiohttp.ClientSession,
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        super().__init__(base_url.rstrip("/") + "/", headers=headers)
        self.timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=timeouts.connect, sock_read=timeouts.first
        )
        self._timeouts = timeouts
        self._session = session

    @contextlib.asynccontextmanager
    async def generation(
        self, prompt: str, parameters: Parameters, *, session: str | None = None
    ) -> AsyncGenerator[AsyncGenerator[TokenEvent]]:
        """Send a prompt, and return as soon as the server accepts it; then the tokens follow as events.

        `session` names the conversation. Its prompts begin alike, so the server can send them to the engine
        that has read the beginning before. Raises `ModelError`.
        """
        request = Request(inputs=prompt, stream=True, parameters=parameters).model_dump()
        # An option of our own serving layer: we do not use the probabilities, which take time to compute.
        request["parameters"]["logprobs"] = False
        headers = {**(self.headers or {}), **({} if session is None else {SESSION_HEADER: session})}
        with _connection_errors():
            async with self._session.post(
                self.base_url, json=request, headers=headers, timeout=self.timeout
            ) as response:
                if response.status != 200:
                    raise _rejection(response.status, await response.content.read(LONGEST_EVENT))
                if (connection := response.connection) is not None and connection.protocol is not None:
                    connection.protocol.read_timeout = self._timeouts.between
                    connection.protocol.start_timeout()  # replaces the running timeout of the first byte
                async with contextlib.aclosing(_token_events(response)) as events:
                    yield events

    async def count_tokens(self, text: str) -> int | None:
        """The number of tokens of a text; None if the server cannot count them. Raises `ModelError`."""
        with _connection_errors():
            async with self._session.post(
                self.base_url + "tokenize", json={"inputs": text}, headers=self.headers, timeout=self.timeout
            ) as response:
                if response.status != 200:
                    return None
                tokens = await response.json()
                return len(tokens) if isinstance(tokens, list) else None

    async def warm(self, beginning: str) -> None:
        """Let the server read the beginning of all prompts in advance. Only our own serving layer does so;
        any other server may refuse."""
        timeout = aiohttp.ClientTimeout(total=self._timeouts.connect)
        url, body = self.base_url + "prefix", {"inputs": beginning}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.put(url, json=body, headers=self.headers, timeout=timeout):
                pass

    async def info(self) -> dict[str, Any]:
        """The server's description of itself. Raises aiohttp's errors and ValueError."""
        timeout = aiohttp.ClientTimeout(total=self._timeouts.connect)
        async with self._session.get(
            self.base_url + "info", headers=self.headers, timeout=timeout
        ) as response:
            response.raise_for_status()
            info = await response.json()
        if not isinstance(info, dict):
            raise ValueError("/info is not an object")
        return info


def new_session() -> aiohttp.ClientSession:
    """An HTTP session for any number of clients. It belongs to the running event loop."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


async def _token_events(response: aiohttp.ClientResponse) -> AsyncGenerator[TokenEvent]:
    is_complete = False
    async for line in _lines(response.content):
        if line.startswith(b"data:"):
            data = line[5:]
            try:
                event = TokenEvent.model_validate_json(data)
            except pydantic.ValidationError:
                raise _rejection(response.status, data)  # noqa: B904 (it has a cause)
            is_complete = is_complete or event.details is not None
            yield event
    if not is_complete:
        raise GenerationFailed("The answer broke off: the engine's stream ended too early.")


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of an event stream, of up to `LONGEST_EVENT` bytes (aiohttp's own reader allows fewer)."""
    rest = b""
    async for data in content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > LONGEST_EVENT:
            raise GenerationFailed("The engine sent an event longer than this application accepts.")


def _rejection(status: int, data: bytes) -> ModelError:
    """The error for a response that is not a token.

    The message is our own. The server's message may contain addresses and paths, so it is only the cause.
    """
    try:
        body = pydantic.TypeAdapter(dict[str, Any]).validate_json(data)
        kind, message = str(body.get("error_type", "")), str(body["error"])
    except (pydantic.ValidationError, KeyError):
        kind, message = "", f"The server's response (status {status}) does not follow the TGI protocol."
    error: ModelError
    if kind == "unhealthy" or status == 503:
        error = Unreachable("The engine is not ready.")
    elif kind == "validation" and TOO_LONG.search(message):
        error = PromptTooLong("The question and its conversation are too long for the model.")
    elif kind == "validation":
        error = Refused("The engine does not accept this question.")
    elif kind in ("generation", "incomplete_generation"):
        error = GenerationFailed("The answer broke off: the engine failed.")
    elif kind == "overloaded" or status == 429:
        error = Overloaded("The engine is busy. Ask again in a moment.")
    elif status in (403, 424, 504):
        error = Unreachable("The engine is not ready.")
    else:
        error = GenerationFailed("The answer broke off: the engine failed.")
    error.__cause__ = ValueError(message)
    return error


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    """Turn the errors of the connection into `ModelError`."""
    try:
        yield
    except TimeoutError as error:
        raise Unreachable("The serving layer has been silent for too long.") from error
    except aiohttp.ClientConnectorError as error:
        raise Unreachable("The serving layer cannot be reached.") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise Unreachable("The connection to the serving layer was lost.") from error
