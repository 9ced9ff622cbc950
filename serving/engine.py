"""What an engine is: text and sampling parameters in, chunks out. The words that all of `serving/` shares.

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

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from serving.models import Infilling, Licence


class ServingError(Exception):
    """The root of the tree above. The text is one sentence or more, for whoever sent the request."""

    error_type: str
    status: int


class InvalidRequest(ServingError):
    error_type = "validation"
    status = 422


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
class SamplingParams:
    """How the next token is chosen. None leaves a step out, whatever the engine's own default is."""

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


MOST_NEW_TOKENS = 4096
"""What `max_new_tokens=None` allows at most."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The engine has taken the request on; always the first that it yields."""

    input_tokens: int | None
    """Length of the prompt; None where the engine does not tell."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The text of one token, or of several where an engine sends them together."""

    text: str
    token_id: int = 0
    """Of the last token; 0 where the engine does not tell."""
    tokens: int = 1
    logprob: float | None = None
    special: bool = False


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
    computed_tokens: int | None = None
    reused_tokens: int | None = None
    """Of all prompts so far: tokens that were computed, and those that it knew from an earlier prompt."""
    chat_template: str | None = None
    """The model's own, as Jinja; None for a model that has none."""
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

    def generate(self, prompt: str, params: SamplingParams) -> AsyncGenerator[Accepted | Chunk | End]:
        """`Accepted`, then chunks, then `End`. Raises `ServingError`; nothing has been computed when it is
        raised before `Accepted`. Closing the generator, or cancelling its task, ends the computation."""
        ...

    async def tokenize(self, text: str) -> Sequence[TokenSpan] | None:
        """The tokens of a text; None where the engine cannot tell. Raises `ServingError`."""


class Fetching(Protocol):
    """What may fetch a model. Both raise `NothingToFetch`."""

    async def begin(self) -> None: ...

    async def decline(self) -> None: ...
