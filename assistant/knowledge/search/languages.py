"""Turns a question in another language into English words, by the dictionary `languages.txt`.

Names, code, numbers and words that the dictionary does not have stay as they are. A text in English stays as
it is, and so does one that does not tell its language. The file says how its lines are written.
"""

from __future__ import annotations

import functools
import itertools
import operator
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from assistant.knowledge.search.words import STOP_WORDS, is_word

FILE = Path(__file__).with_name("languages.txt")
ENGLISH, GERMAN, CHINESE, JAPANESE = 0, 1, 5, 6  # columns; between German and Chinese are Romance languages
LONGEST = 6000  # characters that are read, half from the beginning and half from the end
LONGEST_WORD, LONGEST_PHRASE = 30, 5  # characters, words
BEGINNING, INSIDE = (
    5,
    4,
)  # letters of a word that is found at the beginning of another, or inside a German one
ENDINGS = frozenset(("", "e", "en", "n", "s", "es", "x", "t", "r", "ar", "er", "ir", "re", "as", "os", "ung"))
MOST_WORDS = 200  # that tell the language
LEAST_SHARE = 0.25  # of the words of a question that its language must know
FIRST = ("how to", "why", "when", "what is", "difference between")  # English questions begin with these

_PIECE = re.compile(
    r"""
    (?P<kept>(?P<fence>```|~~~).*?(?:(?P=fence)|\Z) | `[^`\n]*`
      | (?<=\n)(?:>>>|\.\.\.|[ ]{4}|\t|Traceback[ ]\(|[ ]+File[ ]"|(?:from|import|def|class)[ ]\w|@\w)[^\n]*
      | (?<!\w)(?:"[^"\n]{1,200}"|'[^'\n]{1,200}')(?!\w)
      | [A-Za-z_.]{1,80}(?:Error|Exception|Warning):[^\n\u3041-\u9fff]*
      | [A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)+(?:\(\))? | [A-Za-z_][A-Za-z0-9_]*\((?!e?[ns]\))\)?
      | [A-Za-z]*[0-9_][A-Za-z0-9_]*(?:\.[0-9]+)* | \*{1,2}[a-z]+
      | [A-Z]?[a-z]*[A-Z]{2}[A-Za-z]* | [A-Z]?[a-z]+[A-Z][A-Za-z]* | (?<!\S)[!-/:-@\[-`{-~]{1,6}(?!\S))
    | (?P<unspaced>[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff々]+) | (?P<word>[A-Za-zÀ-ɏ]+)
    | (?P<mark>[,;:?!]|\n+)
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


def in_english(text: str) -> str:
    """A question in English words; the text itself if it is in English. Accepts any text."""
    read = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}\n{text[-LONGEST // 2 :]}"
    lines = "\n" + unicodedata.normalize("NFKC", read)[: 2 * LONGEST]
    pieces = [(found.lastgroup or "", found[0]) for found in _PIECE.finditer(lines, 1)]
    if (column := _language(pieces)) is None:
        return text
    words: list[str] = []
    for kind, group in itertools.groupby(pieces, key=operator.itemgetter(0)):
        run = [piece for _, piece in group]
        if kind == "word":
            words += _translated(column, run)
        else:
            words += (word for piece in run for word in _inside(column, piece)) if kind == "unspaced" else run
    return " ".join(_in_order(words, column)).replace(" \n ", "\n").strip() or text


def _language(pieces: Sequence[tuple[str, str]]) -> int | None:
    """The column of the language that most words belong to; None for English."""
    unspaced = "".join(piece for kind, piece in pieces if kind == "unspaced")
    words = [piece.lower() for kind, piece in pieces if kind == "word"][:MOST_WORDS]
    english = sum(word in STOP_WORDS for word in words)
    if len(unspaced) > 2 * english:
        return JAPANESE if re.search("[\u3041-\u30ff]", unspaced) else CHINESE
    scores = {}
    for column in range(GERMAN, CHINESE):
        whole = {word: match[0] for word in words if (match := _match(column, [word], is_whole=True))}
        evidence = [word for word in words if word in whole and (len(word) > 1 or word in STOP_WORDS)]
        asking = sum(not whole[word] and word not in STOP_WORDS for word in evidence)
        telling = sum(bool(whole[word]) and not _is_english(word) for word in evidence)
        both = sum(word in STOP_WORDS for word in evidence)
        known = sum(_match(column, words[at : at + LONGEST_PHRASE]) is not None for at in range(len(words)))
        scores[column] = (asking + telling + both if telling or asking > 1 else 0, known)
    best = max(scores, key=scores.__getitem__)
    return best if scores[best][0] > max(english, LEAST_SHARE * len(words)) else None


def _is_english(word: str) -> bool:
    forms = (word, *map(word.removesuffix, ("s", "d", "ed", "ing")))
    return is_word(word) or not _dictionaries()[ENGLISH].keys().isdisjoint(forms)


def _translated(column: int, words: Sequence[str]) -> Iterator[str]:
    at = 0
    while at < len(words):
        word = words[at].lower()
        is_kept = _is_english(word) and word not in _dictionaries()[column]
        match = None if is_kept else _match(column, words[at : at + LONGEST_PHRASE])
        english, length = match or (words[at], 1)
        yield from filter(None, [english])
        at += length


def _match(column: int, words: Sequence[str], *, is_whole: bool = False) -> tuple[str, int] | None:
    """The English for the longest phrase that the words begin with, and how many words it has. The English is
    empty for words that only ask. With `is_whole`, parts of words do not match."""
    phrase = " ".join(words).lower()
    for text in (phrase, _folded(phrase, column)):
        for end in range(min(len(text), LONGEST_WORD), 0, -1):
            english = _dictionaries()[column].get(text[:end])
            ending = text[end:].partition(" ")[0] if english is not None else ""
            begins = english and end >= BEGINNING and column != GERMAN and not is_whole
            if english is not None and (not ending or (english and ending in ENDINGS) or begins):
                return english, text[:end].count(" ") + 1
    if column == GERMAN and not is_whole:
        inside = " ".join(_inside(column, _folded(words[0].lower(), column)))
        return (inside, 1) if inside else None
    return None


def _inside(column: int, text: str) -> Iterator[str]:
    """The English for the words in a text without blanks, from left to right."""
    for found in _words_inside(column).finditer(text):
        yield from filter(None, [_dictionaries()[column].get(found[0], found[0])])


@functools.cache
def _words_inside(column: int) -> re.Pattern[str]:
    """Matches the words in a text without blanks, the longest first, and what may be an unknown word."""
    shortest = INSIDE if column == GERMAN else 1
    words = sorted(
        (
            word
            for word, english in _dictionaries()[column].items()
            if len(word) >= shortest and (english or column != GERMAN)
        ),
        key=len,
        reverse=True,
    )
    known = "|".join(map(re.escape, words))
    return re.compile(
        known if column == GERMAN else rf"{known}|(?:(?!{known})[\u30a1-\u30ff\u3400-\u9fff]){{2,}}"
    )


def _in_order(words: Sequence[str], column: int) -> Iterator[str]:
    """The words as an English question has them: first what it asks, and "with requests," for a name."""
    yield from (word for word in FIRST if word in words)
    rest = [word for word in words if word not in FIRST]
    for before, word, after in zip(["", *rest], rest, [*rest[1:], ""], strict=False):
        is_name = word.isidentifier() and word not in _dictionaries()[ENGLISH]
        if column != JAPANESE:
            yield f"{word}," if is_name and before == "with" else word
        elif word != "with":
            yield f"with {word}," if is_name and after == "with" else word


def _folded(text: str, column: int) -> str:
    """A text without accents; German umlauts may also be written as `ae`, `oe` and `ue`."""
    text = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("œ", "oe"))
    text = "".join(char for char in text if not unicodedata.combining(char))
    return re.sub("(?<=[aou])e", "", text) if column == GERMAN else text


@functools.cache
def _dictionaries() -> Sequence[Mapping[str, str]]:
    """The English for the words of each column; the first has the English words themselves."""
    columns: list[dict[str, str]] = [{} for _ in range(JAPANESE + 1)]
    for line in FILE.read_text(encoding="utf-8").splitlines():
        english, *cells = line.split(" | ")
        if line.startswith("#"):
            continue
        columns[ENGLISH].update(dict.fromkeys((cells.pop() if english == "=" else english).split(), ""))
        for column, cell in enumerate(cells, GERMAN):
            for word in cell.split():
                columns[column].setdefault(word.replace("_", " "), english.strip("-"))
    for column in range(GERMAN, CHINESE):
        for word, english in list(columns[column].items()):
            columns[column].setdefault(_folded(word, column), english)
    return columns
