"""When a model's answer is grounded in documentation, and which passages its text then uses.

message, search result ──> passages_for ──> passages for the prompt ──> (the model) ──> with_citations
"""

from __future__ import annotations

import re
from dataclasses import replace

from assistant.conversation import Source
from assistant.knowledge.answer import reference
from assistant.knowledge.passage import SearchResult
from assistant.knowledge.search.small_talk import may_need_documentation
from prompts.render import without_thoughts

# A wrong passage harms an answer more than a missing one: a small model talks about whatever it is given.
# Searches for programming questions that found the right passage were at least 0.59 sure. Those for poems
# and jokes whose words happen to occur in documentation were at most 0.52 sure.
SURE_ENOUGH = 0.55

# So many words in a row are a quotation. Fewer also occur by chance in what a model knows by heart.
QUOTED_WORDS = 8
QUOTED_WHOLE = 5  # words of a signature or a short text that is there as a whole

LONGEST_ANSWER = 50_000  # characters of an answer in which citations are looked for
_INLINE_CODE = re.compile(r"`[^`\n]{1,200}`")
_CITATION = re.compile(r"(?<![\w)\]])(?:\[\d{1,2}(?:, ?\d{1,2}){0,9}\] ?)+(?![\w(\[])")


def passages_for(message: str, found: SearchResult) -> tuple[Source, ...]:
    """The passages to ground a model's answer to a message in, best first. None of them is cited yet."""
    if found.confidence < SURE_ENOUGH or not may_need_documentation(message):
        return ()
    return tuple(replace(reference(passage), cited=False) for passage in found.passages)


def with_citations(answer: str, sources: tuple[Source, ...]) -> tuple[Source, ...]:
    """The sources, of which those that an answer cites or quotes are marked as cited.

    A number in brackets cites the source of that number, as `[1]` cites the first. A source is quoted by some
    words of its text in a row, or by its whole signature. Returns the same tuple if no mark changes.
    """
    if all(source.cited for source in sources):
        return sources
    answer = without_thoughts(answer[:LONGEST_ANSWER])
    marks = _CITATION.findall(_INLINE_CODE.sub("", _prose(answer)))
    numbers = set(map(int, re.findall(r"\d+", " ".join(marks))))
    words = _words(answer)
    runs = {tuple(words[at : at + QUOTED_WORDS]) for at in range(len(words) - QUOTED_WORDS + 1)}
    text = f" {' '.join(words)} "

    def has_whole(quoted: list[str]) -> bool:
        return len(quoted) >= QUOTED_WHOLE and f" {' '.join(quoted)} " in text

    def is_used(number: int, source: Source) -> bool:
        quote = _words(source.quote)
        return (
            source.cited
            or number in numbers
            or has_whole(quote)
            or ("(" in source.title and has_whole(_words(source.title)))
            or any(tuple(quote[at : at + QUOTED_WORDS]) in runs for at in range(len(quote)))
        )

    marked = tuple(
        replace(source, cited=is_used(number, source)) for number, source in enumerate(sources, start=1)
    )
    return sources if marked == sources else marked


def _prose(text: str) -> str:
    """The lines of a text outside its fenced code."""
    lines: list[str] = []
    is_code = False
    for line in text.split("\n"):
        if line.lstrip().startswith(("```", "~~~")):
            is_code = not is_code
        elif not is_code:
            lines.append(line)
    return "\n".join(lines)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
