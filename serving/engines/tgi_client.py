"""The engine on another server that speaks TGI's protocol: text-generation-inference, or a server like it.

It sends no stop sequences: TGI leaves them in the text, and misses those that end inside a token. When one is
complete, the caller closes the connection.

TGI accepts every request and reports errors in the stream. So this engine accepts a request only when the
first token has come. An error before that is an error about the request.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from serving.engine import (
    Accepted,
    Chat,
    Chunk,
    End,
    EngineInfo,
    EngineState,
    FinishReason,
    GenerationFailed,
    GrammarKind,
    IncompleteGeneration,
    InvalidRequest,
    Overloaded,
    Prompt,
    SamplingParams,
    ServingError,
    TokenSpan,
    TopToken,
    Unhealthy,
)
from serving.engines.remote import (
    INVALID_STATUSES,
    RemoteEngine,
    TextDecoder,
    finish_reason,
    message,
    message_of,
    problem_of,
    read_event,
    text_of,
)
from serving.models.catalogue import Infilling

INVALID = "Input validation error: "
"""How TGI's messages about invalid requests begin, and ours too."""


class _Token(msgspec.Struct):
    id: int = 0
    text: str = ""
    logprob: float | None = None
    special: bool = False


class _Details(msgspec.Struct):
    finish_reason: str
    generated_tokens: int | None = None
    input_length: int | None = None


class _Event(msgspec.Struct):
    token: _Token | None = None
    top_tokens: list[_Token] | None = None
    generated_text: str | None = None
    details: _Details | None = None
    error: Any = None
    error_type: str | None = None


class _Templated(msgspec.Struct):
    templated_text: str
    tokenize_response: list[TokenSpan] = []


_EVENT = msgspec.json.Decoder(_Event)
_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    "eos_token": FinishReason.END_OF_TEXT,
    "stop_sequence": FinishReason.END_OF_TEXT,  # from the server's own configuration: we send none
}


class TgiUpstream(RemoteEngine):
    name = "tgi"
    takes_chats = False

    @staticmethod
    def base_url(url: str) -> str:
        return url.rstrip("/").removesuffix("/v1")

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        self._require_ready()
        parameters = self._parameters(params)
        request = {"inputs": await self._as_text(prompt), "parameters": parameters}
        accepted = False
        generated = 0
        async with contextlib.AsyncExitStack() as stack:
            lines = await self._events(stack, "generate_stream", request, session)
            decoder = TextDecoder()
            async for line in lines:
                event = read_event(_EVENT, line)
                if event.error is not None:
                    error = self._error(message_of(event.error), event.error_type or "")
                    raise IncompleteGeneration(str(error)) if accepted else error
                if event.token is None:
                    raise IncompleteGeneration("The upstream has sent something that is not a token.")
                if not accepted:
                    accepted = True
                    yield Accepted(None)
                generated += 1
                yield _chunk(event.token, event.top_tokens or [], decoder)
                if event.details is not None:
                    reason = finish_reason(_FINISH_REASONS, event.details.finish_reason)
                    yield End(reason, event.details.input_length, event.details.generated_tokens)
                    return
                if event.generated_text is not None:  # the end, from a server that sends no details
                    is_full = generated >= parameters["max_new_tokens"]
                    yield End(FinishReason.LENGTH if is_full else FinishReason.END_OF_TEXT)
                    return
        raise IncompleteGeneration("The upstream's answer broke off.")

    async def tokenize(self, text: str) -> list[TokenSpan] | None:
        answer = await self._answer("tokenize", {"inputs": text})
        try:
            return msgspec.convert(answer, list[TokenSpan])
        except ValueError:
            return None

    def _parameters(self, params: SamplingParams) -> dict[str, Any]:
        """Raises `InvalidRequest` for a parameter that TGI does not have."""
        for name in ("min_new_tokens", "presence_penalty"):
            if getattr(params, name):
                raise InvalidRequest(f"`{name}` is not supported by this engine")
        is_sampled = params.temperature > 0
        parameters: dict[str, Any] = {
            "max_new_tokens": self._max_new_tokens(params),
            "do_sample": is_sampled,
            "details": True,
            "return_full_text": False,
            "repetition_penalty": params.repetition_penalty,
            "frequency_penalty": params.frequency_penalty,
            "truncate": params.truncate,
            "adapter_id": params.adapter_id,
            "top_n_tokens": params.top_tokens or None,
        }
        if is_sampled:  # each of these makes TGI sample, and none changes which token is the likeliest
            parameters |= {
                "seed": params.seed % (1 << 63),
                "temperature": params.temperature,
                "top_k": params.top_k,
                "top_p": _share(params.top_p),
                "typical_p": _share(params.typical_p),
            }
        if (grammar := params.grammar) is not None:
            value = json.loads(grammar.value) if grammar.kind is GrammarKind.JSON else grammar.value
            parameters["grammar"] = {"type": grammar.kind.value, "value": value}
        return {name: value for name, value in parameters.items() if value is not None}

    async def _as_text(self, prompt: Prompt) -> str:
        """The prompt as text, the only form that this protocol has. Raises `ServingError`."""
        if isinstance(prompt, str):
            return prompt
        if isinstance(prompt, Chat):
            templated = await self._answer("chat_tokenize", _chat(list(prompt.messages)))
            if (text := _templated(templated)) is None:
                raise InvalidRequest("this upstream has no chat template for its model")
            return text
        if (markers := self._markers()) is None:
            raise InvalidRequest("we know no markers with which this upstream's model fills in the middle")
        return self._with_markers(prompt, markers)

    async def _answer(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a short question; None if the server has no such path. Raises `ServingError`."""
        self._require_ready()
        try:
            status, answer = await self._ask(f"{self.url}/{path}", body)
        except TimeoutError as error:
            raise self._silent(self._limits.connect) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken_off() from error
        if status in (404, 405, 501):
            return None
        if status != 200:
            raise self._refusal(status, {}, msgspec.json.encode(answer))
        return answer

    async def _check(self) -> EngineInfo:
        status, info = await self._ask(f"{self.url}/info")
        if (problem := problem_of(status, info)) is not None:
            return self._not_ready(*problem)
        if status != 200 or not is_tgi(info):
            return self._not_ready("does not speak TGI's protocol: it has no /info")
        if self._model not in (None, info["model_id"]):
            return self._not_ready(f"has no model {self._model!r}, but: {info['model_id']}")
        state = info.get("state", EngineState.READY)
        if state != EngineState.READY:  # another serving layer of ours, which reports its state
            is_loading = state in (EngineState.LOADING, EngineState.FETCHING)
            return self._not_ready(
                f"is not ready: {info.get('state_detail') or state}".rstrip("."),
                EngineState.LOADING if is_loading else EngineState.FAILED,
            )
        health, _ = await self._ask(f"{self.url}/health")
        if health >= 500:
            return self._not_ready("reports that it is not healthy")
        _, templated = await self._ask(
            f"{self.url}/chat_tokenize", _chat([{"role": "user", "content": "Hello"}])
        )
        adapters, infilling = info.get("adapters"), None
        with contextlib.suppress(ValueError):
            infilling = msgspec.convert(info.get("infilling"), Infilling | None)
        return EngineInfo(
            engine="tgi",
            state=EngineState.READY,
            model_id=str(info["model_id"]),
            context=_number(info.get("max_total_tokens")),
            parameters=_number(info.get("parameters")),
            parallel=_number(info.get("max_batch_size")),
            chats=_templated(templated) is not None,
            adapters=tuple(map(str, adapters)) if isinstance(adapters, list) else (),
            chat_template=text_of(info, "chat_template"),
            bos_token=text_of(info, "bos_token"),
            eos_token=text_of(info, "eos_token"),
            infilling=infilling,
        )

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> ServingError:
        # These two statuses mean something else in TGI's protocol than in OpenAI's.
        if (error_type := {500: "incomplete_generation", 503: "unhealthy"}.get(status)) is not None:
            return self._error(message(body) or f"it has answered {status}.", error_type)
        error = super()._refusal(status, headers, body)
        return self._error(str(error), InvalidRequest.error_type) if status in INVALID_STATUSES else error

    def _error(self, message: str, error_type: str) -> ServingError:
        """Our error for TGI's type of an error."""
        if error_type == InvalidRequest.error_type:
            return InvalidRequest(message.removeprefix(INVALID))
        if error_type == Overloaded.error_type:
            return Overloaded(message)
        message = f"The upstream failed: {message}"
        if error_type.startswith(IncompleteGeneration.error_type):  # or incomplete_generation_stream
            return IncompleteGeneration(message)
        if error_type == Unhealthy.error_type:
            self._failure_noticed.set()
            return Unhealthy(message)
        return GenerationFailed(message)


def says_openai(url: str) -> bool:
    """Whether the address alone shows that the server speaks OpenAI's protocol."""
    return urlsplit(url).path.rstrip("/").endswith("/v1")


def is_tgi(info: Any) -> bool:
    """Whether the answer of /info comes from TGI."""
    limits = ("max_total_tokens", "max_input_tokens", "max_input_length")
    return isinstance(info, dict) and "model_id" in info and any(limit in info for limit in limits)


def _chat(messages: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {"model": "tgi", "messages": messages}


def _templated(answer: Any) -> str | None:
    """The text of a chat, without the beginning-of-text token: the server adds that to every prompt."""
    try:
        templated = msgspec.convert(answer, _Templated)
    except ValueError:
        return None
    text, spans = templated.templated_text, templated.tokenize_response
    if len(spans) > 1 and spans[0].id == spans[1].id and spans[0].stop == 0 < spans[1].stop:
        text = text[spans[1].stop :]
    return text


def _chunk(token: _Token, top: list[_Token], decoder: TextDecoder) -> Chunk:
    likely = tuple(TopToken(other.id, other.text, other.logprob or 0.0) for other in top)
    data, special = (b"", token.text or None) if token.special else (decoder.decode(token.text), None)
    return Chunk(data, token.id, logprob=token.logprob, special=special, top=likely)


def _share(share: float | None) -> float | None:
    """None stands for the whole distribution, which TGI takes no value for."""
    return None if share is None or share >= 1 else share


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
