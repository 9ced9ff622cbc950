"""Start everything: settings -> storage -> serving child -> assistant -> web. `uv run app.py` is enough.

This file only wires the parts together. To see what happens to a question, read on in `assistant/replies.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from assistant import logs
from assistant.chats import Chats
from assistant.engine import Endpoint
from assistant.knowledge.documentation import Documentation
from assistant.licences import Licences
from assistant.replies import Replies
from assistant.served import ServedModel
from assistant.settings import BadSettings, Settings, keep_private, read_settings, secret_keys
from assistant.site_documentation import SiteDocumentation
from assistant.sites import Sites
from assistant.web.application import create_app
from assistant.web.connections import Connections, Limits
from serving.child import ServingChild
from storage.database import Database
from storage.errors import StorageError
from storage.journal import Journal
from storage.owners import OwnerStore
from storage.running import Running
from storage.store import ConversationStore

if TYPE_CHECKING:  # imported late, see `gateway_to`
    from assistant.web.serving_gateway import ServingGateway


class Server(uvicorn.Server):
    """uvicorn, except that it ends all replies before it waits for the connections that follow them."""

    def __init__(self, config: uvicorn.Config, close: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._close = close

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's own, but does not raise the signal again: that would cut short what ends after the
        server."""
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._close()
        await super().shutdown(sockets)


async def serve(settings: Settings, listener: socket.socket, connections: Connections) -> None:
    """Run until a signal. Raises `StorageError` if the data directory cannot be used."""
    key, *older_keys = secret_keys(settings)
    keep_private(settings.data)
    database = Database(settings.data / "tech-assistant.db")
    child = serving_child(settings)
    documentation = documentation_of(settings)
    sites = Sites(settings.data / "sites")
    endpoint = endpoint_of(settings, child)
    served = ServedModel(settings, endpoint)
    store, owners = ConversationStore(database), OwnerStore(database)
    replies = Replies(
        store,
        Journal(database),
        Running(database),
        served,
        documentation,
        Licences(owners, served),
        SiteDocumentation(sites),
        max_replies=settings.max_replies,
        max_waiting=settings.max_waiting,
        total_seconds=settings.total_seconds,
    )
    chats = Chats(database, store, owners, replies, sites)
    await chats.load()  # a damaged database ends the start here, with a clear message

    def load_page() -> FastAPI:
        from assistant.web.pages.chat import page_app  # importing Gradio takes seconds

        page = page_app(replies)
        gc.freeze()  # its 250,000 objects stay; each search for garbage in them would take 0.2 s
        return page

    web = create_app(
        replies,
        chats,
        sites,
        key=key,
        older_keys=older_keys,
        names=(settings.host, *settings.allowed_hosts),
        may_manage=settings.may_manage,
        load_page=load_page,
    )
    gateway = gateway_to(endpoint, web, replies, settings)

    async def close() -> None:
        if gateway is not None:
            gateway.end()
        await replies.close()

    server = Server(connections.config(gateway or web), close)
    starting = None if child is None else asyncio.create_task(child.start())
    try:
        announce(listener, settings)
        await server.serve(sockets=[listener])
    finally:
        if child is not None and starting is not None:
            starting.cancel()
            await asyncio.gather(starting, child.stop(), return_exceptions=True)
        database.close()


def documentation_of(settings: Settings) -> Documentation:
    """The documentation that the settings name; its index is in the data directory."""
    if not settings.documentation:
        return Documentation(None)
    arguments = [
        *(argument for docs in settings.docs for argument in ("--docs", docs)),
        *(argument for packages in settings.packages for argument in ("--packages", str(packages))),
    ]
    return Documentation(settings.data / "documentation.db", arguments)


def serving_child(settings: Settings) -> ServingChild | None:
    """The serving layer as a child of this process, if the settings name a model or an upstream."""
    if settings.engine_arguments is None:
        return None
    return ServingChild(
        settings.engine_arguments,
        environment=settings.engine_environment,
        hang_seconds=settings.hang_seconds,
    )


def endpoint_of(settings: Settings, child: ServingChild | None) -> Callable[[], Endpoint] | None:
    """Where the serving layer is: our child, whose address changes at a restart, or the named server."""
    if child is not None:
        return lambda: Endpoint(child.url, child.api_key, child.failure)
    if settings.serving_url is not None:
        key = None if settings.serving_key is None else settings.serving_key.get_secret_value()
        if "@" in urlsplit(settings.serving_url).netloc:
            key = None  # a user name and a password in the address take the key's place
        return lambda: Endpoint(settings.serving_url, key)
    return None


def gateway_to(
    endpoint: Callable[[], Endpoint] | None, web: ASGIApp, replies: Replies, settings: Settings
) -> ServingGateway | None:
    """The public way to the serving layer and the models with documentation, if the settings expose it."""
    if not settings.expose_serving or settings.serving_key is None:
        return None
    from assistant.programs import ProgramAnswers
    from assistant.web.documentation_models import DocumentationModels
    from assistant.web.serving_gateway import ServingGateway  # imports aiohttp: a tenth of a second of CPU

    models = DocumentationModels(ProgramAnswers(replies))
    key = settings.serving_key.get_secret_value()
    return ServingGateway(web, endpoint=endpoint, key=key, models=models)


def announce(listener: socket.socket, settings: Settings) -> None:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    address = f"http://{host}:{port}"
    print(f"Tech Assistant is at {address}", flush=True)
    has_screen = sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if settings.open_browser and has_screen and sys.stdout.isatty():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def listen(settings: Settings, backlog: int) -> socket.socket:
    """The public socket. Raises `BadSettings` if the address cannot be used."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=backlog)
    except OSError as error:
        raise BadSettings(
            f"--host {settings.host} --port {settings.port}: {error.strerror or error}. "
            "Another program may have it: --port 0 takes a free one."
        ) from error


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # on Windows
        return None
    return uvloop.new_event_loop


def main(arguments: Sequence[str]) -> int:
    os.umask(0o077)  # other users of this machine cannot read what people write
    # Look for garbage seldom: importing Gradio and LangChain makes many objects that stay. Searching them
    # again and again took a sixth of the start, and stopped the API for 0.2 s at a time.
    gc.set_threshold(50_000, 20, 50)
    logs.begin(sys.stderr)
    try:
        settings = read_settings(arguments)
        connections = Connections(Limits.of_this_process(), settings.proxies)
        with (
            listen(settings, connections.limits.backlog) as listener,
            asyncio.Runner(loop_factory=fastest_loop()) as runner,
        ):
            runner.run(serve(settings, listener, connections))
    except (BadSettings, StorageError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the server runs, or a second time
        return 130
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    gc.freeze()  # everything is closed; a last search for garbage would take another second
    sys.exit(code)
