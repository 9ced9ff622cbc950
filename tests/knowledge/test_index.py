"""The index: units are stored whole, found by name and by words, and removed without a trace."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.knowledge.index import Index, IndexBroken, IndexFailed
from assistant.knowledge.index_writer import (
    LONGEST_TEXT,
    IndexWriter,
    ReadUnit,
    bounded,
    summary_of,
    words_of,
)
from assistant.knowledge.passage import Raised
from tests.support.fake_documentation import passage, unit


def built(file: Path) -> bytes:
    """Build an index of many passages, and return the bytes of its file."""
    with closing(IndexWriter(file)) as index:
        index.put([unit("m", *(passage(f"m.f{number}", f"Does {number}.") for number in range(500)))])
        index.tidy()
    return file.read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "documentation.db"


@pytest.fixture
def writer(file: Path) -> Iterator[IndexWriter]:
    with closing(IndexWriter(file)) as index:
        yield index


def check_that_it_is_made_again(file: Path, match: str) -> None:
    with pytest.raises(IndexFailed, match=match):
        Index(file)
    with closing(IndexWriter(file)) as index:
        assert index.count() == 0


def names(entries: object) -> list[str]:
    return [entry.passage.name for entry in entries]  # type: ignore[attr-defined]


def test_a_passage_is_stored_unchanged(writer: IndexWriter) -> None:
    there = passage("shutil.rmtree", "Delete a tree.\n\nReally.")
    writer.put([unit("shutil", there)])
    with closing(Index(writer.path)) as reader:
        assert [entry.passage for entry in reader.named("shutil.rmtree")] == [there]


def test_a_name_is_found_by_its_ending_and_by_aliases(writer: IndexWriter) -> None:
    aliases = [("posixpath.join", "os.path.join")]
    writer.put([unit("os", passage("os.path.join"), passage("str.join"), aliases=aliases)])
    assert names(writer.ending("PATH.join")) == ["os.path.join"]
    assert sorted(names(writer.ending("join"))) == ["os.path.join", "str.join"]
    assert names(writer.named("posixpath.join")) == ["os.path.join"]
    assert writer.named("Os.Path.Join") == []


def test_an_ending_begins_at_a_dot(writer: IndexWriter) -> None:
    there = "a.b.join b.join a.xb.join join b.join.a b.joined b-join b.join-x c++.join"
    writer.put([unit("x", *map(passage, there.split()))])
    assert names(writer.ending("b.join")) == ["b.join", "a.b.join"]
    assert names(writer.ending("join")) == ["join", "b.join", "c++.join", "a.b.join", "a.xb.join"]
    assert names(writer.ending("join", 2)) == ["join", "b.join"]
    assert names(writer.ending("c++.join")) == ["c++.join"]
    assert writer.ending("") == writer.ending(".") == writer.ending("oin") == []


def test_the_index_says_what_it_covers(writer: IndexWriter) -> None:
    docs = passage("Intro", package="my docs", version="")
    library = passage("len", package="Python", version="3.11.2")
    writer.put([unit("builtins", library), unit("os", library), unit("a.md", docs, docs)])
    assert writer.covers() == ["Python 3.11.2", "my docs"]


def test_a_title_that_is_not_the_name_is_stored(writer: IndexWriter) -> None:
    writer.put([unit("x", dataclasses.replace(passage("Usage"), title="Guide › Usage"))])
    assert writer.named("Usage")[0].passage.title == "Guide › Usage"


def test_a_whole_name_comes_before_a_more_used_one(writer: IndexWriter) -> None:
    usage = {"a.py": {"m.open": (50, 0, 0, 0), "open": (2, 0, 0, 0)}}
    writer.put([unit("x", passage("m.open"), passage("open"), usage=usage)])
    writer.count_uses()
    assert names(writer.ending("open")) == ["open", "m.open"]
    assert names(writer.within("m")) == ["m.open"]


@pytest.mark.parametrize("typed", ["shutil.rmtre", "shutil.rmtee", "rmtreee", "shutl.rmtree"])
def test_a_misspelt_name_has_a_similar_one(writer: IndexWriter, typed: str) -> None:
    others = [passage(f"shutil.{name}") for name in ("copy", "move", "copytree")]
    writer.put([unit("shutil", *others, passage("shutil.rmtree"))])
    assert writer.similar_names(typed)[0] == "shutil.rmtree"


def test_a_name_in_the_named_module_is_more_similar(writer: IndexWriter) -> None:
    writer.put([unit("x", passage("web.data_classes.ListFiles"), passage("os.listdir"), passage("os.walk"))])
    assert writer.similar_names("os.listfiles")[0] == "os.listdir"


def test_a_name_unlike_all_others_has_no_similar_one(writer: IndexWriter) -> None:
    writer.put([unit("shutil", passage("shutil.rmtree"))])
    assert writer.similar_names("zzzzqqq") == writer.similar_names("") == writer.similar_names("ab") == []


def test_words_are_found_in_names_texts_and_phrases(writer: IndexWriter) -> None:
    there = [passage("string.ascii_letters", "All of them."), passage("os.walk", "A tree of directories.")]
    writer.put([unit("x", *there)], {"os.walk": ("visit every folder",)})
    assert names(writer.matching("letters")) == ["string.ascii_letters"]
    assert names(writer.matching("directory")) == ["os.walk"]
    assert names(writer.matching("phrases : folder")) == ["os.walk"]
    assert writer.matching("directory", corpora=["docs"]) == []


def test_a_unit_replaces_its_earlier_version(writer: IndexWriter) -> None:
    writer.put([unit("m", passage("m.old", "Antelope."), aliases=[("m.older", "m.old")])])
    writer.put([unit("m", passage("m.new", "Badger."), fingerprint="2")])
    assert writer.fingerprints() == {"m": "2"}
    assert writer.named("m.old") == writer.named("m.older") == writer.ending("old") == []
    assert writer.matching("antelope") == []
    assert writer.similar_names("m.olds") == []
    assert names(writer.matching("badger")) == ["m.new"]


def test_a_forgotten_unit_leaves_no_row(writer: IndexWriter) -> None:
    tables = ("source", "passage", "alias", "lookup", "example_at", "raised")
    writer.put([unit("m", passage("m.f"), aliases=[("m.g", "m.f")], usage={"a.py": {"m.f": (1, 1, 1, 9)}})])
    writer.forget(["m", "never there"])
    counts = [writer.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
    assert counts == [0] * len(tables)
    for table, query in (("search", "does"), ("near", '"m.f"')):
        found = writer.connection.execute(f"SELECT rowid FROM {table} WHERE {table} MATCH ?", (query,))
        assert found.fetchall() == []
        writer.connection.execute(f"INSERT INTO {table} ({table}) VALUES ('integrity-check')")


def test_units_are_stored_all_or_none(writer: IndexWriter) -> None:
    def failing() -> Iterator[ReadUnit]:
        yield unit("m", passage("m.f"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        writer.put(failing())
    assert writer.count() == 0
    assert writer.fingerprints() == {}


def test_an_example_is_read_word_for_word_from_the_file_that_uses_the_name(
    writer: IndexWriter, tmp_path: Path
) -> None:
    (tmp_path / "user.py").write_text("def f():\n    with m.f(1) as x:\n        use(x)\n")
    usage = {"user.py": {"m.f": (3, 2, 3, 50)}}
    writer.put([unit("m", passage("m.f"), root=str(tmp_path), usage=usage)])
    writer.count_uses()
    (found,) = writer.named("m.f")
    assert found.uses == 3
    assert found.passage.example == "with m.f(1) as x:\n    use(x)"
    assert found.passage.example_location == "user.py:2"


def test_calls_within_the_own_package_count_less(writer: IndexWriter) -> None:
    usage = {"m/inner.py": {"m.f": (8, 0, 0, 0)}, "other.py": {"m.g": (8, 0, 0, 0)}}
    writer.put([unit("m", passage("m.f"), passage("m.g"), usage=usage)])
    writer.count_uses()
    assert [writer.named(name)[0].uses for name in ("m.f", "m.g")] == [2, 8]


def test_a_lone_surrogate_is_replaced(writer: IndexWriter) -> None:
    writer.put([unit("m", passage("m.f", "a \ud800 b"))])
    assert writer.named("m.f")[0].passage.text == "a ? b"


def test_an_index_with_another_schema_is_made_again(file: Path) -> None:
    with closing(sqlite3.connect(file)) as old:
        old.executescript("CREATE TABLE meta (key, value); INSERT INTO meta VALUES ('schema', '0')")
    check_that_it_is_made_again(file, "another version")


def test_a_database_of_something_else_is_left_unchanged(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.executescript(
            "CREATE TABLE meta (key, value); CREATE TABLE chat (text); INSERT INTO chat VALUES ('Hi')"
        )
        with pytest.raises(IndexFailed, match="something else"):
            IndexWriter(file)
        assert other.execute("SELECT text FROM chat").fetchall() == [("Hi",)]


def test_an_index_of_other_code_is_made_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(file)
    for module in ("index", "index_writer"):
        monkeypatch.setattr(f"assistant.knowledge.{module}.code_version", lambda: "another")
    check_that_it_is_made_again(file, "another version")


def test_a_check_finds_damage(file: Path) -> None:
    data = bytearray(built(file))
    for start in range(5 * 4096, len(data), 4096):
        data[start : start + 100] = b"\xff" * 100
    file.write_bytes(data)
    with closing(IndexWriter(file)) as index:
        with pytest.raises((IndexBroken, sqlite3.DatabaseError)):
            index.check()
        with pytest.raises(IndexBroken):
            index.forget(["m"])


def test_a_change_requires_a_new_count_of_uses(writer: IndexWriter) -> None:
    assert not writer.is_counted()
    for change in (lambda: writer.put([unit("m", passage("m.f"))]), lambda: writer.forget(["m"])):
        writer.count_uses()
        assert writer.is_counted()
        change()
        assert not writer.is_counted()


def test_a_file_that_is_not_a_database_is_made_again(file: Path) -> None:
    file.write_bytes(b"not a database at all" * 100)
    check_that_it_is_made_again(file, "cannot be read")


def test_an_index_that_cannot_be_read_or_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(IndexFailed, match=r"cannot be read: .*\.$"):
        Index(tmp_path / "none.db")
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "file").write_text("")
    for path in ("folder.db", "file/documentation.db"):
        with pytest.raises(IndexFailed, match=r"cannot be written: .*\.$"):
            IndexWriter(tmp_path / path)


def test_a_full_disk_is_reported(writer: IndexWriter) -> None:
    pages = writer.connection.execute("PRAGMA page_count").fetchone()[0]
    writer.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    incompressible = os.urandom(40_000).hex()
    with pytest.raises(IndexFailed, match="full"):
        writer.put([unit("m", *(passage(f"m.f{at}", incompressible[at:]) for at in range(0, 60_000, 900)))])
    assert writer.count() == 0


@given(st.text(max_size=300), st.integers(10, 100))
def test_a_bounded_text_is_the_beginning(text: str, longest: int) -> None:
    cut = bounded(text, longest)
    assert len(cut) <= longest
    assert text.startswith(cut)


def test_a_long_text_is_cut_at_a_paragraph() -> None:
    text = "word " * 1000 + "\n\n" + "more " * 1000
    assert bounded(text) == ("word " * 1000).rstrip()
    assert len(bounded("x" * 2 * LONGEST_TEXT)) == LONGEST_TEXT


@given(st.text(max_size=60))
def test_any_name_can_be_stored_and_looked_up(name: str) -> None:
    assert words_of(name).startswith(name)


def test_words_and_summaries() -> None:
    assert {"ascii", "letters"} <= set(words_of("string.ascii_letters").split())
    assert {"thread", "pool", "executor"} <= set(words_of("ThreadPoolExecutor").split())
    assert summary_of("Do it now. Then rest.") == "Do it now."
    assert summary_of("Do it\nnow\n\nThen rest") == "Do it\nnow"


def test_raise_statements_are_found_by_the_rarest_words_of_a_message(file: Path) -> None:
    crank = [
        Raised("ValueError", f"the handle {n} is not there", "m.f", f"m.py:{n}", "raise") for n in range(30)
    ]
    rare = Raised("KeyError", "… is not a gearwheel", "m.g", "m.py:99", "if x:\n    raise KeyError()")
    with closing(IndexWriter(file)) as writer:
        writer.put([unit("m", passage("m.f"), raised=[*crank, rare])])
        with closing(Index(file)) as index:
            assert index.raised_like("'x' is not a gearwheel", limit=3)[0] == rare
            assert index.raised_like("'x' is not a gearwheel", "Python", limit=3)[0] == rare
            assert index.raised_like("'x' is not a gearwheel", "other") == []
        writer.forget(["m"])
        assert writer.raised_like("gearwheel") == []


def test_the_passages_of_a_file_are_found_by_a_line(file: Path) -> None:
    there = [passage(f"m.f{line}", location=f"m.py:{line}") for line in (3, 20, 100)]
    with closing(IndexWriter(file)) as writer:
        writer.put([unit("python:m", *there, passage("m.other", location="m/other.py:5"))])
        assert names(writer.at("m.py", 25)) == ["m.f20", "m.f3"]
        assert names(writer.at("n.py", 25)) == []
