"""OpenAI's protocol, which the serving layer speaks under `/v1`: models, completions and chat completions.

(Our client of such servers is `serving/engines/openai_client.py`.)
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from serving.engine import Accepted, EngineInfo, FinishReason, InvalidRequest, ServingError, TooLong
from serving.generation import Delta, Finished, GenerationRequest, GenerationResult, collect, run_together
from serving.protocols.openai_requests import OpenAIRequest, read_chat_request, read_completion_request
from serving.protocols.runner import (
    EventStream,
    RequestRunner,
    json_response,
    read_body,
    retry_headers,
    session_of,
)

# The serving layer's `error_type` of an error -> its status, type and code in this protocol.
_ERRORS: Mapping[str, tuple[int, str, str | None]] = {
    "validation": (400, "invalid_request_error", None),
    "overloaded": (429, "rate_limit_error", "rate_limit_exceeded"),
    "generation": (500, "server_error", "generation"),
    "incomplete_generation": (500, "server_error", "incomplete_generation"),
    "unhealthy": (503, "service_unavailable_error", "unhealthy"),
}

# Engines call parameters by TGI's names -> their names in this protocol.
_NAMES: Mapping[str, str] = {
    "inputs": "prompt",
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "truncate": "truncate_prompt_tokens",
    "grammar": "response_format",
    "adapter_id": "model",
    "top_n_tokens": "logprobs",
}


class OpenAIProtocol:
    end_of_stream = b"data: [DONE]\n\n"
    keyless_paths: Collection[str] = ()

    def __init__(self, runner: RequestRunner) -> None:
        self._runner = runner
        self._started = int(time.time())

    def routes(self) -> Sequence[Route]:
        return [
            Route("/models", self.models),
            Route("/models/{model:path}", self.model),
            Route("/completions", self.completions, methods=["POST"]),
            Route("/chat/completions", self.chat_completions, methods=["POST"]),
        ]

    async def models(self, request: Request) -> Response:
        return json_response({"object": "list", "data": self._models()})

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        for model in self._models():
            if model["id"] == name:
                return json_response(model)
        return self.http_error(404, f"There is no model {name!r} here.", code="model_not_found")

    def _models(self) -> list[dict[str, Any]]:
        """The model and its adapters. Empty while the engine does not know its model."""
        info = self._runner.engine.info
        if info.model_id is None:
            return []
        common = {"object": "model", "created": self._started, "owned_by": "tech-assistant"}
        known = {"max_model_len": info.context}
        return [
            {"id": info.model_id, **common, **known},
            *({"id": adapter, **common, "parent": info.model_id, **known} for adapter in info.adapters),
        ]

    async def completions(self, request: Request) -> ASGIApp:
        return await self._answer(request, read_completion_request)

    async def chat_completions(self, request: Request) -> ASGIApp:
        return await self._answer(request, read_chat_request)

    def serving_error(self, error: ServingError) -> Response:
        status = _ERRORS[error.error_type][0] if error.error_type in _ERRORS else error.status
        body = self.error_event(error, error.error_type)
        if isinstance(error, TooLong):
            body["error"]["code"] = "context_length_exceeded"
        return json_response(body, status, retry_headers(error))

    def http_error(
        self, status: int, message: str, headers: Mapping[str, str] | None = None, *, code: str | None = None
    ) -> Response:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        code = "invalid_api_key" if status == 401 else code
        return json_response(_error(message, kind, None, code), status, headers)

    def error_event(self, error: ServingError, error_type: str) -> _Error:
        _, kind, code = _ERRORS.get(error_type, (500, "server_error", error_type))
        message, param = str(error), None
        if error_type == InvalidRequest.error_type:
            message, param = _in_openai_names(message)
        return _error(message, kind, param, code)

    async def _answer(
        self, request: Request, read: Callable[[bytes, EngineInfo, str | None], OpenAIRequest]
    ) -> ASGIApp:
        self._runner.metrics.requests += 1
        parsed = read(await read_body(request), self._runner.engine.info, session_of(request))
        writer = _AnswerWriter(parsed)
        if parsed.stream:
            return self._runner.stream(functools.partial(self._write, parsed, writer), self)
        if parsed.best_of > 1:
            results = await self._runner.best_of(parsed.generations[0], parsed.best_of, request.receive)
        else:
            work = run_together(
                collect(self._events(parsed, generation), seed=generation.params.seed)
                for generation in parsed.generations
            )
            results = await self._runner.admission.run(work, request.receive)
        choices = [writer.choice(index, results[index]) for index in range(len(parsed.generations))]
        usage = _usage([result.end for result in results], parsed)
        return json_response(writer.response(choices, usage))

    async def _write(self, parsed: OpenAIRequest, writer: _AnswerWriter, stream: EventStream) -> None:
        ends = await run_together(
            self._write_choice(index, generation, parsed, writer, stream)
            for index, generation in enumerate(parsed.generations)
        )
        if parsed.include_usage:
            await stream.write_event(writer.event([], _usage(ends, parsed)))

    async def _write_choice(
        self,
        index: int,
        generation: GenerationRequest,
        parsed: OpenAIRequest,
        writer: _AnswerWriter,
        stream: EventStream,
    ) -> Finished:
        offset = 0
        async with contextlib.aclosing(self._events(parsed, generation)) as events:
            async for event in events:
                if isinstance(event, Accepted):
                    await stream.begin()
                    if (first := writer.first_delta(index)) is not None:
                        await stream.write_event(writer.event([first]))
                    continue
                if event.token.text or (parsed.top_logprobs is not None and _is_text_token(event)):
                    await stream.write_event(writer.event([writer.text_delta(index, event, offset)]))
                    offset += len(event.token.text)
                if isinstance(event, Finished):
                    await stream.write_event(writer.event([writer.last_delta(index, event)]))
                    return event
        raise AssertionError("a generation has neither ended nor failed")

    async def _events(
        self, parsed: OpenAIRequest, generation: GenerationRequest
    ) -> AsyncGenerator[Accepted | Delta]:
        """Raises `InvalidRequest` if the client wants probabilities and the engine reports none."""
        at_start, has_logprobs = parsed.is_dialogue, False
        async with contextlib.aclosing(self._runner.events(generation)) as events:
            async for event in events:
                if not isinstance(event, Accepted):
                    # If a token limit cuts a character, no engine need report the last probabilities.
                    has_logprobs = has_logprobs or event.token.logprob is not None
                    if parsed.top_logprobs is not None and _is_text_token(event) and not has_logprobs:
                        raise InvalidRequest("`logprobs` is not supported by this engine: it reports none")
                    if at_start and event.token.text:
                        event.token.text, at_start = event.token.text.removeprefix(" "), False
                yield event


class _AnswerWriter:
    """Builds the JSON objects of one answer: the whole response, or the events of a stream."""

    def __init__(self, parsed: OpenAIRequest) -> None:
        self._request = parsed
        self._empty_usage = {"usage": None} if parsed.stream and parsed.include_usage else {}
        suffix = ".chunk" if parsed.stream else ""
        self._head = {
            "id": ("chatcmpl-" if parsed.is_chat else "cmpl-") + secrets.token_hex(12),
            "object": f"chat.completion{suffix}" if parsed.is_chat else "text_completion",
            "created": int(time.time()),
            "model": parsed.model,
        }

    def response(self, choices: Sequence[object], usage: object) -> object:
        return {**self._head, "choices": choices, "usage": usage}

    def event(self, choices: Sequence[object], usage: object = None) -> object:
        return {**self._head, "choices": choices, **self._empty_usage, **({"usage": usage} if usage else {})}

    def choice(self, index: int, result: GenerationResult) -> object:
        logprobs = self._logprobs(result.deltas, 0)
        if self._request.is_chat:
            message = {"role": "assistant", "content": result.text, "refusal": None}
            return {"index": index, "message": message, "logprobs": logprobs, **self._end(result.end)}
        text = (self._request.echo[index] if self._request.echo else "") + result.text
        return {"index": index, "text": text, "logprobs": logprobs, **self._end(result.end)}

    def first_delta(self, index: int) -> object | None:
        """What a stream sends of a choice before its text, if anything."""
        if self._request.is_chat:
            return self._delta(index, {"role": "assistant", "content": ""})
        return self._delta(index, self._request.echo[index]) if self._request.echo else None

    def text_delta(self, index: int, delta: Delta, offset: int) -> object:
        value = {"content": delta.token.text} if self._request.is_chat else delta.token.text
        return self._delta(index, value, self._logprobs([delta], offset))

    def last_delta(self, index: int, end: Finished) -> object:
        return {**self._delta(index, {} if self._request.is_chat else ""), **self._end(end)}

    def _delta(self, index: int, value: object, logprobs: object = None) -> dict[str, object]:
        name = "delta" if self._request.is_chat else "text"
        return {"index": index, name: value, "logprobs": logprobs, "finish_reason": None}

    def _end(self, end: Finished) -> dict[str, object]:
        return {
            "finish_reason": "length" if end.finish_reason is FinishReason.LENGTH else "stop",
            # An addition to the protocol that vLLM has too: the stop sequence that ended the text.
            "stop_reason": end.stop if end.stop in self._request.stops else None,
        }

    def _logprobs(self, deltas: Sequence[Delta], offset: int) -> object | None:
        """Each token has the text that became safe to show with it. Together, these texts are the answer."""
        count = self._request.top_logprobs
        reported = [delta for delta in deltas if _is_text_token(delta)]
        if count is None or not reported:
            return None
        if self._request.is_chat:
            return {
                "content": [
                    {
                        **_chat_token(delta.token.text, delta.token.logprob),
                        "top_logprobs": [_chat_token(top.text, top.logprob) for top in delta.top[:count]],
                    }
                    for delta in reported
                ],
                "refusal": None,
            }
        texts = [delta.token.text for delta in reported]
        return {
            "tokens": texts,
            "token_logprobs": [delta.token.logprob for delta in reported],
            "top_logprobs": [{top.text: top.logprob for top in delta.top[:count]} for delta in reported]
            if count
            else None,
            "text_offset": list(itertools.accumulate(map(len, texts[:-1]), initial=offset)),
        }


_Error = dict[str, dict[str, str | None]]


def _error(message: str, kind: str, param: str | None, code: str | None) -> _Error:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _in_openai_names(message: str) -> tuple[str, str | None]:
    """An error message with the names of this protocol, and the parameter that it is about, if any."""
    message = re.sub(r"`(\w+)`", lambda name: f"`{_NAMES.get(name[1], name[1])}`", message)
    param = re.search(r"at `\$\.([^`]+)`", message) or re.search(r"^(?:Object .*)?`(\w[\w.\[\]]*)`", message)
    return message, param[1] if param else None


def _usage(ends: Sequence[Finished], parsed: OpenAIRequest) -> object:
    """Each prompt counts once. None if the engine does not report the length of the prompts."""
    completion, prompt = sum(end.generated_tokens for end in ends), 0
    for end in ends[:: len(ends) // parsed.prompt_count]:
        if end.input_tokens is None:
            return None
        prompt += end.input_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _is_text_token(delta: Delta) -> bool:
    """Whether a token belongs to the text. Special tokens and the bare end of the text do not, nor does a
    token with neither a text nor a probability."""
    token = delta.token
    return delta.token_count > 0 and not token.special and (token.text != "" or token.logprob is not None)


def _chat_token(text: str, logprob: float | None) -> dict[str, object]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
