"""Look at a serving layer, and make a `TechAssistantChat` of what it says of itself.

Knows how a server's description (`/info` of the TGI protocol, and what our own serving layer adds) becomes
a ready model: name, context, template, tokens. Refuses to know when to look.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import aiohttp
from pydantic import SecretStr

from assistant.model import BYTES_PER_TOKEN, ServingClient, TechAssistantChat, new_session
from assistant.served import STARTING, Endpoint, EngineState, EngineStatus
from assistant.settings import Settings
from prompts.render import PromptError, Template, choose_template

log = logging.getLogger(__name__)

# The text by which a model's tokens are measured: English and code, as answers are.
SAMPLE = (
    "To read a file line by line, open it in a `with` block and iterate over it:\n\n"
    '```python\nwith open("notes.txt", encoding="utf-8") as file:\n    for line in file:\n'
    "        print(line.rstrip())\n```\n\nThe block closes the file also when an error is raised.\n"
)


class Probe(contextlib.AbstractAsyncContextManager["Probe"]):
    """Looks at servers; `model` is what the last look that found one ready has made."""

    def __init__(self, settings: Settings) -> None:
        self.model: TechAssistantChat | None = None
        self._settings = settings
        self._session = new_session()
        self._made_from: object = None

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def look(self, endpoint: Endpoint) -> EngineStatus:
        """What the server at `endpoint.url` can do now; whatever it answers is told as a status."""
        client = ServingClient(str(endpoint.url), endpoint.api_key, self._session)
        try:
            info = await client.info()
        except aiohttp.ClientResponseError as error:
            detail = f"The serving layer answered {error.status} {error.message}."
            return EngineStatus(EngineState.FAILED, detail=detail)
        except (aiohttp.ClientError, ValueError, OSError) as error:
            if self._settings.serving_url is None:  # our own child: it is being started again
                return EngineStatus(EngineState.LOADING, detail=STARTING)
            log.debug("the serving layer cannot be reached", exc_info=error)
            detail = f"The serving layer at {endpoint.url} cannot be reached."
            return EngineStatus(EngineState.FAILED, detail=detail)
        name = _name(info)
        try:
            state = EngineState(str(info.get("state", EngineState.READY)))
        except ValueError:
            return EngineStatus(EngineState.FAILED, name, "The serving layer is in a state not known here.")
        if state is not EngineState.READY:
            return EngineStatus(state, name, info.get("state_detail") or None)
        try:
            if self._made_from != (endpoint, info):
                self.model = await self._make(client, endpoint, info)
                self._made_from = (endpoint, info)
        except (PromptError, OSError) as error:
            return EngineStatus(EngineState.FAILED, name, str(error))
        parallel = info.get("max_batch_size")
        return EngineStatus(
            EngineState.READY, name, parallel=parallel if isinstance(parallel, int) and parallel > 0 else None
        )

    async def _make(
        self, client: ServingClient, endpoint: Endpoint, info: dict[str, Any]
    ) -> TechAssistantChat:
        settings = self._settings
        try:
            tokens = await client.count_tokens(SAMPLE)
        except (aiohttp.ClientError, ValueError, OSError):
            tokens = None
        return TechAssistantChat(
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
            session=self._session,
        )


def _name(info: dict[str, Any]) -> str | None:
    """The model's name for people: a file without its folders, anything else as it is."""
    name = info.get("model_id")
    return name.rpartition("/")[2] if isinstance(name, str) and name.endswith(".gguf") else name


def _template(settings: Settings, info: dict[str, Any]) -> Template:
    own = info.get("chat_template") or None
    if settings.chat_template is not None:
        own = settings.chat_template.read_text(encoding="utf-8")
    return choose_template(
        choice=settings.prompt,
        chat_template=own,
        bos_token=info.get("bos_token") or "",
        eos_token=info.get("eos_token") or "",
    )
