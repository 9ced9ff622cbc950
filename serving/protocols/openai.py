"""OpenAI's protocol over HTTP: `/v1/models`, `/v1/completions`, `/v1/chat/completions`.

Knows the shapes of its bodies and events, and one plain way to write a chat for a model that was never taught
one; refuses to know engines and how any other model wants a chat written. What the protocol has and no engine
here can do is refused, never silently left out; names that it does not have are ignored, as clients send
such to every server alike.

Every model name is accepted, because one model is served and clients name their own; the name of an adapter
of that model takes the adapter.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.engine import (
    Accepted,
    Chat,
    EngineInfo,
    FinishReason,
    Grammar,
    Infill,
    InvalidRequest,
    Prompt,
    SamplingParams,
    ServingError,
    TooLong,
)
from serving.generation import Asked, Finished, Shown, Whole, together, whole
from serving.protocols.answering import (
    Answering,
    EventStream,
    json_response,
    read_body,
    retry_headers,
    session_of,
)
from serving.protocols.tgi_requests import MOST_BEST_OF, json_grammar, new_seed, read_stops

DEFAULT_COMPLETION_TOKENS = 16  # the protocol's
MOST_CHOICES = 16  # of one request: prompts times `n`
MOST_LIKELY = 5  # alternatives to a token of a completion
MOST_LIKELY_OF_CHATS = 20
DONE = b"data: [DONE]\n\n"

# What the protocol has, or the servers that speak it, and no engine here can do: each with the values that
# ask for nothing. Nothing at all, `false`, zero and what is empty always do.
_UNSUPPORTED: Mapping[str, Sequence[object]] = {
    "tools": (),
    "tool_choice": ("none", "auto"),
    "functions": (),
    "function_call": ("none", "auto"),
    "logit_bias": (),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": ("none",),
    "min_p": (),
    "ignore_eos": (),
    "stop_token_ids": (),
    "bad_words": (),
    "allowed_token_ids": (),
    "use_beam_search": (),
    "length_penalty": (1,),
    "prompt_logprobs": (),
    "return_tokens_as_token_ids": (),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "add_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "continue_final_message": (),
    "chat_template": (),
    "chat_template_kwargs": (),
    "documents": (),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
}

# The same of what completions have and chats do not.
_UNSUPPORTED_IN_CHATS: Mapping[str, Sequence[object]] = {
    "prompt": (),
    "suffix": (),
    "echo": (),
    "best_of": (1,),
}

# By what the rest of the serving layer calls an error: its status, type and code here.
_ERRORS: Mapping[str, tuple[int, str, str | None]] = {
    "validation": (400, "invalid_request_error", None),
    "overloaded": (429, "rate_limit_error", "rate_limit_exceeded"),
    "generation": (500, "server_error", "generation"),
    "incomplete_generation": (500, "server_error", "incomplete_generation"),
    "unhealthy": (503, "service_unavailable_error", "unhealthy"),
}

# Engines speak of what is asked for by TGI's names.
_NAMES: Mapping[str, str] = {
    "inputs": "prompt",
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "truncate": "truncate_prompt_tokens",
    "grammar": "response_format",
    "adapter_id": "model",
    "top_n_tokens": "logprobs",
}


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = False


class _Format(msgspec.Struct):
    type: str
    json_schema: Any = None


_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class _Body(msgspec.Struct, kw_only=True):
    """What both kinds of request have. Clients send much of it as null."""

    model: str | None = None
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = 1
    stop: str | list[str] | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    response_format: _Format | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    # Beyond the protocol, as vLLM has them:
    top_k: int | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    include_stop_str_in_output: bool | None = False
    truncate_prompt_tokens: int | None = None


class _CompletionBody(_Body, kw_only=True):
    prompt: Any = None
    suffix: str | None = None
    echo: bool | None = False
    best_of: int | None = None
    logprobs: int | bool | None = None


class _Message(msgspec.Struct):
    role: str
    content: Any = None
    name: str | None = None
    tool_calls: Any = None
    function_call: Any = None


class _ChatBody(_Body, kw_only=True):
    messages: list[_Message]
    logprobs: bool | None = False
    top_logprobs: int | None = None


B = TypeVar("B", bound=_Body)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is asked for, and how the answer is to be written."""

    is_chat: bool
    asked: Sequence[Asked]
    """One for each choice: those of a prompt follow each other."""
    prompts: int
    stops: Sequence[str]
    """What ended a text is told only where the client has asked for it."""
    stream: bool
    include_usage: bool
    likely: int | None
    """How many alternatives to each token are told; None tells no probabilities at all."""
    best_of: int = 1
    echo: Sequence[str] = ()
    """What comes before the text of each choice."""
    is_dialogue: bool = False
    """The chat was written out here: the blank after its last label belongs to no answer."""


class OpenAIProtocol:
    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._started = int(time.time())

    def routes(self) -> list[Route]:
        return [
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat_completions, methods=["POST"]),
        ]

    async def models(self, request: Request) -> Response:
        return json_response({"object": "list", "data": self._models()})

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        for model in self._models():
            if model["id"] == name:
                return json_response(model)
        return error_response(404, f"There is no model {name!r} here.", code="model_not_found")

    def _models(self) -> list[dict[str, Any]]:
        """The model, and what it has of adapters. None while it is not known which it will be."""
        info = self._answering.engine.info
        if info.model_id is None:
            return []
        common = {"object": "model", "created": self._started, "owned_by": "tech-assistant"}
        known = {"max_model_len": info.context}
        return [
            {"id": info.model_id, **common, **known},
            *({"id": adapter, **common, "parent": info.model_id, **known} for adapter in info.adapters),
        ]

    async def completions(self, request: Request) -> ASGIApp:
        body = _read(await self._received(request), _CompletionBody, _UNSUPPORTED)
        return await self._answer(
            _completion_wanted(body, self._answering.engine.info, _session(request, body)), body, request
        )

    async def chat_completions(self, request: Request) -> ASGIApp:
        unsupported = {**_UNSUPPORTED, **_UNSUPPORTED_IN_CHATS}
        body = _read(await self._received(request), _ChatBody, unsupported)
        return await self._answer(
            _chat_wanted(body, self._answering.engine.info, _session(request, body)), body, request
        )

    async def _received(self, request: Request) -> bytes:
        self._answering.metrics.requests += 1
        return await read_body(request)

    async def _answer(self, wanted: _Wanted, body: _Body, request: Request) -> ASGIApp:
        model = _adapter(body, self._answering.engine.info) or self._answering.engine.info.model_id
        paper = _Paper(wanted, model or body.model or "")
        if wanted.stream:
            return functools.partial(self._stream, wanted, paper)
        if wanted.best_of > 1:
            answers = await self._answering.best_of(wanted.asked[0], wanted.best_of, request.receive)
        else:
            answers = await self._answering.run(self._whole(wanted), request.receive)
        choices = [paper.choice(index, answers[index]) for index in range(len(wanted.asked))]
        usage = _usage([answer.end for answer in answers], wanted)
        return json_response(paper.whole(choices, usage))

    async def _whole(self, wanted: _Wanted) -> list[Whole]:
        return await together([whole(self._events(wanted, a), seed=a.params.seed) for a in wanted.asked])

    async def _stream(
        self, wanted: _Wanted, paper: _Paper, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """An ASGI app that answers one request with an event stream."""
        await self._answering.stream(
            functools.partial(self._write, wanted, paper),
            *(scope, receive, send),
            refuse=refusal,
            broken=broken,
            last=DONE,
        )

    async def _write(self, wanted: _Wanted, paper: _Paper, stream: EventStream) -> None:
        works = [
            self._write_choice(index, asked, wanted, paper, stream)
            for index, asked in enumerate(wanted.asked)
        ]
        ends = await together(works)
        if wanted.include_usage:
            await stream.write_event(paper.event([], _usage(ends, wanted)))

    async def _write_choice(
        self, index: int, asked: Asked, wanted: _Wanted, paper: _Paper, stream: EventStream
    ) -> Finished:
        offset = 0
        async with contextlib.aclosing(self._events(wanted, asked)) as events:
            async for event in events:
                if isinstance(event, Accepted):
                    await stream.begin()
                    if (beginning := paper.beginning(index)) is not None:
                        await stream.write_event(paper.event([beginning]))
                    continue
                shown = event.last if isinstance(event, Finished) else event
                if shown.token.text or (wanted.likely is not None and _is_told(shown)):
                    await stream.write_event(paper.event([paper.piece(index, shown, offset)]))
                    offset += len(shown.token.text)
                if isinstance(event, Finished):
                    await stream.write_event(paper.event([paper.ending(index, event)]))
                    return event
        raise AssertionError("a generation has neither ended nor failed")

    async def _events(self, wanted: _Wanted, asked: Asked) -> AsyncGenerator[Accepted | Shown | Finished]:
        """Raises `InvalidRequest` where probabilities are asked for and the engine tells none."""
        fresh, tells = wanted.is_dialogue, False
        async with contextlib.aclosing(self._answering.events(asked)) as events:
            async for event in events:
                if not isinstance(event, Accepted):
                    shown = event.last if isinstance(event, Finished) else event
                    # At a limit inside a character an engine that tells them may not tell the last ones.
                    tells = tells or shown.token.logprob is not None
                    if wanted.likely is not None and _is_told(shown) and not tells:
                        raise InvalidRequest("`logprobs` is not supported by this engine: it tells none")
                    if fresh and shown.token.text:
                        shown.token.text, fresh = shown.token.text.removeprefix(" "), False
                yield event


class _Paper:
    """What one answer is written on."""

    def __init__(self, wanted: _Wanted, model: str) -> None:
        self._wanted = wanted
        self._of_stream = {"usage": None} if wanted.stream and wanted.include_usage else {}
        kind = ".chunk" if wanted.stream else ""
        self._head = {
            "id": ("chatcmpl-" if wanted.is_chat else "cmpl-") + secrets.token_hex(12),
            "object": f"chat.completion{kind}" if wanted.is_chat else "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, choices: Sequence[object], usage: object) -> object:
        return {**self._head, "choices": choices, "usage": usage}

    def event(self, choices: Sequence[object], usage: object = None) -> object:
        return {**self._head, "choices": choices, **self._of_stream, **({"usage": usage} if usage else {})}

    def choice(self, index: int, answer: Whole) -> object:
        logprobs = self._logprobs(answer.tokens, 0)
        if self._wanted.is_chat:
            message = {"role": "assistant", "content": answer.text, "refusal": None}
            return {"index": index, "message": message, "logprobs": logprobs, **self._end(answer.end)}
        text = answer.text
        if self._wanted.echo:
            text = self._wanted.echo[index] + text
        return {"index": index, "text": text, "logprobs": logprobs, **self._end(answer.end)}

    def beginning(self, index: int) -> object | None:
        """What a stream tells of a choice before any of its text, if anything."""
        if self._wanted.is_chat:
            return self._delta(index, {"role": "assistant", "content": ""})
        return self._delta(index, self._wanted.echo[index]) if self._wanted.echo else None

    def piece(self, index: int, shown: Shown, offset: int) -> object:
        text = shown.token.text
        delta = {"content": text} if self._wanted.is_chat else text
        return self._delta(index, delta, self._logprobs([shown], offset))

    def ending(self, index: int, end: Finished) -> object:
        return {**self._delta(index, {} if self._wanted.is_chat else ""), **self._end(end)}

    def _delta(self, index: int, delta: object, logprobs: object = None) -> dict[str, object]:
        name = "delta" if self._wanted.is_chat else "text"
        return {"index": index, name: delta, "logprobs": logprobs, "finish_reason": None}

    def _end(self, end: Finished) -> dict[str, object]:
        return {
            "finish_reason": "length" if end.finish_reason is FinishReason.LENGTH else "stop",
            # Beyond the protocol, as vLLM has it: which of the stop sequences ended the text.
            "stop_reason": end.stop if end.stop in self._wanted.stops else None,
        }

    def _logprobs(self, tokens: Sequence[Shown], offset: int) -> object | None:
        """Texts of tokens are what has become safe to show with each: together they are the whole text."""
        likely = self._wanted.likely
        told = [shown for shown in tokens if _is_told(shown)]
        if likely is None or not told:
            return None
        if self._wanted.is_chat:
            return {
                "content": [
                    {
                        **_chat_token(shown.token.text, shown.token.logprob),
                        "top_logprobs": [_chat_token(top.text, top.logprob) for top in shown.top[:likely]],
                    }
                    for shown in told
                ],
                "refusal": None,
            }
        offsets = []
        for shown in told:
            offsets.append(offset)
            offset += len(shown.token.text)
        return {
            "tokens": [shown.token.text for shown in told],
            "token_logprobs": [shown.token.logprob for shown in told],
            "top_logprobs": [{top.text: top.logprob for top in shown.top[:likely]} for shown in told]
            if likely
            else None,
            "text_offset": offsets,
        }


def is_meant(scope: Scope) -> bool:
    """Whether a request is to be answered by this protocol, errors included."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).startswith("/v1/")


def refusal(error: ServingError) -> Response:
    status = _ERRORS[error.error_type][0] if error.error_type in _ERRORS else error.status
    told = broken(str(error), error.error_type)
    if isinstance(error, TooLong):
        told["error"]["code"] = "context_length_exceeded"
    return json_response(told, status, retry_headers(error))


def broken(words: str, error_type: str) -> _Error:
    """An error as it is written, by the name that it has in the rest of the serving layer."""
    _, kind, code = _ERRORS.get(error_type, (500, "server_error", error_type))
    words, param = _in_our_names(words) if error_type == InvalidRequest.error_type else (words, None)
    return _error(words, kind, param, code)


def error_response(
    status: int, words: str, headers: Mapping[str, str] | None = None, *, code: str | None = None
) -> Response:
    """An error of HTTP itself."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return json_response(_error(words, kind, None, code), status, dict(headers or {}))


def http_error(error: HTTPException) -> Response:
    return error_response(error.status_code, error.detail, error.headers)


_Error = dict[str, dict[str, str | None]]


def _error(words: str, kind: str, param: str | None, code: str | None) -> _Error:
    return {"error": {"message": words, "type": kind, "param": param, "code": code}}


def _in_our_names(words: str) -> tuple[str, str | None]:
    """What is wrong with a request, and which of its fields that is about, if it says so."""
    words = words.removeprefix("Input validation error: ")
    words = re.sub(r"`(\w+)`", lambda name: f"`{_NAMES.get(name[1], name[1])}`", words)
    about = re.search(r"at `\$\.([^`]+)`", words) or re.search(r"^(?:Object .*)?`(\w[\w.\[\]]*)`", words)
    return words, about[1] if about else None


def _read(body: bytes, kind: type[B], unsupported: Mapping[str, Sequence[object]]) -> B:
    """Raises `InvalidRequest`."""
    try:
        fields = _decode_object(body)
        for name, neutral in unsupported.items():
            value = fields.get(name)
            if value and value not in neutral:
                raise InvalidRequest(f"`{name}` is not supported here")
        return msgspec.convert(fields, kind)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(str(error)) from None


def _completion_wanted(body: _CompletionBody, info: EngineInfo, session: str | None) -> _Wanted:
    """Raises `InvalidRequest`."""
    texts = _texts(body.prompt)
    n = 1 if body.n is None else body.n
    best_of = n if body.best_of is None else body.best_of
    likely = None if body.logprobs is False else body.logprobs
    stream = bool(body.stream)
    _check_choices(n, len(texts))
    _check(
        ("`prompt` cannot be empty", not body.suffix and not all(texts)),
        ("`logprobs` is a number for completions", likely is True),
        (
            f"`logprobs` must be >= 0 and <= {MOST_LIKELY}",
            likely is not None and not 0 <= likely <= MOST_LIKELY,
        ),
        (
            "`echo` is not supported together with `logprobs`: no engine here tells those of the prompt",
            bool(body.echo) and likely is not None,
        ),
        (f"`best_of` must be >= `n` and <= {MOST_BEST_OF}", best_of != n and not n < best_of <= MOST_BEST_OF),
        ("`best_of` > `n` is not supported when streaming", best_of > n and stream),
        ("`best_of` > `n` is not supported for several prompts", best_of > n and len(texts) > 1),
    )
    limit = _limit(body)
    params = _sampling(body, DEFAULT_COMPLETION_TOKENS if limit is None else limit, likely, info)
    prompts: list[Prompt] = [Infill(text, body.suffix) if body.suffix else text for text in texts]
    stops = _stops(body)
    return _Wanted(
        is_chat=False,
        asked=[
            Asked(
                prompt,
                replace(params, seed=params.seed + number),
                stops,
                bool(body.include_stop_str_in_output),
                session=session,
            )
            for prompt in prompts
            for number in range(n)
        ],
        prompts=len(texts),
        stops=stops,
        stream=stream,
        include_usage=_include_usage(body),
        likely=likely,
        best_of=best_of if best_of > n else 1,
        echo=[text for text in texts for _ in range(n)] if body.echo else (),
    )


def _chat_wanted(body: _ChatBody, info: EngineInfo, session: str | None) -> _Wanted:
    """Raises `InvalidRequest`."""
    turns = [_turn(message, f"messages[{place}]") for place, message in enumerate(body.messages)]
    n = 1 if body.n is None else body.n
    alternatives = body.top_logprobs or 0
    _check_choices(n, 1)
    _check(
        ("`messages` cannot be empty", not turns),
        ("`top_logprobs` needs `logprobs`", alternatives > 0 and not body.logprobs),
        (
            f"`top_logprobs` must be >= 0 and <= {MOST_LIKELY_OF_CHATS}",
            not 0 <= alternatives <= MOST_LIKELY_OF_CHATS,
        ),
        (
            "`include_stop_str_in_output` is not supported in chats with this model: it has no template, and "
            "its answers end by a label that is none of yours",
            bool(body.include_stop_str_in_output) and not info.chats,
        ),
    )
    likely = alternatives if body.logprobs else None
    params = _sampling(body, _limit(body), likely, info)
    stops = _stops(body)
    prompt: Prompt = Chat(turns) if info.chats else _dialogue(turns, info)
    return _Wanted(
        is_chat=True,
        asked=[
            Asked(
                prompt,
                replace(params, seed=params.seed + number),
                stops if info.chats else (*stops, *DIALOGUE_STOPS),
                bool(body.include_stop_str_in_output),
                session=session,
            )
            for number in range(n)
        ],
        prompts=1,
        stops=stops,
        stream=bool(body.stream),
        include_usage=_include_usage(body),
        likely=likely,
        is_dialogue=not info.chats,
    )


def _sampling(body: _Body, limit: int | None, likely: int | None, info: EngineInfo) -> SamplingParams:
    """Raises `InvalidRequest`."""
    at_least = body.min_tokens or 0
    _check(
        ("`max_tokens` must be strictly positive", limit is not None and limit < 1),
        ("`temperature` must be >= 0.0 and <= 2.0", not 0 <= (body.temperature or 0) <= 2),
        ("`top_p` must be > 0.0 and <= 1.0", body.top_p is not None and not 0 < body.top_p <= 1),
        ("`typical_p` must be > 0.0 and <= 1.0", body.typical_p is not None and not 0 < body.typical_p <= 1),
        ("`top_k` must be >= -1", (body.top_k or 0) < -1),
        ("`frequency_penalty` must be >= -2.0 and <= 2.0", not -2 <= (body.frequency_penalty or 0) <= 2),
        ("`presence_penalty` must be >= -2.0 and <= 2.0", not -2 <= (body.presence_penalty or 0) <= 2),
        (
            "`repetition_penalty` must be strictly positive",
            body.repetition_penalty is not None and body.repetition_penalty <= 0,
        ),
        ("`min_tokens` must be >= 0 and <= `max_tokens`", not 0 <= at_least <= (limit or at_least)),
        (
            "`truncate_prompt_tokens` must be strictly positive",
            body.truncate_prompt_tokens is not None and body.truncate_prompt_tokens < 1,
        ),
    )
    return SamplingParams(
        max_new_tokens=limit,
        seed=new_seed() if body.seed is None else body.seed % (1 << 63),
        temperature=1.0 if body.temperature is None else body.temperature,
        # What takes every token is no step at all.
        top_k=body.top_k if body.top_k and body.top_k > 0 else None,
        top_p=None if body.top_p == 1 else body.top_p,
        typical_p=None if body.typical_p == 1 else body.typical_p,
        repetition_penalty=None if body.repetition_penalty == 1 else body.repetition_penalty,
        frequency_penalty=body.frequency_penalty or None,
        presence_penalty=body.presence_penalty or None,
        min_new_tokens=at_least,
        truncate=body.truncate_prompt_tokens,
        grammar=_grammar(body.response_format),
        adapter_id=_adapter(body, info),
        logprobs=likely is not None,
        # Some upstreams tell the probability of a token only along with those of others.
        top_tokens=0 if likely is None else max(1, likely),
    )


def _limit(body: _Body) -> int | None:
    return body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens


def _grammar(form: _Format | None) -> Grammar | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return json_grammar({"type": "object"})
    if form.type == "json_schema":
        given = form.json_schema
        return json_grammar(given.get("schema") if isinstance(given, dict) else None)
    raise InvalidRequest("`response_format` must be of type text, json_object or json_schema")


def _texts(prompt: Any) -> list[str]:
    """The prompts as texts. Raises `InvalidRequest`."""
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise InvalidRequest("`prompt` must be a text, or a list of one or several texts")
    if not all(isinstance(text, str) for text in prompt):
        raise InvalidRequest("`prompt` must be text: token ids are not supported here")
    return list(prompt)


def _stops(body: _Body) -> tuple[str, ...]:
    return read_stops([body.stop] if isinstance(body.stop, str) else body.stop or [])


def _adapter(body: _Body, info: EngineInfo) -> str | None:
    return body.model if body.model in info.adapters else None


def _include_usage(body: _Body) -> bool:
    return body.stream_options is not None and bool(body.stream_options.include_usage)


def _session(request: Request, body: _Body) -> str | None:
    """By the header, else by what the body tells: only a hash of that, since it may name a person, and goes
    on to upstreams."""
    told = body.prompt_cache_key or body.user
    return session_of(request) or (
        hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:32] if told else None
    )


def _turn(message: _Message, place: str) -> dict[str, str]:
    """A message as templates expect it. Raises `InvalidRequest`."""
    role = {"developer": "system"}.get(message.role, message.role)
    if role not in ("system", "user", "assistant"):
        raise InvalidRequest(f"`{place}.role` {message.role!r} is not supported here")
    if message.tool_calls or message.function_call:
        raise InvalidRequest(f"`{place}.tool_calls` is not supported here")
    turn = {"role": role, "content": _content(message.content, f"{place}.content")}
    return turn if message.name is None else {**turn, "name": message.name}


def _content(content: Any, place: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"`{place}` must be a text, or a list of parts of type text")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise InvalidRequest(f"`{place}` may only have parts of type text here. Given: {kind}")
        texts.append(part["text"])
    return "".join(texts)


def _dialogue(turns: Sequence[Mapping[str, str]], info: EngineInfo) -> str:
    """A chat as plain text, for a model that only goes on with texts: what comes next is the answer."""
    known = info.infilling
    infilling = (known.prefix, known.suffix, known.middle) if known else ()
    marks = [re.escape(mark) for mark in (info.bos_token, info.eos_token, *infilling) if mark]
    special = re.compile("|".join(marks) or "(?!)")

    def harmless(text: str) -> str:
        # A blank breaks a label or a mark, and changes hardly anything for who reads it.
        text = special.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)
        return _LABEL.sub(r"\1 :", text).strip()

    system = [harmless(turn["content"]) for turn in turns if turn["role"] == "system"]
    said = [
        f"{_LABELS[turn['role']]}: {harmless(turn['content'])}" for turn in turns if turn["role"] != "system"
    ]
    return "\n\n".join([*system, *said, "Assistant:"])


_LABELS = {"user": "Human", "assistant": "Assistant"}
_LABEL = re.compile(r"^([^\S\n]*(?:Human|Assistant)):", re.MULTILINE)
DIALOGUE_STOPS = tuple(f"\n{label}:" for label in _LABELS.values())


def _usage(ends: Sequence[Finished], wanted: _Wanted) -> object:
    """Each prompt counts once. None where the engine does not tell how long the prompts are."""
    made = sum(end.generated_tokens for end in ends)
    each = len(ends) // wanted.prompts
    given = [end.input_tokens for end in ends[::each]]
    known = [tokens for tokens in given if tokens is not None]
    if len(known) < len(given):
        return None
    return {"prompt_tokens": sum(known), "completion_tokens": made, "total_tokens": sum(known) + made}


def _is_told(shown: Shown) -> bool:
    """Whether it is a token of the text: marks of the model and the bare end of it are not, nor is what
    has neither a text nor a probability."""
    token = shown.token
    return shown.tokens > 0 and not token.special and (token.text != "" or token.logprob is not None)


def _chat_token(text: str, logprob: float | None) -> dict[str, object]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _check_choices(n: int, prompts: int) -> None:
    if not 1 <= n <= MOST_CHOICES // prompts:
        raise InvalidRequest(f"`n` times the number of prompts must be >= 1 and <= {MOST_CHOICES}")


def _check(*problems: tuple[str, bool]) -> None:
    for problem, is_there in problems:
        if is_there:
            raise InvalidRequest(problem)
