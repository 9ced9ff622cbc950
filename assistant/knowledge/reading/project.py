"""The project that a folder of documentation is about: its name, by which questions mean it, its version and
its licence.

They come from what generators and packagers read, in the folder or directly above it, and nothing of it is
executed; else from the title of its pages, and else from the names of the folders.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from assistant.knowledge.reading.folders import bytes_of, decode, printable
from assistant.knowledge.reading.page import word_set

LARGEST = 256 << 10  # bytes of a file that are read
LONGEST = 60  # characters of a name

# fmt: off
_FILES = (
    "conf.py", "source/conf.py", "mkdocs.yml", "mkdocs.yaml", "antora.yml", "_config.yml", "_quarto.yml",
    "docusaurus.config.js", "docusaurus.config.ts", "book.toml", "hugo.toml", "pyproject.toml", "Cargo.toml",
    "package.json",
)
# fmt: on
# A setting in any of these files: `project = "Name"`, `site_name: Name`, `"name": "@scope/name",`.
_SETTING = (
    r"""(?:^|[{{,])[ \t]*["']?(?:{})["']?[ \t]*(?::[ \t]*["']?|=[ \t]*["'])"""
    r"""([^"'\n#{{[]{{1,200}})(?:["'\n#]|\Z)"""
)
_NAME = re.compile(_SETTING.format("site_name|project|title|name"), re.MULTILINE)
_VERSION = re.compile(_SETTING.format("release|version"), re.MULTILINE)
_GENERIC = word_set(
    "docs doc documentation documents manual manuals source sources src content contents en en-us english "
    "html htmldocs site website web www build _build output public pages book guide guides api reference "
    "latest stable main master static _docs usr share home root tmp project projects repo my-website my-site"
)
_AFTER_NAME = re.compile(r"[-_.](?:docs?|documentation|manual|html)(?=$|[-_.\d])", re.IGNORECASE)
_VERSIONED = re.compile(r"(?P<name>.+?)[-_]v?(?P<version>\d+(?:\.\w+)+)$")
_TITLE_WORDS = re.compile(
    r"^@.*/|\s+(?:[•|–—]\s.*|documentation|docs|manual|reference manual|website)$", re.IGNORECASE
)
_PAGE_TITLE = re.compile(
    r"<title>(?:[^<]*(?:[—–|(]| - |&#?\w+;)\s*)?(?P<name>(?!v?\d+\.\d)[^<]{1,80}?)"
    r"(?:\s+v?(?P<version>\d+(?:\.\w+)+))?\s+"
    r"(?:documentation|manual|docs|reference manual|api)\b",
    re.IGNORECASE,
)
_INVENTORY = re.compile(
    r"# Sphinx inventory version \d\n# Project: (?P<name>.*)\n# Version: (?P<version>.*)\n"
)

_LICENCE_FILE = re.compile(r"(?:licen[cs]e|copying|unlicense)(?:\.(?:md|txt|rst))?", re.IGNORECASE)
_LICENCES = {
    "MIT": r"Permission is hereby granted, free of charge, .{0,400}?to deal in the Software",
    "Apache-2.0": r"Apache License,? Version 2\.0, January 2004",
    "BSD-3-Clause": r"Redistribution and use in source and binary forms.{0,1000}Neither the name",
}
_SPDX = re.compile(
    r"SPDX-License-Identifier:\s*([A-Za-z0-9][\w.+-]{1,40}(?: (?:OR|AND|WITH) [\w.+-]{2,40})*)"
)


def project_of_folder(root: Path) -> tuple[str, str]:
    """The name and the version ("" if nothing states it) of the project that the folder is about."""
    name = version = ""
    for found_name, found_version in _found(root):
        if not name:
            shown = printable(_TITLE_WORDS.sub("", " ".join(found_name.split())))[:LONGEST]
            name = "" if shown.lower() in _GENERIC else shown
        if name and not version and re.match(r"v?\d+\.\d", found_version):
            version = printable(found_version.strip())[:LONGEST]
        if name and version:
            break
    return name or printable(root.name or str(root)), version


def _found(root: Path) -> Iterator[tuple[str, str]]:
    """The name and the version that each source states, or "", the most trustworthy source first."""
    for folder in (root, root.parent):
        for file in _FILES:
            text = _text_of(folder / file)
            name, version = _NAME.search(text), _VERSION.search(text)
            yield name[1] if name else "", version[1] if version else ""
        for file, pattern in (("objects.inv", _INVENTORY), ("index.html", _PAGE_TITLE)):
            if folder == root and (found := pattern.search(_text_of(folder / file))):
                yield found["name"], found["version"] or ""
    for folder in [root, *root.parents][:6]:
        shown = _AFTER_NAME.sub("", folder.name)
        if shown.lower() not in _GENERIC:
            versioned = _VERSIONED.match(shown)
            yield (versioned["name"], versioned["version"]) if versioned else (shown, "")
            return


def licence_of(root: Path) -> str:
    """The SPDX name of a folder's licence, if a licence file states one plainly; otherwise ""."""
    try:
        names = sorted(name for name in os.listdir(root) if _LICENCE_FILE.fullmatch(name))
    except (OSError, ValueError):
        return ""
    licences = set()
    for name in names[:4]:
        text = " ".join(_text_of(root / name).split())
        if found := _SPDX.search(text):
            licences.add(found[1])
        else:
            licences.update(
                name for name, pattern in _LICENCES.items() if re.search(pattern, text, re.IGNORECASE)
            )
    return licences.pop() if len(licences) == 1 else ""


def _text_of(path: Path) -> str:
    try:
        return decode(bytes_of(path, LARGEST)[0])
    except (OSError, ValueError):
        return ""
