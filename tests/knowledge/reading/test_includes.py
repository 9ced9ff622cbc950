"""Files that a page includes: shown within the project, and never from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.knowledge.reading import includes
from tests.knowledge.reading.test_folders import one, read

CODE = "import acme\n\n# ANCHOR: run\ndef run():\n    acme.go()\n# ANCHOR_END: run\n\nrun()\n"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder of documentation, two levels below the project that has it."""
    (tmp_path / "secret.py").write_text("SECRET = 1")
    project = tmp_path / "project"
    (project / "code" / ".hidden").mkdir(parents=True)
    (project / "pyproject.toml").write_text("[project]\nname = 'acme'\nversion = '1.0'\n")
    (project / "code" / "app.py").write_text(CODE)
    (project / "code" / ".hidden" / "app.py").write_text("SECRET = 2")
    (project / "code" / "key.pem").write_text("SECRET = 3")
    (project / "code" / "link.py").symlink_to(tmp_path / "secret.py")
    docs = project / "docs" / "en"
    docs.mkdir(parents=True)
    (docs / "part.md").write_text("---\nx: 1\n---\nA part.\n")
    (docs / "again.md").write_text('--8<-- "again.md"\n--8<-- "again.md"\nOnce.\n')
    return docs


RUN = "def run():\n    acme.go()"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{* ../../code/app.py ln[4:5] hl[5] *}", f"````py\n{RUN}\n````"),
        ("{* ../code/app.py ln[1,8] *}", "````py\nimport acme\nrun()\n````"),
        ('```py\n--8<-- "code/app.py:4:5"\n```', f"```py\n{RUN}\n```"),
        ('```py\n--8<-- "code/app.py:run"\n```', f"```py\n{RUN}\n```"),
        ("```py\n{{#rustdoc_include ../../code/app.py:run}}\n```", f"```py\n{RUN}\n```"),
        ("<<< @/../../code/app.py{4-5}", f"````py\n{RUN}\n````"),
        ("```{literalinclude} ../../code/app.py\n:pyobject: run\n```", f"````py\n{RUN}\n````"),
        ("{!part.md!}", "A part."),
        ("```{include} part.md\n```", "A part."),
        ("- one\n  {* ../../code/app.py ln[8] *}", "- one\n  ````py\n  run()\n  ````"),
        ("{* ../../code/gone.py *}", ""),
        ("{% include nav.html %}", ""),
        ("{* ../../../secret.py *}", ""),
        ("{* /etc/passwd *}", ""),
        ("{* ../../code/.hidden/app.py *}", ""),
        ("{* ../../code/key.pem *}", ""),
        ("{* ../../code/link.py *}", ""),
        ("{* .. *}", ""),
        (f"{{* {'a' * 300}.py *}}", ""),
        ("```{literalinclude} ../../code/app.py\n:lines: 90-\n:pyobject: run\n```", "````py\n````"),
    ],
)
def test_a_page_shows_what_it_includes(docs: Path, text: str, expected: str) -> None:
    assert one(docs, "a.md", f"# A\n\nFirst.\n\n{text}\n").text == f"First.\n\n{expected}".strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".. include:: part.txt\n", "A part."),
        (".. literalinclude:: ../../code/app.py\n   :lines: 4-5\n",
         f".. code-block:: py\n\n    {RUN[:10]}\n        acme.go()"),
        (".. literalinclude:: ../../code/app.py\n   :start-after: ANCHOR:\n   :end-before: ANCHOR_END\n",
         f".. code-block:: py\n\n    {RUN[:10]}\n        acme.go()"),
        (".. include:: ../../../secret.py\n", ""),
    ],
)  # fmt: skip
def test_restructuredtext_shows_what_it_includes(docs: Path, text: str, expected: str) -> None:
    (docs / "part.txt").write_text("A part.\n")
    assert one(docs, "a.rst", f"A\n===\n\nFirst.\n\n{text}").text == f"First.\n\n{expected}".strip()


def test_without_a_project_nothing_outside_the_folder_is_shown(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("run()")
    assert one(tmp_path / "docs", "a.md", "Hello.\n\n{* ../app.py *}\n").text == "Hello."


def test_files_that_include_each_other_end(docs: Path) -> None:
    text = "\n".join(passage.text for passage in read(docs, "a.md", '--8<-- "again.md"\n' * 100))
    assert 1 <= text.count("Once.") <= includes.MOST_FILES


def test_lines_of_a_file_stand_for_the_line_that_includes_it(docs: Path) -> None:
    (docs / "part.md").write_text("## Part\n\nText.\n")
    passages = read(docs, "a.md", '# A\n\nFirst.\n\n--8<-- "part.md"\n\n## B\n\nLast.\n')
    assert [each.location for each in passages] == ["a.md:3", "a.md:5", "a.md:9"]
