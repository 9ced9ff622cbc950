"""Makes the title of a conversation from its first question: the first line that says something in words.

A line of the person's own is preferred, then a quoted line, then a line of code, then what stands around the
code, such as the language of a fence. Each line loses the marks at its beginning: those of Markdown, of a
comment, of a shell.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

UNTITLED = "New chat"
LONGEST_TITLE = 80  # code points
SHORTEST_CUT = 40  # code points; a title without a space after so many is cut inside a word
MOST_LINES = 1000  # lines that are read
LONGEST_LINE = 500  # characters of a line that are read
MOST_MARKS = 8  # times that marks are removed from the beginning of a line

# Characters that a reader cannot see. A joiner stays between the parts of one emoji or of one Persian word.
UNSEEN = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    r"\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
    r"|[\u200c\u200d](?![^\x00-\xff\u200c\u200d])|(?<![^\x00-\xff\u200c\u200d])[\u200c\u200d]"
)
FENCE = re.compile(r"(?P<fence>`{3,}|~{3,})\s*(?P<info>[^`]*)")
QUOTATION = re.compile(r"\s*[>|] ?")
QUOTED = re.compile(r"\s*>(?!>>)")
IN_A_LIST = re.compile(r"\s*(?:[-+*]|\d{1,3}[.)])\s+")
TRACEBACK = re.compile(
    r"(?:\W|\d|error|Exception Group )*Traceback \(most recent call last\):", re.IGNORECASE
)
# Stands between two tracebacks if one exception led to the other.
CHAIN = re.compile(r"(?:During handling of the above|The above) exception\b.*:")
SETTING = re.compile(r"[\w-]+(?::|\s*=)(?:\s|$)")
# Lines that only tell how to read what follows.
AROUND = re.compile(
    r"#!\s*/.*|#.*-\*-.*|<\?\w+.*|(?:</?[a-z!][^<>]*>\s*)+|On .+ wrote:|-+ ?Original Message ?-+",
    re.IGNORECASE,
)
COMMENT = re.compile(r"\s*<!--.*?(?:-->|$)")
LINK = re.compile(r"(?<!\S)!?\[([^\[\]]*)\]\([^()]*\)")
OPENING_TAG = re.compile(r"<(?P<name>[a-z][\w-]*)(?:\s[^<>]*)?>(?=(?P<rest>[^\s].*))", re.IGNORECASE)
# Bold text, or code in a line.
STRONG = re.compile(r"(?P<mark>\*{1,3}|`{3,})(?=\S)(?P<text>[^*`]+)(?<=\S)(?P=mark)(?![*`\w])")
MARKS = re.compile(
    r"""(?:(?:
        >{1,3}(?=\s|[^\W\d_])                          # a quotation, or the prompt of Python
      | (?:[-+*•‣◦–]|\d{1,3}[.)])\s+(?:\[[ xX]\]\s+)?  # an item of a list, or a task
      | \#+\s | //+\s | /\*+\s | --+\s | ;+\s | \|\s   # a heading, a comment, a row of a table
      | `{3,} | \.\.\.\s
      | (?:mysql|sqlite|ghci)>\s | [➜❯λ]\s | (?:In|Out)\s?\[\d+\]:\s | (?:PS\s)?[A-Z]:\\[^<>|]*>\s?
      | (?:\([\w.-]+\)\s)?(?:\[?[\w.-]+@[\w.-]+(?::\S*|\s\S+)?\]?|(?:ba)?sh-[\d.]+|~\S*\s?)?[$\#%]\s
    )\s*)+""",
    re.VERBOSE,
)
CLOSING_MARKS = re.compile(r"(?:\s(?:#+|\*/|-->|\|)|`{3,})$")


def title_of(question: str) -> str:
    """A title for a conversation that begins with `question`: one line of characters that can be seen."""
    lines = [_seen(line) for line in itertools.islice(question.splitlines(), MOST_LINES)]
    groups = _in_groups([line for line in lines if line])
    texts = [text for group in groups for line in group if (text := _without_marks(line))]
    texts += [text for line in lines if (text := _visible(line))]
    says: Callable[[str], bool]
    for says in (_has_word, _has_symbol, bool):
        for text in texts:
            if says(text):
                return _cut(text)
    return UNTITLED


def _seen(line: str) -> str:
    """The beginning of a line as a reader sees it: the text of links, without their addresses."""
    return UNSEEN.sub("", LINK.sub(r"\1", line)[:LONGEST_LINE]).rstrip()


def _in_groups(lines: Sequence[str]) -> tuple[list[str], list[str], list[str], list[str]]:
    """The person's own lines, quoted ones, those of code, and those that stand around the others."""
    own: list[str] = []
    quoted: list[str] = []
    code: list[str] = []
    around: list[str] = []
    fence = ""
    start = _end_of_settings(lines)
    for line in _without_comments(_without_tracebacks(lines[start:])):
        mark = FENCE.fullmatch(IN_A_LIST.sub("", QUOTATION.sub("", line), 1).strip())
        is_end = mark is not None and mark["fence"].startswith(fence) and not mark["info"]
        if mark is not None and (is_end or not fence):
            around.append(mark["info"])
            fence = "" if fence else mark["fence"]
        elif AROUND.fullmatch(line.strip()):
            around.append(line)
        else:
            (code if fence else quoted if QUOTED.match(line) else own).append(line)
    return own, quoted, code, [*around, *lines[:start]]


def _end_of_settings(lines: Sequence[str]) -> int:
    """The number of lines of the settings ("front matter") that begin a Markdown file."""
    if len(lines) > 2 and lines[0] in ("---", "+++") and SETTING.match(lines[1]):
        return next((end for end, line in enumerate(lines[2:], 3) if line in (lines[0], "...")), 0)
    return 0


def _without_comments(lines: Iterable[str]) -> Iterator[str]:
    """The lines without HTML comments at their beginning, such as the hints of a form."""
    is_inside = False
    for line in lines:
        begins = line.lstrip().startswith("<!--")
        if is_inside or begins:
            is_inside = "-->" not in line
            line = "" if is_inside else COMMENT.sub("", line, 1) if begins else line.partition("-->")[2]
        if line.strip():
            yield line


def _without_tracebacks(lines: Iterable[str]) -> Iterator[str]:
    """The lines, with only the exception that ends each Python traceback."""
    depth: int | None = None  # of the head's indentation, inside a traceback
    exception: str | None = None
    for line in lines:
        text = QUOTATION.sub("", line, 1)
        indentation = len(text) - len(text.lstrip())
        if TRACEBACK.fullmatch(text):
            depth, exception = indentation, None
        elif depth is not None and (indentation > depth or text.lstrip().startswith('File "')):
            continue
        elif depth is not None:
            depth, exception = None, line
        elif exception is None or not CHAIN.fullmatch(text.strip()):
            if exception is not None:
                yield exception
            exception = None
            yield line
    if exception is not None:
        yield exception


def _without_marks(line: str) -> str:
    """The words of a line, without the marks that begin and end it."""
    text = _visible(line)
    for _ in range(MOST_MARKS):
        before = text
        if (strong := STRONG.match(text)) is not None:
            text = strong["text"] + text[strong.end() :]
        if (marks := MARKS.match(text)) is not None:
            text = text[marks.end() :]
        if (tag := OPENING_TAG.match(text)) is not None:
            first, _, last = tag["rest"].rpartition(f"</{tag['name']}>")
            text = first + last
        text = CLOSING_MARKS.sub("", text.strip()).strip()
        if text == before:
            break
    return text


def _visible(line: str) -> str:
    """A line with single spaces, without characters that no reader sees."""
    shown = (" " if unicodedata.category(char) in ("Cc", "Cs") else char for char in line)
    return " ".join("".join(shown).split())


def _has_word(text: str) -> bool:
    return any(char.isalnum() for char in text)


def _has_symbol(text: str) -> bool:
    """Whether a text has an emoji or another sign that is not on every keyboard."""
    return any(not char.isascii() and unicodedata.category(char)[0] == "S" for char in text)


def _cut(text: str) -> str:
    """A text of at most `LONGEST_TITLE` code points, cut at a space where there is one."""
    if len(text) <= LONGEST_TITLE:
        return text
    end = text.rfind(" ", SHORTEST_CUT, LONGEST_TITLE)
    if end < 0:
        end = LONGEST_TITLE - 1
        # The marks of a letter and the parts of an emoji stay together.
        while end > SHORTEST_CUT and (
            unicodedata.category(text[end])[0] == "M" or "\u200d" in text[end - 1 : end + 1]
        ):
            end -= 1
    return text[:end].rstrip() + "…"
