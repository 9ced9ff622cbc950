"""The embedded engine: llama.cpp inside this process, from a GGUF file.

Knows llama.cpp's server and its traps; refuses to know protocols and stop sequences. llama.cpp is asked
over its own HTTP interface, on a Unix socket that nobody else can reach, because only there does a
request that is given up stop being computed while its prompt is still being read.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import re
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
import llguidance
import msgspec

from serving import machine
from serving.engine import (
    MOST_NEW_TOKENS,
    Accepted,
    Chat,
    Chunk,
    End,
    EngineInfo,
    EngineState,
    FinishReason,
    GenerationFailed,
    Grammar,
    GrammarKind,
    IncompleteGeneration,
    Infill,
    InvalidRequest,
    Prompt,
    SamplingParams,
    ServingError,
    TokenSpan,
    TooLong,
    TopToken,
    Unhealthy,
)
from serving.engines.event_stream import read_data
from serving.engines.prefix_cache import PrefixCache, fingerprint
from serving.models.catalogue import Infilling, infilling_of, licence_of
from serving.models.gguf_header import Array, BadModelFile, Value, check_magic, read_metadata

log = logging.getLogger("serving.engines.llama_cpp")

DEFAULT_CONTEXT = 16384  # tokens; a longer one costs memory that few conversations use
DEFAULT_PARALLEL = 4
# Tokens read between two looks at whether anybody still waits for the answer. Larger batches read a
# prompt hardly faster on CPUs, and go on computing for many seconds after it was given up.
BATCH = 128
PROMPT_CACHE_MIB = 512
LONGEST_SOCKET_PATH = 100  # bytes; macOS allows 103
# Between two tokens, or two batches of a prompt. Only an engine that hangs is silent for so long.
SILENCE_SECONDS = 120.0
LOOK_SECONDS = 15.0  # between two looks at whether it hangs
MISSES = 2  # looks in a row that together take this time: a machine that slept is no engine that hangs
SEEDS = 0xFFFFFFFF  # the largest 32-bit number asks llama.cpp for a random seed
CONTROL = 3  # the type of tokens that are marks of the model, in a GGUF file
REPLACEMENT = "\ufffd".encode()
LEAST_ABSURD = 1 << 16  # tokens: shorter texts are cut into tokens whatever the context is
# Of all lists in a schema together. llama.cpp writes each out before it begins: a million take a gigabyte.
MOST_ITEMS = 10_000
# That a text may have to keep to at once. What keeps to dozens is sought for minutes, and all wait for it.
MOST_PATTERNS = 8
SETTLE_SECONDS = 1.0  # at most, until a slot is free whose answer is not read any more


class _Error(msgspec.Struct):
    message: str = "The engine failed."
    type: str = ""


class _Progress(msgspec.Struct):
    """How far a prompt has been read, in tokens."""

    total: int
    cache: int
    processed: int


class _Likely(msgspec.Struct):
    id: int
    bytes: list[int]
    logprob: float | None  # none for what cannot be: minus infinity is no JSON


class _Told(_Likely):
    """`bytes` are those of all tokens of the event, the rest is of the last."""

    top_logprobs: list[_Likely] = []


class _Event(msgspec.Struct):
    content: str = ""
    tokens: list[int] = []
    stop: bool = False
    stop_type: str = ""
    tokens_predicted: int = 0
    prompt_progress: _Progress | None = None
    completion_probabilities: list[_Told] = []
    error: _Error | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


@dataclass(slots=True)
class _Made:
    """A text that grows: its prompt's tokens and its own, and how many of those have been told."""

    tokens: list[int]
    count: int = 0
    reason: FinishReason = FinishReason.LENGTH


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The way to ask a model that is in memory."""

    session: aiohttp.ClientSession
    address: str
    room: _Room
    vocabulary: _Vocabulary
    prefix: PrefixCache | None = None


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
    gives to this process; in `prefixes` is kept what prompts begin with, if anywhere. A llama.cpp that
    computes nothing for `silence` seconds cannot be ended but with its process, which `end` does."""

    def __init__(
        self,
        model: Path,
        *,
        context: int | None = None,
        parallel: int = DEFAULT_PARALLEL,
        threads: int | None = None,
        prefixes: Path | None = None,
        silence: float = SILENCE_SECONDS,
        end: Callable[[], None] = lambda: os._exit(1),
    ) -> None:
        check_magic(model)
        self._model = model
        self._context = context
        self._parallel = parallel
        self._threads = threads or machine.cpus()
        self._prefixes = prefixes
        self._silence = silence
        self._end = end
        self._watch: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._fresh = True  # nothing was generated yet
        self._beginning: list[int] = []
        self._step: asyncio.Task[None] | None = None
        self._computing = 0  # answers that llama.cpp is read for
        self._unsettled = False  # it may still compute one that is not read any more
        self._read_percent = 0
        self._build = ""
        self._closing = threading.Event()
        self._directory: str | None = None
        self._loading: asyncio.Task[None] | None = None
        self._loaded: _Loaded | None = None
        self._server: Any = None  # xllamacpp's; it computes for as long as it is kept
        self._info = EngineInfo(
            engine="llama.cpp",
            state=EngineState.LOADING,
            model_id=model.name,
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
        for task in (self._watch, self._warming, self._loading):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._loaded is not None:
            await self._loaded.session.close()
            self._loaded = self._server = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        loaded = self._ready()
        sampling = _sampling(params)
        kept = _Kept(sampling["grammar"]) if "grammar" in sampling else None
        tokens = await self._prompt_tokens(loaded, prompt)
        if params.truncate is not None:
            tokens = tokens[-params.truncate :]
        given, allowed = len(tokens), self._allowed_new_tokens(len(tokens), params.max_new_tokens)
        yield Accepted(given)
        made, at_least = _Made(tokens), min(params.min_new_tokens, allowed)
        async with self._asked(), loaded.room.take(given + allowed):
            await self._after_warming(tokens)
            await self._settled(loaded)
            # llama.cpp can forbid that a text ends, but not for its first tokens only.
            endless = {**sampling, "ignore_eos": True}
            for make, limit, how in (
                (self._make, at_least, endless),
                (self._make_last, at_least, endless),
                (self._make, allowed, sampling),
                (self._make_last, allowed, sampling),
            ):
                if made.reason is FinishReason.END_OF_TEXT or made.count >= limit:
                    continue
                async with contextlib.aclosing(make(loaded, made, limit, how)) as chunks:
                    async for chunk in chunks:
                        if kept is not None:
                            kept.check(chunk.data)
                        yield chunk
            if kept is not None and made.reason is FinishReason.END_OF_TEXT:
                kept.check_end()
            yield End(made.reason, given, made.count)

    async def _make(
        self, loaded: _Loaded, made: _Made, limit: int, sampling: dict[str, Any]
    ) -> AsyncGenerator[Chunk]:
        """Go on with a text until it has so many tokens, or a few less: llama.cpp tells tokens that end
        inside a character together with the one that completes it, and at the limit not at all."""
        assert self._info.context is not None
        request = {
            "prompt": made.tokens,
            "stream": True,
            "return_tokens": True,
            # Also reported between the batches of a prompt: a client that has gone is noticed by
            # writing to it. Without this it took llama.cpp a second, and as long as the whole prompt
            # while other requests were being answered.
            "return_progress": True,
            "n_predict": limit - made.count,
            "repeat_last_n": self._info.context,  # penalties look at all of the text, the prompt too
            **sampling,
        }
        told = 0
        self._computing += 1
        is_read = False
        try:
            async with contextlib.aclosing(self._events(loaded, request)) as events:
                async for event in events:
                    if event.error is not None:
                        is_read = True
                        raise IncompleteGeneration(event.error.message)
                    if event.prompt_progress is not None:
                        self._count(event.prompt_progress)
                    if event.stop:
                        is_read = True
                        made.reason = _FINISH_REASONS[event.stop_type]
                        return
                    new = event.tokens_predicted - told
                    if not event.content and new <= 0:
                        continue
                    told += new
                    made.count += new
                    chunk = _chunk(event, new, loaded.vocabulary)
                    made.tokens += await self._ids(loaded, event, chunk)
                    yield chunk
            raise IncompleteGeneration("The engine's answer broke off.")
        finally:
            self._computing -= 1
            self._unsettled |= not is_read

    async def _make_last(
        self, loaded: _Loaded, made: _Made, limit: int, sampling: dict[str, Any]
    ) -> AsyncGenerator[Chunk]:
        """The tokens at the limit that were not told, made once more: whole answers tell all of theirs."""
        lost = limit - made.count
        if "grammar" in sampling:  # it cannot be taken up in the middle
            made.count = limit
            yield Chunk(b"", tokens=lost)
            return
        answer = await self._ask(
            loaded, "completion", prompt=made.tokens, n_predict=lost, return_tokens=True, **sampling
        )
        for token in answer["tokens"]:
            made.count += 1
            made.tokens.append(token)
            yield Chunk(loaded.vocabulary.data(token), token, special=loaded.vocabulary.special.get(token))
        made.reason = _FINISH_REASONS[answer["stop_type"]]

    async def _ids(self, loaded: _Loaded, event: _Event, chunk: Chunk) -> list[int]:
        """The tokens of an event; of several, only the last is told."""
        if chunk.tokens == len(event.tokens):
            return event.tokens
        found = loaded.vocabulary.split(chunk.data, chunk.tokens, event.tokens)
        # What is no UTF-8 is told as other characters, which may be more tokens: there is no room for those.
        return found or (await self._tokens(loaded, event.content, parse_special=True))[-chunk.tokens :]

    async def _settled(self, loaded: _Loaded) -> None:
        """Until llama.cpp has noticed that nobody reads an answer any more: its slot may know what is asked
        next, and is not taken while it still computes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while self._unsettled:
                    slots = await self._ask(loaded, "slots")
                    if sum(slot["is_processing"] for slot in slots) <= self._computing:
                        self._unsettled = False
                    else:
                        await asyncio.sleep(SETTLE_SECONDS / 200)

    async def warm(self, beginning: str) -> None:
        """Compute in a quiet moment what many prompts begin with, and keep it."""
        before, self._warming = self._warming, asyncio.create_task(self._warm(beginning))
        if before is not None:
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)

    async def _warm(self, beginning: str) -> None:
        step: asyncio.Task[None] | None = None
        try:
            if self._loading is not None:
                await asyncio.shield(self._loading)
            loaded = self._ready()
            # The last token may be another one with what follows it.
            self._beginning = (await self._prompt_tokens(loaded, beginning))[:-1]
            if loaded.prefix is None or not 0 < len(self._beginning) < (self._info.context or 0):
                return
            while self._beginning != list(loaded.prefix.tokens):
                while self._under_way:
                    await self._quiet.wait()
                step = asyncio.create_task(loaded.prefix.keep(self._beginning, fresh=self._fresh))
                self._step = step
                await asyncio.wait([step])
                if not step.cancelled():
                    step.result()
        except ServingError as error:
            log.warning("the beginning of prompts was not computed: %s", error)
        finally:
            if step is not None:
                step.cancel()

    async def _after_warming(self, tokens: list[int]) -> None:
        """What begins with what is just being computed waits for it: it could only compute the same. For
        anything else that is given up, until there is a quiet moment again."""
        if self._step is None or self._step.done():
            return
        if tokens[: len(self._beginning)] != self._beginning:
            self._step.cancel()
        await asyncio.wait([self._step])

    @contextlib.asynccontextmanager
    async def _asked(self) -> AsyncGenerator[None]:
        self._under_way += 1
        self._quiet.clear()
        self._fresh = False
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    async def tokenize(self, text: str) -> Sequence[TokenSpan]:
        loaded = self._ready()
        self._refuse_absurd(loaded, text)
        answer = await self._ask(loaded, "tokenize", content=text, with_pieces=True, parse_special=True)
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

    async def _prompt_tokens(self, loaded: _Loaded, prompt: Prompt) -> list[int]:
        if isinstance(prompt, Infill):
            return await self._infill_tokens(loaded, prompt)
        if isinstance(prompt, Chat):
            return await self._chat_tokens(loaded, prompt)
        self._refuse_absurd(loaded, prompt)
        return await self._text_tokens(loaded, prompt)

    async def _text_tokens(self, loaded: _Loaded, prompt: str | list[str | int]) -> list[int]:
        """Of a text, or of one with some tokens in it."""
        beginning = prompt if isinstance(prompt, str) else str(prompt[0])
        # A chat template may have written the beginning-of-text token already; it must not come twice.
        bos = self._info.bos_token
        add_special = not (bos and beginning.startswith(bos))
        return await self._tokens(loaded, prompt, add_special=add_special, parse_special=True)

    async def _chat_tokens(self, loaded: _Loaded, chat: Chat) -> list[int]:
        """Only the template's own marks are marks. What looks like one in a message is text: it goes through
        the template under another name."""
        marks: dict[str, str] = {}
        nonce = secrets.token_hex(8)

        def named(mark: re.Match[str]) -> str:
            name = f"[{nonce}-{len(marks)}]"
            marks[name] = mark[0]
            return name

        messages = [
            {
                key: loaded.vocabulary.mark.sub(named, value)
                if key != "role" and isinstance(value, str)
                else value
                for key, value in message.items()
            }
            for message in chat.messages
        ]
        prompt = str((await self._ask(loaded, "apply-template", messages=messages))["prompt"])
        self._refuse_absurd(loaded, prompt)
        if not marks:
            return await self._text_tokens(loaded, prompt)
        as_text = {
            mark: await self._tokens(loaded, mark, parse_special=False) for mark in set(marks.values())
        }
        parts: list[str | int] = []
        for part in re.split(rf"(\[{nonce}-[0-9]+\])", prompt):
            parts += as_text[marks[part]] if part in marks else [part]
        return await self._text_tokens(loaded, parts)

    async def _infill_tokens(self, loaded: _Loaded, prompt: Infill) -> list[int]:
        marks = self._info.infilling
        if marks is None:
            raise InvalidRequest("this model does not fill in the middle of a text (`suffix`)")
        self._refuse_absurd(loaded, prompt.prefix + prompt.suffix)
        tokens: list[int] = []
        for mark, text in ((marks.prefix, prompt.prefix), (marks.suffix, prompt.suffix), (marks.middle, "")):
            tokens += await self._tokens(loaded, mark, add_special=not tokens, parse_special=True)
            if text:
                tokens += await self._tokens(loaded, text, parse_special=False)
        return tokens

    async def _tokens(self, loaded: _Loaded, text: str | list[str | int], **how: bool) -> list[int]:
        answer = await self._ask(loaded, "tokenize", content=text, **how)
        tokens: list[int] = answer["tokens"]
        return tokens

    def _refuse_absurd(self, loaded: _Loaded, text: str) -> None:
        """A text that cannot fit, whatever its tokens are, is not cut into them: that takes a while."""
        context = self._info.context
        assert context is not None
        at_least = len(text.encode("utf-8", "replace")) // loaded.vocabulary.longest
        if at_least > max(context, LEAST_ABSURD):
            raise TooLong(f"`inputs` must have less than {context} tokens. Given: {at_least} or more")

    def _allowed_new_tokens(self, given: int, wanted: int | None) -> int:
        context = self._info.context
        assert context is not None
        if given >= context:
            raise TooLong(f"`inputs` must have less than {context} tokens. Given: {given}")
        if wanted is None:
            return min(MOST_NEW_TOKENS, context - given)
        if given + wanted > context:
            raise TooLong(
                f"`inputs` tokens + `max_new_tokens` must be <= {context}. "
                f"Given: {given} `inputs` tokens and {wanted} `max_new_tokens`"
            )
        return wanted

    async def _events(self, loaded: _Loaded, request: dict[str, Any]) -> AsyncGenerator[_Event]:
        try:
            async with loaded.session.post(f"{loaded.address}/completion", json=request) as response:
                if response.status != 200:
                    raise _refusal(response.status, await response.read())
                data = read_data(response.content, first_seconds=self._silence, between_seconds=self._silence)
                async with contextlib.aclosing(data) as lines:
                    async for line in lines:
                        try:
                            yield _decode_event(line)
                        except ValueError:
                            raise IncompleteGeneration(_error_text(line)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise GenerationFailed("The engine does not answer.") from error

    async def _ask(self, loaded: _Loaded, path: str, **body: Any) -> Any:
        method = "POST" if body else "GET"
        try:
            async with loaded.session.request(
                method, f"{loaded.address}/{path}", json=body or None
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise GenerationFailed("The engine does not answer.") from error
        if response.status != 200:
            raise _refusal(response.status, answer)
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
            self._watch = asyncio.create_task(self._end_if_it_hangs(self._ready()))
            return
        self._info = replace(self._info, state=EngineState.FAILED, state_detail=detail)
        log.error("%s", detail)

    async def _end_if_it_hangs(self, loaded: _Loaded) -> None:
        """llama.cpp tells of its slots between two batches, whatever it computes, unless it hangs."""
        missed = 0
        while missed < MISSES:
            await asyncio.sleep(min(LOOK_SECONDS, self._silence))
            try:
                async with asyncio.timeout(self._silence / MISSES):
                    await self._ask(loaded, "slots")
                missed = 0
            except TimeoutError:
                missed += 1
            except ServingError as error:
                log.warning("llama.cpp does not tell of its slots: %s", error)
        log.error("llama.cpp hangs: it has computed nothing for %g seconds. The process ends.", self._silence)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._end()

    async def _try_to_load(self) -> None:
        metadata, vocabulary = await asyncio.to_thread(_read_header, self._model)
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
        loaded = _Loaded(session, address, _Room(self._parallel, context), vocabulary)
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
        loaded = replace(loaded, room=_Room(self._parallel, context))
        if self._prefixes is not None:
            model = await asyncio.to_thread(fingerprint, self._model, context, self._build)
            ask = functools.partial(self._ask, loaded)
            prefix = PrefixCache(self._prefixes, model, ask, slots=self._parallel, room=context // 2)
            loaded = replace(loaded, prefix=prefix)
            await prefix.restore_last()
        self._loaded = loaded
        self._info = replace(
            self._info,
            state=EngineState.READY,
            state_detail=None,
            context=context,
            chats=_text(metadata, "tokenizer.chat_template") is not None,
            chat_template=_text(metadata, "tokenizer.chat_template"),
            infilling=_infilling(metadata, vocabulary.special) or infilling_of(str(self._model)),
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

        self._build = xllamacpp.__version__
        params = xllamacpp.CommonParams()
        params.model.path = str(self._model)
        params.n_ctx = context
        params.n_parallel = self._parallel
        params.n_threads_http = self._parallel + 4  # a stream holds one; others are for short questions
        params.kv_unified = True  # else each of the parallel generations gets only its share of the context
        params.special = True  # marks of the model are told as they are written; here they are known
        params.n_batch = params.n_ubatch = BATCH
        if self._prefixes is not None:
            params.slot_save_path = os.path.join(self._prefixes, "")
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


def _read_header(model: Path) -> tuple[dict[str, Value], _Vocabulary]:
    """What a model's file says of the model. Raises `BadModelFile`."""
    metadata, arrays = read_metadata(model, "tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
    texts, kinds = arrays.values()
    return metadata, _Vocabulary(texts, kinds, _text(metadata, "tokenizer.ggml.model"))


class _Vocabulary:
    """A model's tokens, as its file writes them."""

    def __init__(self, texts: Array, kinds: Array, tokenizer: str | None) -> None:
        self._texts = [str(text) for text in texts]
        self._is_byte_level = tokenizer == "gpt2"
        self.longest = max((len(text.encode()) for text in self._texts), default=1)
        """In bytes."""
        self.special = {
            token: text
            for token, (text, kind) in enumerate(zip(self._texts, kinds, strict=False))
            if kind == CONTROL
        }
        """How the tokens are written that are marks of the model."""
        longest_first = sorted(filter(None, self.special.values()), key=len, reverse=True)
        self.mark = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        """Any of them."""

        self._broken = {
            data: token for token in range(len(self._texts)) if _is_broken(data := self.data(token))
        }

    def split(self, data: bytes, count: int, last: Sequence[int]) -> list[int]:
        """So many tokens that make up these bytes, of which all but the last end inside characters; empty
        where there are none, or where the last is not known."""
        if not last or not data.endswith(end := self.data(last[-1])):
            return []
        found: list[int] = []

        def fill(begin: int, left: int) -> bool:
            if not left:
                return begin == len(data) - len(end)
            for stop in range(len(data) - len(end) - left + 1, begin, -1):
                token = self._broken.get(data[begin:stop])
                if token is not None and _is_broken(data[:stop]):
                    found.append(token)
                    if fill(stop, left - 1):
                        return True
                    found.pop()
            return False

        return [*found, last[-1]] if fill(0, count - 1) else []

    def data(self, token: int) -> bytes:
        """The bytes of a token; of a mark none."""
        if token in self.special or not 0 <= token < len(self._texts):
            return b""
        text = self._texts[token]
        if self._is_byte_level:
            return bytes(_BYTE_OF_LETTER.get(letter, ord("?")) for letter in text)
        if (byte := re.fullmatch("<0x([0-9A-F]{2})>", text)) is not None:
            return bytes([int(byte[1], 16)])
        return text.replace("\u2581", " ").encode()


def _is_broken(data: bytes) -> bool:
    """Does it begin or end inside a character?"""
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def _letters() -> dict[str, int]:
    """The bytes by the letters with which byte-level vocabularies write them: a byte that is seen stands for
    itself, the others for the letters from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(0x100 + n): byte for n, byte in enumerate(unseen)}


_BYTE_OF_LETTER = _letters()


def _infilling(metadata: dict[str, Value], special: dict[int, str]) -> Infilling | None:
    """The model's own markers, as its file names them."""
    ids = [_number(metadata, f"tokenizer.ggml.fim_{part}_token_id") for part in ("pre", "suf", "mid")]
    marks = [special.get(token) for token in ids if token is not None]
    prefix, suffix, middle = marks if len(marks) == len(ids) else (None, None, None)
    return Infilling(prefix, suffix, middle) if prefix and suffix and middle else None


def _chunk(event: _Event, new: int, vocabulary: _Vocabulary) -> Chunk:
    """What an event tells. Its bytes are those of `new` tokens, all but the last ending inside characters."""
    token = event.tokens[-1] if event.tokens else 0
    told = event.completion_probabilities[-1] if event.completion_probabilities else None
    data = event.content.encode() if told is None else bytes(told.bytes)
    mark = vocabulary.special.get(token)
    if mark is not None:
        data = data.removesuffix(mark.encode())
        if told is None and new > 1:  # what was inside a character when the mark came
            data = data.removesuffix(REPLACEMENT)
    top = [
        TopToken(likely.id, bytes(likely.bytes).decode("utf-8", "replace"), likely.logprob)
        for likely in (told.top_logprobs if told else ())
        if likely.logprob is not None
    ]
    return Chunk(data, token, new, told.logprob if told else None, mark, top)


def _sampling(params: SamplingParams) -> dict[str, Any]:
    """Every step that llama.cpp would take by itself is set or switched off. Raises `InvalidRequest`."""
    if params.adapter_id is not None:
        raise InvalidRequest("`adapter_id` is not supported by this engine")
    if params.grammar is not None and params.min_new_tokens:
        raise InvalidRequest("`min_new_tokens` is not supported together with `grammar`")
    sampling: dict[str, Any] = {}
    if params.logprobs or params.top_tokens:
        sampling["n_probs"] = max(1, params.top_tokens)
    if params.grammar is not None:
        sampling["grammar"] = _grammar(params.grammar)
    return sampling | {
        "temperature": params.temperature,
        "seed": params.seed % SEEDS,
        "top_k": params.top_k or 0,
        "top_p": 1.0 if params.top_p is None else params.top_p,
        "typical_p": 1.0 if params.typical_p is None else params.typical_p,
        "min_p": 0.0,
        "repeat_penalty": 1.0 if params.repetition_penalty is None else params.repetition_penalty,
        "frequency_penalty": params.frequency_penalty or 0.0,
        "presence_penalty": params.presence_penalty or 0.0,
    }


# JSON on one line: a model that likes blanks writes them to its limit wherever they are allowed.
_JSON_FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def _grammar(grammar: Grammar) -> str:
    """In the language of the llguidance that llama.cpp is built with. Raises `InvalidRequest`."""
    if grammar.kind is GrammarKind.JSON:
        schema = {"x-guidance": _JSON_FORM, **msgspec.json.decode(grammar.value)}
        if _patterns(schema) > MOST_PATTERNS:
            raise InvalidRequest(
                f"grammar is not valid: with `allOf` there may be {MOST_PATTERNS} `pattern` at most"
            )
        if _items(schema) > MOST_ITEMS:
            raise InvalidRequest(
                f"grammar is not valid: its `minItems` and `maxItems` must be <= {MOST_ITEMS} altogether"
            )
        written = f"%json {msgspec.json.encode(schema).decode()}"
    else:
        # A slash would end the expression; a line end may not stand in it. What is escaped stays so.
        pattern = re.sub(r"(\\[^\n])|/", lambda match: match[1] or r"\/", grammar.value)
        written = "/" + pattern.replace("\n", r"\n") + "/"
    written = f"%llguidance {{}}\nstart: {written}"
    if problem := llguidance.LLMatcher.validate_grammar(written):  # llama.cpp would go on without it
        raise InvalidRequest(f"grammar is not valid: {problem.splitlines()[0]}")
    return written


def _items(schema: Any) -> float:
    """How many items its lists are told to have, at least and at most, all together."""
    items: float = 0
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            counts = [part.get(key) for key in ("minItems", "maxItems")]
            items += sum(count for count in counts if isinstance(count, int | float) and count > 0)
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return items


def _patterns(schema: Any) -> int:
    """How many patterns one text may have to keep to: all there are, where any are put together."""
    patterns, together = 0, False
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            patterns += "pattern" in part
            together = together or "allOf" in part or ("$ref" in part and len(part) > 1)
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return patterns if together else 0


class _Kept:
    """Whether a text keeps to its grammar. llama.cpp goes on without one when its llguidance fails, which it
    does for some sizes of vocabularies, and tells nobody."""

    def __init__(self, grammar: str) -> None:
        self._matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar)

    def check(self, data: bytes) -> None:
        """The text goes on with this. Raises `IncompleteGeneration`."""
        if self._matcher.try_consume_tokens(list(data)) < len(data):
            raise IncompleteGeneration("The engine has not kept to the grammar: it failed inside llama.cpp.")

    def check_end(self) -> None:
        """The text ends here. Raises `IncompleteGeneration`."""
        if not self._matcher.is_accepting():
            raise IncompleteGeneration("The engine has ended the text before the grammar allows it.")


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


def _refusal(status: int, body: bytes) -> ServingError:
    return (InvalidRequest if status == 400 else GenerationFailed)(_error_text(body))


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
