"""Reads one Python source file: its definitions with signatures and docstrings, and the names that it calls.

Parses with `ast` and never imports or runs what it reads. `python_names.py` puts the modules of a package
together and finds the public names.
"""

from __future__ import annotations

import ast
import inspect
import re
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from assistant.knowledge.passage import Calls, Raised
from assistant.knowledge.reading.python_calls import CallCounter, dotted_name, imported
from assistant.knowledge.reading.python_parameters import (
    LONGEST_LISTED,
    Described,
    Parameter,
    ParameterReader,
    description,
    signature_of,
    text_of,
    undescribed,
    with_list,
)
from assistant.knowledge.reading.python_raises import raised_in

LARGEST_FILE = 2_000_000  # bytes
MOST_OVERLOADS = 4


class SourceUnreadable(Exception):
    """A file that cannot be read as Python source; the text says why."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A function, class, method, property or constant, where it is defined."""

    name: str  # within its module: "Path.mkdir"
    kind: str
    signature: str = ""  # what follows the name: "(path, mode=3)", " = 'abc'"; of overloads one line each
    doc: str = ""
    line: int = 0
    bases: tuple[str, ...] = ()  # the base classes of a class, as dotted names in the source
    like: str = ""  # the function that it shows again or whose docstring it copies, as a dotted name
    fields: tuple[Parameter, ...] = ()  # the annotated attributes of a class
    listed: tuple[str, ...] = ()  # the attributes of a class that its own text or signature describes
    generates: bool = False  # whether a decorator makes the parameters of a class from its fields


@dataclass(slots=True)
class Module:
    """What one source file defines, exports, imports, calls and raises."""

    name: str
    path: str  # below the root, with "/"
    doc: str = ""
    doc_line: int = 1
    definitions: dict[str, Definition] = field(default_factory=dict)
    exports: list[str] | None = None  # `__all__`, as far as it can be read without running it
    computed: bool = False  # whether code computes a part of `__all__`
    bindings: dict[str, str] = field(default_factory=dict)  # top-level name: dotted name elsewhere, or ""
    reexported: set[str] = field(default_factory=set)  # `from … import x as x`, and what is imported lazily
    stars: list[str] = field(default_factory=list)  # of `from … import *`; the last one counts most
    docs: list[tuple[str, Definition]] = field(default_factory=list)  # of what another module has in C
    usage: dict[str, Calls] = field(default_factory=dict)  # by full name of what is called
    raised: list[Raised] = field(default_factory=list)

    @property
    def is_package(self) -> bool:
        return self.path.endswith(("__init__.py", "__init__.pyi"))


def read_text(path: Path) -> str:
    """The text of a source file in the encoding that it declares. Raises `SourceUnreadable`."""
    try:
        if not path.is_file():
            raise SourceUnreadable("not a file")
        if path.stat().st_size > LARGEST_FILE:
            raise SourceUnreadable("larger than 2 MB")
        data = path.read_bytes()
        if b"\0" in data:
            raise SourceUnreadable("null bytes")
        encoding, _ = tokenize.detect_encoding(BytesIO(data).readline)
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, SyntaxError, UnicodeError, LookupError, ValueError) as error:
        raise SourceUnreadable(str(error)) from error


def read_module(text: str, name: str, path: str, *, with_undocumented: bool = False) -> Module:
    """Read one module. Raises `SourceUnreadable` for what this interpreter's version cannot parse.
    With `with_undocumented`, any comment of a constant describes it, not only one after `#:`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as invalid escapes in the source
            tree = ast.parse(text)
        return _ModuleReader(text, name, path, with_undocumented).read(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SourceUnreadable(f"{type(error).__name__}: {error}") from error


_PROPERTIES = re.compile("(?:cached_|abstract|hybrid_)?property|cache_readonly|reify")
_ACCESSORS = (".setter", ".deleter", ".getter")


class _ModuleReader:
    def __init__(self, text: str, name: str, path: str, with_undocumented: bool) -> None:
        self._lines = text.split("\n")
        self._reader = ParameterReader(self._lines)
        self._with_undocumented = with_undocumented
        self._module = Module(name, path)
        self._package = name if self._module.is_package else name.rpartition(".")[0]
        self._overloads: dict[str, list[str]] = {}  # by name, the signatures
        self._in_tables: set[str] = set()
        self._instances: dict[str, str] = {}  # by top-level variable, the class that the source shows

    def read(self, tree: ast.Module) -> Module:
        module = self._module
        module.doc = _docstring(tree)
        if module.doc:
            module.doc_line = tree.body[0].lineno
        self._add_body(tree.body, "")
        if "__getattr__" in module.bindings:
            module.reexported |= self._in_tables
        imports = {name: target for name, target in module.bindings.items() if target}
        counter = CallCounter(self._lines, module.name, imports, set(module.bindings) - set(imports))
        counter.count(tree)
        module.usage = counter.counted
        module.raised = raised_in(tree, self._lines, module.name, module.path)
        return module

    # Definitions

    def _add_body(self, body: Sequence[ast.stmt], prefix: str, *, weak: bool = False) -> None:
        """Add the definitions in the body of a module or class, in every branch of it. What stands in a weak
        branch replaces nothing."""
        for position, node in enumerate(body):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._bind(node.name, "", prefix, weak=weak)
                self._add_function(node, prefix, weak)
            elif isinstance(node, ast.ClassDef):
                self._bind(node.name, "", prefix, weak=weak)
                self._add_class(node, prefix, weak)
            elif isinstance(node, ast.If | ast.Try | ast.With):
                for part, is_weak in _branches(node):
                    self._add_body(part, prefix, weak=weak or is_weak)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                after = body[position + 1] if position + 1 < len(body) else None
                self._add_assignment(node, prefix, after, weak)
            elif prefix:
                continue
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._add_import(node, weak)
            elif isinstance(node, ast.AugAssign | ast.Expr):
                self._extend_exports(node)
                self._add_docs(node.value)
            elif isinstance(node, ast.Delete):
                for target in node.targets:
                    self._module.bindings.pop(dotted_name(target), None)

    def _bind(self, name: str, target: str, prefix: str = "", *, weak: bool) -> None:
        if not prefix and not (weak and name in self._module.bindings):
            self._module.bindings[name] = target

    def _add_import(self, node: ast.Import | ast.ImportFrom, weak: bool) -> None:
        for name, target in imported(node, self._package):
            if name == "*":
                self._module.stars.insert(0 if weak else len(self._module.stars), target.removesuffix(".*"))
            else:
                self._bind(name, target, weak=weak)
        if isinstance(node, ast.ImportFrom):
            self._module.reexported.update(each.name for each in node.names if each.asname == each.name)

    def _add_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, prefix: str, weak: bool) -> None:
        if node.name == "__getattr__" and not prefix:
            for each in ast.walk(node):  # what it imports lazily
                if isinstance(each, ast.ImportFrom):
                    self._add_import(each, weak=True)
        if node.name.startswith("_"):
            return
        decorators = _decorators(node)
        last = {name.rpartition(".")[2] for name in decorators}
        if any(name.endswith(_ACCESSORS) for name in decorators):
            return
        full = prefix + node.name
        described: list[Described] = []
        if any(map(_PROPERTIES.fullmatch, last)):
            kind, signature = "property", ""
        elif "_SpecialForm" in last:  # typing.Optional is written as a function, but never called
            kind, signature = "data", ""
        else:
            kind = "method" if prefix else "function"
            is_bound = bool(prefix) and "staticmethod" not in last
            parameters, described = self._reader.parameters(node.args, is_bound)
            signature = signature_of(parameters, self._reader.source(undescribed(node.returns)[0]))
        like = "" if ast.get_docstring(node, clean=False) else _copied_by(node)
        doc = with_list(_docstring(node), described) or ("" if like else self._comment_above(node))
        if "overload" in last:
            self._overloads.setdefault(full, []).append(signature)
        if overloads := self._overloads.get(full):
            if "overload" in last or all(name.startswith("*") for name, _, _ in parameters):
                signature = "\n".join(overloads[:MOST_OVERLOADS])
            before = self._module.definitions.pop(full, None)
            doc = doc or (before.doc if before else "")
        self._define(Definition(full, kind, signature, doc, node.lineno, like=like), weak)

    def _add_class(self, node: ast.ClassDef, prefix: str, weak: bool) -> None:
        if prefix and node.name.startswith("_"):  # at the top, a public class may inherit from it
            return
        doc, signature = _docstring(node), ""
        for child in node.body:
            if isinstance(child, ast.FunctionDef) and child.name in ("__init__", "__new__"):
                parameters, described = self._reader.parameters(child.args, bound=True)
                signature = signature_of(parameters)
                more = with_list(_docstring(child), described)
                if child.name == "__init__":
                    doc = "\n\n".join(filter(None, (doc, more)))
                    break
                doc = doc or more
        full = prefix + node.name
        fields, described = self._fields(node)
        definition = Definition(
            *(full, "class", signature, with_list(doc or self._comment_above(node), described), node.lineno),
            bases=tuple(filter(None, map(dotted_name, node.bases))),
            fields=fields,
            listed=tuple(dict.fromkeys(name for name, *_ in (*fields, *described))),
            generates=any(map(_GENERATORS.fullmatch, _decorators(node))),
        )
        self._define(definition, weak)
        if prefix.count(".") < 2:
            self._add_body(node.body, f"{full}.", weak=weak)

    def _fields(self, node: ast.ClassDef) -> tuple[tuple[Parameter, ...], list[Described]]:
        """The annotated attributes of a class, and the descriptions of all its attributes."""
        fields: list[Parameter] = []
        described: list[Described] = []
        for each, after in zip(node.body, [*node.body[1:], None], strict=True):
            if not isinstance(each, ast.Assign | ast.AnnAssign):
                continue
            name = _assigned(each)
            if not name or name.startswith("_"):
                continue
            text = description(each.value)
            if isinstance(each, ast.AnnAssign):
                annotation, in_annotation = undescribed(each.annotation)
                source, default = self._reader.source(annotation), self._reader.field(each.value)
                text = text or in_annotation
                if default is not None and not _CLASS_VARIABLE.match(source):
                    fields.append((name, source, default))
            if text := text or self._doc_of_assignment(each, after, marked=True):
                described.append((name, text))
        return tuple(fields), described

    def _add_assignment(
        self, node: ast.Assign | ast.AnnAssign, prefix: str, after: ast.stmt | None, weak: bool
    ) -> None:
        name = _assigned(node)
        if not prefix:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            weak = weak or node.value is None
            value = "" if node.value is None or isinstance(targets[0], ast.Tuple) else dotted_name(node.value)
            known = value.partition(".")[0] in self._module.bindings
            for target in targets:
                for each in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
                    self._bind(dotted_name(each), f"{self._module.name}.{value}" if known else "", weak=weak)
            self._add_lazy_exports(node.value)
            if isinstance(node, ast.AnnAssign):
                self._instances[name] = dotted_name(node.annotation)
            elif isinstance(node.value, ast.Call):
                self._instances[name] = dotted_name(node.value.func)
        if name == "__all__" and not prefix and node.value is not None:
            self._add_exports(node.value)
        if not name or name.startswith("_"):
            return
        doc = self._doc_of_assignment(node, after, marked=bool(prefix) or not self._with_undocumented)
        if prefix and len(doc) <= LONGEST_LISTED and "\n\n" not in doc:
            return  # the passage of the class describes it
        if not doc and self._with_undocumented and not prefix:
            doc = self._comment_beside(node)
        if doc or not prefix:
            short = isinstance(node.value, ast.Constant | ast.BinOp)
            value = self._reader.source(node.value) if short and node.lineno == node.end_lineno else ""
            kind = self._reader.source(node.annotation) if isinstance(node, ast.AnnAssign) else ""
            signature = f"{kind and f': {kind}'}{f' = {value}' if 0 < len(value) <= 100 else ''}"
            instance, _, member = dotted_name(node.value).rpartition(".") if node.value else ("", "", "")
            like = f"{self._instances[instance]}.{member}" if instance in self._instances else ""
            self._define(Definition(prefix + name, "data", signature, doc, node.lineno, like=like), weak)

    def _doc_of_assignment(self, node: ast.stmt, after: ast.stmt | None, *, marked: bool) -> str:
        below = after.value if isinstance(after, ast.Expr) else None
        if isinstance(below, ast.Constant) and isinstance(below.value, str):
            return inspect.cleandoc(below.value)
        return self._comment_above(node, marked=marked)

    def _define(self, definition: Definition, weak: bool) -> None:
        """Keep a definition. Of several with one name, the last one with a docstring counts."""
        before = self._module.definitions.get(definition.name, _NOTHING)
        says_less = weak or (definition.kind == "data" and before.kind != "data")
        is_better = bool(definition.doc) if bool(before.doc) != bool(definition.doc) else not says_less
        if is_better or before is _NOTHING:
            self._module.definitions[definition.name] = definition

    def _comment_above(self, node: ast.stmt, *, marked: bool = False) -> str:
        """The comment directly above; with `marked`, only a comment that begins with `#:`."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))]) - 1
        start = first
        while start > 0 and self._lines[start - 1].lstrip().startswith("#"):
            start -= 1
        lines = [line.strip() for line in self._lines[start:first]]
        marked = marked or self._module.path.endswith(".pyi")
        mark = "#:" if marked else "#"
        if not lines or not all(line.startswith(mark) for line in lines) or len(lines) > 40:
            return ""
        text = inspect.cleandoc("\n".join(" " + line.lstrip("#").removeprefix(":") for line in lines)).strip()
        return text if re.search(r"[A-Za-z]{3}", text) and not re.match(r"[-=#*]{3}", text) else ""

    def _comment_beside(self, node: ast.stmt) -> str:
        rest = (
            self._lines[(node.end_lineno or 1) - 1].encode()[node.end_col_offset :].decode("utf-8", "replace")
        )
        mark, _, text = rest.partition("# ")
        return "" if mark.strip(" #:") or text.startswith("type:") or " " not in text else text.strip()

    # `__all__`

    def _add_exports(self, *values: ast.expr) -> None:
        self._module.exports = self._module.exports or []
        for each in (each for value in values for each in ast.walk(value)):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                self._module.exports.append(each.value)
            elif not isinstance(each, _PLAIN_LIST) and getattr(each, "id", "") != "__all__":
                self._module.computed = True

    def _extend_exports(self, node: ast.AugAssign | ast.Expr) -> None:
        if isinstance(node, ast.AugAssign) and dotted_name(node.target) == "__all__":
            self._add_exports(node.value)
        elif isinstance(node.value, ast.Call) and dotted_name(node.value.func).startswith("__all__."):
            self._add_exports(*node.value.args)

    def _add_docs(self, call: ast.expr) -> None:
        """Note a docstring for what is written in C: `add_newdoc("numpy", "array", "…")`."""
        if isinstance(call, ast.Call) and dotted_name(call.func) == "add_newdoc" and len(call.args) == 3:
            place, name, last = call.args
            *member, doc = last.elts if isinstance(last, ast.Tuple) else [last]
            names = [text_of(each) for each in (name, *member)]
            head, mark, text = text_of(doc).partition("\n--\n\n")  # C begins a docstring with a signature
            if all(names) and text_of(place) and head:
                full = ".".join(names)
                signature = " ".join(head.removeprefix(names[-1]).split()) if mark else ""
                found = Definition(full, "function", signature, text.strip() or head, call.lineno)
                self._module.docs.append((text_of(place), found))

    def _add_lazy_exports(self, node: ast.expr | None) -> None:
        """Note the names in a table, from which `__getattr__` of the module may import lazily."""
        if isinstance(node, ast.Dict):
            strings = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
            self._in_tables.update(each for each in strings if isinstance(each, str) and each.isidentifier())


_NOTHING = Definition("", "data")
_GENERATORS = re.compile(r"(?:.*\.)?(?:dataclass|define|frozen|mutable|attrs|attributes)|attr\.s")
_PLAIN_LIST = (ast.List, ast.Tuple, ast.BinOp, ast.Add, ast.Load)
# What is imported for type checkers alone is often imported lazily at run time.
_DOES_NOT_RUN = re.compile(
    r"^(?:\w+\.)?TYPE_CHECKING$|version_info\S* <=? "
    r"|(?:== |startswith\()'(?:win|win32|cygwin|nt|darwin|aix|java)'"
)
_CLASS_VARIABLE = re.compile(r"""["']?(?:typing\.)?(?:ClassVar|Final)\b""")


def _branches(node: ast.If | ast.Try | ast.With) -> Iterator[tuple[list[ast.stmt], bool]]:
    """The branches of a statement, and whether each is weak. The branch that runs comes last."""
    if isinstance(node, ast.Try):
        yield from ((handler.body, True) for handler in node.handlers)
        yield from ((part, False) for part in (node.body, node.orelse, node.finalbody))
    elif isinstance(node, ast.With):
        yield node.body, False
    else:
        is_weak = bool(_DOES_NOT_RUN.search(ast.unparse(node.test)))
        branches = [(node.orelse, False), (node.body, is_weak)]
        yield from reversed(branches) if is_weak else branches


def _decorators(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [dotted_name(each.func if isinstance(each, ast.Call) else each) for each in node.decorator_list]


def _copied_by(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The function of the same name that a decorator gets: `@copy_docstring(Axes.plot)` of `plot`."""
    calls = [each for each in node.decorator_list if isinstance(each, ast.Call) and each.args]
    names = (dotted_name(each.args[0]) for each in calls)
    return next((name for name in names if name.rpartition(".")[2] == node.name), "")


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return (ast.get_docstring(node, clean=True) or "").strip()


def _assigned(node: ast.Assign | ast.AnnAssign) -> str:
    """The one name that a statement assigns to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""
