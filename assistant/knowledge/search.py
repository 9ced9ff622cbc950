"""What the documentation has on a question: candidates by name and by words, ranked by a few features.

Knows how a name is resolved, what makes one passage a better answer than another (`WEIGHTS`), and from where
on nothing is better than something (`ENOUGH`). Refuses to know English (`question.py`, `words.py`), tables
(`index.py`), and how an answer is written.

A passage is scored by how surely it is named, by how much of the question its phrases, its name and its
documentation cover, and by how much it is used. A word counts by its rarity; what is not covered counts
against, so that a question about something else finds nothing.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from assistant.knowledge.index import Entry, Index
from assistant.knowledge.passage import Found, Passage
from assistant.knowledge.question import Kind, Mention, Question, Subject, Written, is_error, understand
from assistant.knowledge.words import ELSEWHERE, LIBRARIES, alike, corrected, form, forms, informative, words

# What speaks for a passage. Each feature is between 0 and 1; those below 0 speak against it.
WEIGHTS = {
    "named": 6.0,  # the question writes its name
    "said": 3.0,  # the likest of the phrases by which people ask for it
    "name": 1.1,  # words of the question in its name
    "summary": 0.4,  # … in its first sentence
    "covered": 1.2,  # … anywhere in it
    "matched": 0.6,  # BM25, relative to the best
    "used": 0.3,  # how often real code uses it
    "asked": 0.3,  # people have words for it
    "module": 0.9,  # it is of a module that the question names
    "sort": 0.7,  # it is of the sort that the question names
    "library": 0.5,  # it is of the standard library
    "error": -0.6,  # an exception where no error is asked about
    "deep": -0.1,  # a method or attribute of a class
    "silent": -0.6,  # hardly any documentation
    "data": -0.3,  # a constant
    "topic": -0.25,  # a chapter on the language
    "remote": -0.5,  # of a module that is seldom meant
    "private": -0.8,  # not to be used any more, or never meant to be
}
ENOUGH = 0.42  # so much of the question must be covered by the best passage for an answer
CANDIDATES = 60
MOST_REMEMBERED = 256  # searches
LONGEST_REMEMBERED = 4000  # characters of a question and those before it
MOST_ASKED = 12  # words of a question that the full-text index is asked for, the rarest
COMMONEST = 0.1  # a word that more of the passages have is not asked for, if …
ENOUGH_WORDS = 3  # … so many rarer ones are
NEVER_SEEN = 1.3  # a word that no passage has weighs so many times the rarest that one has
OF_ANOTHER = 3.0  # likewise a word for another program or language
NOT_HERE = -1  # passages that have such a word: nothing covers it, though an example may name it
BESIDE = 0.4  # … which Python's own is compared with
HARDLY_EVER = 5  # passages; a word in no more of them may be misspelt
MOST_CORRECTED = 12  # words of a question: each takes a millisecond
COMMON = 12  # passages; a name of a word in more of them is an English word, too
_AS_NAME, _AS_WORD = 0.2, 0.05  # how surely a word of a sentence is meant as a name: a rare one, another
PAIR, JOINED = 0.3, 0.15  # likewise two words that stand together: "list sort", "copy file"
BEGINNING = 800  # characters of a passage in which words are looked for
REMOTE = frozenset(
    """
    tkinter unittest xml idlelib distutils lib2to3 turtle curses msilib imaplib nntplib telnetlib poplib
    mailbox pdb bdb pydoc doctest ctypes symtable pickletools dis test wsgiref xmlrpc cgi cgitb optparse imp
    asyncore asynchat smtpd compileall py_compile modulefinder pkgutil zipimport encodings codeop
    multiprocessing.dummy sre_parse tokenize token
    """.split()  # noqa: SIM905 - a table to read
)
# What people call the type that a method is of.
RECEIVERS = {
    "string": "str", "strings": "str", "text": "str", "dictionary": "dict", "dictionaries": "dict",
    "lists": "list", "array": "list", "arrays": "list", "tuples": "tuple", "sets": "set", "integer": "int",
    "dicts": "dict", "floats": "float", "path": "pathlib.Path", "threads": "threading", "processes":
    "multiprocessing", "generators": "yield", "generator": "yield", "decorators": "decorator",
}  # fmt: skip
# Parts of names that undo each other.
OPPOSITES = (
    ("dumps", "loads"), ("dump", "load"), ("encode", "decode"), ("pack", "unpack"),
    ("compress", "decompress"),
    ("lower", "upper"), ("split", "join"), ("ord", "chr"), ("strftime", "strptime"), ("escape", "unescape"),
    ("append", "pop"), ("quote", "unquote"), ("reader", "writer"),
    ("DictReader", "DictWriter"), ("min", "max"),
    ("b64encode", "b64decode"), ("hexlify", "unhexlify"), ("read_text", "write_text"), ("all", "any"),
    ("fromtimestamp", "timestamp"), ("fromisoformat", "isoformat"), ("from_bytes", "to_bytes"),
    ("make_archive", "unpack_archive"), ("urlencode", "parse_qs"), ("urlparse", "urlunparse"),
    ("startswith", "endswith"), ("lstrip", "rstrip"), ("ljust", "rjust"), ("nlargest", "nsmallest"),
    ("islower", "isupper"), ("setattr", "getattr"), ("fromhex", "hex"), ("bin", "int"), ("hex", "int"),
)  # fmt: skip


@dataclass(slots=True)
class Candidate:
    entry: Entry
    named: float = 0.0
    score: float = 0.0
    covered: float = 0.0  # share of the question that it covers, by the weight of the words

    @property
    def name(self) -> str:
        return self.entry.passage.name


@dataclass(slots=True)
class Met:
    """The candidates that were met for one subject, by passage."""

    corpora: tuple[str, ...] | None
    candidates: dict[int, Candidate] = field(default_factory=dict)
    best: float = 0.0  # score of the full-text search

    def add(self, entry: Entry, named: float) -> None:
        if self.corpora is not None and entry.passage.corpus not in self.corpora:
            return
        candidate = self.candidates.setdefault(entry.id, Candidate(entry))
        candidate.named = max(candidate.named, named)

    def add_matching(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.candidates.setdefault(entry.id, Candidate(entry)).entry = entry
            self.best = max(self.best, entry.score)


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one thing that is asked about was taken for, best first."""

    candidates: Sequence[Candidate]
    unknown: str | None = None  # a name that is surely meant as one, and does not exist


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and what goes for all its parts."""

    question: Question
    corpora: tuple[str, ...] | None
    modules: frozenset[str] = frozenset()


def search(
    index: Index,
    question: str,
    *,
    previous: Sequence[str] = (),
    limit: int = 4,
    corpora: Sequence[str] | None = None,
) -> Found:
    """What answers a question, best first; nothing where nothing in the index does.

    `previous` are the earlier questions of the conversation, oldest first: they count where the question
    cannot be understood without. Synchronous; takes a few milliseconds. Any text is a question.
    """
    asked = understand(question)
    only = tuple(corpora) if corpora else None
    if asked.leans and previous:
        before = _before(previous)
        if before is not None:
            return _following(index, asked, before, limit, only)
    return _search(index, asked, limit, only)


class RecentSearches:
    """Searches of one index, the latest of which are remembered until the index has changed: what many ask
    at once is looked for once. Like its index not for more than one thread."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._found: dict[tuple[str, tuple[str, ...], int], Found] = {}  # the oldest first
        self._version: tuple[int, int] | None = None

    def search(self, question: str, *, previous: Sequence[str] = (), limit: int = 4) -> Found:
        """What `search` finds."""
        version = self._index.version()
        if version != self._version:
            self._found.clear()
            self._version = version
        key = (question, tuple(previous), limit)
        found = self._found.pop(key, None)
        if found is None:
            found = search(self._index, question, previous=previous, limit=limit)
        if sum(map(len, (question, *previous))) <= LONGEST_REMEMBERED:
            self._found[key] = found
        if len(self._found) > MOST_REMEMBERED:
            del self._found[next(iter(self._found))]
        return found


# Conversations


def _before(previous: Sequence[str]) -> Question | None:
    """The last question that stands alone."""
    for text in reversed(previous[-6:]):
        question = understand(text)
        if not question.leans or question.mentions:
            return question
    return understand(previous[-1]) if previous else None


def _following(
    index: Index, asked: Question, before: Question, limit: int, corpora: tuple[str, ...] | None
) -> Found:
    """What answers a question that goes on from one before."""
    if asked.mentions:
        alone = _search(index, asked, limit, corpora)
        if alone.passages or alone.unknown:
            return alone
    if asked.opposite:
        first = _search(index, before, limit, corpora)
        turned = [found for passage in first.passages[:1] for found in _opposites(index, passage.name)]
        if turned:
            return _unlike([entry.passage for entry in turned] + list(first.passages), limit)
    subject = before.subjects[0] if len(before.subjects) == 1 else Subject(before.mentions, before.words)
    joined = Subject(subject.mentions, tuple(dict.fromkeys((*subject.words, *asked.words))))
    kind = before.kind if before.kind is not Kind.DIFFERENCE else Kind.TASK
    if not asked.words and before.kind is Kind.DIFFERENCE:
        return _search(index, before, limit, corpora)
    merged = replace(
        before, kind=kind, subjects=(joined,), modules=(*before.modules, *asked.modules), leans=False
    )
    return _search(index, merged, limit, corpora)


def _opposites(index: Index, name: str) -> Iterator[Entry]:
    """What undoes a thing of that name, beside it in the same module or class."""
    head, dot, last = name.rpartition(".")
    for one, other in OPPOSITES:
        if last in (one, other):
            yield from index.named(head + dot + (other if last == one else one))[:1]


# Names


def _resolved(index: Index, name: str) -> list[tuple[Entry, float]]:
    """The passages that a written name may mean, with how surely it does."""
    found = index.named(name)
    if found:
        return [(entry, 1.0) for entry in found[:3]]
    head, dot, last = name.rpartition(".")
    ends = index.ending(name)
    if ends:
        sure = 0.92 if dot else 0.75
        return [(entry, sure if entry.passage.name.lower() != name.lower() else 0.97) for entry in ends]
    if not dot:
        return _of_language(index, name)
    if head.lower() in RECEIVERS:
        return [(entry, 0.9) for entry in index.named(f"{RECEIVERS[head.lower()]}.{last}")]
    # A method that a class inherits is documented at the class that has it: in the same module as a rule.
    for owner in index.named(head) or index.ending(head, 3):
        if owner.passage.kind == "class":
            module = owner.passage.name.rpartition(".")[0]
            return [
                (entry, 0.9)
                for entry in index.ending(last)
                if module and entry.passage.name.startswith(f"{module}.")
            ]
    return []


def _of_language(index: Index, name: str) -> list[tuple[Entry, float]]:
    """The chapters on a name that the language gives a meaning, and that has no passage of its own."""
    if not re.fullmatch(r"__[a-z]+__", name):
        return []
    said = index.matching(f'phrases : "{name.strip("_")}"', 8)
    return [(entry, 0.8) for entry in said if name in entry.phrases.replace("\n", " ").split()]


def _is_known(index: Index, name: str) -> bool:
    """Is there a module or a class of that name?"""
    return any(
        entry.passage.kind in ("module", "class") for entry in index.named(name) or index.ending(name, 3)
    ) or (name in RECEIVERS)


def _unknown(index: Index, name: str) -> Found:
    """That there is no such name, with those that may be meant: those of the named module or class first."""
    head, _, last = name.rpartition(".")
    inside = _inside(index, head, last) if head else []
    elsewhere = [entry.passage.name for entry in index.ending(last, 3)] if head else []
    near = () if len(inside) > 2 else index.near(name)
    return Found(unknown=name, did_you_mean=tuple(dict.fromkeys((*inside, *elsewhere, *near)))[:3])


def _inside(index: Index, head: str, last: str) -> list[str]:
    """What of a module or class is likest to a name that it does not have: in what it is called, or does."""
    owners = [RECEIVERS.get(head.lower(), head)]
    owners += [entry.passage.name for entry in index.named(head) or index.ending(head, 3)]
    said = dict.fromkeys(form(word) for word in words(last.replace("_", " ")))
    weights = {key: (key, 1.0) for key in said}
    for owner in dict.fromkeys(owners):
        worth = []
        for place, entry in enumerate(index.within(owner)):
            called = entry.passage.name.rpartition(".")[2]
            shared = len(weights.keys() & forms(called.replace("_", " "))) / (len(weights) or 1)
            likeness, *_ = _likest(entry.phrases, weights)
            near = difflib.SequenceMatcher(a=called.lower(), b=last.lower()).ratio()
            worth.append((-max(near**2, shared, likeness), place, entry.passage.name))
        if worth:
            return [found for _, _, found in sorted(worth)[:3]]
    return []


# Ranking


def _search(index: Index, question: Question, limit: int, corpora: tuple[str, ...] | None) -> Found:
    asked = Asked(question, corpora, modules=frozenset(_modules(index, question)))
    if question.kind is Kind.DIFFERENCE:
        rankings = [_ranked(index, asked, subject) for subject in question.subjects]
        missing = next((ranking.unknown for ranking in rankings if ranking.unknown), None)
        if missing:
            return _unknown(index, missing)
        rankings = [ranking for ranking in rankings if ranking.candidates]
        if len(rankings) > 1:
            pair = _together(rankings[0].candidates, rankings[1].candidates)
            others = [ranking.candidates[0] for ranking in rankings[2:]]
            rest = [c for tier in zip(*(r.candidates[1:3] for r in rankings), strict=False) for c in tier]
            return _unlike([c.entry.passage for c in (*pair, *others, *rest)], limit)
        whole = Subject(question.mentions, question.words)
        asked = replace(asked, question=replace(question, kind=Kind.TASK, subjects=(whole,)))
    ranking = _ranked(index, asked, asked.question.subjects[0])
    if ranking.unknown:
        return _unknown(index, ranking.unknown)
    return _unlike([candidate.entry.passage for candidate in ranking.candidates], limit)


def _modules(index: Index, question: Question) -> Iterator[str]:
    for name in question.modules[:8]:
        if any(entry.passage.kind == "module" for entry in index.named(name.lower())):
            yield name.lower()
    for name in question.code:
        yield name.rpartition(".")[0]


def _ranked(index: Index, asked: Asked, subject: Subject) -> Ranking:
    """Everything that may be meant by a subject, best first; empty where nothing covers enough of it."""
    met = Met(asked.corpora)
    missing = _meet_mentions(index, subject, met)
    unknown = _denied(index, asked.question.kind, missing, met)
    if unknown:
        return Ranking((), unknown=unknown)
    subject = _spelled(index, asked.question.kind, subject)
    said = list(subject.words)
    if asked.question.kind is Kind.TASK:
        # The asker's own names are left alone; other names that are not there are words nobody has.
        said += [mention.name for mention in missing if not _own(mention.name)]
    weights = _weights(index, said, asked.question.is_of_python)
    if not any(candidate.named > 0.9 for candidate in met.candidates.values()):
        for entry, sure in _by_word(index, asked.question.kind, subject, weights):
            met.add(entry, sure)
    if weights:
        met.add_matching(index.matching(_query(index, weights), CANDIDATES, corpora=asked.corpora))
    by_form = _by_form(weights)
    ranked = sorted(
        (_score(candidate, asked, by_form, met.best) for candidate in met.candidates.values()),
        key=lambda candidate: (-candidate.score, len(candidate.name), candidate.name),
    )
    if not ranked or max(candidate.covered for candidate in ranked[:2]) < ENOUGH:
        return Ranking(())
    return Ranking(ranked)


def _meet_mentions(index: Index, subject: Subject, met: Met) -> list[Mention]:
    """Meets what the written names may mean; those that mean nothing are handed back."""
    missing = []
    for mention in subject.mentions:
        found = _resolved(index, mention.name)
        for entry, sure in found:
            met.add(entry, sure)
        if not found:
            missing.append(mention)
    return missing


def _denied(index: Index, kind: Kind, missing: Sequence[Mention], met: Met) -> str | None:
    """The name on which nothing can be said, since it is surely meant as one and is not there."""
    for mention in missing:
        head = mention.name.rpartition(".")[0]
        if mention.written is Written.PATH and (kind is not Kind.TASK or (head and _is_known(index, head))):
            return mention.name
    if missing and not met.candidates and kind is not Kind.TASK:
        return missing[0].name
    return None


def _spelled(index: Index, kind: Kind, subject: Subject) -> Subject:
    """The subject with its misspelt words put right. What stands in the place of a name stays as it is."""
    if kind is not Kind.TASK and len(subject.core) == 1:
        return subject
    strange = (word for word in subject.words if index.frequency(word) <= HARDLY_EVER)
    slips = {word: corrected(word, index.spelled()) for word in itertools.islice(strange, MOST_CORRECTED)}
    return replace(subject, words=tuple(dict.fromkeys(slips.get(word, word) for word in subject.words)))


def _query(index: Index, weights: Mapping[str, tuple[int, float]]) -> str:
    """What the full-text index is asked for: the rarest words, and others that stand for them."""
    rarest = sorted(weights, key=lambda word: -weights[word][1])[:MOST_ASKED]
    common = COMMONEST * index.count()  # each costs as much as all rare ones do
    telling = [word for word in rarest if weights[word][0] <= common]
    rarest = telling if len(telling) >= ENOUGH_WORDS else rarest[:ENOUGH_WORDS]
    terms = dict.fromkeys(term for word in rarest for term in alike(word)[:6])
    return " OR ".join(f'"{term}"' for term in terms)


def _by_form(weights: Mapping[str, tuple[int, float]]) -> dict[str, tuple[str, float]]:
    """The heaviest word of each form, with its weight; what nothing can cover stands under no form."""
    by_form: dict[str, tuple[str, float]] = {}
    for word, (frequency, weight) in weights.items():
        if frequency == NOT_HERE:
            by_form[f"no {word}"] = ("", weight)
        elif weight > by_form.get(form(word), ("", -1.0))[1]:
            by_form[form(word)] = (word, weight)
    return by_form


def _own(name: str) -> bool:
    """May this be a name that the asker gave to something?"""
    return bool(
        re.match(
            r"__\w+__$|(?:my|our|some|the|a|this|your)_|.{1,2}$|.*_(?:list|dict|str|string|file|path|data|name|id)s?$",
            name,
        )
    )


def _weights(index: Index, said: Iterable[str], is_of_python: bool) -> dict[str, tuple[int, float]]:
    """The frequency and the weight of each word: the rarer, the more.

    A word for another program or language that nothing in the index is named by tells that the question is
    about that one, unless the question speaks of Python: then it is what Python's own is compared with.
    """
    total = max(index.count(), 1000)
    most = math.log(1 + total)
    weights = {}
    for word in dict.fromkeys(said):
        frequency = sum(index.frequency(term) for term in alike(word)[:3])
        weight = math.log(1 + total / (1 + frequency)) if frequency else NEVER_SEEN * most
        if word in LIBRARIES or (word in ELSEWHERE and not is_of_python):
            if not index.named(word):
                frequency, weight = NOT_HERE, OF_ANOTHER * most
        elif word in ELSEWHERE:
            weight = BESIDE * most
        weights[word] = (frequency, weight)
    return weights


def _by_word(
    index: Index, kind: Kind, subject: Subject, weights: dict[str, tuple[int, float]]
) -> Iterator[tuple[Entry, float]]:
    """The passages whose names are words of the sentence, with how surely these are meant as names."""
    core = subject.core or subject.words
    alone = kind is not Kind.TASK and len(core) == 1 and not subject.mentions
    for one, other in itertools.pairwise(core):
        for head, last in ((one, other), (other, one)):
            for entry in index.named(f"{RECEIVERS.get(head, head)}.{last}"):
                yield entry, PAIR
        for entry in index.ending(one + other, 3):
            yield entry, JOINED
    for word in core:
        rare = weights[word][0] <= COMMON if word in weights else True
        for name in dict.fromkeys((word, RECEIVERS.get(word, word), word.removesuffix("s"))):
            for entry in index.named(name)[:2]:
                yield entry, 1.0 if alone else _AS_NAME if rare or kind is not Kind.TASK else _AS_WORD
            if alone or rare or kind is Kind.DIFFERENCE:
                for entry in index.ending(name, 8):
                    yield entry, 0.75 if alone else _AS_NAME if rare else _AS_WORD


def _score(
    candidate: Candidate, asked: Asked, weights: dict[str, tuple[str, float]], best: float
) -> Candidate:
    entry, passage, question = candidate.entry, candidate.entry.passage, asked.question
    total = sum(weight for _, weight in weights.values()) or 1.0
    name = _forms_of_name(passage.name)
    squeezed = passage.name.lower().replace("_", "")
    in_name = {
        key for key, (word, _) in weights.items() if key in name or (len(word) >= 4 and word in squeezed)
    }
    likeness, in_phrase, in_phrases = _likest(entry.phrases, weights)
    summary = weights.keys() & forms(passage.text[:200].split("\n\n")[0])
    elsewhere = weights.keys() - in_name - in_phrases - summary
    if elsewhere:  # the costliest look
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
    is_of_module = any(passage.name.startswith(f"{name}.") or passage.name == name for name in asked.modules)
    features = {
        "named": candidate.named,
        "said": likeness,
        "name": sum(weights[key][1] for key in in_name) / total,
        "summary": sum(weights[key][1] for key in summary) / total,
        "covered": covered / total,
        "matched": entry.score / best if best else 0.0,
        "used": min(math.log1p(entry.uses) / math.log(1000), 1.0),
        "asked": bool(entry.phrases),
        "module": is_of_module,
        "sort": kind in question.sorts,
        "library": passage.corpus == "python",
        "error": is_error(passage.name) and not candidate.named and not question.is_of_errors,
        "deep": kind in ("method", "property") and passage.name.count(".") > 1,
        "silent": len(passage.text) < 30,
        "data": kind == "data" and not entry.phrases,
        "topic": kind == "topic",
        "remote": module in REMOTE and not is_of_module and module not in question.words,
        "private": "deprecated" in passage.text[:300].lower() or "._" in passage.name,
    }
    candidate.score = sum(WEIGHTS[feature] * value for feature, value in features.items())
    # What is named needs no words: the rest of the question says what is wanted of it.
    candidate.covered = max(covered / total, candidate.named if candidate.named >= 0.7 else 0.0)
    return candidate


@functools.lru_cache(maxsize=16_384)
def _forms_of_name(name: str) -> frozenset[str]:
    return frozenset(forms(name.replace(".", " ").replace("_", " ")))


@functools.lru_cache(maxsize=16_384)
def _forms_of_phrase(phrase: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(form(word) for word in informative(phrase)))


def _likest(phrases: str, weights: dict[str, tuple[str, float]]) -> tuple[float, set[str], set[str]]:
    """The phrase that is most like the question: how much so, and which of its words it shares; and which
    words all phrases share."""
    best, in_best, in_any = 0.0, set[str](), set[str]()
    if not phrases:
        return best, in_best, in_any
    total = sum(weight for _, weight in weights.values()) or 1.0
    usual = total / (len(weights) or 1)
    order = {key: place for place, key in enumerate(weights)}
    for phrase in phrases.split("\n"):
        said = _forms_of_phrase(phrase)
        shared = [key for key in said if key in weights]
        if not shared:
            continue
        in_any.update(shared)
        weight = sum(weights[key][1] for key in shared)
        likeness = weight / (0.65 * total + 0.35 * (weight + 0.7 * usual * (len(said) - len(shared))))
        places = [order[key] for key in shared]
        if len(places) > 1:
            upward = sum(one < other for one, other in itertools.pairwise(places))
            likeness *= 0.9 + 0.1 * upward / (len(places) - 1)
        if likeness > best:
            best, in_best = likeness, set(shared)
    return best, in_best, in_any


def _together(first: Sequence[Candidate], second: Sequence[Candidate]) -> tuple[Candidate, Candidate]:
    """One of each: the best, and rather two that belong together."""

    def worth(one: Candidate, other: Candidate) -> float:
        owner = one.name.rpartition(".")[0] == other.name.rpartition(".")[0]
        module = one.name.partition(".")[0] == other.name.partition(".")[0]
        return one.score + other.score + 0.8 * owner + 0.4 * module

    pairs = [(one, other) for one in first[:8] for other in second[:8] if one.name != other.name]
    return max(pairs, key=lambda pair: worth(*pair), default=(first[0], second[0]))


def _unlike(passages: Iterable[Passage], limit: int) -> Found:
    """The first passages of different names."""
    by_name: dict[str, Passage] = {}
    for passage in passages:
        by_name.setdefault(passage.name, passage)
    return Found(tuple(by_name.values())[:limit])
