"""The packages of an environment are read without being imported, whatever they contain."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from assistant.knowledge.passage import Batch
from assistant.knowledge.reading import packages
from assistant.knowledge.reading.inventory import addresses, inventories
from assistant.knowledge.reading.packages import (
    PackagesUnreadable,
    distributions,
    read,
    sites,
    with_inventories,
)

SOURCE = '''"""A package of tests."""

def turn(crank, *, times=1):
    """Turn the crank.

    It turns `times` times.
    """
'''


def install(
    site: Path,
    name: str,
    *,
    metadata: str | None = "",
    source: str | bytes = SOURCE,
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write a package as an installer does, with more files in the site folder, and return its module."""
    module = site / name / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_bytes(source.encode() if isinstance(source, str) else source)
    info = site / f"{name}-1.5.dist-info"
    info.mkdir()
    if metadata is not None:
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n{metadata}")
    for file, text in (files or {}).items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(text)
    listed = [f"{name}/__init__.py", f"{name}-1.5.dist-info/METADATA", *(files or ())]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in listed))
    return module


def read_one(site: Path) -> Batch:
    (found,) = distributions(site)
    return read(found)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    return site


def test_a_package_is_read_by_its_source_and_never_imported(site: Path) -> None:
    install(site, "crank", metadata="License-Expression: MIT\n", source=SOURCE + "\nraise SystemExit(3)\n")
    (found,) = distributions(site)
    passages = {passage.name: passage for passage in read(found).passages}
    turn = passages["crank.turn"]
    assert turn.signature == "crank.turn(crank, *, times=1)"
    assert turn.text == "Turn the crank.\n\nIt turns `times` times."
    assert (turn.package, turn.version, turn.licence, turn.corpus) == ("crank", "1.5", "MIT", "packages")
    assert turn.location == "crank/__init__.py:3"
    assert "crank" not in sys.modules


@pytest.mark.parametrize("metadata", ["", "License: \n", f"License: {'terms ' * 10_000}\n"])
def test_metadata_without_a_licence_name_gives_none(site: Path, metadata: str) -> None:
    install(site, "crank", metadata=metadata)
    (found,) = distributions(site)
    assert (found.name, found.version, found.licence) == ("crank", "1.5", "")


def test_without_metadata_name_and_version_come_from_the_folder(site: Path) -> None:
    install(site, "crank", metadata=None)
    found = [(one.name, one.version, one.licence) for one in distributions(site)]
    assert found in ([], [("crank", "1.5", "")])


@pytest.mark.parametrize(
    "source",
    [
        b"\xff\xfe\x00",
        b"def broken(:\n",
        b"\x00" * 100,
        b"# coding: nonsense\nx = 1\n",
        b"(" * 50_000,
        b"x=" + b"-" * 90_000 + b"1",
    ],
)
def test_unreadable_source_is_skipped_and_counted(site: Path, source: bytes) -> None:
    install(site, "broken", source=source)
    (found,) = distributions(site)
    batch = read(found)
    assert (list(batch.passages), batch.unread) == ([], 1)


def test_a_huge_source_file_is_skipped(site: Path) -> None:
    module = install(site, "huge")
    with module.open("r+b") as file:
        file.truncate(50_000_000)
    (found,) = distributions(site)
    assert read(found).unread == 1


def test_an_environment_is_given_by_its_folder_or_interpreter(site: Path) -> None:
    assert sites(site.parents[2]) == [site]
    assert any(path.name == "site-packages" for path in sites(Path(sys.executable)))


def test_a_path_without_an_environment_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PackagesUnreadable, match="There is no Python environment"):
        sites(tmp_path / "nothing")
    with pytest.raises(PackagesUnreadable, match="has no site-packages"):
        sites(tmp_path)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho nonsense\n")
    with pytest.raises(PackagesUnreadable, match="not a working Python interpreter"):
        sites(script)
    script.chmod(0o755)
    with pytest.raises(PackagesUnreadable, match="not a working Python interpreter"):
        sites(script)
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(packages, "ANSWER_SECONDS", 0.1)
    with pytest.raises(PackagesUnreadable, match="did not report within"):
        sites(script)


def test_a_package_with_broken_metadata_is_reported_and_others_are_read(site: Path) -> None:
    install(site, "crank")
    install(site, "broken")
    record = site / "broken-1.5.dist-info" / "RECORD"
    record.unlink()
    record.symlink_to("RECORD")
    (site / "broken-1.5.dist-info" / "top_level.txt").write_bytes(b"../../..\n/etc\n\x00\n" + b"x" * 5000)
    warnings: list[str] = []
    found = list(distributions(site, warn=warnings.append))
    assert "crank" in [one.name for one in found]
    assert all(sentence.startswith("The package 'broken' cannot be read: ") for sentence in warnings)
    assert len(warnings) == 1


def test_an_environment_with_an_unprintable_name_is_reported(tmp_path: Path) -> None:
    site = tmp_path / "caf\udce9" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    install(site, "crank")
    with pytest.raises(PackagesUnreadable) as caught:
        sites(tmp_path / "caf\udce9")
    assert str(caught.value).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_site_folder_without_permission_has_no_packages(site: Path) -> None:
    site.chmod(0)
    try:
        assert list(distributions(site)) == []
    finally:
        site.chmod(0o755)


README = """Summary: Turns cranks.
Description-Content-Type: text/markdown

[![build](https://example.org/badge.svg)](https://example.org)
<p align="center"><img src="crank.png"></p>

# Crank

Crank turns cranks, and nothing else at all.

## Usage

How a crank is turned:

```python
import crank
crank.turn("slowly")
```

## License

This is the licence, which nobody looks for here.
"""


def test_the_readme_and_the_summary_are_passages(site: Path) -> None:
    install(site, "crank", metadata=README, source="def turn(how): pass\n")
    batch = read_one(site)
    module = next(passage for passage in batch.passages if passage.kind == "module")
    assert (module.name, module.text, module.version) == ("crank", "Turns cranks.", "1.5")
    sections = [passage for passage in batch.passages if passage.kind == "section"]
    assert [section.title for section in sections] == ["Crank", "Crank › Usage"]
    assert sections[0].text == "Crank turns cranks, and nothing else at all."
    assert sections[1].text.endswith('crank.turn("slowly")\n```')
    file, _, line = sections[1].location.partition(":")
    written = (site / file).read_text().split("\n")
    assert "## Usage" in written[int(line) - 3 : int(line)]
    count, first, last, _ = batch.usage[file]["crank.turn"]
    assert (count, written[first - 1 : last]) == (1, ['crank.turn("slowly")'])


def test_a_readme_in_rest_is_shown_in_words(site: Path) -> None:
    text = "Summary: Cranks.\n\nCrank\n=====\n\nUse :func:`turn` to turn it::\n\n    turn(12)\n"
    install(site, "crank", metadata=text)
    section = next(passage for passage in read_one(site).passages if passage.kind == "section")
    assert section.text == "Use ``turn`` to turn it:\n\n    turn(12)"


def test_a_package_is_found_by_its_names(site: Path) -> None:
    files = {
        "Gear/__init__.py": "",
        "Gear/wheel.py": "",
        "_gear/__init__.py": "",
        "gear.so": "",
        "gear_x.py": "",
    }
    install(site, "tests", metadata="", files=files)
    (site / "tests-1.5.dist-info" / "METADATA").write_text("Name: Py-Gear\nVersion: 2\nSummary: Gears.\n")
    (found,) = distributions(site)
    assert found.imports == ("Gear", "gear", "gear_x")
    batch = read(found)
    modules = {passage.name: passage.text for passage in batch.passages}
    assert modules == {"Gear": "Gears.", "gear": "Gears.", "gear_x": "Gears."}
    assert {alias for alias, name in batch.aliases if name == "Gear"} == {
        *("Py-Gear", "py-gear", "Py_Gear", "py_gear", "gear"),
    }


def test_a_package_without_python_files_is_known(site: Path) -> None:
    install(site, "tests", metadata="Summary: A tool in Rust.\n", files={"../../../bin/tool": ""})
    (found,) = distributions(site)
    assert [(each.name, each.text) for each in read(found).passages] == [("tests", "A tool in Rust.")]


def test_a_stub_describes_what_is_written_in_c(site: Path) -> None:
    install(
        site,
        "fast",
        source="from .fast import *\n__all__ = ['dumps']\n",
        files={
            "fast/__init__.pyi": "# For developers.\ndef dumps(value: object, /) -> bytes: ...\n",
            "fast/fast.so": "",
            "fast/core.pyi": 'class Core:\n    """A core."""\n',
        },
    )
    passages = {passage.name: passage for passage in read_one(site).passages}
    assert passages["fast.dumps"].signature == "fast.dumps(value: object, /) -> bytes"
    assert (passages["fast.dumps"].text, passages["fast.dumps"].location) == ("", "fast/__init__.pyi:2")
    assert passages["fast.core.Core"].text == "A core."


def test_tests_and_vendored_and_internal_code_is_left_out(site: Path) -> None:
    shown = ("crank/test/client.py", "crank/migrations/operations.py", "crank/api.py")
    stated = "crank/testing.py"
    hidden = (
        *("crank/tests/a.py", "crank/gears/test/test_a.py", "crank/gears/test/b.py", "crank/_vendor/c.py"),
        *("crank/internal/d.py", "crank/wheels/testing/e.py", "test/f.py", "crank/conftest.py"),
    )
    install(site, "crank", files={
        **dict.fromkeys((*shown, *hidden), SOURCE),
        stated: f'__all__ = ["turn"]\n{SOURCE}',
    })  # fmt: skip
    names = {passage.name for passage in read_one(site).passages if passage.kind == "function"}
    expected = [file.removesuffix(".py").replace("/", ".") for file in (*shown, stated)]
    assert names == {"crank.turn", *(f"{module}.turn" for module in expected)}


def test_a_function_hides_the_module_of_the_same_name(site: Path) -> None:
    install(site, "crank", source="from .turn import turn\n", files={"crank/turn.py": SOURCE})
    (found,) = (passage for passage in read_one(site).passages if passage.name == "crank.turn")
    assert found.kind == "function"


@pytest.mark.parametrize(
    ("url", "address"), [("https://docs.example.org/2", "https://docs.example.org/2/html/"), ("", "")]
)
def test_an_inventory_gives_the_exact_address(site: Path, tmp_path: Path, url: str, address: str) -> None:
    install(site, "crank", metadata="Project-URL: Documentation, https://crank.example.org\n")
    listed = b"crank.turn py:function 1 api.html#$ -\ncrank py:module 0 index.html#module-crank -\nbroken\n"
    docs = tmp_path / "docs"
    (docs / "html").mkdir(parents=True)
    head = b"# Sphinx inventory version 2\n# Project: Crank\n# Version: 1.5\n# zlib.\n"
    (docs / "html" / "objects.inv").write_bytes(head + zlib.compress(listed))
    (before,) = distributions(site)
    (found,) = with_inventories([before], [(docs, url)])
    home = "https://crank.example.org"
    passages = {passage.name: passage.url for passage in read(found).passages}
    assert passages["crank.turn"] == (f"{address}api.html#crank.turn" if url else home)
    assert passages["crank"] == (f"{address}index.html#module-crank" if url else home)
    assert (before.fingerprint() != found.fingerprint()) == bool(url)


@pytest.mark.parametrize("data", [b"", b"\n\n\n\nnothing", b"# Sphinx\n" * 5 + zlib.compress(b"\xff \n" * 9)])
def test_a_broken_inventory_gives_no_address(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "objects.inv").write_bytes(data)
    assert addresses(tmp_path / "objects.inv") == {}
    assert list(inventories([(tmp_path, ""), (tmp_path / "none", "")])) == []
