"""The embedded engine: llama.cpp inside this process, from a GGUF file.

Knows llama.cpp's server and its traps; refuses to know protocols and stop sequences. llama.cpp is asked
over its own HTTP interface, on a Unix socket that nobody else can reach, because only there does a
request that is given up stop being computed while its prompt is still being read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from serving.engine import (
    MOST_NEW_TOKENS,
    Accepted,
    Chunk,
    End,
    EngineInfo,
    EngineState,
    FinishReason,
    GenerationFailed,
    IncompleteGeneration,
    InvalidRequest,
    SamplingParams,
    TokenSpan,
    Unhealthy,
)
from serving.event_stream import read_data
from serving.gguf_header import BadModelFile, Value, check_magic, read_metadata
from serving.models import licence_of

log = logging.getLogger("serving.llama_cpp")

DEFAULT_CONTEXT = 16384  # tokens; a longer one costs memory that few conversations use
DEFAULT_PARALLEL = 4
# Tokens read between two looks at whether anybody still waits for the answer. Larger batches read a
# prompt hardly faster on CPUs, and go on computing for many seconds after it was given up.
BATCH = 128
PROMPT_CACHE_MIB = 512
LONGEST_SOCKET_PATH = 100  # bytes; macOS allows 103
# Between two tokens, or two batches of a prompt. Only an engine that hangs is silent for so long.
SILENCE_SECONDS = 120.0
SEEDS = 0xFFFFFFFF  # the largest 32-bit number asks llama.cpp for a random seed


class _Error(msgspec.Struct):
    message: str = "The engine failed."
    type: str = ""


class _Progress(msgspec.Struct):
    """How far a prompt has been read, in tokens."""

    total: int
    cache: int
    processed: int


class _Event(msgspec.Struct):
    content: str = ""
    tokens: list[int] = []
    stop: bool = False
    stop_type: str = ""
    tokens_predicted: int = 0
    prompt_progress: _Progress | None = None
    error: _Error | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The way to ask a model that is in memory."""

    session: aiohttp.ClientSession
    address: str
    room: _Room


class _Room:
    """What the generations under way share: llama.cpp's slots, and the tokens of its context.

    They are waited for here. llama.cpp gives each slot as much of the context as it asks for and fails
    all of them when it runs out; and a request that waits inside it holds one of its HTTP threads. Who
    came first is served first, so that a long conversation is not passed over for ever.
    """

    def __init__(self, slots: int, tokens: int) -> None:
        self._slots = slots
        self._tokens = tokens
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @contextlib.asynccontextmanager
    async def take(self, tokens: int) -> AsyncGenerator[None]:
        """Hold a slot and so many tokens, which are no more than there are altogether."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (tokens, turn)
        self._queue.append(place)
        self._let_in()
        try:
            await turn
            yield
        finally:
            if place in self._queue:
                self._queue.remove(place)
            elif not turn.cancelled():
                self._slots += 1
                self._tokens += tokens
            self._let_in()

    def _let_in(self) -> None:
        while self._queue and self._slots and self._queue[0][0] <= self._tokens:
            tokens, turn = self._queue.popleft()
            if turn.cancelled():
                continue
            self._slots -= 1
            self._tokens -= tokens
            turn.set_result(None)


class LlamaCpp:
    """Raises `BadModelFile` when the file is missing or is no GGUF file; all else that may be wrong with
    it shows in `info` as a failed state. `context` is in tokens; `threads` None takes what the machine
    gives to this process."""

    def __init__(
        self,
        model: Path,
        *,
        context: int | None = None,
        parallel: int = DEFAULT_PARALLEL,
        threads: int | None = None,
    ) -> None:
        check_magic(model)
        self._model = model
        self._context = context
        self._parallel = parallel
        self._threads = threads or available_cpus()
        self._read_percent = 0
        self._closing = threading.Event()
        self._directory: str | None = None
        self._loading: asyncio.Task[None] | None = None
        self._loaded: _Loaded | None = None
        self._server: Any = None  # xllamacpp's; it computes for as long as it is kept
        self._info = EngineInfo(
            engine="llama.cpp",
            state=EngineState.LOADING,
            model_id=str(model),
            parallel=parallel,
            computed_tokens=0,
            reused_tokens=0,
        )

    @property
    def info(self) -> EngineInfo:
        waiting = 0 if self._loaded is None else self._loaded.room.waiting
        info = replace(self._info, waiting=waiting)
        if info.state is EngineState.LOADING:
            info = replace(info, state_detail=f"Loading {self._model.name} ({self._read_percent} %).")
        return info

    async def start(self) -> None:
        self._loading = asyncio.create_task(self._load())

    async def close(self) -> None:
        self._closing.set()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        if self._loaded is not None:
            await self._loaded.session.close()
            self._loaded = self._server = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def generate(self, prompt: str, params: SamplingParams) -> AsyncGenerator[Accepted | Chunk | End]:
        loaded = self._ready()
        tokens = await self._prompt_tokens(loaded, prompt)
        allowed = self._allowed_new_tokens(len(tokens), params.max_new_tokens)
        yield Accepted(len(tokens))
        async with loaded.room.take(len(tokens) + allowed):
            request = {
                "prompt": tokens,
                "stream": True,
                "return_tokens": True,
                # Also reported between the batches of a prompt: a client that has gone is noticed by
                # writing to it. Without this it took llama.cpp a second, and as long as the whole prompt
                # while other requests were being answered.
                "return_progress": True,
                "n_predict": allowed,
                "repeat_last_n": self._info.context,  # penalties look at all of the text, the prompt too
                **_sampling(params),
            }
            async with contextlib.aclosing(self._events(loaded, request)) as events:
                made = 0
                async for event in events:
                    if event.error is not None:
                        raise IncompleteGeneration(event.error.message)
                    if event.prompt_progress is not None:
                        self._count(event.prompt_progress)
                    new = event.tokens_predicted - made
                    if event.content or (new > 0 and not event.stop):
                        yield Chunk(event.content, event.tokens[-1] if event.tokens else 0, tokens=new)
                        made = event.tokens_predicted
                    if event.stop:
                        yield End(_FINISH_REASONS[event.stop_type], len(tokens), event.tokens_predicted)
                        return
        raise IncompleteGeneration("The engine's answer broke off.")

    async def tokenize(self, text: str) -> Sequence[TokenSpan]:
        answer = await self._ask(
            self._ready(), "tokenize", content=text, with_pieces=True, parse_special=True
        )
        return _spans(text, [(token["id"], token["piece"]) for token in answer["tokens"]])

    def _count(self, prompt: _Progress) -> None:
        """Add a prompt to those of before, once it has been read to its end."""
        computed, reused = self._info.computed_tokens or 0, self._info.reused_tokens or 0
        if prompt.processed == prompt.total:
            self._info = replace(
                self._info,
                computed_tokens=computed + prompt.total - prompt.cache,
                reused_tokens=reused + prompt.cache,
            )

    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise Unhealthy(self.info.state_detail or "The model is not loaded.")
        return self._loaded

    async def _prompt_tokens(self, loaded: _Loaded, prompt: str) -> list[int]:
        # A chat template may have written the beginning-of-text token already; it must not come twice.
        bos = self._info.bos_token
        add_special = not (bos and prompt.startswith(bos))
        answer = await self._ask(
            loaded, "tokenize", content=prompt, add_special=add_special, parse_special=True
        )
        tokens: list[int] = answer["tokens"]
        return tokens

    def _allowed_new_tokens(self, given: int, wanted: int | None) -> int:
        context = self._info.context
        assert context is not None
        if given >= context:
            raise InvalidRequest(f"`inputs` must have less than {context} tokens. Given: {given}")
        if wanted is None:
            return min(MOST_NEW_TOKENS, context - given)
        if given + wanted > context:
            raise InvalidRequest(
                f"`inputs` tokens + `max_new_tokens` must be <= {context}. "
                f"Given: {given} `inputs` tokens and {wanted} `max_new_tokens`"
            )
        return wanted

    async def _events(self, loaded: _Loaded, request: dict[str, Any]) -> AsyncGenerator[_Event]:
        try:
            async with loaded.session.post(f"{loaded.address}/completion", json=request) as response:
                if response.status != 200:
                    raise GenerationFailed(_error_text(await response.read()))
                limits = {"first_seconds": SILENCE_SECONDS, "between_seconds": SILENCE_SECONDS}
                async with contextlib.aclosing(read_data(response.content, **limits)) as lines:
                    async for line in lines:
                        try:
                            yield _decode_event(line)
                        except ValueError:
                            raise IncompleteGeneration(_error_text(line)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise GenerationFailed("The engine does not answer.") from error

    async def _ask(self, loaded: _Loaded, path: str, **body: Any) -> Any:
        try:
            async with loaded.session.post(f"{loaded.address}/{path}", json=body) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise GenerationFailed("The engine does not answer.") from error
        if response.status != 200:
            raise GenerationFailed(_error_text(answer))
        return msgspec.json.decode(answer)

    async def _load(self) -> None:
        try:
            await self._try_to_load()
        except (BadModelFile, _LoadFailed) as error:
            detail = str(error)
        except Exception:
            log.exception("loading %s failed", self._model)
            detail = f"{self._model.name} could not be loaded."
        else:
            log.info("%s is ready", self._model.name)
            return
        self._info = replace(self._info, state=EngineState.FAILED, state_detail=detail)
        log.error("%s", detail)

    async def _try_to_load(self) -> None:
        metadata = await asyncio.to_thread(read_metadata, self._model)
        trained = _number(metadata, f"{metadata.get('general.architecture')}.context_length")
        context = self._context or min(trained or DEFAULT_CONTEXT, DEFAULT_CONTEXT)

        self._directory = tempfile.mkdtemp(prefix="serving-")  # readable by this user alone
        path = os.path.join(self._directory, "llama.sock")
        key = secrets.token_urlsafe(32)
        connector: aiohttp.BaseConnector
        # llama.cpp closes a connection after a stream without saying so beforehand: never use one twice.
        if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            connector = aiohttp.UnixConnector(path, force_close=True, limit=0)
        else:
            path = ""
            connector = aiohttp.TCPConnector(force_close=True, limit=0)

        await _in_thread(self._load_server, context, path, key)
        address = "http://llama.cpp" if path else self._server.listening_address
        session = aiohttp.ClientSession(
            connector=connector,
            headers={"Authorization": f"Bearer {key}"},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        loaded = _Loaded(session, address, _Room(self._parallel, context))
        try:
            # A server that is destroyed before it has answered anything may hang, hence one token.
            await self._ask(loaded, "completion", prompt=[0], n_predict=1)
            async with session.get(f"{address}/props") as response:
                props = await response.json()
            async with session.get(f"{address}/v1/models") as response:
                context = (await response.json())["data"][0]["meta"]["n_ctx"]  # what it really is
        except BaseException:
            await session.close()
            raise
        self._loaded = replace(loaded, room=_Room(self._parallel, context))
        self._info = replace(
            self._info,
            state=EngineState.READY,
            state_detail=None,
            context=context,
            chat_template=_text(metadata, "tokenizer.chat_template"),
            bos_token=props.get("bos_token") or None,
            eos_token=props.get("eos_token") or None,
            licence=licence_of(
                str(self._model),
                *(_text(metadata, f"general.license{part}") for part in ("", ".name", ".link")),
            ),
        )

    def _load_server(self, context: int, socket_path: str, key: str) -> None:
        self._read_through()
        if self._closing.is_set():
            return
        # Idle threads must sleep: spinning ones cost more than they compute when the machine is shared.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            import xllamacpp  # 100 MB of native code: loaded only by those who embed it, after the line above
        except ImportError as error:
            raise _LoadFailed(
                f"llama.cpp itself cannot be loaded: {error}. A library of the system may be missing "
                "(libgomp: `apt install libgomp1` on Debian)."
            ) from error

        params = xllamacpp.CommonParams()
        params.model.path = str(self._model)
        params.n_ctx = context
        params.n_parallel = self._parallel
        params.n_threads_http = self._parallel + 4  # a stream holds one; others are for short questions
        params.kv_unified = True  # else each of the parallel generations gets only its share of the context
        params.n_batch = params.n_ubatch = BATCH
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        params.cache_ram_mib = PROMPT_CACHE_MIB
        params.warmup = False
        params.verbosity = 0
        params.ui = False
        params.cors_origins = ""
        params.api_keys = [key]
        if socket_path:
            params.hostnames = [socket_path]
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise _LoadFailed(
                f"llama.cpp cannot load {self._model.name}: the file is damaged or of a kind that it does "
                "not know, or there is not enough memory."
            ) from error

    def _read_through(self) -> None:
        """Bring the file into the system's cache: xllamacpp stops all of Python while it loads a model, which
        takes minutes from a disk, but from the cache only about a second for four gigabytes."""
        size, read, buffer = self._model.stat().st_size, 0, bytearray(1 << 24)
        with self._model.open("rb", buffering=0) as file:
            while (count := file.readinto(buffer)) and not self._closing.is_set():
                read += count
                self._read_percent = min(100, 100 * read // size)


class _LoadFailed(Exception):
    """The text says why the model cannot be had."""


_FINISH_REASONS = {
    "eos": FinishReason.END_OF_TEXT,
    "limit": FinishReason.LENGTH,
    "word": FinishReason.END_OF_TEXT,  # none is asked for
    "none": FinishReason.LENGTH,
}


def _sampling(params: SamplingParams) -> dict[str, Any]:
    """Every step that llama.cpp would take by itself is set or switched off."""
    return {
        "temperature": params.temperature,
        "seed": params.seed % SEEDS,
        "top_k": params.top_k or 0,
        "top_p": 1.0 if params.top_p is None else params.top_p,
        "typical_p": 1.0 if params.typical_p is None else params.typical_p,
        "min_p": 0.0,
        "repeat_penalty": 1.0 if params.repetition_penalty is None else params.repetition_penalty,
        "frequency_penalty": params.frequency_penalty or 0.0,
    }


def _spans(text: str, pieces: Sequence[tuple[int, str | list[int]]]) -> list[TokenSpan]:
    """Where tokens lie in their text. A piece is text, or bytes where it is not whole characters."""
    raw = [(token, piece.encode() if isinstance(piece, str) else bytes(piece)) for token, piece in pieces]
    # Some vocabularies put a space before the text, which is not of the text.
    added = sum(len(piece) for _, piece in raw) - len(text.encode())
    begun = -max(0, added)  # characters that have begun so far
    spans = []
    for token, piece in raw:
        begins = sum(byte & 0xC0 != 0x80 for byte in piece)
        within = bool(piece) and piece[0] & 0xC0 == 0x80  # the piece goes on with a character begun before
        start, begun = max(0, begun - within), begun + begins
        spans.append(TokenSpan(token, text[start : max(0, begun)], start, max(0, begun)))
    return spans


def _error_text(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "The engine failed."


def _number(metadata: dict[str, Value], key: str) -> int | None:
    value = metadata.get(key)
    return value if isinstance(value, int) else None


def _text(metadata: dict[str, Value], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) and value else None


async def _in_thread(function: Callable[..., None], *args: object) -> None:
    """Run in a thread that nobody waits for at exit: loading a model cannot be interrupted."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def run() -> None:
        error = None
        try:
            function(*args)
        except Exception as raised:  # noqa: BLE001 - carried over to whoever waits
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="load-model", daemon=True).start()
    await future


def available_cpus() -> int:
    """Processors that this process may use, by affinity and by its control group's quota; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cpus = min(cpus, math.ceil(int(quota) / int(period)))
    return max(1, cpus)
