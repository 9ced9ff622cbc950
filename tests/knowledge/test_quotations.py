"""Every sentence of an answer is in the documentation of this Python, at the location that the answer states.

Parses hundreds of answers and compares them with the files and live objects themselves, not with the index.
Apart from the sentences of the interface, all text must be in a source, and each source at its location.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import tomllib
import unicodedata
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.conversation import Source
from assistant.knowledge.answer import INSTEAD, INTERFACE, DocumentationAnswer, answer
from assistant.knowledge.index import Index
from assistant.knowledge.passage import Passage, SearchResult
from assistant.knowledge.rest_in_words import in_words
from assistant.knowledge.search import versions
from assistant.knowledge.search.errors import DEFINED, MESSAGES, SAYS
from assistant.knowledge.search.search import search
from tests.knowledge.answer_reader import Piece, pieces_of
from tests.knowledge.search.test_questions_file import QUESTIONS, exists
from tests.support.fake_documentation import RMTREE

STDLIB = Path(sysconfig.get_path("stdlib"))
WALKED = 300  # answers about names in the index, besides those to the questions
EXAMPLE = "Example"
EXAMPLE_LINES = 40  # an example is shorter
ITEM = re.compile(r"- `+(?P<name>[^`]+)`+(?:: “(?P<quote>.*)”)? \(.*\)", re.DOTALL)
STANDS = re.compile(r"`(?P<name>[^`]+)`, (?P<package>.+?) \((?P<licence>.+?)\), \[?`(?P<place>[^`]+)`.*")
BLANKS = {
    "{name}": "`[^`]*`",
    "{names}": "[^?]*",
    "{place}": "`[^`]*`",
    "{packages}": r"(?:[^.]|\.(?=\w))*",
    "{technology}": "[^,]*",
    "{condition}": "`[^`]*`",
    "{truth}": "(?:true|false)",
}
CODE = "(?:`[^`]*`|…)"
TABLES = tomllib.loads(MESSAGES.read_text("utf-8"))
MEANINGS = [meaning for meaning, *_ in TABLES["messages"].values()]
FACTS = (*MEANINGS, *TABLES["types"].values(), *versions.SENTENCES, SAYS, DEFINED)
SENTENCES = [
    re.compile("".join(blanks.get(part, other(part)) for part in re.split(r"(\{\w+\})", sentence)))
    for sentences, blanks, other in (
        (INTERFACE, BLANKS, re.escape),
        (FACTS, {"{package}": r"[\w. -]+"}, lambda part: CODE if part[:1] == "{" else re.escape(part)),
    )
    for sentence in sentences
]


INVISIBLE = dict.fromkeys(
    code
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in ("Cc", "Cf") and not chr(code).isspace()
)


# The marks of reStructuredText, which a quotation does not show.
MARKS = re.compile(r":[a-z][\w:.-]*:(?=`)|`+|(?<=:):$", re.MULTILINE)


def folded(text: str) -> str:
    return " ".join(text.translate(INVISIBLE).split())


def words(text: str) -> str:
    """A text that is quoted, or a quotation of it."""
    return folded(MARKS.sub("", text))


# What stands where


@functools.cache
def tree(file: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse((STDLIB / file).read_bytes())


@functools.cache
def lines(file: str) -> list[str]:
    return (STDLIB / file).read_text(encoding="utf-8", errors="replace").split("\n")


def live(name: str) -> Any:
    module, _, hook = name.partition(".")
    if module == "sys" and hasattr(sys, f"__{hook}__"):  # pytest has replaced these hooks
        name = f"sys.__{hook}__"
    parts = name.split(".")
    for cut in range(len(parts), -1, -1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                thing = importlib.import_module(".".join(parts[:cut]) if cut else "builtins")
            return functools.reduce(getattr, parts[cut:], thing)
        except (ImportError, AttributeError, ValueError):
            continue
    raise LookupError(name)


@functools.cache
def definitions(file: str) -> dict[int, list[ast.AST]]:
    """The functions and classes of a file, by the lines where they and their decorators begin."""
    found: dict[int, list[ast.AST]] = {}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for line in {node.lineno, *(each.lineno for each in node.decorator_list)}:
                found.setdefault(line, []).append(node)
    return found


def docstrings(node: ast.AST) -> str:
    """The docstring of a function, or of a class and its `__init__`."""
    makers = [each for each in getattr(node, "body", []) if getattr(each, "name", "") == "__init__"]
    nodes = [node, *makers] if isinstance(node, ast.ClassDef) else [node]
    return "\n\n".join(filter(None, (ast.get_docstring(each) for each in nodes)))  # type: ignore[arg-type]


def bases(file: str, node: ast.AST) -> list[ast.AST]:
    """The classes of the same file from which a class inherits, and the class."""
    names = {base.id for base in getattr(node, "bases", []) if isinstance(base, ast.Name)}
    found = [each for each in tree(file).body if isinstance(each, ast.ClassDef) and each.name in names]
    return [node, *(base for each in found for base in bases(file, each))]


def documents(source: Source) -> list[str]:
    """The texts at a source's location."""
    place = source.location
    if place.endswith(".__doc__"):
        name = place.removesuffix(".__doc__")
        top = name.partition(".")[0]
        within = [each for each in (top, f"_{top}") if importlib.util.find_spec(each)]
        docs = [getattr(live(each), "__doc__", None) for each in (name, *within)]
        return [doc for doc in docs if doc]
    file, _, line = place.rpartition(":")
    if file == "pydoc_data/topics.py":
        return [live("pydoc_data.topics.topics")[line]]
    if source.title == EXAMPLE:
        return ["\n".join(lines(file)[int(line) - 1 : int(line) + EXAMPLE_LINES])]
    found = definitions(file).get(int(line), [])
    texts: list[str | None] = [docstrings(node) for node in found]
    classes = [node for node in found if isinstance(node, ast.ClassDef)]  # with the docstrings of attributes
    texts += ["\n".join(lines(file)[node.lineno - 1 : node.end_lineno]) for node in classes]
    if not any(texts):  # a constant or module: the following lines, or the module's docstring
        here = lines(file)[max(0, int(line) - 40) : int(line) + 60]
        comments = (re.sub(r"^\s*#:? ?", "", each) for each in here)
        texts += [ast.get_docstring(tree(file)), "\n".join(here), "\n".join(comments)]
        if lines(file)[int(line) - 1].startswith(
            f"{source.name.rpartition('.')[2]} = "
        ):  # `choice = _inst.choice`
            texts.append(inspect.getdoc(live(source.name)))
    return [text for text in texts if text]


def signature_words(source: Source) -> set[str]:
    """The words that the signature of a source may have."""
    place = source.location
    text = source.name
    if place.endswith(".__doc__"):
        thing = live(place.removesuffix(".__doc__"))
        text += f" {getattr(thing, '__doc__', '')}"
        with warnings.catch_warnings(), contextlib.suppress(TypeError, ValueError, AttributeError, NameError):
            warnings.simplefilter("ignore")
            text += f" {inspect.signature(thing)}"
        text += f" {thing!r}"
    elif not place.startswith("pydoc_data/"):
        file, _, line = place.rpartition(":")
        text += " " + " ".join(lines(file)[int(line) - 1 : int(line) + 5])
        if not definitions(file).get(int(line)):  # `choice = _inst.choice`
            with contextlib.suppress(TypeError, ValueError, LookupError):
                text += f" {inspect.signature(live(source.name))}"
        for node in [each for found in definitions(file).get(int(line), []) for each in bases(file, found)]:
            text += " " + ast.unparse(node)
        with contextlib.suppress(LookupError):  # a class may have the signature of its base
            text += " ".join(each.__doc__ or "" for each in getattr(live(source.name), "__mro__", ()))
        text += f" {source.quote}"
    found = set(re.findall(r"\w+", text))
    return found | {str(int(word, 0)) for word in found if re.fullmatch(r"0[xob][0-9a-fA-F]+", word)}


def is_there(source: Source) -> bool:
    """Whether the name of a source exists, here or in a definition for other systems."""
    file, _, line = source.location.rpartition(":")
    if exists(source.name):
        return True
    if source.location == f"{source.name}.__doc__":  # `os._exit`: public in spite of its underscore
        with contextlib.suppress(LookupError):
            return live(source.name) is not None
    if file == "pydoc_data/topics.py":
        return folded(source.name) in folded(documents(source)[0]).replace('"', "")
    last = source.name.rpartition(".")[2]
    if file.removesuffix(".py") == source.name.replace(".", "/"):  # a module that needs another library
        return True
    if file.endswith(".py") and re.match(rf"\s*{last}\b.*=", lines(file)[int(line) - 1]):  # a constant
        return True
    if file.endswith(".py"):
        return any(getattr(node, "name", "") == last for node in definitions(file).get(int(line), []))
    return False


# Checking an answer


def untrue(shown: DocumentationAnswer) -> list[str]:
    """The parts of an answer that are not at the location that it states."""
    wrong = []
    for source in shown.sources:
        texts = [form for text in documents(source) for form in (text, in_words(text))]
        parts = re.split(r"\n+- `?\w+`?: ", source.quote)  # the text, and those of attributes
        if not all(any(words(part) in words(text) for text in texts) for part in parts if part):
            wrong.append(f"{source.name}: not at {source.location}: {source.quote[:200]!r}")
        if source.title != EXAMPLE and not is_there(source):
            wrong.append(f"{source.name} does not exist")
    wrong += [
        f"not quoted: {piece}" for piece in pieces_of(shown.text) if not _is_known(piece, shown.sources)
    ]
    return wrong


def _is_known(piece: Piece, sources: tuple[Source, ...]) -> bool:
    text = folded(piece.text)
    if text in INTERFACE:
        return True
    if piece.quoted:
        return any(words(piece.text) in words(source.quote) for source in sources)
    if piece.kind == "code":
        if any(words(text) in words(source.quote) for source in sources):
            return True
        return any(
            re.match(rf"{re.escape(source.name)}\W|{re.escape(source.name)}$", text)
            and set(re.findall(r"\w+", text)) <= signature_words(source)
            for source in sources
        )
    if piece.kind == "bold":
        return any(text == folded(source.title) for source in sources)
    if piece.kind == "item":
        return all(_is_alternative(each, sources) for each in re.split(r"\n(?=- `)", piece.text))
    if found := STANDS.fullmatch(text):
        return any(
            (found["name"], found["package"], found["licence"], found["place"])
            == (source.name, f"{source.package} {source.version}", source.licence, source.location)
            for source in sources
        )
    rest = text
    while found := next(filter(None, (pattern.match(rest) for pattern in SENTENCES)), None):
        rest = rest[found.end() :].strip()
    return rest == ""


def _is_alternative(item: str, sources: tuple[Source, ...]) -> bool:
    found = ITEM.fullmatch(item)
    quote = words(found["quote"] or "").removesuffix("…") if found else ""
    return found is not None and any(
        source.name == found["name"] and quote in words(source.quote) for source in sources
    )


# Answers


@pytest.fixture(scope="module")
def walked(library: Index) -> list[str]:
    """Names from the whole index."""
    rows = library.connection.execute("SELECT DISTINCT name FROM passage ORDER BY name").fetchall()
    names = [name for (name,) in rows]
    return names[:: max(1, len(names) // WALKED)]


def test_answers_to_real_questions_are_quotations(library: Index) -> None:
    wrong = {}
    for entry in QUESTIONS:
        found = untrue(answer(entry["text"], search(library, entry["text"])))
        if found:
            wrong[entry["text"]] = found
    assert wrong == {}


def test_answers_about_names_in_the_whole_library_are_quotations(library: Index, walked: list[str]) -> None:
    wrong = {}
    for name in walked:
        question = f"What does {name} do?"
        passages = tuple(entry.passage for entry in library.named(name)[:2])
        for found in (search(library, question), SearchResult(passages)):
            if text := untrue(answer(question, found)):
                wrong[name] = text
    assert len(walked) + len(QUESTIONS) > 500
    assert wrong == {}


# The check itself

RMDIR = replace(
    RMTREE,
    name="os.rmdir",
    title="os.rmdir",
    text="Remove a directory.",
    location="os.rmdir.__doc__",
    signature="os.rmdir(path, *, dir_fd=None)",
)


def test_a_true_answer_passes() -> None:
    for found in (SearchResult((RMDIR,)), SearchResult(unknown="os.teleport", did_you_mean=("os.read",))):
        for instead in (False, True):
            shown = answer("?", found, instead=instead)
            assert untrue(shown) == []
            assert shown.text.startswith(INSTEAD) is instead


@pytest.mark.parametrize(
    "untrue_passage",
    [
        replace(RMDIR, text="Removes a directory."),
        replace(RMDIR, text="Remove a directory.\n\nIt is quick."),
        replace(RMDIR, location="os.rename.__doc__"),
        replace(RMDIR, location="shutil.py:1"),
        replace(RMDIR, name="os.teleport", signature=""),
        replace(RMDIR, signature="os.rmdir(path, quickly=True)"),
        replace(RMDIR, example="os.rmdir(home)", example_location="shutil.py:1"),
    ],
)
def test_an_invented_passage_fails(untrue_passage: Passage) -> None:
    assert untrue(answer("?", SearchResult((untrue_passage,)))) != []


@pytest.mark.parametrize(
    "line", ["It is quick.", "> It is quick.", "- `os.rmdir`: “Quick.” (x)", "```\nquick()\n```"]
)
def test_an_invented_sentence_fails(line: str) -> None:
    shown = answer("?", SearchResult((RMDIR,)))
    assert untrue(replace(shown, text=f"{shown.text}\n{line}\n")) != []
