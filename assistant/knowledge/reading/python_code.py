"""Reads one Python source file: its definitions with signatures and docstrings, and the names that it calls.

Parses with `ast` and never imports or runs what it reads. `python_names.py` puts the modules of a package
together and finds the public names.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
import tokenize
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from assistant.knowledge.passage import Calls
from assistant.knowledge.reading.python_calls import CallCounter, dotted_name

LARGEST_FILE = 2_000_000  # bytes
LONGEST_SIGNATURE = 400  # characters; a longer one loses its annotations, and is then cut


class SourceUnreadable(Exception):
    """A file that cannot be read as Python source; the text says why."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A function, class, method, property or constant, where it is defined."""

    name: str  # within its module: "Path.mkdir"
    kind: str
    signature: str = ""  # what follows the name: "(path, ignore_errors=False)", " = 'abc'"
    doc: str = ""
    line: int = 0
    bases: tuple[str, ...] = ()  # the base classes of a class, as dotted names in the source


@dataclass(slots=True)
class Module:
    """What one source file defines, exports, imports and calls."""

    name: str
    path: str  # below the root, with "/"
    doc: str = ""
    doc_line: int = 1
    definitions: dict[str, Definition] = field(default_factory=dict)
    exports: list[str] | None = None  # `__all__`, as far as it can be read without running it
    computed: bool = False  # whether code computes a part of `__all__`
    imports: dict[str, str] = field(default_factory=dict)  # name in this module: dotted name elsewhere
    stars: list[str] = field(default_factory=list)  # the modules of `from … import *`
    usage: dict[str, Calls] = field(default_factory=dict)  # by full name of what is called

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")


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
    `with_undocumented` keeps definitions without a docstring or comment."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as invalid escapes in the source
            tree = ast.parse(text)
        return _ModuleReader(text, name, path, with_undocumented).read(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SourceUnreadable(f"{type(error).__name__}: {error}") from error


_PROPERTIES = re.compile("(?:cached_|abstract|hybrid_)?property|cache_readonly|reify")


class _ModuleReader:
    def __init__(self, text: str, name: str, path: str, with_undocumented: bool) -> None:
        self._lines = text.split("\n")
        self._with_undocumented = with_undocumented
        self._module = Module(name, path)
        self._package = name if path.endswith("__init__.py") else name.rpartition(".")[0]

    def read(self, tree: ast.Module) -> Module:
        module = self._module
        module.doc = _docstring(tree)
        if module.doc:
            module.doc_line = tree.body[0].lineno
        self._add_imports(tree)
        self._add_body(tree.body, "")
        own_names = {name for name in module.definitions if "." not in name}
        module.usage = CallCounter(self._lines, module.name, module.imports, own_names).count(tree)
        return module

    # Definitions

    def _add_body(self, body: Sequence[ast.stmt], prefix: str) -> None:
        """Add the definitions in the body of a module or class, in every branch of it."""
        for position, node in enumerate(body):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._add_function(node, prefix)
            elif isinstance(node, ast.ClassDef):
                self._add_class(node, prefix)
            elif isinstance(node, ast.If | ast.Try | ast.With):
                handlers = [handler.body for handler in getattr(node, "handlers", ())]
                for part in (node.body, *handlers, getattr(node, "orelse", ())):
                    self._add_body(part, prefix)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                after = body[position + 1] if position + 1 < len(body) else None
                self._add_assignment(node, prefix, after)
            elif isinstance(node, ast.AugAssign | ast.Expr) and not prefix:
                self._extend_exports(node)

    def _add_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, prefix: str) -> None:
        if node.name.startswith("_"):
            return
        decorators = [dotted_name(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]
        last = {name.rpartition(".")[2] for name in decorators}
        if "overload" in last or any(
            name.endswith((".setter", ".deleter", ".getter")) for name in decorators
        ):
            return
        doc = _docstring(node) or self._comment_above(node)
        if any(map(_PROPERTIES.fullmatch, last)):
            kind, signature = "property", ""
        elif "_SpecialForm" in last:  # typing.Optional is written as a function, but never called
            kind, signature = "data", ""
        else:
            kind = "method" if prefix else "function"
            bound = bool(prefix) and "staticmethod" not in last
            signature = _signature(node.args, node.returns, bound=bound)
        self._define(Definition(prefix + node.name, kind, signature, doc, node.lineno))

    def _add_class(self, node: ast.ClassDef, prefix: str) -> None:
        if prefix and node.name.startswith("_"):  # at the top, a public class may inherit from it
            return
        doc = _docstring(node)
        signature = ""
        for child in node.body:
            if isinstance(child, ast.FunctionDef) and child.name in ("__init__", "__new__"):
                signature = _signature(child.args, None, bound=True)
                doc = doc or _docstring(child)
                if child.name == "__init__":
                    break
        bases = tuple(base for base in map(dotted_name, node.bases) if base)
        doc = doc or self._comment_above(node)
        if prefix + node.name not in self._module.definitions or doc:
            self._module.definitions[prefix + node.name] = Definition(
                prefix + node.name, "class", signature, doc, node.lineno, bases
            )
        if prefix.count(".") < 2:
            self._add_body(node.body, f"{prefix}{node.name}.")

    def _add_assignment(self, node: ast.Assign | ast.AnnAssign, prefix: str, after: ast.stmt | None) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        name = targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""
        if name == "__all__" and not prefix and node.value is not None:
            self._add_exports(node.value)
        if not name or name.startswith("_"):
            return
        doc = ""
        below = after.value if isinstance(after, ast.Expr) else None
        if isinstance(below, ast.Constant) and isinstance(below.value, str):
            doc = inspect.cleandoc(below.value)
        doc = doc or self._comment_above(node, marked=bool(prefix) or not self._with_undocumented)
        value = self._lines[node.lineno - 1].strip() if node.lineno == node.end_lineno else ""
        if not doc and self._with_undocumented and not prefix:
            doc = self._comment_beside(node)
        if doc or (self._with_undocumented and not prefix):
            signature = ""
            if isinstance(node.value, ast.Constant | ast.BinOp) and len(value) <= 100:
                signature = f" = {ast.unparse(node.value)}"
            definition = Definition(prefix + name, "data", signature, doc, node.lineno)
            self._module.definitions.setdefault(definition.name, definition)

    def _define(self, definition: Definition) -> None:
        if not definition.doc and not self._with_undocumented:
            return
        before = self._module.definitions.get(definition.name)
        if before is None or (definition.doc and (not before.doc or before.kind == "data")):
            self._module.definitions[definition.name] = definition

    def _comment_above(self, node: ast.stmt, *, marked: bool = False) -> str:
        """The comment directly above; with `marked`, only a comment that begins with `#:`."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))]) - 1
        start = first
        while start > 0 and self._lines[start - 1].lstrip().startswith("#"):
            start -= 1
        lines = [line.strip() for line in self._lines[start:first]]
        mark = "#:" if marked else "#"
        if not lines or not all(line.startswith(mark) for line in lines) or len(lines) > 40:
            return ""
        text = inspect.cleandoc("\n".join(" " + line.lstrip("#").removeprefix(":") for line in lines)).strip()
        return text if re.search(r"[A-Za-z]{3}", text) and not re.match(r"[-=#*]{3}", text) else ""

    def _comment_beside(self, node: ast.stmt) -> str:
        if node.end_lineno != node.lineno or node.end_col_offset is None:
            return ""
        rest = self._lines[node.lineno - 1].encode()[node.end_col_offset :].decode("utf-8", "replace").strip()
        text = rest.lstrip("#: ").strip()
        return text if rest.startswith("#") and " " in text and not text.startswith("type:") else ""

    # `__all__`

    def _add_exports(self, value: ast.expr) -> None:
        self._module.exports = self._module.exports or []
        if isinstance(value, ast.List | ast.Tuple):
            for item in value.elts:
                if isinstance(item, ast.Constant) and isinstance(item.value, str):
                    self._module.exports.append(item.value)
                else:
                    self._module.computed = True
        elif isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            self._add_exports(value.left)
            self._add_exports(value.right)
        elif not (isinstance(value, ast.Name) and value.id == "__all__"):
            self._module.computed = True

    def _extend_exports(self, node: ast.AugAssign | ast.Expr) -> None:
        if isinstance(node, ast.AugAssign):
            if isinstance(node.target, ast.Name) and node.target.id == "__all__":
                self._add_exports(node.value)
        elif isinstance(node.value, ast.Call) and dotted_name(node.value.func).startswith("__all__."):
            how = dotted_name(node.value.func).removeprefix("__all__.")
            for argument in node.value.args:
                if how == "append":
                    self._add_exports(ast.List([argument]))
                elif how == "extend":
                    self._add_exports(argument)

    # Imports

    def _add_imports(self, tree: ast.Module) -> None:
        waiting: list[ast.AST] = [tree]
        while waiting:
            node = waiting.pop()
            top = isinstance(node, ast.Module | ast.If | ast.Try | ast.With | ast.ExceptHandler)
            if isinstance(node, ast.Import):
                for alias in node.names:
                    here = alias.asname or alias.name.partition(".")[0]
                    self._module.imports.setdefault(here, alias.name if alias.asname else here)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                for alias in node.names:
                    if alias.name == "*":
                        self._module.stars.append(base)
                    else:
                        self._module.imports.setdefault(alias.asname or alias.name, f"{base}.{alias.name}")
            elif top:
                waiting.extend(reversed(list(ast.iter_child_nodes(node))))

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parents = self._package.split(".")
        parents = parents[: len(parents) - node.level + 1]
        return ".".join([*parents, *([node.module] if node.module else [])])


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return (ast.get_docstring(node, clean=True) or "").strip()


def _signature(arguments: ast.arguments, returns: ast.expr | None, *, bound: bool) -> str:
    """The signature as source code, without `self`."""
    if bound:
        arguments = copy.copy(arguments)
        which = "posonlyargs" if arguments.posonlyargs else "args"
        setattr(arguments, which, getattr(arguments, which)[1:])
        extra = len(arguments.defaults) - len(arguments.posonlyargs) - len(arguments.args)
        arguments.defaults = arguments.defaults[max(0, extra) :]
    text = f"({ast.unparse(arguments)})"
    if returns is not None:
        text += f" -> {ast.unparse(returns)}"
    if len(text) > LONGEST_SIGNATURE:
        arguments = copy.deepcopy(arguments)
        for each in ast.walk(arguments):
            if isinstance(each, ast.arg):
                each.annotation = None
        text = f"({ast.unparse(arguments)})"
    return text if len(text) <= 2 * LONGEST_SIGNATURE else text[: 2 * LONGEST_SIGNATURE] + "…"
