"""What a search finds in a small index of invented documentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.knowledge.index import Index
from assistant.knowledge.index_writer import IndexWriter
from assistant.knowledge.passage import Passage
from assistant.knowledge.search.scope import USED_ELSEWHERE, named_scope
from assistant.knowledge.search.search import MOST_REMEMBERED, RecentSearches, search
from tests.support.fake_documentation import passage, unit

LIBRARY = {
    "os": ("module", "Miscellaneous operating system interfaces.", []),
    "os.path.join": ("function", "Join two or more pathname components.", ["put parts of a path together"]),
    "os.remove": ("function", "Remove a file, the same as unlink.", ["delete a file"]),
    "os.listdir": ("function", "Return the names of what is in a directory.", ["list the files in a folder"]),
    "shutil": ("module", "High-level operations on files and on trees of directories.", []),
    "shutil.rmtree": ("function", "Recursively delete a directory tree.", ["remove a folder and all in it"]),
    "shutil.copy": ("function", "Copy data and mode bits of a file.", ["copy a file"]),
    "copy.copy": ("function", "Shallow copy operation on arbitrary objects.", ["shallow copy of an object"]),
    "copy.deepcopy": ("function", "Deep copy operation on arbitrary objects.", ["copy nested lists"]),
    "list": ("class", "Built-in mutable sequence of any length.", ["sequence that can be changed"]),
    "tuple": ("class", "Built-in immutable sequence of any length.", ["sequence that cannot be changed"]),
    "list.sort": ("method", "Sort the list in ascending order.", ["sort a list in place"]),
    "list.append": ("method", "Append an object to the end of the list.", ["add an item to a list"]),
    "str.join": ("method", "Concatenate any number of strings.", ["join strings with a separator"]),
    "json.dumps": ("function", "Serialize an object to a JSON string.", ["convert a dict to json text"]),
    "json.loads": ("function", "Deserialize a JSON string to an object.", ["parse json text"]),
    "KeyError": ("class", "Mapping key was not found in the dictionary.", ["key is not in a dict"]),
    "with": (
        "keyword",
        "The with statement wraps a block by a context manager.",
        ["use a context manager", "__enter__ and __exit__"],
    ),
    "zip": ("class", "Yield tuples until an input is exhausted.", ["loop over two lists in parallel"]),
}


def plain(name: str, kind: str, text: str, corpus: str) -> Passage:
    return passage(name, text, kind=kind, corpus=corpus, signature="")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    path: Path = tmp_path_factory.mktemp("index") / "documentation.db"
    library = [plain(name, kind, text, "python") for name, (kind, text, _) in LIBRARY.items()]
    guide = plain("Deleting files", "section", "How our tool deletes a file, step by step.", "docs")
    with closing(IndexWriter(path)) as writer:
        phrases = {name: phrases for name, (_, _, phrases) in LIBRARY.items()}
        writer.put([unit("library", *library)], phrases)
        writer.put([unit("guide", guide)])
    with closing(Index(path)) as found:
        yield found


def first(index: Index, question: str, **options: object) -> str | None:
    found = search(index, question, **options)  # type: ignore[arg-type]
    return found.passages[0].name if found.passages else None


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("os.path.join", "os.path.join"),
        ("what does path.join do?", "os.path.join"),
        ("signature of `rmtree`", "shutil.rmtree"),
        ('what does "".join return', "str.join"),
        ("What does zip do", "zip"),
        ("explain the with statement", "with"),
        ("what does __exit__ do", "with"),
        ("Why do I get KeyError: 'name'?", "KeyError"),
        ("How do I remove a directory and everything in it?", "shutil.rmtree"),
        ("how to sort `my_list` in place", "list.sort"),
        ("convert a dictionary to JSON", "json.dumps"),
        ("how do I remvoe a diretcory and all in it", "shutil.rmtree"),  # misspelt words
        ("convert a dictionery to json", "json.dumps"),
    ],
)
def test_the_right_passage_is_first(index: Index, question: str, name: str) -> None:
    assert first(index, question) == name


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("list vs tuple", {"list", "tuple"}),
        ("What is the difference between copy and deepcopy?", {"copy.copy", "copy.deepcopy"}),
        ("json.dumps or json.loads?", {"json.dumps", "json.loads"}),
    ],
)
def test_both_apis_of_a_difference_come_first(index: Index, question: str, names: set[str]) -> None:
    assert {found.name for found in search(index, question).passages[:2]} == names


@pytest.fixture(scope="module")
def with_packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index of Python's library and of two packages for the same purpose."""
    path: Path = tmp_path_factory.mktemp("index") / "documentation.db"
    with closing(IndexWriter(path)) as writer:
        library = [plain(name, kind, text, "python") for name, (kind, text, _) in LIBRARY.items()]
        writer.put([unit("library", *library)], {name: phrases for name, (_, _, phrases) in LIBRARY.items()})
        for package in ("fetchling", "webcall"):
            texts = {
                "": ("module", f"Talks to servers over HTTP. {package} is small."),
                ".send_form": ("function", "Send a form with a POST request to a server."),
                ".set_timeout": ("function", "Set the timeout of a request, in seconds."),
                ".and_then": ("function", "Run this and then that with and for another."),
                ".connect": ("class", "Open what is needed. " + "It does more than can be said here. " * 40),
                ".attach": ("function", "Connect to a server."),
            }
            passages = [
                passage(package + name, text, kind=kind, corpus="packages", signature="", package=package)
                for name, (kind, text) in texts.items()
            ]
            writer.put([unit(package, *passages)])
        mentions = [
            passage(f"ways.way_{number}", "Fetchling and a gadget.", corpus="packages", package="ways")
            for number in range(USED_ELSEWHERE + 20)
        ]
        writer.put([unit("ways", *mentions)])
        writer.put([unit("gadget", passage("gadget", "It is small.", corpus="packages", package="gadget"))])
        writer.put([unit("tutorial", passage("tutorial", "Python calls a gadget.", corpus="python"))])
    with closing(Index(path)) as found:
        yield found


@pytest.mark.parametrize(
    ("before", "question", "name"),
    [
        ([], "How do I set the timeout in fetchling?", "fetchling.set_timeout"),
        ([], "How do I set the timeout in webcall?", "webcall.set_timeout"),
        ([], "what is webcall", "webcall"),
        ([], "How do I remove a directory and everything in it?", "shutil.rmtree"),
        ([], "connect to a server with the webcall library", "webcall.connect"),
        (["How do I send a form with webcall?"], "and with fetchling?", "fetchling.send_form"),
        (["How do I send a form with webcall?"], "What about for fetchling?", "fetchling.send_form"),
        (["How do I send a form with webcall?"], "and how do I set the timeout?", "webcall.set_timeout"),
        (["How do I send a form with webcall?"], "and the timeout in fetchling?", "fetchling.set_timeout"),
        (["How do I send a form?", "and with fetchling?"], "and in webcall?", "webcall.send_form"),
        (["How do I send a form?", "and with fetchling?"], "show me an example", "fetchling.send_form"),
    ],
)
def test_a_package_that_is_named_is_searched(
    with_packages: Index, before: list[str], question: str, name: str
) -> None:
    assert first(with_packages, question, previous=before) == name


@pytest.mark.parametrize(("name", "is_certain"), [("fetchling", True), ("gadget", False), ("webcall", True)])
def test_a_name_that_is_no_other_word_is_surely_that_of_the_package(
    with_packages: Index, name: str, *, is_certain: bool
) -> None:
    scope, rest = named_scope(with_packages, f"size of a pool {name} library opens")
    assert (scope.packages, scope.is_certain, rest.split()) == (
        (name,), is_certain, ["size", "of", "a", "pool", "opens"],
    )  # fmt: skip


@pytest.mark.parametrize("name", ["os.teleport", "foo.quuxify", "list.push", "shutil.rmtre"])
def test_a_missing_name_is_reported_as_unknown(index: Index, name: str) -> None:
    found = search(index, f"What does {name} do?")
    assert found.unknown == name
    assert found.passages == ()


def test_names_similar_to_an_unknown_one_are_suggested(index: Index) -> None:
    assert search(index, "how do I use shutil.rmtre").did_you_mean[0] == "shutil.rmtree"


@pytest.mark.parametrize(
    "question",
    [
        # about something else
        "best recipe for pancakes",
        "Will it rain in Paris tomorrow?",
        "kubernetes manifest for nginx",
        "",
        "?!",
        # about another program, though all other words fit
        "copy a file in a docker container",
        "git remove a file",
        "join strings in javascript",
        "pandas copy an object",
        "copy a numpy list in python",
        # with a missing name, which is not corrected like a word
        "what does copyy do",
        "what does shutil.rmtre do",
        "what does __use__ do",
        "how do I use list_sort",
    ],
)
def test_a_question_without_an_answer_finds_nothing(index: Index, question: str) -> None:
    assert search(index, question).passages == ()


def test_a_follow_up_is_completed_by_the_earlier_question(index: Index) -> None:
    before = ["How do I sort a list in place?"]
    assert first(index, "show me an example of it", previous=before) == "list.sort"


def test_the_other_way_round_finds_the_opposite(index: Index) -> None:
    before = ["what does json.dumps do"]
    assert first(index, "and the other way round?", previous=before) == "json.loads"


def test_a_complete_question_ignores_earlier_ones(index: Index) -> None:
    question = "How do I remove a directory and everything in it?"
    assert search(index, question, previous=["list vs tuple"]) == search(index, question)


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Wie lösche ich eine Datei?", "os.remove"),
        ("copier un fichier", "shutil.copy"),
        ("¿Cómo ordeno una lista?", "list.sort"),
        ("converter um dicionário em texto JSON", "json.dumps"),
        ("如何合并路径", "os.path.join"),
        ("コンテキストマネージャを使う", "with"),
    ],
)
def test_questions_in_other_languages_find_the_same(index: Index, question: str, name: str) -> None:
    assert first(index, question) == name


def test_follow_up_questions_in_other_languages_are_completed(index: Index) -> None:
    assert first(index, "und umgekehrt?", previous=["Was macht json.dumps?"]) == "json.loads"


def test_only_the_given_corpora_are_searched(index: Index) -> None:
    assert first(index, "how do I delete a file") == "os.remove"
    assert first(index, "how do I delete a file", corpora=("docs",)) == "Deleting files"


def test_a_source_without_phrases_is_found_by_its_own_texts(tmp_path: Path) -> None:
    sections = {"Deleting files": "How our tool deletes a file.", "Sizes": "It resizes an image to fit."}
    passages = [
        passage(name, text, kind="section", corpus="docs", signature="", package="Guide")
        for name, text in sections.items()
    ]
    with closing(IndexWriter(tmp_path / "documentation.db")) as writer:
        writer.put([unit("guide", *passages)])
        assert first(writer, "how do I delete a file") == "Deleting files"
        assert first(writer, "resize an image") == "Sizes"


def test_results_are_distinct_and_within_the_limit(index: Index) -> None:
    names = [found.name for found in search(index, "copy a file", limit=2).passages]
    assert len(names) == len(set(names)) <= 2


def test_a_found_passage_is_unchanged(index: Index) -> None:
    wanted = plain("zip", *LIBRARY["zip"][:2], "python")
    assert dataclasses.asdict(search(index, "what does zip do").passages[0]) == dataclasses.asdict(wanted)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(question=st.text(max_size=300), before=st.lists(st.text(max_size=60), max_size=2))
def test_any_text_is_answered_or_refused(index: Index, question: str, before: list[str]) -> None:
    found = search(index, question, previous=before)
    assert len(found.passages) <= 4
    assert not (found.passages and found.unknown)


@pytest.mark.parametrize(
    "question",
    [
        "python equivalent of a javascript join of strings with a separator",
        "delete a file like bash in python",
    ],
)
def test_another_language_may_be_compared_with_python(index: Index, question: str) -> None:
    assert search(index, question).passages


def test_names_in_the_named_module_are_suggested_first(index: Index) -> None:
    offered = search(index, "what does json.parse_file do").did_you_mean
    assert offered[:2] == ("json.loads", "json.dumps")


def test_a_recent_search_is_remembered(index: Index) -> None:
    searches = RecentSearches(index)
    found = searches.search("copy a file", previous=["list vs tuple"])
    assert found == search(index, "copy a file", previous=["list vs tuple"])
    assert searches.search("copy a file", previous=["list vs tuple"]) is found
    assert searches.search("copy a file", previous=["list vs tuple"], limit=1) != found


def test_only_the_latest_searches_are_remembered(index: Index) -> None:
    searches = RecentSearches(index)
    first, second = searches.search("copy a file"), searches.search("list vs tuple")
    for number in range(MOST_REMEMBERED - 1):
        searches.search(f"{number}?")
        assert searches.search("copy a file") is first
    assert searches.search("list vs tuple") is not second


def test_a_change_of_the_index_clears_remembered_searches(tmp_path: Path) -> None:
    path = tmp_path / "documentation.db"
    old, new = passage("os.remove", "Remove a file."), passage("os.remove", "Remove it, if it is there.")
    with closing(IndexWriter(path)) as writer:
        writer.put([unit("library", old)])
        with closing(Index(path)) as reader:
            searches = RecentSearches(reader)
            assert searches.search("what does os.remove do").passages == (old,)
            writer.put([unit("library", new, fingerprint="2")])
            assert searches.search("what does os.remove do").passages == (new,)
