"""The engine on another server that speaks OpenAI's protocol: vLLM, SGLang, llama-server and many more.

It sends no stop sequences, because servers treat them differently. When one is complete, the caller closes
the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import msgspec

from serving.engine import (
    Accepted,
    Chat,
    Chunk,
    End,
    EngineInfo,
    EngineState,
    FinishReason,
    Grammar,
    GrammarKind,
    IncompleteGeneration,
    InvalidRequest,
    Prompt,
    SamplingParams,
    TopToken,
)
from serving.engines.remote import (
    DEFAULT_CONTEXT,
    RemoteEngine,
    TextDecoder,
    finish_reason,
    message_of,
    problem_of,
    read_event,
)

USAGE_SECONDS = 2.0  # to wait for the token counts after the end of the text


class _Software(StrEnum):
    """The software of the upstream, by the owner of its models. Each has other extensions of the protocol."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMA_CPP = "llamacpp"
    OTHER = "other"


class _TokenLogprob(msgspec.Struct):
    token: str = ""
    logprob: float | None = None


class _ChatLogprob(_TokenLogprob):
    top_logprobs: list[_TokenLogprob] = []


class _Logprobs(msgspec.Struct):
    """The first two fields are those of completions, `content` is that of chats."""

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


_EVENT = msgspec.json.Decoder(_Event)
_FINISH_REASONS = {"stop": FinishReason.END_OF_TEXT, "length": FinishReason.LENGTH}


class OpenAIUpstream(RemoteEngine):
    name = "openai"
    takes_chats = True
    _software = _Software.OTHER

    @staticmethod
    def base_url(url: str) -> str:
        url = url.rstrip("/")
        return url if urlsplit(url).path else f"{url}/v1"

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        self._require_ready()
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
            lines = await self._events(stack, path, request, session)
            yield Accepted(None)
            decoder = TextDecoder()
            async for line in lines:
                if line == b"[DONE]":
                    break
                event = _event(line)
                for choice in event.choices[:1]:
                    if (chunk := _chunk(choice, decoder)) is not None:
                        yield chunk
                    if choice.finish_reason is not None:
                        reason = finish_reason(_FINISH_REASONS, choice.finish_reason)
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
        if (markers := self._markers()) is None:  # the server may fill in the middle itself, or refuse
            if self._software is _Software.LLAMA_CPP:  # it ignores `suffix` without an error
                raise InvalidRequest("we know no markers with which this model fills in the middle of a text")
            return {"prompt": prompt.prefix, "suffix": prompt.suffix}
        return {"prompt": self._with_markers(prompt, markers)}

    def _sampling(self, params: SamplingParams, *, is_chat: bool) -> dict[str, Any]:
        """Raises `InvalidRequest` for a parameter that the upstream's software does not support."""
        software = self._software
        is_vllm, is_llama_cpp = software is _Software.VLLM, software is _Software.LLAMA_CPP
        has_min_tokens = is_vllm or software is _Software.SGLANG
        for name, value, is_supported in (
            ("typical_p", params.typical_p, is_llama_cpp),
            ("min_new_tokens", params.min_new_tokens or None, has_min_tokens),
            ("truncate", params.truncate, is_vllm),
        ):
            if value is not None and not is_supported:
                raise InvalidRequest(f"`{name}` is not supported by this engine")
        sampling: dict[str, Any] = {
            "max_tokens": self._max_new_tokens(params),
            "temperature": params.temperature,
            "seed": params.seed % (1 << 63),
            "top_p": 1.0 if params.top_p is None else params.top_p,
            "frequency_penalty": params.frequency_penalty,
            "presence_penalty": params.presence_penalty,
            "min_tokens": params.min_new_tokens or None,
            "truncate_prompt_tokens": params.truncate,
        }
        if params.grammar is not None:
            sampling |= _structured(params.grammar, software)
        if params.top_tokens or (params.logprobs and software is not _Software.OTHER):
            most = max(1, params.top_tokens)
            sampling |= {"logprobs": True, "top_logprobs": most} if is_chat else {"logprobs": most}
        if is_llama_cpp:
            sampling |= {  # its own defaults are not neutral
                "top_k": params.top_k or 0,
                "min_p": 0.0,
                "typical_p": 1.0 if params.typical_p is None else params.typical_p,
                "repeat_penalty": 1.0 if params.repetition_penalty is None else params.repetition_penalty,
                "repeat_last_n": self._info.context or DEFAULT_CONTEXT,
            }
        else:
            # Without them vLLM and SGLang take them from the model's own file.
            top_k, penalty, min_p = (-1, 1.0, 0.0) if has_min_tokens else (None, None, None)
            sampling |= {
                "top_k": top_k if params.top_k is None else params.top_k,
                "min_p": min_p,
                "repetition_penalty": penalty
                if params.repetition_penalty is None
                else params.repetition_penalty,
            }
        return {name: value for name, value in sampling.items() if value is not None}

    async def _check(self) -> EngineInfo:
        status, answer = await self._ask(f"{self.url}/models")
        if (problem := problem_of(status, answer)) is not None:
            return self._not_ready(*problem)
        listed = answer.get("data") if isinstance(answer, dict) else None
        models = [
            model
            for model in (listed if isinstance(listed, list) else ())
            if isinstance(model, dict) and "id" in model
        ]
        chosen = next((m for m in models if self._model in (None, m["id"])), {})
        name = self._model or chosen.get("id")
        if name is None:
            return self._not_ready("lists no model: name one with --upstream-model")
        if models and not chosen:
            names = ", ".join(str(model["id"]) for model in models[:5])
            return self._not_ready(f"has no model {name!r}, but: {names}")
        owner = chosen.get("owned_by")
        self._software = _Software(owner) if owner in list(_Software) else _Software.OTHER
        info = EngineInfo(
            engine="openai",
            state=EngineState.READY,
            model_id=str(name),
            context=_context(chosen),
            parameters=_count(chosen, "n_params"),
            chats=True,
            adapters=[str(model["id"]) for model in models if model.get("parent")],
        )
        return await self._with_template(info) if self._software is _Software.LLAMA_CPP else info

    async def _with_template(self, info: EngineInfo) -> EngineInfo:
        root = self.url.removesuffix("/v1")
        status, props = await self._ask(f"{root}/props")
        if status != 200 or not isinstance(props, dict):
            return info
        template = props.get("chat_template") or None
        if template and "<|im_start|>" in template:
            # For a model without a template llama-server reports ChatML. That is not the model's own template
            # if its vocabulary lacks ChatML's token.
            body = {"content": "<|im_start|>", "parse_special": True}
            _, answer = await self._ask(f"{root}/tokenize", body)
            if isinstance(answer, dict) and len(answer.get("tokens") or ()) > 1:
                template = None
        return replace(
            info,
            chats=template is not None,
            chat_template=template,
            bos_token=props.get("bos_token") or None,
            eos_token=props.get("eos_token") or None,
        )


def _event(line: bytes) -> _Event:
    event = read_event(_EVENT, line)
    if event.error is not None:
        raise IncompleteGeneration(f"The upstream failed: {message_of(event.error)}")
    return event


def _chunk(choice: _Choice, decoder: TextDecoder) -> Chunk | None:
    """The text of an event and the probabilities of its last token; None for an event without text."""
    text = choice.text if choice.delta is None else choice.delta.content
    if not text:
        return None
    logprob: float | None = None
    top: list[TopToken] = []
    if (logprobs := choice.logprobs) is not None and logprobs.content:
        logprob = logprobs.content[-1].logprob
        top = [
            TopToken(0, likely.token, likely.logprob or 0.0) for likely in logprobs.content[-1].top_logprobs
        ]
    elif logprobs is not None and logprobs.token_logprobs:
        logprob = logprobs.token_logprobs[-1]
        likeliest = (logprobs.top_logprobs or [None])[-1] or {}
        top = [TopToken(0, token, chance) for token, chance in likeliest.items()]
    return Chunk(decoder.decode(text), logprob=logprob, top=top)


def _structured(grammar: Grammar, software: _Software) -> dict[str, Any]:
    is_json = grammar.kind is GrammarKind.JSON
    value = json.loads(grammar.value) if is_json else grammar.value
    if software is _Software.VLLM:
        return {"structured_outputs": {"json" if is_json else "regex": value}}
    if software is _Software.SGLANG:
        return {"json_schema" if is_json else "regex": grammar.value}
    if not is_json:
        raise InvalidRequest("grammar is not supported: this engine takes no regular expressions")
    if software is _Software.LLAMA_CPP:
        return {"json_schema": value}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": value}}}


async def _usage(lines: AsyncGenerator[bytes]) -> _Usage:
    """The token counts after the text. Some servers send none."""
    with contextlib.suppress(TimeoutError, IncompleteGeneration):
        async with asyncio.timeout(USAGE_SECONDS):
            async for line in lines:
                if line == b"[DONE]":
                    break
                if (usage := _event(line).usage) is not None:
                    return usage
    return _Usage()


def _context(model: dict[str, Any]) -> int:
    """The context in tokens, from the entry of a model in the list of vLLM, SGLang or llama-server."""
    context = model.get("max_model_len")
    if isinstance(context, int) and context > 0:
        return context
    return _count(model, "n_ctx") or _count(model, "n_ctx_train") or DEFAULT_CONTEXT


def _count(model: dict[str, Any], name: str) -> int | None:
    """A number that llama-server lists of a model."""
    meta = model.get("meta")
    count = meta.get(name) if isinstance(meta, dict) else None
    return count if isinstance(count, int) and count > 0 else None
