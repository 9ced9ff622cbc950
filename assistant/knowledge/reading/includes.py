"""Puts the files that a page includes in place of the lines that include them.

    {* ../docs_src/app.py ln[1:9] *}     FastAPI          .. literalinclude:: app.py    Sphinx
    --8<-- "app.py:1:9"                  MkDocs           ```{include} notes.md         MyST
    {{#include app.rs:anchor}}           mdBook           <<< @/app.ts{1-9}             VitePress

Only code and texts of the project that the folder belongs to are shown, and nothing that is hidden: the
project is the folder itself or one at most four levels above it that has a project file. A line whose file
cannot be shown is dropped. All that a page includes is bounded.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assistant.knowledge.reading.page import word_set

MOST_LINES = 300  # of one included file
LARGEST = 256 << 10  # bytes of it that are read
MOST_FILES = 60  # that one page includes
DEEPEST = 3  # files that include each other
LEVELS_ABOVE = 4  # how far above the folder its project may begin

Line = tuple[str, int]  # a line, and the number of the line in the page that it stands for

PROJECT_FILES = (".git", "pyproject.toml", "setup.py", "package.json", "Cargo.toml", "go.mod", "book.toml")
_TEXTS = word_set(".md .mdx .markdown .rst .txt .inc")
_CODE = word_set(
    ".py .pyi .pyx .js .mjs .jsx .ts .tsx .vue .rs .go .java .kt .scala .swift .c .h .cc .cpp .hpp .cs .rb"
    " .php .pl .lua .r .jl .hs .ml .ex .erl .clj .dart .sh .bash .ps1 .bat .sql .css .scss .proto .diff"
)
_INCLUDES = tuple(
    re.compile(rf"(?P<indent> *){pattern}\s*$")
    for pattern in (
        r"\{\* *(?P<file>[^\s*]+)(?:[^*]*?ln\[(?P<part>[\d:, ]+)\])?[^*]*\*\}",
        r"\{!>? *(?P<file>[^!\s]+) *!\}",
        r"""--8<-- +["'](?P<file>[^"':]+):?(?P<part>[^"']*)["']""",
        r"\{\{ *#\w+ +(?P<file>[^\s}:]+):?(?P<part>[^\s}]*)[^}]*\}\}",
        r"<<< +@?(?P<file>[^\s{]+) *\{?(?P<part>[\d,-]*).*",
        r"\.\. +(?P<rest>include|literalinclude):: +(?P<file>\S+)",
        r"(?P<fence>`{3,}|:{3,})\{(?P<myst>include|literalinclude)\} *(?P<file>\S+)",
    )
)
_MAY_INCLUDE = re.compile(r"\s*(?:\{[*!{]|--8<|<<<|\.\.\s+(?:literal)?include::|(?:```|:::).*nclude\})")
_OPTION = re.compile(r"\s*:([\w-]+):\s*(.*)$")
_RANGE = re.compile(r"\s*(\d{0,6})(?:\s*[-:]\s*(\d{0,6}))?\s*$")
_MARKER = re.compile(r"--8<--|\bANCHOR(?:_END)?:|\[(?:start|end):|#\s*(?:end)?region\b|//\s*docs:")


@dataclass(slots=True)
class Includes:
    """The files that one page may include."""

    page: Path
    folder: Path
    used: int = 0
    project: Path = field(init=False)

    def __post_init__(self) -> None:
        self.project = next(
            (each for each in self._above() if any(os.path.lexists(each / name) for name in PROJECT_FILES)),
            self.folder,
        )

    def _above(self) -> list[Path]:
        return [self.folder, *self.folder.parents][: LEVELS_ABOVE + 1]

    def lines_of(self, name: str, near: Path) -> tuple[Path, list[str]] | None:
        """A file that may be shown, and its first lines. It is sought beside the file that includes it, then
        in the folder and in each folder above it, as site generators do."""
        self.used += 1
        if self.used > MOST_FILES:
            return None
        for base in (near.parent, *self._above()):
            try:
                path = Path(os.path.realpath(base / name.lstrip("/")))
                if self._may_show(path):
                    with path.open("rb") as file:
                        text = file.read(LARGEST).decode("utf-8", "replace").replace("\r\n", "\n")
                    return path, text.rstrip("\n").split("\n")
            except (OSError, ValueError):
                continue
        return None

    def _may_show(self, path: Path) -> bool:
        if not path.is_relative_to(self.project) or path.suffix.lower() not in _CODE | _TEXTS:
            return False
        is_hidden = any(part.startswith(".") for part in path.relative_to(self.project).parts)
        return not is_hidden and path.is_file()


def expanded(lines: Sequence[str], first_number: int, includes: Includes | None) -> Iterator[Line]:
    """The lines, each with its number, with the included files in place."""
    yield from _expanded([(line, at) for at, line in enumerate(lines, first_number)], includes, None, 0)


def _expanded(
    lines: Sequence[Line], includes: Includes | None, file: Path | None, depth: int
) -> Iterator[Line]:
    at, fence = 0, ""
    while at < len(lines):
        line, number = lines[at]
        at += 1
        is_candidate = _MAY_INCLUDE.match(line)
        matches = (pattern.match(line[:500]) for pattern in _INCLUDES) if is_candidate else ()
        if (found := next(filter(None, matches), None)) is None:
            if (mark := line.lstrip()[:3]) in ("```", "~~~"):
                fence = "" if fence == mark else fence or mark
            yield line, number
            continue
        groups, options = found.groupdict(), {}
        if is_directive := groups.get("rest") or groups.get("myst"):
            while at < len(lines) and (option := _OPTION.match(lines[at][0])):
                options[option[1]] = option[2].strip()
                at += 1
            if groups.get("fence"):
                ends = (end + 1 for end in range(at, len(lines)) if lines[end][0].strip() == groups["fence"])
                at = next(ends, at)
        if includes is None or (got := includes.lines_of(groups["file"], file or includes.page)) is None:
            continue
        path, content = got
        part = _part(content, options.get("lines") or groups.get("part") or "", options)[:MOST_LINES]
        indent, language = groups["indent"], path.suffix[1:]
        shown = [(f"{indent}{each}".rstrip(), number) for each in part]
        if not fence and path.suffix.lower() in _TEXTS and is_directive != "literalinclude":
            yield from _expanded(shown, includes, path, depth + 1) if depth < DEEPEST else shown
        elif groups.get("rest"):
            yield f"{indent}.. code-block:: {language}", number
            yield from ((f"    {each}".rstrip(), number) for each, _ in [("", 0), *shown, ("", 0)])
        elif fence:
            yield from shown
        else:
            yield from ((f"{indent}````{language}", number), *shown, (f"{indent}````", number))


def _part(lines: list[str], selector: str, options: Mapping[str, str]) -> list[str]:
    """The part of a file that a selector ("1:9,12", or a name) or Sphinx's options name; all of it, without
    front matter, if they name nothing in it."""
    if lines[0] == "---" and "---" in lines[1:100]:
        lines = lines[lines.index("---", 1) + 1 :]
    ranges = [_RANGE.match(each) for each in selector.split(",")[:20]]
    if selector and all(ranges):
        bounds = [(int(each[1] or 1), each[2]) for each in ranges if each]
        chosen = [lines[max(0, a - 1) : a if b is None else int(b or len(lines))] for a, b in bounds]
        lines = list(itertools.chain.from_iterable(chosen))
    elif selector:
        named = [at for at, line in enumerate(lines) if selector in line and _MARKER.search(line)]
        if named:
            lines = lines[named[0] + 1 : named[1] if len(named) > 1 else None]
    if lines and (name := options.get("pyobject", "").rpartition(".")[2]):
        pattern = re.compile(rf"\s*(?:async )?(?:def|class) {re.escape(name)}\b")
        start = next((at for at, line in enumerate(lines) if pattern.match(line)), 0)
        margin = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
        below = re.compile(rf"\s*$|{margin}\s")
        lines = [lines[start], *itertools.takewhile(below.match, lines[start + 1 :])]
    for option in ("start-after", "end-before"):
        marks = (at for at, line in enumerate(lines) if option in options and options[option] in line)
        if (at := next(marks, None)) is not None:
            lines = lines[at + 1 :] if option == "start-after" else lines[:at]
    return [line for line in lines if not _MARKER.search(line)]
