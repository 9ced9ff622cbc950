"""The page of an application whose engine and answers a test scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import BrowserContext, Route

from tests.browser.chat_page import ChatPage

READ = {"state": "ready", "passages": 9, "done": 9, "total": 9, "detail": None}
BUILDING = {**READ, "state": "building", "done": 3}
MODEL = {"state": "ready", "model": "Small", "detail": None, "answers": "model", "documentation": READ}
QUOTES = {**MODEL, "state": "none", "model": None, "answers": "documentation"}
LOST = {**MODEL, "state": "failed", "detail": "The model cannot be used now.", "answers": "documentation"}
DOWNLOAD = {
    "state": "running", "model": "Small", "repo": "some/Small-GGUF", "file": "small.gguf",
    "licence": "Apache-2.0", "bytes": 986_000_000, "received": 424_000_000, "may_change": True,
}  # fmt: skip
LICENCE = {"id": "openrail", "name": "OpenRAIL", "url": "https://example.org/licence", "accepted": False}
RMTREE = {
    "name": "shutil.rmtree", "title": "shutil.rmtree", "package": "Python", "version": "3.11.2",
    "licence": "PSF-2.0", "location": "shutil.py:722", "url": "https://docs.python.org/3/",
    "quote": "shutil.rmtree(path)\n\nRecursively delete a directory tree.",
}  # fmt: skip
EXAMPLE = {**RMTREE, "title": "Example of use", "location": "a.py:1", "url": "javascript:alert(1)"}
TEXT = "It deletes a tree [1], see [2] and [3].\n\n`x[1]` and argv[1] are code."


class ScriptedPage(ChatPage):
    """Answers the page's requests about the engine and the events of its replies.

    `engine` is the body of GET /api/engine, `model` the one that the provenance of an answer names. `calls`
    are the methods of the requests that change the download or accept the licence; `refuse` makes them fail,
    and `hold` keeps them waiting until `release`.
    """

    def __init__(
        self, context: BrowserContext, address: str, engine: dict[str, Any], asked: str | None = None
    ) -> None:
        self.engine = {"download": None, "licence": None, **engine}
        is_quotation = engine["answers"] == "documentation"
        self.model = "documentation" if is_quotation else "Small"
        self.text_of_answers = TEXT
        self.sources = [{**source, "cited": is_quotation} for source in (RMTREE, EXAMPLE)]
        self.calls: list[str] = []
        self._refusal: dict[str, Any] | None = None
        self._held: list[Route] | None = None
        context.route("**/api/engine", lambda route: route.fulfill(json=self.engine))
        context.route("**/api/engine/download", self._called)
        context.route("**/api/licences/*", self._called)
        context.route("**/events", self._answer)
        context.route(
            re.compile(r"/api/replies/[^/]+$"),
            lambda route: route.fulfill(json={"provenance": self._provenance}),
        )
        super().__init__(context, address)
        chat = self.page.locator("tech-chat")
        self.consent = chat.locator(".consent")
        self.download = chat.locator(".download")
        self.notice = chat.get_by_role("status").and_(self.page.locator(".notice"))
        if asked is not None:
            self.ask_and_wait(asked)

    def change_engine(self, **changes: Any) -> None:
        """Change what the application says of its engine, and have the page ask for it now."""
        self.engine |= changes
        self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    def refuse(self, detail: str | None) -> None:
        """Let the calls fail with this detail; with None, succeed again."""
        self._refusal = None if detail is None else {"type": "refused", "detail": detail}

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for route in held:
            self._end(route)

    @property
    def _provenance(self) -> dict[str, Any]:
        return {"model": self.model, "revision": "Python 3.11.2", "seconds": 0.1}

    def _called(self, route: Route) -> None:
        self.calls.append(route.request.method)
        if self._held is not None:
            self._held.append(route)
        else:
            self._end(route)

    def _end(self, route: Route) -> None:
        route.fulfill(status=204) if self._refusal is None else route.fulfill(status=409, json=self._refusal)

    def _answer(self, route: Route) -> None:
        events = {"sources": {"sources": self.sources}, "delta": {"text": self.text_of_answers}}
        events["done"] = {"status": "done", "finish_reason": "eos_token"}
        body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events.items())
        route.fulfill(content_type="text/event-stream", body=body)


Scripted = Callable[..., ScriptedPage]
