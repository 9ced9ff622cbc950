"""The values of documentation: a passage, what a reader produced, and what a search found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assistant.conversation import Source

# Calls of a name in a file: their number, and the first line, last line and score of the best example.
# Line 0 means that there is no example.
Calls = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of documentation, word for word, with its place. `name` is the public dotted path of an API
    (`os.path.join`; a built-in without its module: `str.split`), a keyword, or the heading of prose."""

    name: str
    kind: str  # function, class, method, property, data, module, keyword, topic, section
    title: str  # a line for people: the name of an API, or a heading with the headings above it
    text: str  # the documentation, unchanged but for its indentation
    package: str  # "Python", the name of a distribution, or the name of a folder of documentation
    version: str  # "" if there is none
    licence: str  # an SPDX expression or what the package states; "" if it states nothing
    location: str  # file and line ("shutil.py:722"), or where a live object has it ("math.sqrt.__doc__")
    corpus: str  # "python", "packages" or "docs"
    signature: str = ""  # "shutil.rmtree(path, ignore_errors=False, onerror=None)"
    example: str = ""  # lines of real code that use it, unchanged
    example_location: str = ""
    url: str = ""

    def source(self, quote: str, *, location: str = "") -> Source:
        """This passage as a source of a reply, with the text that the reply quotes."""
        return Source(
            name=self.name,
            title=self.title,
            package=self.package,
            version=self.version,
            licence=self.licence,
            location=location or self.location,
            url=self.url,
            quote=quote,
        )


@dataclass(frozen=True, slots=True)
class Raised:
    """A `raise` statement in a package: which exception, with which message, under which condition."""

    exception: str  # as the source writes it: "ValueError", "exceptions.MissingSchema"
    message: str  # the literal parts of the message, with "…" for each other part; "" if there is none
    owner: str  # the function that raises it, by its place in the source: "requests.models.Response.json"
    location: str  # file and line: "requests/models.py:438"
    code: str  # the lines of the condition and of the statement


@dataclass(frozen=True, slots=True)
class Batch:
    """What a reader found in one module of the standard library, one package or one file."""

    passages: Sequence[Passage]
    aliases: Sequence[tuple[str, str]] = ()  # another name, and the name of its passage
    usage: Mapping[str, Mapping[str, Calls]] = field(default_factory=dict)  # by file, then by called name
    unread: int = 0  # files that could not be read
    problems: Sequence[str] = ()  # what else was left out, in sentences for people
    raised: Sequence[Raised] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence that answers a question by itself: a template, and what stands for the {names} in it."""

    sentence: str
    names: Mapping[str, str] = field(default_factory=dict)
    quote: str = ""  # the lines of `passage` that state it
    passage: Passage | None = None


@dataclass(frozen=True, slots=True)
class ExplainedError:
    """What an error means that somebody pasted. Except `exception` and `message`, any field may be empty."""

    exception: str  # as the traceback has it: "json.decoder.JSONDecodeError"
    message: str
    meaning: Fact | None = None  # what the message means in general, and the usual fix
    similar: tuple[str, ...] = ()  # existing names like the one that is missing
    place: str = ""  # the line of the person's own code: "app.py:12"
    code: str = ""  # that line
    call: Passage | None = None  # the function that this line calls
    raised: Raised | None = None  # the statement that raised the error, in a package
    documented: Passage | None = None  # documentation that quotes the message
    cause: str = ""  # the error before it: "KeyError: 'name'"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The passages that answer a question, best first; none if the documentation has no answer."""

    passages: tuple[Passage, ...] = ()
    unknown: str | None = None  # a name in the question that does not exist
    did_you_mean: tuple[str, ...] = ()  # existing names like the unknown one
    covers: tuple[str, ...] = ()  # if nothing was found: what the documentation is about ("Python 3.11.2")
    confidence: float = 0.0  # 0 to 1: how surely the first passage answers the question
    scope: tuple[str, ...] = ()  # the packages and folders that the question names; only these were searched
    error: ExplainedError | None = None  # if the question contains an error
    facts: tuple[Fact, ...] = ()  # what answers a question about versions or parameters
