"""Reads the documentation of the running interpreter: standard library, built-ins, topics of the language.

Modules with Python source are read with `ast` (`python_code.py`). Modules written in C are imported and
inspected; this is done for the standard library alone. Each passage has its address on docs.python.org.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib.util
import inspect
import pkgutil
import re
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assistant.knowledge.passage import Batch, Passage
from assistant.knowledge.reading.python_code import (
    Definition,
    Module,
    SourceUnreadable,
    read_module,
    read_text,
)
from assistant.knowledge.reading.python_names import PublicDefinition, is_public, public_definitions

PACKAGE, LICENCE, CORPUS = "Python", "PSF-2.0", "python"
VERSION = ".".join(map(str, sys.version_info[:3]))
ROOT = Path(sysconfig.get_path("stdlib"))
_MISSING = object()
_new_passage = functools.partial(Passage, package=PACKAGE, version=VERSION, licence=LICENCE, corpus=CORPUS)
DOCS = f"https://docs.python.org/{sys.version_info.major}.{sys.version_info.minor}/"
TOPICS = "topics of the language"
LONGEST_PART = 2500  # characters of a topic in one passage

_LEFT_OUT = frozenset(
    """
    antigravity this idlelib test turtledemo lib2to3 distutils pydoc_data ensurepip msilib nt posix encodings
    ntpath posixpath genericpath nturl2path sre_compile sre_constants sre_parse opcode pyexpat xxsubtype
    xxlimited xxlimited_35
    """.split()  # noqa: SIM905 - a table to read
)
_PARTS_LEFT_OUT = frozenset(("test", "tests", "idle_test", "__main__", "__pycache__"))


def units() -> list[str]:
    """What `read` accepts: built-ins, topics of the language and the public modules."""
    public = sys.stdlib_module_names - _LEFT_OUT
    return ["builtins", TOPICS, *sorted(name for name in public if name[0] != "_" and _exists(name))]


def read(unit: str) -> Batch:
    """The passages of one unit."""
    if unit == TOPICS:
        return _topics()
    return _builtins() if unit == "builtins" else _module(unit)


# Modules


def _exists(name: str) -> bool:
    try:
        return name != "builtins" and importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


@functools.cache
def _load(name: str) -> dict[str, Module]:
    """A top-level module of the standard library, with its submodules."""
    real = "posixpath" if name == "os.path" else name
    file = next(filter(Path.is_file, (ROOT / real / "__init__.py", ROOT / f"{real}.py")), None)
    if file is None:
        return _imported_module(name)
    modules = {}
    for each in sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]:
        path = each.relative_to(ROOT)
        parts = path.with_suffix("").parts
        if _PARTS_LEFT_OUT.isdisjoint(parts):
            dotted = name if each == file else ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            with contextlib.suppress(SourceUnreadable):
                text = read_text(each)
                modules[dotted] = read_module(text, dotted, path.as_posix(), with_undocumented=True)
    return modules


def _imported_module(name: str) -> dict[str, Module]:
    """A module without source, imported and inspected."""
    found = _value(name)
    if not isinstance(found, types.ModuleType):
        return {}
    module = Module(name, "", _doc(found))
    for attribute in dir(found):
        if not attribute.startswith("_"):
            _inspect(module, attribute, getattr(found, attribute, None))
    return {name: module}


def _value(name: str) -> object:
    """The live object that a public name stands for; `_MISSING` if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: object = pkgutil.resolve_name(name)
            return found
    except Exception:  # noqa: BLE001 - an import may raise anything
        return _MISSING


def _inspect(module: Module, name: str, value: object) -> None:
    """Add a live object, and its members if it is a class, to the definitions of `module`."""

    def define(name: str, kind: str, signature: str = "", doc: str = "") -> None:
        module.definitions[name] = Definition(name, kind, signature, doc)

    doc = _doc(value)
    if isinstance(value, types.ModuleType) or value is _MISSING:
        return
    if isinstance(value, type):
        define(name, "class", _text_signature(value, doc), doc)
        for member, raw in vars(value).items():
            if member.startswith("_"):
                continue
            bound = getattr(value, member, raw)
            is_wrapped = isinstance(raw, classmethod | staticmethod)
            doc = _doc(bound if is_wrapped else raw)  # the wrapper has another docstring than the method
            if is_wrapped or callable(raw):
                define(f"{name}.{member}", "method", _text_signature(bound, doc), doc)
            elif isinstance(raw, str | int | float):
                define(f"{name}.{member}", "data", f" = {raw!r}"[:100])
            elif inspect.isdatadescriptor(raw):
                define(f"{name}.{member}", "property", "", doc)
    elif callable(value) and type(value).__module__ != "typing":  # `typing.List` is no function
        define(name, "function", _text_signature(value, doc), doc)
    elif isinstance(value, str | int | float) and not name.isupper() and len(repr(value)) <= 100:
        define(name, "data", f" = {value!r}")
    else:
        define(name, "data", "", doc if doc != _doc(type(value)) else "")


def _doc(value: object) -> str:
    doc = getattr(value, "__doc__", None)
    return inspect.cleandoc(doc).strip() if isinstance(doc, str) else ""


_UNREAL = re.compile(r"<[^<>]*>")


def _text_signature(value: object, doc: str) -> str:
    """The parameters, from the signature or else from the first line of the docstring."""
    head, bracket, rest = doc.split("\n", 1)[0].partition("(")
    in_doc = f"({rest}" if bracket and head.rpartition(".")[2] == getattr(value, "__name__", "") else ""
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]
        parameters = list(signature.parameters.values())
        is_bound = bool(parameters) and parameters[0].name in ("self", "type", "$self")
        text = _UNREAL.sub("...", str(signature.replace(parameters=parameters[is_bound:])))
        return in_doc if in_doc and text == "(*args, **kwargs)" else text
    except Exception:  # noqa: BLE001 - evaluating a signature may raise anything
        return in_doc


def _module(unit: str) -> Batch:
    modules: dict[str, Module] = {}
    waiting = [unit, *(["os.path"] if unit == "os" else [])]
    while waiting:
        if (name := waiting.pop()) not in modules:
            modules |= (loaded := _load(name))
            targets = (
                target for each in loaded.values() for target in (*each.bindings.values(), *each.stars)
            )
            roots = {target.partition(".")[0] for target in targets} & sys.stdlib_module_names
            waiting += sorted(filter(_is_private, roots))
    own = [name for name in modules if name == unit or name.startswith(f"{unit}.")]
    hidden = [name for name in modules if name not in own]
    passages = [_module_passage(modules[name]) for name in own if is_public(name)]
    in_source = list(public_definitions(modules, hidden=hidden, with_undocumented=True))
    known = {name: public for public in in_source for name in (*public.aliases, public.name)}
    live = {public.name: public for name in filter(is_public, own) for public in _live(modules[name], known)}
    aliases: list[tuple[str, str]] = []
    for public in ({public.name: public for public in in_source} | live).values():
        name = ("" if public.module.path else _builtin(public.name)) or public.name
        if name == public.name:
            passages.append(_passage(public))
        aliases += [(other, name) for other in (public.name, *public.aliases) if other != name]
    for passage in passages:
        if f"{passage.name}.".startswith("os.path."):
            aliases += [(here + passage.name[7:], passage.name) for here in ("posixpath", "ntpath")]
    usage = {modules[name].path: modules[name].usage for name in own if modules[name].usage}
    return Batch(passages, aliases, usage, raised=[each for name in own for each in modules[name].raised])


_NOTHING = PublicDefinition("", Definition("", "data"), Module("", ""))


def _is_private(name: str) -> bool:
    """Whether a top-level module only implements names that other modules export."""
    return name.startswith("_") or name in ("posix", "nt", "genericpath", "sre_compile")


def _live(module: Module, known: Mapping[str, PublicDefinition]) -> Iterator[PublicDefinition]:
    """What the source of a module does not describe, from the live objects: `multiprocessing.Pool`, which it
    exports at run time, and `re.Pattern`, which it assigns."""
    computed = getattr(_value(module.name), "__all__", ()) if module.computed else ()
    assigned = (name for name, each in module.definitions.items() if each.kind == "data" and "." not in name)
    for exported in dict.fromkeys((*(module.exports or ()), *computed, *assigned)):
        before = known.get(f"{module.name}.{exported}", _NOTHING)
        if before.definition.kind != "data" or before.definition.doc or before.signature:
            continue
        value = _value(f"{module.name}.{exported}")
        home = str(getattr(value, "__module__", None) or "builtins").partition(".")[0]
        is_own = home in (module.name.partition(".")[0], "builtins") or _is_private(home)
        inspected = Module(module.name, "")
        _inspect(inspected, str(exported), value)
        for each in inspected.definitions.values():
            aliases = before.aliases if each.name == exported else ()
            public = PublicDefinition(f"{module.name}.{each.name}", each, inspected, aliases)
            if (each.doc or _builtin(public.name)) and (is_own or aliases or public.name == before.name):
                yield public


def _builtin(name: str) -> str:
    """The name of the built-in that a module exports again, as `io.open` and `os.error` do; or ""."""
    for owner, member in ((name, ""), name.rpartition(".")[::2]):
        value = _value(owner)
        own = getattr(value, "__name__", None)
        if isinstance(own, str) and getattr(builtins, own, _MISSING) is value:
            return f"{own}.{member}".rstrip(".")
    return ""


def _passage(public: PublicDefinition) -> Passage:
    definition, module, name = public.definition, public.module, public.name
    owner = name.rsplit(".", definition.name.count(".") + 1)[0] if module.name != "builtins" else "builtins"
    return _new_passage(
        name=name,
        kind=definition.kind,
        title=name,
        text=definition.doc or _doc_in_module(module, definition.name),
        location=f"{module.path}:{definition.line}" if definition.line else f"{name}.__doc__",
        signature=public.signature,
        url=_url(name, owner, module),
    )


def _module_passage(module: Module) -> Passage:
    return _new_passage(
        name=module.name,
        kind="module",
        title=module.name,
        text=module.doc,
        location=f"{module.path}:{module.doc_line}" if module.path else f"{module.name}.__doc__",
        url=_url(f"module-{module.name}", module.name, module),
    )


def _doc_in_module(module: Module, name: str) -> str:
    """The lines of a module's docstring that describe one of its names: `argv -- command line …`."""
    if name not in module.doc:
        return ""
    line = rf"^([ \t]*){re.escape(name)}(?:\([^)\n]*\))?\s*(?:--|-|:|\u2013)\s+\S.*(?:\n\1[ \t]+\S.*)*"
    found = re.search(line, module.doc, re.MULTILINE)
    return inspect.cleandoc(found[0]) if found else ""


# Built-ins


def _builtins() -> Batch:
    module = Module("builtins", "")
    aliases = []
    for name, value in vars(builtins).items():
        if isinstance(value, type) and value.__name__ != name:  # IOError is OSError
            aliases.append((name, value.__name__))
        elif name[0] != "_" and name not in ("copyright", "credits", "license", "True", "False", "None"):
            _inspect(module, name, value)
    described = [each for each in module.definitions.values() if each.doc or each.kind != "data"]
    aliases += [(f"builtins.{each.name}", each.name) for each in described]
    # Private modules raise for public ones: `_strptime` for `datetime`.
    private = [_load(file.stem) for file in sorted(ROOT.glob("_[a-z]*.py"))]
    raised = [each for modules in private for module in modules.values() for each in module.raised]
    passages = [_passage(PublicDefinition(each.name, each, module)) for each in described]
    return Batch(passages, aliases, raised=raised)


# The language


def _topics() -> Batch:
    try:
        import pydoc
        from pydoc_data.topics import topics
    except ImportError:  # some Linux distributions leave it out
        return Batch(())
    helper = pydoc.Helper
    words: list[tuple[str, Any]] = [*helper.keywords.items()]
    words += [(word.lower(), target) for word, target in helper.topics.items()]
    words += [(word, each) for word, targets in helper.symbols.items() for each in str(targets).split(" ")]
    names_of: dict[str, list[str]] = {}  # by topic, the words under which `help()` shows it
    for word, target in words:
        for _ in range(5):  # a topic may refer to another one
            target = target[0] if isinstance(target, tuple) else target
            if target in topics:
                names_of.setdefault(target, []).append(word)
                break
            target = helper.topics.get(target)
    passages, aliases = [], []
    for key, text in topics.items():
        heading, line, body = text.strip("\n").partition("\n")
        line, _, below = body.partition("\n")
        heading, body = (
            (heading.strip().replace('"', ""), below) if _UNDERLINE.fullmatch(line) else (key, text)
        )
        others = dict.fromkeys((*names_of.get(key, ()), key))
        keyword = key if key in helper.keywords else next((w for w in others if w in helper.keywords), "")
        name = keyword or heading
        aliases += [(word, name) for word in others if word != name]
        for number, part in enumerate(_parts(body.strip())):
            passages.append(
                _new_passage(
                    name=name,
                    kind="keyword" if keyword and not number else "topic",
                    title=heading,
                    text=part,
                    location=f"pydoc_data/topics.py:{key}",
                    url=f"{DOCS}reference/{_STATEMENTS[key]}.html#{key}" if key in _STATEMENTS else "",
                )
            )
    return Batch(passages, aliases)


_UNDERLINE = re.compile(r"[*=\-~^]{3,}\s*")


def _parts(text: str) -> list[str]:
    """A long text in parts of whole paragraphs; a code block stays with the line that announces it."""
    parts: list[str] = []
    for paragraph in re.split(r"\n\n+(?=\S)", text):
        if parts and len(parts[-1]) + len(paragraph) < LONGEST_PART:
            parts[-1] += "\n\n" + paragraph
        else:
            parts.append(paragraph)
    return parts


# Addresses on docs.python.org

_PAGE = re.compile(  # the part of a module's name that names its page
    r"(?:http|urllib|xmlrpc|email(?!\.(?:base64mime|quoprimime|feedparser)))(?:\.\w+)?|collections\.abc"
    r"|concurrent\.futures|curses\.(?:ascii|panel)|html\.\w+|importlib\.(?:metadata|resources)|os\.path"
    r"|logging\.(?:config|handlers)|multiprocessing\.shared_memory|unittest\.mock|xml\.etree\.ElementTree"
    r"|tkinter\.(?:colorchooser|dnd|font|messagebox|scrolledtext|tix|ttk)"
    r"|xml\.(?:dom|sax)(?:\.(?:minidom|pulldom|handler|saxutils|xmlreader))?|\w+"
)
_TYPES = (
    str,
    bytes,
    bytearray,
    memoryview,
    list,
    tuple,
    range,
    set,
    frozenset,
    dict,
)  # not in functions.html
_ASYNCIO = {  # the page for each submodule
    **dict.fromkeys(("tasks", "timeouts", "taskgroups", "coroutines", "threads"), "-task"),
    **dict.fromkeys(("transports", "protocols"), "-protocol"),
    **dict.fromkeys(("events", "base_events"), "-eventloop"),
    **{name: f"-{name.removesuffix('s')}" for name in ("runners", "queues", "streams", "futures")},
    "subprocess": "-subprocess",
    "exceptions": "-exceptions",
    "locks": "-sync",
}
_STATEMENTS = {  # the page of the language reference for each topic
    topic: page
    for page, topics in (
        ("compound_stmts", "async class for function if try while with"),
        ("simple_stmts", "assert assignment augassign break continue del global import nonlocal pass raise"),
        ("simple_stmts", "return"),
        ("expressions", "atom-identifiers atom-literals attribute-references await binary bitwise booleans"),
        ("expressions", "calls comparisons conversions dict exprlists lambda lists numeric-conv power yield"),
        ("expressions", "operator-summary primaries shifting slicings subscriptions unary"),
    )
    for topic in topics.split(" ")
}


def _url(name: str, owner: str, module: Module) -> str:
    """The address of a name that belongs to the module `owner`, and is defined in `module`."""
    if owner == "builtins":
        value = getattr(builtins, name.partition(".")[0], None)
        is_error = isinstance(value, type) and issubclass(value, BaseException)
        is_type = value in _TYPES or "." in name
        page = "exceptions" if is_error else "stdtypes" if is_type else "functions"
    elif owner.partition(".")[0] == "asyncio":
        page = "asyncio" + _ASYNCIO.get(Path(module.path).stem, "")
    else:
        found = _PAGE.match(owner)
        page = found[0].lower() if found else ""
    return f"{DOCS}library/{page}.html#{name}"
