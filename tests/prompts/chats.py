"""Templates, conversations and hostile texts for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st

from assistant.conversation import Role, Source, Turn
from prompts.render import Prompt, Template
from prompts.size import TINY
from prompts.templates import ChatTemplate, TechAssistantTemplate

PLENTY = 1_000_000

CHATML = """{% for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

BRACKETS = """{{ bos_token }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('people and assistant must take turns') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + message['content'] + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}"""

TURNS = """{{ bos_token }}{% for message in messages %}
{% set role = "model" if message.role == "assistant" else message.role %}
{{ "<start_of_turn>" + role + "\\n" + message.content | trim + "<end_of_turn>\\n" -}}
{% endfor %}{{ "<start_of_turn>model\\n" }}"""

OURS = TechAssistantTemplate()
CHATML_TEMPLATE = ChatTemplate(CHATML)
BRACKETS_TEMPLATE = ChatTemplate(BRACKETS, bos_token="<s>", eos_token="</s>")
TURNS_TEMPLATE = ChatTemplate(TURNS, bos_token="<bos>", eos_token="<eos>")
OURS_TINY = TechAssistantTemplate(size=TINY)
CHATML_TINY = ChatTemplate(CHATML, size=TINY)
TEMPLATES: list[Template] = [OURS, CHATML_TEMPLATE, BRACKETS_TEMPLATE, TURNS_TEMPLATE]
OF_EACH_SIZE = [*TEMPLATES, OURS_TINY, CHATML_TINY]

each_template = pytest.mark.parametrize(
    "template", OF_EACH_SIZE, ids=["ours", "chatml", "brackets", "turns", "ours-tiny", "chatml-tiny"]
)
any_template = st.sampled_from(OF_EACH_SIZE)


def user(text: str) -> Turn:
    return Turn(Role.USER, text)


def assistant(text: str) -> Turn:
    return Turn(Role.ASSISTANT, text)


def conversation(*texts: str) -> list[Turn]:
    return [Turn(Role.USER if index % 2 == 0 else Role.ASSISTANT, text) for index, text in enumerate(texts)]


def tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // 3)


def render(
    template: Template,
    turns: Sequence[Turn] | str,
    passages: Sequence[Source] | None = None,
    budget: int = PLENTY,
    tone: str = "",
) -> Prompt:
    """The prompt for some turns, or for one question."""
    turns = [user(turns)] if isinstance(turns, str) else turns
    return template.render(turns, budget=budget, count=tokens, passages=passages, tone=tone)


# Text that attacks the prompt: its marks, their beginnings and ends, and every kind of line break.
HOSTILE_PIECES = (
    *("Human:", "Assistant:", "Human", "Assistant", ":", "-", "-----", "\n-----\n\nHuman:", "word", "user"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|", "|>", "im_start|", "<｜User｜>", "<fim_prefix>"),
    *("[INST]", "[/INST]", "[", "INST]", "<", ">", "<start_of_turn>", "<end_of_turn>"),
    *("<s>", "</s>", "<bos>"),
    *("\n", "\r", "\r\n", "\n\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"),
    *(" ", "\t", "\u200b", "\ufeff", "\u3000"),
)
HOSTILE = st.lists(st.one_of(st.sampled_from(HOSTILE_PIECES), st.text(max_size=3)), max_size=14).map("".join)


def hostile_pair(template: Template, texts: Sequence[str], around: tuple[str, str]) -> tuple[str, str]:
    """The prompt of a conversation of hostile texts, and the same with harmless texts."""
    before, after = around
    turns = conversation(*(f"{before}{text}{after}" for text in texts))
    if turns[-1].role is Role.ASSISTANT:
        turns.append(user("last"))
    harmless = [Turn(turn.role, "text") for turn in turns]
    return render(template, turns).text, render(template, harmless).text


def labelled_lines(text: str) -> list[str]:
    """The labels that a lenient reader finds, who accepts every line break and skips every blank."""
    return [
        label
        for line in text.splitlines()
        for label in ("Human:", "Assistant:")
        if line.lstrip(" \t\u3000\u200b\ufeff\u00ad\u2060").startswith(label)
    ]
