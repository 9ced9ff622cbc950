"""Scores how well a passage answers a question (`WEIGHTS`): by its name, text, phrases and use."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from assistant.knowledge.index import Hit, Index
from assistant.knowledge.search.question import Question, is_error
from assistant.knowledge.search.words import (
    OTHER_TECHNOLOGIES,
    THIRD_PARTY,
    content_words,
    form,
    forms,
    synonyms,
)

# The features of a passage, each between 0 and 1. Those with a weight below 0 count against it.
WEIGHTS = {
    "named": 6.0,  # how surely the question names it
    "phrase": 3.0,  # how well its best phrase matches the question
    "name": 1.1,  # words of the question in its name
    "summary": 0.4,  # words of the question in its first sentence
    "covered": 1.2,  # words of the question anywhere in it
    "full_text": 0.6,  # BM25, relative to the best
    "used": 0.3,  # how often real code uses it
    "has_phrases": 0.3,  # the vocabulary has phrases for it
    "module": 0.9,  # it belongs to a module that the question names
    "kind": 0.7,  # it is of the kind that the question names
    "library": 0.5,  # it belongs to the standard library
    "error": -0.6,  # it is an exception, and the question is not about errors
    "deep": -0.1,  # it is a member of a class
    "undocumented": -0.6,  # it has hardly any text
    "data": -0.3,  # it is a constant
    "topic": -0.25,  # it is a chapter on the language
    "rare_module": -0.5,  # it belongs to a module that few people ask about
    "private": -0.8,  # it is deprecated or private
}
UNKNOWN_WORD = 1.3  # the weight of a word that no passage has, relative to the rarest word
OTHER_TECHNOLOGY = 3.0  # the same for a word for another program or language
COMPARED_TECHNOLOGY = 0.4  # the same for such a word if the question compares it with Python
NOT_HERE = -1  # replaces the frequency of a word that no passage may cover, though an example may have it
BEGINNING = 800  # characters of a passage that are searched for words
RARE_MODULES = frozenset(
    """
    tkinter unittest xml idlelib distutils lib2to3 turtle curses msilib imaplib nntplib telnetlib poplib
    mailbox pdb bdb pydoc doctest ctypes symtable pickletools dis test wsgiref xmlrpc cgi cgitb optparse imp
    asyncore asynchat smtpd compileall py_compile modulefinder pkgutil zipimport encodings codeop
    multiprocessing.dummy sre_parse tokenize token
    """.split()  # noqa: SIM905 - a table to read
)


@dataclass(slots=True)
class Candidate:
    hit: Hit
    named: float = 0.0  # how surely the question names it
    score: float = 0.0
    covered: float = 0.0  # the share of the question that it covers, by the weight of the words

    @property
    def name(self) -> str:
        return self.hit.passage.name


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and what restricts the search for all its subjects."""

    question: Question
    corpora: tuple[str, ...] | None
    modules: frozenset[str] = frozenset()


def word_weights(index: Index, words: Iterable[str], says_python: bool) -> dict[str, tuple[int, float]]:
    """The frequency and the weight of each word; a rarer word weighs more. A word for another program or
    language shows that the question is about that, unless the index has a passage of that name. If the
    question says Python, it only compares Python with the other."""
    total = max(index.count(), 1000)
    most = math.log(1 + total)
    weights = {}
    for word in dict.fromkeys(words):
        frequency = sum(index.frequency(term) for term in synonyms(word)[:3])
        weight = math.log(1 + total / (1 + frequency)) if frequency else UNKNOWN_WORD * most
        if word in THIRD_PARTY or (word in OTHER_TECHNOLOGIES and not says_python):
            if not index.named(word):
                frequency, weight = NOT_HERE, OTHER_TECHNOLOGY * most
        elif word in OTHER_TECHNOLOGIES:
            weight = COMPARED_TECHNOLOGY * most
        weights[word] = (frequency, weight)
    return weights


def by_form(weights: Mapping[str, tuple[int, float]]) -> dict[str, tuple[str, float]]:
    """The heaviest word of each form, with its weight. A word that no passage covers gets a key that
    matches no form."""
    heaviest: dict[str, tuple[str, float]] = {}
    for word, (frequency, weight) in weights.items():
        if frequency == NOT_HERE:
            heaviest[f"no {word}"] = ("", weight)
        elif weight > heaviest.get(form(word), ("", -1.0))[1]:
            heaviest[form(word)] = (word, weight)
    return heaviest


def score(
    candidate: Candidate, query: Query, weights: dict[str, tuple[str, float]], best_match: float
) -> Candidate:
    hit, passage, question = candidate.hit, candidate.hit.passage, query.question
    total = sum(weight for _, weight in weights.values()) or 1.0
    name = _forms_of_name(passage.name)
    squeezed = passage.name.lower().replace("_", "")
    in_name = {
        key for key, (word, _) in weights.items() if key in name or (len(word) >= 4 and word in squeezed)
    }
    likeness, in_phrase, in_phrases = best_phrase(hit.phrases, weights)
    summary = weights.keys() & forms(passage.text[:200].split("\n\n")[0])
    elsewhere = weights.keys() - in_name - in_phrases - summary
    if elsewhere:  # this costs the most
        elsewhere &= forms(f"{passage.signature} {passage.title} {passage.text[:BEGINNING]}")
    covered = sum(
        weight
        if key in in_name or key in in_phrase
        else 0.85 * weight
        if key in summary or key in in_phrases
        else 0.5 * weight
        if key in elsewhere
        else 0.0
        for key, (_, weight) in weights.items()
    )
    module, kind = passage.name.partition(".")[0], passage.kind
    is_of_module = any(passage.name.startswith(f"{name}.") or passage.name == name for name in query.modules)
    features = {
        "named": candidate.named,
        "phrase": likeness,
        "name": sum(weights[key][1] for key in in_name) / total,
        "summary": sum(weights[key][1] for key in summary) / total,
        "covered": covered / total,
        "full_text": hit.score / best_match if best_match else 0.0,
        "used": min(math.log1p(hit.uses) / math.log(1000), 1.0),
        "has_phrases": bool(hit.phrases),
        "module": is_of_module,
        "kind": kind in question.kinds,
        "library": passage.corpus == "python",
        "error": is_error(passage.name) and not candidate.named and not question.is_about_errors,
        "deep": kind in ("method", "property") and passage.name.count(".") > 1,
        "undocumented": len(passage.text) < 30,
        "data": kind == "data" and not hit.phrases,
        "topic": kind == "topic",
        "rare_module": module in RARE_MODULES and not is_of_module and module not in question.words,
        "private": "deprecated" in passage.text[:300].lower() or "._" in passage.name,
    }
    candidate.score = sum(WEIGHTS[feature] * value for feature, value in features.items())
    # A passage that is named needs no other words; the rest of the question says what is wanted of it.
    candidate.covered = max(covered / total, candidate.named if candidate.named >= 0.7 else 0.0)
    return candidate


@functools.lru_cache(maxsize=16_384)
def _forms_of_name(name: str) -> frozenset[str]:
    return frozenset(forms(name.replace(".", " ").replace("_", " ")))


@functools.lru_cache(maxsize=16_384)
def _forms_of_phrase(phrase: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(form(word) for word in content_words(phrase)))


def best_phrase(phrases: str, weights: dict[str, tuple[str, float]]) -> tuple[float, set[str], set[str]]:
    """How well the best of some phrases matches the question; the words of the question that this phrase
    has; and those that any of the phrases has."""
    best, in_best, in_any = 0.0, set[str](), set[str]()
    if not phrases:
        return best, in_best, in_any
    total = sum(weight for _, weight in weights.values()) or 1.0
    usual = total / (len(weights) or 1)
    order = {key: place for place, key in enumerate(weights)}
    for phrase in phrases.split("\n"):
        in_phrase = _forms_of_phrase(phrase)
        shared = [key for key in in_phrase if key in weights]
        if not shared:
            continue
        in_any.update(shared)
        weight = sum(weights[key][1] for key in shared)
        likeness = weight / (0.65 * total + 0.35 * (weight + 0.7 * usual * (len(in_phrase) - len(shared))))
        places = [order[key] for key in shared]
        if len(places) > 1:
            upward = sum(one < other for one, other in itertools.pairwise(places))
            likeness *= 0.9 + 0.1 * upward / (len(places) - 1)
        if likeness > best:
            best, in_best = likeness, set(shared)
    return best, in_best, in_any
