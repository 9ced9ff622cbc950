"""Checks that the protocols share: bodies, limits of parameters, stop sequences, grammars."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from serving.engine import Grammar, GrammarKind, InvalidRequest

T = TypeVar("T")

MOST_STOPS = 16
LONGEST_STOP = 256  # characters
MOST_BEST_OF = 4
LARGEST_GRAMMAR = 64 << 10  # bytes


def decoded(body: bytes, kind: type[T]) -> T:
    """The JSON of a request as this type. Raises `InvalidRequest`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(str(error)) from None


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


def is_positive(number: float | None) -> bool:
    return number is None or number > 0


def is_share(number: float | None) -> bool:
    """Whether a number is above 0 and at most 1."""
    return number is None or 0 < number <= 1
