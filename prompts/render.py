"""Renders a conversation as a prompt within a token budget.

    turns ──> exchanges ──> the history that fits ──┐
    passages ──> those that fit ──> the question ───┴──> text ──> (a model) ──> AnswerText ──> answer

Two rules hold for every template (`templates.py`):

1. The engine can reuse what it has read. The preamble is always the same, and each prompt of a conversation
   extends the one before. If the history must shrink, it shrinks by so much that it can then grow for many
   turns. Passages of documentation stand only in the last question, after all of that; the history has each
   question as its user wrote it, and each answer without the model's thoughts before it.
2. No text of a turn or of a passage contains a mark of the prompt, such as a label or a special token.

PromptError             this conversation cannot be rendered; the message says why
└── QuestionTooLong     not even the question fits; .needed and .available are in tokens
"""

from __future__ import annotations

import abc
import bisect
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import jinja2

from assistant.conversation import Role, Source, Turn
from prompts.answer import AnswerText, start_of_text
from prompts.size import LARGE, ModelSize

# The share of what the question leaves free that passages may take. The model's size sets another limit.
_PASSAGES_SHARE = 4
# The last passage is left out if fewer tokens of it fit: a line or two without context mislead.
_LEAST_OF_PASSAGE = 60
_LONGEST_HEADING = 160  # characters
_LONGEST_LINE = 250  # characters of a passage for a tiny model
_SENTENCE_END = re.compile(r"[.!?](?= )")
_THOUGHT = re.compile(r"\s*<(think(?:ing)?|thought|reasoning)>(?:.*?</\1>|.*)", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHT = "</think>"


class PromptError(Exception):
    """The root of this folder's errors. The message is a sentence for the reader."""


class QuestionTooLong(PromptError):
    """The question does not fit, even without any history. Both numbers of tokens are estimates."""

    def __init__(self, needed: int, available: int) -> None:
        self.needed = needed
        self.available = max(0, available)
        super().__init__(
            f"The question is too long for this model: it has about {needed} tokens, "
            f"and there is room for {self.available}. Shorten it or split it."
        )


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text for the model to continue. The answer ends before the first of `stop_sequences`.

    `template_hash` is the hexadecimal SHA-256 of the template's source; if the prompt has passages, of that
    followed by `grounded.jinja`. `turns_kept` of the given turns are in the text, `turns_dropped` are not.
    The first `passages_used` passages are in it, numbered from 1; None if no documentation was searched.
    """

    text: str
    stop_sequences: tuple[str, ...]
    template_hash: str
    turns_kept: int
    turns_dropped: int
    passages_used: int | None = None


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A question and its answer, both neutralised, made of this many `turns`."""

    question: str
    answer: str
    turns: int


@dataclass(frozen=True, slots=True)
class _QuotedPassage:
    """A neutralised passage for `grounded.jinja`."""

    heading: str
    lines: tuple[str, ...]

    def cut(self, end: int) -> _QuotedPassage:
        return _QuotedPassage(self.heading, (*self.lines[:end], "…"))


class Template(abc.ABC):
    """A format of prompts for models of a size. `templates.choose_template` makes the one for a model."""

    template_hash: str
    stop_sequences: tuple[str, ...]

    def __init__(self, source: str, size: ModelSize = LARGE) -> None:
        self.size = size
        grounded = read_source("grounded.jinja")
        self.template_hash = _hash(source)
        self._grounded_hash = _hash(source + grounded)
        self._grounded = compile_source(grounded)

    def render(
        self,
        turns: Sequence[Turn],
        *,
        budget: int,
        count: Callable[[str], int],
        passages: Sequence[Source] | None = None,
        tone: str = "",
    ) -> Prompt:
        """The prompt for the last of `turns`, which is a question. `turns` begins at the conversation's root.

        The prompt has at most `budget` tokens by `count`. A text must have about as many tokens as its parts.
        Raises `QuestionTooLong`, and `PromptError` if the template rejects the conversation.

        `passages` are the passages of documentation on the question, best first; empty if the search found
        none, None if this conversation is answered without documentation. Unless it is None, every question
        reserves room for passages, so that the search result does not decide which history is kept. A passage
        that does not fit is left out; it never makes a question too long.

        `tone` says how to answer. As passages, it stands with the last question alone and never makes it too
        long.

        Consecutive turns of one role are joined. A question with a blank answer is left out: that answer has
        failed, and what made it fail, such as a long question, must not make all later ones fail.
        """
        *history, question = self._exchanges(turns)
        write = self._writer(budget, count)
        # Measure what the template adds, with the shortest texts that every template accepts.
        one, two = [Turn(Role.USER, "x")], [Turn(Role.ASSISTANT, "x"), Turn(Role.USER, "x")]
        fixed = count(write(one))
        per_exchange = count(write(one + two)) - fixed + 1
        needed = count(question.question)
        before = self._neutralised(Turn(Role.USER, tone)).strip() + "\n\n" if tone.strip() else ""
        if before and needed + count(before) <= budget - fixed:
            fixed += count(before)
        else:
            before = ""
        if needed > budget - fixed:
            raise QuestionTooLong(needed, budget - fixed)

        def reserve(room: int) -> int:
            return 0 if passages is None else max(0, min(room // _PASSAGES_SHARE, self.size.passage_tokens))

        kept = history[_kept_from([*history, question], budget - fixed, per_exchange, count, reserve) :]
        grounded_question, used = self._with_passages(
            question.question, passages or (), needed + reserve(budget - fixed - needed), count
        )
        text = write(
            [
                turn
                for exchange in kept
                for turn in (Turn(Role.USER, exchange.question), Turn(Role.ASSISTANT, exchange.answer))
            ]
            + [Turn(Role.USER, before + grounded_question)]
        )
        turns_kept = sum(exchange.turns for exchange in [*kept, question])
        return Prompt(
            text,
            self.stop_sequences,
            self._grounded_hash if used else self.template_hash,
            turns_kept,
            len(turns) - turns_kept,
            None if passages is None else used,
        )

    def beginning(self, *, budget: int, count: Callable[[str], int]) -> str:
        """The text that all prompts of this budget begin with. Raises the same errors as `render`."""
        one, other = (
            self.render([Turn(Role.USER, question)], budget=budget, count=count).text
            for question in ("x", "y")
        )
        end = next(index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        return one[:end]

    @abc.abstractmethod
    def answer(self) -> AnswerText:
        """A new `AnswerText` for the answer to one prompt."""

    @abc.abstractmethod
    def _neutralised(self, turn: Turn) -> str:
        """The text of a turn, changed where the model or the engine could take it for a mark."""

    @abc.abstractmethod
    def _writer(self, budget: int, count: Callable[[str], int]) -> Callable[[Sequence[Turn]], str]:
        """A function that writes neutralised turns as a prompt. Its preamble depends on the budget."""

    def _exchanges(self, turns: Sequence[Turn]) -> list[_Exchange]:
        if not turns or turns[-1].role is not Role.USER:
            raise PromptError("There is no question to answer: the last message must be a user's.")
        exchanges: list[_Exchange] = []
        question, question_turns = "", 0
        for role, group in groupby(turns, key=lambda turn: turn.role):
            texts = [
                self._neutralised(turn if role is Role.USER else _without_thoughts(turn)) for turn in group
            ]
            text = "\n\n".join(part for part in texts if part.strip())
            if role is Role.USER:
                question, question_turns = text, len(texts)
            elif question and text:
                exchanges.append(_Exchange(question, text, question_turns + len(texts)))
        return [*exchanges, _Exchange(question, "", question_turns)]

    def _with_passages(
        self, question: str, passages: Sequence[Source], available: int, count: Callable[[str], int]
    ) -> tuple[str, int]:
        """The question with the passages that fit into `available` tokens with it, and their number.

        The last passage is cut after a line if it does not fit as a whole.
        """

        def write(chosen: Sequence[_QuotedPassage]) -> str:
            return self._grounded.render(passages=chosen, question=question, explains=self.size.explains)

        chosen: list[_QuotedPassage] = []
        for quoted in map(self._quoted, passages[: self.size.passages]):
            if count(write([*chosen, quoted])) <= available:
                chosen.append(quoted)
                continue
            ends = [end for end, line in enumerate(quoted.lines[:-1], start=1) if line]
            fitting = bisect.bisect_right(
                ends, available, key=lambda end: count(write([*chosen, quoted.cut(end)]))
            )
            if fitting and count("\n".join(quoted.lines[: ends[fitting - 1]])) >= _LEAST_OF_PASSAGE:
                chosen.append(quoted.cut(ends[fitting - 1]))
            break
        return (write(chosen), len(chosen)) if chosen else (question, 0)

    def _quoted(self, passage: Source) -> _QuotedPassage:
        """A passage neutralised, with every kind of line break made a plain one."""
        origin = ", ".join(filter(None, (f"{passage.package} {passage.version}".strip(), passage.location)))
        shown_origin = f"({origin})" if origin and self.size.explains else ""
        heading = " ".join(f"{passage.title or passage.name} {shown_origin}".split())
        if len(heading) > _LONGEST_HEADING:
            heading = heading[: _LONGEST_HEADING - 1] + "…"
        quote = passage.quote if self.size.explains else _first_sentences(passage.quote)
        lines = [line.rstrip() for line in self._neutralised(Turn(Role.USER, quote)).splitlines()]
        text = "\n".join(lines).strip("\n")
        return _QuotedPassage(
            self._neutralised(Turn(Role.USER, heading)), tuple(text.split("\n")) if text else ()
        )


def _first_sentences(text: str) -> str:
    """The beginning of a text in one line: as many sentences as fit, or as many words of a long one."""
    line = " ".join(text[: 4 * _LONGEST_LINE].split())
    if len(line) <= _LONGEST_LINE:
        return line
    ends = [end.end() for end in _SENTENCE_END.finditer(line, endpos=_LONGEST_LINE)]
    return line[: ends[-1]] if ends else f"{line[:_LONGEST_LINE].rpartition(' ')[0]} …"


def _without_thoughts(turn: Turn) -> Turn:
    return replace(turn, content=without_thoughts(turn.content))


def without_thoughts(answer: str) -> str:
    """An answer without the thoughts that a reasoning model writes before it.

    A stopped answer may lack the closing tag. Where the template of the model wrote the opening tag, the
    answer lacks that one. Tags that stand in code or after other text are text.
    """
    rest = answer
    while (thought := _THOUGHT.match(rest)) is not None:
        rest = rest[thought.end() :]
    if rest is answer:
        before, end, after = answer.partition(_END_OF_THOUGHT)
        if not end or before.count("`") % 2 or "<think>" in before:
            return answer
        rest = after
    return rest[start_of_text(rest) :]


def _kept_from(
    exchanges: Sequence[_Exchange],
    available: int,
    per_exchange: int,
    count: Callable[[str], int],
    reserve: Callable[[int], int],
) -> int:
    """The index of the first exchange that the prompt for the last question keeps.

    This replays the conversation from its first question on. Each question leaves some room for the history,
    less the `reserve` of that room. If the history outgrows it, its oldest exchanges are dropped until it
    fills at most half. So the first exchange seldom changes, and the same conversation always gets the same
    one, without any state to store.
    """
    start = filled = 0
    costs: list[int] = []
    for index, exchange in enumerate(exchanges):
        question = count(exchange.question)
        room = available - question
        room -= reserve(room)
        if filled > room:
            while start < index and 2 * filled > room:
                filled -= costs[start]
                start += 1
        costs.append(question + count(exchange.answer) + per_exchange)
        filled += costs[-1]
    return start


def read_source(name: str) -> str:
    """The source of a template in this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def compile_source(source: str) -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    return environment.from_string(source)


def _hash(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()
