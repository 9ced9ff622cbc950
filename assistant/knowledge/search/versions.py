"""Answers questions of versions and parameters in a sentence: since when there is something, whether it is
deprecated, which version is installed, and whether a function has a parameter. What is absent is said."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import replace

from assistant.knowledge.excerpts import about_parameter, name_of, parameters
from assistant.knowledge.index import Index
from assistant.knowledge.passage import Fact, Passage, SearchResult
from assistant.knowledge.reading.page import word_set

LONGEST = 500  # characters of a question of this kind
MOST_NOTES = 4  # on versions, in one answer
SURE = 0.9  # how surely a fact answers the question

HAS = "{name} has the parameter {parameter}."
HAS_NOT = "{name} has no parameter {parameter}."
PASSES_ON = "{name} has no parameter {parameter} of its own, but passes other keyword arguments on."
LIKE = "Its most similar parameters are {similar}."
NO_MEMBER = "{package} has no {name}."
SAYS = "The documentation of {name} says about versions:"
NO_VERSION = "The documentation of {name} does not say since which version it exists; {package} has it."
NOT_DEPRECATED = "{package} has {name}, and its documentation does not call it deprecated."
INSTALLED = "The version that was read is {package}."
SENTENCES = (HAS, HAS_NOT, PASSES_ON, LIKE, NO_MEMBER, SAYS, NO_VERSION, NOT_DEPRECATED, INSTALLED)

_SINCE = re.compile(
    r"(?i)\bsince (?:when|which|what)\b|\b(?:when|version) (?:was|were|did)\b.*\b(?:add|introduc|appear|came)"
    r"|\b(?:new|introduced|added|available) (?:in|since)\b"
    r"|\bversions? (?!do (?:i|we|you) )(?:\w+ ){0,3}?(?:add|introduc|has|have|got|need|requir|support)"
)
_ENDED = re.compile(
    r"(?i)\b(?:deprecat\w+|obsolete|removed|still (?:supported|available|exist|there|in)|what replace[sd]?)\b"
)
_INSTALLED = re.compile(r"(?i)\b(?:which|what)(?:'s| is the)? (?:\w+ )?version\b|\bversion (?:number )?of\b")
_WORD_FOR = r"(?:keyword )?(?:param(?:eter)?|arg(?:ument)?|kwarg|option|flag)s?"
_NAME = r"[`'\"]?(?P<name>[a-z_]\w*)[`'\"]?"
_PARAMETER = (
    re.compile(rf"(?i)\b{_WORD_FOR} (?:called |named )?{_NAME}"),
    re.compile(rf"(?i)(?<![.\w]){_NAME} {_WORD_FOR}\b"),
    re.compile(rf"(?i)\b(?:take|accept|have|support|allow)s? (?:an? |any |the )?{_NAME}\s*=?\s*\??$"),
    re.compile(r"(?i)\(\s*(?P<name>[a-z_]\w*)\s*="),
)
_NO_NAMES = word_set(
    "a an the of in for to and or is are was what which does do did take takes accept accepts have has with "
    "any all its this that each every first second last other optional required default positional keyword "
    "only more it how can when i my me parameter argument deprecated removed version added exist supported "
    "since"
)
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+|(?<=`)[A-Za-z_]\w*(?=[`(])|[A-Za-z_]\w*(?=\()")
_NOTE = re.compile(
    r"(?i)(?P<margin>\s*)(?:\.\. (?:version(?:added|changed|removed)|deprecated(?:-removed)?)::"
    r"|.*\b(?:new|added|changed|deprecated|removed|introduced) (?:in|since) (?:python |version )?v?\d)"
)
_ENDS = re.compile(r"(?i)deprecat|remov|obsolete|no longer")
_CHANGES = re.compile(r"(?i)change|release|history|news|what'?s.?new|migrat|upgrad")


def with_facts(index: Index, question: str, result: SearchResult) -> SearchResult:
    """The result with the facts that answer a question of versions or parameters, if it is one. What they are
    about is then the first passage."""
    if len(question) > LONGEST or result.error:
        return result
    is_since, is_ended = _SINCE.search(question), _ENDED.search(question)
    if _INSTALLED.search(question) and not is_since and not _DOTTED.search(question):
        return replace(result, facts=tuple(_installed(index, question)))
    patterns = [found for pattern in _PARAMETER for found in pattern.finditer(question)]
    if not (is_since or is_ended or patterns):
        return result
    passage = _asked_for(index, question, result)
    if isinstance(passage, Fact) and passage.passage and not result.unknown:
        return replace(result, passages=(passage.passage,), facts=(passage,), confidence=SURE)
    if not isinstance(passage, Passage):
        return result
    own = {part.lower() for part in re.split(r"\W+", passage.name)} | _NO_NAMES
    parameter = next((found["name"] for found in patterns if found["name"].lower() not in own), "")
    facts: list[Fact] = []
    if is_since or is_ended:
        facts += _notes(index, passage, parameter, is_ended=bool(is_ended))
    elif parameter:
        is_member = passage.kind in ("class", "module") and not re.search(_WORD_FOR, question)
        facts += _of_parameter(index, passage, parameter, is_member=is_member)
    if not facts:
        return result
    others = [each for each in result.passages if each.name != passage.name]
    passages = (passage, *others)[: max(1, len(result.passages))]
    return replace(result, passages=passages, facts=tuple(facts), confidence=max(result.confidence, SURE))


def _installed(index: Index, question: str) -> Iterator[Fact]:
    words = {re.sub(r"[-_.]", "", word) for word in re.findall(r"[\w.-]*\w", question.lower())}
    for package in index.covers():
        if re.sub(r"[-_.]", "", package.partition(" ")[0].lower()) in words and " " in package:
            yield Fact(INSTALLED, {"package": package})


def _asked_for(index: Index, question: str, result: SearchResult) -> Passage | Fact | None:
    """The passage of a name in the question: a dotted name, a class, a built-in, or the last part of a name
    that was found; or the fact that a module or class does not have such a name."""
    for name in _DOTTED.findall(question)[:4]:
        if hits := index.named(name) or index.ending(name, 1):
            return hits[0].passage
        if owners := index.named(name.rpartition(".")[0]):
            owner = owners[0].passage
            return Fact(NO_MEMBER, {"package": _package(owner), "name": name}, passage=owner)
    words = [word for word in re.findall(r"[A-Za-z_]\w*", question)[:40] if word.lower() not in _NO_NAMES]
    for word in words:
        kind_of_name = re.search(r"[a-z_][A-Z]|_", word) or (
            word[0].isupper() and not question.startswith(word)
        )
        hits = index.ending(word, 8) if kind_of_name else index.named(word)
        known = [hit.passage for hit in hits if hit.passage.kind in ("class", "function", "method")]
        known = [each for each in known if each.name.endswith(word) and (kind_of_name or each.name == word)]
        if known:
            return min(known, key=lambda each: each.package.lower() not in map(str.lower, words))
    return next((each for each in result.passages[:3] if each.name.rpartition(".")[2] in words), None)


def _package(passage: Passage) -> str:
    return f"{passage.package} {passage.version}".strip()


def _of_parameter(index: Index, passage: Passage, parameter: str, *, is_member: bool) -> Iterator[Fact]:
    """Whether a function has a parameter, or a class or module a member."""
    named = {"name": passage.name, "parameter": parameter}
    takes = [name_of(each) for each in parameters(passage.signature)]
    described = about_parameter(passage.text, parameter)
    member = f"{passage.name}.{parameter}"
    if parameter in takes or described:
        yield Fact(HAS, named, described, passage if described else None)
    elif index.named(member) or not (takes or is_member):
        return
    elif is_member:
        yield Fact(NO_MEMBER, {"package": _package(passage), "name": member})
    else:
        yield Fact(PASSES_ON if "**" in passage.signature else HAS_NOT, named)
        if close := difflib.get_close_matches(parameter, filter(None, takes), 3, 0.6):
            yield Fact(LIKE, {"similar": ", ".join(close)})


def _notes(index: Index, passage: Passage, parameter: str, *, is_ended: bool) -> Iterator[Fact]:
    """What the documentation says about versions of a name, or of one of its parameters."""
    named = {"name": passage.name, "package": _package(passage)}
    notes = [note for note in _notes_in(passage.text) if not is_ended or _ENDS.search(note)]
    word = re.compile(rf"\b{re.escape(parameter or passage.name.rpartition('.')[2])}\b")
    if about := [note for note in notes if parameter and word.search(note)] or notes:
        yield Fact(SAYS, named, "\n\n".join(about[:MOST_NOTES]), passage)
        return
    for hit in index.matching(f'"{parameter or passage.name.rpartition(".")[2]}"', 20, corpora=("docs",)):
        lines = [line for line in hit.passage.text.split("\n") if word.search(line)]
        if lines and _CHANGES.search(hit.passage.location):
            yield Fact(SAYS, named, lines[0], hit.passage)
            return
    yield Fact(NOT_DEPRECATED if is_ended else NO_VERSION, named)


def _notes_in(text: str) -> Iterator[str]:
    """The notes on versions within a text, each with the lines that are indented below it."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if len(line) < 2_000 and (found := _NOTE.match(line)):
            end = number + 1
            while end < len(lines) and lines[end].startswith(found["margin"] + " "):
                end += 1
            yield "\n".join(lines[number:end])
