"""reStructuredText as people write it: loose text below a directive, groups, and link targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.knowledge.reading.test_folders import read

API = [
    # The text is not indented below the directive.
    ("``f()``\n~~~~~~~\n\n.. method:: K.f(x)\n\nDoes it.\n\nMore.\n\nNext\n~~~~\n\nOther.",
     [("K.f", "Does it.\n\nMore."), ("Next", "Other.")]),
    (".. class:: K\n\n   Is one.\n\n   .. attribute:: a\n\n   The a.\n\n   .. attribute:: b\n\n   The b.",
     [("K", "Is one."), ("K.a", "The a."), ("K.b", "The b.")]),
    (".. class:: K\n\n.. note:: Not here.\n\nDoes it.\n\n.. function:: g()\n\n   Other.",
     [("K", ".. note:: Not here.\n\nDoes it."), ("g", "Other.")]),
    # What an indented text follows, ends where the text does.
    (".. function:: f()\n\n   Does it.\n\nProse.", [("f", "Does it."), ("a", "Prose.")]),
    # One text for several.
    (".. data:: A\n.. data:: B\n\n   Both.", [("A", "Both."), ("B", "Both.")]),
    (".. c:function:: int a(int n)\n\n.. c:function:: int b(int n)\n\n   Both.",
     [("a", "Both."), ("b", "Both.")]),
    (".. c:var:: const char *a[3]\n\n   A.\n\n.. cpp:function:: std::vector<int> ns::f(int)\n\n   F.",
     [("a", "A."), ("ns::f", "F.")]),
    (".. method:: f()\n.. method:: af()\n\nBoth.", [("f", "Both."), ("af", "Both.")]),
    (".. class:: K\n\n.. function:: f()\n\n   Only f.", [("K", "K"), ("f", "Only f.")]),
    # No text at all.
    (".. function:: f(x)\n\nHeading\n=======\n\nText.", [("f", "f(x)"), ("Heading", "Text.")]),
    (".. class:: K\n\n   .. attribute:: a\n\n      The a.\n\nHeading\n=======\n\nText.",
     [("K", "K"), ("K.a", "The a."), ("Heading", "Text.")]),
    # Lines that say nothing.
    (":orphan:\n\nFOO\n===\n\n.. setting:: FOO\n\nText.\n\n.. toctree::\n   :hidden:\n\n   a\n\nMore.",
     [("FOO", "Text.\n\nMore.")]),
    ("Head\n====\n\nOne.\n\n.. _x: https://a.b\n.. __: https://a.b\n.. _label:\n\nTwo.", [("Head",
     "One.\n\nTwo.")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), API)
def test_each_api_has_its_text(tmp_path: Path, text: str, expected: list[tuple[str, str]]) -> None:
    assert [(each.name, each.text) for each in read(tmp_path, "a.rst", text)] == expected


@pytest.mark.parametrize(
    ("label", "anchor"),
    [
        (".. _start here:", "start-here"),
        (".. _`start here`:", "start-here"),
        (".. _Flask: https://flask.example/", "head"),
        (".. _Flask:\n   https://flask.example/", "head"),
        (".. _a: b_", "head"),
        (".. __: https://flask.example/", "head"),
    ],
)
def test_only_a_label_is_an_anchor(tmp_path: Path, label: str, anchor: str) -> None:
    (passage,) = read(tmp_path, "a.rst", f"{label}\n\nHead\n====\n\nText.\n", base_url="https://a.example")
    assert passage.url == f"https://a.example/a.html#{anchor}"
