"""File values and odd headers reach each route of Gradio; it opens no file and no address."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Count
from tests.support.application import PATIENCE, ROOT, Application
from tests.support.gradio_attack import CLOSED, TARGETS, files, nested
from tests.support.watched import WATCHED
from tests.web.pages.test_gradio_routes import JOIN, OPEN

AT_ONCE = 16
EVENT_ROUTES = [f"/gradio_api/{path}" for path in ("queue/join", "run/chat", "api/chat", "call/chat")]


class Bait:
    """A server that counts its visits, a file, and a link to the file; nothing has a reason to open them."""

    def __init__(self, folder: Path, port: int) -> None:
        self.visits = 0
        (folder / "bait").write_text("canary")
        (folder / "link").symlink_to(folder / "bait")
        here = f"http://127.0.0.1:{port}/bait"
        self.targets = (*TARGETS, str(folder / "bait"), str(folder / "link"), here, f"{here}?x={folder}")

    async def visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()


def requests(targets: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, str], bytes]]:
    """Method, path with query, headers and body."""
    for method, path in sorted(CLOSED | OPEN):
        filled = re.sub(r"{\w+(:path)?}", "{}", path)
        for target in targets:
            headers = dict.fromkeys(("X-Forwarded-Host", "X-Gradio-Server", "Referer"), target)
            query = f"?deep_link={target}&url={target}&session_hash={target}&path={target}"
            yield method, filled.replace("{}", target.strip("/")) + query, headers, b""
            if method == "POST":
                for value in files([target]):
                    yield method, filled, {}, json.dumps({**JOIN, "data": [value]}).encode()
    for path in EVENT_ROUTES:
        for value in files(targets):
            for inside in nested(value):
                for data in ({"data": inside}, {"data": [inside]}, {"event_data": inside}):
                    yield "POST", path, {}, json.dumps({**JOIN, **data}).encode()


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    monkeypatch.setenv(WATCHED, str(tmp_path / "watched"))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    application = Application(tmp_path / "data", "--offline", fresh=True)
    application.program = "tests.support.watched"
    application.start()
    application.wait_for_page()
    yield application
    application.close()


async def test_no_route_of_gradio_opens_a_file_or_an_address(
    application: Application, tmp_path: Path, count: Count
) -> None:
    watched = tmp_path / "watched"
    answers: Counter[int] = Counter()
    async with (
        asyncio.timeout(4 * PATIENCE),
        await asyncio.start_server(lambda *ends: bait.visited(*ends), "127.0.0.1", 0) as server,
        httpx.AsyncClient(base_url=application.address, timeout=PATIENCE) as client,
    ):
        bait = Bait(tmp_path, server.sockets[0].getsockname()[1])
        for _, path in sorted(OPEN):  # these read files once and keep what they read
            await client.get(path.replace("{path:path}", "x"))
        before = watched.stat().st_size
        waiting = requests(bait.targets)

        async def attack() -> None:
            for method, path, headers, body in waiting:
                raw = path.encode("ascii", "ignore").replace(b" ", b"")
                url = httpx.URL(application.address, raw_path=raw)
                answer = await client.request(method, url, headers=headers, content=body)
                answers[answer.status_code] += 1

        await asyncio.gather(*(attack() for _ in range(AT_ONCE)))
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/")).status_code == 200

    with watched.open("rb") as file:
        file.seek(before)
        events = [line.decode().rstrip("\n").split("\t", 1) for line in file]
    ours = (str(ROOT), str(application.data), *map(sysconfig.get_path, ("stdlib", "purelib")))
    opened = {ast.literal_eval(what) for event, what in events if not event.startswith("socket.")}
    foreign = {path for path in opened if isinstance(path, str) and not path.startswith(ours)}
    reached = [what for event, what in events if event.startswith("socket.")]
    by_status = dict(sorted(answers.items()))
    count(
        f"files and addresses to Gradio: requests {sum(answers.values()):,}, by status {by_status}, "
        f"files opened {len(foreign)}, addresses reached {len(reached)}, visits {bait.visits}"
    )
    assert (foreign, reached, bait.visits) == (set(), [], 0)
    assert [path for path in (tmp_path / "gradio").rglob("*") if path.is_file()] == []
    assert max(answers) < 500
    assert "Traceback" not in application.log, application.log
