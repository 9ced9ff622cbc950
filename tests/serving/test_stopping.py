"""The matcher against the rule, said twice more here: once as a search of the whole text, once as cases."""

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

# Few letters, so that stops overlap themselves, each other and the text in every way there is.
LETTERS = st.sampled_from("ab\n🦉")
TEXTS = st.text(LETTERS, max_size=40)
STOPS = st.lists(st.text(LETTERS, min_size=1, max_size=6), max_size=5)
CUTS = st.lists(st.integers(0, 40), max_size=10)

PROMPT_STOPS = ["\nHuman:", "\nAssistant:", "\n-----\n\nHuman:"]


def run(stops: Iterable[str], pieces: Iterable[str]) -> tuple[str, str | None]:
    """All that is shown of a text, and the stop that ended it."""
    shown, matched = run_bytes(stops, (piece.encode() for piece in pieces))
    return shown.decode(), matched


def run_bytes(stops: Iterable[str], pieces: Iterable[bytes]) -> tuple[bytes, str | None]:
    matcher = StopMatcher(stops)
    shown = b"".join([matcher.feed(piece) for piece in pieces])
    return shown + matcher.flush(), matcher.matched


def first_match(stops: Iterable[str], text: str) -> tuple[str, str | None]:
    """The rule itself, tried at every end: completes first, then longest."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


def must_wait(stops: Iterable[str], text: bytes) -> int:
    """How many bytes at the end of a text may yet turn out to be of a stop."""
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
def test_any_text_whatever_with_its_own_parts_as_stops(
    stops: list[str], text: str, pieces: list[str]
) -> None:
    whole = "".join(pieces)
    stops = [stop for stop in [*stops, text, *pieces] if stop]
    assert run(stops, pieces) == first_match(stops, whole)


@given(STOPS, TEXTS, CUTS)
def test_any_cutting_within_characters_too(stops: list[str], text: str, cuts: list[int]) -> None:
    shown, matched = first_match(stops, text)
    assert run_bytes(stops, cut(text.encode(), cuts)) == (shown.encode(), matched)


@given(STOPS, st.binary(max_size=40), CUTS)
def test_bytes_that_are_no_text_pass_as_they_are(stops: list[str], data: bytes, cuts: list[int]) -> None:
    shown, matched = run_bytes(stops, cut(data, cuts))
    assert data.startswith(shown)
    assert (matched is None) == (shown == data)
    assert (matched is None) == all(stop.encode() not in data for stop in stops)


@given(STOPS, TEXTS, CUTS)
def test_holds_back_exactly_what_may_yet_be_a_stop(stops: list[str], text: str, cuts: list[int]) -> None:
    matcher = StopMatcher(stops)
    seen = shown = b""
    for piece in cut(text.encode(), cuts):
        seen += piece
        shown += matcher.feed(piece)
        if matcher.matched is not None:
            break
        assert shown == seen[: len(seen) - must_wait(stops, seen)]


def test_stop_that_is_one_piece() -> None:
    assert run(["<end>"], ["a", "<end>", "b"]) == ("a", "<end>")


def test_stop_of_several_pieces_shows_nothing_of_itself() -> None:
    matcher = StopMatcher(["\nHuman:"])
    pieces = [b"Yes", b"\n", b"Hum", b"an", b":"]
    assert [matcher.feed(piece) for piece in pieces] == [b"Yes", b"", b"", b"", b""]
    assert matcher.matched == "\nHuman:"


def test_stop_that_starts_inside_a_piece() -> None:
    assert run(["\nHuman:"], ["done.\n", "Human:"]) == ("done.", "\nHuman:")


@pytest.mark.parametrize("rest", [":\n\n", ":\n", ": and more"])
def test_stop_that_ends_inside_a_piece(rest: str) -> None:
    assert run(["\nHuman:"], ["done", "\nHuman", rest]) == ("done", "\nHuman:")


def test_stop_strictly_inside_one_piece() -> None:
    assert run(["STOP"], ["oneSTOPtwo"]) == ("one", "STOP")


@pytest.mark.parametrize("stops", [["first", "second"], ["second", "first"]])
def test_of_two_stops_in_one_piece_the_earlier_in_the_text_wins(stops: list[str]) -> None:
    assert run(stops, ["a first b second"]) == ("a ", "first")


def test_the_same_stop_twice_in_one_piece_cuts_at_the_first() -> None:
    assert run(["--"], ["a--b--c"]) == ("a", "--")


def test_stop_that_begins_another_completes_first_and_wins() -> None:
    assert run(["ab", "abc"], ["xabc"]) == ("x", "ab")


@pytest.mark.parametrize("stops", [["Human:", "\nHuman:"], ["\nHuman:", "Human:"]])
def test_of_stops_that_end_together_the_longest_wins(stops: list[str]) -> None:
    assert run(stops, ["ok\nHuman:"]) == ("ok", "\nHuman:")


def test_shorter_stop_inside_a_longer_one_completes_first() -> None:
    assert run(["abcd", "bc"], ["xabcd"]) == ("xa", "bc")


def test_stop_that_overlaps_itself_is_found_on_a_second_try() -> None:
    assert run(["aab"], "aaab") == ("a", "aab")


def test_stop_that_overlaps_another_is_found() -> None:
    assert run(["abx", "bcd"], "abcd") == ("a", "bcd")


def test_false_start_is_shown_once_and_whole() -> None:
    matcher = StopMatcher(["\nHuman:"])
    assert [matcher.feed(piece) for piece in [b"so", b"\nHum", b"ble"]] == [b"so", b"", b"\nHumble"]
    assert matcher.flush() == b""


def test_stop_cut_in_any_unusual_way() -> None:
    stop = "\nHuman:"
    for first in range(len(stop)):
        for second in range(first, len(stop)):
            assert run([stop], ["x", stop[:first], stop[first:second], stop[second:]]) == ("x", stop)


def test_text_that_ends_while_it_is_held_back_is_flushed() -> None:
    matcher = StopMatcher(["\nHuman:"])
    assert matcher.feed(b"the end\nHuman") == b"the end"
    assert matcher.flush() == b"\nHuman"
    assert matcher.flush() == b""
    assert matcher.matched is None


def test_stop_that_comes_first_leaves_no_text() -> None:
    assert run(["\n\n"], ["\n\nHello"]) == ("", "\n\n")


def test_stop_in_a_piece_that_ends_within_a_character() -> None:
    assert run_bytes(["STOP"], [b"a STOP\xf0\x9f", b"\xa6\x89"]) == (b"a ", "STOP")
    assert run_bytes(["🦉"], [b"a\xf0\x9f\xa6", b"\x89b"]) == (b"a", "🦉")


def test_emoji_and_cjk_stops() -> None:
    assert run(["🦉🦉"], ["a🦉b🦉", "🦉c"]) == ("a🦉b", "🦉🦉")
    assert run(["用户："], ["好的", "用", "户", "：你"]) == ("好的", "用户：")


@pytest.mark.parametrize("stops", [[""], ["a", ""]])
def test_empty_stop_is_refused(stops: list[str]) -> None:
    with pytest.raises(ValueError, match="empty"):
        StopMatcher(stops)


def test_without_stops_everything_passes_at_once() -> None:
    matcher = StopMatcher([])
    assert matcher.feed(b"any\nthing") == b"any\nthing"
    assert matcher.flush() == b""


def test_holds_back_no_longer_than_the_longest_stop_needs() -> None:
    matcher = StopMatcher(["\n" + "-" * 200, "ab"])
    assert matcher.feed(b"text a") == b"text "
    assert matcher.feed(b"nd") == b"and"


def test_line_ends_of_every_kind_are_only_themselves() -> None:
    text = "a\r\nb\rc\u2028d\u0085e"
    assert run(["\n\n", "\nb:"], text) == (text, None)
    assert run(["\r\n"], ["a\r", "\nb"]) == ("a", "\r\n")


def test_special_token_text_is_a_stop_like_any_other() -> None:
    assert run(["<|endoftext|>"], ["x = 1<|endof", "text|>y"]) == ("x = 1", "<|endoftext|>")


@pytest.mark.parametrize(
    "text",
    [
        "class Human:\n    pass\n",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "Heading\n-----\n\nHumans are many.\n",
        "| a | b |\n|---|---|\n-----\n",
        "Assistant: is a word",
    ],
)
def test_code_and_markdown_are_not_cut_by_the_stops_of_the_prompt(text: str) -> None:
    assert run(PROMPT_STOPS, text) == (text, None)


def test_separator_before_a_turn_goes_away_with_it() -> None:
    assert run(PROMPT_STOPS, "Done.\n-----\n\nHuman: next") == ("Done.", "\n-----\n\nHuman:")


def test_what_comes_after_the_stop_is_ignored() -> None:
    matcher = StopMatcher(["."])
    assert matcher.feed(b"a.b") == b"a"
    assert matcher.feed(b"c.d") == b""
    assert matcher.flush() == b""
    assert matcher.matched == "."


def test_stops_of_requests_that_have_ended_take_little_memory() -> None:
    tracemalloc.start()
    try:
        for number in range(16):  # the most and longest stops, other ones each time
            stops = ["".join(chr(0x10000 + number + 99 * n * k) for k in range(1, 257)) for n in range(1, 17)]
            StopMatcher(stops)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 60 << 20
    finally:
        tracemalloc.stop()
