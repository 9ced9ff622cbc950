"""What llama.cpp's server takes and sends: sampling parameters, and the events of a stream.

llama.cpp ignores an invalid grammar, and goes on without one when its library llguidance fails. So grammars
are checked before, and texts afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import llguidance
import msgspec

from serving.engine import (
    FinishReason,
    Grammar,
    GrammarKind,
    IncompleteGeneration,
    InvalidRequest,
    SamplingParams,
)

SEEDS = 0xFFFFFFFF  # the largest 32-bit number asks llama.cpp for a random seed
FINISH_REASONS = {
    "eos": FinishReason.END_OF_TEXT,
    "limit": FinishReason.LENGTH,
    "word": FinishReason.END_OF_TEXT,  # a stop sequence, but we send none
    "none": FinishReason.LENGTH,
}
# In all lists of a schema together. llama.cpp expands each list before it begins: a million take a gigabyte.
MOST_ITEMS = 10_000
# That one text may have to match. With dozens llguidance searches for minutes, and every other answer waits.
MOST_PATTERNS = 8
# JSON on one line: where white space is allowed, some models write it up to the length limit.
_JSON_FORMAT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


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


def llguidance_grammar(grammar: Grammar) -> str:
    """The grammar in the language of llguidance. Raises `InvalidRequest`."""
    if grammar.kind is GrammarKind.JSON:
        schema = {"x-guidance": _JSON_FORMAT, **msgspec.json.decode(grammar.value)}
        parts = list(_objects(schema))
        # If any schemas are combined, one text may have to match all patterns.
        is_combined = any("allOf" in part or ("$ref" in part and len(part) > 1) for part in parts)
        if is_combined and sum("pattern" in part for part in parts) > MOST_PATTERNS:
            raise InvalidRequest(
                f"grammar is not valid: with `allOf` there may be {MOST_PATTERNS} `pattern` at most"
            )
        counts = [part.get(key) for part in parts for key in ("minItems", "maxItems")]
        if sum(count for count in counts if isinstance(count, int | float) and count > 0) > MOST_ITEMS:
            raise InvalidRequest(
                f"grammar is not valid: its `minItems` and `maxItems` must be <= {MOST_ITEMS} altogether"
            )
        rule = f"%json {msgspec.json.encode(schema).decode()}"
    else:
        # A slash ends the expression, and it must not contain a newline. Escaped characters stay escaped.
        pattern = re.sub(r"(\\[^\n])|/", lambda match: match[1] or r"\/", grammar.value)
        rule = "/" + pattern.replace("\n", r"\n") + "/"
    written = f"%llguidance {{}}\nstart: {rule}"
    if problem := llguidance.LLMatcher.validate_grammar(written):
        raise InvalidRequest(f"grammar is not valid: {problem.splitlines()[0]}")
    return written


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    """All JSON objects in a schema."""
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            yield part
            parts += part.values()
        elif isinstance(part, list):
            parts += part


class GrammarChecker:
    """Checks that a text follows its grammar: inside llama.cpp llguidance fails for some sizes of
    vocabularies, and nothing is reported."""

    def __init__(self, grammar: str) -> None:
        self._matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar)

    def check(self, data: bytes) -> None:
        """Check the next bytes of the text. Raises `IncompleteGeneration`."""
        if self._matcher.try_consume_tokens(list(data)) < len(data):
            raise IncompleteGeneration("The engine has not kept to the grammar: it failed inside llama.cpp.")

    def check_end(self) -> None:
        """Check that the text may end here. Raises `IncompleteGeneration`."""
        if not self._matcher.is_accepting():
            raise IncompleteGeneration("The engine has ended the text before the grammar allows it.")
