"""The documentation of the interpreter: each API once, under its usual name."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from assistant.knowledge.index import Index
from assistant.knowledge.passage import Passage
from assistant.knowledge.reading import python_library


def one(library: Index, name: str) -> Passage:
    return library.named(name)[0].passage


@pytest.mark.parametrize(
    "name",
    """
    shutil.rmtree os.path.join os.remove os.environ open len print collections.OrderedDict functools.partial
    itertools.chain.from_iterable datetime.datetime.strptime re.Pattern re.Pattern.match re.compile json.loads
    subprocess.run asyncio.gather concurrent.futures.ThreadPoolExecutor pathlib.Path.mkdir random.choice
    collections.abc.Iterable typing.Optional sqlite3.connect str.split dict.get list.append bytes.hex
    int.to_bytes KeyError string.ascii_letters math.pi sys.argv multiprocessing.Pool threading.Lock
    collections.Counter.most_common socket.socket.connect yield with lambda try json os.path
    """.split(),  # noqa: SIM905
)
def test_an_api_has_one_passage_under_its_usual_name(library: Index, name: str) -> None:
    passages = [entry.passage for entry in library.named(name)]
    assert passages[0].name == name
    assert len([each for each in passages if each.kind != "topic"]) == 1
    assert passages[0].package == "Python"
    assert passages[0].licence == "PSF-2.0"
    assert passages[0].version == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ("posixpath.join", "os.path.join"),
        ("io.open", "open"),
        ("IOError", "OSError"),
        ("except", "try"),
        ("asyncio.tasks.gather", "asyncio.gather"),
        ("builtins.len", "len"),
        ("pathlib.Path.with_suffix", "pathlib.PurePath.with_suffix"),
    ],
)
def test_an_alias_leads_to_the_passage(library: Index, other: str, name: str) -> None:
    assert one(library, other).name == name


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("shutil.rmtree", "library/shutil.html#shutil.rmtree"),
        ("os.path.join", "library/os.path.html#os.path.join"),
        ("open", "library/functions.html#open"),
        ("str.split", "library/stdtypes.html#str.split"),
        ("KeyError", "library/exceptions.html#KeyError"),
        ("json", "library/json.html#module-json"),
        ("asyncio.gather", "library/asyncio-task.html#asyncio.gather"),
        ("unittest.mock.patch", "library/unittest.mock.html#unittest.mock.patch"),
        ("with", "reference/compound_stmts.html#with"),
    ],
)
def test_a_passage_has_its_address_on_docs_python_org(library: Index, name: str, page: str) -> None:
    assert one(library, name).url == python_library.DOCS + page


def test_a_passage_has_its_file_and_line(library: Index) -> None:
    found = one(library, "shutil.rmtree")
    file, _, line = found.location.partition(":")
    written = (python_library.ROOT / file).read_text(encoding="utf-8").splitlines()
    assert written[int(line) - 1].startswith("def rmtree(")
    assert found.signature.startswith("shutil.rmtree(path, ignore_errors=False")
    assert one(library, "math.sqrt").location == "math.sqrt.__doc__"
    assert one(library, "with").location == "pydoc_data/topics.py:with"


def test_an_undocumented_name_gets_its_lines_from_the_module_docstring(library: Index) -> None:
    assert one(library, "sys.argv").text.startswith("argv -- command line arguments")
    assert (
        one(library, "string.ascii_letters").text == "ascii_letters -- a string containing all ASCII letters"
    )


def test_examples_are_lines_of_their_files(library: Index) -> None:
    passages = [hit.passage for hit in library.all() if hit.passage.example][:300]
    assert len(passages) == 300
    for passage in passages:
        example, location = passage.example, passage.example_location
        file, _, line = location.partition(":")
        written = Path(python_library.ROOT, file).read_bytes().decode("utf-8", "replace").split("\n")
        assert written[int(line) - 1].strip() == example.splitlines()[0].strip()


def test_modules_with_effects_at_import_are_left_out() -> None:
    units = python_library.units()
    assert not {"antigravity", "this", "idlelib", "test", "turtledemo", "__main__"} & set(units)
    assert units[:2] == ["builtins", python_library.TOPICS]
    assert [unit for unit, count in Counter(units).items() if count > 1] == []


def test_messages_of_the_library_are_known_with_their_place() -> None:
    raised = {
        (each.owner, each.message): each
        for unit in ("builtins", "json")
        for each in python_library.read(unit).raised
    }
    found = raised["_strptime._strptime", "time data … does not match format …"]
    assert (found.exception, found.location.partition(":")[0]) == ("ValueError", "_strptime.py")
    assert found.code.startswith("if not found:\n")
    assert ("json.decoder.JSONDecoder.raw_decode", "Expecting value") in raised


def test_every_library_signature_is_whole(library: Index) -> None:
    signatures = [hit.passage.signature for hit in library.all() if "(" in hit.passage.signature]
    assert len(signatures) > 5000
    assert [signature for signature in signatures if signature.endswith("…)")] == []
