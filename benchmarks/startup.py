"""How soon the application answers after its start, and what it costs at rest, compared with a Gradio app.

    .venv/bin/python -m benchmarks.startup

Starts `sh scripts/run` again and again with an upstream in a separate process, so that the application and
the serving layer both run, without a model. The first start does not count, because it may compile modules.
The peer is `gr.ChatInterface` in the same Python. Times are from the command to the first success of
`/ready`, and of the page. Memory is measured when the page has loaded and the engine is ready, and idle CPU
time during some seconds after that.

Other work on the machine slows the wall clock, but not the CPU time of a process.
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
PAUSE = 0.05  # seconds between two requests, which take time of the measured program too


@dataclass
class Process:
    """The cost of one process at rest. Memory is in mebibytes."""

    rss: float
    pss: float
    idle: float  # CPU time in percent of a core
    threads: int


@dataclass
class Starts:
    """All starts of one program, in seconds from the command, and the processes of the last start."""

    name: str
    ready: list[float] = field(default_factory=list)
    engine: list[float] = field(default_factory=list)
    page: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # CPU seconds of all its processes until the page
    slowest: list[float] = field(default_factory=list)  # seconds of the slowest response before the page
    processes: dict[str, Process] = field(default_factory=dict)

    def total(self, measure: Callable[[Process], float]) -> float:
        return sum(map(measure, self.processes.values()))


def status_of(url: str) -> tuple[int, bytes]:
    """The status and body of a response. The status is 0 while the program does not listen."""
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
    """A command that runs from `started` until the end of the `with` block."""

    def __init__(self, command: Sequence[str], **variables: str) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment(), **variables},
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )
        self.pid = self._process.pid
        self.slowest = 0.0  # seconds of the slowest response so far

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def seconds_until(self, url: str, is_expected: Callable[[int, bytes], bool]) -> float:
        """The seconds from the start until `url` has the expected response."""
        while not is_expected(*self._get(url)):
            if self._process.poll() is not None or time.monotonic() - self.started > PATIENCE:
                self._errors.seek(0)
                raise RuntimeError(f"The program did not start. Its errors:\n{self._errors.read()}")
            time.sleep(PAUSE)
        return time.monotonic() - self.started

    def _get(self, url: str) -> tuple[int, bytes]:
        started = time.monotonic()
        response = status_of(url)
        self.slowest = max(self.slowest, time.monotonic() - started)
        return response


def at_rest(pids: dict[str, int], seconds: float) -> dict[str, Process]:
    """The cost of these processes at rest."""
    time.sleep(2)  # the start is not rest
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    found = {}
    for name, pid in pids.items():
        used, held = cpu_seconds(pid) - before[name], memory(pid)
        found[name] = Process(held.rss, held.pss, 100 * used / seconds, threads(pid))
    return found


def start_ours(starts: Starts, upstream: str, data: Path, *, is_counted: bool, quiet: float) -> None:
    """Measure one start, and `quiet` seconds of rest after it."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = ["sh", "scripts/run", "--upstream", upstream, "--port", str(port), "--data", str(data)]
    with Program([*command, "--no-open-browser"]) as program:
        ready = program.seconds_until(f"{address}/ready", is_ready)
        program.slowest = 0.0  # of the responses from here on
        engine = program.seconds_until(f"{address}/ready", has_engine)  # before the page
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
            starts.ready.append(page)  # it serves nothing before the page
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


def row(name: str, times: Sequence[float], others: Sequence[float]) -> str:
    """A row of a table: the median, smallest and largest of two lists of times, and their ratio."""
    cells = [
        f"{median(each):.2f} ({min(each):.2f} to {max(each):.2f})" if each else "" for each in (times, others)
    ]
    ratio = f"{median(times) / median(others):.2f}" if others else ""
    return f"{name:<34}{cells[0]:>24}{cells[1]:>24}{ratio:>8}".rstrip()


def table(ours: Starts, peer: Starts) -> str:
    lines = [
        f"{'':<34}{ours.name:>24}{peer.name:>24}{'ratio':>8}",
        row("command to first response, s", ours.ready, peer.ready),
        row("command to the engine, s", ours.engine, peer.engine),
        row("command to the page, s", ours.page, peer.page),
        row("slowest response before page, s", ours.slowest, peer.slowest),
        row("CPU time until the page, s", ours.cpu, peer.cpu),
    ]

    def costs(name: str, of: Callable[[Process], float], form: str = ".0f") -> None:
        mine, theirs = ours.total(of), peer.total(of)
        lines.append(f"{name:<34}{mine:>24{form}}{theirs:>24{form}}{mine / theirs if theirs else 0:8.2f}")
        lines.extend(f"  {part:<32}{of(process):>24{form}}" for part, process in ours.processes.items())

    costs("memory (PSS), MiB", lambda process: process.pss)
    costs("memory (RSS), MiB", lambda process: process.rss)
    costs("CPU time at rest, % of a core", lambda process: process.idle, ".2f")
    costs("threads", lambda process: process.threads)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted starts (default: %(default)s)")
    parser.add_argument("--quiet", type=float, default=30, help="seconds of rest (default: %(default)s)")
    options = parser.parse_args()
    if options.runs < 1 or options.quiet <= 0:
        parser.error("--runs and --quiet must be positive")
    # Let both programs use the modules that an earlier start has compiled.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    ours, peer = Starts("Tech Assistant"), Starts("gr.ChatInterface")
    with tempfile.TemporaryDirectory() as folder, upstream("A short answer.") as address:
        for number in range(options.runs + 1):  # alternate, so that both run under the same conditions
            quiet = options.quiet if number == options.runs else 0
            start_ours(ours, address, Path(folder) / "data", is_counted=number > 0, quiet=quiet)
            start_peer(peer, address, is_counted=number > 0, quiet=quiet)
    print(table(ours, peer))


if __name__ == "__main__":
    main()
