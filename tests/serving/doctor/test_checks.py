"""How the checks choose a stop sequence, and how they judge what a server did with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.doctor.checks import effect_of_stop, straddling


@given(st.lists(st.text("ab c", min_size=1, max_size=4), max_size=12))
def test_the_chosen_stop_straddles_two_pieces_and_is_not_in_the_text_before(pieces: list[str]) -> None:
    chosen = straddling(pieces)
    if chosen is None:
        return
    stop, at = chosen
    text = "".join(pieces)
    ends = [len("".join(pieces[:number])) for number in range(1, len(pieces))]
    assert text.index(stop) == at
    assert any(at < end < at + len(stop) for end in ends)
    assert effect_of_stop(text[:at], "stop", text, at, stop) == "the text ends before it"
