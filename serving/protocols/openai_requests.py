"""Read and check the bodies of OpenAI's protocol.

A parameter that no engine here supports is refused, never silently ignored. Parameters that the protocol does
not have are ignored: clients send them to every server. This module also writes a chat as plain text for a
model that has no chat template.

Every model name is accepted: one model is served, and clients send names of their own. The name of an adapter
selects that adapter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from serving.engine import Chat, EngineInfo, Grammar, Infill, InvalidRequest, Prompt, SamplingParams
from serving.generation import GenerationRequest
from serving.protocols.validation import (
    MOST_BEST_OF,
    checked_stops,
    decoded,
    is_positive,
    is_share,
    json_grammar,
    new_seed,
    raise_first_problem,
)

DEFAULT_COMPLETION_TOKENS = 16  # the protocol's default
MOST_CHOICES = 16  # of one request: the number of prompts times `n`
MOST_TOP_LOGPROBS = 5  # of a completion
MOST_TOP_LOGPROBS_OF_CHATS = 20

_LABELS = {"user": "Human", "assistant": "Assistant"}
_LABEL = re.compile(r"^([^\S\n]*(?:Human|Assistant)):", re.MULTILINE)
DIALOGUE_STOPS = tuple(f"\n{label}:" for label in _LABELS.values())
"""The stop sequences of a chat that is written as plain text."""

# Parameters of the protocol, or of well-known servers that speak it, which no engine here supports. Each has
# the values that ask for nothing and are therefore accepted, as are `null`, `false`, zero and empty values.
_UNSUPPORTED: Mapping[str, Sequence[object]] = {
    **dict.fromkeys(("tools", "functions", "logit_bias", "audio", "prediction", "web_search_options"), ()),
    **dict.fromkeys(("min_p", "ignore_eos", "stop_token_ids", "bad_words", "allowed_token_ids"), ()),
    **dict.fromkeys(("use_beam_search", "prompt_logprobs", "return_tokens_as_token_ids"), ()),
    **dict.fromkeys(("continue_final_message", "chat_template", "chat_template_kwargs", "documents"), ()),
    **dict.fromkeys(
        ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"), ()
    ),
    **dict.fromkeys(("tool_choice", "function_call"), ("none", "auto")),
    **dict.fromkeys(("skip_special_tokens", "spaces_between_special_tokens"), (True,)),
    **dict.fromkeys(("add_special_tokens", "add_generation_prompt"), (True,)),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "length_penalty": (1,),
}
# The same for parameters that completions have and chats do not.
_UNSUPPORTED_IN_CHATS = {**_UNSUPPORTED, "prompt": (), "suffix": (), "echo": (), "best_of": (1,)}


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = False


class _ResponseFormat(msgspec.Struct):
    type: str
    json_schema: Any = None


class _Body(msgspec.Struct, kw_only=True):
    """The fields of both kinds of request. Clients send many of them as null."""

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
    response_format: _ResponseFormat | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    # Additions to the protocol that vLLM has too:
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
class OpenAIRequest:
    """A checked request: what to generate, and how to write the answer."""

    generations: Sequence[GenerationRequest]
    """One for each choice. The choices of one prompt follow each other."""
    model: str  # the model's name as the answer reports it
    prompt_count: int
    stops: Sequence[str]  # the client's own stop sequences. The answer reports no others.
    stream: bool
    include_usage: bool
    top_logprobs: int | None
    """How many alternatives to each token the answer lists; None: no probabilities at all."""
    is_chat: bool = False
    best_of: int = 1
    echo: Sequence[str] = ()  # the prompt of each choice, if the answer repeats it before the text
    is_dialogue: bool = False
    """The chat was written as plain text: the space after the last label is not part of the answer."""


def read_completion_request(body: bytes, info: EngineInfo, session: str | None) -> OpenAIRequest:
    """`session` is the one in the request's header. Raises `InvalidRequest`."""
    given = _read(body, _CompletionBody, _UNSUPPORTED)
    texts = _texts(given.prompt)
    n = _choices(given, len(texts))
    best_of = n if given.best_of is None else given.best_of
    top_logprobs = None if given.logprobs is False else given.logprobs
    raise_first_problem(
        ("`prompt` cannot be empty", not given.suffix and not all(texts)),
        ("`logprobs` is a number for completions", top_logprobs is True),
        (
            f"`logprobs` must be >= 0 and <= {MOST_TOP_LOGPROBS}",
            not 0 <= (top_logprobs or 0) <= MOST_TOP_LOGPROBS,
        ),
        (
            "`echo` is not supported together with `logprobs`: no engine here reports those of the prompt",
            bool(given.echo) and top_logprobs is not None,
        ),
        (f"`best_of` must be >= `n` and <= {MOST_BEST_OF}", best_of != n and not n < best_of <= MOST_BEST_OF),
        ("`best_of` > `n` is not supported when streaming", best_of > n and bool(given.stream)),
        ("`best_of` > `n` is not supported for several prompts", best_of > n and len(texts) > 1),
    )
    prompts = [Infill(text, given.suffix) if given.suffix else text for text in texts]
    return replace(
        _request(given, info, session, prompts, top_logprobs, default_limit=DEFAULT_COMPLETION_TOKENS),
        best_of=best_of if best_of > n else 1,
        echo=[text for text in texts for _ in range(n)] if given.echo else (),
    )


def read_chat_request(body: bytes, info: EngineInfo, session: str | None) -> OpenAIRequest:
    """`session` is the one in the request's header. Raises `InvalidRequest`."""
    given = _read(body, _ChatBody, _UNSUPPORTED_IN_CHATS)
    turns = [_turn(message, f"messages[{index}]") for index, message in enumerate(given.messages)]
    alternatives = given.top_logprobs or 0
    _choices(given, 1)
    raise_first_problem(
        ("`messages` cannot be empty", not turns),
        ("`top_logprobs` needs `logprobs`", alternatives > 0 and not given.logprobs),
        (
            f"`top_logprobs` must be >= 0 and <= {MOST_TOP_LOGPROBS_OF_CHATS}",
            not 0 <= alternatives <= MOST_TOP_LOGPROBS_OF_CHATS,
        ),
        (
            "`include_stop_str_in_output` is not supported in chats with this model: it has no template, so "
            "its answers end at a label that is not one of your stop sequences",
            bool(given.include_stop_str_in_output) and not info.chats,
        ),
    )
    prompt = Chat(turns) if info.chats else _dialogue(turns, info)
    more_stops = () if info.chats else DIALOGUE_STOPS
    top_logprobs = alternatives if given.logprobs else None
    request = _request(given, info, session, [prompt], top_logprobs, more_stops=more_stops)
    return replace(request, is_chat=True, is_dialogue=not info.chats)


def _read(body: bytes, kind: type[B], unsupported: Mapping[str, Sequence[object]]) -> B:
    """Raises `InvalidRequest`."""
    fields = decoded(body, dict[str, Any])
    for name, accepted in unsupported.items():
        value = fields.get(name)
        if value and value not in accepted:
            raise InvalidRequest(f"`{name}` is not supported here")
    try:
        return msgspec.convert(fields, kind)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def _request(
    given: _Body,
    info: EngineInfo,
    session: str | None,
    prompts: Sequence[Prompt],
    top_logprobs: int | None,
    *,
    default_limit: int | None = None,
    more_stops: Sequence[str] = (),
) -> OpenAIRequest:
    """What both kinds of request have in common. Raises `InvalidRequest`."""
    limit = given.max_tokens if given.max_completion_tokens is None else given.max_completion_tokens
    adapter = given.model if given.model in info.adapters else None
    params = _sampling(given, default_limit if limit is None else limit, top_logprobs, adapter)
    stops = checked_stops([given.stop] if isinstance(given.stop, str) else given.stop or [])
    if not session and (name := given.prompt_cache_key or given.user):
        # A hash, because the field may name a person and the session id goes on to upstreams.
        session = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:32]
    return OpenAIRequest(
        generations=[
            GenerationRequest(
                prompt,
                replace(params, seed=params.seed + number),
                (*stops, *more_stops),
                bool(given.include_stop_str_in_output),
                session=session,
            )
            for prompt in prompts
            for number in range(_choices(given, len(prompts)))
        ],
        model=adapter or info.model_id or given.model or "",
        prompt_count=len(prompts),
        stops=stops,
        stream=bool(given.stream),
        include_usage=given.stream_options is not None and bool(given.stream_options.include_usage),
        top_logprobs=top_logprobs,
    )


def _choices(given: _Body, prompts: int) -> int:
    """How many choices each of the prompts gets. Raises `InvalidRequest`."""
    n = 1 if given.n is None else given.n
    if not 1 <= n <= MOST_CHOICES // prompts:
        raise InvalidRequest(f"`n` times the number of prompts must be >= 1 and <= {MOST_CHOICES}")
    return n


def _sampling(
    given: _Body, limit: int | None, top_logprobs: int | None, adapter: str | None
) -> SamplingParams:
    """Raises `InvalidRequest`."""
    at_least = given.min_tokens or 0
    raise_first_problem(
        ("`max_tokens` must be strictly positive", not is_positive(limit)),
        ("`temperature` must be >= 0.0 and <= 2.0", not 0 <= (given.temperature or 0) <= 2),
        ("`top_p` must be > 0.0 and <= 1.0", not is_share(given.top_p)),
        ("`typical_p` must be > 0.0 and <= 1.0", not is_share(given.typical_p)),
        ("`top_k` must be >= -1", (given.top_k or 0) < -1),
        ("`frequency_penalty` must be >= -2.0 and <= 2.0", not -2 <= (given.frequency_penalty or 0) <= 2),
        ("`presence_penalty` must be >= -2.0 and <= 2.0", not -2 <= (given.presence_penalty or 0) <= 2),
        ("`repetition_penalty` must be strictly positive", not is_positive(given.repetition_penalty)),
        ("`min_tokens` must be >= 0 and <= `max_tokens`", not 0 <= at_least <= (limit or at_least)),
        ("`truncate_prompt_tokens` must be strictly positive", not is_positive(given.truncate_prompt_tokens)),
    )
    return SamplingParams(
        max_new_tokens=limit,
        seed=new_seed() if given.seed is None else given.seed % (1 << 63),
        temperature=1.0 if given.temperature is None else given.temperature,
        # A value that keeps every token means no filter at all.
        top_k=given.top_k if given.top_k and given.top_k > 0 else None,
        top_p=None if given.top_p == 1 else given.top_p,
        typical_p=None if given.typical_p == 1 else given.typical_p,
        repetition_penalty=None if given.repetition_penalty == 1 else given.repetition_penalty,
        frequency_penalty=given.frequency_penalty or None,
        presence_penalty=given.presence_penalty or None,
        min_new_tokens=at_least,
        truncate=given.truncate_prompt_tokens,
        grammar=_grammar(given.response_format),
        adapter_id=adapter,
        logprobs=top_logprobs is not None,
        # Some upstreams report the probability of a token only together with those of its alternatives.
        top_tokens=0 if top_logprobs is None else max(1, top_logprobs),
    )


def _grammar(form: _ResponseFormat | None) -> Grammar | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return json_grammar({"type": "object"})
    if form.type == "json_schema":
        given = form.json_schema
        return json_grammar(given.get("schema") if isinstance(given, dict) else None)
    raise InvalidRequest("`response_format` must be of type text, json_object or json_schema")


def _texts(prompt: Any) -> list[str]:
    """The prompts of a completion. Raises `InvalidRequest`."""
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, list) or not texts:
        raise InvalidRequest("`prompt` must be a text, or a list of one or several texts")
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("`prompt` must be text: token ids are not supported here")
    return texts


def _turn(message: _Message, field: str) -> dict[str, str]:
    """A message in the form that chat templates expect. Raises `InvalidRequest`."""
    role = {"developer": "system"}.get(message.role, message.role)
    if role not in ("system", "user", "assistant"):
        raise InvalidRequest(f"`{field}.role` {message.role!r} is not supported here")
    if message.tool_calls or message.function_call:
        raise InvalidRequest(f"`{field}.tool_calls` is not supported here")
    turn = {"role": role, "content": _content(message.content, f"{field}.content")}
    return turn if message.name is None else {**turn, "name": message.name}


def _content(content: Any, field: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"`{field}` must be a text, or a list of parts of type text")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise InvalidRequest(f"`{field}` may only have parts of type text here. Given: {kind}")
        texts.append(part["text"])
    return "".join(texts)


def _dialogue(turns: Sequence[Mapping[str, str]], info: EngineInfo) -> str:
    """A chat as plain text, for a model that can only continue a text: its continuation is the answer."""
    infilling = info.infilling
    markers = (infilling.prefix, infilling.suffix, infilling.middle) if infilling else ()
    special_tokens = [re.escape(token) for token in (info.bos_token, info.eos_token, *markers) if token]
    special = re.compile("|".join(special_tokens) or "(?!)")

    def neutralised(text: str) -> str:
        # A space breaks up a label or a special token, and hardly changes the meaning for the model.
        text = special.sub(lambda token: f"{token[0][0]} {token[0][1:]}", text)
        return _LABEL.sub(r"\1 :", text).strip()

    texts = [(turn["role"], neutralised(turn["content"])) for turn in turns]
    system = [text for role, text in texts if role == "system"]
    said = [f"{_LABELS[role]}: {text}" for role, text in texts if role != "system"]
    return "\n\n".join([*system, *said, "Assistant:"])
