"""What a client may ask for: the bodies of the TGI protocol, read and checked at the edge.

Knows names, types, ranges and TGI's words for what is wrong; refuses to know how text is generated.
A parameter is either honoured or refused, never silently left out.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import msgspec

from serving.engine import InvalidRequest, SamplingParams

MOST_STOPS = 16
LONGEST_STOP = 256  # characters
DEFAULT_NEW_TOKENS = 100


class _Parameters(msgspec.Struct):
    """As clients send them: all of them, mostly null."""

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
    # Known, and not honoured: refused unless they ask for nothing.
    best_of: int | None = None
    truncate: int | None = None
    watermark: bool | None = False
    decoder_input_details: bool | None = False
    top_n_tokens: int | None = None
    grammar: Any = None
    adapter_id: str | None = None


class _Body(msgspec.Struct):
    inputs: str
    parameters: _Parameters | None = None
    stream: bool | None = False


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    prompt: str
    params: SamplingParams
    stops: tuple[str, ...]
    stream: bool
    details: bool
    return_full_text: bool


_decode_body = msgspec.json.Decoder(_Body).decode


class _TokenizeBody(msgspec.Struct):
    inputs: str


_decode_tokenize_body = msgspec.json.Decoder(_TokenizeBody).decode


def read_generate_request(body: bytes) -> GenerateRequest:
    """Raises `InvalidRequest`, in TGI's words where it has some."""
    try:
        request = _decode_body(body)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    if not request.inputs:
        raise InvalidRequest("`inputs` cannot be empty")
    given = request.parameters or _Parameters()
    _refuse_unsupported(given)
    for problem, is_there in (
        ("`max_new_tokens` must be strictly positive", not _positive(given.max_new_tokens)),
        ("`temperature` must be strictly positive", not _positive(given.temperature)),
        ("`top_k` must be strictly positive", not _positive(given.top_k)),
        ("`top_p` must be > 0.0 and < 1.0", not _share(given.top_p)),
        ("`typical_p` must be > 0.0 and < 1.0", not _share(given.typical_p)),
        ("`repetition_penalty` must be strictly positive", not _positive(given.repetition_penalty)),
        (
            "`frequency_penalty` must be >= -2.0 and <= 2.0",
            given.frequency_penalty is not None and not -2 <= given.frequency_penalty <= 2,
        ),
        ("`seed` must be positive", given.seed is not None and given.seed < 0),
    ):
        if is_there:
            raise InvalidRequest(problem)
    steps = (given.temperature, given.top_k, given.top_p, given.typical_p)
    sampled = given.do_sample or any(step is not None for step in steps)
    return GenerateRequest(
        prompt=request.inputs,
        params=SamplingParams(
            max_new_tokens=given.max_new_tokens,
            seed=secrets.randbits(31) if given.seed is None else given.seed,
            temperature=(1.0 if given.temperature is None else given.temperature) if sampled else 0.0,
            top_k=given.top_k,
            top_p=given.top_p,
            typical_p=given.typical_p,
            repetition_penalty=given.repetition_penalty,
            frequency_penalty=given.frequency_penalty,
        ),
        stops=_stops(given.stop or []),
        stream=bool(request.stream),
        details=bool(given.details),
        return_full_text=bool(given.return_full_text),
    )


def read_tokenize_request(body: bytes) -> str:
    """The text to be cut into tokens. Raises `InvalidRequest`."""
    try:
        return _decode_tokenize_body(body).inputs
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def _refuse_unsupported(given: _Parameters) -> None:
    asked_for = {
        "best_of": given.best_of not in (None, 1),
        "truncate": given.truncate is not None,
        "watermark": given.watermark,
        "decoder_input_details": given.decoder_input_details,
        "top_n_tokens": given.top_n_tokens not in (None, 0),
        "grammar": given.grammar is not None,
        "adapter_id": given.adapter_id is not None,
    }
    for name, asked in asked_for.items():
        if asked:
            raise InvalidRequest(f"`{name}` is not supported")


def _stops(stops: list[str]) -> tuple[str, ...]:
    if len(stops) > MOST_STOPS:
        raise InvalidRequest(f"`stop` supports up to {MOST_STOPS} stop sequences. Given: {len(stops)}")
    for stop in stops:
        if not stop:
            raise InvalidRequest("`stop` must not contain an empty string")
        if len(stop) > LONGEST_STOP:
            raise InvalidRequest(
                f"`stop` supports sequences of up to {LONGEST_STOP} characters. Given: {len(stop)}"
            )
    return tuple(stops)


def _positive(number: float | None) -> bool:
    return number is None or number > 0


def _share(number: float | None) -> bool:
    return number is None or 0 < number < 1
