"""What our serving layer adds to llama.cpp: the same model, in the same run, beside llama.cpp's own server.

    .venv/bin/python -m benchmarks.serving

A model of some 150 million random weights is written first: what it says means nothing, but costs as much as
sense would. The peer is the HTTP server inside xllamacpp, with the options that ours gives it. Both are asked
over HTTP by the same reader, by turns, and each figure is the median of the turns; ratios are within a turn.

- decoding: tokens a second from the first token to the last, of all streams together;
- first token: behind a beginning of about 2,000 tokens: never seen, seen before, and after a restart;
- gateway: the kernel's CPU seconds of our process a token, with an upstream that only sends;
- matcher: one character a piece, with 16 stop sequences.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from benchmarks.processes import cpu_seconds
from serving import machine
from serving.engines.llama_cpp_server import BATCH, PROMPT_CACHE_MIB
from serving.stopping import StopMatcher
from tests.support.tiny_gguf import write_tiny_gguf

ROOT = Path(__file__).resolve().parents[1]
CONTEXT, PARALLEL = 16384, 8
PROMPT = "the code is for you with the list of it\n"
BEGINNING = "the code is for you with the list of it and a name\n" * 155  # about 2,000 tokens
PATIENCE = 300.0  # seconds, for anything
RATE, STREAMS, TOKENS = 40, 50, 200  # of the upstream that only sends: tokens a second, of how many, how long


def serve_raw(model: Path, threads: int) -> None:
    """llama.cpp's own server, with what ours sets for the sake of speed."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import xllamacpp  # 100 MB of native code: only in the process that is the peer

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = CONTEXT
    params.n_parallel = PARALLEL
    params.n_threads_http = PARALLEL + 4
    params.kv_unified = True
    params.n_batch = params.n_ubatch = BATCH
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.warmup = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(f"serving on {server.listening_address}", flush=True)
    sys.stdin.read()
    os._exit(0)


@contextlib.asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[str, int]]:
    """A Python process that says where it serves, and its id."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=ROOT,
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = (await child.stdout.readline()).decode().strip()
        yield line.removeprefix("serving on "), child.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


@contextlib.asynccontextmanager
async def ours(*arguments: str) -> AsyncIterator[tuple[str, int]]:
    async with (
        process("-m", "serving", "--port", "0", *arguments) as (url, pid),
        aiohttp.ClientSession() as http,
    ):
        async with asyncio.timeout(PATIENCE):
            while (await (await http.get(f"{url}/info")).json())["state"] != "ready":
                await asyncio.sleep(0.02)
        yield url, pid


def raw_request(prompt: str, tokens: int) -> tuple[str, dict[str, Any]]:
    neutral = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
    return "/completion", {"prompt": prompt, "n_predict": tokens, "stream": True, **neutral}


def our_request(prompt: str, tokens: int) -> tuple[str, dict[str, Any]]:
    parameters = {"max_new_tokens": tokens, "logprobs": False}
    return "/generate_stream", {"inputs": prompt, "parameters": parameters}


Request = Callable[[str, int], tuple[str, dict[str, Any]]]


async def read(http: aiohttp.ClientSession, url: str, asked: tuple[str, dict[str, Any]]) -> list[float]:
    """When each event came, in seconds of the machine's clock."""
    path, body = asked
    times = []
    async with http.post(url + path, json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if b'"token' in line:  # "token" or "tokens", with the text
                times.append(time.monotonic())  # noqa: PERF401 (each at its time)
    return times


async def decoding(url: str, request: Request, streams: int, tokens: int) -> float:
    """Tokens a second while all stream."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        prompts = [f"{number} {PROMPT}" for number in range(streams)]
        replies = await asyncio.gather(*(read(http, url, request(prompt, tokens)) for prompt in prompts))
    begun, ended = max(times[0] for times in replies), min(times[tokens - 1] for times in replies)
    return sum(sum(begun < at <= ended for at in times) for times in replies) / (ended - begun)


async def first_token(url: str, request: Request, prompt: str) -> float:
    """Seconds until the first token."""
    async with aiohttp.ClientSession() as http:
        begun = time.monotonic()
        return (await read(http, url, request(prompt, 1)))[0] - begun


async def compare_decoding(raw: str, own: str, turns: int, tokens: int) -> Iterator[str]:
    lines = [f"{'decoding':24} {'llama.cpp':>12} {'ours':>12} {'ratio':>7}   asked: at least 0.97"]
    for streams in (1, PARALLEL):
        rows = []
        for turn in range(turns + 1):
            pair = {}
            sides = [(raw, raw_request), (own, our_request)]
            for url, request in sides if turn % 2 else sides[::-1]:
                pair[url] = await decoding(url, request, streams, tokens)
            if turn:  # the first is not counted
                rows.append((pair[raw], pair[own]))
        ratio = median(b / a for a, b in rows)
        theirs, our = median(a for a, _ in rows), median(b for _, b in rows)
        lines.append(f"{f'{streams} streams, tokens/s':24} {theirs:12.1f} {our:12.1f} {ratio:7.3f}")
    return iter(lines)


async def compare_first_token(model: Path, threads: int, turns: int) -> Iterator[str]:
    cold, warm, restarted = [], [], []
    for turn in range(turns):
        with tempfile.TemporaryDirectory() as cache:
            arguments = ["--model", str(model), "--context", str(CONTEXT), "--parallel", str(PARALLEL)]
            arguments += ["--threads", str(threads), "--prefix-cache", cache]
            async with ours(*arguments) as (url, _):
                cold.append(await first_token(url, our_request, f"{BEGINNING}first {turn}"))
                warm.append(await first_token(url, our_request, f"{BEGINNING}second {turn}"))
                async with aiohttp.ClientSession() as http:
                    await (await http.put(f"{url}/prefix", json={"inputs": BEGINNING})).read()
                    async with asyncio.timeout(PATIENCE):
                        while not any(name.endswith(".state") for name in os.listdir(cache)):
                            await asyncio.sleep(0.05)
            async with ours(*arguments) as (url, _):
                restarted.append(await first_token(url, our_request, f"{BEGINNING}third {turn}"))
    lines = [f"{'first token':24} {'seconds':>12} {'of cold':>12} {'':7}   asked: at most 1/15"]
    for name, seconds in (("never seen", cold), ("seen before", warm), ("after a restart", restarted)):
        share = median(c / s for c, s in zip(cold, seconds, strict=True))
        lines.append(f"{name:24} {median(seconds):12.3f} {f'1/{share:.1f}':>12}")
    return iter(lines)


async def gateway(turns: int) -> Iterator[str]:
    costs = []
    text = "word " * TOKENS
    sending = ("-m", "tests.support.fake_upstream", "--rate", str(RATE), "--text", text.strip())
    async with (
        process(*sending) as (upstream, _),
        ours("--upstream", upstream) as (url, pid),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        for turn in range(turns + 1):
            before = cpu_seconds(pid)
            asked = [our_request(PROMPT, TOKENS) for _ in range(STREAMS)]
            replies = await asyncio.gather(*(read(http, url, one) for one in asked))
            if turn:
                costs.append((cpu_seconds(pid) - before) / sum(map(len, replies)) * 1e6)
    lines = [f"{'gateway':24} {'µs a token':>12} {'':12} {'':7}   asked: at most 80"]
    lines.append(f"{f'{STREAMS} streams at {RATE}/s':24} {median(costs):12.1f}")
    return iter(lines)


def matcher() -> Iterator[str]:
    text = Path(__file__).read_bytes()
    stops = ["\nHuman:", "\nAssistant:", "\n-----\n\nHuman:", *(f"<|mark {number}|>" for number in range(13))]
    hardest = ["a" * 255 + chr(ord("b") + number) for number in range(16)]
    yield f"{'matcher':24} {'µs a piece':>12} {'twice':>12} {'':7}   asked: at most 1, linear"
    for name, with_stops, read in (("code", stops, text), ("all but a stop", hardest, b"a" * 10_000)):
        once, twice = (_fed(with_stops, read * times) for times in (1, 2))
        yield f"{name:24} {once:12.2f} {twice:12.2f}"


def _fed(stops: list[str], text: bytes) -> float:
    """Microseconds a piece of one character, the least of five."""
    pieces = [text[place : place + 1] for place in range(len(text))]
    best = float("inf")
    for _ in range(5):
        feed = StopMatcher(stops).feed
        begun = time.perf_counter()
        for piece in pieces:
            feed(piece)
        best = min(best, time.perf_counter() - begun)
    return best / len(pieces) * 1e6


async def run(options: argparse.Namespace, model: Path) -> None:
    threads = options.threads
    common = ["--context", str(CONTEXT), "--parallel", str(PARALLEL), "--threads", str(threads)]
    raw = ("-m", "benchmarks.serving", "--raw", str(model), "--threads", str(threads))
    with tempfile.TemporaryDirectory() as cache:
        mine = ("--model", str(model), "--prefix-cache", cache, *common)
        async with process(*raw) as (theirs, _), ours(*mine) as (own, _):
            for line in await compare_decoding(theirs, own, options.turns, options.tokens):
                print(line, flush=True)
    for lines in (await compare_first_token(model, threads, 3), await gateway(3), matcher()):
        print()
        for line in lines:
            print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--threads", type=int, default=machine.cpus())
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.raw is not None:
        serve_raw(options.raw, options.threads)
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory) / "benchmark.gguf"
        write_tiny_gguf(
            model, context=CONTEXT, blocks=12, width=768, vocabulary=49152, heads=12, quantised=True
        )
        size = round(model.stat().st_size / 1e6)
        print(json.dumps({"MB of weights, 8 bits each": size, "threads": options.threads}))
        asyncio.run(run(options, model))


if __name__ == "__main__":
    main()
