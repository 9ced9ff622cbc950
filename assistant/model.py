"""TechAssistantChat: a LangChain chat model over a text-generation server.

Knows how messages become a prompt (through `prompts.render`) and how the server's events become chunks;
refuses to know who asked, where the answer is kept, and what engine computes it. It speaks the TGI
protocol by `text_generation.AsyncClient`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import aiohttp
import pydantic
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    SystemMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, SecretStr
from text_generation import errors
from text_generation.client import AsyncClient
from text_generation.types import Parameters, Request, StreamDetails, StreamResponse

from assistant.conversation import Role, Source, Turn
from assistant.errors import Broken, Overloaded, PromptTooLong, Refused, Unreachable
from prompts.render import Prompt, QuestionTooLong, Template, choose_template

T = TypeVar("T")

LONGEST_LINE = 1 << 20  # bytes of one event; the last one repeats the whole text
SESSION_HEADER = "X-Session-Id"

# A token is about this many UTF-8 bytes of English or code, until the server has told better.
BYTES_PER_TOKEN = 3.0
# When the estimate was wrong and the server says that the prompt is too long: the next budget, and tries.
SHRINK = 0.7
SHRINK_TRIES = 5
TOO_LONG = re.compile(r"\btokens\b|context", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the serving layer may be silent, in seconds. It sends a comment at least every 15 s while it
    computes, so silence for longer means that it is gone, however long an answer takes as a whole."""

    connect: float = 5.0
    """Until there is a connection; also for short questions."""
    first: float = 120.0
    """Until it begins to answer."""
    between: float = 30.0
    """From then on."""


class _Details(StreamDetails):
    input_length: int | None = None  # the protocol's; the client's own type leaves it out


class _Event(StreamResponse):
    details: _Details | None = None


class ServingClient(AsyncClient):
    """The client with one shared HTTP session, and with time limits on silence instead of on the whole.

    The stock client opens a session for each request and gives up on an answer that takes longer than
    its timeout, however lively the stream is.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        session: aiohttp.ClientSession,
        limits: Limits = Limits(),
    ) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        super().__init__(base_url.rstrip("/") + "/", headers=headers)
        self.timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect, sock_read=limits.first)
        self._limits = limits
        self._session = session

    async def events(
        self, prompt: str, parameters: Parameters, *, session: str | None = None
    ) -> AsyncGenerator[_Event | None]:
        """None as soon as the server has accepted the prompt, then the token events of one generation. Raises
        the `text_generation.errors` and aiohttp's.

        Prompts of one `session` begin alike: where several engines answer, one of them knows the beginning.
        """
        request = Request(inputs=prompt, stream=True, parameters=parameters).model_dump()
        # Our own serving layer's: nobody here looks at the probabilities, and they take time.
        request["parameters"]["logprobs"] = False
        headers = {**(self.headers or {}), **({} if session is None else {SESSION_HEADER: session})}
        async with self._session.post(
            self.base_url, json=request, headers=headers, timeout=self.timeout
        ) as response:
            if response.status != 200:
                raise _error(response.status, await response.content.read(LONGEST_LINE))
            if (connection := response.connection) is not None and connection.protocol is not None:
                connection.protocol.read_timeout = self._limits.between
                connection.protocol.start_timeout()  # the one that runs is that of the first byte
            yield None
            async for line in _lines(response.content):
                if line.startswith(b"data:"):
                    data = line[5:]
                    try:
                        event = _Event.model_validate_json(data)
                    except pydantic.ValidationError:
                        raise _error(response.status, data) from None
                    yield event

    async def count_tokens(self, text: str) -> int | None:
        """How many tokens the text has, or None where the server does not tell."""
        async with self._session.post(
            self.base_url + "tokenize", json={"inputs": text}, headers=self.headers, timeout=self.timeout
        ) as response:
            if response.status != 200:
                return None
            tokens = await response.json()
            return len(tokens) if isinstance(tokens, list) else None

    async def warm(self, beginning: str) -> None:
        """Tell the server what prompts will begin with; one that is not ours need not understand it."""
        timeout = aiohttp.ClientTimeout(total=self._limits.connect)
        url, body = self.base_url + "prefix", {"inputs": beginning}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.put(url, json=body, headers=self.headers, timeout=timeout):
                pass

    async def info(self) -> dict[str, Any]:
        """What the server says of itself. Raises aiohttp's errors and ValueError."""
        timeout = aiohttp.ClientTimeout(total=self._limits.connect)
        async with self._session.get(
            self.base_url + "info", headers=self.headers, timeout=timeout
        ) as response:
            response.raise_for_status()
            info = await response.json()
        if not isinstance(info, dict):
            raise ValueError("/info is not an object")
        return info


class TechAssistantChat(BaseChatModel):
    """A technical assistant made of a language model, its prompt template and its stop sequences.

    Messages alternate between people and the assistant; system messages are read as part of the next
    question. `temperature` 0 always takes the likeliest token. `context` is in tokens, for the prompt
    and the answer together.
    """

    base_url: str
    api_key: SecretStr | None = None
    model_name: str = Field("tech-assistant", alias="model")
    revision: str | None = None
    template: Template = Field(
        default_factory=lambda: choose_template(choice="tech-assistant"), exclude=True, repr=False
    )
    context: int = 8192
    max_new_tokens: int = Field(1024, alias="max_tokens")
    temperature: float = 0.2
    top_p: float = 0.95
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_sequences: list[str] = Field(default_factory=list, alias="stop")
    bytes_per_token: float = BYTES_PER_TOKEN
    limits: Limits = Field(default_factory=Limits, exclude=True, repr=False)
    session: aiohttp.ClientSession | None = Field(None, exclude=True, repr=False)

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, protected_namespaces=())

    @property
    def _llm_type(self) -> str:
        return "tech-assistant"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model_name, "revision": self.revision, **self.sampling}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        return LangSmithParams(
            **{**params, "ls_provider": "tech-assistant", "ls_max_tokens": self.answer_tokens}
        )

    @property
    def sampling(self) -> dict[str, Any]:
        """The sampling parameters of an answer, for its provenance."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
            "max_new_tokens": self.answer_tokens,
        }

    @property
    def answer_tokens(self) -> int:
        """The most tokens of an answer: what was asked for, but never more than half of the context."""
        return max(1, min(self.max_new_tokens, self.context // 2))

    @property
    def beginning(self) -> str:
        """What every prompt begins with."""
        return self.template.beginning(budget=self.context - self.answer_tokens, count=self.count_tokens)

    def count_tokens(self, text: str) -> int:
        """About how many tokens a text has; the server has the last word."""
        return math.ceil(len(text.encode("utf-8", "replace")) / self.bytes_per_token)

    async def answer(
        self,
        turns: Sequence[Turn],
        *,
        passages: Sequence[Source] | None = None,
        session: str | None = None,
    ) -> AsyncGenerator[AIMessageChunk]:
        """The answer to the last of `turns`, in the chunks that `astream` gives. Raises `ModelError` and
        `PromptError`. `session` names the conversation, for servers that remember what it begins with.

        `passages` is what documentation has on the question, best first; None where none is looked up for
        this conversation, which `Template.render` tells from nothing found. With passages, or none found, a
        chunk without text comes first, as soon as the server has accepted the prompt: its `response_metadata`
        has `passages_used`, the number of the first of them that are in the prompt. Where a server accepts a
        prompt and only then finds it too long, that chunk comes again, still before any text, for the prompt
        that was sent instead: the last one counts.

        The short way, for the application: no message is made of each turn, and LangChain's callbacks, which
        cost more than the chunks do, are not asked.
        """
        async with contextlib.aclosing(self._chunks(turns, None, {}, passages, session)) as chunks:
            async for chunk in chunks:
                yield cast(AIMessageChunk, chunk.message)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with contextlib.aclosing(self._chunks(_turns(messages), stop, kwargs)) as chunks:
            async for chunk in chunks:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
                yield chunk

    async def _chunks(
        self,
        turns: Sequence[Turn],
        stop: list[str] | None,
        options: dict[str, Any],
        passages: Sequence[Source] | None = None,
        session: str | None = None,
    ) -> AsyncGenerator[ChatGenerationChunk]:
        budget = whole = self.context - self.answer_tokens
        async with self._shared_session() as http:
            client = ServingClient(self.base_url, self._key(), http, self.limits)
            for last_try in (*[False] * SHRINK_TRIES, True):
                try:
                    prompt = await self._prompt(client, turns, budget, passages)
                except QuestionTooLong:
                    if not passages or budget == whole:
                        raise
                    # A question is never refused for its passages.
                    passages, budget = (), whole
                    prompt = await self._prompt(client, turns, budget, passages)
                try:
                    parameters = self._parameters(prompt, stop, options)
                    answer = self._answer(client, prompt, parameters, session)
                    async with contextlib.aclosing(answer) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    return
                except PromptTooLong:  # nothing was generated: the estimate of its length was too low
                    if last_try:
                        raise
                    budget = int(budget * SHRINK)

    async def _prompt(
        self, client: ServingClient, turns: Sequence[Turn], budget: int, passages: Sequence[Source] | None
    ) -> Prompt:
        """The prompt for these turns; a question that seems too long is counted before it is refused."""
        try:
            return self.template.render(turns, budget=budget, count=self.count_tokens, passages=passages)
        except QuestionTooLong:
            question = turns[-1].content
            with _model_errors():
                counted = await client.count_tokens(question)
            estimated = self.count_tokens(question)
            if counted is None or counted >= estimated:
                raise
            share = counted / estimated
            return self.template.render(
                turns,
                budget=budget,
                count=lambda text: math.ceil(self.count_tokens(text) * share),
                passages=passages,
            )

    async def _answer(
        self, client: ServingClient, prompt: Prompt, parameters: Parameters, session: str | None
    ) -> AsyncGenerator[ChatGenerationChunk]:
        """The chunks of one generation: what was used for it, its text, and how it ended."""
        answer = self.template.answer()
        details: _Details | None = None
        with _model_errors():
            async with contextlib.aclosing(client.events(prompt.text, parameters, session=session)) as events:
                async for event in events:
                    if event is None:
                        if prompt.passages_used is not None:
                            used = {"passages_used": prompt.passages_used}
                            message = AIMessageChunk(content="", response_metadata=used)
                            yield ChatGenerationChunk(message=message)
                        continue
                    if event.details is not None:
                        details = event.details
                    if not event.token.special and (text := answer.feed(event.token.text)):
                        yield ChatGenerationChunk(message=AIMessageChunk(content=text))
        if details is None:
            raise Broken("The answer broke off: the engine's stream ended before the answer did.")
        yield self._last_chunk(prompt, answer.flush(), details)

    def _last_chunk(self, prompt: Prompt, text: str, details: _Details) -> ChatGenerationChunk:
        sent = details.input_length
        usage = None
        if sent is not None:
            made = details.generated_tokens
            usage = UsageMetadata(input_tokens=sent, output_tokens=made, total_tokens=sent + made)
        metadata = {
            "finish_reason": details.finish_reason.value,
            "model_name": self.model_name,
            "revision": self.revision,
            "template_hash": prompt.template_hash,
            "turns_dropped": prompt.turns_dropped,
            "seed": details.seed,
        }
        message = AIMessageChunk(
            content=text, response_metadata=metadata, usage_metadata=usage, chunk_position="last"
        )
        return ChatGenerationChunk(
            message=message, generation_info={"finish_reason": metadata["finish_reason"]}
        )

    def _parameters(self, prompt: Prompt, stop: list[str] | None, options: dict[str, Any]) -> Parameters:
        temperature = options.get("temperature", self.temperature)
        top_p = options.get("top_p", self.top_p)
        sampled = bool(temperature)
        return Parameters(
            details=True,
            do_sample=sampled,
            max_new_tokens=min(
                options.get("max_tokens", options.get("max_new_tokens", self.answer_tokens)),
                self.answer_tokens,
            ),
            temperature=temperature if sampled else None,
            top_p=top_p if sampled and top_p < 1 else None,
            repetition_penalty=None if self.repetition_penalty == 1 else self.repetition_penalty,
            seed=options.get("seed", self.seed),
            stop=[*prompt.stop_sequences, *(self.stop_sequences if stop is None else stop)],
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        # A thread with a loop of its own: the caller's thread may already run one, as a notebook's does.
        with ThreadPoolExecutor(1) as thread, asyncio.Runner() as runner:

            def run(step: Coroutine[Any, Any, T]) -> T:
                context = contextvars.copy_context()
                return thread.submit(lambda: runner.run(step, context=context)).result()

            chunks = self._astream(messages, stop, None, **kwargs)
            try:
                while (chunk := run(_next(chunks))) is not None:
                    if run_manager is not None:
                        run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
                    yield chunk
            finally:
                run(_close(chunks))
                thread.submit(runner.close).result()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _key(self) -> str | None:
        return None if self.api_key is None else self.api_key.get_secret_value()

    @contextlib.asynccontextmanager
    async def _shared_session(self) -> AsyncIterator[aiohttp.ClientSession]:
        if self.session is not None:
            yield self.session
        else:
            async with new_session() as session:
                yield session


def new_session() -> aiohttp.ClientSession:
    """An HTTP session for a `TechAssistantChat`; it belongs to the running event loop."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


def _turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """LangChain's messages as turns; what a system message says goes before the next question."""
    turns: list[Turn] = []
    instructions: list[str] = []
    for message in messages:
        text = message.content if isinstance(message.content, str) else message.text
        if isinstance(message, SystemMessage):
            instructions.append(text)
            continue
        by_assistant = isinstance(message, AIMessage) or (
            isinstance(message, ChatMessage) and message.role == "assistant"
        )
        if by_assistant:
            turns.append(Turn(Role.ASSISTANT, text))
        else:
            turns.append(Turn(Role.USER, "\n\n".join([*instructions, text])))
            instructions = []
    if instructions:
        turns.append(Turn(Role.USER, "\n\n".join(instructions)))
    return turns


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of an event stream, of up to `LONGEST_LINE` bytes (aiohttp's own reader allows fewer)."""
    rest = b""
    async for data in content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > LONGEST_LINE:
            raise Broken("The engine sent an event longer than this application accepts.")


def _error(status: int, data: bytes) -> Exception:
    """The client's error for what the server answered, whatever that is."""
    try:
        answer = pydantic.TypeAdapter(dict[str, Any]).validate_json(data)
        body = {"error": str(answer["error"]), "error_type": str(answer.get("error_type", ""))}
    except (pydantic.ValidationError, KeyError):
        body = {"error": f"The server's answer (status {status}) is not of the TGI protocol."}
    if status == 503 or body.get("error_type") == "unhealthy":  # the client does not know this type
        return errors.ShardNotReadyError(body["error"])
    return errors.parse_error(status, body)


@contextlib.contextmanager
def _model_errors() -> Iterator[None]:
    """Map what the client can raise onto `ModelError`, whose words are ours: those of another server may name
    addresses and paths, and are kept as the cause alone."""
    try:
        yield
    except errors.ValidationError as error:
        if TOO_LONG.search(str(error)):
            raise PromptTooLong("The question, with what it follows, is too long for the model.") from error
        raise Refused("The engine does not accept this question.") from error
    except (errors.OverloadedError, errors.RateLimitExceededError) as error:
        raise Overloaded("The engine is busy. Ask again in a moment.") from error
    except (errors.ShardNotReadyError, errors.ShardTimeoutError) as error:
        raise Unreachable("The engine is not ready.") from error
    except (
        errors.GenerationError,
        errors.IncompleteGenerationError,
        errors.BadRequestError,
        errors.NotFoundError,
        errors.UnknownError,
    ) as error:
        raise Broken("The answer broke off: the engine failed.") from error
    except TimeoutError as error:
        raise Unreachable("The serving layer has been silent for too long.") from error
    except aiohttp.ClientConnectorError as error:
        raise Unreachable("The serving layer cannot be reached.") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise Unreachable("The connection to the serving layer was lost.") from error


async def _next(chunks: AsyncIterator[ChatGenerationChunk]) -> ChatGenerationChunk | None:
    return await anext(chunks, None)


async def _close(chunks: AsyncIterator[ChatGenerationChunk]) -> None:
    if (close := getattr(chunks, "aclose", None)) is not None:
        await close()
