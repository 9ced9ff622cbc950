"""Writes the answer that quotes the documentation, word for word, as Markdown.

    question + SearchResult ─▶ facts, an error       what answers by itself: see `versions.py` and `errors.py`
                               name and signature   in a block of code
                               the passage          quoted, and cut at a paragraph if it is long
                               its place            name, package, version, licence, file and line
                               an example           real code that uses it, with file and line
                               See also             the first sentences of up to three alternatives

The answer invents nothing: apart from the sentences in `INTERFACE`, all of it is quoted, and each quotation
is in the `quote` of one of the answer's sources. Only the marks of reStructuredText become words, and the
quotes of sources, which are shown as plain text, have no marks of code. The sources of passages come first,
then those of the alternatives, then those of the examples. Every answer keeps within the limits below.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from assistant.conversation import Source
from assistant.knowledge.excerpts import ELLIPSIS, answering, own_example, wrapped
from assistant.knowledge.passage import ExplainedError, Fact, Passage, SearchResult
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
from assistant.knowledge.rest_in_words import in_words, without_backticks
from assistant.knowledge.search.languages import in_english
from assistant.knowledge.search.question import Question, QuestionType, parse_question

LONGEST_TEXT = 8000  # characters of an answer
LONGEST_QUOTE = 2000  # characters of a source's quote
MOST_SOURCES = 8

SHOWN = 1200  # characters of a passage that are quoted, which fit on a page without scrolling
SHOWN_OF_EACH = 800  # characters of each of two passages
LONGEST_SHOWN = 3200  # characters of a quotation with all its Markdown
GRACE = 600  # more characters, if the passage then need not be cut
MOST_ALTERNATIVES = 3
MOST_COVERED = 6  # packages that an answer without a passage lists
LONGEST_LINE = 300  # characters of a name, a title or a location
LONGEST_SIGNATURE = 2500
LONGEST_TITLE = 600  # characters of a signature that is the title of a passage for a model
LONGEST_CODE = 600  # characters of code in an error
EXAMPLE_LINES = 14
LONGEST_EXAMPLE = 900

NO_ANSWER = "The documentation on this machine has no clear answer to this question."
NO_ANSWER_HERE = "This documentation has no clear answer to this question."
NO_SUCH_NAME = "The documentation has no {name}."
DID_YOU_MEAN = "Did you mean {names}?"
COVERS = "It covers {packages}."
NAME_IT = "Name the module or function that you mean, and ask again."
OTHER_WORDS = "Ask again in other words, or name what you mean."
ADD_DOCUMENTATION = "For {technology}, add other documentation with `--docs FOLDER`."
LOAD_A_MODEL = "Other questions need a language model: start the application with `--model auto`."
INSTEAD = (
    "The model is unavailable, so the documentation was searched instead. Ask again when the model is back."
)
EXAMPLE = "Example"
EXAMPLE_FROM = "From {place}"
SEE_ALSO = "See also"
YOUR_LINE = "It comes from this line of your code ({place}):"
CAUSE = "The error before it was {cause}."
CALLS = "This is what it calls:"
RAISED = "{place} raises it here:"
RAISED_IF = "{place} raises it because {condition} is {truth}:"

INTERFACE = (
    *(NO_ANSWER, COVERS, NO_SUCH_NAME, DID_YOU_MEAN, NAME_IT, ADD_DOCUMENTATION, LOAD_A_MODEL, INSTEAD),
    *(EXAMPLE, EXAMPLE_FROM, SEE_ALSO, ELLIPSIS, YOUR_LINE, CAUSE, CALLS, RAISED, RAISED_IF),
    *(NO_ANSWER_HERE, OTHER_WORDS),
)


@dataclass(frozen=True, slots=True)
class DocumentationAnswer:
    """An answer as Markdown, with the source of each quotation in it."""

    text: str
    sources: tuple[Source, ...]

    def pieces(self) -> Iterator[str]:
        """The text line by line, to be streamed."""
        yield from self.text.splitlines(keepends=True)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of an answer, which is shown in full or left out."""

    markdown: str
    gap: str = "\n\n"  # between the part before and this one
    sources: tuple[Source, ...] = ()
    examples: tuple[Source, ...] = ()


def answer(
    question: str, result: SearchResult, *, instead: bool = False, by_visitor: bool = False
) -> DocumentationAnswer:
    """The answer that a search result gives to a question. With `instead`, it says that the model, which was
    asked first, is unavailable. A visitor, who cannot change the application, gets no advice to do so."""
    passages = [_readable(passage) for passage in result.passages]
    question = in_english(question)
    if not (passages or result.error or result.facts):
        refusal = (
            _refusal_to_visitor(result) if by_visitor else _refusal(parse_question(question), result, instead)
        )
        return DocumentationAnswer(refusal, ())
    parts = [_Part(INSTEAD)] if instead else []
    parts += [_correction(result)] if result.unknown else []
    facts = [part for fact in result.facts for part in _fact_parts(fact)]
    if (error := result.error) is not None:
        parts += _error_parts(error, facts)
        in_full = _explaining(error, passages)
    else:
        second = _compared(parse_question(question), passages)
        in_full = passages[:1] if second is None else [passages[0], second]
        parts += facts
    for passage in in_full:
        words = question if error is None else error.message if passage.kind in ("section", "topic") else ""
        parts += _passage_parts(passage, words, SHOWN if len(in_full) == 1 else SHOWN_OF_EACH)
    alternatives = [passage for passage in passages if passage not in in_full][:MOST_ALTERNATIVES]
    parts += _see_also(alternatives, passages[0] if passages else None)
    return _join(parts)


def reference(passage: Passage) -> Source:
    """A passage as reference for a model: the signature as the title, and the beginning of the text."""
    passage = _readable(passage)
    quote, _ = excerpt(passage.text, LONGEST_QUOTE, 0)
    title = _line(passage.signature or passage.title, LONGEST_TITLE)
    return replace(_source(passage, quote or passage.signature), title=title)


def _join(parts: Sequence[_Part]) -> DocumentationAnswer:
    """The parts in order; a part that no longer fits is left out."""
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


def _source(passage: Passage, quote: str) -> Source:
    return passage.source(quote if _is_markdown(passage) else without_backticks(quote))


def _readable(passage: Passage) -> Passage:
    text = readable(passage.text)
    return replace(
        passage,
        name=_line(passage.name),
        title=_line(passage.title),
        location=_line(passage.location),
        text=text if _is_markdown(passage) else in_words(text),
        signature=" ".join(readable(passage.signature).split()),
        example=readable(passage.example),
        example_location=_line(passage.example_location),
    )


def _line(text: str, longest: int = LONGEST_LINE) -> str:
    line = " ".join(readable(text).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}{ELLIPSIS}"


def _refusal(question: Question, result: SearchResult, instead: bool) -> str:
    """Says that nothing was found, what the documentation covers, and what the reader can do."""
    technology = question.other_technology
    is_missing = technology and not any(technology.lower() in name.lower() for name in result.covers)
    advice = ADD_DOCUMENTATION.format(technology=escaped(technology)) if is_missing else NAME_IT
    parts = [
        INSTEAD if instead else "",
        " ".join(filter(None, (NO_ANSWER, _covers(result.covers)))),
        _correction(result).markdown,
        advice if instead else f"{advice} {LOAD_A_MODEL}",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _refusal_to_visitor(result: SearchResult) -> str:
    parts = [NO_ANSWER_HERE, _correction(result).markdown, OTHER_WORDS]
    return "\n\n".join(filter(None, parts)) + "\n"


def _covers(packages: Sequence[str]) -> str:
    names = [escaped(_line(name, 80)) for name in packages[:MOST_COVERED]]
    if rest := len(packages) - len(names):
        names.append(f"{rest} more")
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""
    return COVERS.format(packages=listed) if listed else ""


def _correction(result: SearchResult) -> _Part:
    """Says that a name does not exist, and suggests names that do."""
    sentences = []
    if result.unknown and (name := code(_line(result.unknown, 120))):
        sentences.append(NO_SUCH_NAME.format(name=name))
    if result.did_you_mean:
        names = [code(_line(name)) for name in result.did_you_mean[:MOST_ALTERNATIVES]]
        listed = " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        sentences.append(DID_YOU_MEAN.format(names=listed))
    return _Part(" ".join(sentences))


def _compared(question: Question, passages: Sequence[Passage]) -> Passage | None:
    """The passage that the question compares with the first; both are shown in the same detail."""
    if question.type is not QuestionType.DIFFERENCE or len(question.subjects) < 2:
        return None
    names = [
        {*subject.words, *(mention.name.rpartition(".")[2].lower() for mention in subject.mentions)}
        for subject in question.subjects
    ]
    about = [
        {number for number, subject in enumerate(names) if subject & _words_of_name(passage)}
        for passage in passages[:MOST_ALTERNATIVES]
    ]
    for passage, subjects in zip(passages[1:], about[1:], strict=False):
        if len(about[0] | subjects) > 1 and subjects:
            return passage
    return None


def _words_of_name(passage: Passage) -> set[str]:
    name = passage.name.lower()
    return {*re.findall(r"[a-z0-9]+", name), name.rpartition(".")[2]}


def _passage_parts(passage: Passage, question: str, longest: int) -> list[_Part]:
    quote, quoted = _quoted(passage, question, longest)
    paragraphs = filter(None, (_heading(passage), quoted, _place(passage)))
    part = _Part("\n\n".join(paragraphs), sources=(_source(passage, quote),))
    return [part, *_example(passage, quote)]


def _quoted(passage: Passage, question: str, longest: int) -> tuple[str, str]:
    """The part of a passage's text that is quoted, and the Markdown of the quotation."""
    quote, is_later, is_cut = answering(passage.text, question, longest, GRACE)
    if not quote or quote.split() == passage.signature.split():  # the heading shows it
        return quote, ""
    shown = quote if _is_markdown(passage) else to_markdown(quote)
    quoted = block_quote("\n\n".join([*[ELLIPSIS][:is_later], shown, *[ELLIPSIS][:is_cut]]))
    if len(quoted) > LONGEST_SHOWN and longest > 1:  # nearly all of it is Markdown
        return _quoted(passage, question, min(longest, len(quote)) // 2)
    return quote, quoted


def _heading(passage: Passage) -> str:
    if passage.kind in ("section", "topic"):
        return f"**{escaped(passage.title or passage.name)}**"
    return code_block(wrapped(passage.signature or passage.name, LONGEST_SIGNATURE), "python")


def _is_markdown(passage: Passage) -> bool:
    """Whether it is Markdown, as the passages of all files but reStructuredText, HTML and plain text are."""
    if passage.corpus == "packages":
        return passage.kind == "section"  # of its README
    return passage.corpus == "docs" and not _OTHER_MARKUP.search(passage.location)


# A file without a suffix is a plain text. What was read as something else says so: "NEWS (Markdown):12".
_OTHER_MARKUP = re.compile(
    r"(?:\.(?:rst|rest|te?xt|x?html?|info)|(?:^|/)[^./()]+)(?:\.gz)?(?::\d+)?$", re.IGNORECASE
)


def _place(passage: Passage) -> str:
    """The place of a passage: "shutil.rmtree, Python 3.11.2 (PSF-2.0), shutil.py:722"."""
    name = escaped(passage.title) if passage.kind == "section" else code(passage.name)
    return ", ".join(filter(None, (name, _package(passage), link(code(passage.location), passage.url))))


def _package(passage: Passage) -> str:
    licence = _line(passage.licence, 60)
    package = f"{_line(passage.package, 80)} {_line(passage.version, 40)}".strip()
    return escaped(f"{package} ({licence})" if licence else package)


def _example(passage: Passage, shown: str) -> list[_Part]:
    """An example that the passage itself has, unless the quotation shows it; else a call in real code."""
    own, language = own_example(passage.text)
    if own and own.split("\n")[0].strip() in shown:
        return []
    lines = (own or passage.example).strip("\n").split("\n")
    quote = "\n".join(lines[:EXAMPLE_LINES])
    if len(quote) > LONGEST_EXAMPLE:
        quote = quote[: quote.rfind("\n", 0, LONGEST_EXAMPLE) + 1 or LONGEST_EXAMPLE]
    quote = quote.rstrip()
    if not quote.strip():
        return []
    parts = [f"**{EXAMPLE}**", code_block(quote, language if own else "python")]
    if own:
        return [_Part("\n\n".join(parts), examples=(_source(passage, quote),))]
    if passage.example_location:
        parts.append(EXAMPLE_FROM.format(place=code(passage.example_location)))
    source = replace(passage.source(quote, location=passage.example_location), title=EXAMPLE, url="")
    return [_Part("\n\n".join(parts), examples=(source,))]


def _see_also(passages: Sequence[Passage], first: Passage | None) -> list[_Part]:
    """The alternatives as a list. Its heading is in the first part, so that neither appears alone."""
    parts = []
    for passage in passages:
        sentence, is_cut = first_sentence(passage.text)
        name = escaped(passage.title) if passage.kind == "section" else code(passage.name)
        is_same = first is not None and passage.package == first.package and passage.version == first.version
        place = [] if is_same else [_package(passage)]
        place.append(link(code(passage.location), passage.url))
        shown = _without_markdown(sentence) if _is_markdown(passage) else sentence
        quote = f": “{escaped(shown)}{ELLIPSIS if is_cut else ''}”" if shown else ""
        item = f"- {name}{quote} ({', '.join(place)})"
        parts.append(_Part(item, "\n", (_source(passage, sentence),)))
    if parts:
        parts[0] = replace(parts[0], markdown=f"**{SEE_ALSO}**\n\n{parts[0].markdown}", gap="\n\n")
    return parts


def _without_markdown(sentence: str) -> str:
    """The words of a sentence; none for a row of a table, which says nothing alone."""
    from assistant.knowledge.reading.markdown import visible_text  # late: it imports a parser

    return "" if sentence.startswith("|") else visible_text(sentence)


# Errors and facts


def _filled(fact: Fact) -> str:
    """The sentence of a fact, with its names as code, but for those of packages."""
    lines = {name: _line(value, 160) for name, value in fact.names.items()}
    names = {name: (escaped if name == "package" else code)(line) or ELLIPSIS for name, line in lines.items()}
    return fact.sentence.format_map(defaultdict(lambda: ELLIPSIS, names))


def _fact_parts(fact: Fact) -> list[_Part]:
    if fact.passage is None:
        return [_Part(_filled(fact))]
    passage = _readable(fact.passage)
    quote = readable(fact.quote) if _is_markdown(passage) else in_words(readable(fact.quote))
    quote, _ = excerpt(quote, SHOWN_OF_EACH, 0)
    shown = block_quote(quote if _is_markdown(passage) else to_markdown(quote)) if quote else ""
    source = (_source(passage, quote),) if quote else ()
    return [_Part("\n\n".join(filter(None, (_filled(fact), shown))), sources=source)]


def _error_parts(error: ExplainedError, facts: Sequence[_Part]) -> list[_Part]:
    """What an error means, the statement that raised it, facts about it, and the person's own line."""
    similar = _correction(SearchResult(did_you_mean=error.similar)).markdown
    parts = [_Part(" ".join(filter(None, (_filled(error.meaning) if error.meaning else "", similar))))]
    if (raised := error.raised) is not None:
        lines, package = readable(raised.code)[:LONGEST_CODE].rstrip(), raised.location.partition("/")[0]
        source = Source(raised.owner, raised.owner, package, "", "", raised.location, "", lines)
        text = f"{_why_raised(lines, raised.location)}\n\n{code_block(lines, 'python')}"
        parts.append(_Part(text, examples=(source,)))
    if error.cause:
        parts.append(_Part(CAUSE.format(cause=code(_line(error.cause)))))
    parts += facts
    if own := readable(error.code)[:LONGEST_CODE].rstrip():
        place = YOUR_LINE.format(place=code(_line(error.place)) or ELLIPSIS)
        parts.append(_Part(f"{place}\n\n{code_block(own, 'python')}" + f"\n\n{CALLS}" * bool(error.call)))
    return [part for part in parts if part.markdown]


_CONDITION = re.compile(r"(?:el)?if (.+?):[ \t]*(?:#[^\n]*)?\n", re.DOTALL)


def _why_raised(lines: str, location: str) -> str:
    """The sentence before a `raise` statement, with the condition for it if its lines begin with one."""
    found, place = _CONDITION.match(lines), code(_line(location))
    if not found or not (condition := code(_line(found[1]))):
        return RAISED.format(place=place)
    truth = "false" if "\nelse" in lines else "true"
    return RAISED_IF.format(place=place, condition=condition, truth=truth)


def _explaining(error: ExplainedError, passages: Sequence[Passage]) -> list[Passage]:
    """The passages that are shown in full: the exception's class only if there is no better explanation."""
    last = error.exception.rpartition(".")[2]
    telling = [passage for passage in passages if passage.name.rpartition(".")[2] != last][:1]
    if error.meaning or error.raised:
        return telling
    # The second passage quotes the message, or is the class of the exception.
    return telling + [each for each in passages if each not in telling][:1]
