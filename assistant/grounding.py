"""When a model's answer is grounded in documentation, and which passages its text then uses.

message, search result ──> passages_for ──> passages for the prompt ──> (the model) ──> with_citations
"""

from __future__ import annotations

import re
from dataclasses import replace

from assistant.conversation import Source
from assistant.knowledge.answer import reference
from assistant.knowledge.passage import SearchResult
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

LONGEST_SMALL_TALK = 400  # characters
# Words of greeting, thanks, praise, assent, apology and farewell.
_SOCIAL = frozenset(
    """
    hello hi hiya hey howdy welcome morning afternoon evening night today tomorrow weekend bye goodbye later
    soon see thanks thx ty cheers please sorry apologies pardon mistake oops great good nice cool fine ok okay
    alright awesome excellent perfect wonderful amazing brilliant fantastic super lovely neat right correct
    wrong exactly indeed agreed yes yeah yep yup sure no nope wow ah oh haha lol hm hmm love like appreciate
    fun funny work works worked working help helps helped helpful solved fixed happy glad clear understood
    got sense done doing going well enough problem smart clever better best hallo danke bitte tschüss bonjour
    salut merci beaucoup hola gracias adiós olá obrigado obrigada tchau 你好 谢谢 再见 こんにちは ありがとう
    """.split()  # noqa: SIM905 - a table to read
)
_FUNCTION_WORDS = frozenset(
    """
    a an the and but or so very really quite much lot all too also just now again here there still i i'm me my
    we us our you you're your yours yourself he she they it it's that's this that these those them one is are
    am was were be been do does did have has had will would can could should may might must let let's in on
    at of for to with from about as by up out day time make makes
    """.split()  # noqa: SIM905 - a table to read
)
_QUESTION_WORDS = frozenset({"how", "what", "what's", "who", "who's", "when", "where", "which", "why"})
_POINTERS = frozenset({"it", "it's", "that", "that's", "this", "these", "those", "them", "one"})
_LIKE_CODE = re.compile(r"[`_=<>{}\[\]\\/#@$%^&*|+~\d]|\w[.(]\w")
# A request for a text that no documentation has: a verb of writing, and a kind of literature as its object.
_INVENTION = re.compile(
    r"(?:(?:hey|hi|ok|please|now|and|could|can|would|will|you|i|i'd|want|need|like|to|for|let's)[ ,]+)*"
    r"(?:write|tell|compose|sing|make up|give|recite|create|invent|draft|improvise)"
    r"(?: (?!for |of |that |to |with |in )\w+){0,4}"
    r" (?:poems?|haikus?|limericks?|sonnets?|verses?|rhymes?|ballads?|odes?|songs?|lyrics|lullab(?:y|ies)"
    r"|raps?|jokes?|puns?|riddles?|stor(?:y|ies)|(?:fairy ?)?tales?|fables?|legends?|novels?|essays?"
    r"|speech(?:es)?|toasts?|prayers?|compliments?)"
    r"(?=$| *[.,;:!?]| (?:about|on|of|for|with|in|that|who|where|which|to|please)\b)"
)


def passages_for(message: str, found: SearchResult) -> tuple[Source, ...]:
    """The passages to ground a model's answer to a message in, best first. None of them is cited yet."""
    if found.confidence < SURE_ENOUGH or not may_need_documentation(message):
        return ()
    return tuple(replace(reference(passage), cited=False) for passage in found.passages)


def may_need_documentation(message: str) -> bool:
    """Whether documentation may help to answer a message; False for small talk and requests for poems.

    How sure a search is does not tell: after a question, "thanks, that worked" is searched for together with
    that question, as "and with a timeout?" must be. So this looks at the words. A message of nothing but
    greetings, thanks, praise and function words asks for nothing. A question of such words that is put to
    "you" is about the assistant, unless it points at something ("can you do that?").
    """
    plain = message.lower().replace("’", "'").replace("thank you", "thanks").strip()
    if len(plain) > LONGEST_SMALL_TALK or _LIKE_CODE.search(plain):
        return True
    if _INVENTION.match(plain):
        return False
    words = set(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", plain))
    if "?" not in plain and not words & _QUESTION_WORDS:
        return not (words & _SOCIAL and words <= _SOCIAL | _FUNCTION_WORDS)
    is_about_assistant = bool(words & {"you", "your", "yours", "you're"}) and not words & _POINTERS
    return not (is_about_assistant and words <= _SOCIAL | _FUNCTION_WORDS | _QUESTION_WORDS)


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
