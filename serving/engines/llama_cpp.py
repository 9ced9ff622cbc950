"""The embedded engine: runs llama.cpp inside this process, with a model from a GGUF file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from serving import machine
from serving.engine import (
    Accepted,
    Chunk,
    End,
    EngineInfo,
    EngineState,
    FinishReason,
    IncompleteGeneration,
    Prompt,
    SamplingParams,
    ServingError,
    TokenSpan,
    TopToken,
    Unhealthy,
)
from serving.engines.llama_cpp_messages import (
    FINISH_REASONS,
    Event,
    GrammarChecker,
    PromptProgress,
    sampling_of,
)
from serving.engines.llama_cpp_server import LlamaCppServer, LoadFailed
from serving.engines.llama_cpp_tokens import (
    PromptTokenizer,
    Vocabulary,
    infilling_markers,
    number_of,
    read_header,
)
from serving.engines.prefix_cache import PrefixCache, PrefixWarmer, fingerprint
from serving.engines.remote import text_of
from serving.models.catalogue import infilling_of, licence_of
from serving.models.gguf_header import BadModelFile, check_magic

log = logging.getLogger(__name__)

DEFAULT_CONTEXT = 16384  # tokens; a longer one costs memory that few conversations use
DEFAULT_PARALLEL = 4
REPLACEMENT = "\ufffd".encode()
SILENCE_SECONDS = 120.0  # between two tokens: only an engine that hangs takes so long
SETTLE_SECONDS = 1.0  # to wait at most until llama.cpp gives up a cancelled generation


@dataclass(slots=True)
class _Generation:
    """The tokens of a prompt and of the text that follows it."""

    tokens: list[int]
    generated: int = 0
    reason: FinishReason = FinishReason.LENGTH


class Slots:
    """Generations wait here, not inside llama.cpp: that gives each slot as much of the context as it asks for
    and fails all of them when the context runs out, and a request that waits there occupies one of its HTTP
    threads. The queue is first come, first served, so that a long conversation gets its turn."""

    def __init__(self, slots: int, tokens: int) -> None:
        self._slots = slots
        self._tokens = tokens
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @contextlib.asynccontextmanager
    async def take(self, tokens: int) -> AsyncGenerator[None]:
        """Hold a slot and `tokens` of the context, which must not be more than all of it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = (tokens, turn)
        self._queue.append(ticket)
        self._admit()
        try:
            await turn
            yield
        finally:
            if ticket in self._queue:
                self._queue.remove(ticket)
            elif not turn.cancelled():
                self._slots += 1
                self._tokens += tokens
            self._admit()

    def _admit(self) -> None:
        while self._queue and self._slots and self._queue[0][0] <= self._tokens:
            tokens, turn = self._queue.popleft()
            if turn.cancelled():
                continue
            self._slots -= 1
            self._tokens -= tokens
            turn.set_result(None)


@dataclass(frozen=True, slots=True)
class _LoadedModel:
    server: LlamaCppServer
    vocabulary: Vocabulary
    tokenizer: PromptTokenizer
    slots: Slots
    prefix_cache: PrefixCache | None
    warmer: PrefixWarmer = field(default_factory=PrefixWarmer)


class LlamaCpp:
    """Raises `BadModelFile` if the file is missing or not a GGUF file. For any other fault in the file,
    `info` shows a failed state.

    `context` is in tokens. `threads=None` uses all processors that this process may use. The beginnings of
    prompts are kept in the directory `prefixes`. If llama.cpp computes nothing for `silence` seconds it
    hangs, and can only be ended together with the process, which `end` does.
    """

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
        self._prefixes = prefixes
        self._silence = silence
        self._end = end
        self._server = LlamaCppServer(
            model, parallel=parallel, threads=threads or machine.cpus(), prefixes=prefixes, silence=silence
        )
        self._loaded: _LoadedModel | None = None
        self._loading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._streams = 0  # that are open to llama.cpp
        self._cancelled_a_stream = False  # llama.cpp may still compute for it
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
        waiting = 0 if self._loaded is None else self._loaded.slots.waiting
        info = replace(self._info, waiting=waiting)
        if info.state is EngineState.LOADING:
            detail = f"Loading {self._model.name} ({self._server.read_percent} %)."
            info = replace(info, state_detail=detail)
        return info

    async def start(self) -> None:
        self._loading = asyncio.create_task(self._load())

    async def close(self) -> None:
        for task in (self._watching, self._warming, self._loading):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._loaded = None
        await self._server.close()

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        loaded = self._ready()
        sampling = sampling_of(params)
        grammar = GrammarChecker(sampling["grammar"]) if "grammar" in sampling else None
        tokens = await loaded.tokenizer.tokens(prompt)
        if params.truncate is not None:
            tokens = tokens[-params.truncate :]
        given = len(tokens)
        allowed = loaded.tokenizer.new_tokens_allowed(given, params.max_new_tokens)
        yield Accepted(given)
        text, at_least = _Generation(tokens), min(params.min_new_tokens, allowed)
        async with loaded.warmer.generation(), loaded.slots.take(given + allowed):
            await loaded.warmer.make_way(tokens)
            await self._wait_for_cancelled_streams(loaded.server)
            # llama.cpp can forbid a text to end, but not for its first tokens only.
            endless = {**sampling, "ignore_eos": True}
            for generate, limit, options in (
                (self._stream, at_least, endless),
                (self._complete, at_least, endless),
                (self._stream, allowed, sampling),
                (self._complete, allowed, sampling),
            ):
                if text.reason is FinishReason.END_OF_TEXT or text.generated >= limit:
                    continue
                async with contextlib.aclosing(generate(loaded, text, limit, options)) as chunks:
                    async for chunk in chunks:
                        if grammar is not None:
                            grammar.check(chunk.data)
                        yield chunk
            if grammar is not None and text.reason is FinishReason.END_OF_TEXT:
                grammar.check_end()
            yield End(text.reason, given, text.generated)

    async def _stream(
        self, loaded: _LoadedModel, text: _Generation, limit: int, sampling: dict[str, Any]
    ) -> AsyncGenerator[Chunk]:
        """Continue a text up to `limit` tokens, or a few less: llama.cpp sends tokens that end inside a
        character together with the one that completes it, and at the limit it does not send them at all."""
        request = {
            "prompt": text.tokens,
            "stream": True,
            "return_tokens": True,
            # Makes llama.cpp write between the batches of a prompt too, and so notice a closed connection.
            # Otherwise it noticed after a second, or after the whole prompt if other requests were running.
            "return_progress": True,
            "n_predict": limit - text.generated,
            "repeat_last_n": loaded.tokenizer.context,  # penalties apply to the whole text and the prompt
            **sampling,
        }
        reported = 0
        self._streams += 1
        is_complete = False
        try:
            async with contextlib.aclosing(loaded.server.events(request)) as events:
                async for event in events:
                    if event.error is not None:
                        is_complete = True
                        raise IncompleteGeneration(event.error.message)
                    if event.prompt_progress is not None:
                        self._count_prompt(event.prompt_progress)
                    if event.stop:
                        is_complete = True
                        text.reason = FINISH_REASONS[event.stop_type]
                        return
                    new = event.tokens_predicted - reported
                    if not event.content and new <= 0:
                        continue
                    reported += new
                    text.generated += new
                    chunk = _chunk_of(event, new, loaded.vocabulary)
                    text.tokens += await self._token_ids(loaded, event, chunk)
                    yield chunk
            raise IncompleteGeneration("The engine's answer broke off.")
        finally:
            self._streams -= 1
            self._cancelled_a_stream |= not is_complete

    async def _complete(
        self, loaded: _LoadedModel, text: _Generation, limit: int, sampling: dict[str, Any]
    ) -> AsyncGenerator[Chunk]:
        """Generate the tokens that `_stream` missed at the limit: without a stream llama.cpp sends all."""
        missing = limit - text.generated
        if "grammar" in sampling:  # llama.cpp cannot continue a grammar in the middle
            text.generated = limit
            yield Chunk(b"", tokens=missing)
            return
        answer = await loaded.server.ask(
            "completion", prompt=text.tokens, n_predict=missing, return_tokens=True, **sampling
        )
        for token in answer["tokens"]:
            text.generated += 1
            text.tokens.append(token)
            special = loaded.vocabulary.special.get(token)
            yield Chunk(loaded.vocabulary.data(token), token, special=special)
        text.reason = FINISH_REASONS[answer["stop_type"]]

    async def _token_ids(self, loaded: _LoadedModel, event: Event, chunk: Chunk) -> list[int]:
        """The tokens of an event. If there are several, llama.cpp reports only the last."""
        if chunk.tokens == len(event.tokens):
            return event.tokens
        if found := loaded.vocabulary.split(chunk.data, chunk.tokens, event.tokens):
            return found
        # Invalid UTF-8 arrives as other characters, which may be more tokens than there is room for.
        tokens = await loaded.tokenizer.tokenize(event.content, parse_special=True)
        return tokens[-chunk.tokens :]

    async def _wait_for_cancelled_streams(self, server: LlamaCppServer) -> None:
        """Until then a slot stays occupied that may have cached how the next prompt begins."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while self._cancelled_a_stream:
                    slots = await server.ask("slots")
                    if sum(slot["is_processing"] for slot in slots) <= self._streams:
                        self._cancelled_a_stream = False
                    else:
                        await asyncio.sleep(SETTLE_SECONDS / 200)

    async def tokenize(self, text: str) -> Sequence[TokenSpan]:
        return await self._ready().tokenizer.spans(text)

    async def warm(self, beginning: str) -> None:
        """Compute the shared beginning of many prompts when no generation runs, and keep it."""
        before, self._warming = self._warming, asyncio.create_task(self._warm(beginning))
        if before is not None:
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)

    async def _warm(self, beginning: str) -> None:
        try:
            if self._loading is not None:
                await asyncio.shield(self._loading)
            loaded = self._ready()
            # Together with the text that follows, the last token may become another one.
            prefix = (await loaded.tokenizer.tokens(beginning))[:-1]
            if loaded.prefix_cache is not None and 0 < len(prefix) < loaded.tokenizer.context:
                await loaded.warmer.warm(loaded.prefix_cache, prefix)
        except ServingError as error:
            log.warning("the beginning of prompts was not computed: %s", error)

    def _count_prompt(self, progress: PromptProgress) -> None:
        """Count the tokens of a prompt once all of it has been read."""
        computed, reused = self._info.computed_tokens or 0, self._info.reused_tokens or 0
        if progress.processed == progress.total:
            self._info = replace(
                self._info,
                computed_tokens=computed + progress.total - progress.cache,
                reused_tokens=reused + progress.cache,
            )

    def _ready(self) -> _LoadedModel:
        if self._loaded is None:
            raise Unhealthy(self.info.state_detail or "The model is not loaded.")
        return self._loaded

    async def _load(self) -> None:
        try:
            await self._try_to_load()
        except (BadModelFile, LoadFailed) as error:
            detail = str(error)
        except Exception:
            log.exception("loading %s failed", self._model)
            detail = f"{self._model.name} could not be loaded."
        else:
            log.info("%s is ready", self._model.name)
            self._watching = asyncio.create_task(self._end_if_it_hangs())
            return
        self._info = replace(self._info, state=EngineState.FAILED, state_detail=detail)
        log.error("%s", detail)

    async def _try_to_load(self) -> None:
        server = self._server
        metadata, vocabulary = await asyncio.to_thread(read_header, self._model)
        trained = number_of(metadata, f"{metadata.get('general.architecture')}.context_length")
        await server.start(self._context or min(trained or DEFAULT_CONTEXT, DEFAULT_CONTEXT))
        props = await server.ask("props")
        meta = (await server.ask("v1/models"))["data"][0]["meta"]
        context = meta["n_ctx"]  # may differ from the request
        prefix_cache: PrefixCache | None = None
        if self._prefixes is not None:
            model = await asyncio.to_thread(fingerprint, self._model, context, server.build)
            prefix_cache = PrefixCache(
                self._prefixes, model, server.ask, slots=self._parallel, room=context // 2
            )
            await prefix_cache.restore_last()
        self._info = replace(
            self._info,
            state=EngineState.READY,
            state_detail=None,
            context=context,
            parameters=meta["n_params"],
            chats=text_of(metadata, "tokenizer.chat_template") is not None,
            chat_template=text_of(metadata, "tokenizer.chat_template"),
            infilling=infilling_markers(metadata, vocabulary.special) or infilling_of(str(self._model)),
            bos_token=props.get("bos_token") or None,
            eos_token=props.get("eos_token") or None,
            licence=licence_of(
                str(self._model),
                *(text_of(metadata, f"general.license{part}") for part in ("", ".name", ".link")),
            ),
        )
        tokenizer = PromptTokenizer(server, vocabulary, context, self._info.bos_token, self._info.infilling)
        slots = Slots(self._parallel, context)
        self._loaded = _LoadedModel(server, vocabulary, tokenizer, slots, prefix_cache)

    async def _end_if_it_hangs(self) -> None:
        await self._server.hang()
        log.error("llama.cpp hangs: it has computed nothing for %g seconds. The process ends.", self._silence)
        self._server.remove_socket()
        self._end()


def _chunk_of(event: Event, count: int, vocabulary: Vocabulary) -> Chunk:
    """The chunk for an event with `count` tokens, of which all but the last end inside a character."""
    token = event.tokens[-1] if event.tokens else 0
    last = event.completion_probabilities[-1] if event.completion_probabilities else None
    data = event.content.encode() if last is None else bytes(last.bytes)
    special = vocabulary.special.get(token)
    if special is not None:
        data = data.removesuffix(special.encode())
        if last is None and count > 1:  # the special token came inside a character
            data = data.removesuffix(REPLACEMENT)
    top = [
        TopToken(likely.id, bytes(likely.bytes).decode("utf-8", "replace"), likely.logprob)
        for likely in (last.top_logprobs if last else ())
        if likely.logprob is not None
    ]
    return Chunk(data, token, count, last.logprob if last else None, special, top)
