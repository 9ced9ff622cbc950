"""Documentation mode's answer: what the documentation says on a question, word for word, as Markdown.

    question + Found ─▶ name and signature      in a block of code
                        the passage             quoted, cut at a paragraph where it is long
                        where it stands         name, package, version, licence, file and line
                        an example              real code that uses it, and where that stands
                        See also                the first sentences of up to three alternatives

Knows how such an answer is laid out. Invents nothing: whatever is not one of the `INTERFACE` sentences is a
quotation, and each quotation stands in the `quote` of one of the answer's sources: the answer's own first,
then the alternatives', last those of examples. Refuses to search and to judge what was found; pure and
bounded: of any question and any passages it makes an answer within the limits below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from assistant.conversation import Source
from assistant.knowledge.passage import Found, Passage
from assistant.knowledge.plain_text import (
    block_quote,
    code,
    code_block,
    escaped,
    excerpt,
    first_sentence,
    link,
    readable,
    to_markdown,
)
from assistant.knowledge.question import Kind, Question, understand

LONGEST_TEXT = 8000  # characters of an answer
LONGEST_QUOTE = 2000  # characters of a source's quote
MOST_SOURCES = 8

SHOWN = 1200  # characters of a passage that are read without scrolling
SHOWN_OF_EACH = 800  # where two stand one after the other
LONGEST_SHOWN = 3200  # characters with all marks of Markdown
GRACE = 600  # more, where nothing else would be left out
MOST_ALTERNATIVES = 3
LONGEST_LINE = 300  # of a name, a title, a place
LONGEST_SIGNATURE = 600
SIGNATURE_WIDTH = 88
EXAMPLE_LINES = 14
LONGEST_EXAMPLE = 900

NOTHING_CERTAIN = "The documentation on this machine has nothing certain on this."
NO_SUCH_NAME = "It has no {name}."
DID_YOU_MEAN = "Did you mean {names}?"
NAME_IT = "Name the module or the function that you mean, as in `shutil.rmtree`, and ask again."
LOAD_A_MODEL = "Questions that no documentation answers need a language model: start with `--model auto`."
INSTEAD = "The model cannot answer just now; the documentation does. Ask again when the model is back."
EXAMPLE = "Example"
EXAMPLE_FROM = "From {place}"
SEE_ALSO = "See also"
GOES_ON = "…"

INTERFACE = (
    *(NOTHING_CERTAIN, NO_SUCH_NAME, DID_YOU_MEAN, NAME_IT, LOAD_A_MODEL, INSTEAD),
    *(EXAMPLE, EXAMPLE_FROM, SEE_ALSO, GOES_ON),
)


@dataclass(frozen=True, slots=True)
class DocumentationAnswer:
    """Markdown, and where each quotation in it stands."""

    text: str
    sources: tuple[Source, ...]

    def pieces(self) -> Iterator[str]:
        """The text line by line, to be streamed; together they are the text."""
        yield from self.text.splitlines(keepends=True)


@dataclass(frozen=True, slots=True)
class _Part:
    """Something of an answer that stands or goes as a whole."""

    markdown: str
    gap: str = "\n\n"  # between it and what stands before
    sources: tuple[Source, ...] = ()
    examples: tuple[Source, ...] = ()


def answer(question: str, found: Found, *, instead: bool = False) -> DocumentationAnswer:
    """The answer that `found` gives to `question`; if it is given `instead` of a model's, it says so."""
    passages = [_readable(passage) for passage in found.passages]
    if not passages:
        return DocumentationAnswer(_refusal(found, instead), ())
    first, second = passages[0], _compared(understand(question), passages)
    told = [first] if second is None else [first, second]
    parts = [_Part(INSTEAD)] if instead else []
    parts += [_correction(found)] if found.unknown else []
    for passage in told:
        parts += _told(passage, SHOWN if second is None else SHOWN_OF_EACH)
    alternatives = [passage for passage in passages if passage not in told][:MOST_ALTERNATIVES]
    parts += _see_also(alternatives, first)
    return _put_together(parts)


def reference(passage: Passage) -> Source:
    """What a model is given to read of a passage: its signature as the title, its words within bounds."""
    passage = _readable(passage)
    quote, _ = excerpt(passage.text, LONGEST_QUOTE, 0)
    return replace(passage.source(quote or passage.signature), title=passage.signature or passage.title)


def _put_together(parts: Sequence[_Part]) -> DocumentationAnswer:
    """The parts in order, as far as there is room; a part that has none is left out."""
    text = ""
    sources: list[Source] = []
    examples: list[Source] = []
    for part in parts:
        longer = f"{text}{part.gap}{part.markdown}" if text else part.markdown
        if len(longer) > LONGEST_TEXT:
            continue
        text = longer
        sources += part.sources
        examples += part.examples
    return DocumentationAnswer(text + "\n", tuple([*sources, *examples][:MOST_SOURCES]))


def _readable(passage: Passage) -> Passage:
    return replace(
        passage,
        name=_line(passage.name),
        title=_line(passage.title),
        location=_line(passage.location),
        text=readable(passage.text),
        signature=_line(passage.signature, LONGEST_SIGNATURE),
        example=readable(passage.example),
        example_location=_line(passage.example_location),
    )


def _line(text: str, longest: int = LONGEST_LINE) -> str:
    line = " ".join(readable(text).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}{GOES_ON}"


# ---------------------------------------------------------------------------------------------- nothing found


def _refusal(found: Found, instead: bool) -> str:
    paragraphs = [INSTEAD] if instead else []
    paragraphs.append(NOTHING_CERTAIN)
    if found.unknown or found.did_you_mean:
        paragraphs.append(_correction(found).markdown)
    paragraphs.append(NAME_IT if instead else f"{NAME_IT} {LOAD_A_MODEL}")
    return "\n\n".join(paragraphs) + "\n"


def _correction(found: Found) -> _Part:
    """That a name which was asked for does not exist, and which do."""
    sentences = []
    if found.unknown and (name := code(_line(found.unknown, 120))):
        sentences.append(NO_SUCH_NAME.format(name=name))
    if found.did_you_mean:
        names = [code(_line(name)) for name in found.did_you_mean[:MOST_ALTERNATIVES]]
        sentences.append(
            DID_YOU_MEAN.format(names=" or ".join(filter(None, (", ".join(names[:-1]), names[-1]))))
        )
    return _Part(" ".join(sentences))


# ----------------------------------------------------------------------------------------------- what is told


def _compared(question: Question, passages: Sequence[Passage]) -> Passage | None:
    """The passage that the question sets against the first: both are told in equal detail."""
    if question.kind is not Kind.DIFFERENCE or len(question.subjects) < 2:
        return None
    names = [
        frozenset(
            [*subject.words, *(mention.name.rpartition(".")[2].lower() for mention in subject.mentions)]
        )
        for subject in question.subjects
    ]
    about = [
        {number for number, subject in enumerate(names) if subject & _words(passage)}
        for passage in passages[:MOST_ALTERNATIVES]
    ]
    for passage, subjects in zip(passages[1:], about[1:], strict=False):
        if len(about[0] | subjects) > 1 and subjects:
            return passage
    return None


def _words(passage: Passage) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", passage.name.lower())) | {
        passage.name.rpartition(".")[2].lower()
    }


def _told(passage: Passage, longest: int) -> list[_Part]:
    quote, shown = _quoted(passage, longest)
    told = [_heading(passage), shown, _stands(passage)]
    parts = [_Part("\n\n".join(filter(None, told)), sources=(passage.source(quote),))]
    if passage.example.strip():
        parts.append(_example(passage))
    return parts


def _quoted(passage: Passage, longest: int) -> tuple[str, str]:
    """The words of a passage that are shown, and the Markdown that shows them."""
    quote, is_cut = excerpt(passage.text, longest, GRACE)
    if not quote:
        return "", ""
    shown = quote if _is_markdown(passage) else to_markdown(quote)
    quoted = block_quote(f"{shown}\n\n{GOES_ON}" if is_cut else shown)
    if len(quoted) > LONGEST_SHOWN and longest > 1:  # hardly more than marks
        return _quoted(passage, min(longest, len(quote)) // 2)
    return quote, quoted


def _heading(passage: Passage) -> str:
    if passage.kind in ("section", "topic"):
        return f"**{escaped(passage.title or passage.name)}**"
    return code_block(_wrapped(passage.signature or passage.name), "python")


def _wrapped(signature: str) -> str:
    """A signature, in lines that are not wider than a page where it has places for breaks."""
    head, bracket, rest = signature.partition("(")
    inside, closing, returned = rest.rpartition(")")
    if len(signature) <= SIGNATURE_WIDTH or not inside:
        return signature
    lines = [f"{head}{bracket}", "   "]
    depth = 0
    for piece in re.split(r"(?<=,) ", inside):
        if depth == 0 and len(lines[-1]) + 1 + len(piece) > SIGNATURE_WIDTH:
            lines.append("   ")
        lines[-1] += f" {piece}"
        depth += sum(map(piece.count, "([{")) - sum(map(piece.count, ")]}"))
    return "\n".join([*lines, f"{closing}{returned}"])


def _is_markdown(passage: Passage) -> bool:
    """Whether the text was written as Markdown; it is then shown as such."""
    file = passage.location.rpartition(":")[0] or passage.location
    return passage.corpus == "docs" and file.lower().endswith((".md", ".markdown", ".mdx", ".ipynb"))


def _stands(passage: Passage) -> str:
    """Where a passage stands: "shutil.rmtree, Python 3.11.2 (PSF-2.0), shutil.py:722"."""
    name = escaped(passage.title) if passage.kind == "section" else code(passage.name)
    return ", ".join(filter(None, (name, _package(passage), link(code(passage.location), passage.url))))


def _package(passage: Passage) -> str:
    licence = _line(passage.licence, 60)
    package = f"{_line(passage.package, 80)} {_line(passage.version, 40)}".strip()
    return escaped(f"{package} ({licence})" if licence else package)


def _example(passage: Passage) -> _Part:
    lines = passage.example.strip("\n").split("\n")
    quote = "\n".join(lines[:EXAMPLE_LINES])
    if len(quote) > LONGEST_EXAMPLE:
        quote = quote[: quote.rfind("\n", 0, LONGEST_EXAMPLE) + 1 or LONGEST_EXAMPLE]
    quote = quote.rstrip()
    place = EXAMPLE_FROM.format(place=code(passage.example_location))
    shown = [f"**{EXAMPLE}**\n", code_block(quote, "python")]
    if passage.example_location:
        shown.append(f"\n{place}")
    source = replace(passage.source(quote, location=passage.example_location), title=EXAMPLE, url="")
    return _Part("\n".join(shown), examples=(source,))


def _see_also(passages: Sequence[Passage], first: Passage) -> list[_Part]:
    """The alternatives as a list whose head comes with the first of them."""
    parts = []
    for passage in passages:
        sentence, is_cut = first_sentence(passage.text)
        name = escaped(passage.title) if passage.kind == "section" else code(passage.name)
        is_same = (passage.package, passage.version) == (first.package, first.version)
        place = [] if is_same else [_package(passage)]
        place.append(link(code(passage.location), passage.url))
        said = f": “{escaped(sentence)}{GOES_ON if is_cut else ''}”" if sentence else ""
        item = f"- {name}{said} ({', '.join(place)})"
        parts.append(_Part(item, "\n", (passage.source(sentence),)))
    if parts:
        parts[0] = replace(parts[0], markdown=f"**{SEE_ALSO}**\n\n{parts[0].markdown}", gap="\n\n")
    return parts
