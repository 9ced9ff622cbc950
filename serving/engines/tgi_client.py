"""An engine elsewhere that speaks TGI's protocol: text-generation-inference, or what speaks like it.

Knows that protocol and what each way of failing means; refuses to know why the text is wanted. It sends no
stop sequences: TGI leaves them in the text, and misses those that end inside a token. When one completes, the
connection is closed.

TGI takes every request on, and tells in the stream what is wrong with it. So the request is accepted here
when the first token has come, and what comes before that is an error of its own kind.
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
    KEY_REFUSED,
    CutText,
    Limits,
    Remote,
    message,
    message_of,
    read_event,
    reason_of,
    seconds_of,
)
from serving.models.catalogue import Infilling

INVALID = "Input validation error: "
"""What TGI writes before its words for a request that cannot work, and we do too."""


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


class _Span(msgspec.Struct):
    id: int
    text: str
    start: int
    stop: int


class _Templated(msgspec.Struct):
    templated_text: str
    tokenize_response: list[_Span] = []


_EVENT = msgspec.json.Decoder(_Event)
_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    "eos_token": FinishReason.END_OF_TEXT,
    "stop_sequence": FinishReason.END_OF_TEXT,  # of the server's own configuration: none was sent
}


class Tgi(Remote):
    """`url` is the address of the server, such as `http://127.0.0.1:8080`. It has one model."""

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        limits: Limits = Limits(),  # noqa: B008, it is frozen
    ) -> None:
        super().__init__(root(url), engine="tgi", model=model, api_key=api_key, limits=limits, chats=False)

    async def generate(
        self, prompt: Prompt, params: SamplingParams, *, session: str | None = None
    ) -> AsyncGenerator[Accepted | Chunk | End]:
        self._check_ready()
        parameters = self._parameters(params)
        request = {"inputs": await self._written(prompt), "parameters": parameters}
        accepted = False
        generated = 0
        async with contextlib.AsyncExitStack() as stack:
            lines = await self._events(stack, "generate_stream", request, session)
            text = CutText()
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
                yield _chunk(event.token, event.top_tokens or [], text)
                if event.details is not None:
                    reason = reason_of(_FINISH_REASONS, event.details.finish_reason)
                    yield End(reason, event.details.input_length, event.details.generated_tokens)
                    return
                if event.generated_text is not None:  # the end, by one that tells no details
                    is_full = generated >= parameters["max_new_tokens"]
                    yield End(FinishReason.LENGTH if is_full else FinishReason.END_OF_TEXT)
                    return
        raise IncompleteGeneration("The upstream's answer broke off.")

    async def tokenize(self, text: str) -> list[TokenSpan] | None:
        answer = await self._told("tokenize", {"inputs": text})
        try:
            spans = msgspec.convert(answer, list[_Span])
        except ValueError:
            return None
        return [TokenSpan(span.id, span.text, span.start, span.stop) for span in spans]

    def _parameters(self, params: SamplingParams) -> dict[str, Any]:
        """Raises `InvalidRequest` for what TGI has no word for."""
        if params.min_new_tokens:
            raise InvalidRequest("`min_new_tokens` is not supported by this engine")
        if params.presence_penalty:
            raise InvalidRequest("`presence_penalty` is not supported by this engine")
        is_sampled = params.temperature > 0
        parameters: dict[str, Any] = {
            "max_new_tokens": self._most_new_tokens(params),
            "do_sample": is_sampled,
            "details": True,
            "return_full_text": False,
        }
        if is_sampled:  # any of these makes TGI draw; the likeliest token they leave as it is
            parameters |= {
                "seed": params.seed % (1 << 63),
                "temperature": params.temperature,
                "top_k": params.top_k,
                "top_p": _share(params.top_p),
                "typical_p": _share(params.typical_p),
            }
        parameters |= {
            "repetition_penalty": params.repetition_penalty,
            "frequency_penalty": params.frequency_penalty,
            "truncate": params.truncate,
            "adapter_id": params.adapter_id,
            "top_n_tokens": params.top_tokens or None,
        }
        if (grammar := params.grammar) is not None:
            is_json = grammar.kind is GrammarKind.JSON
            value = json.loads(grammar.value) if is_json else grammar.value
            parameters["grammar"] = {"type": "json" if is_json else "regex", "value": value}
        return {name: value for name, value in parameters.items() if value is not None}

    async def _written(self, prompt: Prompt) -> str:
        """The prompt as text: there is nothing else in this protocol that tells tokens. Raises
        `ServingError`."""
        if isinstance(prompt, str):
            return prompt
        if isinstance(prompt, Chat):
            templated = await self._told("chat_tokenize", _chat(list(prompt.messages)))
            if (text := _templated(templated)) is None:
                raise InvalidRequest("this upstream does not know how its model wants a chat written")
            return text
        if (marks := self._marks()) is None:
            raise InvalidRequest("the model of this upstream does not fill in the middle, as far as is known")
        return self._marked(prompt, marks)

    async def _told(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a short question; None where the server does not know it. Raises `ServingError`."""
        self._check_ready()
        try:
            status, answer = await self._ask(f"{self.url}/{path}", body)
        except TimeoutError as error:
            raise GenerationFailed(
                f"The upstream has not answered within {self._limits.connect:g} seconds."
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            self._doubted.set()
            raise Unhealthy(f"The upstream at {self._shown} broke the connection off.") from error
        if status in (404, 405, 501):
            return None
        if status != 200:
            raise self._refusal(status, {}, msgspec.json.encode(answer))
        return answer

    async def _look(self) -> EngineInfo:
        status, told = await self._ask(f"{self.url}/info")
        if status in (401, 403):
            return self._failed(KEY_REFUSED)
        if status == 503:
            return self._failed("is still loading", EngineState.LOADING)
        if status >= 500:
            return self._failed(f"answers {status}")
        if status != 200 or not is_tgi(told):
            return self._failed("does not speak TGI's protocol: it has no /info")
        if self._model not in (None, told["model_id"]):
            return self._failed(f"has no model {self._model!r}, but: {told['model_id']}")
        state = told.get("state", EngineState.READY)
        if state != EngineState.READY:  # one of ours, which tells what it is about
            is_loading = state in (EngineState.LOADING, EngineState.FETCHING)
            return self._failed(
                f"is not ready: {told.get('state_detail') or state}".rstrip("."),
                EngineState.LOADING if is_loading else EngineState.FAILED,
            )
        health, _ = await self._ask(f"{self.url}/health")
        if health >= 500:
            return self._failed("says that it is not healthy")
        _, templated = await self._ask(
            f"{self.url}/chat_tokenize", _chat([{"role": "user", "content": "Hello"}])
        )
        adapters = told.get("adapters")
        return EngineInfo(
            engine="tgi",
            state=EngineState.READY,
            model_id=str(told["model_id"]),
            context=_number(told.get("max_total_tokens")),
            parallel=_number(told.get("max_batch_size")),
            chats=_templated(templated) is not None,
            adapters=tuple(map(str, adapters)) if isinstance(adapters, list) else (),
            chat_template=_words(told.get("chat_template")),
            bos_token=_words(told.get("bos_token")),
            eos_token=_words(told.get("eos_token")),
            infilling=_infilling(told.get("infilling")),
        )

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> ServingError:
        words = message(body)
        if status in (401, 403):
            return GenerationFailed(f"The upstream {KEY_REFUSED}.")
        if status in (400, 413, 422):
            error_type = InvalidRequest.error_type
        elif status == 429:
            return Overloaded(words or "The upstream is overloaded.", retry_after=seconds_of(headers))
        else:
            error_type = {500: "incomplete_generation", 503: "unhealthy"}.get(status, "")
        return self._error(words or f"it has answered {status}.", error_type)

    def _error(self, words: str, error_type: str) -> ServingError:
        """What an error of TGI's is here, by the name of its type."""
        if error_type == InvalidRequest.error_type:
            return InvalidRequest(words.removeprefix(INVALID))
        if error_type == Overloaded.error_type:
            return Overloaded(words)
        words = f"The upstream failed: {words}"
        if error_type.startswith(IncompleteGeneration.error_type):  # or incomplete_generation_stream
            return IncompleteGeneration(words)
        if error_type == Unhealthy.error_type:
            self._doubted.set()
            return Unhealthy(words)
        return GenerationFailed(words)


def root(url: str) -> str:
    """The address at which the routes of this protocol begin."""
    return url.rstrip("/").removesuffix("/v1")


def says_openai(url: str) -> bool:
    """Whether an address itself says that OpenAI's protocol is meant."""
    return urlsplit(url).path.rstrip("/").endswith("/v1")


def is_tgi(info: Any) -> bool:
    """Whether what /info has answered is TGI's."""
    limits = ("max_total_tokens", "max_input_tokens", "max_input_length")
    return isinstance(info, dict) and "model_id" in info and any(limit in info for limit in limits)


def _chat(messages: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {"model": "tgi", "messages": messages}


def _templated(answer: Any) -> str | None:
    """The text of a chat. The token with which all texts begin is left out: it is put before them again."""
    try:
        told = msgspec.convert(answer, _Templated)
    except ValueError:
        return None
    text, spans = told.templated_text, told.tokenize_response
    if len(spans) > 1 and spans[0].id == spans[1].id and spans[0].stop == 0 < spans[1].stop:
        text = text[spans[1].stop :]
    return text


def _chunk(token: _Token, top: list[_Token], cut: CutText) -> Chunk:
    likely = tuple(TopToken(other.id, other.text, other.logprob or 0.0) for other in top)
    data, special = (b"", token.text or None) if token.special else (cut.of(token.text), None)
    return Chunk(data, token.id, logprob=token.logprob, special=special, top=likely)


def _share(share: float | None) -> float | None:
    """TGI has no word for all of it but silence."""
    return None if share is None or share >= 1 else share


def _number(told: Any) -> int | None:
    return told if isinstance(told, int) and told > 0 else None


def _words(told: Any) -> str | None:
    return told if isinstance(told, str) and told else None


def _infilling(told: Any) -> Infilling | None:
    try:
        return msgspec.convert(told, Infilling | None)
    except ValueError:
        return None
