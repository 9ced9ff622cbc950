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
from collections.abc import Iterator, Sequence
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
    ".py .pyi .pyx .js .mjs .cjs .jsx .ts .tsx .vue .svelte .rs .go .java .kt .scala .swift .c .h .cc .cpp"
    " .hpp .cs .rb .php .pl .lua .r .jl .hs .ml .ex .exs .erl .clj .dart .sh .bash .zsh .fish .ps1 "
    ".bat .sql .css"
    " .scss .proto .graphql .diff .patch"
)
_INCLUDE = re.compile(
    r"""(?P<indent>[ ]*)(?:
      \{\*[ ]*(?P<code>[^\s*]+)(?P<fastapi>[^*]*)\*\}
    | ;*-{1,2}8<-{1,2}[ ]+["'](?P<snippet>[^"']+)["']
    | \{\{[ ]*\#(?:rustdoc_)?(?:include|playground)[ ]+(?P<mdbook>[^\s}]+)[^}]*\}\}
    | \{%-?[ ]*include(?:[_-]relative|[_-]markdown)?[ ]+["']?(?P<liquid>[^\s"'%]+)[^%]*%\}
    | \{![> ]*(?P<bang>[^!\s]+)[ ]*!\}
    | \{\{[<%][ ]*(?:include|readfile|code-include)[ ]+(?:file=)?["']?(?P<hugo>[^\s"'>%]+)[^}]*[>%]\}\}
    | <!--[ ]*@include:[ ]*(?P<vitepress>[^\s{>]+)[^>]*-->
    | <<<[ ]+(?P<shown>@?[^\s{]+)[ ]*(?:\{(?P<ranges>[^}]*)\})?.*
    | \.\.[ ]+(?P<rest>include|literalinclude)::[ ]+(?P<file>\S+)
    | (?P<fence>`{3,}|:{3,})\{(?P<myst>include|literalinclude)\}[ ]*(?P<target>\S+)
    )\s*$""",
    re.VERBOSE,
)
_MAY_INCLUDE = re.compile(
    r"\s*(?:\{[*{%!]|;*--?8<-|<!--\s*@|<<<\s|\.\.\s+(?:literal)?include::|(?:```|:::).*nclude\})"
)
_OPTION = re.compile(r"\s*:([\w-]+):\s*(.*)$")
_RANGE = re.compile(r"(\d*)(?:\s*[-:]\s*(\d*))?$")
_MARKER = re.compile(r"--8<--|\bANCHOR(?:_END)?:|\[(?:start|end):|#\s*(?:end)?region\b|//\s*docs:")


@dataclass(slots=True)
class Includes:
    """The files that one page may include."""

    page: Path
    folder: Path
    used: int = 0
    project: Path = field(init=False)

    def __post_init__(self) -> None:
        self.project = project_of(self.folder)

    def lines_of(self, name: str, near: Path) -> tuple[Path, list[str]] | None:
        """A file that may be shown, and its first lines. It is sought beside the file that includes it, then
        in the folder and in each folder above it, as site generators do."""
        if self.used >= MOST_FILES or "\0" in name or "://" in name:
            return None
        self.used += 1
        above = [self.folder, *self.folder.parents][: LEVELS_ABOVE + 1]
        name = name.removeprefix("@").lstrip("/")
        for base in (near.parent, *above):
            try:
                path = Path(os.path.realpath(base / name))
                if not self._may_show(path):
                    continue
                with path.open("rb") as file:
                    data = file.read(LARGEST)
            except (OSError, ValueError):
                continue
            return path, data.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n").split("\n")
        return None

    def _may_show(self, path: Path) -> bool:
        if not path.is_relative_to(self.project) or path.suffix.lower() not in _CODE | _TEXTS:
            return False
        is_hidden = any(part.startswith(".") for part in path.relative_to(self.project).parts)
        return not is_hidden and path.is_file()


def project_of(folder: Path) -> Path:
    """The folder of the project that a folder of documentation belongs to."""
    above = [folder, *folder.parents][: LEVELS_ABOVE + 1]
    return next(
        (each for each in above if any(map(os.path.lexists, (each / n for n in PROJECT_FILES)))), folder
    )


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
        if not _MAY_INCLUDE.match(line) or (found := _INCLUDE.match(line[:500])) is None:
            if (mark := line.lstrip()[:3]) in ("```", "~~~"):
                fence = "" if fence == mark else fence or mark
            yield line, number
            continue
        options: dict[str, str] = {}
        if found["rest"] or found["myst"]:
            while at < len(lines) and (option := _OPTION.match(lines[at][0])):
                options[option[1]] = option[2].strip()
                at += 1
            if found["myst"]:
                at = next(
                    (end + 1 for end in range(at, len(lines)) if lines[end][0].strip() == found["fence"]), at
                )
        groups = (
            "code",
            "snippet",
            "mdbook",
            "liquid",
            "bang",
            "hugo",
            "vitepress",
            "shown",
            "file",
            "target",
        )
        target = next(found[group] for group in groups if found[group])
        name, selector = _selected(target, found, options)
        if includes is None or (got := includes.lines_of(name, file or includes.page)) is None:
            continue
        path, content = got
        content = _part(content, selector, options)[:MOST_LINES]
        indent = found["indent"]
        shown = [(f"{indent}{each}".rstrip(), number) for each in content]
        if (
            not fence
            and path.suffix.lower() in _TEXTS
            and "literalinclude" not in (found["rest"], found["myst"])
        ):
            yield from _expanded(shown, includes, path, depth + 1) if depth < DEEPEST else shown
        elif found["rest"]:
            yield f"{indent}.. code-block:: {path.suffix[1:]}", number
            yield from ((f"    {each}".rstrip(), number) for each, _ in [("", 0), *shown, ("", 0)])
        else:
            fences = ("", "") if fence else (f"{indent}````{path.suffix[1:]}", f"{indent}````")
            yield from ((each, number) for each in filter(None, fences[:1]))
            yield from shown
            yield from ((each, number) for each in filter(None, fences[1:]))


def _selected(target: str, found: re.Match[str], options: dict[str, str]) -> tuple[str, str]:
    """The name of the file, and the part of it: ranges of lines such as "1:9,12", or a name."""
    name, _, selector = target.partition(":")
    if ranges := re.findall(r"ln\[([\d:, ]+)\]", found["fastapi"] or ""):
        selector = ranges[0]
    return name, options.get("lines") or selector or found["ranges"] or ""


def _part(lines: list[str], selector: str, options: dict[str, str]) -> list[str]:
    """The part of a file that a selector or Sphinx's options name; all of it, without front matter, if they
    name nothing in it."""
    if lines[0] == "---" and "---" in lines[1:100]:
        lines = lines[lines.index("---", 1) + 1 :]
    if selector and all(_RANGE.match(each.strip()) for each in selector.split(",")):
        ranges = [_RANGE.match(each.strip()) for each in selector.split(",")[:20]]
        chosen: list[str] = []
        for found in filter(None, ranges):
            start = int(found[1][:6] or 1)
            end = int(found[2][:6] or len(lines)) if found[2] is not None else start
            chosen += lines[max(0, start - 1) : end]
        lines = chosen
    elif selector:
        named = [at for at, line in enumerate(lines) if selector in line and _MARKER.search(line)]
        if named:
            lines = lines[named[0] + 1 : named[1] if len(named) > 1 else None]
    if lines and (name := options.get("pyobject", "").rpartition(".")[2]):
        pattern = re.compile(rf"\s*(?:async )?(?:def|class) {re.escape(name)}\b")
        start = next((at for at, line in enumerate(lines) if pattern.match(line)), 0)
        depth = _indent(lines[start])
        inner = itertools.takewhile(
            lambda line: not line.strip() or _indent(line) > depth, lines[start + 1 :]
        )
        lines = [lines[start], *inner]
    for option in ("start-after", "end-before"):
        marks = (at for at, line in enumerate(lines) if option in options and options[option] in line)
        if (at := next(marks, None)) is not None:
            lines = lines[at + 1 :] if option == "start-after" else lines[:at]
    return [line for line in lines if not _MARKER.search(line)]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
