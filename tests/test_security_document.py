"""SECURITY.md promises only what a test holds, and each test that it names is there."""

import re

from tests.test_imports import ROOT

DOCUMENT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PROMISES = DOCUMENT.partition("## What is promised")[2].partition("\n## ")[0]
# `tests/a/test_b.py::test_c`, or `tests/a/test_b.py`: `test_c`, `test_d`
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+)`|`: ((?:`test_\w+`(?:, )?)+))")


def named(row: str) -> list[tuple[str, str]]:
    """The files and the tests in them that a row names."""
    return [
        (path, test)
        for path, one, several in NAMED.findall(row)
        for test in [one, *re.findall(r"\w+", several)]
        if test
    ]


def test_each_promise_names_tests_that_exist() -> None:
    rows = [row for row in PROMISES.splitlines() if row.startswith("| **")]
    assert len(rows) > 20
    for row in rows:
        tests = named(row)
        assert tests, row
        assert len(tests) == len(re.findall(r"\btest_\w+(?=`)", row)), row
        for path, test in tests:
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), (path, test)


def test_nothing_is_promised_without_a_row() -> None:
    said = [line for line in PROMISES.splitlines()[1:] if line and not line.startswith("|")]
    assert said == ["The tests in a row fail when its promise is broken."]
