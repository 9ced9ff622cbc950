"""The real application and the serving layer, as processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

from tests.support.forked import ForkedProgram, fork

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds until a test gives up; no test measures speed
UPSTREAM = "tests.support.fake_upstream"
# What the programs import at their start or soon after it, and is not the module that runs.
APPLICATION = "app", "assistant.model", "assistant.probe", "alembic.command"
PAGE = ("assistant.web.pages.chat",)
SERVING = "serving.engines.upstreams", "serving.protocols.application"

Process = subprocess.Popen[str] | ForkedProgram


class Application:
    """`python app.py`. Its `client` keeps the cookie of one owner over restarts.

    A `fresh` one is started as people start it. The others fork a process that has imported what they need,
    and those without a page need the least.
    """

    def __init__(self, data: Path, *arguments: str, page: bool = True, fresh: bool = False) -> None:
        self.data = data
        self.arguments = arguments
        self.program = "app" if page else "tests.support.without_page"
        self.imports = None if fresh else (*APPLICATION, *(PAGE if page else ()))
        self.client = httpx.Client(verify=False, timeout=PATIENCE)
        self._log = data.with_name(data.name + ".log")
        self.process: Process | None = None

    @property
    def address(self) -> str:
        return str(self.client.base_url).rstrip("/")

    def start(self, *, port: int = 0) -> None:
        arguments = ("--port", str(port), "--data", str(self.data), *self.arguments)
        with self._log.open("a") as log:
            self.process = start(self.program, *arguments, imports=self.imports, errors=log)
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found, self.log
        self.client.base_url = httpx.URL(found[0])

    @property
    def log(self) -> str:
        """What the application and its serving layer wrote to standard error."""
        return self._log.read_text()

    def kill(self) -> None:
        """Kill it with SIGKILL, as the system does when memory runs short."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def close(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.kill()
        self.client.close()

    def serving_pid(self) -> int:
        """The process id of its serving layer."""
        assert self.process is not None
        parent = self.process.pid
        return wait_for(lambda: next(iter(children(parent)), None))

    def wait_until(self, engine: str) -> None:
        wait_for(lambda: self.client.get("/ready").json()["engine"] == engine)

    def wait_for_page(self) -> None:
        wait_for(lambda: self.client.get("/ready").json()["page"])

    def wait_for_documentation(self) -> None:
        wait_for(lambda: self.client.get("/api/engine").json()["documentation"]["state"] == "ready")

    def new_chat(self) -> str:
        return str(self.client.post("/api/conversations").raise_for_status().json()["id"])

    def ask(self, chat: str, text: str) -> str:
        """Ask; returns the reply's id."""
        response = self.client.post(f"/api/conversations/{chat}/messages", json={"text": text})
        return str(response.raise_for_status().json()["reply_id"])

    def reply(self, chat: str) -> dict[str, Any]:
        """The last message of a conversation."""
        messages = self.client.get(f"/api/conversations/{chat}").raise_for_status().json()["messages"]
        return dict(messages[-1])

    def events(self, reply: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of a reply: their names and data."""
        with self.client.stream("GET", f"/api/replies/{reply}/events") as response:
            name = ""
            for line in response.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))

    def answer(self, reply: str) -> tuple[str, dict[str, Any]]:
        """The whole text of a reply and the data of its last event."""
        text = ""
        end: dict[str, Any] = {}
        for name, data in self.events(reply):
            if name == "delta":
                text += data["text"]
            else:
                end = data
        return text, end

    def read_some(self, reply: str, characters: int) -> str:
        """Read a reply until it has at least `characters`, then disconnect."""
        text = ""
        with contextlib.closing(self.events(reply)) as events:  # type: ignore[type-var]
            for name, data in events:
                assert name == "delta", (name, data)
                text += data["text"]
                if len(text) >= characters:
                    break
        return text


def start(program: str, *arguments: str, imports: Sequence[str] | None, errors: IO[str] | None) -> Process:
    """Run a module. With `imports`, fork a process that has imported these modules."""
    if imports is not None and sys.platform == "linux":
        return fork(program, *arguments, imports=imports, environment=environment(), errors=errors)
    script = ["app.py"] if program == "app" else ["-m", program]
    command = [sys.executable, *script, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=pipe, stderr=errors, text=True)


def environment() -> dict[str, str]:
    """The environment of this process without settings of the application, which then downloads no model and
    indexes no documentation unless the test says so."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TECH_ASSISTANT_")}
    return {**kept, "TECH_ASSISTANT_MODEL": "none", "TECH_ASSISTANT_DOCUMENTATION": "false"}


@contextlib.contextmanager
def running(
    data: Path, *arguments: str, page: bool = True, fresh: bool = False, until: str | None = None
) -> Iterator[Application]:
    """An application; `until` waits for this state of its engine, and for its page."""
    application = Application(data, *arguments, page=page, fresh=fresh)
    application.start()
    try:
        if until is not None:
            application.wait_until(until)
            if page:
                application.wait_for_page()
        yield application
    finally:
        application.close()


@contextlib.contextmanager
def _process(
    program: str, *arguments: str, imports: Sequence[str], log: Path | None = None
) -> Iterator[tuple[str, int]]:
    """A Python process; yields the address that it prints, and its id."""
    with log.open("w") if log else contextlib.nullcontext() as errors:
        process = start(program, *arguments, imports=imports, errors=errors)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1], process.pid
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def upstream(text: str, *, rate: float = 20) -> Iterator[str]:
    """An OpenAI-compatible server in its own process, which answers `text`; yields its address."""
    with _process(UPSTREAM, "--rate", str(rate), "--text", text, imports=("aiohttp.web",)) as (url, _):
        yield url


@dataclass(frozen=True)
class Serving:
    """A running serving layer."""

    url: str
    pid: int


@contextlib.contextmanager
def serving(*arguments: str, log: Path | None = None) -> Iterator[Serving]:
    """A serving layer that outlives the applications of a test."""
    with _process("serving", "--port", "0", *arguments, imports=SERVING, log=log) as (url, pid):
        yield Serving(url, pid)


def children(parent: int) -> Sequence[int]:
    """The ids of the processes that `parent` started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def peak_memory(pid: int) -> int:
    """The largest number of bytes of memory that a process has had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for(look: Callable[[], Any]) -> Any:
    """The first true value that `look` returns. Raises AssertionError if there is none in time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if found := look():
                return found
        time.sleep(0.02)
    raise AssertionError(f"nothing true came in {PATIENCE:.0f} seconds")
