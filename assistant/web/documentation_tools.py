"""The tools by which other programs, such as coding agents, use the documentation on this machine.

A tool has the schemas of its arguments and of its result, and gives the result twice: as data, and as a text
for a language model. What a model can mend, such as an unknown package, is a `ToolFailed` with the remedy.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError

from assistant.admission import Admission
from assistant.errors import QueueFull
from assistant.knowledge.answer import reference
from assistant.knowledge.documentation import (
    SEARCH_THREADS,
    Documentation,
    DocumentationState,
    DocumentationUnreadable,
)
from assistant.knowledge.passage import Passage
from assistant.knowledge.plain_text import readable
from assistant.web.routes.values import Body, Text, storable

MOST_CALLS = 64  # that run or wait; one address gets at most half of them
MOST_NAMES = 20  # that one call checks
MOST_PASSAGES = 10  # that one call finds
SEARCHED_FOR_SCOPE = 40  # passages that are searched, of which those of the named package are kept
MOST_OTHERS = 10  # further passages of a name, and packages, that a result lists
LONGEST_PASSAGE = 50_000  # characters of a whole passage

A = TypeVar("A", bound=Body)

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=300),
    AfterValidator(storable),
    AfterValidator(lambda name: name.removesuffix("()") or name),
]
Package = Annotated[
    Annotated[Text, StringConstraints(max_length=200)] | None,
    Field(description="a package or a folder of documentation, such as `requests`; absent: all"),
]


class ToolFailed(Exception):
    """The tool has no result; the text tells the model why, and what to do."""


class Search(Body):
    question: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000), AfterValidator(storable)
    ] = Field(description="a question, an error message or a name, in words")
    limit: int = Field(5, ge=1, le=MOST_PASSAGES, description="the most passages to return")
    package: Package = None


class Get(Body):
    name: Name = Field(description="the dotted name of an API (`os.path.join`), or the heading of a section")
    package: Package = None
    location: Text | None = Field(None, description="the `location` of one of several passages of that name")


class Check(Body):
    names: list[Name] = Field(
        min_length=1, max_length=MOST_NAMES, description="dotted names, such as `shutil.rmtree`"
    )


class PassageOut(BaseModel):
    name: str
    kind: str
    title: str
    signature: str
    text: str
    package: str
    version: str
    licence: str
    location: str
    url: str


class Found(BaseModel):
    passages: list[PassageOut] = Field(description="best first")
    confidence: float = Field(description="0 to 1: how surely the first passage answers the question")
    unknown: str | None = Field(description="a name in the question that does not exist")
    did_you_mean: list[str] = Field(description="names that are spelled like the unknown one")


class Place(BaseModel):
    name: str
    package: str
    version: str
    location: str


class Whole(BaseModel):
    passage: PassageOut
    example: str = Field(description="real code that uses it")
    is_cut: bool = Field(description="whether the text is longer than a result may be")
    others: list[Place] = Field(description="other passages of this name")


class Checked(BaseModel):
    name: str
    exists: bool
    is_covered: bool = Field(description="whether the first part of the name is documented here at all")
    full_name: str | None = Field(default=None, description="the name with its module")
    kind: str | None = None
    signature: str | None = None
    package: str | None = None
    alike: list[str] = Field(description="other names that end alike, or are spelled alike")


class CheckedNames(BaseModel):
    names: list[Checked]


@dataclass(frozen=True, slots=True)
class ToolResult:
    data: dict[str, Any]
    text: str


@dataclass(frozen=True, slots=True)
class Tool:
    """`call` takes the arguments as JSON. It raises `ToolFailed`."""

    name: str
    title: str
    description: str
    arguments: type[BaseModel]
    result: type[BaseModel]
    call: Callable[[dict[str, Any]], Awaitable[ToolResult]]


class DocumentationTools:
    """The tools over one `documentation`. `by_name` has them in the order in which they are listed."""

    def __init__(self, documentation: Documentation) -> None:
        self._documentation = documentation
        self._admission = Admission(limit=MOST_CALLS, most_running=lambda: SEARCH_THREADS)
        tools = (
            Tool(
                "search_documentation",
                "Search the documentation",
                "Searches the documentation installed here: Python, packages with their exact versions, and "
                "folders of documentation. Returns passages word for word, best first.",
                Search,
                Found,
                _checked(Search, self._search),
            ),
            Tool(
                "get_passage",
                "Read a passage",
                "Returns the whole documentation of one name that a search has found.",
                Get,
                Whole,
                _checked(Get, self._get),
            ),
            Tool(
                "check_names",
                "Check whether names exist",
                "Says for each dotted name whether the documentation here has it, with its signature, and "
                "what is spelled alike. Use it before you write code with a name you are not sure of. An "
                "inherited member has the name of its base class.",
                Check,
                CheckedNames,
                _checked(Check, self._check),
            ),
        )
        self.by_name = {tool.name: tool for tool in tools}

    async def call(self, tool: Tool, arguments: dict[str, Any], *, address: str) -> ToolResult:
        """Call a tool for the client at `address`, when it is its turn. Raises `ToolFailed`."""
        if self._documentation.status.state is DocumentationState.OFF:
            raise ToolFailed("There is no documentation here: the server was started without it.")
        try:
            async with self._admission.turn(address):
                return await tool.call(arguments)
        except (QueueFull, DocumentationUnreadable) as error:
            raise ToolFailed(str(error)) from error

    async def _search(self, given: Search) -> ToolResult:
        question, limit = given.question, given.limit
        package = await self._package(given.package)
        if package is not None:
            question, limit = f"{question.rstrip(' ?.!')} in {package}", SEARCHED_FOR_SCOPE
        found = await self._documentation.search(question, limit=limit)
        passages = [one for one in found.passages if package is None or _same(one.package, package)]
        data = Found(
            passages=[_excerpt(passage) for passage in passages[: given.limit]],
            confidence=found.confidence,
            unknown=found.unknown,
            did_you_mean=list(found.did_you_mean),
        )
        texts = [_correction(found.unknown, found.did_you_mean)] if found.unknown else []
        texts += map(_as_text, data.passages)
        return _result(data, texts or ["The documentation here has no clear answer to this question."])

    async def _get(self, given: Get) -> ToolResult:
        package = await self._package(given.package)
        named = await self._documentation.passages_named(given.name)
        passages = [
            passage
            for passage in named
            if (package is None or _same(passage.package, package))
            and given.location in (None, passage.location)
        ]
        if named and not passages:
            raise ToolFailed(f"{given.name} is not there, but here: {_places(named)}")
        if not passages:
            alike = await self._documentation.names_like(given.name)
            raise ToolFailed(_correction(given.name, alike))
        first, *others = passages
        text = readable(first.text)
        data = Whole(
            passage=_passage_out(first, text[:LONGEST_PASSAGE]),
            example=first.example,
            is_cut=len(text) > LONGEST_PASSAGE,
            others=[Place.model_validate(one, from_attributes=True) for one in others[:MOST_OTHERS]],
        )
        texts = [_as_text(data.passage)]
        if first.example.strip():
            texts.append(f"Example ({first.example_location}):\n\n{first.example}")
        if others:
            texts.append(f"Other passages of this name: {_places(others)}")
        return _result(data, texts)

    async def _check(self, given: Check) -> ToolResult:
        checked = [await self._check_name(name) for name in given.names]
        lines = []
        for one in checked:
            if one.exists:
                lines.append(
                    f"{one.name}: exists, {one.kind} {one.signature or one.full_name} ({one.package})"
                )
            elif one.is_covered:
                lines.append(f"{one.name}: does not exist in the documentation here.")
            else:
                first = one.name.partition(".")[0]
                lines.append(f"{one.name}: unknown, because nothing here documents {first}.")
            if one.alike:
                lines[-1] += f" Alike: {', '.join(one.alike)}"
        return _result(CheckedNames(names=checked), ["\n".join(lines)])

    async def _check_name(self, name: str) -> Checked:
        passages = await self._documentation.passages_named(name)
        alike = [passage.name for passage in passages[1:]] or (
            [] if passages else await self._documentation.names_like(name)
        )
        if not passages:
            is_covered = bool(await self._documentation.passages_named(name.partition(".")[0]))
            return Checked(name=name, exists=False, is_covered=is_covered, alike=alike)
        first = passages[0]
        return Checked(
            name=name,
            exists=True,
            is_covered=True,
            full_name=first.name,
            kind=first.kind,
            signature=first.signature or None,
            package=f"{first.package} {first.version}".rstrip(),
            alike=[other for other in dict.fromkeys(alike) if other != first.name][:5],
        )

    async def _package(self, name: str | None) -> str | None:
        """The package of this name, or with a module of this name. Raises `ToolFailed` if there is none."""
        if name is None or not (name := name.strip()):
            return None
        covers = await self._documentation.covers()
        packages = list(dict.fromkeys(line.rpartition(" ")[0] or line for line in covers))
        for package in (*packages, *covers):
            if _same(package, name):
                return package
        for passage in await self._documentation.passages_named(name):
            if passage.name == name:  # `yaml` is a module of PyYAML
                return passage.package
        listed = ", ".join(difflib.get_close_matches(name, packages, MOST_OTHERS, cutoff=0))
        rest = len(packages) - MOST_OTHERS
        more = f" and {rest} more" if rest > 0 else ""
        raise ToolFailed(f"There is no documentation of {name!r} here. It covers {listed}{more}.")


def _checked(
    kind: type[A], call: Callable[[A], Awaitable[ToolResult]]
) -> Callable[[dict[str, Any]], Awaitable[ToolResult]]:
    """The same call with arguments that are not checked yet."""

    async def checked(arguments: dict[str, Any]) -> ToolResult:
        try:
            given = kind.model_validate(arguments)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)[:5]
            ]
            raise ToolFailed(f"The arguments are not valid. {'; '.join(problems)}"[:1000]) from error
        return await call(given)

    return checked


def _result(data: BaseModel, texts: Sequence[str]) -> ToolResult:
    return ToolResult(data.model_dump(), "\n\n---\n\n".join(texts))


def _same(one: str, other: str) -> bool:
    """Whether two names of packages are the same, by the rules of package indexes."""
    return re.sub(r"[-_.]+", "-", one).lower() == re.sub(r"[-_.]+", "-", other).lower()


def _passage_out(passage: Passage, text: str) -> PassageOut:
    fields = {name: getattr(passage, name) for name in PassageOut.model_fields if name != "text"}
    return PassageOut(**fields, text=text)


def _excerpt(passage: Passage) -> PassageOut:
    return _passage_out(passage, reference(passage).quote)


def _as_text(passage: PassageOut) -> str:
    place = " ".join(filter(None, (passage.package, passage.version)))
    source = ", ".join(filter(None, (place, passage.licence, passage.location, passage.url)))
    return "\n\n".join(filter(None, (f"{passage.title} ({source})", passage.signature, passage.text)))


def _places(passages: Sequence[Passage]) -> str:
    return "; ".join(f"{one.name}, {one.package}, {one.location}" for one in passages[:MOST_OTHERS])


def _correction(name: str, alike: Sequence[str]) -> str:
    sentence = f"The documentation here has no {name}."
    return f"{sentence} Names that are spelled alike: {', '.join(alike)}" if alike else sentence
