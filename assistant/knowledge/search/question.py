"""Parses a question: what type of question it is, the names in it, and the words that say what it is about.

Works without the index, so it cannot say whether a name exists. Of a very long question it reads the
beginning and the end.
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from assistant.knowledge.search.words import KIND_WORDS, PRODUCTS, content_words

LONGEST = 6000  # characters that are read, half from the beginning and half from the end
MOST_MENTIONS = 40
MOST_WORDS = 60


class QuestionType(enum.Enum):
    TASK = "task"  # how to do something: "how do I read a file"
    LOOKUP = "lookup"  # what an API is, does, takes or returns: "what does zip do", "parameters of open"
    DIFFERENCE = "difference"  # between two APIs or more
    ERROR = "error"  # why an error is raised


@dataclass(frozen=True, slots=True)
class Mention:
    """A name in a question: `path.join`; `str.join` for `"".join`."""

    name: str
    is_certain: bool  # whether it can only be a name, with a dot or brackets: `os.path.join`, `rmtree()`


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that is asked about: the names in the question that stand for it, and the content words."""

    mentions: tuple[Mention, ...]
    words: tuple[str, ...]

    @property
    def core(self) -> tuple[str, ...]:
        """The words without those that say what kind of API it is ("the zip function": zip)."""
        return tuple(word for word in self.words if word not in KIND_WORDS)


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    type: QuestionType
    subjects: tuple[Subject, ...]  # two or more for a difference, else one
    kinds: frozenset[str]  # the kinds of API that it asks for, if it says so: "module", "keyword" …
    modules: tuple[str, ...]  # words that may name a module: "with the os module", "in itertools"
    names_in_code: tuple[str, ...]  # dotted names in blocks of code
    is_follow_up: bool  # whether it is short and continues an earlier question
    asks_opposite: bool  # whether it asks for the other way round
    says_python: bool = False
    other_technology: str = ""  # another language or program that it names ("Rust"), unless it says Python

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(word for subject in self.subjects for word in subject.words))

    @property
    def is_about_errors(self) -> bool:
        return self.type is QuestionType.ERROR or "exception" in self.kinds

    @property
    def mentions(self) -> tuple[Mention, ...]:
        return tuple(mention for subject in self.subjects for mention in subject.mentions)


def parse_question(text: str) -> Question:
    """Parse a question. Accepts any text."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2].rpartition(' ')[0]}\n{text[-LONGEST // 2 :].partition(' ')[2]}"
    prose, blocks = _without_blocks(text)
    marked, mentions = _mark_names(prose)
    marked = _PROGRAM.sub(r"\g<run>", re.sub(r"\s+", " ", marked)).strip()
    question_type, subjects = _type_and_subjects(marked, mentions)
    plain = marked.lower()
    return Question(
        text=text,
        type=question_type,
        subjects=subjects,
        kinds=frozenset(_KINDS[word] for word in re.findall(r"[a-z]+", plain) if word in _KINDS),
        modules=tuple(dict.fromkeys(_modules(marked, mentions))),
        names_in_code=tuple(dict.fromkeys(_DOTTED.findall(blocks)))[:MOST_MENTIONS],
        is_follow_up=_is_follow_up(plain, subjects),
        asks_opposite=bool(_OPPOSITE.search(plain)),
        says_python=bool(_PYTHON.search(plain)),
        other_technology="" if _PYTHON.search(plain) else _other_technology(prose, blocks),
    )


def _other_technology(prose: str, blocks: str) -> str:
    named = (word for word in _TECHNOLOGY.findall(prose) if word.lower() in PRODUCTS)
    of_code = (word for word in _LANGUAGE_OF_FENCE.findall(blocks) if word.lower() in PRODUCTS)
    return next(itertools.chain(named, _AFTER_IN.findall(prose), of_code), "")


_TECHNOLOGY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[#]|\+\+)?")
_LANGUAGE_OF_FENCE = re.compile(r"^(?:```|~~~)([A-Za-z][\w#+]*)", re.MULTILINE)
# Languages whose names are also English words or letters.
_AFTER_IN = re.compile(
    r"\b(?:in|with|for|from|to|of) (Ada|C|D|Delphi|Elm|F#|Go|HTML|Lisp|Nim|Pascal|R|SQL|Scheme|V)\b"
)

# Prose and code

_FENCE = re.compile(r"(```|~~~).*?(?:\1|\Z)", re.DOTALL)
_CODE_LINE = re.compile(
    r"^(?:>>>|\.\.\.|\s{4,}\S|Traceback \(|\s*File \"|(?:from|import) [\w.]+|@\w|(?:def|class) \w+.*:\s*$"
    r"|(?:for|while|if|with) .*:\s*$|\w[\w.\[\]]* ?= ?\S).*$",
    re.MULTILINE,
)


def _without_blocks(text: str) -> tuple[str, str]:
    """The prose of a text, and the code in it: fenced blocks and lines that can only be code."""
    blocks: list[str] = []

    def take_out(found: re.Match[str]) -> str:
        blocks.append(found[0])
        return "\n"

    prose = _FENCE.sub(take_out, text)
    if "\n" in prose.strip():
        prose = _CODE_LINE.sub(take_out, prose)
    return (prose, "\n".join(blocks)) if prose.strip() else (text, "")


# Names

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_DOTTED = re.compile(rf"{_NAME}(?:\.{_NAME})+")
_MENTION = re.compile(
    rf"""
    (?P<quoted>`+[^`\n]+`+)
    | (?P<literal>(?:(?P<bytes>\bb)?(?:"[^"\n]{{0,40}}"|'[^'\n]{{0,40}}')|(?P<list>\[[^]\n]{{0,40}}\])
        |(?P<dict>\{{[^}}\n]{{0,40}}\}}))\.(?P<method>{_NAME}))(?:\(\))?
    | (?P<path>@?(?<![\w.])(?:{_NAME}(?:\.{_NAME})+(?:\(\s*\))?|{_NAME}\(\s*\)|{_NAME}(?=\((?!e?s\))[^)\s])))
    | (?P<shape>(?<!\w)(?:[A-Za-z]\w*_\w*|_+[A-Za-z]\w*|[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]*)+)(?!\w))
    """,
    re.VERBOSE,
)
_ABBREVIATIONS = frozenset({"e.g", "i.e", "a.k.a", "p.s", "vs", "etc", "a.m", "p.m"})
_FILE_ENDINGS = frozenset(
    """
    bat bz2 cfg conf com csv css db dev doc docx env exe gif gz html ico ini io ipynb jpeg jpg js json log md
    mp3 mp4 net org pdf png ps1 py pyc rst sh sql sqlite svg tar tex toml ts tsv txt wav xls xlsx xml yaml
    yml zip
    """.split()  # noqa: SIM905 - a table to read
)
# Operators and other symbols of the language, and their names in English.
_SYMBOLS = {
    "//": "floor division", "**": "power operator", "%": "modulo", ":=": "assignment expression walrus",
    "==": "equality", "!=": "inequality", "->": "return annotation", "*args": "variadic positional arguments",
    "**kwargs": "variadic keyword arguments", "@": "decorator", "...": "ellipsis", "&": "bitwise and",
    "|": "bitwise or union", "^": "bitwise xor", "~": "bitwise not", "<<": "shift left", ">>": "shift right",
    "+=": "augmented assignment", "<": "less than", ">": "greater than", "[:]": "slice",
    "[::-1]": "reverse slice",
}  # fmt: skip
_SYMBOL = re.compile(
    "(?<!\\S)`?(" + "|".join(map(re.escape, sorted(_SYMBOLS, key=len, reverse=True))) + ")`?(?=[\\s?,]|$)"
)
_KEYWORD = re.compile(
    r"(?<!`)\b(and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global"
    r"|if|import|in|is|lambda|match|nonlocal|not|or|pass|raise|return|try|while|with|yield)\b"
    r"(?=\s+(?:statement|keyword|operator|clause)\b)"
)
# "find out whether" does not ask for a search, and in "f-string" the letter matters.
_PHRASAL = re.compile(r"\b(?:find|finding|figure|work) out\b", re.IGNORECASE)
_FSTRING = re.compile(r"\bf[- ]?strings?\b", re.IGNORECASE)
_FIRST_MARK = 0xE000  # private-use characters; each stands for one mention while the prose is parsed
_MARK = re.compile(r"[\ue000-\ue0ff]")


def _mark_names(prose: str) -> tuple[str, list[Mention]]:
    """The prose with each name replaced by a private-use character, and the names."""
    mentions: list[Mention] = []

    def mark(name: str, is_certain: bool) -> str:
        if len(mentions) >= MOST_MENTIONS:
            return name
        mentions.append(Mention(name, is_certain))
        return chr(_FIRST_MARK + len(mentions) - 1)

    def replaced(found: re.Match[str]) -> str:
        match found.lastgroup:
            case "quoted":
                return f" {_quoted(found[0].strip('`').strip(), mark)} "
            case "path":
                name = found[0].lstrip("@").split("(")[0]
                if name.lower() in _ABBREVIATIONS or _is_file(name):
                    return found[0]
                return mark(name, True)
            case "shape":
                return mark(found[0], False)
            case _:
                return mark(_method_of_literal(found), True)

    prose = _FSTRING.sub("fstring", _PHRASAL.sub(" ", prose))
    prose = _KEYWORD.sub(lambda found: f"`{found[1]}`", prose)
    prose = _SYMBOL.sub(lambda found: _SYMBOLS[found[1]], _MARK.sub(" ", prose))
    return _MENTION.sub(replaced, prose), mentions


def _method_of_literal(found: re.Match[str]) -> str:
    """`str.join` for `"".join`."""
    types = [name for name in ("bytes", "list", "dict") if found[name]]
    return f"{types[0] if types else 'str'}.{found['method']}"


def _quoted(code: str, mark: Callable[[str, bool], str]) -> str:
    """The text between backticks with its names marked: one name, a call, or other code."""
    if re.fullmatch(_NAME, code):
        return mark(code, False)
    found = _MENTION.fullmatch(code) or re.match(rf"@?(?P<path>{_NAME}(?:\.{_NAME})*)\s*\(", code)
    if found and found.groupdict().get("method"):
        return mark(_method_of_literal(found), True)
    if found and found["path"] and not _is_file(found["path"]):
        return mark(found["path"].lstrip("@").split("(")[0], True)
    return " ".join(mark(name, False) for name in _DOTTED.findall(code)) or code


def _is_file(name: str) -> bool:
    """Whether a name with a dot is a file or host (`data.csv`, `example.com`) rather than an API."""
    head, _, last = name.rpartition(".")
    return last in _FILE_ENDINGS and "." not in head and head not in _MODULES_WITH_FILE_ENDINGS


_MODULES_WITH_FILE_ENDINGS = frozenset({"requests", "os"})  # people ask for `requests.json` as for a name


# Other programs

_PYTHON = re.compile(r"\b(?:python(?:ic|'s|’s|[23](?:\.\d+)?)?|cpython|py3?|standard library|stdlib)\b")
# How to run a program does not depend on which: "run a git command", "call the ffmpeg binary".
_PROGRAM = re.compile(
    r"(?P<run>\b(?:run|call|execut|start|launch|invok|spawn)(?:e|s|es|ning|ing)?\s+)(?:an?\s+|the\s+|some\s+)?"
    r"(?!(?:external|shell|system|other|another)\b)[a-z][\w+-]*\s+"
    r"(?=(?:command|program|script|binary|executable|process)(?:e?s)?\b)",
    re.IGNORECASE,
)

# Types of question

_STRONG = re.compile(r"\bdiff?er(?:en[ct]\w*|s|ed)?\b|\bvs\b|\bversus\b|\bdistinguish\w*", re.IGNORECASE)
_WEAK = re.compile(
    r"\bor\b|\bcompared?\b|\binstead of\b|\brather than\b|\bas opposed to\b|\bprefer\b|\bthe same\b"
    r"|\b(?:choose|pick|use)\b.*\bover\b|\b(?:better|faster|slower|safer) than\b",
    re.IGNORECASE,
)
_BETWEEN = re.compile(
    r"[,;:]\s+|\s[-–—]+\s|[?!](?:\s|$)|\b(?:between|and|or|vs|versus|from|to|than|compared (?:to|with)"
    r"|instead of|rather than|as opposed to|over|with|the same as)\b\.?",
    re.IGNORECASE,
)
_WITHIN = re.compile(r"(?<=\S)\s+(?:in|for|when|if|on|inside|while)\s.*$", re.IGNORECASE)
_ABOUT = re.compile(
    r"\b(?:what(?:'s|’s|s)?|explain|describe|define|tell me about|meaning|purpose|means?|signature|prototype"
    r"|docs?|documentation|docstring|params?|parameters?|arguments?|args|kwargs|options|defaults?|returns?"
    r"|examples?|explanation|usage|used?|works?|when should|why)\b",
    re.IGNORECASE,
)
_TASK = re.compile(
    r"^\W*(?:\w+\W+){0,2}?how\s+(?:do|to|can|could|should|would)\s+(?!(?:i|you|we"
    r"|one)?\s*(?:properly\s+|correctly\s+)?(?:use|call)\b)(?!.*\bworks?\b)"
    r"|\b(?:way|ways|approach|method|function|module|class|command|tool|idiom|library|package"
    r"|decorator|type|exception)s?\s+"
    r"(?:to|of|for(?!\W*$)|that|do i|can i|should i|lets?|gives?|returns?|handles?|will|would|is there)\b"
    r"|\bwhat (?:can|should|do) i use (?:to|for)\b|\buse\b.+\bto\b",
    re.IGNORECASE,
)
_ASKING = frozenset(
    """
    parameter parameters param params argument arguments args kwargs option options return returns returned
    accept accepts pass default defaults value explanation signature expect order come saw mean beginner
    actually
    """.split()  # noqa: SIM905 - a table to read
)
_ERROR = re.compile(r"[A-Z]\w*(?:Error|Exception|Warning|Exit|Interrupt|Iteration|Group)\Z")


def is_error(name: str) -> bool:
    """Whether a name ends as the names of exceptions do."""
    return bool(_ERROR.match(name.rpartition(".")[2]))


def _compared(marked: str, mentions: list[Mention]) -> tuple[Subject, ...]:
    """The subjects that a question compares; empty if it compares nothing."""
    strong = bool(_STRONG.search(marked))
    if not strong and not _WEAK.search(marked):
        return ()
    subjects = []
    for part in _BETWEEN.split(marked):
        subject = _subject(_WITHIN.sub("", part), mentions)
        lone = not subject.core and len(subject.words) == 1 and subject.words[0] == part.strip(" ?").lower()
        if not subject.core and not subject.mentions and not lone:
            continue
        named = lone or len(subject.core) + len(subject.mentions) == 1
        if named or (strong and len(subject.core) <= 3):
            subjects.append(subject)
        elif not strong:
            return ()
    apart = tuple(dict.fromkeys(subjects))
    return apart[:4] if len(apart) > 1 else ()


def _type_and_subjects(marked: str, mentions: list[Mention]) -> tuple[QuestionType, tuple[Subject, ...]]:
    compared = _compared(marked, mentions)
    if compared:
        return QuestionType.DIFFERENCE, compared
    whole = _subject(marked, mentions)
    if any(is_error(mention.name) for mention in mentions) and not _TASK.search(marked):
        return QuestionType.ERROR, (whole,)
    if not _TASK.search(marked):
        core = [word for word in whole.core if word not in _ASKING]
        # A name alone is looked up, and so are one or two words in a question for an explanation.
        is_bare = bool(whole.mentions) or len(marked.split()) <= 2
        if len(core) + len(whole.mentions) <= (2 if _ABOUT.search(marked) else int(is_bare)):
            words = tuple(word for word in whole.words if word not in _ASKING)
            return QuestionType.LOOKUP, (Subject(whole.mentions, words),)
    return QuestionType.TASK, (whole,)


# Subjects

_KINDS = {
    "module": "module", "modules": "module", "package": "module", "library": "module",
    "keyword": "keyword", "statement": "keyword", "expression": "keyword", "operator": "keyword",
    "method": "method", "methods": "method", "exception": "exception", "error": "exception",
    "class": "class", "type": "class", "function": "function", "functions": "function",
    "builtin": "function", "decorator": "function", "constant": "data", "variable": "data",
    "property": "property", "attribute": "property",
}  # fmt: skip
_MODULE = re.compile(
    rf"\b(?:the\s+|python(?:'s)?\s+)?(?P<said>{_NAME}|[\ue000-\ue0ff])\s+(?:module|package|library|lib)\b"
    rf"|\b(?:module|package|library|import)\s+(?P<named>{_NAME}|[\ue000-\ue0ff])"
    rf"|\b(?:with|using|in|from|use|via|through|of)\s+(?:the\s+|python(?:'s)?\s+)?(?P<with>{_NAME}|[\ue000-\ue0ff])(?=\s*(?:[?.,!]|$|to\b|for\b|module))"
    rf"|\b(?:using|with|via|from)\s+(?P<using>{_NAME})",
    re.IGNORECASE,
)
_CONTINUES = re.compile(
    r"^(?:and|but|also|or|ok|okay|then|so|now|what about|how about|what if|same for|instead|only)\b"
)
_PRONOUN = re.compile(r"\b(?:it|its|this|these|those|them|they|that|one|former|latter|same|previous|above)\b")
_OPPOSITE = re.compile(
    r"\b(?:other\s+way\s+(?:a?round|about)|(?:the|its|an)\s+(?:opposite|reverse|inverse|contrary)"
    r"|vice[\s-]versa|conversely|opposite\s+of|inverse\s+of|reverse\s+direction"
    r"|(?:and|but)\s+back(?:\s+again)?|undo\s+(?:it|that|this))\b"
)


def _subject(slot: str, mentions: list[Mention]) -> Subject:
    here = tuple(
        mentions[ord(mark) - _FIRST_MARK]
        for mark in _MARK.findall(slot)
        if ord(mark) - _FIRST_MARK < len(mentions)
    )
    words = tuple(dict.fromkeys(content_words(_MARK.sub(" ", slot))))[:MOST_WORDS]
    if not here and not words and not _LEADS_IN.search(slot):
        # "what is the difference between is and in": if there is no other word, a stop word is the subject.
        words = tuple(word for word in re.findall(r"[a-z]+", slot.lower()) if word in _KEYWORDS)[-1:]
    return Subject(here, words)


_LEADS_IN = re.compile(r"\b(?:what|what's|which|how|when|why|difference|explain|tell)\b", re.IGNORECASE)
_KEYWORDS = frozenset("is in as if for from or and not with while else try self any all help".split())  # noqa: SIM905


def _modules(marked: str, mentions: list[Mention]) -> Iterator[str]:
    for found in _MODULE.finditer(marked):
        name = found["said"] or found["named"] or found["with"] or found["using"]
        if _MARK.fullmatch(name):
            yield mentions[ord(name) - _FIRST_MARK].name
        else:
            yield name


def _is_follow_up(plain: str, subjects: tuple[Subject, ...]) -> bool:
    """Whether a question is short and begins or refers back as a follow-up question does."""
    count = sum(len(subject.words) + len(subject.mentions) for subject in subjects)
    return (
        count == 0
        or (count <= 3 and bool(_CONTINUES.search(plain)))
        or (count <= 1 and bool(_PRONOUN.search(plain)))
        or (count == 1 and len(plain.split()) <= 2)
    )
