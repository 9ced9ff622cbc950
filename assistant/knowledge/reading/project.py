"""The project that a folder of documentation is about: its name, by which questions mean it, and its version.

They come from what generators and packagers read, in the folder or directly above it, and nothing of it is
executed; else from the title of its pages, and else from the names of the folders.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from assistant.knowledge.reading.folders import bytes_of, decode, printable
from assistant.knowledge.reading.page import word_set

LARGEST = 256 << 10  # bytes of a file that are read
LONGEST = 60  # characters of a name

_GENERIC = word_set(
    "docs doc documentation documents manual manuals source sources src content contents en en-us english "
    "html htmldocs site website web www build _build output public pages book guide guides api "
    "reference latest "
    "stable main master static _docs usr share home root tmp project projects repo my-website my-site"
)
_AFTER_NAME = re.compile(r"[-_.](?:docs?|documentation|manual|html)(?=$|[-_.\d])", re.IGNORECASE)
_VERSIONED = re.compile(r"(?P<name>.+?)[-_]v?(?P<version>\d+(?:\.\w+)+)$")
_TITLE_WORDS = re.compile(
    r"\s+(?:[•|–—]\s.*|documentation|docs|manual|reference manual|website)$", re.IGNORECASE
)
_PAGE_TITLE = re.compile(
    r"<title>(?:[^<]*(?:[—–|(]| - |&#?\w+;)\s*)?(?P<name>[^<]{1,80}?)(?:\s+v?(?P<version>\d+(?:\.\w+)+))?\s+"
    r"(?:documentation|manual|docs|reference manual|api)\b",
    re.IGNORECASE,
)
_INVENTORY = re.compile(rb"# Sphinx inventory version \d\n# Project: (.*)\n# Version: (.*)\n")

Found = tuple[object, object]  # a name and a version, if they are strings


def _sphinx(text: str) -> Found:
    values = {
        target.id: node.value.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return values.get("project"), values.get("release") or values.get("version")


def _toml(text: str) -> Found:
    data = tomllib.loads(text)
    tables: list[Any] = [data, *(data.get(name) for name in ("project", "package", "book"))]
    tables.append(tool.get("poetry") if isinstance(tool := data.get("tool"), dict) else None)
    found = [table for table in tables if isinstance(table, dict)]
    names = [table.get("name") or table.get("title") for table in found]
    versions = [table.get("version") for table in found]
    return next(filter(None, names), None), next(filter(None, versions), None)


def _json(text: str) -> Found:
    data = json.loads(text)
    name = str(data.get("name") or "").rpartition("/")[2]
    return name, None if data.get("private") else data.get("version")


def _setting(text: str) -> Found:
    """YAML and JavaScript: lines such as `site_name: Name` and `title: 'Name',`."""
    values = []
    for names in ("site_name|title|name", "version"):
        found = re.search(
            rf"^\s*(?:{names})\s*:\s*(['\"]?)([^'\"\n#]+)\1\s*,?\s*(?:#.*)?$", text, re.MULTILINE
        )
        values.append(found[2] if found else None)
    return values[0], values[1]


_READERS: tuple[tuple[str, Callable[[str], Found]], ...] = (
    ("conf.py", _sphinx),
    ("source/conf.py", _sphinx),
    *((name, _setting) for name in ("mkdocs.yml", "mkdocs.yaml", "antora.yml", "_config.yml", "_quarto.yml")),
    ("docusaurus.config.js", _setting),
    ("docusaurus.config.ts", _setting),
    *((name, _toml) for name in ("book.toml", "hugo.toml", "pyproject.toml", "Cargo.toml")),
    ("package.json", _json),
)


def project_of_folder(root: Path) -> tuple[str, str]:
    """The name and the version ("" if nothing states it) of the project that the folder is about."""
    name = version = ""
    for found_name, found_version in _found(root):
        if not name and isinstance(found_name, str):
            shown = printable(_TITLE_WORDS.sub("", " ".join(found_name.split())))[:LONGEST]
            name = "" if shown.lower() in _GENERIC else shown
        if name and isinstance(found_version, str) and re.match(r"v?\d+\.\d", found_version):
            version = version or printable(found_version.strip())[:LONGEST]
        if name and version:
            break
    return name or printable(root.name or str(root)), version


def _found(root: Path) -> Iterator[Found]:
    """What each source states, the most trustworthy first."""
    for folder in (root, root.parent):
        for name, reader in _READERS:
            try:
                yield reader(decode(bytes_of(folder / name, LARGEST)[0]))
            except (OSError, ValueError, AttributeError, RecursionError, MemoryError, SyntaxError):
                continue
        if folder == root:
            yield from _found_in_pages(root)
    for folder in [root, *root.parents][:6]:
        shown = _AFTER_NAME.sub("", folder.name)
        versioned = _VERSIONED.match(shown)
        if shown.lower() not in _GENERIC:
            yield (versioned["name"], versioned["version"]) if versioned else (shown, None)
            return


def _found_in_pages(root: Path) -> Iterator[Found]:
    try:
        data, _ = bytes_of(root / "objects.inv", LARGEST)
        if found := _INVENTORY.match(data):
            yield decode(found[1]), decode(found[2])
    except (OSError, ValueError):
        pass
    try:
        data, _ = bytes_of(root / "index.html", LARGEST)
        if title := _PAGE_TITLE.search(decode(data)):
            yield title["name"], title["version"]
    except (OSError, ValueError):
        pass
