"""Groups texts that ask for the same: paraphrases together, other questions apart.

A text is the words that say what it is about, by their forms (`removing` and `delete` are one), each with
the weight TF-IDF, so that rare words count for more. Two texts are alike if their cosine is at least `ALIKE`,
and a group is whatever such pairs connect (single-link clustering). The order of the texts does not matter,
and nobody has to say how many groups there are.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from assistant.knowledge.search.words import content_words, form

ALIKE = 0.55  # the least cosine of two texts that are alike
MOST_WORDS = 24  # different words of a text that count
MOST_COMPARED = 1000  # places at which a text meets others, by its rarest words first

_Vector = dict[str, float]
_Meetings = dict[str, list[tuple[int, float]]]  # by word: the texts that have it, and its weight in each


def grouped(texts: Sequence[str]) -> list[list[int]]:
    """The places of the texts of each group, in order; the first group has the first text. The time is
    proportional to the number of texts, whatever they say."""
    same: dict[object, list[int]] = {}  # texts of the same words, or the same text without any
    words: list[Counter[str]] = []
    for place, text in enumerate(texts):
        counts = _words(text)
        key = frozenset(counts.items()) or text.strip().lower()
        if key not in same:
            words.append(counts)
        same.setdefault(key, []).append(place)
    frequency = Counter(word for counts in words for word in counts)
    rarity = {word: 1 + math.log(len(words) / count) for word, count in frequency.items()}
    meetings: _Meetings = defaultdict(list)
    parents = list(range(len(words)))  # each text and one that it is in a group with; of the first, itself
    for number, counts in enumerate(words):
        vector = _normalised({word: count * rarity[word] for word, count in counts.items()})
        for other in _alike(vector, meetings):
            one, another = sorted((_first(parents, number), _first(parents, other)))
            parents[another] = one
        for word, weight in vector.items():
            meetings[word].append((number, weight))
    groups: dict[int, list[int]] = defaultdict(list)
    for number, places in enumerate(same.values()):
        groups[_first(parents, number)] += places
    return [sorted(places) for places in groups.values()]


def _words(text: str) -> Counter[str]:
    """The forms of the words that say what a text is about, until there are `MOST_WORDS`."""
    counts: Counter[str] = Counter()
    for word in content_words(text):
        counts[form(word)] += 1
        if len(counts) == MOST_WORDS:
            break
    return counts


def _normalised(vector: _Vector) -> _Vector:
    """The vector with length 1, its rarest words first."""
    length = math.sqrt(sum(weight * weight for weight in vector.values()))
    ordered = sorted(vector.items(), key=lambda item: (-item[1], item[0]))
    return {word: weight / length for word, weight in ordered}


def _alike(vector: _Vector, meetings: _Meetings) -> list[int]:
    """The texts that are alike enough, as far as `MOST_COMPARED` meetings show."""
    cosines: dict[int, float] = defaultdict(float)
    left = MOST_COMPARED
    for word, weight in vector.items():
        met = meetings[word][:left]
        for number, its_weight in met:
            cosines[number] += weight * its_weight
        left -= len(met)
    return [number for number, cosine in cosines.items() if cosine >= ALIKE]


def _first(parents: list[int], number: int) -> int:
    """The first text of a group, by one of its texts (union-find with halved paths)."""
    while parents[number] != number:
        parents[number] = number = parents[parents[number]]
    return number
