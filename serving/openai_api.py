"""OpenAI's protocol over HTTP: `/v1/models`, `/v1/completions`, `/v1/chat/completions`.

Knows the shapes of its bodies and events; refuses to know engines and how a model wants a chat written. What
it can read and no engine here can do is refused, never silently left out.
"""

from __future__ import annotations

from starlette.routing import Route

from serving.answering import Answering


class OpenAIProtocol:
    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    def routes(self) -> list[Route]:
        return []
