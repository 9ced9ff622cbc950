"""Finds the passages that answer a question: collects candidates by name and by words, and ranks them.

A question that names packages is answered from their passages alone, if these have an answer; otherwise all
passages compete. If the best passage probably does not answer the question (`ENOUGH`), nothing is found,
since no answer is better than a wrong one. `scope.py` finds the packages, `ranking.py` scores a passage.
"""

from __future__ import annotations

import difflib
import functools
import heapq
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from assistant.knowledge.index import ColumnWeights, Hit, Index, scope_key
from assistant.knowledge.passage import Passage, SearchResult
from assistant.knowledge.search import errors, versions
from assistant.knowledge.search.languages import in_english
from assistant.knowledge.search.question import (
    Mention,
    Question,
    QuestionType,
    Subject,
    parse_question,
)
from assistant.knowledge.search.ranking import (
    Candidate,
    Query,
    best_phrase,
    by_form,
    confidence,
    score,
    score_owner,
    word_weights,
)
from assistant.knowledge.search.scope import Scope, named_scope
from assistant.knowledge.search.small_talk import may_need_documentation
from assistant.knowledge.search.words import IMPORTED_AS, corrected, form, forms, split_words, synonyms

ENOUGH = 0.3  # how surely the first passage must answer a question
ENOUGH_INSIDE = 0.02  # the same if the question names the package
PREFERRED_INSIDE = 0.15  # how much less surely a passage of a package that is perhaps named may answer
MOST_OWNERS = 8  # classes that are looked at because their members match
CANDIDATES, FEW = 60, 30  # passages that each full-text search finds
PLAIN = ColumnWeights(1.0, 1.0, 0.0, 1.0, 0.0)
FEW_ENDINGS, MOST_ENDINGS = 20, 200  # passages whose names end alike that are looked at
MOST_REMEMBERED = 256  # searches
LONGEST_REMEMBERED = 4000  # characters of a question with its earlier questions
MOST_TERMS = 12  # words of a question in a full-text query, the rarest
MOST_READ = 12_000  # passages with words of a question that a full-text search reads
ENOUGH_TERMS = 2  # words that are searched for, however common
MISSPELT_UP_TO = 5  # passages; a word in more of them is not misspelt
MOST_CORRECTED = 12  # words of a question; each takes a millisecond
COMMON_NAME = 12  # passages; a name that more of them have as a word is also an English word
RARE_WORD, COMMON_WORD = 0.2, 0.05  # how surely a word of a sentence is meant as a name
PAIR, JOINED = 0.3, 0.15  # the same for two neighbouring words: "list sort", "copy file"
SHORT_NAME = 0.3  # the same for a name directly in a package that the question names: `websockets.connect`
JOINING_WORDS = frozenset(("and", "or", "in", "with", "for", "from", "as"))  # and keywords of Python
# What people call a type or module.
TYPES = {
    "string": "str", "strings": "str", "text": "str", "dictionary": "dict", "dictionaries": "dict",
    "lists": "list", "array": "list", "arrays": "list", "tuples": "tuple", "sets": "set", "integer": "int",
    "dicts": "dict", "floats": "float", "path": "pathlib.Path", "threads": "threading", "processes":
    "multiprocessing", "generators": "yield", "generator": "yield", "decorators": "decorator",
}  # fmt: skip
# The last parts of names that undo each other.
OPPOSITES = tuple(
    pair.split("/")
    for pair in """
    dumps/loads dump/load encode/decode pack/unpack compress/decompress lower/upper split/join ord/chr
    strftime/strptime escape/unescape append/pop quote/unquote reader/writer DictReader/DictWriter min/max
    b64encode/b64decode hexlify/unhexlify read_text/write_text all/any fromtimestamp/timestamp
    fromisoformat/isoformat from_bytes/to_bytes make_archive/unpack_archive urlencode/parse_qs
    urlparse/urlunparse startswith/endswith lstrip/rstrip ljust/rjust nlargest/nsmallest islower/isupper
    setattr/getattr fromhex/hex bin/int hex/int
    """.split()  # noqa: SIM905 - a table to read
)


@dataclass(slots=True)
class Candidates:
    """The candidates for one subject, by passage."""

    query: Query
    by_id: dict[int, Candidate] = field(default_factory=dict)

    def add_named(self, hit: Hit, named: float) -> bool:
        """Add a passage that the question names. Returns whether it belongs to what is searched."""
        corpora, scope, passage = self.query.corpora, self.query.scope, hit.passage
        if (corpora and passage.corpus not in corpora) or (scope and scope_key(passage.package) not in scope):
            return False
        candidate = self.by_id.setdefault(hit.id, Candidate(hit))
        candidate.named = max(candidate.named, named)
        return True

    def add_mentioned(self, index: Index, mention: Mention) -> bool:
        """Add what a name in the question may mean. Returns whether there is anything."""
        most = MOST_ENDINGS if self.query.scope else FEW_ENDINGS
        found = _passages_named(index, mention.name, most)
        return sum(self.add_named(hit, sure) for hit, sure in found) > 0

    def add_matching(self, index: Index, weights: Mapping[str, tuple[int, float]]) -> None:
        """Add what the full-text search finds: over the fields with synonyms, and plainly."""
        exact, wide = _terms(index, weights)
        for query, column_weights, most in ((wide, ColumnWeights(), CANDIDATES), (exact, PLAIN, FEW)):
            hits = index.matching(
                query, most, weights=column_weights, scope=self.query.scope, corpora=self.query.corpora
            )
            best = max((hit.score for hit in hits), default=1.0) or 1.0
            for hit in hits:
                candidate = self.by_id.setdefault(hit.id, Candidate(hit))
                if query is wide:
                    candidate.full_text = hit.score / best
                else:
                    candidate.plain, candidate.matching = hit.score / best, hit.score
        self._add_owners(index)

    def _add_owners(self, index: Index) -> None:
        """Add the classes whose members match: a class is often the answer, but says little itself."""
        best: dict[str, float] = {}
        for candidate in self.by_id.values():
            owner = candidate.name.rpartition(".")[0]
            if owner and candidate.hit.passage.kind in ("method", "property", "data"):
                best[owner] = max(best.get(owner, 0.0), candidate.full_text)
        for owner in heapq.nlargest(MOST_OWNERS, best, key=lambda name: best[name]):
            for hit in index.named(owner)[:1]:
                self.add_named(hit, 0.0)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates for one subject, best first, and how surely the first answers the question. `weights`
    has the words of the question, and the weight of each, by their forms."""

    candidates: Sequence[Candidate] = ()
    weights: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    confidence: float = 0.0
    scope: tuple[str, ...] = ()  # keys of the packages that were searched
    unknown: str | None = None  # a name in the question that does not exist


def search(
    index: Index,
    question: str,
    *,
    previous: Sequence[str] = (),
    limit: int = 4,
    corpora: Sequence[str] | None = None,
) -> SearchResult:
    """The passages that answer a question, best first; none if nothing in the index does, but what the index
    covers. `previous` are the earlier questions of the conversation, oldest first; they complete a question
    that cannot be understood alone. Accepts any text, and takes a few milliseconds."""
    explained = errors.search(index, question, limit=limit, corpora=corpora)
    if explained and explained.passages:
        return explained
    if not may_need_documentation(question):
        return SearchResult()
    question, previous = in_english(question), [*map(in_english, previous[-6:])]
    scope, parsed = _parsed(index, question)
    if not scope.packages and (only := index.only_package()):
        scope = Scope((only,), is_certain=True)
    searched = _Search(index, limit, tuple(corpora or ()))
    result = None
    if parsed.is_follow_up and previous:
        result = searched.follow_up(parsed, scope, previous)
    if result is None:
        result = searched.in_scope(parsed, scope, question)
    if explained:
        return replace(explained, passages=result.passages)
    if not result.passages:
        result = replace(result, covers=tuple(index.covers()))
    return versions.with_facts(index, question, result)


def _parsed(index: Index, text: str) -> tuple[Scope, Question]:
    """The packages that a question names, and the question without their names."""
    scope, rest = named_scope(index, text)
    question = parse_question(rest)
    if scope.packages and JOINING_WORDS.issuperset(question.words):  # "and with pandas?" has no other subject
        subjects = tuple(replace(subject, words=()) for subject in question.subjects)
        question = replace(question, subjects=subjects)
    return scope, question


def rankings(index: Index, text: str) -> list[Ranking]:
    """What the ranking makes of each thing that a question asks about: to learn its weights from."""
    scope, question = _parsed(index, text)
    keys = scope.keys or tuple(map(scope_key, filter(None, [index.only_package()])))
    query = Query(question, keys, (), frozenset(_modules(index, question)))
    return [_Search(index, 4, ())._rank(query, subject) for subject in question.subjects]


class RecentSearches:
    """Searches an index and remembers the latest results until the index changes, because many people may
    ask the same. For use in one thread, like the index."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._search = functools.lru_cache(MOST_REMEMBERED)(functools.partial(search, index))
        self._version: tuple[int, int] | None = None

    def search(self, question: str, *, previous: Sequence[str] = (), limit: int = 4) -> SearchResult:
        """As `search`."""
        version = self._index.version()
        if version != self._version:
            self._search.cache_clear()
            self._version = version
        if sum(map(len, (question, *previous))) > LONGEST_REMEMBERED:
            return search(self._index, question, previous=previous, limit=limit)
        return self._search(question, previous=tuple(previous), limit=limit)


@dataclass(frozen=True, slots=True)
class _Search:
    """One search: the index, the most passages to find, and the corpora that are searched (empty for all)."""

    index: Index
    limit: int
    corpora: tuple[str, ...]

    def in_scope(self, question: Question, scope: Scope, text: str) -> SearchResult:
        """Search the packages that a question names, and otherwise everything. `question` was parsed without
        the names of the packages, `text` is the whole question."""
        if not scope.packages:
            return self.everywhere(question)
        if not question.words and not question.mentions:
            is_perhaps_a_word = len(scope.names) == 1 and not scope.is_certain
            outside = self.everywhere(parse_question(text)) if is_perhaps_a_word else SearchResult()
            is_other = any(passage.package not in scope.packages for passage in outside.passages[:1])
            return outside if is_other else self.introduction(scope)
        inside = self.ranked(question, scope)
        if scope.is_certain and (inside.unknown or inside.confidence >= ENOUGH_INSIDE):
            return inside
        outside = self.everywhere(parse_question(text))
        is_better = outside.confidence > inside.confidence + PREFERRED_INSIDE or not inside.passages
        return outside if is_better or inside.confidence < ENOUGH_INSIDE else inside

    def everywhere(self, question: Question) -> SearchResult:
        result = self.ranked(question, Scope())
        if result.unknown or result.confidence >= ENOUGH:
            return result
        return SearchResult()

    def introduction(self, scope: Scope) -> SearchResult:
        """What packages are: the first passages of each."""
        found = [self.index.first_of(package) for package in scope.packages]
        passages = [hit.passage for tier in itertools.zip_longest(*found) for hit in tier if hit]
        return SearchResult(tuple(passages[: self.limit]), confidence=1.0, scope=scope.packages)

    # Conversations

    def follow_up(self, question: Question, scope: Scope, previous: Sequence[str]) -> SearchResult | None:
        """The passages that answer a question which continues an earlier one; None if it stands alone."""
        earlier_scope, earlier = self._last_complete_question(previous)
        if question.mentions or scope.packages:
            alone = self.ranked(question, scope)
            if alone.unknown or alone.confidence >= (ENOUGH_INSIDE if scope.packages else ENOUGH):
                return alone
        scope = scope if scope.packages else earlier_scope
        if question.asks_opposite:
            first = self.ranked(earlier, scope)
            opposites = [hit for passage in first.passages[:1] for hit in self._opposites(passage.name)]
            if opposites:
                passages = [hit.passage for hit in opposites] + list(first.passages)
                return replace(first, passages=tuple(passages[: self.limit]))
        is_difference = earlier.type is QuestionType.DIFFERENCE
        if question.words or not is_difference:
            joined = Subject(earlier.mentions, tuple(dict.fromkeys((*earlier.words, *question.words))))
            earlier = replace(
                earlier,
                type=QuestionType.TASK if is_difference else earlier.type,
                subjects=(joined,),
                modules=(*earlier.modules, *question.modules),
                is_follow_up=False,
            )
        if not earlier.words and not earlier.mentions and scope.packages:
            return self.introduction(scope)
        result = self.ranked(earlier, scope)
        return result if result.confidence >= ENOUGH_INSIDE else SearchResult()

    def _last_complete_question(self, previous: Sequence[str]) -> tuple[Scope, Question]:
        """The last question that can be understood alone, and the packages that it or a later one names."""
        scope = Scope()
        for text in reversed(previous):
            named, question = _parsed(self.index, text)
            scope = scope if scope.packages else named
            stands_alone = (
                not question.is_follow_up or question.mentions or (named.packages and question.words)
            )
            if stands_alone and may_need_documentation(text):
                return scope, question
        return scope, _parsed(self.index, previous[-1])[1]

    def _opposites(self, name: str) -> Iterator[Hit]:
        """What undoes `name`, in the same module or class."""
        head, dot, last = name.rpartition(".")
        for one, other in OPPOSITES:
            if last in (one, other):
                yield from self.index.named(head + dot + (other if last == one else one))[:1]

    # Ranking

    def ranked(self, question: Question, scope: Scope) -> SearchResult:
        """The best passages of a scope, however badly they answer the question."""
        modules = frozenset(_modules(self.index, question))
        query = Query(question, scope.keys, self.corpora, modules)
        if question.type is QuestionType.DIFFERENCE:
            rankings = [self._rank(query, subject) for subject in question.subjects]
            unknown = next((ranking.unknown for ranking in rankings if ranking.unknown), None)
            if unknown:
                return _unknown_name(self.index, unknown)
            rankings = [ranking for ranking in rankings if ranking.confidence >= ENOUGH_INSIDE]
            if len(rankings) > 1:
                pair = _best_pair(rankings[0].candidates, rankings[1].candidates)
                others = [ranking.candidates[0] for ranking in rankings[2:]]
                rest = [c for tier in zip(*(r.candidates[1:3] for r in rankings), strict=False) for c in tier]
                sure = min(ranking.confidence for ranking in rankings)
                return self._result([*pair, *others, *rest], sure, scope)
            whole = Subject(question.mentions, question.words)
            query = replace(query, question=replace(question, type=QuestionType.TASK, subjects=(whole,)))
        ranking = self._rank(query, query.question.subjects[0])
        if ranking.unknown:
            return _unknown_name(self.index, ranking.unknown)
        return self._result(ranking.candidates, ranking.confidence, scope)

    def _rank(self, query: Query, subject: Subject) -> Ranking:
        """The passages that a subject may mean, best first."""
        index, question = self.index, query.question
        candidates = Candidates(query)
        missing = [mention for mention in subject.mentions if not candidates.add_mentioned(index, mention)]
        written = [mention for mention in missing if _is_written(index, mention.name, query.scope)]
        missing = [mention for mention in missing if mention not in written]
        for hit in index.headed(question.text) if len(question.subjects) == 1 else ():
            candidates.add_named(hit, 1.0)
        unknown = _unanswerable_name(index, question.type, missing, candidates)
        if unknown:
            return Ranking(unknown=unknown)
        subject = _with_spelling_corrected(index, question.type, subject)
        words = [*subject.words, *(mention.name.lower() for mention in written)]
        if question.type is QuestionType.TASK:
            # Missing names count as words that no passage has, unless they seem to be the user's variables.
            words += [mention.name for mention in missing if not _is_users_name(mention.name)]
        weights = word_weights(index, words, query)
        if not any(candidate.named > 0.9 for candidate in candidates.by_id.values()):
            for hit, sure in _named_by_words(index, question.type, subject, weights, query.scope):
                candidates.add_named(hit, sure)
        if weights:
            candidates.add_matching(index, weights)
        weights_by_form = by_form(weights)
        scored = {each.name: score(each, query, weights_by_form) for each in candidates.by_id.values()}
        for candidate in scored.values():
            owner = scored.get(candidate.name.rpartition(".")[0])
            if owner is not None and owner.hit.passage.kind == "class":
                score_owner(owner, candidate)
        ranked = sorted(
            candidates.by_id.values(),
            key=lambda candidate: (-candidate.score, len(candidate.name), candidate.name),
        )
        return Ranking(ranked, weights_by_form, confidence(ranked, weights_by_form), query.scope)

    def _result(self, candidates: Sequence[Candidate], sure: float, scope: Scope) -> SearchResult:
        """The passages of the first candidates with different names."""
        by_name: dict[str, Passage] = {}
        for candidate in candidates:
            by_name.setdefault(candidate.name, candidate.hit.passage)
        passages = tuple(by_name.values())[: self.limit]
        return SearchResult(passages, confidence=sure, scope=scope.packages)


def _modules(index: Index, question: Question) -> Iterator[str]:
    """The modules that a question names, in its prose or its code."""
    for name in question.modules[:8]:
        if any(hit.passage.kind == "module" for hit in index.named(name.lower())):
            yield name.lower()
    for name in question.names_in_code:
        yield name.rpartition(".")[0]


def _terms(index: Index, weights: Mapping[str, tuple[int, float]]) -> tuple[str, str]:
    """Two queries for the full-text index: the rarest words, and these with their synonyms, where a word
    counts twice as much as a synonym of it. What they have to read together is limited, since one common word
    costs as much as all rare ones."""
    exact: list[str] = []
    wide: list[str] = []
    to_read = 0
    for word in sorted(weights, key=lambda word: -weights[word][1])[:MOST_TERMS]:
        to_read += max(weights[word][0], 0)
        if len(exact) >= ENOUGH_TERMS and to_read > MOST_READ:
            break
        exact.append(word)
        wide += [word, *synonyms(word)[:6]] if to_read <= MOST_READ else [word]
    return _any_of(exact), _any_of(wide)


def _any_of(words: Iterable[str]) -> str:
    return " OR ".join(f'"{word}"' for word in words)


# Names


def _passages_named(index: Index, name: str, most: int = 20) -> list[tuple[Hit, float]]:
    """The passages that a name in a question may mean, with how surely it means each."""
    if found := index.named(name):
        return [(hit, 1.0) for hit in found[:3]]
    root, _, rest = name.partition(".")
    if rest and root in IMPORTED_AS:
        name = f"{IMPORTED_AS[root]}.{rest}"
        if found := index.named(name):
            return [(hit, 1.0) for hit in found[:3]]
    head, dot, last = name.rpartition(".")
    if ends := index.ending(name, most):
        sure = 0.92 if dot else 0.75
        return [(hit, sure if hit.passage.name.lower() != name.lower() else 0.97) for hit in ends]
    if not dot:
        return _special_name(index, name)
    if head.lower() in TYPES:
        return [(hit, 0.9) for hit in index.named(f"{TYPES[head.lower()]}.{last}")]
    # A class that inherits a method has no passage for it; the base class is usually in the same module.
    for owner in index.named(head) or index.ending(head, 3):
        if owner.passage.kind == "class":
            module = owner.passage.name.rpartition(".")[0]
            return [
                (hit, 0.9)
                for hit in index.ending(last, most)
                if module and hit.passage.name.startswith(f"{module}.")
            ]
    return []


def _special_name(index: Index, name: str) -> list[tuple[Hit, float]]:
    """The chapters on a name such as `__enter__`, which has no passage for itself."""
    if not re.fullmatch(r"__[a-z]+__", name):
        return []
    hits = index.matching(f'phrases : "{name.strip("_")}"', 8)
    return [(hit, 0.8) for hit in hits if name in hit.phrases.replace("\n", " ").split()]


def _is_owner(index: Index, name: str) -> bool:
    """Whether a module or class has this name."""
    hits = index.named(name) or index.ending(name, 3)
    return any(hit.passage.kind in ("module", "class") for hit in hits) or name in TYPES


def _unknown_name(index: Index, name: str) -> SearchResult:
    """The result for a name that does not exist, with existing names that may be meant. Those in the module
    or class that the question names come first."""
    head, _, last = name.rpartition(".")
    inside = _similar_members(index, head, last) if head else []
    elsewhere = [hit.passage.name for hit in index.ending(last, 3)] if head else []
    similar = () if len(inside) > 2 else index.similar_names(name)
    return SearchResult(unknown=name, did_you_mean=tuple(dict.fromkeys((*inside, *elsewhere, *similar)))[:3])


def _similar_members(index: Index, head: str, last: str) -> list[str]:
    """The members of a module or class that are most like an unknown member, by spelling, by the words of
    the name, or by their phrases."""
    owners = [TYPES.get(head.lower(), head)]
    owners += [hit.passage.name for hit in index.named(head) or index.ending(head, 3)]
    word_forms = dict.fromkeys(form(word) for word in split_words(last.replace("_", " ")))
    weights = {key: (key, 1.0) for key in word_forms}
    for owner in dict.fromkeys(owners):
        ranked = []
        for place, hit in enumerate(index.within(owner)):
            member = hit.passage.name.rpartition(".")[2]
            shared = len(weights.keys() & forms(member.replace("_", " "))) / (len(weights) or 1)
            likeness, *_ = best_phrase(hit.phrases, weights)
            spelling = difflib.SequenceMatcher(a=member.lower(), b=last.lower()).ratio()
            ranked.append((-max(spelling**2, shared, likeness), place, hit.passage.name))
        if ranked:
            return [name for _, _, name in sorted(ranked)[:3]]
    return []


def _is_written(index: Index, name: str, scope: Sequence[str]) -> bool:
    """Whether texts have a name that no passage is named by: an option, a command, a setting."""
    head = name.rpartition(".")[0]
    return not (head and _is_owner(index, head)) and index.frequency(name.lower(), scope) > 0


def _unanswerable_name(
    index: Index, question_type: QuestionType, missing: Sequence[Mention], candidates: Candidates
) -> str | None:
    """A missing name without which the question has no answer."""
    is_task = question_type is QuestionType.TASK
    for mention in missing:
        head = mention.name.rpartition(".")[0]
        if mention.is_certain and (not is_task or (head and _is_owner(index, head))):
            return mention.name
    if missing and not candidates.by_id and not is_task:
        return missing[0].name
    return None


def _with_spelling_corrected(index: Index, question_type: QuestionType, subject: Subject) -> Subject:
    """The subject with misspelt words corrected, except a word that stands where a name would."""
    if question_type is not QuestionType.TASK and len(subject.core) == 1:
        return subject
    rare = (word for word in subject.words if index.frequency(word) <= MISSPELT_UP_TO)
    corrections = {
        word: corrected(word, index.known_words()) for word in itertools.islice(rare, MOST_CORRECTED)
    }
    return replace(subject, words=tuple(dict.fromkeys(corrections.get(word, word) for word in subject.words)))


def _is_users_name(name: str) -> bool:
    """Whether a name looks like one that the user gave to a variable."""
    return bool(
        re.match(
            r"__\w+__$|(?:my|our|some|the|a|this|your)_|.{1,2}$|.*_(?:list|dict|str|string|file|path|data|name|id)s?$",
            name,
        )
    )


def _named_by_words(
    index: Index,
    question_type: QuestionType,
    subject: Subject,
    weights: dict[str, tuple[int, float]],
    scope: Sequence[str],
) -> Iterator[tuple[Hit, float]]:
    """The passages whose names are ordinary words of the question, with how surely each is meant."""
    core = subject.core or subject.words
    is_task = question_type is QuestionType.TASK
    alone = not is_task and len(core) == 1 and not subject.mentions
    for one, other in itertools.pairwise(core):
        for head, last in ((one, other), (other, one)):
            for hit in index.named(f"{TYPES.get(head, head)}.{last}"):
                yield hit, PAIR
        for hit in index.ending(one + other, 3):
            yield hit, JOINED
    for word in subject.words[:MOST_TERMS] if scope else ():
        for hit in index.ending(word, MOST_ENDINGS):
            if hit.passage.name.count(".") == 1 and hit.passage.corpus == "packages":
                yield hit, SHORT_NAME
    for word in core:
        rare = weights[word][0] <= COMMON_NAME if word in weights else True
        for name in dict.fromkeys((word, TYPES.get(word, word), word.removesuffix("s"))):
            for hit in index.named(name)[:2]:
                yield hit, 1.0 if alone else RARE_WORD if rare or not is_task else COMMON_WORD
            if alone or rare or question_type is QuestionType.DIFFERENCE:
                for hit in index.ending(name, 8):
                    yield hit, 0.75 if alone else RARE_WORD if rare else COMMON_WORD


def _best_pair(first: Sequence[Candidate], second: Sequence[Candidate]) -> tuple[Candidate, Candidate]:
    """One candidate of each, with the best sum of scores; two in the same module or class score more."""

    def score_of_pair(one: Candidate, other: Candidate) -> float:
        owner = one.name.rpartition(".")[0] == other.name.rpartition(".")[0]
        module = one.name.partition(".")[0] == other.name.partition(".")[0]
        return one.score + other.score + 0.8 * owner + 0.4 * module

    pairs = [(one, other) for one in first[:8] for other in second[:8] if one.name != other.name]
    return max(pairs, key=lambda pair: score_of_pair(*pair), default=(first[0], second[0]))
