"""The models of OpenAI's protocol that know the documentation: `documentation` and `NAME+documentation`.

`documentation` quotes, and needs no language model. `NAME+documentation` is the model that is served, with
passages in its prompt, exactly as in the chat of the page. Both report their sources as data, in `sources`
beside `choices`. `serving_gateway.py` checks the key, and writes what this module returns.

A parameter that would change the answer and that these models do not support is an error.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from assistant.conversation import FinishReason, Role, Turn
from assistant.errors import (
    ModelError,
    NoDocumentation,
    NoModel,
    Overloaded,
    PromptTooLong,
    QueueFull,
    Refused,
    Unreachable,
)
from assistant.programs import Ended, ProgramAnswers, Tokens
from assistant.web.security import MAX_BODY

ALONE = "documentation"
SUFFIX = "+documentation"
OWNER = "tech-assistant"
MOST_STOPS, LONGEST_STOP = 4, 256
BYTES_PER_TOKEN = 3  # of a quotation, where `max_tokens` limits it

# Parameters that say who asks, or where to keep the answer. They do not change it.
IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
    | {"prompt_cache_retention", "parallel_tool_calls"}
)
# Values that ask for nothing, besides null, false, zero and what is empty.
NEUTRAL: Mapping[str, Sequence[object]] = {
    "n": (1,),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "repetition_penalty": (1,),
    "reasoning_effort": ("none",),
}


class ChatRefused(Exception):
    """The request gets no answer: the status, and the fields of OpenAI's error object."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        kind = {429: "rate_limit_error", 503: "service_unavailable_error"}.get(
            status, "invalid_request_error" if status < 500 else "server_error"
        )
        self.error = {"message": message, "type": kind, "param": param, "code": code}


def _text_of(content: Any) -> Any:
    """The text of a message, which may come in parts."""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        raise ValueError("may only have parts of type text")
    texts = [part.get("text") for part in content]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text_of)]


class _StreamOptions(BaseModel):
    include_usage: bool | None = False


class _Request(BaseModel):
    """Clients send many fields as null. What is not a field here is in `model_extra`."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[_Message] = Field(min_length=1)
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(1 << 63), lt=1 << 63)
    stop: str | list[str] | None = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def sampling(self) -> dict[str, Any]:
        seed = None if self.seed is None else self.seed % (1 << 63)  # as in the serving layer
        given = {"temperature": self.temperature, "top_p": self.top_p, "seed": seed, "max_tokens": self.limit}
        return {name: value for name, value in given.items() if value is not None}

    def turns(self, *, system: bool) -> list[Turn]:
        """The conversation. With `system`, a system message stands before the user's next one; a search for
        passages does without."""
        turns: list[Turn] = []
        instructions: list[str] = []
        for message in self.messages:
            if message.role in ("system", "developer"):
                instructions.append(message.content)
            elif message.role == "assistant":
                turns.append(Turn(Role.ASSISTANT, message.content))
            else:
                texts = [*instructions, message.content] if system else [message.content]
                turns.append(Turn(Role.USER, "\n\n".join(texts)))
                instructions = []
        return turns


class DocumentationModels:
    """Answers for these models, as JSON objects."""

    def __init__(self, answers: ProgramAnswers) -> None:
        self._answers = answers
        self._started = int(time.time())

    def listed(self, served: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """These models as entries of `/v1/models`. `served` are the entries of the serving layer."""
        if not self._answers.documentation.can_answer:
            return []
        # Adapters have a parent. Only the model itself can be given passages.
        names = [str(model["id"]) for model in served if model.get("id") and not model.get("parent")]
        return [
            {"id": name, "object": "model", "created": self._started, "owned_by": OWNER}
            for name in (ALONE, *(f"{name}{SUFFIX}" for name in names))
        ]

    async def answer(
        self, body: bytes, *, address: str, session: str | None
    ) -> dict[str, Any] | AsyncGenerator[dict[str, Any]]:
        """The whole response to a request, or its chunks if it asks for a stream. Raises `ChatRefused`, which
        the chunks raise too. `session` names the conversation, see `ServingClient.generation`."""
        request = _read(body)
        documentation = self._answers.documentation
        if not documentation.can_answer:
            detail = documentation.status.detail or "The server was started without documentation."
            raise ChatRefused(404, detail, param="model", code="model_not_found")
        pieces = self._pieces(request, address, session)
        head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": request.model,
        }
        if request.stream:
            return _chunks({**head, "object": "chat.completion.chunk"}, request, pieces)
        text = ""
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, str):
                    text += piece
                    continue
                message = {"role": "assistant", "content": text, "refusal": None}
                end = {"logprobs": None, "finish_reason": _finish_reason(piece)}
                return {
                    **head,
                    "object": "chat.completion",
                    "choices": [{"index": 0, "message": message, **end}],
                    "usage": _usage(piece.tokens),
                    "sources": [asdict(source) for source in piece.sources],
                }
        raise AssertionError("an answer has neither ended nor failed")

    async def _pieces(
        self, request: _Request, address: str, session: str | None
    ) -> AsyncGenerator[str | Ended]:
        """The text of an answer, then its end. The first piece is empty: the request is accepted. What fails
        raises `ChatRefused`."""
        pieces = (
            self._quoted(request, address)
            if request.model == ALONE
            else self._answers.generate(
                request.turns(system=True),
                asked=request.turns(system=False),
                address=address,
                session=session,
                stop=request.stops,
                options=request.sampling,
            )
        )
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    yield piece
        except (QueueFull, ModelError) as error:
            raise _refusal(error) from error

    async def _quoted(self, request: _Request, address: str) -> AsyncGenerator[str | Ended]:
        answer = await self._answers.quote(request.turns(system=False), address=address)
        yield ""
        room = None if request.limit is None else request.limit * BYTES_PER_TOKEN
        reason = FinishReason.EOS_TOKEN
        for piece in answer.pieces():
            if room is not None and (room := room - len(piece.encode())) < 0:
                reason = FinishReason.LENGTH
                break
            yield piece
        yield Ended(reason, answer.sources, Tokens(0, 0))  # no model has read or written anything


def model_of(body: bytes) -> str | None:
    """The name of one of these models, if a request asks for it."""
    if ALONE.encode() not in body:
        return None
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        return None
    name = given.get("model") if isinstance(given, dict) else None
    is_ours = isinstance(name, str) and (name == ALONE or name.endswith(SUFFIX))
    return name if is_ours else None


def _read(body: bytes) -> _Request:
    """Raises `ChatRefused`."""
    if len(body) > MAX_BODY:
        raise ChatRefused(413, f"The body is larger than {MAX_BODY} bytes.")
    try:
        request = _Request.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in problem["loc"])[:100] or None
        raise ChatRefused(400, f"`{param or 'body'}`: {problem['msg']}"[:500], param=param) from error
    for name, value in (request.model_extra or {}).items():
        if value and name not in IGNORED and value not in NEUTRAL.get(name, ()):
            message = f"`{name[:100]}` is not supported with the model `{request.model[:200]}`."
            raise ChatRefused(400, message, param=name[:100], code="unsupported_parameter")
    stops = request.stops
    if len(stops) > MOST_STOPS or not all(0 < len(stop) <= LONGEST_STOP for stop in stops):
        message = f"`stop` may have {MOST_STOPS} texts of 1 to {LONGEST_STOP} characters."
        raise ChatRefused(400, message, param="stop")
    if stops and request.model == ALONE:
        message = f"`stop` is not supported with the model `{ALONE}`, which quotes and generates nothing."
        raise ChatRefused(400, message, param="stop", code="unsupported_parameter")
    if request.messages[-1].role != "user" or not request.messages[-1].content.strip():
        raise ChatRefused(400, "The last message must be a question of the user.", param="messages")
    return request


async def _chunks(
    head: dict[str, Any], request: _Request, pieces: AsyncGenerator[str | Ended]
) -> AsyncGenerator[dict[str, Any]]:
    """The chunks of a stream. The sources are in the one with the reason of the end, and in the last."""
    wants_usage = request.stream_options is not None and bool(request.stream_options.include_usage)
    no_usage = {"usage": None} if wants_usage else {}

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**head, "choices": [choice], **no_usage}

    is_begun = False
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            if not is_begun:
                is_begun = True
                yield chunk({"role": "assistant", "content": ""})
            if isinstance(piece, Ended):
                sources = [asdict(source) for source in piece.sources]
                yield {**chunk({}, _finish_reason(piece)), "sources": sources}
                if wants_usage:
                    yield {**head, "choices": [], "usage": _usage(piece.tokens), "sources": sources}
            elif piece:
                yield chunk({"content": piece})


def _refusal(error: QueueFull | ModelError) -> ChatRefused:
    match error:
        case QueueFull() | Overloaded():
            return ChatRefused(429, str(error), code="rate_limit_exceeded")
        case PromptTooLong():
            return ChatRefused(400, str(error), param="messages", code="context_length_exceeded")
        case Refused():
            return ChatRefused(400, str(error), code=error.type)
        case NoModel() | NoDocumentation() | Unreachable():
            return ChatRefused(503, str(error), code="unhealthy")
    return ChatRefused(500, str(error), code=error.type)


def _finish_reason(end: Ended) -> str:
    return "length" if end.finish_reason is FinishReason.LENGTH else "stop"


def _usage(tokens: Tokens | None) -> dict[str, int] | None:
    if tokens is None:
        return None
    both = tokens.prompt + tokens.completion
    return {"prompt_tokens": tokens.prompt, "completion_tokens": tokens.completion, "total_tokens": both}
