"""Read and check the bodies of TGI's protocol.

A parameter is either honoured or refused, never silently ignored: this module refuses what no engine could
honour, and the engine refuses what it cannot honour itself. Errors have TGI's own wording where TGI has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from serving.engine import Grammar, GrammarKind, InvalidRequest, SamplingParams
from serving.generation import LARGEST_TEXT, GenerationRequest
from serving.protocols.validation import (
    MOST_BEST_OF,
    checked_grammar,
    checked_stops,
    decoded,
    is_positive,
    is_share,
    json_grammar,
    new_seed,
    raise_first_problem,
)

MOST_TOP_TOKENS = 5
DEFAULT_NEW_TOKENS = 100


class _Grammar(msgspec.Struct):
    type: str
    value: Any


class _Parameters(msgspec.Struct):
    """Clients send all of them, and most are null."""

    max_new_tokens: int | None = DEFAULT_NEW_TOKENS
    do_sample: bool | None = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    return_full_text: bool | None = False
    details: bool | None = False
    decoder_input_details: bool | None = False
    top_n_tokens: int | None = None
    best_of: int | None = None
    truncate: int | None = None
    grammar: _Grammar | None = None
    adapter_id: str | None = None
    watermark: bool | None = False
    # Additions to the protocol:
    logprobs: bool | None = True
    include_stop: bool | None = False
    min_new_tokens: int | None = None


class _Body(msgspec.Struct):
    inputs: str
    parameters: _Parameters | None = None
    stream: bool | None = False


@dataclass(frozen=True, slots=True)
class TgiRequest:
    """A checked request: what to generate, and how to write the answer."""

    generation: GenerationRequest
    prompt: str
    stream: bool
    details: bool
    prefill: bool  # whether the details list the tokens of the prompt
    best_of: int
    return_full_text: bool


class _Text(msgspec.Struct):
    inputs: str


def read_generate_request(
    body: bytes, *, stream: bool | None = None, session: str | None = None
) -> TgiRequest:
    """With `stream` None, the body says whether the answer is a stream. Raises `InvalidRequest`."""
    request = decoded(body, _Body)
    if not request.inputs:
        raise InvalidRequest("`inputs` cannot be empty")
    given = request.parameters or _Parameters()
    stream = bool(request.stream) if stream is None else stream
    steps = (given.temperature, given.top_k, given.top_p, given.typical_p)
    sampled = bool(given.do_sample) or any(step is not None for step in steps)
    best_of = 1 if given.best_of is None else given.best_of
    prefill = bool(given.decoder_input_details)
    raise_first_problem(
        ("`max_new_tokens` must be strictly positive", not is_positive(given.max_new_tokens)),
        ("`temperature` must be strictly positive", not is_positive(given.temperature)),
        ("`top_k` must be strictly positive", not is_positive(given.top_k)),
        ("`top_p` must be > 0.0 and < 1.0", not is_share(given.top_p) or given.top_p == 1),
        ("`typical_p` must be > 0.0 and < 1.0", not is_share(given.typical_p) or given.typical_p == 1),
        ("`repetition_penalty` must be strictly positive", not is_positive(given.repetition_penalty)),
        ("`frequency_penalty` must be >= -2.0 and <= 2.0", not -2 <= (given.frequency_penalty or 0) <= 2),
        ("`seed` must be positive", (given.seed or 0) < 0),
        (f"`best_of` must be > 0 and <= {MOST_BEST_OF}. Given: {best_of}", not 0 < best_of <= MOST_BEST_OF),
        ("you must use sampling when `best_of` is > 1", best_of > 1 and not sampled),
        ("`seed` must not be set when `best_of` > 1", best_of > 1 and given.seed is not None),
        ("`best_of` != 1 is not supported when streaming tokens", best_of > 1 and stream),
        (
            f"`top_n_tokens` must be >= 0 and <= {MOST_TOP_TOKENS}. Given: {given.top_n_tokens}",
            not 0 <= (given.top_n_tokens or 0) <= MOST_TOP_TOKENS,
        ),
        ("`decoder_input_details` == true is not supported when streaming tokens", prefill and stream),
        ("`truncate` must be strictly positive", not is_positive(given.truncate)),
        ("`watermark` is not supported", bool(given.watermark)),
        (
            "`min_new_tokens` must be >= 0 and <= `max_new_tokens`",
            not 0 <= (given.min_new_tokens or 0) <= (given.max_new_tokens or 1 << 31),
        ),
    )
    params = SamplingParams(
        max_new_tokens=given.max_new_tokens,
        seed=new_seed() if given.seed is None else given.seed,
        temperature=(1.0 if given.temperature is None else given.temperature) if sampled else 0.0,
        top_k=given.top_k,
        top_p=given.top_p,
        typical_p=given.typical_p,
        repetition_penalty=given.repetition_penalty,
        frequency_penalty=given.frequency_penalty,
        min_new_tokens=given.min_new_tokens or 0,
        truncate=given.truncate,
        grammar=None if given.grammar is None else _grammar(given.grammar),
        adapter_id=given.adapter_id,
        # TGI always reports them. They cost time, which clients save with `logprobs: false`.
        logprobs=given.logprobs is not False or bool(given.top_n_tokens),
        top_tokens=given.top_n_tokens or 0,
    )
    largest_text = LARGEST_TEXT - (len(msgspec.json.encode(request.inputs)) if given.return_full_text else 0)
    if largest_text <= 0:
        raise InvalidRequest("`inputs` is too long for `return_full_text`")
    return TgiRequest(
        generation=GenerationRequest(
            request.inputs,
            params,
            checked_stops(given.stop or []),
            bool(given.include_stop),
            session=session,
            largest_text=largest_text,
        ),
        prompt=request.inputs,
        stream=stream,
        details=bool(given.details) or prefill,
        prefill=prefill,
        best_of=best_of,
        return_full_text=bool(given.return_full_text),
    )


def read_text_request(body: bytes) -> str:
    """The text of a request that consists of a text alone. Raises `InvalidRequest`."""
    return decoded(body, _Text).inputs


def _grammar(given: _Grammar) -> Grammar:
    value = given.value
    if given.type == "regex" and isinstance(value, str) and value:
        return checked_grammar(Grammar(GrammarKind.REGEX, value))
    if given.type in ("json", "json_object"):
        return json_grammar(value)
    if given.type == "json_schema":  # OpenAI's form: the schema has a name beside it
        return json_grammar(value.get("schema") if isinstance(value, dict) else value)
    raise InvalidRequest("grammar is not valid: `type` must be json, json_schema or regex, with its `value`")
