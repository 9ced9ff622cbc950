"""Look at a serving layer, and make a `TechAssistantChat` from what it reports about itself.

It reports at `/info` of TGI's protocol, to which our own serving layer adds its state and its download.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr, TypeAdapter, ValidationError

from assistant.engine import (
    FAILED,
    NO_MODEL,
    NOTHING_TO_FETCH,
    STARTING,
    Download,
    Endpoint,
    EngineState,
    EngineStatus,
    Licence,
)
from assistant.errors import ModelError
from assistant.model import BYTES_PER_TOKEN, TechAssistantChat
from assistant.serving_client import ServingClient, Timeouts, new_session
from assistant.settings import Settings
from prompts.render import PromptError, Template
from prompts.size import ModelSize, size_of
from prompts.templates import choose_template

log = logging.getLogger(__name__)

LOADING = "The model is loading."
NOT_FETCHED = "The model could not be fetched; the application's log says why."
_DOWNLOAD = TypeAdapter(Download)
DOWNLOAD_SECONDS = 10.0  # in which a serving layer begins to fetch, or stops

# The number of parameters in a model's name: "SmolLM2-135M", "qwen2.5-coder:0.5b", "Mixtral-8x7B".
_PARAMETERS = re.compile(r"(?:^|[^a-z0-9.])(?:\d+x)?(\d{1,4}(?:\.\d{1,3})?)([mb])(?![a-z0-9])")

# A model id that is a path on the machine that serves it.
_PATH = re.compile(r"[/~.\\]|[A-Za-z]:[/\\]|.*\.gguf$")

# A text with which to count a model's tokens: English and code, as answers are.
SAMPLE = (
    "To read a file line by line, open it in a `with` block and iterate over it:\n\n"
    '```python\nwith open("notes.txt", encoding="utf-8") as file:\n    for line in file:\n'
    "        print(line.rstrip())\n```\n\nThe block closes the file also when an error is raised.\n"
)


class Probe(contextlib.AbstractAsyncContextManager["Probe"]):
    """Looks at serving layers. `model` is the one of the last look that found one ready."""

    def __init__(self, settings: Settings) -> None:
        self.model: TechAssistantChat | None = None
        self._settings = settings
        self._timeouts = Timeouts()  # our own child keeps the operator's limits itself
        if settings.serving_url is not None:
            seconds = (settings.connect_seconds, settings.first_seconds, settings.between_seconds)
            self._timeouts = Timeouts(*seconds)
        self._session = new_session()
        self._made_from: object = None

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def look(self, endpoint: Endpoint) -> EngineStatus:
        """The status of the serving layer at `endpoint.url`. Never raises for what it answers."""
        client = ServingClient(str(endpoint.url), endpoint.api_key, self._session, self._timeouts)
        try:
            info = await client.info()
        except aiohttp.ClientResponseError as error:
            return _failed(None, f"The serving layer at {_shown(endpoint)} answered {error.status}.")
        except (aiohttp.ClientError, ValueError, OSError) as error:
            if self._settings.serving_url is None:  # our own child: it is being started again
                return EngineStatus(EngineState.LOADING, detail=STARTING)
            log.debug("the serving layer cannot be reached", exc_info=error)
            return _failed(None, f"The serving layer at {_shown(endpoint)} cannot be reached.")
        name = _name(info)
        try:
            state = EngineState(str(info.get("state", EngineState.READY)))
        except ValueError:
            return _failed(name, "The serving layer reports a state that this release does not know.")
        download = _download(info)
        cause = str(info.get("state_detail") or "") or None
        status = EngineStatus(
            state,
            None if state is EngineState.NONE else name,  # the name of a model that is not loaded
            cause and self._detail(state, download, cause),
            download=download,
            licence=_licence(info),
            cause=cause,
        )
        if state is not EngineState.READY:
            return status
        try:
            if self._made_from != (endpoint, info):
                self.model = await self._make(client, endpoint, info)
                self._made_from = (endpoint, info)
        except (PromptError, OSError) as error:
            return _failed(name, str(error))
        parallel = info.get("max_batch_size")
        return dataclasses.replace(
            status,
            detail=None,
            cause=None,
            parallel=parallel if isinstance(parallel, int) and parallel > 0 else None,
        )

    def _detail(self, state: EngineState, download: Download | None, cause: str) -> str:
        """A sentence for everybody about a serving layer in this state, instead of the operator's `cause`.

        Only while nothing has failed, and with a local model, does `cause` name no addresses and no paths.
        """
        if state is EngineState.FAILED:
            return FAILED
        if download is not None and download.state == "failed":
            return NOT_FETCHED
        if not self._settings.upstream and self._settings.serving_url is None:
            return cause
        return NO_MODEL if state is EngineState.NONE else LOADING

    async def steer_download(self, endpoint: Endpoint, method: str) -> str | None:
        """Begin (POST) or decline (DELETE) a download; returns why the serving layer refused."""
        client = ServingClient(str(endpoint.url), endpoint.api_key, self._session, self._timeouts)
        timeout = aiohttp.ClientTimeout(total=DOWNLOAD_SECONDS)
        try:
            async with self._session.request(
                method, client.base_url + "download", headers=client.headers, timeout=timeout
            ) as answer:
                if answer.status < 400:
                    return None
                message = (await answer.json()).get("error") if answer.status == 409 else None
                return str(message or NOTHING_TO_FETCH)
        except (aiohttp.ClientError, ValueError, OSError) as error:
            log.debug("the serving layer cannot be asked to fetch", exc_info=error)
            return "The serving layer cannot be reached now. Try again in a moment."

    async def _make(
        self, client: ServingClient, endpoint: Endpoint, info: dict[str, Any]
    ) -> TechAssistantChat:
        settings = self._settings
        try:
            tokens = await client.count_tokens(SAMPLE)
        except (ModelError, ValueError):
            tokens = None
        model = TechAssistantChat(
            base_url=str(endpoint.url),
            api_key=None if endpoint.api_key is None else SecretStr(endpoint.api_key),
            model=_name(info) or "unknown",
            revision=info.get("model_sha") or None,
            template=_template(settings, info),
            context=int(info.get("max_total_tokens") or 8192),
            max_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            repetition_penalty=settings.repetition_penalty,
            bytes_per_token=len(SAMPLE.encode()) / tokens if tokens else BYTES_PER_TOKEN,
            timeouts=self._timeouts,
            session=self._session,
        )
        with contextlib.suppress(PromptError):  # then no question fits either, and its error says so
            await client.warm(model.beginning)
        return model


def _failed(model: str | None, cause: str) -> EngineStatus:
    return EngineStatus(EngineState.FAILED, model, FAILED, cause=cause)


def _shown(endpoint: Endpoint) -> str:
    """The address without a user name and a password."""
    parts = urlsplit(str(endpoint.url))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _name(info: dict[str, Any]) -> str | None:
    """The model's name for people: of a path, the last part."""
    name = info.get("model_id")
    if not isinstance(name, str):
        return None
    return re.split(r"[/\\]", name.rstrip("/"))[-1] if _PATH.match(name) else name


def _download(info: dict[str, Any]) -> Download | None:
    """The download that a serving layer reports; None if it reports none that we understand."""
    try:
        return _DOWNLOAD.validate_python(info.get("download"))
    except ValidationError:
        return None


def _licence(info: dict[str, Any]) -> Licence | None:
    told = info.get("license")
    if not isinstance(told, dict) or not told.get("id"):
        return None
    return Licence(
        id=str(told["id"]),
        name=str(told.get("name") or told["id"]),
        url=str(told.get("url") or ""),
        must_accept=bool(told.get("must_accept")),
    )


def _template(settings: Settings, info: dict[str, Any]) -> Template:
    own = info.get("chat_template") or None
    if settings.chat_template is not None:
        own = settings.chat_template.read_text(encoding="utf-8")
    return choose_template(
        choice=settings.prompt,
        chat_template=own,
        bos_token=info.get("bos_token") or "",
        eos_token=info.get("eos_token") or "",
        size=_size(info),
    )


def _size(info: dict[str, Any]) -> ModelSize:
    """The size of the model, from the parameters that the serving layer reports, or else from its name. If a
    name has several numbers, the largest counts: "Qwen2.5-7B-Instruct-1M" can read a million tokens."""
    reported = info.get("parameters")
    if isinstance(reported, int) and reported > 0:
        return size_of(reported)
    named = _PARAMETERS.findall((_name(info) or "").lower())
    unit = {"m": 10**6, "b": 10**9}
    return size_of(max((int(float(number) * unit[letter]) for number, letter in named), default=None))
