"""What llama.cpp's server takes and sends: sampling parameters, and the events of a stream."""

from __future__ import annotations

from typing import Any

import msgspec

from serving.engine import Chunk, FinishReason, InvalidRequest, SamplingParams, TopToken
from serving.engines.llama_cpp_grammars import llguidance_grammar
from serving.engines.llama_cpp_vocabulary import Vocabulary

SEEDS = 0xFFFFFFFF  # the largest 32-bit number asks llama.cpp for a random seed
REPLACEMENT = "\ufffd".encode()
FINISH_REASONS = {
    "eos": FinishReason.END_OF_TEXT,
    "limit": FinishReason.LENGTH,
    "word": FinishReason.END_OF_TEXT,  # a stop sequence, but we send none
    "none": FinishReason.LENGTH,
}


class _Error(msgspec.Struct):
    message: str = "The engine failed."


class PromptProgress(msgspec.Struct):
    """How many tokens of a prompt have been read, and how many of them came from the cache."""

    total: int
    cache: int
    processed: int


class _Probability(msgspec.Struct):
    id: int
    bytes: list[int]
    logprob: float | None  # None for an impossible token: JSON has no minus infinity


class _TokenProbabilities(_Probability):
    """`bytes` are those of all tokens of the event; all else belongs to the last one."""

    top_logprobs: list[_Probability] = []


class Event(msgspec.Struct):
    content: str = ""
    tokens: list[int] = []
    stop: bool = False
    stop_type: str = ""
    tokens_predicted: int = 0
    prompt_progress: PromptProgress | None = None
    completion_probabilities: list[_TokenProbabilities] = []
    error: _Error | None = None


decode_event = msgspec.json.Decoder(Event).decode


def chunk_of(event: Event, count: int, vocabulary: Vocabulary) -> Chunk:
    """The chunk for an event with `count` tokens, of which all but the last end inside a character."""
    token = event.tokens[-1] if event.tokens else 0
    last = event.completion_probabilities[-1] if event.completion_probabilities else None
    data = event.content.encode() if last is None else bytes(last.bytes)
    special = vocabulary.special.get(token)
    if special is not None:
        data = data.removesuffix(special.encode())
        if last is None and count > 1:  # the special token came inside a character
            data = data.removesuffix(REPLACEMENT)
    top = [
        TopToken(likely.id, bytes(likely.bytes).decode("utf-8", "replace"), likely.logprob)
        for likely in (last.top_logprobs if last else ())
        if likely.logprob is not None
    ]
    return Chunk(data, token, count, last.logprob if last else None, special, top)


def sampling_of(params: SamplingParams) -> dict[str, Any]:
    """Sets or switches off every sampling step that llama.cpp has. Raises `InvalidRequest`."""
    if params.adapter_id is not None:
        raise InvalidRequest("`adapter_id` is not supported by this engine")
    if params.grammar is not None and params.min_new_tokens:
        raise InvalidRequest("`min_new_tokens` is not supported together with `grammar`")
    sampling: dict[str, Any] = {}
    if params.logprobs or params.top_tokens:
        sampling["n_probs"] = max(1, params.top_tokens)
    if params.grammar is not None:
        sampling["grammar"] = llguidance_grammar(params.grammar)
    return sampling | {
        "temperature": params.temperature,
        "seed": params.seed % SEEDS,
        "top_k": params.top_k or 0,
        "top_p": 1.0 if params.top_p is None else params.top_p,
        "typical_p": 1.0 if params.typical_p is None else params.typical_p,
        "min_p": 0.0,
        "repeat_penalty": 1.0 if params.repetition_penalty is None else params.repetition_penalty,
        "frequency_penalty": params.frequency_penalty or 0.0,
        "presence_penalty": params.presence_penalty or 0.0,
    }
