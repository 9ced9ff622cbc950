"""The values of documentation: a passage, and what was found for a question.

Knows the words and nothing else: not where passages are read, kept or ranked.
"""

from __future__ import annotations

from dataclasses import dataclass

from assistant.conversation import Source


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of documentation, word for word, with where it stands.

    `name` is what people call it: the public dotted path of an API (`os.path.join`; built-ins bare: `len`,
    `str.split`), the word of a keyword (`yield`), the heading of a piece of prose.
    """

    name: str
    kind: str  # function, class, method, property, data, module, keyword, topic, section
    title: str  # a line for people: the name with what it belongs to, a heading with those above it
    text: str  # the documentation, its indentation removed and nothing else
    package: str  # "Python", a distribution's name, the name of a folder of documentation
    version: str  # "" where there is none
    licence: str  # an SPDX expression or what the package says; "" where it says nothing
    location: str  # file and line below the root of what was read ("shutil.py:722"); `math.sqrt.__doc__`
    corpus: str  # "python", "packages" or "docs"
    signature: str = ""  # "shutil.rmtree(path, ignore_errors=False, onerror=None)"
    example: str = ""  # lines of real code that use it, as they stand
    example_location: str = ""
    url: str = ""

    def source(self, quote: str, *, location: str = "") -> Source:
        """This passage as a reply's source, with the words that were quoted from it."""
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
class Found:
    """What the documentation has on a question: passages, best first; none when it does not know.

    `did_you_mean` are names near to one that was asked for and does not exist (`unknown`).
    """

    passages: tuple[Passage, ...] = ()
    unknown: str | None = None
    did_you_mean: tuple[str, ...] = ()
