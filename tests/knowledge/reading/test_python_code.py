"""Python source is read without being run: its names, signatures, docstrings and calls."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.knowledge.reading.python_code import (
    LARGEST_FILE,
    Module,
    SourceUnreadable,
    read_module,
    read_text,
)
from assistant.knowledge.reading.python_names import PublicDefinition, public_definitions


def documented(*names: str) -> str:
    """Source of functions, each with its name as its docstring."""
    return "".join(f'def {name}():\n    """{name}"""\n' for name in names)


def module(text: str, name: str = "m", path: str = "", **options: bool) -> Module:
    return read_module(text, name, path or f"{name.replace('.', '/')}.py", **options)


def exported(**texts: str) -> dict[str, PublicDefinition]:
    """The public definitions of these modules. In a key, `__` is a dot, and at the end it marks a package."""
    modules = {}
    for key, text in texts.items():
        name = key.strip("_").replace("__", ".")
        path = name.replace(".", "/") + ("/__init__.py" if key.endswith("__") else ".py")
        modules[name] = read_module(text, name, path)
    return {public.name: public for public in public_definitions(modules)}


def test_a_function_has_its_signature_docstring_and_line() -> None:
    found = module('\ndef f(a, /, b: int = 1, *c, d=None, **e) -> str:\n    """Do.\n\n      More.\n    """\n')
    definition = found.definitions["f"]
    assert definition.signature == "(a, /, b: int = 1, *c, d=None, **e) -> str"
    assert definition.doc == "Do.\n\nMore."
    assert (definition.kind, definition.line) == ("function", 2)


def test_methods_have_no_self_and_a_class_has_the_signature_of_init() -> None:
    found = module(
        "class A(B):\n"
        '    """An A."""\n'
        "    def __init__(self, x, y=2): pass\n"
        '    def f(self, z=3):\n        """F."""\n'
        '    @classmethod\n    def g(cls, z):\n        """G."""\n'
        '    @staticmethod\n    def h(z):\n        """H."""\n'
        '    @property\n    def p(self):\n        """P."""\n'
        '    def _hidden(self):\n        """No."""\n'
    ).definitions
    assert found["A"].signature == "(x, y=2)"
    assert found["A"].bases == ("B",)
    assert [found[f"A.{name}"].signature for name in "fgh"] == ["(z=3)", "(z)", "(z)"]
    assert (found["A.p"].kind, found["A.p"].signature) == ("property", "")
    assert "A._hidden" not in found


def test_defaults_stay_with_their_arguments_when_self_is_removed() -> None:
    found = module(
        'class A:\n    def f(self=1, a=2):\n        """F."""\n    def g(self, a, /, b=3):\n        """G."""\n'
    )
    assert found.definitions["A.f"].signature == "(a=2)"
    assert found.definitions["A.g"].signature == "(a, /, b=3)"


def test_overloads_are_ignored() -> None:
    found = module(
        "from typing import overload\n"
        '@overload\ndef f(a: int) -> int:\n    """No."""\n'
        'def f(a):\n    """Yes."""\n'
    )
    assert found.definitions["f"].doc == "Yes."


def test_documented_constants_are_kept() -> None:
    found = module('A = 1\n"""One."""\n#: Two.\nB = 2\nC = 3\n').definitions
    assert {name: each.doc for name, each in found.items()} == {"A": "One.", "B": "Two."}
    assert found["A"].signature == " = 1"


def test_a_comment_above_replaces_a_missing_docstring() -> None:
    assert module("# Do it well.\ndef f():\n    pass\n").definitions["f"].doc == "Do it well."


def test_a_definition_has_its_shortest_public_name() -> None:
    found = exported(
        pkg__="from .api import get\nfrom ._inner import hidden as shown\n",
        pkg__api=documented("get"),
        pkg___inner="",
    )
    assert found["pkg.get"].aliases == ("pkg.api.get",)
    assert "pkg.api.get" not in found


def test_all_decides_what_a_module_exports() -> None:
    found = exported(m='__all__ = ["a"]\n__all__ += ["b"]\n' + documented("a", "b", "c"))
    assert set(found) == {"m.a", "m.b"}


def test_a_star_import_exports_what_the_other_module_exports() -> None:
    found = exported(pkg__="from .a import *\n", pkg__a='__all__ = ["f"]\n' + documented("f", "g"))
    assert set(found) == {"pkg.f"}


def test_crossing_star_imports_are_followed_once() -> None:
    """Each of two modules imports all of the next two, so there are 2 ** 60 paths to the last."""
    crossing = {
        f"pkg__{side}{depth}": f"from .a{depth + 1} import *\nfrom .b{depth + 1} import *\n"
        for depth in range(60)
        for side in "ab"
    }
    found = exported(pkg__="from .a0 import *\n", **crossing, pkg__a60=documented("f"), pkg__b60="")
    assert set(found) == {"pkg.f"}


def test_a_lazily_imported_name_is_found_in_its_submodule() -> None:
    found = exported(pkg__='__all__ = ("Pool",)\n', pkg__thread='class Pool:\n    """A pool."""\n')
    assert "pkg.Pool" in found


def test_inherited_methods_belong_to_the_public_class() -> None:
    found = exported(
        pkg__="from ._core import Frame\n",
        pkg___core='class _Base:\n    def save(self):\n        """Save."""\n'
        'class Frame(_Base):\n    """A frame."""\n',
    )
    assert found["pkg.Frame.save"].definition.doc == "Save."


def test_circular_imports_end() -> None:
    circular = {"pkg__a": "from .b import f\nfrom .b import *\n", "pkg__b": "from .a import f\n"}
    assert exported(pkg__="from .a import f\n", **circular) == {}


def test_calls_are_counted_under_their_full_names() -> None:
    usage = module(
        "import os\nimport os.path as p\nfrom shutil import rmtree as gone\nfrom pathlib import Path\n"
        "os.remove(a)\nos.remove(b)\np.join(a, b)\ngone(a)\nlen(a)\nPath(a).mkdir()\n"
        "def f(where: Path | None):\n    where.unlink()\n"
        'def g():\n    x = ","\n    return x.join(a)\n'
    ).usage
    once = "os.path.join shutil.rmtree len pathlib.Path pathlib.Path.mkdir pathlib.Path.unlink str.join"
    assert {name: use[0] for name, use in usage.items()} == {"os.remove": 2, **dict.fromkeys(once.split(), 1)}


def test_an_example_is_short_and_shows_the_name() -> None:
    text = (
        "import os\nfrom os import remove as rm\nrm(x)\nos.remove('short.txt')\nos.remove(\n 1,\n\n\n\n 2)\n"
    )
    count, first, last, worth = module(text).usage["os.remove"]
    assert (count, first, last) == (3, 4, 4)
    assert worth > 0


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("os.remove(x)", ""),
        ("os.remove(self.x)", ""),
        ("x = f()\nos.remove(x)", ""),
        ("os.remove(x, dir_fd=3)", "os.remove(x, dir_fd=3)"),
        ("y = os.remove(*x)", ""),
        ("y = os.remove(x, **z)", ""),
        ("os.remove(x)\nos.remove('x.txt')", "os.remove('x.txt')"),
        (
            "for a in os.walk(x):\n    f(a)\n    g(\na)\n    h(a)",
            "for a in os.walk(x):\n    f(a)\n    g(\na)",
        ),
        ("y = os.walk(x)\nfor a in os.walk(x):\n    f(a)", "for a in os.walk(x):\n    f(a)"),
        ("for a in os.walk(x):\n    if f(a):\n        g(a)\n        h(a)\n        i(a)", ""),
    ],
)
def test_an_example_shows_more_than_the_signature(text: str, example: str) -> None:
    usage = module(f"import os\n{text}\n").usage
    _, first, last, worth = usage.get("os.remove") or usage["os.walk"]
    assert "\n".join(text.split("\n")[first - 2 : last - 1] if worth else []) == example


@pytest.mark.parametrize(
    "data",
    [b"a = '\0'", b"# coding: nonsense\n", b"\xff\xfe\xfa", b"# coding: ascii\nx = '\xe4'\n"],
    ids=["null bytes", "unknown encoding", "no encoding", "another encoding"],
)
def test_a_file_that_is_not_text_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.py").write_bytes(data)
    with pytest.raises(SourceUnreadable):
        read_text(tmp_path / "m.py")


def test_a_declared_encoding_is_used(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_bytes("# coding: latin-1\r\nx = 'ä'\r\n".encode("latin-1"))
    assert read_text(tmp_path / "m.py") == "# coding: latin-1\nx = 'ä'\n"


def test_folders_links_in_circles_and_huge_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "circle.py").symlink_to("circle.py")
    with (tmp_path / "huge.py").open("wb") as huge:
        huge.truncate(25 * LARGEST_FILE)
    for name in ("folder.py", "circle.py", "huge.py", "none.py"):
        with pytest.raises(SourceUnreadable):
            read_text(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    ["def f(:\n", "(" * 100_000, "  x\n y", "x = '\0'"],
    ids=["syntax", "brackets", "indents", "null bytes"],
)
def test_source_that_is_not_python_is_refused(text: str) -> None:
    with pytest.raises(SourceUnreadable):
        module(text)


@pytest.mark.parametrize(
    "deep", ["x = " + "-" * 50_000 + "1", "a" + ".b" * 50_000, "x = " + "1+" * 50_000 + "1"]
)
def test_source_nested_too_deeply_for_the_parser_does_no_harm(deep: str) -> None:
    read = set()
    for text in (deep, documented("f")):
        with contextlib.suppress(SourceUnreadable):  # how deep is too deep depends on the interpreter
            read.update(module(text).definitions)
    assert "f" in read


@given(st.text(alphabet="abc_.():=,'\"#@\n \\[]{}*+-", max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = module(text, with_undocumented=True)
    except SourceUnreadable:
        return
    assert isinstance(list(public_definitions({"m": found})), list)
