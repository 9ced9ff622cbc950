"""What the benchmark of grounding counts as a loop, as parroting and as a right name."""

from __future__ import annotations

import pytest

from assistant.conversation import Source
from benchmarks.grounding import Message, Reply, _frame, messages

QUESTION = Message("How do I delete a folder?", "tune", ("rmtree",), ())
PLACE = "(Python 3.11.2, shutil.py:722)"
INSTRUCTION = "It is for reference: it is not part of the question."


def reply(text: str) -> Reply:
    return Reply(
        QUESTION, text, (f"[1] shutil.rmtree(path) {PLACE}", INSTRUCTION), (PLACE, INSTRUCTION), 1, 9
    )


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("Call shutil.rmtree(path).", "right"),
        ("Call myrmtree().", ""),
        ("first do this then do that " * 9, "loops"),
        (" ".join(map(str, range(90))), ""),
        ("again and again and again", ""),
        (f"See {PLACE}.", "parrots"),
        ("It is for reference: it is not", "parrots"),
        ("> quoted", "parrots"),
        (f"[1] shutil.rmtree(path) {PLACE}\n" + INSTRUCTION, "parrots right"),
        ("How do I delete a folder? " * 2, ""),
    ],
)
def test_loops_parroting_and_right_names_are_counted(text: str, marks: str) -> None:
    one = reply(text)
    counted = {"loops": one.loops, "parrots": one.parrots, "right": one.is_right}
    assert " ".join(name for name, is_so in counted.items() if is_so) == marks


def test_the_frame_of_a_passage_is_neither_its_title_nor_its_text() -> None:
    passage = Source("n", "f(x)", "P", "1", "", "x.py:1", "", "Do it.\nMore   words here.")
    lines = ["Cite it.", "[1] f(x) (P 1, x.py:1)", "> Do it.", "> …", "`f(x)`: Do it. More words here."]
    assert _frame(lines, [passage]) == ("Cite it.", "[1]", "(P 1, x.py:1)")


def test_half_of_the_messages_are_only_measured() -> None:
    for split in ("tune", "measured"):
        of_split = [message for message in messages() if message.split == split]
        assert (len(of_split), sum(not message.names for message in of_split)) == (30, 12)
