"""Checks that the protocols share: limits of parameters, stop sequences, grammars."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from serving.engine import Grammar, GrammarKind, InvalidRequest

MOST_STOPS = 16
LONGEST_STOP = 256  # characters
MOST_BEST_OF = 4
LARGEST_GRAMMAR = 64 << 10  # bytes


def raise_first_problem(*problems: tuple[str, bool]) -> None:
    """Raise `InvalidRequest` with the first message whose condition is true."""
    for message, is_present in problems:
        if is_present:
            raise InvalidRequest(message)


def checked_stops(stops: Sequence[str]) -> tuple[str, ...]:
    """Raises `InvalidRequest` for too many, too long or empty stop sequences."""
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


def json_grammar(schema: Any) -> Grammar:
    """Raises `InvalidRequest` if this is not a JSON schema."""
    if not isinstance(schema, dict):
        raise InvalidRequest("grammar is not valid: a JSON schema is an object")
    return checked_grammar(Grammar(GrammarKind.JSON, msgspec.json.encode(schema).decode()))


def checked_grammar(grammar: Grammar) -> Grammar:
    """Raises `InvalidRequest` for a grammar that is too large."""
    if len(grammar.value.encode()) > LARGEST_GRAMMAR:
        raise InvalidRequest(f"grammar is not valid: it is larger than {LARGEST_GRAMMAR} bytes")
    return grammar


def new_seed() -> int:
    return secrets.randbits(31)
