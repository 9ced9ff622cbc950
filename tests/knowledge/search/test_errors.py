"""Errors that people paste: what is read from them, what Python's messages mean, and whether an answer helps.

An answer helps if it explains the message, and has the signature of the call and a fix or the place to look.
The tracebacks that are rated are real: the code is run here.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tomllib
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.knowledge.answer import answer
from assistant.knowledge.build import Folder, build
from assistant.knowledge.index import Index
from assistant.knowledge.passage import ExplainedError, Raised, SearchResult
from assistant.knowledge.search import errors
from assistant.knowledge.search.search import search
from assistant.knowledge.search.tracebacks import LONGEST_MESSAGE, read
from benchmarks.judging import resolve

# Each: code that fails, the signature that the answer must show ("" for none), a part of the fix.
TRACEBACKS = [
    ("int('12a')", "int(", "float"),
    ("import json\njson.dumps({'a': 1}, indnt=2)", "json.dumps(", "Did you mean `indent`?"),
    ("import json\njson.loads('')", "json.loads(", "empty"),
    ("import json\nwith open('none.json') as file:\n    json.load(file)", "open(", "os.getcwd"),
    ("def read(config):\n    return config['nmae']\nread({'name': 1})", "dict.get(", "default"),
    ("def area(width, height):\n    return width * height\narea(3)", "", "leaves out `height`"),
    ("class Dog:\n    def bark(self):\n        pass\nDog().bark(2)", "", "needs `self` first"),
    ("import os\nos.listdirs('.')", "os.listdir(", "Did you mean `os.listdir`"),
    ("[1].appendd(2)", "list.append(", "Did you mean `list.append`"),
    ("import re\nre.match('a', 'b').group()", "", "Check the value for None"),
    ("from collections import Mapping", "collections.abc.Mapping", "have moved"),
    ("import jsn", "json", "Did you mean `json`?"),
    ("import datetime\ndatetime.datetime.strptime('1.2.24', '%Y')", "datetime.datetime.strptime(", "`%d`"),
    ("'total: ' + 5", "", "f-string"),
    ("sorted([3, 'a'])", "sorted(", "`key` function"),
    ("{[1]: 2}", "", "tuple"),
    ("', '.join(['a', 1])", "str.join(", "str"),
    ("b'a,b'.split(',')", "bytes.split(", "encode"),
    ("def f(n):\n    return f(n + 1)\nf(1)", "", "condition that ends"),
    ("import subprocess\nsubprocess.run(['false'], check=True)", "subprocess.run(", "capture_output"),
    ("import sqlite3\nsqlite3.connect(':memory:').execute('select 1 from t')", "sqlite3", "Create it first"),
    ("import asyncio\nit = asyncio.new_event_loop()\nit.close()\nit.call_soon(1)", "asyncio.", "closed it"),
    ("try:\n    {}['a']\nexcept KeyError as e:\n    raise RuntimeError('bad') from e", "", "no key `a`"),
    ("import pydantic\nclass U(pydantic.BaseModel):\n    age: int\nU(age='x')", "BaseModel(", "field `age`"),
    ("import pydantic\nclass U(pydantic.BaseModel):\n    age: int\nU()", "BaseModel(", "no default"),
    ("import httpx\nhttpx.get('http://x', timout=3)", "httpx.get(", "Did you mean `timeout`"),
    ("import requests\nrequests.get('example.com')", "requests.get(", "scheme"),
    ("import yaml\nyaml.safe_load('a: [1')", "yaml.safe_load(", "yaml.parser.ParserError"),
    ("import click\nclick.option('name')(print)", "click.option(", "declar"),
    ("import jinja2\njinja2.Template('{{ a')", "jinja2.Template(", "TemplateSyntaxError"),
    ("'a'.replace('b')", "str.replace(", "at least `2`"),
    ("open('x', encodng='utf-8')", "open(", "the name may be misspelt"),
    ("import operator\noperator.itemgetter()", "operator.itemgetter(", "exactly `1`"),
    ("import os\nos.environ['NO_SUCH_KEY']", "os.environ", "Check the spelling"),
    ("import sqlite3\nsqlite3.connect(':memory:').execute('selct 1')", ".execute(", "just before `selct`"),
    ("import re\nmatch = re.match('a', 'a')\nmatch.group(1)", "re.Match.group(", "no group of this number"),
    ("import struct\nstruct.unpack('<I', b'abc')", "struct.unpack(", "struct.calcsize"),
    ("import os\nos.mkdir('full')\nopen('full/x', 'w').close()\nos.rmdir('full')", "os.rmdir(", "rmtree"),
    ("import os\nopen(os.curdir)", "open(", "Path.iterdir"),
    ("import datetime\ndatetime.date(2026, 13, 1)", "datetime.date(", "Months go from 1 to 12"),
    ("import csv, io\ncsv.DictWriter(io.StringIO(), ['a']).writerow({'b': 1})", "writerow(", "extrasaction"),
    ("import uuid\nuuid.UUID('abc')", "uuid.UUID(", "32 hexadecimal digits"),
    ("import pickle\npickle.dumps(lambda x: x)", "pickle.dumps(", "top level of a module"),
    ("import threading\nlock = threading.Lock()\nlock.release()", "threading.Lock(", "acquire"),
    ("async def g():\n    yield 1\nfor x in g():\n    pass", "", "`async for`"),
    ("from enum import Enum\nclass C(Enum):\n    RED = 1\nC(2)", "", "No member of `C` has the value `2`"),
    ("from enum import Enum\nclass C(Enum):\n    RED = 1\nC.GREEN", "", "has no `GREEN`"),
    ("class A: pass\nclass B(A): pass\nclass C(A, B): pass", "", "derived class first"),
    ("compile('if x = 3: pass', 'app.py', 'exec')", "", "To compare, write `==`"),
    ("compile('def f(a=1, b): pass', 'app.py', 'exec')", "", "Move `b` before"),
    ("import ipaddress\nipaddress.ip_address('10.0.0.256')", "ip_address(", "from 0 to 255"),
    ("import pydantic\nclass U(pydantic.BaseModel, extra='forbid'):\n    a: int\nU(a=1, b=2)", "", "`b`"),
    ("import yaml\nyaml.safe_load('a: b: c')", "yaml.safe_load(", "quotation marks"),
    ("import jinja2\njinja2.Template('{{ a.b }}').render()", "render(", "`a`"),
    ("import httpx\nc = httpx.Client()\nc.close()\nc.get('http://x')", "httpx.Client.get(", "is true"),
]  # fmt: skip
ENOUGH = 0.9  # of them must be helpful
PACKAGES = ("pydantic", "httpx", "requests", "yaml", "PyYAML", "click", "jinja2")


def pasted(code: str, folder: Path) -> str:
    """The traceback of code that is run as a file."""
    file = folder / "app.py"
    file.write_text(code)
    try:
        exec(compile(code, file, "exec"), {"__name__": "__main__"})
    except Exception as error:  # noqa: BLE001 - the code is meant to fail
        error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
        return "".join(traceback.format_exception(error))
    raise AssertionError(f"no error: {code}")


@pytest.fixture(scope="module")
def packages(documentation_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """The library, some packages, and a page on an error."""
    site = tmp_path_factory.mktemp("site")
    for found in Path(pydantic.__file__).parents[1].iterdir():
        if found.name.partition("-")[0].lower() in {name.lower() for name in PACKAGES}:
            (site / found.name).symlink_to(found)
    guide = tmp_path_factory.mktemp("guide")
    heading = "# Dictionary changed size during iteration"
    (guide / "caches.md").write_text(f"{heading}\n\nThe cache of our crank was cleared by another thread.\n")
    file = site.parent / "packages.db"
    shutil.copy(documentation_index, file)
    build(file, lambda _: None, environments=[site], folders=[Folder(guide)], processes=1)
    with contextlib.closing(Index(file)) as index:
        yield index


def helps(found: SearchResult, signature: str, fix: str) -> bool:
    """Whether an answer explains the message, and has the call's signature and a fix or the place to look."""
    error, shown = found.error, answer("?", found).text
    if error is None:
        return False
    is_explained = bool(error.meaning or error.raised or error.documented or found.facts)
    return is_explained and signature in shown and fix in shown.replace("\n> ", " ")


def test_most_answers_to_real_tracebacks_help(
    packages: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    useless = [
        code
        for code, signature, fix in TRACEBACKS
        if not helps(search(packages, f"Why? {pasted(code, tmp_path)}"), signature, fix)
    ]
    assert 1 - len(useless) / len(TRACEBACKS) >= ENOUGH, useless


def test_a_page_on_a_message_of_pythons_is_found(packages: Index) -> None:
    found = search(packages, "RuntimeError: dictionary changed size during iteration")
    assert found.error is not None
    assert found.error.meaning is not None
    assert [passage.location for passage in found.passages if passage.corpus == "docs"] == ["caches.md:3"]


# Reading

PYTHON = """\
Traceback (most recent call last):
  File "/srv/app.py", line 8, in main
    total = int(text) + load(path,
            ^^^^^^^^^
  File "/usr/lib/python3.11/json/__init__.py", line 293, in load
    return loads(fp.read(),
ValueError: bad
"""
IPYTHON = """\
ValueError                                Traceback (most recent call last)
Cell In[5], line 2
      1 x = 1
----> 2 total = int(text) + 1

File ~/venv/lib/python3.11/site-packages/pandas/core/frame.py:4107, in DataFrame.load(self, key)
   4106     pass
-> 4107 raise ValueError(key)

ValueError: bad
"""
PYTEST = """\
    def test_total():
>       total = int(text)
E       ValueError: bad

tests/test_app.py:8: ValueError
"""
SHORT_PYTEST = "tests/test_app.py:8: in test_total\n    total = int(text)\nE   ValueError: bad\n"
FLAT = (
    'Traceback (most recent call last): File "app.py", line 8, in <module> total = int(text) ValueError: bad'
)
IN_A_GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "/srv/app.py", line 7, in main
  |     async with asyncio.TaskGroup() as group:
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/app.py", line 8, in work
    |     total = int(text)
    | ValueError: bad
    +------------------------------------
"""


@pytest.mark.parametrize(
    "text",
    [
        PYTHON,
        f"Why?\n\n```\n{PYTHON}```\nWhat can I do?",
        re.sub("^", "web_1  | ", PYTHON, flags=re.MULTILINE),
        re.sub("^", "> ", PYTHON, flags=re.MULTILINE),
        re.sub("^ +", "", PYTHON, flags=re.MULTILINE),
        PYTHON.replace("\n", "\r\n"),
        f"2026-01-01 12:00:00 ERROR app: failed\n{PYTHON}2026-01-01 12:00:01 INFO next",
        IPYTHON,
        PYTEST,
        SHORT_PYTEST,
        FLAT,
        IN_A_GROUP,
    ],
)
def test_a_traceback_is_read_in_each_style(text: str) -> None:
    report = read(text)
    assert report is not None
    assert (report.exception, report.message) == ("ValueError", "bad")
    assert report.own is not None
    assert report.own.code.startswith("total = int(text)")
    assert report.own.line in (2, 8)


@pytest.mark.parametrize(
    ("text", "exception", "message"),
    [
        ("ValueError: bad", "ValueError", "bad"),
        ("I get `app.errors.NotFoundError: no user` at night.", "app.errors.NotFoundError", "no user"),
        ("Why KeyError: 'name' here?", "KeyError", "'name' here?"),
        ("struct.error: unpack requires a buffer", "struct.error", "unpack requires a buffer"),
        ("a.py:3: FutureWarning: soon\n  old()", "FutureWarning", "soon"),
        ("a.py:3: DeprecatedSince2: soon\n  old()", "DeprecatedSince2", "soon"),
        ("np._UFuncError: cannot cast", "np._UFuncError", "cannot cast"),
        ("RuntimeError: \n        It ends\n        here.", "RuntimeError", "\nIt ends\nhere."),
        ("x.UsageError: 1 error\nage\n  bad [type=a]\nWhy?", "x.UsageError", "1 error\nage\nbad [type=a]"),
        ("fatal: not a git repository", "", "not a git repository"),
        ("TypeError: x.map is not a function\n    at App (App.js:10:5)", "", "x.map is not a function"),
        ('File "a.py", line 1\n    C.GREEN\nAttributeError: GREEN', "AttributeError", "GREEN"),
        (f"{PYTHON}sys:1: RuntimeWarning: coroutine 'f' was never awaited", "ValueError", "bad"),
        ("app.py: error: argument -n: invalid int value: 'x'", "", "argument -n: invalid int value: 'x'"),
        (">   assert a\nE   assert 1 == 2\n\na.py:8: AssertionError", "AssertionError", "assert 1 == 2"),
    ],
)  # fmt: skip
def test_a_message_is_read_from_any_text(text: str, exception: str, message: str) -> None:
    report = read(text)
    assert report is not None
    assert (report.exception, report.message) == (exception, message)


@pytest.mark.parametrize(
    "text",
    ["What is a KeyError?", "How do I catch ValueError", "errors: what are they", "", "a: b", "E   E   E"],
)
def test_other_questions_have_no_error(text: str) -> None:
    assert read(text) is None


def test_the_last_error_of_a_chain_has_its_cause() -> None:
    chain = f"{PYTHON}\nThe above exception was the direct cause of the following exception:\n\n{PYTHON}"
    report = read(chain.replace("bad", "first", 1))
    assert report is not None
    assert report.cause is not None
    assert (report.message, report.cause.message) == ("bad", "first")
    wrapped = read("sqlalchemy.exc.DBAPIError: (sqlite3.Error) no such table: a\n[SQL: b]")
    assert wrapped is not None
    assert wrapped.cause is not None
    assert (wrapped.cause.exception, wrapped.cause.message) == ("sqlite3.Error", "no such table: a")


def test_the_code_below_the_marks_and_the_frames_of_libraries_are_told_apart() -> None:
    report = read(PYTHON)
    assert report is not None
    assert report.own is not None
    assert report.own.marked == "int(text)"
    assert [frame.inside for frame in report.below] == ["json/__init__.py"]
    windows = PYTHON.replace("/usr/lib/python3.11/", "C:\\Python311\\Lib\\").replace("json/", "json\\")
    report = read(windows)
    assert report is not None
    assert [frame.inside for frame in report.below] == ["json/__init__.py"]


HOSTILE = (
    "'",
    "a.",
    "a ",
    'File "',
    "Error: ",
    "E   ",
    "(\n",
    "x.y.ZError:",
    " ",
    "a(",
    "> x\n",
    ">  x\n",
    "`",
)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from((*HOSTILE, *PYTHON.split("\n"), *IPYTHON.split("\n"))), max_size=30).map("".join)
)
def test_any_text_is_read(text: str) -> None:
    report = read(text)
    assert report is None or len(report.message) <= LONGEST_MESSAGE


@pytest.mark.parametrize("piece", HOSTILE)
def test_very_long_texts_are_searched(library: Index, piece: str) -> None:
    for text in (piece * (100_000 // len(piece)), f"KeyError: {piece * 50_000}", f"{PYTHON}{piece * 50_000}"):
        answer("?", errors.search(library, text) or SearchResult())


# Python's messages


def test_every_message_of_python_is_found_by_its_own_text() -> None:
    values = {"function": "f", "count": "2", "given": "3", "s": "s", "bracket": "(", "class": "X"}
    table = tomllib.loads(errors.MESSAGES.read_text("utf-8"))["messages"]
    for messages, (meaning, *_) in table.items():
        for message in messages.split(" | "):
            names = dict.fromkeys(re.findall(r"\{(\w+)\}", message), "'x'") | values
            if message.startswith(("{type}", "{text}")):
                names |= {"type": "list", "text": "7"}
            text = message.removesuffix("$")
            for name, value in names.items():
                text = text.replace(f"{{{name}}}", value.strip("'"))
            exception, _, rest = text.partition(": ") if re.match(r"[A-Z]\w+: ", text) else ("", "", text)
            template, found = errors._meaning(errors.ErrorReport(exception or "Error", rest))
            assert template is not None, message
            assert template.meaning.startswith(meaning), message
            assert found.keys() >= set(re.findall(r"\{(\w+)\}", message)) - {"s"}


def test_every_name_to_look_at_exists(library: Index) -> None:
    table = tomllib.loads(errors.MESSAGES.read_text("utf-8"))["messages"]
    names = {name for _, *see in table.values() for name in see if not library.named(name)}
    assert {name for name in names if name.partition(".")[0] in sys.stdlib_module_names} == set()
    assert {name for name in names if "." not in name or resolve(name) is None} == set()


def test_each_meaning_uses_the_names_of_its_messages_and_none_inside_code() -> None:
    for messages, (meaning, *_) in tomllib.loads(errors.MESSAGES.read_text("utf-8"))["messages"].items():
        assert not any("{" in code for code in re.findall(r"`[^`]*`", meaning)), meaning
        used = set(re.findall(r"\{(\w+)\}", meaning))
        assert any(used <= set(re.findall(r"\{(\w+)\}", message)) for message in messages.split(" | "))
        assert meaning.format_map(dict.fromkeys(used, "x"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TypeError: 'coroutine' object is not subscriptable", "Put `await` before"),
        ("TypeError: object of type 'generator' has no len()", "`list(...)` makes a list"),
        ("AttributeError: 'function' object has no attribute 'name'", "put parentheses"),
        ("TypeError: unhashable type: 'list'", "tuple"),
    ],
)
def test_the_type_that_a_message_names_is_explained(library: Index, text: str, expected: str) -> None:
    assert expected in answer("?", search(library, text)).text


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What does 'NoneType' object is not subscriptable mean?", "is None"),
        ("Why do I get maximum recursion depth exceeded?", "calls itself"),
        ("I get a TypeError unhashable type: 'list' in my set", "tuple"),
        ("Python says expected an indented block after 'if' statement on line 3", "`pass`"),
    ],
)
def test_a_message_without_its_class_is_explained(library: Index, question: str, expected: str) -> None:
    found = search(library, question)
    assert found.error is not None
    assert expected in answer("?", found).text


# The statement that raised it


RAISED = Raised(
    "ValueError", "no … in …", "crank.turn", "crank/turning.py:7", "if not x:\n    raise ValueError(...)"
)


@pytest.mark.parametrize(
    ("message", "raised", "is_found"),
    [
        ("no handle in wood", RAISED, False),  # too few letters to be sure
        ("no handle in wood", replace(RAISED, message="no handle in …"), True),
        ("wood in no handle", replace(RAISED, message="no handle in …"), False),
        ("no handle in wood", replace(RAISED, message="no handle in …", exception="KeyError"), False),
        ("anything", replace(RAISED, message=""), False),
    ],
)
def test_a_raise_statement_is_known_by_the_words_of_its_message(
    library: Index, monkeypatch: pytest.MonkeyPatch, message: str, raised: Raised, is_found: bool
) -> None:
    monkeypatch.setattr(library, "raised_like", lambda *_: [raised])
    found = errors.search(library, f"ValueError: {message}")
    assert found is not None
    assert found.error is not None
    assert (found.error.raised == raised) is is_found
    assert ("`crank/turning.py:7` raises it because" in answer("?", found).text) is is_found


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("if not x:\n    raise ValueError(...)", "because `not x` is true:"),
        ("elif (\n    x\n    and y[1:]\n):  # both\n    raise E", "because `( x and y[1:] )` is true:"),
        ("if x:\n    …\nelse:\n    raise ValueError(...)", "because `x` is false:"),
        ("except KeyError as error:\n    raise E", "raises it here:"),
        ("raise ValueError(...)", "raises it here:"),
    ],
)
def test_a_raise_statement_is_shown_with_its_reason(code: str, reason: str) -> None:
    error = ExplainedError("ValueError", "bad", raised=replace(RAISED, code=code))
    assert reason in answer("?", SearchResult(error=error)).text


def test_a_message_alone_is_explained_by_the_function_that_raises_it(library: Index) -> None:
    text = "TypeError: Population must be a sequence.  For dicts or sets, use sorted(d)."
    shown = answer("?", search(library, text)).text
    assert "because `not isinstance(population, _Sequence)` is true:" in shown
    assert "sample(population, k" in shown


def test_what_c_code_raised_is_not_looked_for_in_python_code(
    library: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = replace(RAISED, message="no handle in …")
    monkeypatch.setattr(library, "raised_like", lambda *_: [like])
    own = 'File "/srv/app.py", line 8, in <module>\n    turn(text)\nValueError: no handle in wood'
    inside = own.replace("/srv/app.py", "/usr/lib/python3.11/crank/turning.py")
    for text, expected in ((own, None), (inside, like)):
        found = errors.search(library, text)
        assert found is not None
        assert found.error is not None
        assert found.error.raised == expected


def test_the_definition_of_the_own_function_is_shown() -> None:
    text = "class Cart:\n    def __init__(self, owner, limit=f(3)):\n        pass\n\n"
    text += "TypeError: Cart.__init__() missing 1 required positional argument: 'owner'"
    names = {"function": "Cart.__init__"}
    facts = [fact.names["definition"] for fact in errors._own_definition(text, names)]
    assert facts == ["def __init__(self, owner, limit=f(3))"]


def test_a_raise_statement_is_known_by_its_place(library: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    at_place = replace(RAISED, message="", location="json/__init__.py:293")
    monkeypatch.setattr(library, "raised_like", lambda *_: [RAISED, at_place])
    found = errors.search(library, PYTHON)
    assert found is not None
    assert found.error is not None
    assert found.error.raised == at_place
