"""The matcher is tested against its rule, which is written here twice: as a search of the whole text, and as
cases."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Iterable
from typing import AnyStr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.stopping import StopMatcher

# Few letters, so that stops overlap themselves, each other and the text in every possible way.
LETTERS = st.sampled_from("ab\n🦉")
TEXTS = st.text(LETTERS, max_size=40)
STOPS = st.lists(st.text(LETTERS, min_size=1, max_size=6), max_size=5)
CUTS = st.lists(st.integers(0, 40), max_size=10)

PROMPT_STOPS = ["\nHuman:", "\nAssistant:", "\n-----\n\nHuman:"]
SEPARATOR = "\n-----\n\n"
LINE_ENDS = "a\r\nb\rc\u2028d\u0085e"
CODE_AND_MARKDOWN = [
    "class Human:\n    pass\n",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "Heading\n-----\n\nHumans are many.\n",
    "| a | b |\n|---|---|\n-----\n",
    "Assistant: is a word",
]


def run(stops: Iterable[str], pieces: Iterable[str]) -> tuple[str, str | None]:
    """The shown text, and the stop that ended it."""
    shown, matched = run_bytes(stops, (piece.encode() for piece in pieces))
    return shown.decode(), matched


def run_bytes(stops: Iterable[str], pieces: Iterable[bytes]) -> tuple[bytes, str | None]:
    matcher = StopMatcher(stops)
    shown = b"".join([matcher.feed(piece) for piece in pieces])
    return shown + matcher.flush(), matcher.matched


def first_match(stops: Iterable[str], text: str) -> tuple[str, str | None]:
    """The rule, tried at every position: the first stop to complete, and of several the longest."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


def must_wait(stops: Iterable[str], text: bytes) -> int:
    """How many bytes at the end of a text may still become part of a stop."""
    raw = [stop.encode() for stop in stops]
    beginnings = {stop[:length] for stop in raw for length in range(1, len(stop))}
    return max((n for n in range(1, len(text) + 1) if text[-n:] in beginnings), default=0)


def cut(text: AnyStr, cuts: Iterable[int]) -> list[AnyStr]:
    places = [0, *sorted(min(place, len(text)) for place in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(places)]


@given(STOPS, TEXTS, CUTS)
def test_any_cutting_gives_what_the_rule_gives_for_the_whole_text(
    stops: list[str], text: str, cuts: list[int]
) -> None:
    assert run(stops, cut(text, cuts)) == run(stops, [text]) == run(stops, text) == first_match(stops, text)


@given(STOPS, st.text(max_size=30), st.lists(st.text(max_size=30)))
def test_any_text_with_its_own_parts_as_stops(stops: list[str], text: str, pieces: list[str]) -> None:
    whole = "".join(pieces)
    stops = [stop for stop in [*stops, text, *pieces] if stop]
    assert run(stops, pieces) == first_match(stops, whole)


@given(STOPS, TEXTS, CUTS)
def test_any_cutting_inside_characters(stops: list[str], text: str, cuts: list[int]) -> None:
    shown, matched = first_match(stops, text)
    assert run_bytes(stops, cut(text.encode(), cuts)) == (shown.encode(), matched)


@given(STOPS, st.binary(max_size=40), CUTS)
def test_bytes_that_are_not_text_pass_unchanged(stops: list[str], data: bytes, cuts: list[int]) -> None:
    shown, matched = run_bytes(stops, cut(data, cuts))
    assert data.startswith(shown)
    assert (matched is None) == (shown == data)
    assert (matched is None) == all(stop.encode() not in data for stop in stops)


@given(STOPS, TEXTS, CUTS)
def test_holds_back_exactly_what_may_become_a_stop(stops: list[str], text: str, cuts: list[int]) -> None:
    matcher = StopMatcher(stops)
    seen = shown = b""
    for piece in cut(text.encode(), cuts):
        seen += piece
        shown += matcher.feed(piece)
        if matcher.matched is not None:
            break
        assert shown == seen[: len(seen) - must_wait(stops, seen)]


HUMAN = "\nHuman:"


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "matched"),
    [
        pytest.param(["<end>"], ["a", "<end>", "b"], "a", "<end>", id="is one piece"),
        pytest.param([HUMAN], ["done.\n", "Human:"], "done.", HUMAN, id="starts inside a piece"),
        pytest.param([HUMAN], ["done", "\nHuman", ":\n\n"], "done", HUMAN, id="ends before two newlines"),
        pytest.param([HUMAN], ["done", "\nHuman", ":\n"], "done", HUMAN, id="ends before a newline"),
        pytest.param([HUMAN], ["done", "\nHuman", ": and more"], "done", HUMAN, id="ends inside a piece"),
        pytest.param(["STOP"], ["oneSTOPtwo"], "one", "STOP", id="strictly inside a piece"),
        pytest.param(["first", "second"], ["a first b second"], "a ", "first", id="earlier in the text wins"),
        pytest.param(["second", "first"], ["a first b second"], "a ", "first", id="in any list order"),
        pytest.param(["--"], ["a--b--c"], "a", "--", id="twice in a piece"),
        pytest.param(["ab", "abc"], ["xabc"], "x", "ab", id="begins another"),
        pytest.param(["Human:", HUMAN], ["ok\nHuman:"], "ok", HUMAN, id="longest of those that end together"),
        pytest.param([HUMAN, "Human:"], ["ok\nHuman:"], "ok", HUMAN, id="the same in the other order"),
        pytest.param(["abcd", "bc"], ["xabcd"], "xa", "bc", id="shorter inside a longer one"),
        pytest.param(["aab"], "aaab", "a", "aab", id="overlaps itself"),
        pytest.param(["abx", "bcd"], "abcd", "a", "bcd", id="overlaps another"),
        pytest.param(["\n\n"], ["\n\nHello"], "", "\n\n", id="comes first"),
        pytest.param(["🦉🦉"], ["a🦉b🦉", "🦉c"], "a🦉b", "🦉🦉", id="emoji"),
        pytest.param(["用户："], ["好的", "用", "户", "：你"], "好的", "用户：", id="Chinese"),
        pytest.param(["\n\n", "\nb:"], LINE_ENDS, LINE_ENDS, None, id="other line ends"),
        pytest.param(["\r\n"], ["a\r", "\nb"], "a", "\r\n", id="a line end"),
        pytest.param(["<|endoftext|>"], ["x = 1<|endof", "text|>y"], "x = 1", "<|endoftext|>", id="special"),
        pytest.param(
            PROMPT_STOPS, f"Done.{SEPARATOR}Human: next", "Done.", f"{SEPARATOR}Human:", id="separator"
        ),
        *(pytest.param(PROMPT_STOPS, text, text, None, id=text[:9]) for text in CODE_AND_MARKDOWN),
    ],
)
def test_cuts_before_the_first_stop(
    stops: list[str], pieces: Iterable[str], shown: str, matched: str | None
) -> None:
    assert run(stops, pieces) == (shown, matched)


@pytest.mark.parametrize(
    ("stops", "fed", "flushed", "matched"),
    [
        pytest.param(
            [HUMAN], {"Yes": "Yes", "\n": "", "Hum": "", "an": "", ":": ""}, "", HUMAN, id="not the stop"
        ),
        pytest.param(
            [HUMAN], {"so": "so", "\nHum": "", "ble": "\nHumble"}, "", None, id="a false start, once"
        ),
        pytest.param(["\n" + "-" * 200, "ab"], {"text a": "text ", "nd": "and"}, "", None, id="no more"),
        pytest.param([], {"any\nthing": "any\nthing"}, "", None, id="all without stops"),
        pytest.param([HUMAN], {"the end\nHuman": "the end"}, "\nHuman", None, id="the end"),
        pytest.param(["."], {"a.b": "a", "c.d": ""}, "", ".", id="nothing after the stop"),
    ],
)
def test_shows_the_safe_part_of_each_piece(
    stops: list[str], fed: dict[str, str], flushed: str, matched: str | None
) -> None:
    matcher = StopMatcher(stops)
    assert [matcher.feed(piece.encode()).decode() for piece in fed] == list(fed.values())
    assert matcher.flush().decode() == flushed
    assert matcher.flush() == b""
    assert matcher.matched == matched


def test_stop_cut_into_any_three_pieces() -> None:
    stop = "\nHuman:"
    for first in range(len(stop)):
        for second in range(first, len(stop)):
            assert run([stop], ["x", stop[:first], stop[first:second], stop[second:]]) == ("x", stop)


def test_stop_in_a_piece_that_ends_within_a_character() -> None:
    assert run_bytes(["STOP"], [b"a STOP\xf0\x9f", b"\xa6\x89"]) == (b"a ", "STOP")
    assert run_bytes(["🦉"], [b"a\xf0\x9f\xa6", b"\x89b"]) == (b"a", "🦉")


@pytest.mark.parametrize("stops", [[""], ["a", ""]])
def test_empty_stop_is_refused(stops: list[str]) -> None:
    with pytest.raises(ValueError, match="empty"):
        StopMatcher(stops)


def test_stops_of_finished_requests_take_little_memory() -> None:
    tracemalloc.start()
    try:
        for number in range(10):  # the most and longest stops, different ones each time
            stops = ["".join(chr(0x10000 + number + 99 * n * k) for k in range(1, 257)) for n in range(1, 17)]
            StopMatcher(stops)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 45 << 20  # ten trees take 50 MiB
    finally:
        tracemalloc.stop()
