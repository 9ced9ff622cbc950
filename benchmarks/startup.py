"""How soon it answers after its start, and what it costs while nobody asks, beside a minimal Gradio app.

    .venv/bin/python -m benchmarks.startup

`sh scripts/run` is started again and again, as a person does, with an upstream in its own process (so that
application and serving layer both run, without a model); the first start is not counted, as it may compile
what the later ones find. The peer is `gr.ChatInterface`, started by the same interpreter. Times are from the
command to the first 200 of `/ready`, and of the page as a browser gets it. Memory is read once the page has
been fetched and the engine is ready, and CPU over some quiet seconds after that.

The wall clock counts whatever else the machine does; the CPU seconds of a process, which stand beside it, are
its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.processes import cpu_seconds, memory, threads
from tests.support.application import ROOT, children, environment, upstream

PATIENCE = 120.0  # seconds for one start
PAUSE = 0.05  # between two looks, each of which costs the one who is measured something as well


@dataclass
class Process:
    """One process at rest."""

    rss: float
    pss: float
    idle: float  # percent of a core
    threads: int


@dataclass
class Starts:
    """All starts of one program, and the processes of the last one."""

    who: str
    ready: list[float] = field(default_factory=list)  # seconds from the command to the first answer
    engine: list[float] = field(default_factory=list)
    page: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # seconds of all its processes until the page was there
    slowest: list[float] = field(default_factory=list)  # seconds of an answer while the page is loaded
    processes: dict[str, Process] = field(default_factory=dict)

    def total(self, measure: Callable[[Process], float]) -> float:
        return sum(map(measure, self.processes.values()))


def status_of(url: str) -> tuple[int, bytes]:
    """Status and body of an answer; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Program:
    """A command that is running since `begun`, until it is left."""

    def __init__(self, command: Sequence[str], **variables: str) -> None:
        self._words = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed when it is left
        self.begun = time.monotonic()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment(), **variables},
            stdout=subprocess.DEVNULL,
            stderr=self._words,
        )
        self.pid = self._process.pid
        self.slowest = 0.0  # seconds of the slowest answer so far

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        self._words.close()

    def seconds_until(self, url: str, there: Callable[[int, bytes], bool]) -> float:
        """How long after its start the answer to `url` is the one that is waited for."""
        while not there(*self._look(url)):
            if self._process.poll() is not None or time.monotonic() - self.begun > PATIENCE:
                self._words.seek(0)
                raise RuntimeError(f"It did not start, and said:\n{self._words.read()}")
            time.sleep(PAUSE)
        return time.monotonic() - self.begun

    def _look(self, url: str) -> tuple[int, bytes]:
        asked = time.monotonic()
        answer = status_of(url)
        self.slowest = max(self.slowest, time.monotonic() - asked)
        return answer


def at_rest(pids: dict[str, int], seconds: float) -> dict[str, Process]:
    """What these processes cost while nobody asks."""
    time.sleep(2)  # what was still being started is not idling
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    found = {}
    for name, pid in pids.items():
        used, held = cpu_seconds(pid) - before[name], memory(pid)
        found[name] = Process(held.rss, held.pss, 100 * used / seconds, threads(pid))
    return found


def start_ours(starts: Starts, upstream: str, data: Path, *, is_counted: bool, quiet: float) -> None:
    """One start; `quiet` seconds of rest are measured after it if that is more than none."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = ["sh", "scripts/run", "--upstream", upstream, "--port", str(port), "--data", str(data)]
    with Program([*command, "--no-open-browser"]) as program:
        ready = program.seconds_until(f"{address}/ready", is_ready)
        program.slowest = 0.0  # of those while the page is loaded
        engine = program.seconds_until(f"{address}/ready", has_engine)  # comes before the page
        page = program.seconds_until(address, is_page)
        (serving,) = children(program.pid)
        if is_counted:
            starts.ready.append(ready)
            starts.engine.append(engine)
            starts.page.append(page)
            starts.cpu.append(cpu_seconds(program.pid, serving))
            starts.slowest.append(program.slowest)
        if quiet:
            starts.processes = at_rest({"application": program.pid, "serving layer": serving}, quiet)


def start_peer(starts: Starts, upstream: str, *, is_counted: bool, quiet: float) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "benchmarks.chat_interface", upstream]
    with Program(command, GRADIO_SERVER_PORT=str(port)) as program:
        page = program.seconds_until(address, is_page)
        if is_counted:
            starts.ready.append(page)  # it answers nothing before
            starts.page.append(page)
            starts.cpu.append(cpu_seconds(program.pid))
        if quiet:
            starts.processes = at_rest({"": program.pid}, quiet)


def is_ready(status: int, body: bytes) -> bool:
    return status == 200


def has_engine(status: int, body: bytes) -> bool:
    return status == 200 and bool(json.loads(body)["engine"] == "ready")


def is_page(status: int, body: bytes) -> bool:
    return status == 200 and b"gradio" in body


def spread(seconds: Sequence[float]) -> str:
    """Median, smallest and largest."""
    return f"{median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def table(ours: Starts, peer: Starts) -> str:
    lines = [f"{'':<34}{ours.who:>24}{peer.who:>24}{'ratio':>8}"]

    def times(name: str, of: Callable[[Starts], list[float]]) -> None:
        mine, theirs = of(ours), of(peer)
        ratio = f"{median(mine) / median(theirs):8.2f}" if theirs else ""
        lines.append(f"{name:<34}{spread(mine):>24}{spread(theirs) if theirs else '':>24}{ratio}")

    def rests(name: str, of: Callable[[Process], float], form: str = ".0f") -> None:
        mine, theirs = ours.total(of), peer.total(of)
        lines.append(f"{name:<34}{mine:>24{form}}{theirs:>24{form}}{mine / theirs if theirs else 0:8.2f}")
        lines.extend(f"  {part:<32}{of(process):>24{form}}" for part, process in ours.processes.items())

    times("command to first answer, s", lambda starts: starts.ready)
    times("command to the engine, s", lambda starts: starts.engine)
    times("command to the page, s", lambda starts: starts.page)
    times("slowest answer before the page, s", lambda starts: starts.slowest)
    times("CPU until the page, s", lambda starts: starts.cpu)
    rests("memory (PSS), MiB", lambda process: process.pss)
    rests("memory (RSS), MiB", lambda process: process.rss)
    rests("CPU when idle, % of a core", lambda process: process.idle, ".2f")
    rests("threads", lambda process: process.threads)
    return "\n".join(line.rstrip() for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="starts that are counted (%(default)s)")
    parser.add_argument("--quiet", type=float, default=30, help="idle seconds to measure (%(default)s)")
    options = parser.parse_args()
    if options.runs < 1 or options.quiet <= 0:
        parser.error("--runs and --quiet must be positive")
    # Both find compiled what an earlier start has compiled, whatever this environment says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    ours, peer = Starts("Tech Assistant"), Starts("gr.ChatInterface")
    with tempfile.TemporaryDirectory() as folder, upstream("A short answer.") as address:
        for number in range(options.runs + 1):  # in turn, so that both meet the same machine
            quiet = options.quiet if number == options.runs else 0
            start_ours(ours, address, Path(folder) / "data", is_counted=number > 0, quiet=quiet)
            start_peer(peer, address, is_counted=number > 0, quiet=quiet)
    print(table(ours, peer))


if __name__ == "__main__":
    main()
