"""OpenAPI documents: an operation is one passage with all that a caller needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assistant.knowledge.passage import Passage
from assistant.knowledge.reading.folders import files_of, read_file
from tests.knowledge.reading.samples import passages_of

HERE = Path(__file__).parent


def test_operations_and_schemas() -> None:
    passages = passages_of(HERE / "pets.yaml")
    assert [(each.title, each.text, each.location) for each in passages] == [
        ("Pets", "Keeps **pets**.\n\nVersion 2.1.0\n\nServer: `https://pets.example/v2`", "pets.yaml:1"),
        (
            "Pets › GET /pets/{id}",
            "Get a pet\n\nOperation: `getPet`\n\n**Parameters**\n\n"
            "- `id` (path, integer (int64), required): Which pet\n\n"
            "**Responses**\n\n- `200`: A pet\n- `404`: No such pet\n\n"
            "`application/json` Pet\n\n- `id` (integer, by default `1`)\n- `parent` (Pet): An animal\n"
            "- `loop` (Loop)",
            "pets.yaml:13",
        ),
        (
            "Pets › PUT /pets/{id}",
            "**Deprecated.**\n\nChange a pet\n\n**Parameters**\n\n"
            "- `id` (path, integer (int64), required): Which pet\n\n"
            "**Request body**, required\n\n`application/json` object\n\n"
            "- `name` (string, required): What it is called\n"
            "- `kinds` (array of string, one of `cat`, `dog`)",
            "pets.yaml:24",
        ),
        (
            "Pets › Pet",
            "An animal\n\nSchema: object\n\n- `id` (integer, by default `1`)\n- `parent` (Pet): An animal\n"
            "- `loop` (Loop)",
            "pets.yaml:47",
        ),
        ("Pets › Loop", "Schema: Loop", "pets.yaml:53"),
    ]


def read(folder: Path, name: str, text: str) -> tuple[list[Passage], list[str]]:
    (folder / name).write_text(text)
    warnings: list[str] = []
    passages = [each for file in files_of(folder) for each in read_file(file, folder, warn=warnings.append)]
    return passages, warnings


def test_json_with_the_version_at_its_end_is_found_and_other_json_is_not(tmp_path: Path) -> None:
    definitions = {f"Box{n}": {"type": "object", "description": "A box. " * 20} for n in range(800)}
    document = {"definitions": definitions, "info": {"title": "Boxes"}, "paths": {}, "swagger": "2.0"}
    passages, warnings = read(tmp_path, "api.json", json.dumps(document, indent=1))
    assert (len(passages), warnings) == (801, [])
    (tmp_path / "api.json").unlink()
    for text in ('{"name": "box", "openapi": true}', "[]", "", '{"a": {"swaggers": "2.0"}}'):
        assert read(tmp_path, "package.json", text) == ([], [])
    assert read(tmp_path, "mkdocs.yml", "nav:\n  - openapi: api.md\n") == ([], [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("openapi: 3.0.0\na: [" + "[" * 100_000, "it is nested too deeply"),
        ("openapi: 3.0.0\na: " + "- " * 50_000, "it is nested too deeply"),
        ("openapi: 3.0.0\n" + "\n".join(" " * n + "a:" for n in range(1, 1500)), "it is not valid YAML"),
        ("openapi: 3.0.0\nb: *nowhere", "it is not valid YAML"),
        ("openapi: 3.0.0\nb: !!python/object/apply:os.system [ls]", "it is not valid YAML"),
        ('{"openapi": "3.0.0", "a": ' + "[" * 100_000, "it is nested too deeply"),
    ],
    ids=range(6),
)
def test_hostile_documents_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    _, warnings = read(tmp_path, "api.yaml", text)
    assert warnings == [f"api.yaml is left out, since {reason}."]


def test_aliases_and_merge_keys_that_would_grow_without_end_stay_small(tmp_path: Path) -> None:
    lines = ["openapi: 3.0.0", "a0: &a0 {type: object, properties: {x: {type: string}}}"]
    lines += [
        f"a{n}: &a{n} {{properties: {{{', '.join(f'p{each}: *a{n - 1}' for each in range(9))}}}}}"
        for n in range(1, 30)
    ]
    lines += [
        f"m{n}: &m{n}\n  <<: [{', '.join([f'*a{n}' if n < 2 else f'*m{n - 1}'] * 9)}]" for n in range(1, 12)
    ]
    passages, _ = read(tmp_path, "api.yaml", "\n".join([*lines, "definitions:\n  All: *a29\n  Merged: *m11"]))
    assert [each.name for each in passages] == ["API", "All", "Merged"]
    assert sum(len(each.text) for each in passages) < 500_000
