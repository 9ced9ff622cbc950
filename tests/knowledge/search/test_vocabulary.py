"""The vocabulary: its names exist, its phrases are plain English, and it does not grow."""

from __future__ import annotations

import builtins
import importlib
import re
import sys
import warnings
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.knowledge.search import vocabulary
from assistant.knowledge.search.vocabulary import FILE, VocabularyMalformed, parse, phrases

MISSING = object()
PLAIN = re.compile(r"[^A-Z]*[^A-Z.,;:!?\s]")
MOST_ENTRIES, MOST_PHRASES = 1919, 5172  # lower these when entries are removed, and never raise them
LONGEST = 12  # words of a phrase
MOST_NAMES = 3  # that share a phrase

# Names that not every supported Python has, by the first version that has them.
CAME_WITH: Mapping[tuple[int, ...], str] = {
    (3, 11, 4): "tarfile.data_filter",
    (3, 12): """
        int.is_integer os.path.splitroot pathlib.Path.walk sys.monitoring collections.abc.Buffer
        itertools.batched typing.TypeAliasType typing.override math.sumprod random.binomialvariate
        """,
    (3, 13): """
        pathlib.PurePath.full_match glob.translate copy.replace typing.TypeIs typing.ReadOnly
        typing.get_protocol_members math.fma statistics.kde warnings.deprecated
        """,
    (3, 14): "pathlib.Path.copy pathlib.Path.move uuid.uuid6 uuid.uuid7 uuid.uuid8",
}
CAME = {name: version for version, names in CAME_WITH.items() for name in names.split()}
# Names that a later Python has removed, with the first version without them. Whole modules need no line.
LEFT: Mapping[str, tuple[int, int]] = {"ssl.wrap_socket": (3, 12), "ssl.match_hostname": (3, 12)}
ELSEWHERE = frozenset(("os.startfile", "select.kqueue"))  # on other operating systems


def named(name: str) -> object:
    """The object that a full name stands for: `MISSING` if it does not exist, None if its module does not."""
    first, *rest = name.split(".")
    if hasattr(builtins, first):
        value: object = builtins
        rest = [first, *rest]
    else:
        try:
            value = importlib.import_module(first)
        except ImportError:
            return None
    dotted = first
    for part in rest:
        found = getattr(value, part, MISSING)
        dotted = f"{dotted}.{part}"
        if found is MISSING and value is sys.modules.get(dotted.rpartition(".")[0]):
            try:
                found = importlib.import_module(dotted)
            except ImportError:
                return MISSING
        if found is MISSING:
            return MISSING
        value = found
    return value


def is_here(name: str) -> bool:
    """Whether this Python should have the name, if it has the module."""
    if name in ELSEWHERE:
        return False
    return CAME.get(name, (0,)) <= sys.version_info[:3] < LEFT.get(name, (99,))


def test_every_name_is_one_of_this_python_or_a_topic_of_the_language() -> None:
    topics = pytest.importorskip("pydoc_data.topics").topics
    import pydoc

    known = {*topics, *pydoc.Helper.keywords, *map(str.lower, pydoc.Helper.topics)}
    names = [name for name in phrases() if name not in known and is_here(name)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # people also ask about deprecated names
        unknown = [name for name in names if named(name) is MISSING]
    assert len(names) > 1000
    assert unknown == []


def test_version_limits_are_for_names_in_the_vocabulary() -> None:
    assert {*CAME, *LEFT, *ELSEWHERE} - {*phrases()} == set()


def test_the_vocabulary_does_not_grow() -> None:
    assert len(phrases()) <= MOST_ENTRIES
    assert sum(map(len, phrases().values())) <= MOST_PHRASES


def test_no_name_has_a_phrase_twice() -> None:
    twice = [name for name, found in phrases().items() if len(set(map(str.lower, found))) < len(found)]
    assert twice == []


def test_no_phrase_leads_to_more_than_three_names() -> None:
    shared = Counter(phrase for found in phrases().values() for phrase in found)
    assert [phrase for phrase, count in shared.items() if count > MOST_NAMES] == []


def test_phrases_are_short_lower_case_and_without_a_mark_at_the_end() -> None:
    odd = [
        (name, phrase)
        for name, found in phrases().items()
        for phrase in found
        if not PLAIN.fullmatch(phrase) or len(phrase.split()) > LONGEST or phrase != " ".join(phrase.split())
    ]
    assert odd == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"[os\n", "not valid TOML"),
        (b"\xff", "not valid TOML"),
        (b'"os.remove" = "delete a file"\n', "os.remove must be a list of phrases"),
        (b'"os.remove" = []\n', "os.remove must be a list of phrases"),
        (b'"os.remove" = ["delete a file", 2]\n', "os.remove must be a list of phrases"),
        (b'"os.remove" = [""]\n', "os.remove must be a list of phrases"),
        (b"[os]\n", "os must be a list of phrases"),
        (b"version = 2\n", "version must be a list of phrases"),
    ],
)
def test_a_malformed_file_is_reported(data: bytes, what: str) -> None:
    with pytest.raises(VocabularyMalformed, match=what) as caught:
        parse(data)
    assert str(caught.value).startswith("vocabulary.toml")
    assert str(caught.value).endswith(".")


def test_a_missing_file_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "FILE", FILE.with_name("no such file.toml"))
    with pytest.raises(VocabularyMalformed, match=r"no such file\.toml cannot be read"):
        phrases.__wrapped__()


@given(st.binary(max_size=60) | st.text("[]ab.=\"',\n #", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_reported(data: bytes) -> None:
    try:
        found = parse(data)
    except VocabularyMalformed:
        return
    assert all(several and all(several) for several in found.values())
