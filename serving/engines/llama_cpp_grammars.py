"""Writes grammars for llama.cpp's library llguidance, checks them before, and the text afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import llguidance
import msgspec

from serving.engine import Grammar, GrammarKind, IncompleteGeneration, InvalidRequest

# In all lists of a schema together. llama.cpp expands each list before it begins: a million take a gigabyte.
MOST_ITEMS = 10_000
# That one text may have to match. With dozens llguidance searches for minutes, and every other answer waits.
MOST_PATTERNS = 8
# JSON on one line: where white space is allowed, some models write it up to the length limit.
_JSON_FORMAT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def llguidance_grammar(grammar: Grammar) -> str:
    """The grammar in the language of llguidance. Raises `InvalidRequest`."""
    if grammar.kind is GrammarKind.JSON:
        schema = {"x-guidance": _JSON_FORMAT, **msgspec.json.decode(grammar.value)}
        if _patterns(schema) > MOST_PATTERNS:
            raise InvalidRequest(
                f"grammar is not valid: with `allOf` there may be {MOST_PATTERNS} `pattern` at most"
            )
        if _items(schema) > MOST_ITEMS:
            raise InvalidRequest(
                f"grammar is not valid: its `minItems` and `maxItems` must be <= {MOST_ITEMS} altogether"
            )
        rule = f"%json {msgspec.json.encode(schema).decode()}"
    else:
        # A slash ends the expression, and it must not contain a newline. Escaped characters stay escaped.
        pattern = re.sub(r"(\\[^\n])|/", lambda match: match[1] or r"\/", grammar.value)
        rule = "/" + pattern.replace("\n", r"\n") + "/"
    written = f"%llguidance {{}}\nstart: {rule}"
    if problem := llguidance.LLMatcher.validate_grammar(written):  # llama.cpp ignores an invalid grammar
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


def _items(schema: Any) -> float:
    """The sum of all minimum and maximum lengths of lists."""
    counts = [part.get(key) for part in _objects(schema) for key in ("minItems", "maxItems")]
    return sum(count for count in counts if isinstance(count, int | float) and count > 0)


def _patterns(schema: Any) -> int:
    """How many patterns one text may have to match: all of them if any schemas are combined, else 0."""
    parts = list(_objects(schema))
    is_combined = any("allOf" in part or ("$ref" in part and len(part) > 1) for part in parts)
    return sum("pattern" in part for part in parts) if is_combined else 0


class GrammarChecker:
    """Checks that a text follows its grammar. When llguidance fails inside llama.cpp, as it does for some
    sizes of vocabularies, llama.cpp goes on without the grammar and reports nothing."""

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
