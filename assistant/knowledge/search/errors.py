"""Explains an error that somebody pastes: what its message means, the line of code and the function that it
calls, the statement that raised it, documentation that quotes it, and names like one that is missing.

Python's own messages are in `messages.toml`; packages explain theirs by their `raise` statements and texts.
"""

from __future__ import annotations

import builtins
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
from assistant.knowledge.passage import ExplainedError, Fact, Passage, Raised, SearchResult
from assistant.knowledge.search import tracebacks
from assistant.knowledge.search.tracebacks import ErrorReport, Frame
from assistant.knowledge.search.words import IMPORTED_AS

MESSAGES = Path(__file__).with_name("messages.toml")
LONGEST_ALONE = 1_000  # characters of a question in which a message without its class is looked for
ENOUGH_LETTERS = 8  # of the fixed parts of a message, to know it by them
ENOUGH_OF_SOME = 20  # the same if the message ends before all of them have come
SAYS = "The documentation of {name} says of {what}:"
DEFINED = "Your code defines it as {definition}."
_NEWS = re.compile(r"(?i)change(?:s|log)|what.?s.?new|release|history|news")  # not about the present version


def search(
    index: Index, question: str, *, limit: int = 4, corpora: Sequence[str] | None = None
) -> SearchResult | None:
    """The explanation of the error in a question; None if it has none, or if nothing is known of it."""
    report = tracebacks.read(question) or _message_alone(question)
    return _explained(index, question, report, limit, corpora or ()) if report else None


# Messages of Python


class _Template(NamedTuple):
    """A message with names for its variable parts, what it means, and the names to look up."""

    pattern: str
    fixed: tuple[str, ...]
    meaning: str
    see: tuple[str, ...]

    def search(self, message: str) -> re.Match[str] | None:
        return re.search(self.pattern, message) if all(part in message for part in self.fixed) else None


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
    is_whole = message.endswith("$")
    pieces = re.split(r"\{(\w+)\}", message.removesuffix("$"))
    pattern = re.escape(pieces[0])
    for before, name, after in zip(pieces[::2], pieces[1::2], pieces[2::2], strict=False):
        quote = after[:1] if after[:1] in ("'", '"') and before.endswith(after[0]) else ""
        value = f"[^{quote}\\n]{{1,120}}" if quote else r"""'[^'\n]{0,120}'|"[^"\n]{0,120}"|[^\n]{1,120}"""
        lazily = "" if quote or not after else "?"
        known = _GROUPS.get(name) if name != "type" or not quote else None
        pattern += f"(?P<{name}>{known or value + lazily}){re.escape(after)}"
    return _Template(pattern + r"\s*$" * is_whole, tuple(pieces[::2]), meaning, see)


def _message_alone(question: str) -> ErrorReport | None:
    """A message of Python's without its class."""
    for template in _tables()[0]:
        telling = sum(map(len, template.fixed)) > 16 and not template.fixed[0].endswith(": ")
        if telling and (found := template.search(question[:LONGEST_ALONE])):
            named = re.search(r"\b[A-Z]\w{0,80}(?:Error|Exception|Warning)\b", question[:LONGEST_ALONE])
            return ErrorReport(named[0] if named else "", question[found.start() :].partition("\n")[0])
    return None


def _meaning(report: ErrorReport) -> tuple[_Template | None, dict[str, str]]:
    """What a message means in general, and the values of its variable parts."""
    templates, types = _tables()
    for template in templates:
        if found := template.search(f"{report.last}: {report.message}"):
            names = {name: _plain(value) for name, value in found.groupdict("").items()}
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
    call = _called(index, question, report, template, names)
    of_exception = _exception(index, report)
    innermost = [frame for each in (report, report.cause) if each for frame in each.below[-1:]]
    inner = [hit for frame in innermost for hit in index.at(frame.inside or "", frame.line)[:1]]
    packages = {hit.passage.package for hit in (*call, *of_exception, *inner)}
    is_foreign = bool(packages - {"Python"})  # then what Python's library offers instead does not help
    raised = _raised(index, report, packages, innermost, only_there=bool(template))
    similar = _similar(index, report, names, call)
    like = similar[: "parameter" not in names] or ((names.get("type", ""),) if "attribute" in names else ())
    see = [hit for name in like for hit in _owners(index, name.removeprefix("import "))[:1]]
    usual = [hit for name in (template.see if template else ()) for hit in index.named(name)[:1]]
    see += [hit for hit in usual if not is_foreign or hit.passage.package in packages]
    documented = _documented(index, report, set() if template else packages, corpora)
    more = (*see, *documented) if template else (*documented, *see)
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


# The call that failed

_IMPORT = re.compile(
    r"^[ \t>]*(?:from[ \t]+(?P<module>[\w.]+)[ \t]+)?import[ \t]+(?P<names>[\w., \t]+)", re.MULTILINE
)
_ASSIGNED = (
    re.compile(
        r"^[ \t>|]*(?P<name>\w+)[ \t]*(?::[^=\n]+)?=[ \t]*(?:await[ \t]+)?(?P<call>[A-Za-z_][\w.]*)\(",
        re.MULTILINE,
    ),
    re.compile(r"\bwith[ \t]+(?P<call>[A-Za-z_][\w.]*)\([^\n]*\)[ \t]+as[ \t]+(?P<name>\w+)"),
)
_CALL = re.compile(r"(?:(?P<before>[\"')\]}]\s*\.)|(?<![\w.]))(?P<name>[A-Za-z_][\w.]*)\(")
_LITERALS = {'"': "str.", "'": "str.", ")": "().", "]": "[].", "}": "dict."}
# What functions in C return, which have no annotations, and what people call an open file.
_RETURNS = {
    "open": "io.TextIOWrapper", "sqlite3.connect": "sqlite3.Connection", "re.compile": "re.Pattern",
    **dict.fromkeys(("re.match", "re.search", "re.fullmatch"), "re.Match"),
}  # fmt: skip
_FILES = dict.fromkeys(("f", "file", "fp", "fh"), "io.TextIOWrapper")
_CALLABLE = ("function", "class", "method", "data", "property")


class _Known(NamedTuple):
    """What helps to know a function of whose name only the last part is known."""

    imports: dict[str, str]  # full names of what is imported, and of what made the value of a variable
    parameters: set[str]  # those that the message names
    has_parameters: bool  # whether the function has them
    tops: set[str]  # the packages in which the error arose
    is_of_c: bool  # whether it arose in a function without Python code
    function: str  # the one that the message names; "" if it names none
    hints: set[str]  # the modules to which messages like this point


def _called(
    index: Index, question: str, report: ErrorReport, template: _Template | None, names: dict[str, str]
) -> list[Hit]:
    """The function that the person's line calls, then the one that the message names. If neither is known,
    the nearest public function of the package that was called, or what the line reads of a module."""
    own, below = report.own, report.below
    named = {part.strip() for part in names.get("parameter", "").split(",")} - {""}
    is_of_c = not below and "." not in report.exception
    function = names.get("function", "")
    hints = {_top(name) for name in (template.see if template else ())} - {""}
    known = _Known(_imports(question), named, "count" in names, _tops(report), is_of_c, function, hints)
    code = (own.marked or own.code) if own else question.replace(report.message, "")
    calls = [name for name in _calls(code) if own or "." in name] if below or "attribute" not in names else []
    hits = [_at(index, below[0])] if below else []
    messages = [
        (found[1], found.start()) for found in re.finditer(r"([A-Za-z_][\w.]{0,120})\(\)", report.message)
    ]
    for full, start in [(function, 0)] if function else messages[:3]:
        name = re.sub(r"\.__(?:init|new|call)__$", "", full)
        same = [call for call in calls if call.rpartition(".")[2] == name.rpartition(".")[2]]
        if same or start == 0:
            hits += [_resolved(index, each, known) for each in (name, *same[:1])]
    if not any(hits):
        hits += [_resolved(index, call, known) for call in calls[:5]]
    if not any(hits):
        inside = [frame for frame in below[1:] if _top_of(frame) == _top_of(below[0])]
        hits += [hit for frame in inside if (hit := _at(index, frame))][:1]
    if not any(hits) and own:
        read = [_full(known, name) for name in re.findall(r"(?<![\w.])[A-Za-z_]\w*(?:\.\w+)+", code)]
        hits += [hit for name in read for hit in index.named(name) if hit.passage.kind == "data"]
    found = {hit.id: hit for hit in hits if hit and hit.passage.name != report.exception}
    return [_with_signature(index, hit) for hit in found.values()][:2]


def _with_signature(index: Index, hit: Hit) -> Hit:
    """The function, or one of the same name beside it if it states no signature."""
    if hit.passage.signature or hit.passage.kind != "method":
        return hit
    module, last = hit.passage.name.rsplit(".", 2)[0], hit.passage.name.rpartition(".")[2]
    beside = [other for other in index.ending(last, 50) if other.passage.name.rsplit(".", 2)[0] == module]
    return next((other for other in beside if other.passage.signature), hit)


def _imports(text: str) -> dict[str, str]:
    """The full names of what the code in a text imports, by the names that it uses, and of the functions or
    classes whose results it gives a name."""
    imports = _FILES | IMPORTED_AS
    for found in _IMPORT.finditer(text):
        for each in found["names"].split(","):
            name, _, alias = (part.strip() for part in each.partition(" as "))
            full = f"{found['module']}.{name}" if found["module"] else name
            imports[alias or name] = full
    for pattern in _ASSIGNED:
        for found in pattern.finditer(text):
            head, dot, rest = found["call"].partition(".")
            if found["name"] != head:
                imports[found["name"]] = f"{imports.get(head, head)}{dot}{rest}"
    return imports


def _calls(code: str) -> list[str]:
    """The names of what code calls: "str.join" for `", ".join(x)`, "().get" for `f(x).get()`. `print`, which
    hardly fails, comes last, and the last of a chain of calls first. A class calls its first base."""
    code = re.sub(r"\bclass\s+\w+\(([\w.]+)", r"\1(", re.sub(r"\bdef\s+\w+\(", "", code))
    literals = _LITERALS | dict.fromkeys("'\"", "bytes.") if re.search(r"\bb['\"]", code) else _LITERALS
    found = [f"{literals[each[1][0]] if each[1] else ''}{each[2]}" for each in _CALL.finditer(code)]
    names = list(dict.fromkeys(found))
    chained = [name for name in reversed(names) if name.startswith("().")]
    return [
        *chained,
        *sorted((name for name in names if name not in chained), key=lambda name: name == "print"),
    ]


def _at(index: Index, frame: Frame) -> Hit | None:
    """The public function that has the code of a frame; for a special method (`__init__`), its class."""
    file, is_special = frame.inside or "", frame.function.startswith("__")
    for hit in index.at(file, frame.line):
        name = hit.passage.name
        if name.rpartition(".")[2] == frame.function or (is_special and hit.passage.kind == "class"):
            is_known = not is_special or frame.code.startswith("class ") or _is_inside(index, name, frame)
            return hit if is_known and not re.search(r"\._|\.core\.", name) else None
    return None


def _is_inside(index: Index, owner: str, frame: Frame) -> bool:
    """Whether a class has members below the line of a frame, so that no private class has begun before it."""
    places = (hit.passage.location.rpartition(":") for hit in index.within(owner))
    return any(file == frame.inside and int(line) > frame.line for file, _, line in places if line.isdigit())


def _full(known: _Known, name: str) -> str:
    head, dot, rest = name.partition(".")
    return f"{known.imports.get(head, head)}{dot}{rest}"


def _resolved(index: Index, name: str, known: _Known) -> Hit | None:
    """The passage of a name in code. If only its last part is known, something else must fit: the package,
    the parameters that the message names, or the variable's name. A function in C must be the only one."""
    head, dot, last = name.rpartition(".")
    maker = known.imports.get(head, "")
    for full in (_full(known, name), f"{_RETURNS.get(maker) or _returned(index, maker)}.{last}"):
        if ("." in full or full in vars(builtins)) and (hits := _apis(index, full)):
            return hits[0]
    is_class = name[:1].isupper()
    hits = (index.ending(name, 50) if is_class else []) or index.ending(last, 50)
    hits = [hit for hit in hits if hit.passage.kind in _CALLABLE and hit.passage.name.endswith(last)]
    if known.parameters:
        hits = [hit for hit in hits if _takes(hit.passage, known)]
    tops = (known.tops | {maker.partition(".")[0]}) - {""}
    inside = [hit for hit in hits if _top(hit.passage.name) in tops]
    if inside and (len(inside) == 1 or name.partition(".")[0] not in known.imports):
        return max(inside, key=lambda hit: _is_like(hit.passage.name, head))
    if hits and (known.parameters or (len(hits) == 1 and is_class)):
        return hits[0]
    of_c = [
        hit for hit in hits if hit.passage.package == "Python" and hit.passage.location.endswith("__doc__")
    ]
    if not dot:
        of_c = [hit for hit in of_c if hit.passage.name.partition(".")[0] in vars(builtins)][:1] or of_c
        of_c = of_c if name == known.function else []
    like = [hit for hit in of_c if _is_like(hit.passage.name, head) or _top(hit.passage.name) in known.hints]
    return (like or of_c)[0] if known.is_of_c and len(like or of_c) == 1 else None


def _returned(index: Index, function: str) -> str:
    """The class of which a function returns an instance, by its annotation; "" if it is not known."""
    for hit in _apis(index, function)[:1] if function else ():
        name = hit.passage.signature.rpartition(" -> ")[2].strip("'\"").rpartition(".")[2]
        classes = index.ending(name, 20) if name.isidentifier() and name[:1].isupper() else []
        return next(
            (each.passage.name for each in classes if each.passage.package == hit.passage.package), ""
        )
    return ""


def _is_like(method: str, variable: str) -> bool:
    """Whether the class of a method may be that of a variable: `aiohttp.ClientSession.get` of `session`."""
    owner, last = method.rpartition(".")[0].rpartition(".")[2], variable.rpartition(".")[2].strip("_").lower()
    return len(last) > 2 and last in owner.lower()


def _takes(passage: Passage, known: _Known) -> bool:
    """Whether a function may be the one of which a message says that a parameter is missing or unknown."""
    has = {name_of(each) for each in parameters(passage.signature)}
    if known.has_parameters:
        return known.parameters <= has
    return not known.parameters & has and bool(difflib.get_close_matches(min(known.parameters), has, 1, 0.75))


def _top(name: str) -> str:
    return name.partition(".")[0] if "." in name else ""


def _top_of(frame: Frame) -> str:
    return (frame.inside or "").partition("/")[0].removesuffix(".py")


def _tops(report: ErrorReport) -> set[str]:
    """The packages in which an error arose."""
    return {*map(_top_of, report.below), _top(report.exception)} - {""}


# The exception, its raise statement, and documentation


def _exception(index: Index, report: ErrorReport) -> list[Hit]:
    """The class of the exception, of the package that the error names or comes from; a public name first."""
    hits = _apis(index, report.exception)
    if not hits and report.exception:
        keys = tuple(top.partition("_")[0] for top in _tops(report))
        hits = [hit for hit in index.ending(report.last, 50) if hit.passage.name.startswith(keys)]
    hits = [hit for hit in hits if hit.passage.kind in ("class", "data")]
    return sorted(hits, key=lambda hit: ("._" in hit.passage.name, len(hit.passage.name)))[:1]


def _raised(
    index: Index, report: ErrorReport, packages: set[str], innermost: Sequence[Frame], *, only_there: bool
) -> Raised | None:
    """The `raise` statement that made the message: the one at an innermost frame; else, unless it must be
    there, one with the same words."""
    places = {f"{frame.inside}:{frame.line}" for frame in innermost}
    if report.own and not innermost:  # it was raised in C
        return None
    files = {frame.inside for frame in innermost}
    best, most = None, ENOUGH_LETTERS
    for raised in (each for name in packages or {""} for each in index.raised_like(report.message, name)):
        fixed = [part.strip() for part in raised.message.split("…") if part.strip()]
        at = letters = 0
        for part in fixed:  # each after the one before
            if (at := report.message.find(part, at)) < 0:
                break
            letters += sum(map(str.isalpha, part))
        is_there = raised.location in places
        if not is_there and (only_there or (at < 0 and letters < ENOUGH_OF_SOME)):
            continue
        if files and raised.location.rpartition(":")[0] not in files:
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
    """What the documentation of the call says of this exception, or of a parameter that the message names."""
    for passage in (hit.passage for hit in call):
        said = about_parameter(passage.text, report.last)
        if "rais" in said.lower() or said.lstrip("`*- ").startswith(report.last):
            yield Fact(SAYS, {"name": passage.name, "what": report.last}, said, passage)
            return
    words = set(re.findall(r"[^\W\d]\w{3,}", report.message))
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
            if is_near and words.lower() in " ".join(re.findall(r"[^\W\d_]+", hit.passage.text.lower())):
                found[hit.id] = hit
    return list(found.values())[:2]


# Names like one that is missing


def _similar(
    index: Index, report: ErrorReport, names: dict[str, str], call: Sequence[Hit]
) -> tuple[str, ...]:
    missing, module = names.get("attribute") or names.get("name", ""), names.get("module", "")
    owner = module or names.get("type", "")
    if hint := re.search(r"Did you mean:? '([\w.]+)'", report.message):
        close = [hint[1]]
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
    return _apis(index, name) or [hit for hit in index.ending(name, 5) if hit.passage.kind == "class"]


def _apis(index: Index, name: str) -> list[Hit]:
    return [hit for hit in index.named(name) if hit.passage.kind in ("module", *_CALLABLE)]
