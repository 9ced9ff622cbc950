"""What answers now: the state of the engine behind the serving layer, its download and its licence.

Values only. `served.py` keeps them current, `probe.py` reads them from a serving layer.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

STARTING = "The engine is starting."
NO_MODEL = (
    "No model is loaded. Start with `sh scripts/run` to have one fetched, with "
    "`sh scripts/run --model FILE.gguf` to load yours, "
    "or name an OpenAI-compatible server by `--upstream http://HOST/v1`."
)
NOTHING_TO_FETCH = "There is no model to fetch: start with `--model auto` or `--model NAME`."
FAILED = "The model cannot be used now; the application's log says why."


class EngineState(enum.StrEnum):
    NONE = "none"  # no model and no server was named, or the model's file is not there
    FETCHING = "fetching"  # the model's file is being downloaded
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Licence:
    """What a model may be used for."""

    id: str  # from SPDX, or the model maker's own, such as `bigcode-openrail-m`
    name: str
    url: str  # of its terms
    must_accept: bool  # before the model is used


@dataclass(frozen=True, slots=True)
class Download:
    """The download of a model's file, or what became of it."""

    state: str  # `offered`, `running`, `declined` or `failed`
    model: str  # the name for people
    repo: str  # on the hub
    file: str
    licence: str | None  # its id
    bytes: int | None  # of the whole file; an estimate until the hub has answered
    received: int


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What is known of the engine.

    `detail` is a sentence for everybody, without addresses, paths and messages of other servers. `cause` may
    have those: it is for the operator and the log.
    """

    state: EngineState
    model: str | None = None
    detail: str | None = None
    parallel: int | None = None  # answers that it computes at once, where it reports that
    download: Download | None = None
    licence: Licence | None = None
    cause: str | None = None
    is_lost: bool = False  # it is loading again after it was ready, or had failed


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a serving layer listens; `failure` says why there is none and will be none."""

    url: str | None
    api_key: str | None = None
    failure: str | None = None
