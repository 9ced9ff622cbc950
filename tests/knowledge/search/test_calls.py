"""The function that failed: found where the code in a question shows it, and never guessed."""

from __future__ import annotations

import pytest

from assistant.knowledge.answer import answer
from assistant.knowledge.index import Index
from assistant.knowledge.search import errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('File "a.py", line 1\n    os.fsync("x")\nTypeError: bad type of it', "os.fsync("),
        ("import sqlite3\nx = sqlite3.connect('a')\nx.execute('b')\n\nTypeError: bad type", "sqlite3."),
        ("with open('a') as it:\n    it.read(2, 3)\n\nTypeError: bad type of it", "io.TextIOWrapper.read("),
        ('File "a.py", line 1\n    match.groups("x")\nTypeError: bad type of it', "re.Match.groups("),
        ("TypeError: replace expected at least 2 arguments, got 1", "str.replace("),
        ('File "a.py", line 1\n    class A(json.JSONEncoder, x=1):\nTypeError: bad', "json.JSONEncoder("),
        ('File "a.py", line 1\n    x = date.today(3)\nTypeError: bad type of it', "datetime.date.today("),
        ("TypeError: reduce() of empty iterable with no initial value", "functools.reduce("),
        ("File \"a.py\", line 1\n    seen.add({})\nTypeError: unhashable type: 'dict'", "set.add"),
        ('File "a.py", line 1\n    d.pop("x")\nKeyError: \'x\'', "dict.pop("),
        ('File "a.py", line 1\n    b.bind(3)\nOSError: [Errno 98] Address already in use', ".bind(address)"),
        ('File "a.py", line 1\n    sys.argv[1]\nIndexError: list index out of range', "sys.argv"),
    ],
)
def test_the_call_is_known_by_what_the_code_shows(library: Index, text: str, expected: str) -> None:
    found = errors.search(library, text)
    assert found is not None
    assert found.error is not None
    assert found.error.call is not None
    assert expected in answer("?", found).text


@pytest.mark.parametrize(
    "code",
    [
        "copy(x)",
        "g(x)",
        "x.get(3)",
        "x.y",
        "Cart().add2(x)",
        "lock.release()",
        "abs(a) + x\n    ~~~~~~~^~~",
        "f(x)",
    ],
)
def test_a_call_that_may_be_anything_is_not_guessed(library: Index, code: str) -> None:
    found = errors.search(library, f'File "a.py", line 1\n    {code}\nValueError: bad value of it')
    assert found is not None
    assert found.error is None or found.error.call is None


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ('json/decoder.py", line 300, in __init__', "json.JSONDecoder"),
        ('enum.py", line 418, in __setitem__', None),  # of a private class
    ],
)
def test_a_special_method_belongs_to_a_class_that_goes_on_below(
    library: Index, frame: str, expected: str | None
) -> None:
    text = (
        f'File "a.py", line 1\n    x = y\nFile "/usr/lib/python3.11/{frame}\n    z()\nValueError: bad value'
    )
    found = errors.search(library, text)
    call = found.error.call if found is not None and found.error is not None else None
    assert (call.name if call is not None else None) == expected
