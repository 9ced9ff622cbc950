"""Reads the documentation of the running interpreter: standard library, built-ins, topics of the language.

Modules with Python source are read with `ast` (`python_code.py`). Modules written in C are imported and
inspected; this is done for the standard library alone. Each passage has its address on docs.python.org.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterator
from dataclasses import replace
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
_new_passage = functools.partial(Passage, package=PACKAGE, version=VERSION, licence=LICENCE, corpus=CORPUS)
DOCS = f"https://docs.python.org/{sys.version_info.major}.{sys.version_info.minor}/"
TOPICS = "topics of the language"
LONGEST_PART = 2500  # characters of a topic in one passage

# The modules that people ask about most; the others follow in alphabetical order.
FIRST = (
    *("builtins", TOPICS, "os", "pathlib", "shutil", "json", "re", "datetime", "collections", "itertools"),
    *("subprocess", "functools", "random", "math", "string", "sys", "time", "csv", "typing", "dataclasses"),
    *("logging", "argparse", "threading", "asyncio", "urllib", "contextlib", "copy", "sqlite3", "tempfile"),
)
_LEFT_OUT = frozenset(
    """
    antigravity this idlelib test turtledemo lib2to3 distutils pydoc_data ensurepip msilib nt posix
    ntpath posixpath genericpath nturl2path sre_compile sre_constants sre_parse opcode pyexpat xxsubtype
    xxlimited xxlimited_35
    """.split()  # noqa: SIM905 - a table to read
)
_PARTS_LEFT_OUT = frozenset(("test", "tests", "idle_test", "__main__", "__pycache__"))


def units() -> list[str]:
    """What `read` accepts: public modules, built-ins and topics of the language, most asked about first."""
    there = {
        name
        for name in sys.stdlib_module_names
        if not name.startswith("_") and name not in _LEFT_OUT and _spec(name) is not None
    }
    return [name for name in FIRST if name in there or name == TOPICS] + sorted(there - set(FIRST))


def read(unit: str) -> Batch:
    """The passages of one unit."""
    if unit == TOPICS:
        return _topics()
    if unit == "builtins":
        return _builtins()
    return _module(unit)


# Modules


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None


@functools.cache
def _load(name: str) -> dict[str, Module]:
    """A top-level module of the standard library, with its submodules."""
    real = "posixpath" if name == "os.path" else name
    file = next(filter(Path.is_file, (ROOT / real / "__init__.py", ROOT / f"{real}.py")), None)
    if file is None:
        return _imported_module(name)
    files = [file]
    if file.name == "__init__.py" and name != "encodings":
        files += [
            other
            for other in sorted(file.parent.rglob("*.py"))
            if other != file and not _PARTS_LEFT_OUT & {*other.relative_to(ROOT).parts, other.stem}
        ]
    modules = {}
    for each in files:
        path = each.relative_to(ROOT)
        parts = path.with_suffix("").parts
        dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        dotted = name if dotted == real else dotted
        try:
            modules[dotted] = read_module(read_text(each), dotted, path.as_posix(), with_undocumented=True)
        except SourceUnreadable:
            continue
    return modules


def _imported_module(name: str) -> dict[str, Module]:
    """A module without source, imported and inspected."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(name)
    except Exception:  # noqa: BLE001 - an import may raise anything
        return {}
    module = Module(name, "", inspect.cleandoc(found.__doc__ or ""))
    for attribute in dir(found):
        if not attribute.startswith("_"):
            _inspect(module, attribute, getattr(found, attribute, None))
    return {name: module}


def _inspect(module: Module, name: str, value: object) -> None:
    """Add a live object, and its members if it is a class, to the definitions of `module`."""

    def define(name: str, kind: str, signature: str = "", doc: str = "") -> None:
        module.definitions[name] = Definition(name, kind, signature, doc)

    doc = _doc(value)
    if isinstance(value, types.ModuleType):
        return
    if isinstance(value, type):
        define(name, "class", _text_signature(value, name, doc), doc)
        for member, raw in vars(value).items():
            if member.startswith("_"):
                continue
            bound = getattr(value, member, raw)
            # The wrapper of a static method has another docstring than the method.
            doc = _doc(bound if isinstance(raw, classmethod | staticmethod) else raw)
            if isinstance(raw, types.GetSetDescriptorType | types.MemberDescriptorType | property):
                define(f"{name}.{member}", "property", "", doc)
            elif callable(raw) or isinstance(raw, classmethod | staticmethod):
                define(f"{name}.{member}", "method", _text_signature(bound, member, doc), doc)
            elif isinstance(raw, str | int | float):
                define(f"{name}.{member}", "data", f" = {raw!r}"[:100])
    elif callable(value):
        define(name, "function", _text_signature(value, name, doc), doc)
    elif isinstance(value, str | int | float) and not name.isupper() and len(repr(value)) <= 100:
        define(name, "data", f" = {value!r}")
    else:
        define(name, "data", "", doc if doc != _doc(type(value)) else "")


def _doc(value: object) -> str:
    doc = getattr(value, "__doc__", None)
    return inspect.cleandoc(doc).strip() if isinstance(doc, str) else ""


_UNREAL = re.compile(r"<[^<>]*>")


def _text_signature(value: object, name: str, doc: str) -> str:
    """The parameters after a name, from the signature or else from the first line of the docstring."""
    first = doc.split("\n", 1)[0]
    head, bracket, rest = first.partition("(")
    in_doc = f"({rest}" if bracket and head.rpartition(".")[2] == name else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            signature = inspect.signature(value)  # type: ignore[arg-type]
        parameters = list(signature.parameters.values())
        if parameters and parameters[0].name in ("self", "type", "$self"):
            signature = signature.replace(parameters=parameters[1:])
        text = _UNREAL.sub("...", str(signature))
        if in_doc and text == "(*args, **kwargs)":
            return in_doc
        return text
    except Exception:  # noqa: BLE001 - evaluating a signature may raise anything
        return in_doc


def _private(name: str) -> bool:
    """Whether a top-level module only implements names that other modules export."""
    return name.startswith("_") or name in ("posix", "nt", "genericpath", "sre_compile")


def _module(unit: str) -> Batch:
    modules: dict[str, Module] = {}
    waiting = [unit, *(["os.path"] if unit == "os" else [])]
    while waiting:
        name = waiting.pop()
        if name in modules:
            continue
        loaded = _load(name)
        modules.update(loaded)
        for module in loaded.values():
            for target in (*module.bindings.values(), *module.stars):
                root = target.partition(".")[0]
                if _private(root) and root in sys.stdlib_module_names and root not in modules:
                    waiting.append(root)
    own = [name for name in modules if name == unit or name.startswith(f"{unit}.")]
    hidden = [name for name in modules if name not in own]
    passages = [_module_passage(modules[name]) for name in own if is_public(name)]
    aliases: list[tuple[str, str]] = []
    in_source = list(public_definitions(modules, hidden=hidden, with_undocumented=True))
    done = {name for public in in_source for name in (public.name, *public.aliases)}
    at_run_time = (public for name in own for public in _runtime_exports(modules, name, done))
    for public in (*map(_with_live_doc, in_source), *at_run_time):
        builtin = _builtin(public)
        if builtin is None:
            passages.append(_passage(public))
        name = builtin or public.name
        aliases += [(other, name) for other in (public.name, *public.aliases) if other != name]
    if unit == "os":
        for here in ("posixpath", "ntpath"):
            aliases.append((here, "os.path"))
            aliases += [
                (here + passage.name.removeprefix("os.path"), passage.name)
                for passage in passages
                if passage.name.startswith("os.path.")
            ]
    usage = {modules[name].path: modules[name].usage for name in own if modules[name].usage}
    return Batch(passages, aliases, usage, raised=[each for name in own for each in modules[name].raised])


def _value(dotted: str) -> object:
    """The live object that a public name stands for; `inspect.Parameter.empty` if there is none."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module == "__main__" or parts[0] in _LEFT_OUT:
            break
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value: object = importlib.import_module(module)
            for part in parts[length:]:
                value = getattr(value, part)
        except Exception:  # noqa: BLE001 - an import may raise anything
            continue
        return value
    return inspect.Parameter.empty


def _with_live_doc(public: PublicDefinition) -> PublicDefinition:
    """The same definition, described by the live object if the source is an undocumented assignment:
    `re.Pattern` is a class, `random.choice` a function."""
    definition = public.definition
    if definition.kind != "data" or definition.doc or definition.signature or "." in definition.name:
        return public
    value = _value(public.name)
    doc = _doc(value)
    if isinstance(value, type) and value.__name__ == public.name.rpartition(".")[2]:
        live = Definition(definition.name, "class", "", doc)
    elif callable(value) and not isinstance(value, type) and inspect.isroutine(value) and doc:
        signature = _text_signature(value, value.__name__, doc)
        live = Definition(definition.name, "function", signature, doc)
    elif doc and not isinstance(value, type) and doc != _doc(type(value)):
        live = Definition(definition.name, "data", "", doc)  # typing.List
    else:
        return public
    return replace(public, definition=live)


def _runtime_exports(modules: dict[str, Module], name: str, done: set[str]) -> Iterator[PublicDefinition]:
    """What a module exports only at run time: `multiprocessing.Pool`, the methods of `re.Pattern`."""
    module = modules[name]
    if not is_public(name):
        return
    live: list[str] = []
    if module.computed:
        live = list(getattr(_value(name), "__all__", ()))
    for exported in dict.fromkeys([*(module.exports or ()), *live]):
        if f"{name}.{exported}" in done and module.definitions.get(exported, _NOTHING).kind != "data":
            continue
        value = _value(f"{name}.{exported}")
        home = getattr(value, "__module__", None)
        if value is inspect.Parameter.empty or not isinstance(exported, str):
            continue
        known = not isinstance(home, str) or home in modules or home in ("builtins", name)
        if not known and not _private(str(home).partition(".")[0]):
            continue
        inspected = Module(name, "", "")
        _inspect(inspected, exported, value)
        for definition in inspected.definitions.values():
            public = PublicDefinition(f"{name}.{definition.name}", definition, inspected)
            if public.name not in done and (definition.doc or _builtin(public)):
                yield public


_NOTHING = Definition("", "")


def _builtin(public: PublicDefinition) -> str | None:
    """The name of the built-in that a module exports again, as `io.open` and `os.error` do."""
    if public.module.path:
        return None
    last = public.name.rpartition(".")[2]
    value = getattr(_value(public.name), "__name__", None)
    for name in (last, value):
        if isinstance(name, str) and not name.startswith("_"):
            there = getattr(builtins, name, inspect.Parameter.empty)
            if there is not inspect.Parameter.empty and there is _value(public.name):
                return name
    if "." in public.name:
        owner, _, member = public.name.rpartition(".")
        value = getattr(_value(owner), "__name__", None)
        if isinstance(value, str) and getattr(builtins, value, None) is _value(owner):
            return f"{value}.{member}"
    return None


def _passage(public: PublicDefinition) -> Passage:
    definition, module = public.definition, public.module
    location = f"{module.path}:{definition.line}" if definition.line else f"{public.name}.__doc__"
    return _new_passage(
        name=public.name,
        kind=definition.kind,
        title=public.name,
        text=definition.doc or _doc_in_module(module, definition.name),
        location=location,
        signature=public.signature,
        url=_url(public.name, module),
    )


def _module_passage(module: Module) -> Passage:
    location = f"{module.path}:{module.doc_line}" if module.path else f"{module.name}.__doc__"
    return _new_passage(
        name=module.name,
        kind="module",
        title=module.name,
        text=module.doc,
        location=location,
        url=f"{DOCS}library/{_page(module.name)}#module-{module.name}",
    )


def _doc_in_module(module: Module, name: str) -> str:
    """The lines of a module's docstring that describe one of its names: `argv -- command line …`."""
    lines = module.doc.split("\n") if name in module.doc else []
    for number, line in enumerate(lines):
        if not line.lstrip().startswith(name):
            continue
        found = re.match(rf"(\s*){re.escape(name)}(\([^)]*\))?\s*(--|-|:|\u2013)\s+\S", line)
        if found is None:
            continue
        indent = len(found[1])
        end = number + 1
        while end < len(lines) and lines[end].strip() and len(lines[end]) - len(lines[end].lstrip()) > indent:
            end += 1
        return inspect.cleandoc("\n".join(lines[number:end]))
    return ""


# Built-ins


def _builtins() -> Batch:
    module = Module("builtins", "", "")
    for name in dir(builtins):
        if name[0] != "_" and name not in ("copyright", "credits", "license", "True", "False", "None"):
            _inspect(module, name, getattr(builtins, name))
    passages, aliases = [], []
    for definition in module.definitions.values():
        value = getattr(builtins, definition.name, None)
        if isinstance(value, type) and value.__name__ != definition.name:  # IOError is OSError
            aliases.append((definition.name, value.__name__))
            continue
        top = definition.name.partition(".")[0]
        if "." in definition.name and getattr(getattr(builtins, top), "__name__", top) != top:
            continue
        if not definition.doc and definition.kind == "data":
            continue
        passages.append(_passage(PublicDefinition(definition.name, definition, module)))
        aliases.append((f"builtins.{definition.name}", definition.name))
    # Private modules raise for public ones: `_strptime` for `datetime`.
    private = [_load(file.stem) for file in sorted(ROOT.glob("_[a-z]*.py"))]
    raised = [each for modules in private for module in modules.values() for each in module.raised]
    return Batch(passages, aliases, raised=raised)


# The language


def _topics() -> Batch:
    try:
        import pydoc
        from pydoc_data.topics import topics
    except ImportError:  # some Linux distributions leave it out
        return Batch(())
    helper = pydoc.Helper
    names_of: dict[str, list[str]] = {}  # by topic, the words under which `help()` shows it

    def add_name(word: str, target: object) -> None:
        for _ in range(5):  # a topic may refer to another one
            first = target[0] if isinstance(target, tuple) else target
            if not isinstance(first, str):
                return
            if first in topics:
                names_of.setdefault(first, []).append(word)
                return
            target = helper.topics.get(first)

    for word, key in helper.keywords.items():
        add_name(word, key)
    for word, target in helper.topics.items():
        add_name(word.lower(), target)
    for word, targets in helper.symbols.items():
        for target in str(targets).split(" "):
            add_name(word, target)
    passages, aliases = [], []
    for key, text in topics.items():
        words = dict.fromkeys(names_of.get(key, ()))
        heading, body = _heading_and_body(text, key)
        keyword = key if key in helper.keywords else next((w for w in words if w in helper.keywords), "")
        name = keyword or heading
        aliases += [(word, name) for word in dict.fromkeys((*words, key)) if word != name]
        for number, part in enumerate(_parts(body)):
            passages.append(
                _new_passage(
                    name=name,
                    kind="keyword" if keyword and not number else "topic",
                    title=heading,
                    text=part,
                    location=f"pydoc_data/topics.py:{key}",
                    url=_topic_url(key),
                )
            )
    return Batch(passages, aliases)


def _heading_and_body(text: str, key: str) -> tuple[str, str]:
    """A topic's heading, without its underline, and the text below it."""
    lines = text.strip("\n").split("\n")
    if len(lines) > 1 and re.fullmatch(r"[*=\-~^]{3,}", lines[1].strip()):
        return lines[0].strip().replace('"', ""), "\n".join(lines[2:]).strip()
    return key, text.strip()


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

_OWN_PAGES = frozenset(
    """
    collections.abc concurrent.futures curses.ascii curses.panel email.charset email.contentmanager
    email.encoders email.errors email.generator email.header email.headerregistry email.iterators
    email.message email.mime email.parser email.policy email.utils html.entities html.parser http.client
    http.cookiejar http.cookies http.server importlib.metadata importlib.resources logging.config
    logging.handlers multiprocessing.shared_memory os.path tkinter.colorchooser tkinter.dnd tkinter.font
    tkinter.messagebox tkinter.scrolledtext tkinter.tix tkinter.ttk unittest.mock urllib.error
    urllib.parse urllib.request urllib.response urllib.robotparser xml.dom xml.dom.minidom
    xml.dom.pulldom xml.etree.ElementTree xml.parsers.expat xml.sax xml.sax.handler xml.sax.saxutils
    xml.sax.xmlreader xmlrpc.client xmlrpc.server
    """.split()  # noqa: SIM905 - a table to read
)
_ASYNCIO = {  # the page for each submodule
    **dict.fromkeys(("tasks", "timeouts", "taskgroups", "coroutines", "threads"), "task"),
    **dict.fromkeys(("transports", "protocols"), "protocol"),
    **dict.fromkeys(("events", "base_events"), "eventloop"),
    **{name: name for name in ("subprocess", "exceptions")},
    **{name: name.removesuffix("s") for name in ("runners", "queues", "streams", "futures")},
    "locks": "sync",
}
_STANDARD_TYPES = frozenset(
    """
    str bytes bytearray memoryview list tuple range set frozenset dict int float complex
    """.split()  # noqa: SIM905 - a table to read
)
_IN_FUNCTIONS = frozenset(("int", "float", "complex"))  # the classes; their methods are with the types


def _page(module: str) -> str:
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        if ".".join(parts[:length]) in _OWN_PAGES:
            return ".".join(parts[:length]).lower() + ".html"
    return {"builtins": "functions.html", "encodings": "codecs.html"}.get(parts[0], f"{parts[0]}.html")


def _url(name: str, module: Module) -> str:
    top = name.partition(".")[0]
    if module.name == "builtins":
        value = getattr(builtins, top, None)
        if isinstance(value, type) and issubclass(value, BaseException):
            return f"{DOCS}library/exceptions.html#{name}"
        if top in _STANDARD_TYPES and name not in _IN_FUNCTIONS:
            return f"{DOCS}library/stdtypes.html#{name}"
        if name in ("Ellipsis", "NotImplemented", "exit", "quit"):
            return f"{DOCS}library/constants.html#{name}"
        return f"{DOCS}library/functions.html#{name}"
    if top == "asyncio":
        page = _ASYNCIO.get(Path(module.path).stem)
        return f"{DOCS}library/{f'asyncio-{page}' if page else 'asyncio'}.html#{name}"
    owner = name
    while "." in owner:
        owner = owner.rpartition(".")[0]
        if owner in _OWN_PAGES or owner == top:
            break
    return f"{DOCS}library/{_page(owner)}#{name}"


_TOPIC_PAGES = {
    "simple_stmts": """
    assert assignment augassign break continue del global import nonlocal pass raise return
    """,
    "compound_stmts": "async class for function if try while with",
    "expressions": """
    atom-identifiers atom-literals attribute-references await binary bitwise booleans calls comparisons
    conversions dict exprlists lambda lists numeric-conv operator-summary power primaries shifting slicings
    subscriptions unary yield
    """,
}


def _topic_url(key: str) -> str:
    for page, keys in _TOPIC_PAGES.items():
        if key in keys.split():
            return f"{DOCS}reference/{page}.html#{key}"
    return ""
