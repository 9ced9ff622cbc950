"""The name and version of the project that a folder is about, from what states them."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.knowledge.reading.project import licence_of, project_of_folder


@pytest.mark.parametrize(
    ("place", "files", "expected"),
    [
        ("acme/docs", {"docs/conf.py": "import os\nproject = 'Acme Kit'\nrelease = '2.1'\n"},
         ("Acme Kit", "2.1")),
        ("acme/docs", {"docs/conf.py": "project = name()\nrelease = f'{x}'\n"}, ("acme", "")),
        ("acme/docs", {"docs/conf.py": "project = 'Acme'\nimport sys; sys.exit(\n"}, ("Acme", "")),
        ("acme/docs", {"docs/source/conf.py": "project = 'Acme'\n"}, ("Acme", "")),
        ("acme/docs", {"mkdocs.yml": "site_name: Acme Docs  # x\nnav:\n"}, ("Acme", "")),
        ("acme/src", {"book.toml": "[book]\ntitle = 'The Acme Book'\n"}, ("The Acme Book", "")),
        ("acme/docs", {"docusaurus.config.js": "module.exports = {\n  title: 'Acme',\n"}, ("Acme", "")),
        ("acme/docs", {"docs/antora.yml": "name: acme\ntitle: Acme Server\nversion: '5.2'\n"}, ("acme",
         "5.2")),
        ("acme/docs", {"docs/_config.yml": "title: Acme • Simple things\n"}, ("Acme", "")),
        ("x/docs", {"pyproject.toml": "[project]\nname = 'acme'\nversion = '1.0'\n"}, ("acme", "1.0")),
        ("x/docs", {"package.json": '{"name": "@acme/kit", "version": "3.2.1"}'}, ("kit", "3.2.1")),
        ("x/docs", {"package.json": '{"name": "docs", "private": true, "version": "0.0.0"}'}, ("x", "")),
        ("x/docs", {"Cargo.toml": "[package]\nname = 'acme'\nversion = '0.3.0'\n"}, ("acme", "0.3.0")),
        ("x/y/docs", {"../pyproject.toml": "[project]\nname = 'acme'\n"}, ("y", "")),
        ("x/html",
         {"html/objects.inv": "# Sphinx inventory version 2\n# Project: Acme\n# Version: 4.0\n"},
         ("Acme", "4.0")),
        ("x/html", {"html/index.html": "<title>Acme 15.2 Documentation</title>"}, ("Acme", "15.2")),
        ("x/html", {"html/index.html": "<title>3.11.2 Documentation</title>"}, ("x", "")),
        ("x/api", {"api/index.html": "<title>Overview (Acme Kit 3.1 API)</title>"}, ("Acme Kit", "3.1")),
        ("acme-1.4.2/docs/en", {}, ("acme", "1.4.2")),
        ("acme-doc/html", {}, ("acme", "")),
        ("handbook", {}, ("handbook", "")),
        ("acme/docs", {"docs/conf.py": "project = '" + "(" * 100_000}, ("acme", "")),
        ("acme/docs", {"package.json": "[" * 100_000}, ("acme", "")),
        ("acme/docs", {"package.json": "[]", "pyproject.toml": "project = 1",
         "Cargo.toml": "package = []"}, ("acme", "")),
    ],
)  # fmt: skip
def test_the_name_comes_from_what_states_it(
    tmp_path: Path, place: str, files: dict[str, str], expected: tuple[str, str]
) -> None:
    root = tmp_path / place
    root.mkdir(parents=True)
    for name, text in files.items():
        path = root.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert project_of_folder(root) == expected


@pytest.mark.parametrize(
    ("name", "text", "licence"),
    [
        (
            "LICENSE",
            "MIT\n\nPermission is hereby granted, free of charge, to any to deal in the Software",
            "MIT",
        ),
        ("LICENCE.txt", "Apache License\n  Version 2.0, January 2004", "Apache-2.0"),
        (
            "COPYING",
            "SPDX-License-Identifier: GPL-3.0 WITH GCC-exception-3.1\n",
            "GPL-3.0 WITH GCC-exception-3.1",
        ),
        ("LICENSE.md", "GNU GENERAL PUBLIC LICENSE Version 3", ""),
        (
            "LICENSE",
            "Apache License Version 2.0, January 2004. "
            "Permission is hereby granted, free of charge, to deal in the Software",
            "",
        ),
        ("LICENSE", "Ask us.", ""),
    ],
)
def test_a_plainly_stated_licence_is_recognised(tmp_path: Path, name: str, text: str, licence: str) -> None:
    (tmp_path / name).write_text(text)
    assert licence_of(tmp_path) == licence
