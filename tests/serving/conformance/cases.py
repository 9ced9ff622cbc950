"""The conformance list of stop sequences: what a model generates token by token, and what must be shown.

The texts are written by hand and not computed, because they define what is right for every engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.scripted_gguf import TokenText

LLAMA_CPP, OPENAI, TGI = "llama.cpp", "OpenAI", "TGI"

TITLES = {
    1: "stop is one token",
    2: "stop of several tokens: none of it is shown",
    3: "stop starts inside a token",
    4: "stop ends inside a token",
    5: "the same with one trailing newline",
    6: "stop strictly inside one token",
    7: "two stops in one step: the earlier in the text wins",
    8: "the same stop twice in one step: the first cuts",
    9: "stops that begin, end or contain each other",
    10: "stop that overlaps itself",
    11: "false start: shown once, nothing lost",
    12: "stop cut into unusual tokens",
    13: "end of text while text is held back",
    14: "length limit while text is held back",
    15: "stop completes on the last allowed token",
    16: "stop and end of text in one step",
    17: "stop before or beyond the limit in a step of several tokens",
    18: "counts and ids agree once the stop is removed",
    19: "emoji across tokens",
    20: "stop inside a token that ends within a character",
    21: "length limit within a character",
    22: "stop of wide characters, byte by byte",
    23: "invalid UTF-8: goes on",
    24: "included stop: the text ends exactly with it",
    25: "the stop comes first: no text",
    26: "stop in the prompt does not fire",
    27: "stop across the end of the prompt does not fire",
    28: "no stop and no end within the least number of tokens",
    29: "empty stop is refused",
    30: "as many and as long stops as allowed, no more",
    31: "only what may become a stop is held back",
    32: "stream equals whole under random cuts",
    33: "stop inside text of reasoning or of tools",
    34: "text of a special token as a stop",
    35: "line ends of every kind survive the event stream",
    36: "code and Markdown that resemble the prompt's labels are not cut",
    37: "client gone while text is held back: the engine is cancelled",
}

NOT_APPLICABLE: Mapping[tuple[int, str], str] = {(28, TGI): "no such parameter: refused"}
"""Why a case does not apply to an engine. The tests then check its refusal."""

HUMAN = "\nHuman:"
PROMPT_STOPS = ("\nHuman:", "\nAssistant:", "\n-----\n\nHuman:")
IM_END = "<|im_end|>"
KEEP_STOP = {"include_stop": True}
FULL_TEXT = {"return_full_text": True}
LEAST_2 = {"min_new_tokens": 2}

Step = TokenText | tuple[TokenText, ...]  # a token, or several that an engine sends in one step


@dataclass(frozen=True)
class Case:
    """`says` continues after the stop, so that only the stop can end the text there."""

    number: int
    says: Sequence[Step]
    stops: Sequence[str]
    shown: str
    stop: str | None = None
    """The stop that ends the text; None: the limit if there is one, else the end of the text."""
    limit: int | None = None
    after: str = ""  # the last part of the prompt, after the part that selects the case
    ends_with_last: bool = False  # whether the end comes with the last token, on engines that can do so
    asked: Mapping[str, Any] = field(default_factory=dict)
    only: Sequence[str] = (LLAMA_CPP, OPENAI, TGI)  # the engines that can be made to generate this

    @property
    def tokens(self) -> list[TokenText]:
        return [told for step in self.says for told in (step if isinstance(step, tuple) else (step,))]

    @property
    def reason(self) -> str:
        if self.stop is not None:
            return "stop_sequence"
        return "eos_token" if self.limit is None else "length"


def _bytes(text: str) -> list[bytes]:
    return [bytes([byte]) for byte in text.encode()]


def _cut_in_three(stop: str) -> list[Case]:
    text = stop.encode()
    cuts = [(first, second) for first in range(1, len(text)) for second in range(first + 1, len(text))]
    return [
        Case(12, [b"x", text[:first], text[first:second], text[second:], b" y"], [stop], "x", stop)
        for first, second in cuts
    ]


LINE_ENDS = "a\rb\r\nc\n\rd\u2028e\u2029f\u0085g\x0bh\x0ci\x1cj\x1dk\x1el\x00m\ufeffn\n\n\r\r\n\r\no"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

CASES = [
    Case(1, [b"Yes", b"<end>", b"more"], ["<end>"], "Yes", "<end>"),
    Case(2, [b"Yes", b"\n", b"Hum", b"an", b":", b" hi"], [HUMAN], "Yes", HUMAN),
    Case(3, [b"done.\n", b"Human:", b" hi"], [HUMAN], "done.", HUMAN),
    Case(4, [b"done", b"\nHuman", b":\n\n", b"hi"], [HUMAN], "done", HUMAN),
    Case(5, [b"done", b"\nHuman", b":\n", b"hi"], [HUMAN], "done", HUMAN),
    Case(6, [b"oneSTOPtwo", b" more"], ["STOP"], "one", "STOP"),
    Case(7, [b"so: ", b"a first b second c", b" d"], ["first", "second"], "so: a ", "first"),
    Case(7, [b"so: ", b"a first b second c", b" d"], ["second", "first"], "so: a ", "first"),
    Case(8, [b"a--b--c", b"--d"], ["--"], "a", "--"),
    Case(9, [b"xab", b"c", b" d"], ["abc", "ab"], "x", "ab"),
    Case(9, [b"ok", b"\nHuman", b": hi"], ["Human:", HUMAN], "ok", HUMAN),
    Case(9, [b"ok", b"\nHuman", b": hi"], [HUMAN, "Human:"], "ok", HUMAN),
    Case(9, [b"xabcd", b" e"], ["abcd", "bc"], "xa", "bc"),
    Case(9, [b"xab", b"cd", b" e"], ["abcd", "bc"], "xa", "bc"),
    Case(10, [b"aaab", b"c"], ["aab"], "a", "aab"),
    Case(10, [b"a", b"a", b"a", b"b", b"c"], ["aab"], "a", "aab"),
    Case(11, [b"so", b"\nHum", b"ble", b" pie"], [HUMAN], "so\nHumble pie"),
    Case(11, [b"so\n", b"Hum", b"\nHum", b"\n\nHuman", b" pie"], [HUMAN], "so\nHum\nHum\n\nHuman pie"),
    *_cut_in_three(HUMAN),
    Case(12, [b"x", *_bytes(HUMAN), b" y"], [HUMAN], "x", HUMAN),
    Case(13, [b"the end", b"\nHuman"], [HUMAN], "the end\nHuman"),
    Case(13, [b"the end", b"\nHuman"], [HUMAN], "the end\nHuman", ends_with_last=True),
    Case(14, [b"the end", b"\nHum", b"an", b": hi"], [HUMAN], "the end\nHuman", limit=3),
    Case(14, [b"the end", b"\nHum", b"an", b": hi"], [HUMAN], "the end\nHum", limit=2),
    Case(14, [b"\n", b"Human"], ["\n" * 256, HUMAN], "\n", limit=1),
    Case(15, [b"a", b"\nHuman", b":", b" hi"], [HUMAN], "a", HUMAN, limit=3),
    Case(15, [b"a", b"\nHuman: b", b" hi"], [HUMAN], "a", HUMAN, limit=2),
    Case(16, [b"a", b"\nHuman", b":"], [HUMAN], "a", HUMAN, ends_with_last=True),
    Case(16, [b"a", b"\nHuman:"], [HUMAN], "a", HUMAN, ends_with_last=True),
    Case(17, [b"a", (b"b", b"\nHuman", b":", b" c"), b"d"], [HUMAN], "ab", HUMAN, limit=5, only=[OPENAI]),
    Case(17, [b"a", (b"b", b"\nHuman")], [HUMAN], "ab\nHuman", limit=3, only=[OPENAI]),
    # On llama.cpp, a step of several tokens is a character that consists of them.
    Case(17, [b"a", b"\xe7", b"\x94", b"\xa8STOP", b" b"], ["STOP"], "a用", "STOP", limit=4),
    Case(17, [b"a", b"\xe7", b"\x94", b"\xa8STOP", b" b"], ["STOP"], "a", limit=3),
    Case(18, [b"one", b" two", b"\nHum", b"an", b":", b" three"], [HUMAN], "one two", HUMAN),
    Case(18, [b"one ", *_bytes("🦉"), b" t", b"wo", b" three"], ["two"], "one 🦉 ", "two"),
    Case(19, [b"a ", *_bytes("🦉🏳️‍🌈"), b" b"], ["never"], "a 🦉🏳️‍🌈 b"),
    Case(19, [b"a \xf0\x9f", b"\xa6\x89 b \xf0", b"\x9f\xa6", b"\x89"], ["never"], "a 🦉 b 🦉"),
    Case(19, [b"a", *_bytes("🦉"), *_bytes("🦉"), b"b"], ["🦉🦊", "🦉🦉b"], "a", "🦉🦉b"),
    Case(20, [b"a STOP\xf0\x9f", b"\xa6\x89", b" b"], ["STOP"], "a ", "STOP"),
    Case(20, [b"a ST", b"OP\xe7", b"\x94\xa8", b" b"], ["STOP"], "a ", "STOP"),
    Case(21, [b"a ", *_bytes("🦉"), b" b"], ["never"], "a ", limit=2),
    Case(21, [b"a ", *_bytes("🦉"), b" b"], ["never"], "a ", limit=4),
    Case(21, [b"a ", *_bytes("🦉"), b" b"], ["never"], "a 🦉", limit=5),
    Case(21, [b"a b\xf0", b"\x9f\xa6\x89", b" c"], ["never"], "a b", limit=1),
    Case(21, [b"a\nHum\xf0", b"\x9f\xa6\x89", b" c"], [HUMAN], "a\nHum", limit=1),
    Case(21, [b"a", *_bytes("🦉"), b" c"], ["🦉🦉"], "a", limit=3),
    Case(22, ["好的".encode(), *_bytes("用户：你好")], ["用户："], "好的", "用户："),
    Case(22, ["好的".encode(), *_bytes("用户，你好")], ["用户："], "好的用户，你好"),
    Case(23, [b"a\xff", b"b\xf0\x9f", b"c\x80\x80", b"\xe7", "用".encode(), b" d"], [HUMAN], "a�b�c���用 d"),
    Case(23, [b"a\xff", b"\xf0\x9f", b"STOP", b" d"], ["STOP"], "a�", "STOP"),
    Case(24, [b"a\nHu", b"man: b", b" c"], [HUMAN], "a\nHuman:", HUMAN, asked=KEEP_STOP),
    Case(24, [b"a", b"bc", b"d"], ["abcx", "b"], "ab", "b", asked=KEEP_STOP),
    Case(24, [b"a", b"\nHum", b"ble"], [HUMAN], "a\nHumble", asked=KEEP_STOP),
    Case(24, [b"\n\n"], ["\n\n"], "\n\n", "\n\n", limit=1, asked=KEEP_STOP),
    Case(25, [b"\n\nHello", b" you"], ["\n\n"], "", "\n\n"),
    Case(25, [b"\n", b"\n", b"Hello"], ["\n\n"], "", "\n\n"),
    Case(26, [b"yes", b" sir"], [HUMAN], "yes sir", after="\nHuman: hi\n"),
    Case(26, [b"yes", b"\nHuman:", b" hi"], [HUMAN], "yes", HUMAN, after=f"{HUMAN} hi\n", asked=FULL_TEXT),
    Case(27, [b"man: hi", b" you"], [HUMAN], "man: hi you", after="\nHu"),
    Case(27, [b"man: hi", b"\nHuman", b": you"], [HUMAN], "man: hi", HUMAN, after="\nHu"),
    Case(28, [b"a.", b"b.", b"c", b".d", b"e"], ["."], "a.b.c", ".", asked=LEAST_2, only=[LLAMA_CPP, OPENAI]),
    Case(28, [b"a."], ["never"], "a. again", limit=2, asked=LEAST_2, only=[LLAMA_CPP]),
    Case(30, [b"a", b"-" * 255, b"-", b"b"], [*"cdefghijklmnopq", "-" * 256], "a", "-" * 256),
    Case(33, [b"<think>", b"so", b"\nHum", b"an:", b" no", b"</think>"], [HUMAN], "<think>so", HUMAN),
    Case(33, [b"<tool>", b'{"say": "', b"STOP", b'"}', b"</tool>"], ["STOP"], '<tool>{"say": "', "STOP"),
    Case(34, [b"x = 1", b"<|im_", b"end|>", b"y"], [IM_END], "x = 1", IM_END),
    Case(34, [b"x = 1", IM_END, b"y"], [IM_END], "x = 1", IM_END, only=[LLAMA_CPP, TGI]),
    Case(34, [b"x\n", b"Hum", IM_END, b"y"], [HUMAN, IM_END], "x\nHum", IM_END, only=[LLAMA_CPP, TGI]),
    Case(35, [LINE_ENDS.encode()], [HUMAN], LINE_ENDS),
    Case(35, _bytes(LINE_ENDS), [HUMAN], LINE_ENDS),
    Case(35, [b"a", b"\r", b"\n", b"b"], ["\r\n"], "a", "\r\n"),
    Case(35, _bytes("a\nb\u2028c\x85d\u2028\x85e"), ["\n\n", "\u2028\x85"], "a\nb\u2028c\x85d", "\u2028\x85"),
    *(
        Case(36, says, PROMPT_STOPS, text)
        for text in (
            "class Human:\n    pass\n\n\nclass Assistant:\n    pass\n",
            CERTIFICATE,
            "Heading\n-----\n\nHumans are many.\n-----\n\nHuman",
            "| a | b |\n|---|---|\n-----\n",
            "Assistant: is a word, and so is Human: this",
        )
        for says in ([text.encode()], _bytes(text))
    ),
    Case(36, [b"Done.", b"\n-----\n", b"\nHuman", b": next"], PROMPT_STOPS, "Done.", "\n-----\n\nHuman:"),
]
