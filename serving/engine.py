"""The interface of an engine: a prompt and sampling parameters go in, chunks come out.

All of `serving/` shares these values. Stop sequences are missing on purpose: no engine is trusted with them,
and `generation.py` applies them to the output of any engine.

ServingError                 error_type              HTTP status
├── InvalidRequest           validation              422   this request can never succeed
├── Overloaded               overloaded              429   too many requests; try again after `retry_after` s
├── GenerationFailed         generation              424   the engine refused or failed before any text
├── IncompleteGeneration     incomplete_generation   500   the text broke off
├── Unhealthy                unhealthy               503   the engine is loading, gone or broken
└── NothingToFetch           nothing_to_fetch        409   there is no download to start or decline
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from serving.models.catalogue import Infilling, Licence


class ServingError(Exception):
    """The root of the tree above. Its message is written for the client that sent the request."""

    error_type: str
    status: int


class InvalidRequest(ServingError):
    error_type, status = "validation", 422


class TooLong(InvalidRequest):
    """The prompt, or the prompt and the requested answer together, exceed the context."""


class Overloaded(ServingError):
    error_type, status = "overloaded", 429

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GenerationFailed(ServingError):
    error_type, status = "generation", 424


class IncompleteGeneration(ServingError):
    error_type, status = "incomplete_generation", 500


class Unhealthy(ServingError):
    error_type, status = "unhealthy", 503


class NothingToFetch(ServingError):
    error_type, status = "nothing_to_fetch", 409


class FinishReason(StrEnum):
    LENGTH = "length"
    END_OF_TEXT = "eos_token"
    STOP_SEQUENCE = "stop_sequence"


class EngineState(StrEnum):
    NONE = "none"  # there is no model, and none is being downloaded
    FETCHING = "fetching"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt as the messages of a chat, which the engine writes with its model's chat template.

    `messages` have OpenAI's form: a `role`, a text as `content`, and any other fields that the template uses.
    """

    messages: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Infill:
    """A prompt that asks for the text between a prefix and a suffix (fill in the middle).

    Both are plain text: a special token of the model that is written in them has no effect.
    """

    prefix: str
    suffix: str


Prompt = str | Chat | Infill
"""A text is used unchanged: special tokens in it, such as those of a chat template, take effect."""


class GrammarKind(StrEnum):
    JSON = "json"  # a JSON schema
    REGEX = "regex"  # a regular expression for the whole text


@dataclass(frozen=True, slots=True)
class Grammar:
    """A constraint on the text: a JSON schema, written as JSON, or a regular expression."""

    kind: GrammarKind
    value: str


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. None switches a step off, even if the engine's own default is another.

    An engine raises `InvalidRequest` for a parameter that it does not support, and ignores none silently.
    """

    max_new_tokens: int | None  # None: as many as the context allows, up to `MOST_NEW_TOKENS`
    seed: int
    temperature: float = 0.0  # 0 always chooses the likeliest token
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    min_new_tokens: int = 0  # the minimum of tokens before the text may end
    truncate: int | None = None  # how many tokens at the end of the prompt the model reads; None: all
    grammar: Grammar | None = None
    adapter_id: str | None = None
    logprobs: bool = False
    """Whether chunks have a `logprob`, if the engine can report it. It costs half a millisecond per token."""
    top_tokens: int = 0  # how many of the likeliest tokens each chunk lists in `top`. Implies `logprobs`.


MOST_NEW_TOKENS = 4096  # the upper limit for `max_new_tokens=None`


@dataclass(frozen=True, slots=True)
class Accepted:
    """The engine has accepted the request. It always yields this first."""

    input_tokens: int | None  # length of the prompt; None if the engine does not report it


@dataclass(frozen=True, slots=True)
class TopToken:
    """One of the likeliest tokens at a position of the text."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes of one token, or of several tokens that an engine sends together.

    The bytes of all chunks together are UTF-8. A single chunk may begin or end inside a character.
    """

    data: bytes
    token_id: int = 0  # of the last token; 0 if the engine does not report it
    tokens: int = 1
    logprob: float | None = None
    """Natural logarithm, of the last token; None if the engine does not report it."""
    special: str | None = None
    """The name of the last token if that is a special token. It is not part of `data`."""
    top: Sequence[TopToken] = ()


@dataclass(frozen=True, slots=True)
class End:
    """The text has ended. The engine always yields this last. Counts are None if it does not report them."""

    finish_reason: FinishReason
    input_tokens: int | None = None
    generated_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """A token of a text: `text[start:stop]`, in characters. Tokens of one character share its span."""

    id: int
    text: str
    start: int
    stop: int


class DownloadState(StrEnum):
    OFFERED = "offered"  # the operator declined it before the last start, and can still start it
    RUNNING = "running"
    DECLINED = "declined"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """The download of a model's file, running or ended."""

    state: DownloadState
    model: str  # the name that people read
    repo: str
    file: str
    licence: str | None
    bytes: int | None  # size of the whole file; an estimate until the hub reports it
    received: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine reports about itself now. None: not known, or not known yet."""

    engine: str
    state: EngineState
    state_detail: str | None = None
    model_id: str | None = None
    context: int | None = None  # the most tokens of prompt and answer together
    parameters: int | None = None  # how many weights the model has
    parallel: int | None = None  # how many generations are computed at once. Others wait.
    waiting: int = 0
    adapters: Sequence[str] = ()  # the values that `adapter_id` accepts
    computed_tokens: int | None = None
    reused_tokens: int | None = None
    """Tokens of all prompts so far: computed, and reused from earlier prompts."""
    chats: bool = False
    """Whether `generate` accepts a `Chat`, because the engine knows its model's chat template."""
    chat_template: str | None = None
    """The model's template, as Jinja; None if it has none or the engine does not report it."""
    bos_token: str | None = None
    eos_token: str | None = None
    licence: Licence | None = None
    infilling: Infilling | None = None
    download: Download | None = None


class Engine(Protocol):
    @property
    def info(self) -> EngineInfo: ...

    async def start(self) -> None:
        """Start to get ready, without waiting. `info` shows progress and failure."""

    async def close(self) -> None:
        """Release all resources. The caller has ended all generations before."""

    def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        """Yield `Accepted`, then chunks, then `End`. Raises `ServingError`; if that comes before `Accepted`,
        nothing has been computed. Closing the generator or cancelling its task ends the computation.

        Prompts of one `session` begin alike, so the engine computes them where that beginning is cached."""
        ...

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        """The tokens of a text; None if the engine cannot report them. Raises `ServingError`."""


@runtime_checkable
class WarmableEngine(Protocol):
    """An engine that can keep the common beginning of many prompts computed."""

    async def warm(self, beginning: str) -> None:
        """Compute the beginning while the engine is idle. Raises `ServingError`."""


class DownloadControl(Protocol):
    """Starts or declines the download of a model. Both methods raise `NothingToFetch`."""

    async def begin(self) -> None: ...

    async def decline(self) -> None: ...


SESSION_HEADER = "X-Session-Id"
"""The HTTP header with the session id, in requests to this server and from it to upstreams."""
