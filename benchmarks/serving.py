"""What our serving layer costs, compared with llama.cpp's own server on the same model.

    .venv/bin/python -m benchmarks.serving

The model has about 150 million random weights. Its text is nonsense, but takes as long as sense. The peer is
the HTTP server inside xllamacpp, with the options of our serving layer. The same client measures both in
alternating rounds. Each number is the median of the rounds; each ratio compares two numbers of one round.

- decoding: tokens per second of all streams together, from the first token to the last;
- first token: after a beginning of about 2,000 tokens that is new, that the engine has read before, or that
  it has read before a restart;
- gateway: CPU time of our process per token, with an upstream that only sends;
- matcher: time per piece of one character, with 16 stop sequences.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from benchmarks.processes import cpu_seconds, program
from serving import machine
from serving.engines.llama_cpp_server import BATCH, PROMPT_CACHE_MIB
from serving.stopping import StopMatcher
from tests.support.application import upstream
from tests.support.tiny_gguf import write_tiny_gguf

CONTEXT, PARALLEL = 16384, 8
PROMPT = "the code is for you with the list of it\n"
BEGINNING = "the code is for you with the list of it and a name\n" * 155  # about 2,000 tokens
PATIENCE = 300.0  # seconds; the most that anything may take
RATE, STREAMS, TOKENS = 40, 50, 200  # of the gateway: tokens per second and stream, streams, tokens of each


def serve_raw(model: Path, threads: int) -> None:
    """Run llama.cpp's own server with the options that our serving layer sets for speed."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import xllamacpp  # 100 MB of native code, only needed by the peer

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
async def ours(*arguments: str) -> AsyncIterator[tuple[str, int]]:
    """Run our serving layer; yields its address and process id once it is ready."""
    with program("-m", "serving", "--port", "0", *arguments, errors=subprocess.DEVNULL) as (url, pid):
        async with aiohttp.ClientSession() as http, asyncio.timeout(PATIENCE):
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


async def read(http: aiohttp.ClientSession, url: str, request: tuple[str, dict[str, Any]]) -> list[float]:
    """The time of each event, in seconds of the monotonic clock."""
    path, body = request
    times = []
    async with http.post(url + path, json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if b'"token' in line:  # "token" or "tokens"
                times.append(time.monotonic())  # noqa: PERF401 (one by one)
    return times


async def decoding(url: str, request: Request, streams: int, tokens: int) -> float:
    """Tokens per second while all stream."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        prompts = [f"{number} {PROMPT}" for number in range(streams)]
        replies = await asyncio.gather(*(read(http, url, request(prompt, tokens)) for prompt in prompts))
    start, end = max(times[0] for times in replies), min(times[tokens - 1] for times in replies)
    return sum(sum(start < at <= end for at in times) for times in replies) / (end - start)


async def first_token(url: str, request: Request, prompt: str) -> float:
    """Seconds until the first token."""
    async with aiohttp.ClientSession() as http:
        start = time.monotonic()
        return (await read(http, url, request(prompt, 1)))[0] - start


async def compare_decoding(raw: str, own: str, rounds: int, tokens: int) -> None:
    print(f"{'decoding':24} {'llama.cpp':>12} {'ours':>12} {'ratio':>7}   target: at least 0.97")
    for streams in (1, PARALLEL):
        rows = []
        for number in range(rounds + 1):
            pair = {}
            sides = [(raw, raw_request), (own, our_request)]
            for url, request in sides if number % 2 else sides[::-1]:
                pair[url] = await decoding(url, request, streams, tokens)
            if number:  # the first only warms up
                rows.append((pair[raw], pair[own]))
        ratio = median(b / a for a, b in rows)
        theirs, our = median(a for a, _ in rows), median(b for _, b in rows)
        print(f"{f'{streams} streams, tokens per s':24} {theirs:12.1f} {our:12.1f} {ratio:7.3f}", flush=True)


async def compare_first_token(common: Sequence[str], rounds: int = 3) -> None:
    cold, warm, restarted = [], [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            arguments = [*common, "--prefix-cache", cache]
            async with ours(*arguments) as (url, _):
                cold.append(await first_token(url, our_request, f"{BEGINNING}first {number}"))
                warm.append(await first_token(url, our_request, f"{BEGINNING}second {number}"))
                async with aiohttp.ClientSession() as http:
                    await (await http.put(f"{url}/prefix", json={"inputs": BEGINNING})).read()
                    async with asyncio.timeout(PATIENCE):
                        while not any(name.endswith(".state") for name in os.listdir(cache)):
                            await asyncio.sleep(0.05)
            async with ours(*arguments) as (url, _):
                restarted.append(await first_token(url, our_request, f"{BEGINNING}third {number}"))
    print(f"\n{'first token':24} {'seconds':>12} {'of new':>12} {'':7}   target: at most 1/15")
    for name, seconds in (("new", cold), ("read before", warm), ("before a restart", restarted)):
        share = median(c / s for c, s in zip(cold, seconds, strict=True))
        print(f"{name:24} {median(seconds):12.3f} {f'1/{share:.1f}':>12}", flush=True)


async def gateway(sender: str, rounds: int = 3) -> None:
    costs = []
    async with (
        ours("--upstream", sender) as (url, pid),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        for number in range(rounds + 1):
            before = cpu_seconds(pid)
            request = our_request(PROMPT, TOKENS)
            replies = await asyncio.gather(*(read(http, url, request) for _ in range(STREAMS)))
            if number:
                costs.append((cpu_seconds(pid) - before) / sum(map(len, replies)) * 1e6)
    print(f"\n{'gateway':24} {'µs per token':>12} {'':12} {'':7}   target: at most 80")
    print(f"{f'{STREAMS} streams at {RATE}/s':24} {median(costs):12.1f}", flush=True)


def matcher() -> None:
    text = Path(__file__).read_bytes()
    stops = ["\nHuman:", "\nAssistant:", "\n-----\n\nHuman:", *(f"<|mark {number}|>" for number in range(13))]
    hardest = ["a" * 255 + chr(ord("b") + number) for number in range(16)]
    print(f"\n{'matcher':24} {'µs per piece':>12} {'twice':>12} {'':7}   target: at most 1, linear")
    for name, with_stops, read in (("code", stops, text), ("almost a stop", hardest, b"a" * 10_000)):
        once, twice = (_fed(with_stops, read * times) for times in (1, 2))
        print(f"{name:24} {once:12.2f} {twice:12.2f}", flush=True)


def _fed(stops: list[str], text: bytes) -> float:
    """The microseconds per piece of one character, the least of five."""
    pieces = [text[index : index + 1] for index in range(len(text))]
    best = float("inf")
    for _ in range(5):
        feed = StopMatcher(stops).feed
        start = time.perf_counter()
        for piece in pieces:
            feed(piece)
        best = min(best, time.perf_counter() - start)
    return best / len(pieces) * 1e6


async def run(options: argparse.Namespace, model: Path) -> None:
    threads = ("--threads", str(options.threads))
    common = ("--model", str(model), "--context", str(CONTEXT), "--parallel", str(PARALLEL), *threads)
    raw = ("-m", "benchmarks.serving", "--raw", str(model), *threads)
    with tempfile.TemporaryDirectory() as cache, program(*raw, errors=subprocess.DEVNULL) as (theirs, _):
        async with ours(*common, "--prefix-cache", cache) as (own, _):
            await compare_decoding(theirs, own, options.turns, options.tokens)
    await compare_first_token(common)
    with upstream(("word " * TOKENS).strip(), rate=RATE) as sender:
        await gateway(sender)
    matcher()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("--turns", type=int, default=7, help="measurements of each number")
    parser.add_argument("--tokens", type=int, default=128, help="length of each answer")
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
        print(json.dumps({"MB of weights with 8 bits each": size, "threads": options.threads}))
        asyncio.run(run(options, model))


if __name__ == "__main__":
    main()
