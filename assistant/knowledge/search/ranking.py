"""Scores how well a passage answers a question, and how surely it does (`RANKING`, `CONFIDENCE`).

Both are sums of weighted features. `python -m benchmarks.ranking` learns the weights from questions.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from assistant.knowledge.index import Hit, Index
from assistant.knowledge.passage import Passage
from assistant.knowledge.search.question import Question, is_error
from assistant.knowledge.search.words import LIBRARIES, PRODUCTS, content_words, form, forms, stem, synonyms

# The features of a passage, each between 0 and 1. Those with a weight below 0 count against it.
RANKING = {
    "named": 10.0,  # how surely the question names it
    "phrase": 6.0,  # how well its best phrase matches the question
    "name": -2.4,  # words of the question in its name
    "exact": 1.5,  # how exactly its name has the words of the question and no others
    "path": 1.2,  # words of the question in its name or in the headings above
    "summary": -0.7,  # words of the question in its first sentence
    "covered": 4.8,  # words of the question anywhere in it
    "full_text": 3.5,  # BM25 over the fields, with synonyms; the best candidate has 1
    "plain": 0.1,  # BM25 of the question's words as they are; the best candidate has 1
    "matching": 2.4,  # the same, compared with what the words could give at most
    "members": 4.2,  # words of the question anywhere in its best member
    "used": 1.5,  # how often real code uses it
    "module": 0.9,  # it belongs to a module that the question names
    "kind": -0.6,  # it is of the kind that the question names
    "python": 1.2,  # it belongs to the standard library, and the question says Python
    "error": 0.1,  # it is an exception, and the question is not about errors
    "section_path": 2.2,  # the same for prose: what is to be added to the weights above
    "section_exact": 1.4,
    "section_covered": -2.2,
    "section_full_text": 0.8,
    "section_plain": 2.1,
    "section_described": 1.2,
    "section": -1.5,  # it is prose
    "described": 2.8,  # it has much text
    "top": 1.6,  # a package has it under a short name, as packages have what they are used by
    "data": 0.6,  # it is a constant
    "topic": -0.9,  # it is a chapter on the language
    "private": 0.2,  # it is deprecated, private, or for tests
}
# What tells how surely the first passage answers (`certainty`); the logistic function of the sum is between
# 0 and 1.
CONFIDENCE = {
    "always": -3.3,
    "named": 4.7,
    "covered": 4.2,
    "phrase": 5.5,
    "exact": -0.5,
    "matching": 5.4,
    "nowhere": -2.5,
    "words": -0.7,
    "one_word": -5.4,
}
UNKNOWN_WORD = 1.3  # the weight of a word that no passage has, relative to the rarest word
UNKNOWN_INSIDE = 0.4  # the same if the question names the package
OTHER_PRODUCT = 3.0  # the same for the name of a language or program without documentation here
COMPARED_PRODUCT = 0.4  # the same if the question compares it with Python
NOT_HERE = -1  # replaces the frequency of a word that no passage may cover, though an example may have it
BEGINNING = 2500  # characters of a passage that are searched for words
BM25_OF_A_WORD = 2.2  # what BM25 gives, at most, for a word of weight 1


@dataclass(slots=True)
class Candidate:
    hit: Hit
    named: float = 0.0  # how surely the question names it
    full_text: float = 0.0  # how well it matches: by BM25 over the fields, with synonyms,
    plain: float = 0.0  # and by BM25 of the question's words as they are; the best candidate has 1
    matching: float = 0.0
    features: dict[str, float] = field(default_factory=dict)
    score: float = 0.0

    @property
    def name(self) -> str:
        return self.hit.passage.name


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and what restricts the search for all its subjects."""

    question: Question
    scope: tuple[str, ...] = ()  # keys of packages
    corpora: tuple[str, ...] = ()
    modules: frozenset[str] = frozenset()


def word_weights(index: Index, words: Iterable[str], query: Query) -> dict[str, tuple[int, float]]:
    """The frequency and the weight of each word; a rarer word weighs more. The name of a language or program
    that has no documentation here shows that the question is about that. If the question says Python, it
    only compares Python with the other."""
    total = max(index.size(query.scope) if query.scope else index.count(), 1000)
    most = math.log(1 + total)
    weights = {}
    for word in dict.fromkeys(words):
        frequency = sum(index.frequency(term, query.scope) for term in synonyms(word)[:3])
        unknown = UNKNOWN_INSIDE if query.scope else UNKNOWN_WORD
        weight = math.log(1 + total / (1 + frequency)) if frequency else unknown * most
        if word in PRODUCTS and query.question.says_python:
            weight = COMPARED_PRODUCT * most
        elif (word in LIBRARIES or word in PRODUCTS) and not query.scope and word not in index.packages():
            frequency, weight = NOT_HERE, OTHER_PRODUCT * most
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


def score(candidate: Candidate, query: Query, weights: dict[str, tuple[str, float]]) -> Candidate:
    """Fill in the features and the score of a candidate."""
    hit, passage, question = candidate.hit, candidate.hit.passage, query.question
    total = sum(weight for _, weight in weights.values()) or 1.0

    def share(keys: Iterable[str]) -> float:
        return sum(weights[key][1] for key in keys) / total

    name = _forms_of_name(passage.name)
    squeezed = passage.name.lower().replace("_", "")
    in_name = {
        key for key, (word, _) in weights.items() if key in name or (len(word) >= 4 and word in squeezed)
    }
    last = _forms_of_name(passage.name.rpartition(".")[2] if passage.kind != "section" else passage.name)
    precision = len(last & weights.keys()) / (len(last) or 1)
    in_path = in_name | (weights.keys() & _forms_of_name(passage.title))
    likeness, in_phrase, in_phrases = best_phrase(hit.phrases, weights)
    summary = weights.keys() & forms(passage.text[:200].split("\n\n")[0])
    elsewhere = weights.keys() - in_path - in_phrases - summary
    if elsewhere:
        text = f" {passage.signature} {passage.text[:BEGINNING]}".lower()
        elsewhere = {key for key in elsewhere if _beginnings(key).search(text)}
    nearly = (in_path | summary | in_phrases) - in_name - in_phrase
    covered = share(in_name | in_phrase) + 0.85 * share(nearly) + 0.5 * share(elsewhere - nearly)
    kind, is_api = passage.kind, passage.kind not in ("section", "topic", "keyword")
    is_of_module = any(passage.name.startswith(f"{name}.") or passage.name == name for name in query.modules)
    exact = share(in_name)
    candidate.features = {
        "named": candidate.named,
        "phrase": likeness,
        "name": exact,
        "exact": 2 * exact * precision / (exact + precision) if exact + precision else 0.0,
        "path": share(in_path),
        "summary": share(summary),
        "covered": covered,
        "full_text": candidate.full_text,
        "plain": candidate.plain,
        "matching": min(candidate.matching / (BM25_OF_A_WORD * total), 1.0),
        "members": 0.0,  # see `score_owner`
        "used": min(math.log1p(hit.uses) / math.log(1000), 1.0),
        "module": float(is_of_module),
        "kind": float(kind in question.kinds),
        "python": float(question.says_python and passage.corpus == "python"),
        "error": float(is_error(passage.name) and not candidate.named and not question.is_about_errors),
        "section": float(kind == "section"),
        "described": min(math.log1p(len(passage.text)) / math.log(2000), 1.0),
        "top": _is_at_the_top(passage) if is_api else 0.0,
        "data": float(kind == "data" and not hit.phrases),
        "topic": float(kind == "topic"),
        "private": float(_is_out_of_the_way(passage.name, passage.text)),
    }
    for feature in ("path", "exact", "covered", "full_text", "plain", "described"):
        candidate.features[f"section_{feature}"] = candidate.features[feature] if kind == "section" else 0.0
    candidate.score = sum(RANKING[feature] * value for feature, value in candidate.features.items())
    return candidate


def score_owner(owner: Candidate, member: Candidate) -> None:
    """Let a class have a part in what a member of it says."""
    more = member.features["covered"] - owner.features["covered"] - owner.features["members"]
    if more > 0:
        owner.features["members"] += more
        owner.score += RANKING["members"] * more


def _is_at_the_top(passage: Passage) -> float:
    """Whether a name is directly in its package, or a member of a class that is."""
    parts = passage.name.split(".")
    if passage.corpus == "python" or len(parts) == 2:
        return 1.0
    return 0.5 if len(parts) == 3 and parts[1][:1].isupper() else 0.0


def _is_out_of_the_way(name: str, text: str) -> bool:
    """Whether a name is deprecated, private, or for tests, so that a question seldom means it."""
    is_internal = "._" in name or not _INTERNAL.isdisjoint(name.split("."))
    return is_internal or "deprecated" in text[:300].lower()


_INTERNAL = frozenset(("test", "tests", "testing", "conftest", "compat", "internal", "internals", "dummy"))


def confidence(ranked: Sequence[Candidate], weights: Mapping[str, tuple[str, float]]) -> float:
    """How surely the first candidate answers the question, from 0 to 1."""
    if not ranked:
        return 0.0
    features = certainty(ranked, weights)
    return 1 / (1 + math.exp(-sum(CONFIDENCE[name] * value for name, value in features.items())))


def certainty(ranked: Sequence[Candidate], weights: Mapping[str, tuple[str, float]]) -> dict[str, float]:
    """The features of the confidence, each between 0 and 1, but for `words`."""
    first = ranked[0].features
    total = sum(weight for _, weight in weights.values()) or 1.0
    nowhere = sum(weight for key, (word, weight) in weights.items() if not word)
    return {
        "always": 1.0,
        # A passage that is named needs no other words; the rest of the question says what is wanted of it.
        "named": float(first["named"] >= 0.7),
        "covered": max(candidate.features["covered"] for candidate in ranked[:2]),
        "phrase": first["phrase"],
        "exact": first["exact"],
        "matching": first["matching"],
        "nowhere": nowhere / total,
        "words": math.log(1 + len(weights)),
        "one_word": float(len(weights) == 1 and first["named"] < 0.7),
    }


@functools.lru_cache(maxsize=4_096)
def _beginnings(key: str) -> re.Pattern[str]:
    """Finds a word of this form in a text in lower case by its beginning. To find the forms of all words of a
    text would cost ten times as much."""
    beginnings = sorted({key, *map(stem, synonyms(key))})
    return re.compile(rf"(?<![a-z])(?:{'|'.join(map(re.escape, beginnings))})")


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
