"""An engine elsewhere that speaks OpenAI's protocol: vLLM, SGLang, llama-server and many more.

Knows that protocol and what each way of failing means; refuses to know why the text is wanted. It sends
no stop sequences: upstreams differ in what they do with them. When one completes, the connection is closed,
which is how such servers are told to stop computing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from serving.engine import (
    MOST_NEW_TOKENS,
    SESSION_HEADER,
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
    InvalidRequest,
    Overloaded,
    Prompt,
    SamplingParams,
    TopToken,
    Unhealthy,
)
from serving.event_stream import read_data
from serving.models import infilling_of

log = logging.getLogger("serving.openai_compatible")

DEFAULT_CONTEXT = 8192  # tokens, where the upstream does not tell
LOOK_AGAIN_SECONDS = {EngineState.LOADING: 1.0, EngineState.FAILED: 1.0, EngineState.READY: 30.0}
FIRST_SECONDS = 120.0  # until anything of an answer arrives
BETWEEN_SECONDS = 30.0  # between two pieces of it
USAGE_SECONDS = 2.0  # the token counts come right after the end of the text, or are done without
LONGEST_ANSWER = 1 << 20  # bytes of an answer that is not a stream


class _Kind(StrEnum):
    """What the upstream is, by what it says of its models: they differ in all that OpenAI's does not have."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMA_CPP = "llamacpp"
    OTHER = "other"


class _Likely(msgspec.Struct):
    token: str = ""
    logprob: float | None = None


class _ChatLogprob(_Likely):
    top_logprobs: list[_Likely] = []


class _Logprobs(msgspec.Struct):
    """As completions have them, and as chats do."""

    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    content: list[_ChatLogprob] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    logprobs: _Logprobs | None = None
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
        self._kind = _Kind.OTHER
        self._info = EngineInfo(
            engine="openai",
            state=EngineState.LOADING,
            state_detail=f"Looking for the upstream at {self._url}.",
            model_id=model,
            chats=True,
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

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        if self._info.state is not EngineState.READY or self._session is None:
            raise Unhealthy(self._info.state_detail or "The upstream is not ready.")
        is_chat = isinstance(prompt, Chat)
        request = {
            "model": self._model_of(params),
            **self._prompt(prompt),
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._sampling(params, is_chat=is_chat),
        }
        async with contextlib.AsyncExitStack() as stack:
            path = "chat/completions" if is_chat else "completions"
            response = await self._post(stack, path, request, session)
            yield Accepted(None)
            lines = read_data(
                response.content, first_seconds=self._first_seconds, between_seconds=self._between_seconds
            )
            await stack.enter_async_context(contextlib.aclosing(lines))
            data = _Bytes()
            async for line in lines:
                if line == b"[DONE]":
                    break
                event = _event(line)
                for choice in event.choices[:1]:
                    if (chunk := _chunk(choice, data)) is not None:
                        yield chunk
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

    def _model_of(self, params: SamplingParams) -> str | None:
        if params.adapter_id is None:
            return self._info.model_id
        if params.adapter_id not in self._info.adapters:
            known = ", ".join(self._info.adapters) or "none"
            raise InvalidRequest(f"`adapter_id` {params.adapter_id!r} is not known here. Known: {known}")
        return params.adapter_id

    def _prompt(self, prompt: Prompt) -> dict[str, Any]:
        if isinstance(prompt, Chat):
            return {"messages": list(prompt.messages)}
        if isinstance(prompt, str):
            return {"prompt": prompt}
        marks = infilling_of(self._info.model_id)
        if marks is None:  # the upstream may know how, or say that it does not
            return {"prompt": prompt.prefix, "suffix": prompt.suffix}
        for mark in (marks.prefix, marks.suffix, marks.middle):
            if mark in prompt.prefix or mark in prompt.suffix:
                raise InvalidRequest(
                    f"the text around contains {mark}, which this upstream would take for the model's marker"
                )
        return {"prompt": f"{marks.prefix}{prompt.prefix}{marks.suffix}{prompt.suffix}{marks.middle}"}

    def _sampling(self, params: SamplingParams, *, is_chat: bool) -> dict[str, Any]:
        """Raises `InvalidRequest` for what this kind of upstream has no word for."""
        context, kind = self._info.context or DEFAULT_CONTEXT, self._kind
        sampling: dict[str, Any] = {
            "max_tokens": params.max_new_tokens or min(MOST_NEW_TOKENS, context // 4),
            "temperature": params.temperature,
            "seed": params.seed % (1 << 63),
            "top_p": 1.0 if params.top_p is None else params.top_p,
        }
        if params.frequency_penalty is not None:
            sampling["frequency_penalty"] = params.frequency_penalty
        if params.presence_penalty is not None:
            sampling["presence_penalty"] = params.presence_penalty
        if params.grammar is not None:
            sampling |= _structured(params.grammar, kind)
        if params.top_tokens or (params.logprobs and kind is not _Kind.OTHER):
            most = max(1, params.top_tokens)
            sampling |= {"logprobs": True, "top_logprobs": most} if is_chat else {"logprobs": most}
        if kind is _Kind.LLAMA_CPP:
            sampling |= {  # its own defaults are not neutral
                "top_k": params.top_k or 0,
                "min_p": 0.0,
                "typical_p": 1.0 if params.typical_p is None else params.typical_p,
                "repeat_penalty": 1.0 if params.repetition_penalty is None else params.repetition_penalty,
                "repeat_last_n": context,
            }
        else:
            if params.top_k is not None:
                sampling["top_k"] = params.top_k
            if params.repetition_penalty is not None:
                sampling["repetition_penalty"] = params.repetition_penalty
        others = {
            "typical_p": (params.typical_p, (_Kind.LLAMA_CPP,)),
            "min_new_tokens": (params.min_new_tokens or None, (_Kind.VLLM, _Kind.SGLANG)),
            "truncate": (params.truncate, (_Kind.VLLM,)),
        }
        for name, (value, kinds) in others.items():
            if value is not None and kind not in kinds:
                raise InvalidRequest(f"`{name}` is not supported by this engine")
        if params.min_new_tokens:
            sampling["min_tokens"] = params.min_new_tokens
        if params.truncate is not None:
            sampling["truncate_prompt_tokens"] = params.truncate
        return sampling

    async def _post(
        self, stack: contextlib.AsyncExitStack, path: str, request: dict[str, Any], session: str | None
    ) -> aiohttp.ClientResponse:
        """The response, once the upstream has accepted. Raises `ServingError`."""
        assert self._session is not None
        # Where the upstream is several behind one address, this keeps a conversation on one of them.
        headers = {} if session is None else {SESSION_HEADER: session}
        posting = self._session.post(f"{self._url}/{path}", json=request, headers=headers)
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
        owner = chosen.get("owned_by")
        self._kind = _Kind(owner) if owner in list(_Kind) else _Kind.OTHER
        info = EngineInfo(
            engine="openai",
            state=EngineState.READY,
            model_id=str(name),
            context=_context(chosen),
            chats=True,
            adapters=[str(model["id"]) for model in models if model.get("parent")],
        )
        return await self._with_template(info) if self._kind is _Kind.LLAMA_CPP else info

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
            chats=template is not None,
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


class _Bytes:
    """The bytes of texts that may be cut inside a character, as some upstreams do: its bytes, or the two
    halves of its UTF-16 form. JSON by the book has neither."""

    def __init__(self) -> None:
        self._half = ""

    def of(self, text: str) -> bytes:
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        try:
            return text.encode()
        except UnicodeEncodeError:
            # Halves that meet become one; bytes stand as `surrogateescape` has them; the rest is lost.
            joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
            return _LOST_HALF.sub("\ufffd", joined).encode("utf-8", "surrogateescape")


_LOST_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def _event(line: bytes) -> _Event:
    try:
        event = _decode_event(line)
    except ValueError:
        try:
            event = msgspec.convert(json.loads(line.decode("utf-8", "surrogateescape")), _Event)
        except (ValueError, RecursionError) as error:
            raise IncompleteGeneration("The upstream has sent something that is not an event.") from error
    if event.error is not None:
        raise IncompleteGeneration(f"The upstream failed: {_message_of(event.error)}")
    return event


def _chunk(choice: _Choice, data: _Bytes) -> Chunk | None:
    """The text of an event's choice, with what is told of its last token; None where there is none."""
    text = choice.text if choice.delta is None else choice.delta.content
    if not text:
        return None
    logprob: float | None = None
    top: list[TopToken] = []
    if (told := choice.logprobs) is not None and told.content:
        logprob = told.content[-1].logprob
        top = [TopToken(0, likely.token, likely.logprob or 0.0) for likely in told.content[-1].top_logprobs]
    elif told is not None and told.token_logprobs:
        logprob = told.token_logprobs[-1]
        likeliest = (told.top_logprobs or [None])[-1] or {}
        top = [TopToken(0, token, chance) for token, chance in likeliest.items()]
    return Chunk(data.of(text), logprob=logprob, top=top)


def _structured(grammar: Grammar, kind: _Kind) -> dict[str, Any]:
    is_json = grammar.kind is GrammarKind.JSON
    value = json.loads(grammar.value) if is_json else grammar.value
    if kind is _Kind.VLLM:
        return {"structured_outputs": {"json" if is_json else "regex": value}}
    if kind is _Kind.SGLANG:
        return {"json_schema" if is_json else "regex": grammar.value}
    if not is_json:
        raise InvalidRequest("grammar is not supported: this engine knows no regular expressions")
    if kind is _Kind.LLAMA_CPP:
        return {"json_schema": value}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": value}}}


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
