"""The HTTP server under the fakes: on a free port of this machine, for as long as a test needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web


class FakeServer:
    """`async with` runs it at `url`. After a restart it has the same port."""

    path = ""  # at the end of `url`
    url = ""
    _port = 0

    def routes(self) -> dict[str, Callable[[web.Request], Awaitable[Any]]]:
        """The answers by method and path, such as `GET /info`."""
        raise NotImplementedError

    async def __aenter__(self) -> Any:
        app = web.Application(client_max_size=1 << 26)
        for route, answer in self.routes().items():
            app.router.add_route(*route.split(), answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}{self.path}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._runner.cleanup()
