"""What an engine is: a prompt and sampling parameters in, chunks out. The words that `serving/` shares.

Knows no protocol and no engine in particular; refuses to know about stop sequences, which no engine is
trusted with (`generation.py` puts them around any engine).

ServingError                 error_type              HTTP status
├── InvalidRequest           validation              422   the request can never work as it is
├── Overloaded               overloaded              429   no room now; there may be in `retry_after` seconds
├── GenerationFailed         generation              424   the engine refused or failed before any text
├── IncompleteGeneration     incomplete_generation   500   the text broke off
├── Unhealthy                unhealthy               503   there is no engine now: loading, gone or broken
└── NothingToFetch           nothing_to_fetch        409   no model could be fetched, or given up
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from serving.models.catalogue import Infilling, Licence


class ServingError(Exception):
    """The root of the tree above. The text is one sentence or more, for whoever sent the request."""

    error_type: str
    status: int


class InvalidRequest(ServingError):
    error_type = "validation"
    status = 422


class TooLong(InvalidRequest):
    """The prompt, or the prompt and the answer that is asked for, is longer than the context."""


class Overloaded(ServingError):
    error_type = "overloaded"
    status = 429

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GenerationFailed(ServingError):
    error_type = "generation"
    status = 424


class IncompleteGeneration(ServingError):
    error_type = "incomplete_generation"
    status = 500


class Unhealthy(ServingError):
    error_type = "unhealthy"
    status = 503


class NothingToFetch(ServingError):
    error_type = "nothing_to_fetch"
    status = 409


class FinishReason(StrEnum):
    LENGTH = "length"
    END_OF_TEXT = "eos_token"
    STOP_SEQUENCE = "stop_sequence"


class EngineState(StrEnum):
    NONE = "none"
    """There is no model, and none is on its way."""
    FETCHING = "fetching"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt as the turns of a chat: the engine writes them as its model was trained on them.

    `messages` are OpenAI's: a `role` and a `content` that is text, and whatever else the model's template
    looks at.
    """

    messages: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Infill:
    """A prompt whose answer is the text between the two, by a model that fills in the middle.

    They are text alone: what looks like one of the model's own markers in them does not work as one.
    """

    prefix: str
    suffix: str


Prompt = str | Chat | Infill
"""Text is taken as it is: marks in it that the model knows (of its chat template, say) work as such."""


class GrammarKind(StrEnum):
    JSON = "json"
    """A JSON schema."""
    REGEX = "regex"
    """A regular expression for the whole text."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What the text has to look like: a JSON schema as JSON, or a regular expression."""

    kind: GrammarKind
    value: str


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. None leaves a step out, whatever the engine's own default is.

    An engine that cannot do what is asked for raises `InvalidRequest`; it leaves nothing out silently.
    """

    max_new_tokens: int | None
    """None: what fits into the context, within reason."""
    seed: int
    temperature: float = 0.0
    """0 always takes the likeliest token."""
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    min_new_tokens: int = 0
    """The text does not end by itself before it has so many tokens."""
    truncate: int | None = None
    """Only so many tokens at the end of the prompt are read."""
    grammar: Grammar | None = None
    adapter_id: str | None = None
    logprobs: bool = False
    """Whether chunks shall tell `logprob`, where the engine can: it costs half a millisecond a token."""
    top_tokens: int = 0
    """How many of the likeliest tokens chunks shall tell besides, in `top`. Implies `logprobs`."""


MOST_NEW_TOKENS = 4096
"""What `max_new_tokens=None` allows at most."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The engine has taken the request on; always the first that it yields."""

    input_tokens: int | None
    """Length of the prompt; None where the engine does not tell."""


@dataclass(frozen=True, slots=True)
class TopToken:
    """One of the likeliest tokens at a place."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes of one token, or of several where an engine sends them together.

    They are UTF-8 when those of all chunks are put together; each alone may begin and end inside a
    character.
    """

    data: bytes
    token_id: int = 0
    """Of the last token; 0 where the engine does not tell."""
    tokens: int = 1
    logprob: float | None = None
    """Of the last token, natural; None where the engine does not tell."""
    special: str | None = None
    """The written form of the last token where that is a mark of the model and no text: not in `data`."""
    top: Sequence[TopToken] = ()


@dataclass(frozen=True, slots=True)
class End:
    """The text has ended by itself; always the last that an engine yields. Counts are None if not told."""

    finish_reason: FinishReason
    input_tokens: int | None = None
    generated_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """A token of a given text: `text[start:stop]`, in characters. Parts of one character share its span."""

    id: int
    text: str
    start: int
    stop: int


class DownloadState(StrEnum):
    OFFERED = "offered"
    """It was declined before the last start."""
    RUNNING = "running"
    DECLINED = "declined"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A model's file on its way, or what became of it."""

    state: DownloadState
    model: str
    """The name for people."""
    repo: str
    file: str
    licence: str | None
    bytes: int | None
    """Of the whole file; before the hub has told it, about."""
    received: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine says of itself now; None is what is not known, or not known yet."""

    engine: str
    state: EngineState
    state_detail: str | None = None
    model_id: str | None = None
    context: int | None = None
    """Tokens of prompt and answer together."""
    parallel: int | None = None
    """Generations that are computed at once; more of them wait."""
    waiting: int = 0
    adapters: Sequence[str] = ()
    """What `adapter_id` may name."""
    computed_tokens: int | None = None
    reused_tokens: int | None = None
    """Of all prompts so far: tokens that were computed, and those that it knew from an earlier prompt."""
    chats: bool = False
    """Whether `generate` takes a `Chat`: somebody there knows how the model wants one written."""
    chat_template: str | None = None
    """The model's own, as Jinja; None for a model that has none, and where it is not told."""
    bos_token: str | None = None
    eos_token: str | None = None
    licence: Licence | None = None
    infilling: Infilling | None = None
    download: Download | None = None


class Engine(Protocol):
    @property
    def info(self) -> EngineInfo: ...

    async def start(self) -> None:
        """Begin to become ready; does not wait for it. Progress and failure show in `info`."""

    async def close(self) -> None:
        """Give everything back. Generations have ended before."""

    def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        """`Accepted`, then chunks, then `End`. Raises `ServingError`; nothing has been computed when it is
        raised before `Accepted`. Closing the generator, or cancelling its task, ends the computation.

        What has the same `session` begins alike: it is computed where what it begins with may be known."""
        ...

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        """The tokens of a text; None where the engine cannot tell. Raises `ServingError`."""


@runtime_checkable
class Warming(Protocol):
    """An engine that can keep what it has computed for what many prompts begin with."""

    async def warm(self, beginning: str) -> None:
        """Compute it in a quiet moment. Raises `ServingError`."""


class DownloadControl(Protocol):
    """Starts or declines the download of a model. Both methods raise `NothingToFetch`."""

    async def begin(self) -> None: ...

    async def decline(self) -> None: ...


SESSION_HEADER = "X-Session-Id"
"""What names the session of a request, on the way to us and on to upstreams."""
