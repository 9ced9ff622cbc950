"""`python -m serving`: serve one engine over HTTP.

Prints one line on standard output when it listens: `serving on http://HOST:PORT`. An error that only the
operator can correct (a wrong argument, a missing model file, a port in use) ends the process with code 2 and
one line on standard error. Other problems, such as an upstream that is down, show in `GET /info`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import platformdirs
import uvicorn

from serving import machine
from serving.addresses import is_http
from serving.doctor import command as doctor
from serving.engine import DownloadControl, Engine
from serving.engines.llama_cpp import DEFAULT_PARALLEL, LlamaCpp
from serving.engines.remote import Limits
from serving.engines.upstreams import UpstreamProtocol, Upstreams, upstream
from serving.models import catalogue
from serving.models.fetched import Absent, FetchedModel
from serving.models.gguf_header import BadModelFile
from serving.protocols.application import DEFAULT_LIMIT, DEFAULT_TOTAL_SECONDS, ServingApp, create_app

log = logging.getLogger("serving")

KEY_VARIABLE = "TECH_ASSISTANT_SERVING_KEY"
UPSTREAM_VARIABLE = "TECH_ASSISTANT_UPSTREAM"
UPSTREAM_KEY_VARIABLE = "TECH_ASSISTANT_UPSTREAM_KEY"
# Limits after the drain: for error events in running streams, and for the whole exit.
SHUTDOWN_SECONDS = 1
EXIT_SECONDS = 1.4


class _Server(uvicorn.Server):
    def __init__(self, app: ServingApp, options: argparse.Namespace) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                lifespan="on",
                timeout_keep_alive=75,  # longer than clients do, so that none sends into a closed connection
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )
        self._admission = app.runner.admission
        self._exit_with_stdin = options.exit_with_stdin
        self._drain_seconds = options.drain_seconds
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            print(f"serving on http://{_address(sockets[0])}", flush=True)
        if self._exit_with_stdin:
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._watch_stdin, args=(loop,), name="watch-stdin", daemon=True).start()

    def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
        self._signals += 1
        if sig != signal.SIGTERM or self._signals > 1:
            self._drain_seconds = 0  # Ctrl-C, or a second signal, means: now
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._admission.closed = True
        begun = time.monotonic()
        while not self._admission.idle and time.monotonic() - begun < self._drain_seconds:
            await asyncio.sleep(0.02)  # a second signal sets `_drain_seconds` to 0
        _exit_soon()
        self._admission.end()
        await super().shutdown(sockets)

    def _watch_stdin(self, loop: asyncio.AbstractEventLoop) -> None:
        while os.read(0, 4096):
            pass
        _exit_soon()  # works even if the event loop hangs
        loop.call_soon_threadsafe(setattr, self, "should_exit", True)


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["doctor"]:
        return doctor.main(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.model is None and options.upstream is None:
        urls = os.environ.get(UPSTREAM_VARIABLE, "").split(",")
        options.upstream = [url.strip() for url in urls if url.strip()]
        if not options.upstream:
            parser.error("one of the arguments --model --upstream is required")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        engine, download = _engine(options)
        app = create_app(
            engine,
            api_key=options.api_key or os.environ.get(KEY_VARIABLE) or None,
            download=download,
            max_concurrent_requests=options.max_concurrent_requests,
            total_seconds=options.total_seconds,
        )
        listener = _listen(options.host, options.port)
    except (BadModelFile, catalogue.UnknownModel, _BadUsage) as error:
        print(f"serving: {error}", file=sys.stderr)
        return 2
    try:
        _Server(app, options).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises the signal again after its shutdown
        return 130
    return 0


class _BadUsage(ValueError):
    """The message says which argument is wrong, and why."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Text generation over HTTP, with the protocols of TGI and OpenAI.",
        epilog="`python -m serving doctor URL` checks what an upstream supports.",
    )
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument(
        "--model",
        help="for the embedded llama.cpp: a GGUF file, or a model to download once: 'auto', REPO:FILE, or "
        + ", ".join(model.name for model in catalogue.CATALOGUE),
    )
    engine.add_argument(
        "--upstream",
        action="append",
        metavar="URL",
        help="a server that speaks OpenAI's protocol or TGI's, such as http://127.0.0.1:8000/v1. Repeat the "
        f"option to share the work among several. Safer in {UPSTREAM_VARIABLE} if it has a password",
    )
    parser.add_argument(
        "--upstream-kind",
        choices=[kind.value for kind in UpstreamProtocol],
        help="the protocol of the upstream (default: openai if the address ends in /v1, else detected)",
    )
    parser.add_argument("--offline", action="store_true", help="never download a model")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when standard input closes")

    def add(
        name: str, kind: Callable[[str], object], metavar: str, default: object, description: str
    ) -> None:
        if default is not None:
            description += " (%(default)g)" if isinstance(default, float) else " (%(default)s)"
        parser.add_argument(name, type=kind, metavar=metavar, default=default, help=description)

    def seconds(name: str, default: float, description: str) -> None:
        add(f"--{name}-seconds", _seconds, "SECONDS", default, description)

    limits = Limits()
    data = Path(platformdirs.user_data_dir("tech-assistant", appauthor=False))
    cache = Path(platformdirs.user_cache_dir("tech-assistant", appauthor=False))
    add("--upstream-model", str, "NAME", None, "the upstream's name of the model (default: its first one)")
    seconds(
        "connect", limits.connect, "limit for a connection to the upstream, and for a short request to it"
    )
    seconds(
        "first", limits.first, "limit until an answer begins; after it, the embedded engine counts as hung"
    )
    seconds("between", limits.between, "limit for a pause of the upstream within an answer")
    seconds("total", DEFAULT_TOTAL_SECONDS, "limit for a whole answer of any engine")
    add("--host", str, "HOST", "127.0.0.1", "the address to listen on")
    add("--port", int, "PORT", 8080, "0 chooses a free one")
    add("--api-key", str, "KEY", None, f"the key of clients; safer in {KEY_VARIABLE}")
    add("--models", Path, "DIR", data / "models", "for downloaded models")
    what = "where the embedded engine saves the computed beginnings of prompts"
    add("--prefix-cache", Path, "DIR", cache / "prefixes", what)
    add("--context", _positive, "CONTEXT", None, "context of the embedded engine, in tokens")
    add("--parallel", _positive, "PARALLEL", DEFAULT_PARALLEL, "answers computed at once")
    what = "requests that may run or wait at once; more are refused with 429"
    add("--max-concurrent-requests", _positive, "N", DEFAULT_LIMIT, what)
    add("--drain-seconds", float, "SECONDS", 30.0, "how long running answers may go on after SIGTERM")
    add("--threads", _positive, "THREADS", None, "computing threads (default: one per processor)")
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    if not 0 < (seconds := float(text)) < math.inf:
        raise ValueError
    return seconds


def _prefixes(directory: Path) -> Path | None:
    """The directory of the prefix cache, created if it is missing; None if it cannot be used."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        log.warning("--prefix-cache %s cannot be used: %s", directory, error.strerror)
        return None
    return directory.absolute()


def _engine(options: argparse.Namespace) -> tuple[Engine, DownloadControl | None]:
    """The engine, and the control of its download if there is one."""
    if options.model is None:
        return _upstream(options), None

    def load(file: Path) -> Engine:
        return LlamaCpp(
            file,
            context=options.context,
            parallel=options.parallel,
            threads=options.threads,
            prefixes=_prefixes(options.prefix_cache),
            silence=options.first_seconds,
        )

    memory = machine.memory()
    is_auto = options.model.lower() == "auto"
    model = catalogue.choose(options.models, memory) if is_auto else catalogue.find(options.model)
    if model is None:
        least = catalogue.smallest()
        has, needs = map(catalogue.in_words, (memory or 0, (least.memory or 0) + catalogue.OTHERS))
        return Absent(
            f"This machine has {has} of memory. {least.title}, the smallest model of the catalogue, needs "
            f"about {needs}. Choose a server elsewhere with --upstream, or a smaller model with --model."
        ), None
    if isinstance(model, Path):
        return load(model), None
    if memory is not None and model.memory is not None and memory < model.memory:
        log.warning(
            "%s takes about %s of memory, and this machine has %s",
            *(model.title, catalogue.in_words(model.memory), catalogue.in_words(memory)),
        )
    offline = options.offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true")
    fetched = FetchedModel(model, options.models.absolute(), load, offline=offline)
    return fetched, fetched


def _upstream(options: argparse.Namespace) -> Engine:
    limits = Limits(options.connect_seconds, options.first_seconds, options.between_seconds)
    engines: dict[str, Engine] = {}
    for url in options.upstream:
        if not is_http(url):
            raise _BadUsage("--upstream: must be an address such as http://127.0.0.1:8000/v1")
        engines[url] = upstream(
            url,
            UpstreamProtocol(options.upstream_kind) if options.upstream_kind else None,
            model=options.upstream_model,
            api_key=os.environ.get(UPSTREAM_KEY_VARIABLE) or None,
            limits=limits,
        )
    return Upstreams(engines) if len(engines) > 1 else next(iter(engines.values()))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise _BadUsage(f"cannot listen on --host {host} --port {port}: {error}") from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _exit_soon() -> None:
    """End the process soon, even if native code hangs: nothing else can interrupt that."""
    timer = threading.Timer(EXIT_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once: a thread that loads a model cannot be interrupted
