"""The answer in the text that a model generates, piece by piece."""

from __future__ import annotations


class AnswerText:
    """Turns the pieces of a model's text into the pieces of an answer.

    It drops leading blank lines or, if there are none, one leading space; the indentation of a first line of
    code stays. With a `separator`, it also drops trailing lines that are exactly the separator, and the blank
    lines around them: a base model writes those when it begins the next dialogue.

    The whole answer does not depend on where the text is cut into pieces.
    """

    def __init__(self, separator: str | None = None) -> None:
        self._separator = separator
        self._begun = False  # whether any text other than blanks has arrived
        self._held: list[str] = []  # whole lines that are held back, each a separator or blank
        self._line = ""  # the start of the line after them, held back too
        self._at_line_start = True  # whether the held text, or else the next character, begins a line

    def feed(self, piece: str) -> str:
        """Add a piece of text; returns the text that certainly belongs to the answer now."""
        text = self._line + piece
        if not self._begun:
            if not text.strip():
                self._line = text
                return ""
            self._begun = True
            text = text[start_of_text(text) or int(text.startswith(" ")) :]
        lines = text.split("\n")
        first = self._first_held(lines)
        self._line = lines[-1] if first < len(lines) else ""
        whole_lines = len(text) - len(self._line)
        if first == 0:
            self._held.append(text[:whole_lines])
            return ""
        cut = sum(len(line) + 1 for line in lines[:first]) - 1
        shown = "".join([*self._held, text[:cut]])
        self._held = [text[cut:whole_lines]]
        self._at_line_start = first < len(lines)
        return shown

    def flush(self) -> str:
        """End the text; returns the held text that belongs to the answer after all."""
        held = "".join([*self._held, self._line])
        self._held, self._line = [], ""
        if not self._begun or held.rstrip().rpartition("\n")[2] == self._separator:
            return ""
        return held

    def _first_held(self, lines: list[str]) -> int:
        """The index of the first line to hold back: from it on, all lines may be separators or blank."""
        if self._separator is None or not (
            self._separator.startswith(lines[-1]) or self._is_droppable(lines[-1])
        ):
            return len(lines)
        first = len(lines) - 1
        while first > 0 and self._is_droppable(lines[first - 1]):
            first -= 1
        # The rest of a line whose start was passed on is not a line by itself.
        return first if self._at_line_start else max(first, 1)

    def _is_droppable(self, line: str) -> bool:
        line = line.rstrip()
        return not line or line == self._separator


def start_of_text(text: str) -> int:
    """The index where the first line begins that is not blank."""
    if not text[:1].isspace():
        return 0
    return text.rfind("\n", 0, len(text) - len(text.lstrip())) + 1
