"""Prompts: a conversation as the text that a model continues, and the model's text as an answer.

Knows the two ways to put a conversation to a model (our own template for base models, the chat template
that an instruct model brings), how a long history is made to fit, how documentation is put with a question,
and how the words of people and of documents are kept from passing for the prompt's own marks. Refuses to know
who computes the text, how tokens are counted and where passages are found: the caller gives a budget and a
function that counts.

    turns ──> exchanges ──> the history that fits ──┐
    passages ──> those that fit ──> the question ───┴──> text ──> (a model) ──> AnswerText ──> answer

Two promises hold for every template. What the engine has read before stays the beginning of what it reads
next: the preamble never varies, the history only grows, and when it must shrink it shrinks by so much that it
then grows undisturbed for many turns. Passages are put with the last question alone, behind all of that, and
in the history a question stands as its person wrote it. And no text of a turn or of a passage contains a mark
of the prompt.

PromptError             a conversation cannot be put to this model; the text says why
└── QuestionTooLong     not even the question alone fits; .needed and .available in tokens
"""

from __future__ import annotations

import abc
import bisect
import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from assistant.conversation import Role, Source, Turn

SEPARATOR = "-----"

# A label at the start of a line, whatever kind of line break and of blank comes before it.
_BLANK = r"[\s\u00ad\u200b-\u200f\u2060\ufeff]"
_LABEL = re.compile(rf"({_BLANK}*(?:Human|Assistant)):")

# What tokenizers read as one special token, in any family of models: <|im_end|>, <|endoftext|>, <｜User｜>,
# <fim_prefix>, and what parts one file from the next for models of code. No alternative matches a blank: see
# `_broken`.
_AFTER_BRACKET = (
    r"\|[^\s|]{1,80}\|>|｜[^\s｜]{1,80}｜>|fim_[a-z]{1,20}>|file_sep>|repo_?name>|gh_stars>|empty_output>"
    r"|issue_(?:start|comment|closed)>|jupyter_[a-z]{4,6}>|commit_(?:before|msg|after)>"
)
_SPECIAL = rf"<(?:{_AFTER_BRACKET})"
# What may be one if a chat template writes it: <start_of_turn>, </s>, <<SYS>>, [INST].
_SPECIAL_IN_TEMPLATE = re.compile(rf"{_SPECIAL}|<{{1,2}}/?[A-Za-z][\w-]{{0,60}}>{{1,2}}|\[/?[A-Z][A-Z_]+\]")

_WAY_OUT = "Give another one by --chat-template FILE, or choose --prompt tech-assistant."

# The room for passages, in tokens: a share of what the question leaves free, and no more than a few pages of
# documentation take, so that a large context is not read anew for each question.
_PASSAGES_SHARE = 4
_MOST_FOR_PASSAGES = 1500
# A passage is not begun if less than this would be left of it: a line or two without their context mislead.
_LEAST_OF_PASSAGE = 60
_LONGEST_HEADING = 160  # characters

# Characters that a chat template may write beyond three times the conversation: a limit for a template that
# loops, far above what instructions and dates need.
_SPARE_OUTPUT = 1 << 18


class PromptError(Exception):
    """The root of this folder's errors; the text is a sentence for people."""


class QuestionTooLong(PromptError):
    """Even without any history the question leaves no room; both figures are in tokens, estimated."""

    def __init__(self, needed: int, available: int) -> None:
        self.needed = needed
        self.available = max(0, available)
        super().__init__(
            f"The question is too long for this model: it has about {needed} tokens, "
            f"and there is room for {self.available}. Shorten it or split it."
        )


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to continue; the answer ends before the first of `stop_sequences`.

    `template_hash` is the SHA-256 of the template's source, in hex; with passages, of `grounded.jinja` after
    it too. Of the turns that were given, `turns_kept` are in the text and `turns_dropped` are not. Of the
    passages, the first `passages_used` are in it, numbered from 1; None where none were looked up.
    """

    text: str
    stop_sequences: tuple[str, ...]
    template_hash: str
    turns_kept: int
    turns_dropped: int
    passages_used: int | None = None


class AnswerText:
    """The model's text as an answer, piece by piece; however it is cut, the pieces add up to the same.

    Leading blank lines are left out; where there are none, so is the one space that follows the label. What
    comes after is kept, the indentation of a first line of code too. With a `separator`, lines of exactly
    that at the very end go, with the blank lines around them: a base model has begun the next dialogue.
    """

    def __init__(self, separator: str | None = None) -> None:
        self._separator = separator
        self._begun = False  # something other than blanks has come
        self._held: list[str] = []  # whole lines that were held back, each a separator or blank
        self._line = ""  # what of the line after them was held back
        self._at_line_start = True  # whether the next character begins a line, or `_line` does

    def feed(self, piece: str) -> str:
        """The text that is sure to belong to the answer now that `piece` has come."""
        text = self._line + piece
        if not self._begun:
            if not text.strip():
                self._line = text
                return ""
            self._begun = True
            text = text[_start_of_text(text) or int(text.startswith(" ")) :]
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
        """What was held back and belongs to the answer after all; the text has ended."""
        held = "".join([*self._held, self._line])
        self._held, self._line = [], ""
        if not self._begun or held.rstrip().rpartition("\n")[2] == self._separator:
            return ""
        return held

    def _first_held(self, lines: list[str]) -> int:
        """The first of the lines at the end that may all turn out to be separators and blank."""
        if self._separator is None or not (
            self._separator.startswith(lines[-1]) or self._is_between(lines[-1])
        ):
            return len(lines)
        first = len(lines) - 1
        while first > 0 and self._is_between(lines[first - 1]):
            first -= 1
        # The rest of a line that was passed on is no line of its own.
        return first if self._at_line_start else max(first, 1)

    def _is_between(self, line: str) -> bool:
        line = line.rstrip()
        return not line or line == self._separator


def _start_of_text(text: str) -> int:
    """Where the first line begins that is not blank."""
    if not text[:1].isspace():
        return 0
    return text.rfind("\n", 0, len(text) - len(text.lstrip())) + 1


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A question and its answer, harmless; `turns` is how many of the given turns went into it."""

    question: str
    answer: str
    turns: int


@dataclass(frozen=True, slots=True)
class _Quoted:
    """A passage as `grounded.jinja` takes it, harmless."""

    heading: str
    lines: tuple[str, ...]

    def cut(self, end: int) -> _Quoted:
        return _Quoted(self.heading, (*self.lines[:end], "…"))


class Template(abc.ABC):
    """One way to put conversations to a model; make one by `choose_template`."""

    template_hash: str
    stop_sequences: tuple[str, ...]

    def __init__(self, source: str) -> None:
        grounded = _read("grounded.jinja")
        self.template_hash = _hash(source)
        self._grounded_hash = _hash(source + grounded)
        self._grounded = _compile(grounded)

    def render(
        self,
        turns: Sequence[Turn],
        *,
        budget: int,
        count: Callable[[str], int],
        passages: Sequence[Source] | None = None,
    ) -> Prompt:
        """The prompt for the last of `turns`, which is a question; `turns` begins at the root.

        The prompt has at most `budget` tokens by `count`, which is taken to add up: a text has about as many
        tokens as its parts. Raises `QuestionTooLong`, and `PromptError` where the template refuses.

        `passages` is what documentation has on the question, best first; None where none is looked up for
        this conversation. If it is, some room is kept free for passages at every question, whether or not
        anything was found, so that what is found does not decide which of the history is kept. They never
        make a question too long: where there is no room for them, they are left out.

        Several turns of one speaker are read as one. A question whose answer is blank (it failed) is left out
        with it: what made it fail, such as its length, shall not make every later question fail.
        """
        *history, question = self._exchanges(turns)
        write = self._writer(budget, count)
        # What the template adds, measured with the shortest texts that every template takes.
        one, two = [Turn(Role.USER, "x")], [Turn(Role.ASSISTANT, "x"), Turn(Role.USER, "x")]
        fixed = count(write(one))
        marks = count(write(one + two)) - fixed + 1
        needed = count(question.question)
        if needed > budget - fixed:
            raise QuestionTooLong(needed, budget - fixed)

        def reserve(room: int) -> int:
            return 0 if passages is None else max(0, min(room // _PASSAGES_SHARE, _MOST_FOR_PASSAGES))

        kept = history[_kept_from([*history, question], budget - fixed, marks, count, reserve) :]
        asked, used = self._with_passages(
            question.question, passages or (), needed + reserve(budget - fixed - needed), count
        )
        text = write(
            [
                turn
                for exchange in kept
                for turn in (Turn(Role.USER, exchange.question), Turn(Role.ASSISTANT, exchange.answer))
            ]
            + [Turn(Role.USER, asked)]
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
        """What all prompts of this budget begin with, whatever is asked. Raises as `render` does."""
        one, other = (
            self.render([Turn(Role.USER, question)], budget=budget, count=count).text
            for question in ("x", "y")
        )
        differs = next(place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        return one[:differs]

    @abc.abstractmethod
    def answer(self) -> AnswerText:
        """A new reader of one answer to this template's prompts."""

    @abc.abstractmethod
    def _harmless(self, turn: Turn) -> str:
        """What the turn says, without anything that the model or its engine could take for a mark."""

    @abc.abstractmethod
    def _writer(self, budget: int, count: Callable[[str], int]) -> Callable[[Sequence[Turn]], str]:
        """What turns harmless turns into text, within this budget."""

    def _exchanges(self, turns: Sequence[Turn]) -> list[_Exchange]:
        if not turns or turns[-1].role is not Role.USER:
            raise PromptError("There is no question to answer: the last turn must be a person's.")
        exchanges: list[_Exchange] = []
        question, asked = "", 0
        for role, group in groupby(turns, key=lambda turn: turn.role):
            said = [self._harmless(turn) for turn in group]
            text = "\n\n".join(part for part in said if part.strip())
            if role is Role.USER:
                question, asked = text, len(said)
            elif question and text:
                exchanges.append(_Exchange(question, text, asked + len(said)))
        return [*exchanges, _Exchange(question, "", asked)]

    def _with_passages(
        self, question: str, passages: Sequence[Source], available: int, count: Callable[[str], int]
    ) -> tuple[str, int]:
        """The question with as many of the first passages as fit into `available` tokens with it, and their
        number. The last of them is cut at the end of a line if it does not fit as a whole."""

        def put(quoted: Sequence[_Quoted]) -> str:
            return self._grounded.render(passages=quoted, question=question)

        chosen: list[_Quoted] = []
        for quoted in map(self._quoted, passages):
            if count(put([*chosen, quoted])) <= available:
                chosen.append(quoted)
                continue
            ends = [end for end, line in enumerate(quoted.lines[:-1], start=1) if line]
            fitting = bisect.bisect_right(
                ends, available, key=lambda end: count(put([*chosen, quoted.cut(end)]))
            )
            if fitting and count("\n".join(quoted.lines[: ends[fitting - 1]])) >= _LEAST_OF_PASSAGE:
                chosen.append(quoted.cut(ends[fitting - 1]))
            break
        return (put(chosen), len(chosen)) if chosen else (question, 0)

    def _quoted(self, passage: Source) -> _Quoted:
        """A passage without anything that could be taken for a mark, and without line breaks but ours."""
        origin = ", ".join(filter(None, (f"{passage.package} {passage.version}".strip(), passage.location)))
        heading = " ".join(f"{passage.title or passage.name} {origin and f'({origin})'}".split())
        if len(heading) > _LONGEST_HEADING:
            heading = heading[: _LONGEST_HEADING - 1] + "…"
        lines = [line.rstrip() for line in self._harmless(Turn(Role.USER, passage.quote)).splitlines()]
        text = "\n".join(lines).strip("\n")
        return _Quoted(self._harmless(Turn(Role.USER, heading)), tuple(text.split("\n")) if text else ())


def _kept_from(
    exchanges: Sequence[_Exchange],
    available: int,
    marks: int,
    count: Callable[[str], int],
    reserve: Callable[[int], int],
) -> int:
    """The index of the first exchange that is in the prompt for the last one's question.

    Follows the conversation from its first question on. When the history outgrows what the question of its
    day leaves of `available`, less the `reserve` of that, its oldest exchanges go until it fills at most half
    of it. So the start moves seldom, and the same conversation always starts at the same place, with nothing
    to remember.
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
        costs.append(question + count(exchange.answer) + marks)
        filled += costs[-1]
    return start


class TechAssistantTemplate(Template):
    """Our own preamble, examples and labels, for base models: the text of `tech_assistant.jinja`."""

    stop_sequences = ("\nHuman:", "\nAssistant:", f"\n{SEPARATOR}\n\nHuman:")

    def __init__(self, *, bos_token: str = "", eos_token: str = "") -> None:
        source = _read("tech_assistant.jinja")
        super().__init__(source)
        self._template = _compile(source)
        self._special = _special_pattern([bos_token, eos_token])

    def answer(self) -> AnswerText:
        return AnswerText(SEPARATOR)

    def _harmless(self, turn: Turn) -> str:
        text = _broken(turn.content, self._special)
        # A blank before the colon breaks a label. It is the smallest change that a reader sees and a model
        # understands, and it leaves code as it is: YAML, JavaScript and Python all allow a blank there.
        if "Human:" in text or "Assistant:" in text:
            text = "".join(_unlabelled(line) for line in text.splitlines(keepends=True))
        text = text[_start_of_text(text) :].rstrip()
        if turn.role is Role.ASSISTANT:
            # A separator before the next person's label would end the dialogue.
            while text and text[text.rfind("\n") + 1 :] == SEPARATOR:
                text = text[: -len(SEPARATOR)].rstrip()
        return text

    def _writer(self, budget: int, count: Callable[[str], int]) -> Callable[[Sequence[Turn]], str]:
        # A small context goes without the examples, and a tiny one without the introduction, so that at
        # least half is left for the conversation. This depends on the model alone, never on the chat.
        def fits(detail: int) -> bool:
            return 2 * count(self._template.render(detail=detail, turns=())) <= budget

        detail = next((detail for detail in (2, 1) if fits(detail)), 0)
        return lambda turns: self._template.render(detail=detail, turns=turns)


class ChatTemplate(Template):
    """The chat template that comes with an instruct model, in the dialect of Jinja that these are written in.

    Such a template is not trusted: it runs in a sandbox that keeps it from Python's objects, and its output
    is bounded. (It can still waste time and memory, as can the model that it comes with.) Undefined names are
    allowed, unlike in our own, since these templates ask for many that a plain chat does not have. Raises
    `PromptError` at once if the template cannot render a plain conversation.

    The leading `bos_token` is left out of the text: the engine puts it before every prompt.
    """

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "") -> None:
        super().__init__(source)
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            extensions=["jinja2.ext.loopcontrols", _GenerationTag],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        self._bos_token = bos_token
        self._eos_token = eos_token
        with _template_errors("cannot be read"):
            self._template = environment.from_string(source)
        first, answer, second = "Question-one.", "Answer-one.", "Question-two."
        probe = self._write([Turn(Role.USER, first), Turn(Role.ASSISTANT, answer), Turn(Role.USER, second)])
        if first not in probe or second not in probe:
            raise PromptError(f"The model's chat template leaves out what people say. {_WAY_OUT}")
        tokens = [bos_token, eos_token]
        # In an answer, <think> and the like may be what the template itself looks for, so there only the
        # marks of turns are broken; in a question, everything that the template knows.
        self._special_of = {
            Role.USER: _special_pattern([*tokens, *_SPECIAL_IN_TEMPLATE.findall(source)]),
            Role.ASSISTANT: _special_pattern([*tokens, *_SPECIAL_IN_TEMPLATE.findall(probe)]),
        }
        before_answer, _, rest = probe.partition(first)[2].partition(answer)
        between, _, last = rest.partition(second)
        self._labels = _plain_labels([before_answer, between, last], [bos_token, eos_token])
        # What ends an answer and begins the next turn, in case that the engine passes it on as text.
        self.stop_sequences = tuple(dict.fromkeys(_SPECIAL_IN_TEMPLATE.findall(between)))

    def answer(self) -> AnswerText:
        return AnswerText()

    def _harmless(self, turn: Turn) -> str:
        text = _broken(turn.content, self._special_of[turn.role])
        if self._labels is None or not self._labels.search(text):
            return text
        return "".join(self._unlabelled(line) for line in text.splitlines(keepends=True))

    def _unlabelled(self, line: str) -> str:
        label = None if self._labels is None else self._labels.match(line)
        if label is None:
            return line
        start, end = label.span(1)
        cut = end - 1 if line[start].isalnum() else start + 1
        return f"{line[:cut]} {line[cut:]}"

    def _writer(self, budget: int, count: Callable[[str], int]) -> Callable[[Sequence[Turn]], str]:
        return self._write

    def _write(self, turns: Sequence[Turn]) -> str:
        messages = [{"role": turn.role.value, "content": turn.content} for turn in turns]
        limit = 3 * sum(len(turn.content) for turn in turns) + _SPARE_OUTPUT
        pieces: list[str] = []
        length = 0
        with _template_errors("refuses this conversation"):
            for piece in self._template.generate(
                messages=messages,
                add_generation_prompt=True,
                bos_token=self._bos_token,
                eos_token=self._eos_token,
                tools=None,
                documents=None,
            ):
                pieces.append(piece)
                length += len(piece)
                if length > limit:
                    raise PromptError(f"The model's chat template writes without end. {_WAY_OUT}")
        return "".join(pieces).removeprefix(self._bos_token)


def choose_template(
    *,
    choice: Literal["auto", "tech-assistant", "chat"],
    chat_template: str | None = None,
    bos_token: str = "",
    eos_token: str = "",
) -> Template:
    """The template for a model: `auto` takes the model's own chat template if it has one, else ours.

    `chat_template` is the source of the model's own. Raises `PromptError` if `chat` is chosen and there is
    none, or if it does not work.
    """
    if choice == "chat" and chat_template is None:
        raise PromptError(
            "This model has no chat template. Give one by --chat-template FILE, "
            "or choose --prompt tech-assistant."
        )
    if choice == "tech-assistant" or chat_template is None:
        return TechAssistantTemplate(bos_token=bos_token, eos_token=eos_token)
    return ChatTemplate(chat_template, bos_token=bos_token, eos_token=eos_token)


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _compile(source: str) -> jinja2.Template:
    """A template of our own."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    return environment.from_string(source)


def _hash(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _unlabelled(line: str) -> str:
    label = _LABEL.match(line)
    return line if label is None else f"{label[1]} :{line[label.end() :]}"


def _plain_labels(between: Sequence[str], tokens: Sequence[str]) -> re.Pattern[str] | None:
    """Matches the labels that a chat template writes without special tokens, such as `### Response:`, at the
    start of a line; `between` is what it puts between messages. Mere words are none: a token is with them."""
    labels = set()
    for text in between:
        for token in filter(None, tokens):
            text = text.replace(token, "\n")
        lines = _SPECIAL_IN_TEMPLATE.sub("\n", text).splitlines()
        labels |= {line.strip() for line in lines if len(line.strip()) > 1 and re.search(r"[^\w\s]", line)}
    if not labels:
        return None
    return re.compile(rf"{_BLANK}*({'|'.join(map(re.escape, sorted(labels, key=len, reverse=True)))})")


def _special_pattern(literals: Sequence[str]) -> re.Pattern[str]:
    """Matches the first character of a special token of any family, or of one of `literals`.

    Each alternative begins with a plain character, so that most text is passed over by a search in C.
    """
    rest_by_first = {"<": [_AFTER_BRACKET]}
    for token in sorted({literal for literal in literals if re.fullmatch(r"\S{2,}", literal)}):
        rest_by_first.setdefault(token[0], []).append(re.escape(token[1:]))
    return re.compile(
        "|".join(rf"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in rest_by_first.items())
    )


def _broken(text: str, special: re.Pattern[str]) -> str:
    """The text with a blank after the first character of whatever reads as a special token.

    Nothing special is left: it would have to span a new blank, and none contains blanks.
    """
    return special.sub(r"\g<0> ", text)


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}`, by which templates mark what a model is trained on: here its body, as it is."""

    tags = {"generation"}  # noqa: RUF012 (the base class says so)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML, which a model has never seen.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


@contextlib.contextmanager
def _template_errors(what: str) -> Iterator[None]:
    """Map whatever a foreign template may raise, which is what any expression may raise."""
    try:
        yield
    except (
        jinja2.TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise PromptError(f"The model's chat template {what}: {reason}. {_WAY_OUT}") from error
