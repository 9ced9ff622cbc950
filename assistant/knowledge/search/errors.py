"""Explains an error that somebody pastes: what its message means, the line of code and the function that it
calls, the statement that raised it, documentation that quotes it, and names like one that is missing.

Python's own messages are in `messages.toml`; packages explain theirs by their `raise` statements and texts.
"""

from __future__ import annotations

import difflib
import functools
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from assistant.knowledge.excerpts import about_parameter, name_of, parameters
from assistant.knowledge.index import Hit, Index
from assistant.knowledge.passage import ExplainedError, Fact, Raised, SearchResult
from assistant.knowledge.search import tracebacks
from assistant.knowledge.search.calls import Message, apis, called, raising, tops_of
from assistant.knowledge.search.tracebacks import ErrorReport, Frame

MESSAGES = Path(__file__).with_name("messages.toml")
LONGEST_ALONE = 1_000  # characters of a question in which a message without its class is looked for
ENOUGH_LETTERS = 8  # of the fixed parts of a message, to know it by them
ENOUGH_OF_SOME = 20  # the same if the message ends before all of them have come
SAYS = "The documentation of {name} says of {what}:"
DEFINED = "Your code defines it as {definition}."
_SESSION = re.compile(r"(?m)^[ \t]*Traceback \(most recent call last\):\n(?:[ \t]*\S.*\n?)+")
_NEWS = re.compile(r"(?i)change(?:s|log)|what.?s.?new|release|history|news")  # not about the present version


def search(
    index: Index, question: str, *, limit: int = 4, corpora: Sequence[str] | None = None
) -> SearchResult | None:
    """The explanation of the error in a question; None if it has none, or if nothing is known of it."""
    report = tracebacks.read(question) or _message_alone(question)
    return _explained(index, question, report, limit, corpora or ()) if report else None


# Messages of Python


class _Template(NamedTuple):
    """A message with names for its variable parts, what it means, and the names to look up. With `exception`,
    only errors of this class have it."""

    exception: str
    pattern: str
    fixed: tuple[str, ...]
    meaning: str
    see: tuple[str, ...]

    def search(self, message: str) -> re.Match[str] | None:
        return re.search(self.pattern, message) if all(part in message for part in self.fixed) else None

    def explains(self, report: ErrorReport) -> re.Match[str] | None:
        found = self.search(report.message) if self.exception in ("", report.last) else None
        return found if not self.exception or not found or found.start() == 0 else None


_GROUPS = {
    "s": "s?", "function": r"[\w.<>]{1,120}", "count": r"\d+", "given": r"\d+", "class": r"[A-Z]\w{0,80}",
    "type": r"<class '[\w.]{1,120}'>|[\w.<>]{1,120}",
    "key": r"""(?:'[^'\n]{0,40}'|"[^"\n]{0,40}"|[^\s'"]{1,60}|\([^\n]{1,60}\))(?!\w)""",
}  # fmt: skip


@functools.cache
def _tables() -> tuple[tuple[_Template, ...], dict[str, str]]:
    """The messages, and how the values of some types come about."""
    tables = tomllib.loads(MESSAGES.read_text("utf-8"))
    templates = tuple(
        _template(message, meaning, tuple(see))
        for messages, (meaning, *see) in tables["messages"].items()
        for message in messages.split(" | ")
    )
    return templates, {one: note for types, note in tables["types"].items() for one in types.split(" | ")}


def _template(message: str, meaning: str, see: tuple[str, ...]) -> _Template:
    of_class = re.match(r"([A-Z]\w*): ", message)
    is_whole = message.endswith("$")
    pieces = re.split(r"\{(\w+)\}", message[of_class.end() if of_class else 0 :].removesuffix("$"))
    pattern = re.escape(pieces[0])
    for before, name, after in zip(pieces[::2], pieces[1::2], pieces[2::2], strict=False):
        quote = after[:1] if after[:1] in ("'", '"') and before.endswith(after[0]) else ""
        value = f"[^{quote}\\n]{{1,120}}" if quote else r"""'[^'\n]{0,120}'|"[^"\n]{0,120}"|[^\n]{1,120}"""
        lazily = "" if quote or not after else "?"
        known = _GROUPS.get(name) if name != "type" or not quote else None
        pattern += f"(?P<{name}>{known or value + lazily}){re.escape(after)}"
    exception = of_class[1] if of_class else ""
    return _Template(exception, pattern + r"\s*$" * is_whole, tuple(pieces[::2]), meaning, see)


def _message_alone(question: str) -> ErrorReport | None:
    """A message of Python's without its class."""
    for template in _tables()[0]:
        telling = sum(map(len, template.fixed)) > 16 and not template.fixed[0].endswith(": ")
        if telling and (found := template.search(question[:LONGEST_ALONE])):
            named = re.search(r"\b[A-Z]\w{0,80}(?:Error|Exception|Warning)\b", question[:LONGEST_ALONE])
            exception = template.exception or (named[0] if named else "")
            return ErrorReport(exception, question[found.start() :].partition("\n")[0])
    return None


def _meaning(report: ErrorReport) -> tuple[_Template | None, dict[str, str]]:
    """What a message means in general, and the values of its variable parts."""
    templates, types = _tables()
    for template in templates:
        if found := template.explains(report):
            names = {name: _plain(value) for name, value in found.groupdict("").items()}
            if "type" not in names and (of_type := re.search(r"'(\w+)' object has no", report.message)):
                names["type"] = of_type[1]
            of_types = [types.get(names.get(name, "")) for name in ("type", "other", "left", "right")]
            meaning = " ".join([template.meaning, *dict.fromkeys(filter(None, of_types))])
            return template._replace(meaning=meaning), names
    return None, {}


def _plain(value: str) -> str:
    """A part of a message without quotation marks: "x, y" for "'x' and 'y'"."""
    value = re.sub(r"^<class '([\w.]+)'>$", r"\1", value)
    is_list = re.fullmatch(r"'\w*'(?:(?:, and | and |, )'\w*')*", value)
    return ", ".join(re.findall(r"'(\w*)'", value)) if is_list else value.strip()


# Explaining


def _explained(
    index: Index, question: str, pasted: ErrorReport, limit: int, corpora: Sequence[str]
) -> SearchResult | None:
    report, own = pasted, pasted.own
    if pasted.cause and own and own.code.startswith("raise ") and not pasted.below:
        report, own = pasted.cause, pasted.cause.own  # the other error was raised on purpose
    template, names = _meaning(report)
    message = Message(
        function=names.get("function", ""),
        parameters=frozenset(filter(None, map(str.strip, names.get("parameter", "").split(",")))),
        has_parameters="count" in names,
        see=template.see if template else (),
    )
    call = called(index, question, report, message, is_attribute="attribute" in names)
    of_exception = _exception(index, report)
    innermost = [frame for each in (report, report.cause) if each for frame in each.below[-1:]]
    inner = [hit for frame in innermost for hit in index.at(frame.inside or "", frame.line)[:1]]
    packages = {hit.passage.package for hit in (*call, *of_exception, *inner)}
    is_foreign = bool(packages - {"Python"})  # then what Python's library offers instead does not help
    raised = _raised(index, report, packages, innermost, only_there=bool(template))
    if raised and not call and not report.frames:
        call = [hit for hit in [raising(index, raised)] if hit]
    similar = _similar(index, report, names, call)
    like = similar[: "parameter" not in names] or ((names.get("type", ""),) if "attribute" in names else ())
    see = [hit for name in like for hit in _owners(index, name.removeprefix("import "))[:1]]
    usual = [hit for name in (template.see if template else ()) for hit in index.named(name)[:1]]
    see += [hit for hit in usual if not is_foreign or hit.passage.package in packages]
    documented = _documented(index, report, packages, corpora)
    if template:  # of Python's library and packages, what `messages.toml` names is better
        documented = [hit for hit in documented if hit.passage.corpus == "docs"]
    more = (*documented, *see)
    hits = (*call[:1], *more[:1], *of_exception, *more[1:], *call[1:])
    passages = [hit.passage for hit in hits if not corpora or hit.passage.corpus in corpora]
    if not template and not raised and not passages:
        return None
    cause = None if pasted.cause and pasted.cause.message == pasted.message else pasted.cause
    file = re.split(r"[/\\]", own.file)[-1] if own else ""
    error = ExplainedError(
        pasted.exception,
        pasted.message,
        meaning=Fact(template.meaning, names) if template else None,
        similar=similar,
        place=f"{file}:{own.line}" if own and own.line else file,
        code=own.code if own else "",
        call=call[0].passage if call else None,
        raised=raised,
        documented=documented[0].passage if documented else None,
        cause=f"{cause.exception}: {cause.message}" if cause else "",
    )
    confidence = 0.9 if template or raised or documented else 0.7 if call else 0.5
    facts = (*_own_definition(question, names), *_says(call, report))
    found = tuple(dict.fromkeys(passages))[:limit]
    return SearchResult(found, error=error, facts=facts, confidence=confidence)


# The exception, its raise statement, and documentation


def _exception(index: Index, report: ErrorReport) -> list[Hit]:
    """The class of the exception, of the package that the error names or comes from; a public name first."""
    hits = apis(index, report.exception)
    if not hits and report.exception:
        keys = tuple(top.partition("_")[0] for top in tops_of(report))
        hits = [hit for hit in index.ending(report.last, 50) if hit.passage.name.startswith(keys)]
    hits = [hit for hit in hits if hit.passage.kind in ("class", "data")]
    return sorted(hits, key=lambda hit: ("._" in hit.passage.name, len(hit.passage.name)))[:1]


def _raised(
    index: Index, report: ErrorReport, packages: set[str], innermost: Sequence[Frame], *, only_there: bool
) -> Raised | None:
    """The `raise` statement that made the message: the one at an innermost frame; else, unless it must be
    there, one with the same words."""
    places = {f"{frame.inside}:{frame.line}" for frame in innermost}
    message = " ".join(report.message.split())
    if report.own and not innermost:  # it was raised in C
        return None
    files = {frame.inside for frame in innermost}
    best, most = None, ENOUGH_LETTERS
    scopes = {"", *packages} if not innermost else packages or {""}  # "" is every package
    for in_scope, raised in (
        (bool(name), each) for name in scopes for each in index.raised_like(message, name)
    ):
        fixed = [part.strip() for part in raised.message.split("…") if part.strip()]
        at = letters = 0
        for part in fixed:  # each after the one before
            if (at := message.find(part, at)) < 0:
                break
            letters += sum(map(str.isalpha, part))
        is_there = raised.location in places
        if not is_there and (only_there or (at < 0 and letters < ENOUGH_OF_SOME)):
            continue
        if files and raised.location.rpartition(":")[0] not in files:
            continue
        if not in_scope and not is_there and (at < 0 or letters < ENOUGH_OF_SOME):
            continue
        if not is_there and raised.exception.rpartition(".")[2] != report.last:
            letters //= 3
        if (worth := letters + 1000 * is_there) > most:
            best, most = raised, worth
    return best


def _own_definition(question: str, names: dict[str, str]) -> Iterator[Fact]:
    """The definition of the person's own function that the message names, if the question has it."""
    owner, _, last = names.get("function", "").rpartition(".")
    begins = re.search(rf"\bclass {re.escape(owner.rpartition('.')[2])}\b", question) if owner else None
    signature = rf"\bdef {re.escape(last)}\((?:[^()\n]|\([^()\n]*\)){{0,400}}\)"
    if last and (found := re.compile(signature).search(question, begins.end() if begins else 0)):
        yield Fact(DEFINED, {"definition": found[0]})


def _says(call: Sequence[Hit], report: ErrorReport) -> Iterator[Fact]:
    """What the documentation of the call says of this exception, or of a parameter that the message or the
    person's line names as such."""
    for passage in (hit.passage for hit in call):
        said = about_parameter(_SESSION.sub("", passage.text), report.last)
        if "rais" in said.lower() or said.lstrip("`*- ").startswith(report.last):
            yield Fact(SAYS, {"name": passage.name, "what": report.last}, said, passage)
            return
    line = report.own.code if report.own else ""
    words = {
        word
        for word in re.findall(r"[^\W\d]\w{2,}", report.message)
        if "_" in word or re.search(rf"['\"`]{word}['\"`=]|\b{word}=", report.message) or f"{word}=" in line
    }
    for passage in (hit.passage for hit in call):
        for name in map(name_of, parameters(passage.signature)):
            if name in words and (said := about_parameter(passage.text, name)):
                yield Fact(SAYS, {"name": passage.name, "what": name}, said, passage)
                return


def _documented(index: Index, report: ErrorReport, packages: set[str], corpora: Sequence[str]) -> list[Hit]:
    """The passages that quote the fixed words of the message, of the error's packages or of folders."""
    line = report.message.partition("\n")[0]
    fixed = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`|<[^>]*>|\S*[/\\\d]\S*", "\n", line)
    runs = [re.findall(r"[^\W\d_]+", part) for part in re.split(r"[\n:;()\[\]{}=,]", fixed)]
    telling = [run for run in runs if len(run) > 2 and sum(len(word) > 4 for word in run) > 1]
    found = {}
    for run in sorted(telling, key=len, reverse=True)[:2]:
        words = " ".join(run[:10])
        for hit in index.matching(f'"{words}"', 20, corpora=corpora):
            if _NEWS.search(f"{hit.passage.title} {hit.passage.location}"):
                continue
            is_near = hit.passage.corpus == "docs" or hit.passage.package in packages or not report.exception
            text = f"{hit.passage.title} {hit.passage.text}".lower()
            if is_near and words.lower() in " ".join(re.findall(r"[^\W\d_]+", text)):
                found[hit.id] = hit
    return list(found.values())[:2]


# Names like one that is missing


def _similar(
    index: Index, report: ErrorReport, names: dict[str, str], call: Sequence[Hit]
) -> tuple[str, ...]:
    missing, module = names.get("attribute") or names.get("name", ""), names.get("module", "")
    owner = module or names.get("type", "")
    if hint := re.search(r"Did you mean:? '([\w.]+)'", report.message):
        modules = tuple(f"{each.passage.name.rpartition('.')[0]}." for each in _owners(index, owner)[:3])
        known = [
            hit.passage.name for hit in index.ending(hint[1], 20) if hit.passage.name.startswith(modules)
        ]
        close = known[:1] or [hint[1]]
    elif "parameter" in names and "count" not in names:
        has = {name_of(each) for hit in call for each in parameters(hit.passage.signature)} - {""}
        close = difflib.get_close_matches(names["parameter"], sorted(has), 3, 0.6)
    elif owner and missing:
        close = _members_like(index, owner, missing)
    elif module and "." in module and index.named(module.rpartition(".")[0]):
        close = _members_like(index, *module.rpartition(".")[::2])
    elif module:
        tops = {*sys.stdlib_module_names, *(name.partition(" ")[0].lower() for name in index.covers())}
        close = difflib.get_close_matches(module, sorted(name for name in tops if name[:1] != "_"), 3, 0.75)
    elif report.last == "NameError" and any(hit.passage.kind == "module" for hit in index.named(missing)):
        close = [f"import {missing}"]
    elif report.last == "NameError" and missing:
        close = [
            name for name in index.similar_names(missing, 8) if "." not in name and index.named(name)[0].uses
        ]
    else:
        close = []
    return tuple(dict.fromkeys(close))[:3]


def _members_like(index: Index, owner: str, missing: str) -> list[str]:
    """The members of a module or class that are spelled like a missing one; else where its name exists in the
    same package."""
    owners = _owners(index, owner)
    members = [hit.passage.name for each in owners[:3] for hit in index.within(each.passage.name)]
    by_last = {name.rpartition(".")[2].lower(): name for name in reversed(members)}
    if close := difflib.get_close_matches(missing.lower(), by_last, 3, 0.7):
        return [by_last[last] for last in close]
    packages = {each.passage.package for each in owners}
    moved = [hit.passage.name for hit in index.ending(missing, 20) if hit.passage.package in packages]
    if any(each.passage.kind == "class" for each in owners):
        return []
    return [name for name in moved if name.startswith(f"{owner.partition('.')[0]}.")][:2] or moved[:2]


def _owners(index: Index, name: str) -> list[Hit]:
    """The passages with a name, or the classes with it in any module."""
    return apis(index, name) or [hit for hit in index.ending(name, 5) if hit.passage.kind == "class"]
