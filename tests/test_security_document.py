"""SECURITY.md names the tests that show what it says; each of them is there."""

import re

from tests.test_imports import ROOT

DOCUMENT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_every_test_that_it_names_exists() -> None:
    rows = [row for row in DOCUMENT.splitlines() if row.startswith("| ") and "tests/" in row]
    assert rows
    for row in rows:
        code = "\n".join(
            (ROOT / path).read_text(encoding="utf-8") for path in re.findall(r"tests/\S+?\.py", row)
        )
        for name in re.findall(r"\btest_\w+(?=`)", row):
            assert f"def {name}(" in code, name


def test_every_file_that_it_names_exists() -> None:
    for path in re.findall(r"`((?:assistant|prompts|serving|storage)/[\w/]+\.\w+)`", DOCUMENT):
        assert (ROOT / path).is_file(), path
