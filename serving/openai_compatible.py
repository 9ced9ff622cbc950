"""An engine elsewhere that speaks OpenAI's `/v1/completions`: vLLM, SGLang, llama-server and many more.

Knows that protocol and what each way of failing means; refuses to know why the text is wanted. It sends
no stop sequences: upstreams differ in what they do with them. When one completes, the connection is closed,
which is how such servers are told to stop computing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

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
    Overloaded,
    SamplingParams,
    Unhealthy,
)
from serving.event_stream import read_data

log = logging.getLogger("serving.openai_compatible")

DEFAULT_CONTEXT = 8192  # tokens, where the upstream does not tell
LOOK_AGAIN_SECONDS = {EngineState.LOADING: 1.0, EngineState.FAILED: 1.0, EngineState.READY: 30.0}
FIRST_SECONDS = 120.0  # until anything of an answer arrives
BETWEEN_SECONDS = 30.0  # between two pieces of it
USAGE_SECONDS = 2.0  # the token counts come right after the end of the text, or are done without
LONGEST_ANSWER = 1 << 20  # bytes of an answer that is not a stream


class _Choice(msgspec.Struct):
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode
_FINISH_REASONS = {"stop": FinishReason.END_OF_TEXT, "length": FinishReason.LENGTH}


class OpenAICompatible:
    """`url` is the base, such as `http://127.0.0.1:8000/v1`. `model` None takes the first that it lists.

    Time limits in seconds: `connect`; `first`, until anything of an answer arrives; `between` its pieces.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        connect_seconds: float = 5.0,
        first_seconds: float = FIRST_SECONDS,
        between_seconds: float = BETWEEN_SECONDS,
    ) -> None:
        self._url = _base(url)
        self._model = model
        self._api_key = api_key
        self._connect_seconds = connect_seconds
        self._first_seconds = first_seconds
        self._between_seconds = between_seconds
        self._session: aiohttp.ClientSession | None = None
        self._watch: asyncio.Task[None] | None = None
        self._doubted = asyncio.Event()
        self._is_llama_cpp = False
        self._info = EngineInfo(
            engine="openai",
            state=EngineState.LOADING,
            state_detail=f"Looking for the upstream at {self._url}.",
            model_id=model,
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    async def start(self) -> None:
        headers = {"Accept-Encoding": "identity"}  # compression would hold tokens back
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        self._session = aiohttp.ClientSession(
            # Upstreams close idle connections after 5 s or more: never race them for one.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
        )
        self._watch = asyncio.create_task(self._keep_watching())

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def tokenize(self, text: str) -> None:
        return None  # not part of the protocol

    async def generate(self, prompt: str, params: SamplingParams) -> AsyncGenerator[Accepted | Chunk | End]:
        if self._info.state is not EngineState.READY or self._session is None:
            raise Unhealthy(self._info.state_detail or "The upstream is not ready.")
        request = {
            "model": self._info.model_id,
            "prompt": prompt,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._sampling(params),
        }
        async with contextlib.AsyncExitStack() as stack:
            response = await self._post(stack, request)
            yield Accepted(None)
            lines = read_data(
                response.content, first_seconds=self._first_seconds, between_seconds=self._between_seconds
            )
            await stack.enter_async_context(contextlib.aclosing(lines))
            async for line in lines:
                if line == b"[DONE]":
                    break
                event = _event(line)
                for choice in event.choices[:1]:
                    if choice.text:
                        yield Chunk(choice.text)
                    if choice.finish_reason is not None:
                        reason = _FINISH_REASONS.get(choice.finish_reason)
                        if reason is None:
                            raise IncompleteGeneration(
                                f"The upstream ended the text for the reason {choice.finish_reason!r}."
                            )
                        usage = event.usage or await _usage(lines)
                        yield End(reason, usage.prompt_tokens, usage.completion_tokens)
                        return
        raise IncompleteGeneration("The upstream's answer broke off.")

    def _sampling(self, params: SamplingParams) -> dict[str, Any]:
        context = self._info.context or DEFAULT_CONTEXT
        sampling: dict[str, Any] = {
            "max_tokens": params.max_new_tokens or min(MOST_NEW_TOKENS, context // 4),
            "temperature": params.temperature,
            "seed": params.seed % (1 << 63),
            "top_p": 1.0 if params.top_p is None else params.top_p,
        }
        if params.frequency_penalty is not None:
            sampling["frequency_penalty"] = params.frequency_penalty
        if self._is_llama_cpp:
            sampling |= {  # its own defaults are not neutral
                "top_k": params.top_k or 0,
                "min_p": 0.0,
                "typical_p": 1.0 if params.typical_p is None else params.typical_p,
                "repeat_penalty": 1.0 if params.repetition_penalty is None else params.repetition_penalty,
                "repeat_last_n": context,
            }
            return sampling
        if params.typical_p is not None:
            raise InvalidRequest("`typical_p` is not supported by this engine")
        if params.top_k is not None:
            sampling["top_k"] = params.top_k
        if params.repetition_penalty is not None:
            sampling["repetition_penalty"] = params.repetition_penalty
        return sampling

    async def _post(
        self, stack: contextlib.AsyncExitStack, request: dict[str, Any]
    ) -> aiohttp.ClientResponse:
        """The response, once the upstream has accepted. Raises `ServingError`."""
        assert self._session is not None
        posting = self._session.post(f"{self._url}/completions", json=request)
        try:
            async with asyncio.timeout(self._first_seconds):
                response = await stack.enter_async_context(posting)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ServerTimeoutError):
                raise self._lost("cannot be reached") from error
            raise GenerationFailed(
                f"The upstream has not answered within {self._first_seconds:g} seconds."
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise self._lost("cannot be reached") from error
        except (aiohttp.ClientError, OSError) as error:  # one connection; whether it is all, a look will tell
            self._doubted.set()
            raise Unhealthy(f"The upstream at {self._url} broke the connection off.") from error
        if response.status != 200:
            raise _refusal(response, await self._body(response))
        kind = response.content_type
        if kind != "text/event-stream":
            raise IncompleteGeneration(f"The upstream has answered with {kind} instead of an event stream.")
        return response

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(self._between_seconds):
                return await response.content.read(LONGEST_ANSWER)
        return b""

    def _lost(self, what: str) -> Unhealthy:
        detail = f"The upstream at {self._url} {what}."
        self._info = replace(self._info, state=EngineState.FAILED, state_detail=detail)
        self._doubted.set()
        return Unhealthy(detail)

    async def _keep_watching(self) -> None:
        while True:
            self._doubted.clear()
            before = self._info
            try:
                self._info = await self._look()
            except (aiohttp.ClientError, OSError, ValueError) as error:
                log.debug("looking for the upstream", exc_info=error)
                detail = f"The upstream at {self._url} cannot be reached."
                self._info = replace(self._info, state=EngineState.FAILED, state_detail=detail)
            if self._info != before:
                log.info("upstream: %s %s", self._info.state, self._info.state_detail or self._info.model_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_SECONDS[self._info.state]):
                    await self._doubted.wait()
                    if self._info.state is not EngineState.READY:
                        await asyncio.sleep(LOOK_AGAIN_SECONDS[EngineState.FAILED])

    async def _look(self) -> EngineInfo:
        """What the upstream is now. Raises aiohttp's errors, OSError and ValueError."""
        status, answer = await self._get(f"{self._url}/models")
        if status == 503:
            detail = f"The upstream at {self._url} is still loading."
            return replace(self._info, state=EngineState.LOADING, state_detail=detail)
        if status in (401, 403):
            detail = f"The upstream at {self._url} refuses our key (TECH_ASSISTANT_UPSTREAM_KEY)."
            return replace(self._info, state=EngineState.FAILED, state_detail=detail)
        if status >= 500:
            detail = f"The upstream at {self._url} answers {status}: {_message_of(answer)}".rstrip(": ")
            return replace(self._info, state=EngineState.FAILED, state_detail=detail)
        listed = answer.get("data") if isinstance(answer, dict) else None
        models = [model for model in listed or [] if isinstance(model, dict) and "id" in model]
        chosen = next((m for m in models if self._model in (None, m["id"])), {})
        name = self._model or chosen.get("id")
        if name is None:
            detail = f"The upstream at {self._url} lists no model: name one by --upstream-model."
            return replace(self._info, state=EngineState.FAILED, state_detail=detail)
        if models and not chosen:
            names = ", ".join(str(model["id"]) for model in models[:5])
            detail = f"The upstream at {self._url} has no model {name!r}, but: {names}."
            return replace(self._info, state=EngineState.FAILED, state_detail=detail)
        self._is_llama_cpp = chosen.get("owned_by") == "llamacpp"
        info = EngineInfo(
            engine="openai", state=EngineState.READY, model_id=str(name), context=_context(chosen)
        )
        return await self._with_template(info) if self._is_llama_cpp else info

    async def _with_template(self, info: EngineInfo) -> EngineInfo:
        root = self._url.removesuffix("/v1")
        status, props = await self._get(f"{root}/props")
        if status != 200 or not isinstance(props, dict):
            return info
        template = props.get("chat_template") or None
        if template and "<|im_start|>" in template:
            # For a model without a template llama-server reports one that is made for other models. It
            # is not the model's own if its vocabulary lacks the mark that the template is written with.
            body = {"content": "<|im_start|>", "parse_special": True}
            _, answer = await self._get(f"{root}/tokenize", body)
            if isinstance(answer, dict) and len(answer.get("tokens", [])) > 1:
                template = None
        return replace(
            info,
            chat_template=template,
            bos_token=props.get("bos_token") or None,
            eos_token=props.get("eos_token") or None,
        )

    async def _get(self, url: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON (None for anything else) of a short question, which is a POST if it has a body."""
        assert self._session is not None
        method = "GET" if body is None else "POST"
        async with (
            asyncio.timeout(self._connect_seconds),
            self._session.request(method, url, json=body) as got,
        ):
            content = await got.content.read(LONGEST_ANSWER)
        try:
            return got.status, msgspec.json.decode(content)
        except ValueError:
            return got.status, None


def _base(url: str) -> str:
    url = url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def _event(line: bytes) -> _Event:
    try:
        event = _decode_event(line)
    except ValueError as error:  # also what is not UTF-8
        raise IncompleteGeneration("The upstream has sent something that is not an event.") from error
    if event.error is not None:
        raise IncompleteGeneration(f"The upstream failed: {_message_of(event.error)}")
    return event


async def _usage(lines: AsyncGenerator[bytes]) -> _Usage:
    """The token counts, which some upstreams send after the text, some with it, and some not at all."""
    with contextlib.suppress(TimeoutError, IncompleteGeneration):
        async with asyncio.timeout(USAGE_SECONDS):
            async for line in lines:
                if line == b"[DONE]":
                    break
                if (usage := _event(line).usage) is not None:
                    return usage
    return _Usage()


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> Exception:
    status = response.status
    message = _message(body)
    if status in (429, 503):
        after = response.headers.get("Retry-After", "")
        return Overloaded(
            message or "The upstream is overloaded.", retry_after=int(after) if after.isdigit() else 1
        )
    if status in (400, 413, 422):
        return InvalidRequest(message or f"The upstream has refused the request ({status}).")
    if status in (401, 403):
        return GenerationFailed("The upstream refuses our key (TECH_ASSISTANT_UPSTREAM_KEY).")
    return GenerationFailed(f"The upstream has answered {status}{': ' + message if message else '.'}")


def _message(body: bytes) -> str:
    """The words of an error body, in any of the shapes that are about; empty for anything else."""
    try:
        return _message_of(msgspec.json.decode(body))
    except ValueError:
        return ""


def _message_of(answer: Any) -> str:
    while isinstance(answer, dict):
        answer = answer.get("error") or answer.get("message") or answer.get("detail")
    return answer[:1000] if isinstance(answer, str) else ""


def _context(model: dict[str, Any]) -> int:
    """Tokens of context by a model's entry in the list, as vLLM, SGLang or llama-server write it."""
    meta = model.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    for value in (model.get("max_model_len"), meta.get("n_ctx"), meta.get("n_ctx_train")):
        if isinstance(value, int) and value > 0:
            return value
    return DEFAULT_CONTEXT
