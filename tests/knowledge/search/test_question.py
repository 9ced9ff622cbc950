"""How questions are parsed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.knowledge.search.question import QuestionType, parse_question
from assistant.knowledge.search.words import form


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("How do I read a file line by line?", QuestionType.TASK),
        ("what does zip do", QuestionType.LOOKUP),
        ("signature of os.path.join", QuestionType.LOOKUP),
        ("list vs tuple", QuestionType.DIFFERENCE),
        ("What is the difference between json.dump and json.dumps?", QuestionType.DIFFERENCE),
        ("days between two dates", QuestionType.TASK),
        ("loop over a list with the index", QuestionType.TASK),  # no comparison
        ("How do I merge two lists or dicts?", QuestionType.TASK),
        ("Why do I get KeyError: 'name'?", QuestionType.ERROR),
    ],
)
def test_the_type_of_a_question(text: str, kind: QuestionType) -> None:
    assert parse_question(text).type is kind


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("what does os.path.join do", ["os.path.join"]),
        ('what does "".join do', ["str.join"]),
        ("what is `rmtree(path)`", ["rmtree"]),
        ("how do I use Path.mkdir()?", ["Path.mkdir"]),
        ("what is an OrderedDict", ["OrderedDict"]),
        ("read data.csv into a list", []),
        ("several file(s), e.g. two", []),
    ],
)
def test_names_are_recognised_by_their_spelling(text: str, names: list[str]) -> None:
    assert [mention.name for mention in parse_question(text).mentions] == names


def test_code_in_a_question_is_separate_from_its_prose() -> None:
    question = parse_question("How do I sort this?\n```\nprices = shop.prices()\n```\n")
    assert question.mentions == ()
    assert question.names_in_code == ("shop.prices",)


def test_a_difference_has_a_subject_for_each_api() -> None:
    subjects = parse_question("Please explain how subprocess.run differs from subprocess.Popen.").subjects
    names = [[mention.name for mention in subject.mentions] for subject in subjects]
    assert names == [["subprocess.run"], ["subprocess.Popen"]]


@pytest.mark.parametrize("text", ["and recursively?", "what about the other way round?", "how do I sort it"])
def test_a_short_question_that_refers_back_is_a_follow_up(text: str) -> None:
    assert parse_question(text).is_follow_up


@pytest.mark.parametrize(
    "text", ["How do I reverse a list in place?", "how do i read this csv file with a header"]
)
def test_a_complete_question_is_not_a_follow_up(text: str) -> None:
    assert not parse_question(text).is_follow_up


@pytest.mark.parametrize(
    ("one", "other"), [("removing", "delete"), ("folders", "directory"), ("copies", "copied")]
)
def test_synonyms_have_one_form(one: str, other: str) -> None:
    assert form(one) == form(other)


@given(st.text(max_size=400))
def test_any_text_is_a_question_with_a_subject(text: str) -> None:
    assert parse_question(text).subjects


def test_a_very_long_question_is_read_at_both_ends() -> None:
    question = parse_question("How do I use os.walk? " + "blah " * 20_000 + " Or rather os.scandir()")
    assert [mention.name for mention in question.mentions] == ["os.walk", "os.scandir"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run a git command", ("run", "command")),
        ("how do I call the ffmpeg binary", ("call", "binary")),
        ("run an external command", ("run", "external", "command")),
        ("undo the last git commit", ("undo", "last", "git", "commit")),
        ("what is an f-string", ("fstring",)),
        ("how do I find out whether a file is there", ("file",)),
    ],
)
def test_words_that_do_not_matter_are_left_out(text: str, words: tuple[str, ...]) -> None:
    assert parse_question(text).words == words


@pytest.mark.parametrize(
    ("text", "says"), [("join strings in Python", True), ("join strings in perl", False)]
)
def test_whether_a_question_says_python(text: str, says: bool) -> None:
    assert parse_question(text).says_python is says


def test_a_word_for_a_kind_of_api_may_be_a_subject() -> None:
    subjects = parse_question("isinstance or type?").subjects
    assert [subject.words for subject in subjects] == [("isinstance",), ("type",)]
