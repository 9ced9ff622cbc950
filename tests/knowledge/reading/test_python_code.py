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
from assistant.knowledge.reading.python_parameters import LONGEST_SIGNATURE


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


def test_an_implementation_that_takes_anything_shows_its_overloads() -> None:
    overloads = "@overload\ndef f(a: int) -> int: ...\n@overload\ndef f(a: str) -> str: ...\n"
    plain = module(overloads + 'def f(a):\n    """Yes."""\n').definitions["f"]
    assert (plain.doc, plain.signature) == ("Yes.", "(a)")
    anything = module(overloads + 'def f(*args, **kwargs):\n    """Yes."""\n').definitions["f"]
    assert (anything.doc, anything.signature) == ("Yes.", "(a: int) -> int\n(a: str) -> str")
    assert exported(m=overloads)["m.f"].signature == "m.f(a: int) -> int\nm.f(a: str) -> str"


def test_a_long_signature_loses_annotations_then_defaults_and_is_never_cut_within_a_parameter() -> None:
    def signature(count: int, annotation: str = "", default: str = "") -> str:
        names = ", ".join(f"parameter_{number}{annotation}{default}" for number in range(count))
        return module(f"def f({names}): pass\n").definitions["f"].signature

    assert signature(3, ": int", " = 1").endswith("parameter_2: int = 1)")
    assert signature(50, f": {'x' * 90}", " = 1").endswith("parameter_48=1, parameter_49=1)")
    assert signature(100, f": {'x' * 90}", f" = {'y' * 90}").endswith("parameter_98, parameter_99)")
    assert signature(1000).endswith(", …)")
    assert all(len(signature(size)) <= LONGEST_SIGNATURE + 3 for size in (10, 300, 3000))


@pytest.mark.parametrize(
    ("source", "signature", "text"),
    [
        (
            'def f(a: Annotated[int, Doc("The *a*.\\n\\nMore.")] = 1, b: Annotated[str, 3] = "x"): pass\n',
            '(a: int = 1, b: Annotated[str, 3] = "x")',
            "- `a`: The *a*.",
        ),
        (
            'class f:\n    """It is."""\n    def __init__(self, a: Annotated[int, te.Doc("A.")]): pass\n',
            "(a: int)",
            "It is.\n\n- `a`: A.",
        ),
        (
            'class f(BaseModel):\n    a: int = Field(1, description="A.")\n    b: str\n    """B."""\n'
            "    c: ClassVar[int] = 3\n    d: list[int] = Field(default_factory=list)\n    _e: int = 1\n",
            "(*, a: int = 1, b: str, d: list[int] = list())",
            "- `a`: A.\n- `b`: B.",
        ),
        (
            "@dataclass(frozen=True)\nclass f:\n    #: The a.\n    a: int\n"
            "    b: str = field(default='x', init=False)\n    c: int = 2\n",
            "(a: int, c: int = 2)",
            "- `a`: The a.",
        ),
        ("class f(NamedTuple):\n    a: int\n    b: int = 2\n", "(a: int, b: int = 2)", ""),
        ("@define\nclass f:\n    a: int = attr.ib(default=3)\n", "(a: int = 3)", ""),
        ('class f(Enum):\n    A = 1\n    """The first."""\n    B = 2\n', "", "- `A`: The first."),
        (
            'def f(a: int = Query(3, description="A.")):\n    """Do."""\n',
            '(a: int = Query(3, description="A."))',
            "Do.\n\n- `a`: A.",
        ),
    ],
)
def test_parameters_and_fields_are_described(source: str, signature: str, text: str) -> None:
    found = exported(m='__all__ = ["f"]\n' + source)["m.f"]
    assert found.definition.signature == signature
    assert found.definition.doc == text


def test_a_field_that_its_class_describes_is_a_name_of_the_class() -> None:
    long = "Long. " * 60
    found = exported(m=f'class A(BaseModel):\n    b: int\n    """B."""\n    c: int\n    """{long}"""\n')
    assert "m.A.b" in found["m.A"].aliases
    assert found["m.A.c"].definition.doc == long


def test_a_class_shows_the_parameters_that_it_inherits() -> None:
    found = exported(
        m="class A:\n    def __init__(self, a): pass\nclass B(A): pass\n"
        "@dataclass\nclass C:\n    c: int\n@dataclass\nclass D(C):\n    d: int = 2\n"
        "class Model:\n    def __init__(self, /, **data: Any): pass\nclass E(Model):\n    e: int\n"
    )
    shown = {name: found[f"m.{name}"].definition.signature for name in "ABCDE"}
    assert shown == {"A": "(a)", "B": "(a)", "C": "(c: int)", "D": "(c: int, d: int = 2)", "E": "(*, e: int)"}


def test_documented_constants_are_kept() -> None:
    text = 'A = 1\n"""One."""\n#: Two.\nB = 2\nC = 3\n'
    docs = {name: public.definition.doc for name, public in exported(m=text).items()}
    assert docs == {"m.A": "One.", "m.B": "Two."}
    assert exported(m=text)["m.A"].signature == "m.A = 1"
    stated = exported(pkg__="from .a import request\n", pkg__a="request: Request = Proxy()\nother = 1\n")
    assert [public.signature for public in stated.values()] == ["pkg.request: Request"]


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
    beside = exported(
        pkg__pyplot=documented("plot"), pkg__py="from .pyplot import *\n", py="from pkg.pyplot import *"
    )
    assert set(beside) == {"pkg.pyplot.plot"}


@pytest.mark.parametrize(
    ("init", "kind"),
    [
        ("from .functions import File as File", "function"),
        ("from .classes import File\nfrom .functions import File", "function"),
        ("from .functions import File\nfrom .classes import File", "class"),
        ("if TYPE_CHECKING:\n    from .functions import File\ndef __getattr__(name): ...", "function"),
        ("def __getattr__(name):\n    if name == 'File':\n        from .classes import File", "class"),
        ("try:\n    from .functions import File\n"
         "except ImportError:\n    from .classes import File", "function"),
        ("import sys\nif sys.version_info >= (3, 0):\n    from .classes import File\n"
         "else:\n    from .functions import File", "class"),
        ("import sys\nif sys.platform == 'win32':\n    from .functions import File\n"
         "else:\n    from .classes import File", "class"),
        ("if not TYPE_CHECKING:\n    from .functions import File\n"
         "else:\n    from .classes import File", "function"),
        ("from . import functions\nFile = functions.File", "function"),
        ("from .classes import File as Other\nFile = Other", "class"),
        ("from .File import File", "method"),
        ("from . import File", "module"),
    ],
)  # fmt: skip
def test_a_name_stands_for_what_an_import_gives(init: str, kind: str) -> None:
    """As in FastAPI, where the function and the class have the same name, and the function no docstring."""
    modules = {
        "pkg": module(f"{init}\n", "pkg", "pkg/__init__.py"),
        "pkg.functions": module("def File(a): pass\n", "pkg.functions"),
        "pkg.classes": module('class File:\n    """A class."""\n', "pkg.classes"),
    }
    if kind in ("method", "module"):
        modules["pkg.File"] = module("def File(a): pass\n", "pkg.File")
        kind = "function" if kind == "method" else ""
    named = {public.name: public.definition.kind for public in public_definitions(modules)}
    assert named.get("pkg.File", "") == kind


def test_names_in_a_table_are_imported_lazily() -> None:
    found = exported(
        pkg__='_names = {"a": ["Tool"]}\ndef __getattr__(name): ...\n',
        pkg___a='class Tool:\n    """A tool."""\n',
    )
    assert "pkg.Tool" in found


def test_functions_without_docstring_count_where_they_are_exported_and_in_classes() -> None:
    found = exported(
        pkg__="from .a import shown\n",
        pkg__a="def shown(a): pass\ndef inner(): pass\nclass A:\n    def f(self, b): pass\n",
    )
    assert {"pkg.shown", "pkg.a.A.f"} <= set(found)
    assert "pkg.a.inner" not in found


def test_a_docstring_for_a_function_in_c_is_found() -> None:
    found = exported(
        pkg__='from .core import zeros\n__all__ = ["zeros"]\n',
        pkg__core="from ._c import *\n",
        pkg___docs='add_newdoc("pkg.core", "zeros", """zeros(shape, dtype=None)\n--\n\nNew zeros.""")\n',
    )
    definition = found["pkg.zeros"].definition
    assert (definition.signature, definition.doc) == ("(shape, dtype=None)", "New zeros.")


def test_a_copied_docstring_is_found() -> None:
    found = exported(
        pkg__plot="from .axes import Axes\n# Generated.\n@copy(Axes.plot)\ndef plot(a): pass\n",
        pkg__axes='class Base:\n    def plot(self):\n        """Plot it."""\nclass Axes(Base): pass\n',
        other="from pkg.plot import plot\n",
        pkg__='"""Plots."""\nfrom .plot import plot\n',
    )
    assert found["pkg.plot"].definition.doc == "Plot it."


def test_a_method_of_a_variable_is_a_function() -> None:
    """As in `random`, where `random.choice` is a method of an instance."""
    text = 'class R:\n    def choice(self, seq):\n        """Choose."""\n_inst = R()\nchoice = _inst.choice\n'
    definition = exported(m=text)["m.choice"].definition
    assert (definition.kind, definition.signature, definition.doc) == ("function", "(seq)", "Choose.")


def test_imports_of_imports_beyond_any_depth_do_no_harm() -> None:
    chain = "".join(f"x{number} = x{number - 1}\n" for number in range(1, 5000))
    assert "m.x0" in exported(m=documented("x0") + chain)


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
    ("docstring", "name", "example"),
    [
        (
            ">>> import os\n>>> os.remove(\n...     'x'\n... )\nNone",
            "os.remove",
            ">>> os.remove(\n...     'x'\n... )",
        ),
        ("Use it::\n\n    turn(12)\n\nEnd.", "pkg.turn", "    turn(12)"),
        (".. code-block:: python\n\n    turn(12)", "pkg.turn", "    turn(12)"),
        ("```python\nc = Client()\nc.get('x')\n```", "pkg.Client.get", "c.get('x')"),
        ("```python\nimport httpx as h\nh.get('x')\n```\n", "httpx.get", "h.get('x')"),
        ("```python\nnot python\n```\n::\n\n    turn(12)", "pkg.turn", "    turn(12)"),
        ("```sh\nturn(12)\n```", "pkg.turn", ""),
    ],
)
def test_examples_in_docstrings_come_before_calls_of_other_packages(
    docstring: str, name: str, example: str
) -> None:
    text = (
        f"""import os, httpx\nos.remove('short')\nhttpx.get(1)\ndef f():\n    \"\"\"\n{docstring}\n\"\"\"\n"""
    )
    _, first, last, _ = module(text, "pkg").usage.get(name, (0, 1, 0, 0))
    assert "\n".join(text.split("\n")[first - 1 : last]) == example


def test_how_a_package_calls_itself_is_counted_but_no_example() -> None:
    assert module("def turn(a): pass\nx = turn('a')\n", "pkg.a").usage["pkg.a.turn"] == (1, 0, 0, 0)


RAISING = """
LIMIT = "too many"

class Broken(Exception):
    def __init__(self):
        super().__init__("it is broken")

def check(a, b):
    message = f"a is {a!r}"
    if not a:
        raise ValueError(message + ", not b")
    elif b:
        x = 1
        raise mod.Error("%s of %d" % (a, b), 3)
    for x in a:
        try:
            raise KeyError("the second")
        except OSError as error:
            raise TypeError("bad {}: {name}".format(a, name=1)) from error
        except KeyError as error:
            raise
    if b > 1:
        y = 1
        y = 2
        y = 3
        y = 4
        y = 5

        raise LIMIT_ERROR(code=3, detail=LIMIT)
    if (
        a
        and b
    ):
        y = 1
        y = 2
        y = 3
        y = 4
        raise RuntimeError("both")
    else:
        # there is a reason
        raise OSError("not both")
    if a:
        raise LookupError("has a")
    else:
        raise IndexError("no a")
    raise NotImplementedError
    raise error
    raise StopIteration
    raise NotImplementedError("later")
"""


def test_raise_statements_are_collected_with_message_and_condition() -> None:
    raised = module(RAISING, "pkg.m", "pkg/m.py").raised
    assert [(each.exception, each.message) for each in raised] == [
        ("Broken", "it is broken"),
        ("ValueError", "a is …, not b"),
        ("mod.Error", "… of …"),
        ("KeyError", "the second"),
        ("TypeError", "bad …: …"),
        ("LIMIT_ERROR", "too many"),
        ("RuntimeError", "both"),
        ("OSError", "not both"),
        ("LookupError", "has a"),
        ("IndexError", "no a"),
        ("StopIteration", ""),
        ("NotImplementedError", "later"),
    ]
    by_name = {each.exception: each for each in raised}
    assert by_name["ValueError"].owner == "pkg.m.check"
    assert by_name["ValueError"].location == "pkg/m.py:11"
    assert by_name["ValueError"].code == 'if not a:\n    raise ValueError(message + ", not b")'
    assert by_name["mod.Error"].code.splitlines()[0] == "elif b:"
    assert by_name["TypeError"].code.startswith("except OSError as error:\n")
    assert by_name["LIMIT_ERROR"].code == "if b > 1:\n    raise LIMIT_ERROR(code=3, detail=LIMIT)"
    condition = "if (\n    a\n    and b\n):\n"
    assert by_name["RuntimeError"].code == condition + '    raise RuntimeError("both")'
    assert by_name["OSError"].code == condition + '    …\nelse:\n    raise OSError("not both")'
    assert by_name["LookupError"].code == 'if a:\n    raise LookupError("has a")'
    assert by_name["IndexError"].code.endswith('else:\n    raise IndexError("no a")')
    assert by_name["IndexError"].code.startswith("if a:\n")


@pytest.mark.parametrize(
    "message", ["x = x + x\n" * 50 + "raise E(x)", "raise E(" + "'a' + " * 5000 + "'b')", "raise E('%(' * 9)"]
)
def test_the_message_of_any_raise_is_found_soon(message: str) -> None:
    with contextlib.suppress(SourceUnreadable):
        assert all(len(each.message) < 1000 for each in module(message).raised)


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
