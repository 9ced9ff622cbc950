"""The formats of prompts: our own for base models, and the chat template that an instruct model brings.

Each format knows its marks, and neutralises them in the texts of users and of documents: a blank inside a
mark breaks it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from assistant.conversation import Role, Turn
from prompts.answer import AnswerText, start_of_text
from prompts.render import PromptError, Template, compile_source, read_source
from prompts.size import LARGE, ModelSize

SEPARATOR = "-----"

# All characters that end a line for `str.splitlines`, and all that look blank at the start of one.
_LINE_BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_BLANK = rf"(?:[^\S{_LINE_BREAKS}]|[\u00ad\u200b-\u200f\u2060\ufeff])"

# What tokenizers read as one special token, in any family of models: <|im_end|>, <|endoftext|>, <｜User｜>,
# <fim_prefix>, and the separators of files in models of code. No alternative matches a blank: see `_broken`.
_AFTER_BRACKET = (
    r"\|[^\s|]{1,80}\|>|｜[^\s｜]{1,80}｜>|fim_[a-z]{1,20}>|file_sep>|repo_?name>|gh_stars>|empty_output>"
    r"|issue_(?:start|comment|closed)>|jupyter_[a-z]{4,6}>|commit_(?:before|msg|after)>"
)
_SPECIAL = rf"<(?:{_AFTER_BRACKET})"
# What may be a special token if a chat template writes it: <start_of_turn>, </s>, <<SYS>>, [INST].
_SPECIAL_IN_TEMPLATE = re.compile(rf"{_SPECIAL}|<{{1,2}}/?[A-Za-z][\w-]{{0,60}}>{{1,2}}|\[/?[A-Z][A-Z_]+\]")

_WAY_OUT = "Choose another template with --chat-template FILE, or use --prompt tech-assistant."

# The characters that a chat template may write beyond three times the conversation. Instructions and dates
# need far fewer; the limit ends an infinite loop.
_SPARE_OUTPUT = 1 << 18


def choose_template(
    *,
    choice: Literal["auto", "tech-assistant", "chat"],
    chat_template: str | None = None,
    bos_token: str = "",
    eos_token: str = "",
    size: ModelSize = LARGE,
) -> Template:
    """The template for a model. `auto` takes the model's own chat template if it has one, else ours.

    `chat_template` is the source of the model's own. Raises `PromptError` if it does not work, or if the
    choice is `chat` and there is none.
    """
    if choice == "chat" and chat_template is None:
        raise PromptError(f"This model has no chat template. {_WAY_OUT}")
    if choice == "tech-assistant" or chat_template is None:
        return TechAssistantTemplate(bos_token=bos_token, eos_token=eos_token, size=size)
    return ChatTemplate(chat_template, bos_token=bos_token, eos_token=eos_token, size=size)


class TechAssistantTemplate(Template):
    """Our own preamble, examples and labels for base models, from `tech_assistant.jinja`."""

    stop_sequences = ("\nHuman:", "\nAssistant:", f"\n{SEPARATOR}\n\nHuman:")

    def __init__(self, *, bos_token: str = "", eos_token: str = "", size: ModelSize = LARGE) -> None:
        source = read_source("tech_assistant.jinja")
        super().__init__(source, size)
        self._template = compile_source(source)
        self._special = _special_pattern([bos_token, eos_token])
        self._labels = _label_pattern(["Human:", "Assistant:"])

    def answer(self) -> AnswerText:
        return AnswerText(SEPARATOR)

    def _neutralised(self, turn: Turn) -> str:
        text = _broken(turn.content, self._special)
        # The blank goes before the colon. YAML, JavaScript and Python all allow a blank there.
        if "Human:" in text or "Assistant:" in text:
            text = _without_labels(text, self._labels)
        text = text[start_of_text(text) :].rstrip()
        if turn.role is Role.ASSISTANT:
            # A separator before the next label would end the dialogue.
            while text and text[text.rfind("\n") + 1 :] == SEPARATOR:
                text = text[: -len(SEPARATOR)].rstrip()
        return text

    def _writer(self, budget: int, count: Callable[[str], int]) -> Callable[[Sequence[Turn]], str]:
        # A small context gets no examples, and a tiny one no introduction either, so that at least half is
        # left for the conversation. A tiny model cannot use them. This depends only on the model, never on
        # the chat.
        def fits(detail: int) -> bool:
            return 2 * count(self._template.render(detail=detail, turns=())) <= budget

        detail = next((detail for detail in range(self.size.detail, 0, -1) if fits(detail)), 0)
        return lambda turns: self._template.render(detail=detail, turns=turns)


class ChatTemplate(Template):
    """The chat template of an instruct model, in the Jinja dialect of Hugging Face's transformers.

    We do not trust such a template. It runs in a sandbox without access to Python's objects, and its output
    is bounded. (It can still waste time and memory, as its model can.) Unlike ours, it may use undefined
    names: many templates test for names that a plain chat does not have. Raises `PromptError` if the template
    cannot render a plain conversation.

    The text lacks the leading `bos_token`, which the engine adds to every prompt.
    """

    def __init__(
        self, source: str, *, bos_token: str = "", eos_token: str = "", size: ModelSize = LARGE
    ) -> None:
        super().__init__(source, size)
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            extensions=["jinja2.ext.loopcontrols", _GenerationTag],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        self._bos_token = bos_token
        self._eos_token = eos_token
        with _template_errors("cannot be read"):
            self._template = environment.from_string(source)
        first, answer, second = "Question-one.", "Answer-one.", "Question-two."
        probe = self._write([Turn(Role.USER, first), Turn(Role.ASSISTANT, answer), Turn(Role.USER, second)])
        if first not in probe or second not in probe:
            raise PromptError(f"The model's chat template leaves out the user's messages. {_WAY_OUT}")
        tokens = [bos_token, eos_token]
        # A template may look for <think> and the like in answers. So an answer loses only the marks between
        # turns, a question every mark that the template knows.
        self._special_of = {
            Role.USER: _special_pattern([*tokens, *_SPECIAL_IN_TEMPLATE.findall(source)]),
            Role.ASSISTANT: _special_pattern([*tokens, *_SPECIAL_IN_TEMPLATE.findall(probe)]),
        }
        before_answer, _, rest = probe.partition(first)[2].partition(answer)
        between, _, last = rest.partition(second)
        labels = _plain_labels([before_answer, between, last], tokens)
        self._labels = _label_pattern(labels) if labels else None
        # The marks that end an answer and begin the next turn, in case the engine passes them on as text.
        self.stop_sequences = tuple(dict.fromkeys(_SPECIAL_IN_TEMPLATE.findall(between)))

    def answer(self) -> AnswerText:
        return AnswerText()

    def _neutralised(self, turn: Turn) -> str:
        text = _broken(turn.content, self._special_of[turn.role])
        return text if self._labels is None else _without_labels(text, self._labels)

    def _writer(self, budget: int, count: Callable[[str], int]) -> Callable[[Sequence[Turn]], str]:
        return self._write

    def _write(self, turns: Sequence[Turn]) -> str:
        messages = [{"role": turn.role.value, "content": turn.content} for turn in turns]
        limit = 3 * sum(len(turn.content) for turn in turns) + _SPARE_OUTPUT
        pieces: list[str] = []
        length = 0
        with _template_errors("rejects this conversation"):
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
                    raise PromptError(f"The output of the model's chat template does not end. {_WAY_OUT}")
        return "".join(pieces).removeprefix(self._bos_token)


def _label_pattern(labels: Iterable[str]) -> re.Pattern[str]:
    """Matches a label at the start of a line, after any kind of line break and of blank."""
    longest_first = sorted(labels, key=len, reverse=True)
    return re.compile(rf"((?:\A|[{_LINE_BREAKS}]){_BLANK}*)({'|'.join(map(re.escape, longest_first))})")


def _without_labels(text: str, labels: re.Pattern[str]) -> str:
    """The text with a blank inside each label: before the last character of a word, else after the first."""

    def broken(match: re.Match[str]) -> str:
        before, label = match.groups()
        cut = len(label) - 1 if label[0].isalnum() else 1
        return f"{before}{label[:cut]} {label[cut:]}"

    return labels.sub(broken, text)


def _plain_labels(between: Sequence[str], tokens: Sequence[str]) -> set[str]:
    """The labels that a chat template writes without special tokens, such as `### Response:`.

    `between` is the text that the template puts between messages. A line of letters alone is no label: it
    stands beside a special token.
    """
    labels = set()
    for text in between:
        for token in filter(None, tokens):
            text = text.replace(token, "\n")
        lines = _SPECIAL_IN_TEMPLATE.sub("\n", text).splitlines()
        labels |= {line.strip() for line in lines if len(line.strip()) > 1 and re.search(r"[^\w\s]", line)}
    return labels


def _special_pattern(literals: Sequence[str]) -> re.Pattern[str]:
    """Matches the first character of a special token of any family, or of one of `literals`.

    Each alternative begins with a plain character, so that the regex engine skips most text quickly.
    """
    rest_by_first = {"<": [_AFTER_BRACKET]}
    for token in sorted({literal for literal in literals if re.fullmatch(r"\S{2,}", literal)}):
        rest_by_first.setdefault(token[0], []).append(re.escape(token[1:]))
    return re.compile(
        "|".join(rf"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in rest_by_first.items())
    )


def _broken(text: str, special: re.Pattern[str]) -> str:
    """The text with a blank after the first character of each special token.

    No special token is left: it would have to contain a new blank, and none contains blanks.
    """
    return special.sub(r"\g<0> ", text)


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}`, which marks the text that a model is trained on. It renders its body."""

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
    # Jinja's own filter escapes for HTML, which models are not trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


@contextlib.contextmanager
def _template_errors(what: str) -> Iterator[None]:
    """Turn the errors of a chat template into `PromptError`. Any expression in it may raise any of these."""
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
