"""Finds the function that failed, by what a traceback and the code in a question show of it.

A traceback has the line of code, but not what its variables hold. So a method is known by what made the value
of its variable, by the package or file in which the error arose, by the parameters that the message names, or
by being the only one of its name in C. What may be anything is not guessed.
"""

from __future__ import annotations

import builtins
import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

from assistant.knowledge.excerpts import name_of, parameters
from assistant.knowledge.index import Hit, Index
from assistant.knowledge.passage import Passage, Raised
from assistant.knowledge.search.tracebacks import ErrorReport, Frame
from assistant.knowledge.search.words import IMPORTED_AS

CALLABLE = ("function", "class", "method", "data", "property")

_IMPORT = re.compile(
    r"^[ \t>]*(?:from[ \t]+(?P<module>[\w.]+)[ \t]+)?import[ \t]+(?P<names>[\w., \t]+)", re.MULTILINE
)
_MADE = (
    re.compile(
        r"(?m)^[ \t>|]*(?P<name>\w+)[ \t]*(?::[^=\n]+)?=[ \t]*(?:await[ \t]+)?(?P<call>[A-Za-z_][\w.]*)\("
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
_CONTAINERS = ("str", "list", "dict", "set", "bytes")
_FILES = dict.fromkeys(("f", "file", "fp", "fh"), "open")


class Message(NamedTuple):
    """What a message says of the function."""

    function: str = ""
    parameters: frozenset[str] = frozenset()
    has_parameters: bool = False  # whether the function has them
    see: tuple[str, ...] = ()  # names of documentation to which it points


def called(
    index: Index, question: str, report: ErrorReport, message: Message, *, is_attribute: bool
) -> list[Hit]:
    """The function that the person's line calls, then the one that the message names; else what the line
    reads of a module. With `is_attribute`, what was missing is the function itself."""
    own, below = report.own, report.below
    search = _CallSearch(index, question, report, message)
    code = (own.marked or own.code) if own else question.replace(report.message, "")
    is_call = bool(below) or not is_attribute
    calls = [name for name in _calls(code) if own or "." in name] if is_call else []
    calls = [] if own and own.is_operator else calls
    hits = [_at(index, below[0])] if below else []
    named = [
        (found[1], found.start()) for found in re.finditer(r"([A-Za-z_][\w.]{0,120})\(\)", report.message)
    ]
    for function, start in [(message.function, 0)] if message.function else named[:3]:
        name = re.sub(r"\.__(?:init|new|call)__$", "", function)
        same = [call for call in calls if call.rpartition(".")[2] == name.rpartition(".")[2]]
        if same or start == 0:
            hits += [search.resolved(each) for each in (name, *same[:1])]
    if not any(hits):
        hits += [search.resolved(call) for call in calls[:5]]
    if not any(hits) and own:
        read = map(search.full_name, re.findall(r"(?<![\w.])[A-Za-z_]\w*(?:\.\w+)+", code))
        hits += [hit for name in read for hit in index.named(name) if hit.passage.kind == "data"]
    found = {hit.id: hit for hit in hits if hit and hit.passage.name != report.exception}
    return [_with_signature(index, hit) for hit in found.values()][:2]


def apis(index: Index, name: str) -> list[Hit]:
    return [hit for hit in index.named(name) if hit.passage.kind in ("module", *CALLABLE)]


def raising(index: Index, raised: Raised) -> Hit | None:
    """The public function or class that has a `raise` statement."""
    file, _, line = raised.location.rpartition(":")
    return _at(index, Frame(f"/site-packages/{file}", int(line), raised.owner.rpartition(".")[2]))


def tops_of(report: ErrorReport) -> set[str]:
    """The packages in which an error arose."""
    tops = {(frame.inside or "").partition("/")[0].removesuffix(".py") for frame in report.below}
    return {*tops, _top(report.exception)} - {""}


def _top(name: str) -> str:
    return name.partition(".")[0] if "." in name else ""


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
    is_special = frame.function.startswith("__")
    for hit in index.at(frame.inside or "", frame.line):
        name = hit.passage.name
        if name.rpartition(".")[2] == frame.function or (is_special and hit.passage.kind == "class"):
            is_known = not is_special or _is_inside(index, name, frame)
            return hit if is_known and not re.search(r"\._|\.core\.", name) else None
    return None


def _is_inside(index: Index, owner: str, frame: Frame) -> bool:
    """Whether a class has members below the line of a frame, so that no private class has begun before it."""
    places = (hit.passage.location.rpartition(":") for hit in index.within(owner))
    return any(file == frame.inside and int(line) > frame.line for file, _, line in places if line.isdigit())


def _with_signature(index: Index, hit: Hit) -> Hit:
    """The function, or one of the same name beside it if it states no signature."""
    if hit.passage.signature or hit.passage.kind != "method":
        return hit
    module, last = hit.passage.name.rsplit(".", 2)[0], hit.passage.name.rpartition(".")[2]
    beside = [other for other in index.ending(last, 50) if other.passage.name.rsplit(".", 2)[0] == module]
    return next((other for other in beside if other.passage.signature), hit)


class _CallSearch:
    """Looks up the names of calls, with what the question shows of them."""

    def __init__(self, index: Index, question: str, report: ErrorReport, message: Message) -> None:
        self.index, self.message = index, message
        self.imports = dict(IMPORTED_AS)  # full names by the names that the code uses
        for found in _IMPORT.finditer(question):
            for each in found["names"].split(","):
                name, _, alias = (part.strip() for part in each.partition(" as "))
                self.imports[alias or name] = f"{found['module']}.{name}" if found["module"] else name
        # What made the values of variables.
        self.makers = _FILES | {
            found["name"]: self.full_name(found["call"])
            for made in _MADE
            for found in made.finditer(question)
        }
        self.tops = tops_of(report)
        self.files = {frame.inside for frame in report.below}
        self.is_of_c = not report.below and "." not in report.exception  # it arose without code in Python

    def full_name(self, name: str) -> str:
        head, dot, rest = name.partition(".")
        return f"{self.imports.get(head, head)}{dot}{rest}"

    def resolved(self, name: str) -> Hit | None:
        """The passage of a name in code: by its full name, or if only its last part is known, if the package,
        the parameters or the variable fit."""
        head, dot, last = name.rpartition(".")
        maker = self.makers.get(head, "")
        owners = (maker, _RETURNS.get(maker) or self._returned(maker)) if maker else (self.full_name(head),)
        for full in [f"{owner}.{last}" for owner in owners] if dot else [self.full_name(name)]:
            if ("." in full or full in vars(builtins)) and (hits := apis(self.index, full)):
                return hits[0]
        hits = self.index.ending(name, 2) if dot else []
        if len(hits) == 1 and hits[0].passage.kind in CALLABLE and hits[0].passage.name.endswith(f".{name}"):
            return hits[0]
        for pointed in self.message.see:
            if dot and pointed.rpartition(".")[2] == last and (hits := apis(self.index, pointed)):
                return hits[0]
        is_class = name[:1].isupper()
        hits = (self.index.ending(name, 50) if is_class else []) or self.index.ending(last, 50)
        hits = [hit for hit in hits if hit.passage.kind in CALLABLE and hit.passage.name.endswith(last)]
        if self.message.parameters:
            hits = [hit for hit in hits if self._takes(hit.passage)]
        tops = (self.tops | {_top(f"{maker or self.imports.get(head, '')}.")}) - {""}
        inside = [hit for hit in hits if _top(hit.passage.name) in tops]
        if inside and (len(inside) == 1 or name.partition(".")[0] not in self.imports):
            return max(inside, key=lambda hit: (_is_like(hit.passage.name, head), self._is_near(hit.passage)))
        if hits and (self.message.parameters or (len(hits) == 1 and is_class and not self.tops)):
            return hits[0]
        return self._in_c(name, hits) if self.is_of_c else None

    def _in_c(self, name: str, hits: Sequence[Hit]) -> Hit | None:
        """The only function without code in Python that a name may mean: like the variable, in a module to
        which the message points, or at all; if the message names it alone, of a built-in type."""
        head, dot, _ = name.rpartition(".")
        of_python = [hit for hit in hits if hit.passage.package == "Python"]
        found = [hit for hit in of_python if hit.passage.location.endswith("__doc__")]
        if not dot and name == self.message.function:
            built_in = [hit for hit in found if hit.passage.name.partition(".")[0] in vars(builtins)]
            found = built_in[:1] or [hit for hit in of_python if hit.passage.kind == "function"]
        elif not dot:
            found = [hit for hit in hits if hit.passage.kind == "function" and "_" in name]
            found = [hit for hit in found if re.search(r"__doc__$|\.pyi:", hit.passage.location)]
        tops = {name.partition(".")[0] for name in self.message.see}
        pointed = [hit for hit in found if _top(hit.passage.name) in tops]
        usual = [hit for hit in pointed or found if _top(hit.passage.name) in _CONTAINERS]
        if len(usual) == 1 and self.message.see and not self.message.function:
            return usual[0]
        like = [hit for hit in found if _is_like(hit.passage.name, head)] or pointed or found
        modules = {hit.passage.name.rpartition(".")[0].rpartition(".")[0] for hit in like}
        is_sure = len(like) == 1 or (like == pointed and len(modules) == 1)
        return min(like, key=lambda hit: len(hit.passage.name)) if is_sure else None

    def _returned(self, function: str) -> str:
        """The class of which a function returns an instance, by its annotation; "" if it is not known."""
        for hit in apis(self.index, function)[:1]:
            name = hit.passage.signature.rpartition(" -> ")[2].strip("'\"").rpartition(".")[2]
            classes = self.index.ending(name, 20) if name.isidentifier() and name[:1].isupper() else []
            return next(
                (each.passage.name for each in classes if each.passage.package == hit.passage.package), ""
            )
        return ""

    def _takes(self, passage: Passage) -> bool:
        """Whether it may be the function of which the message says that a parameter is missing or unknown."""
        wanted, has = self.message.parameters, {name_of(each) for each in parameters(passage.signature)}
        if self.message.has_parameters:
            return wanted <= has
        return not wanted & has and bool(difflib.get_close_matches(min(wanted), has, 1, 0.75))

    def _is_near(self, passage: Passage) -> bool:
        """Whether the traceback goes through the file of a function."""
        return passage.location.rpartition(":")[0] in self.files


def _is_like(method: str, variable: str) -> bool:
    """Whether the class of a method may be that of a variable: `aiohttp.ClientSession.get` of `session`."""
    owner, last = method.rpartition(".")[0].rpartition(".")[2], variable.rpartition(".")[2].strip("_").lower()
    return len(last) > 2 and last in owner.lower()
