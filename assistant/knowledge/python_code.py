"""What Python source says about itself: the names that it offers, their signatures and docstrings, and which
names of others it calls, with lines that show how.

Knows `ast` and how a public name is made from definitions, `__all__` and re-exports. Refuses to import or run
anything that it reads, and to know where files come from: it gets the text of modules and gives values.

`read_module` reads one file. `documented` puts the modules of a package together, because only then is it
known under which name a thing is offered: `requests.get` is defined in `requests/api.py`.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

LARGEST_FILE = 2_000_000  # bytes
LONGEST_SIGNATURE = 400  # characters; a longer one is given without its annotations, then cut
LONGEST_EXAMPLE_LINES, LONGEST_EXAMPLE = 4, 300
EXAMPLES_TRIED = 4  # calls of one name in one file that are looked at for an example

# How often a name is called in a file, and the first line, the last line and the worth of the best example;
# line 0 is none.
Use = tuple[int, int, int, int]


class SourceUnreadable(Exception):
    """A file that is no Python source that can be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A function, class, method, property or datum, where it is defined."""

    name: str  # within its module: "Path.mkdir"
    kind: str
    signature: str = ""  # what follows the name: "(path, ignore_errors=False)", " = 'abc'"
    doc: str = ""
    line: int = 0
    bases: tuple[str, ...] = ()  # of a class: as written, dotted


@dataclass(slots=True)
class Module:
    """What one file says."""

    name: str
    path: str  # below the root, with "/"
    doc: str = ""
    doc_line: int = 1
    definitions: dict[str, Definition] = field(default_factory=dict)
    exports: list[str] | None = None  # `__all__`, as far as it can be read without running it
    computed: bool = False  # whether `__all__` is made in a way that cannot be read
    imports: dict[str, str] = field(default_factory=dict)  # name here: dotted name there
    stars: list[str] = field(default_factory=list)
    usage: dict[str, Use] = field(default_factory=dict)

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")


@dataclass(frozen=True, slots=True)
class Documented:
    """A definition under the name by which it is offered, with its other names."""

    name: str
    definition: Definition
    module: Module
    aliases: tuple[str, ...] = ()
    listed: bool = True  # whether some `__all__` or a package's face offers it


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
    """Read one module. Raises `SourceUnreadable` for what is not Python (of this interpreter's version).

    `with_undocumented` keeps definitions that have a signature alone.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like are not ours to tell
            tree = ast.parse(text)
        return _Reader(text, name, path, with_undocumented).read(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SourceUnreadable(f"{type(error).__name__}: {error}") from error


# One module

_BUILTINS = frozenset(name for name in dir(builtins) if not name.startswith("_"))
_PROPERTIES = (
    "property",
    "cached_property",
    "abstractproperty",
    "hybrid_property",
    "cache_readonly",
    "reify",
)

# What calls give that are not classes: enough to know what `connection.execute` in an example belongs to.
_GIVES = {
    "open": "io.TextIOBase",
    "re.compile": "re.Pattern",
    "re.match": "re.Match",
    "re.search": "re.Match",
    "re.fullmatch": "re.Match",
    "sqlite3.connect": "sqlite3.Connection",
    "logging.getLogger": "logging.Logger",
    "hashlib.sha256": "hashlib.hash",
    "datetime.datetime.now": "datetime.datetime",
    "datetime.datetime.strptime": "datetime.datetime",
    "datetime.datetime.fromtimestamp": "datetime.datetime",
    "datetime.date.today": "datetime.date",
    "pathlib.Path.cwd": "pathlib.Path",
    "pathlib.Path.home": "pathlib.Path",
    "str.format": "str",
    "str.join": "str",
    "str.strip": "str",
    "str.lower": "str",
    "str.replace": "str",
    "str.split": "list",
    "str.splitlines": "list",
    "str.encode": "bytes",
    "bytes.decode": "str",
    "sorted": "list",
    "input": "str",
    "repr": "str",
    "len": "int",
    "os.path.join": "str",
}
_DISPLAYS: dict[type[ast.AST], str] = {
    ast.List: "list",
    ast.ListComp: "list",
    ast.Dict: "dict",
    ast.DictComp: "dict",
    ast.Set: "set",
    ast.SetComp: "set",
    ast.Tuple: "tuple",
    ast.JoinedStr: "str",
}
_SIMPLE = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Delete, ast.Assert)
_SHORT_COMPOUND = (ast.With, ast.For, ast.Try, ast.While)
_HEADED = (ast.With, ast.AsyncWith, ast.For, ast.AsyncFor)  # their heads are examples, too


class _Reader:
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
        self._imports(tree)
        self._body(tree.body, "")
        self._uses(tree)
        return module

    # What it offers

    def _body(self, body: Sequence[ast.stmt], prefix: str) -> None:
        """The definitions in the body of a module or class, in whatever branch they stand."""
        for position, node in enumerate(body):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._function(node, prefix)
            elif isinstance(node, ast.ClassDef):
                self._class(node, prefix)
            elif isinstance(node, ast.If):
                self._body(node.body, prefix)
                self._body(node.orelse, prefix)
            elif isinstance(node, ast.Try):
                for part in (node.body, *(handler.body for handler in node.handlers), node.orelse):
                    self._body(part, prefix)
            elif isinstance(node, ast.With):
                self._body(node.body, prefix)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                after = body[position + 1] if position + 1 < len(body) else None
                self._assignment(node, prefix, after)
            elif isinstance(node, ast.AugAssign | ast.Expr) and not prefix:
                self._more_exports(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, prefix: str) -> None:
        if node.name.startswith("_"):
            return
        decorators = [_dotted(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]
        last = {name.rpartition(".")[2] for name in decorators}
        if "overload" in last or any(
            name.endswith((".setter", ".deleter", ".getter")) for name in decorators
        ):
            return
        doc = _docstring(node) or self._comment_above(node)
        if any(name in last for name in _PROPERTIES):
            kind, signature = "property", ""
        elif "_SpecialForm" in last:  # typing.Optional: a function by its text, never called
            kind, signature = "data", ""
        else:
            kind = "method" if prefix else "function"
            bound = bool(prefix) and "staticmethod" not in last
            signature = _signature(node.args, node.returns, bound=bound)
        self._define(Definition(prefix + node.name, kind, signature, doc, node.lineno))

    def _class(self, node: ast.ClassDef, prefix: str) -> None:
        if prefix and node.name.startswith("_"):  # at the top its methods may be offered by one that inherits
            return
        doc = _docstring(node)
        signature = ""
        for child in node.body:
            if isinstance(child, ast.FunctionDef) and child.name in ("__init__", "__new__"):
                signature = _signature(child.args, None, bound=True)
                doc = doc or _docstring(child)
                if child.name == "__init__":
                    break
        bases = tuple(base for base in map(_dotted, node.bases) if base)
        doc = doc or self._comment_above(node)
        if prefix + node.name not in self._module.definitions or doc:
            self._module.definitions[prefix + node.name] = Definition(
                prefix + node.name, "class", signature, doc, node.lineno, bases
            )
        if prefix.count(".") < 2:
            self._body(node.body, f"{prefix}{node.name}.")

    def _assignment(self, node: ast.Assign | ast.AnnAssign, prefix: str, after: ast.stmt | None) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        name = targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""
        if name == "__all__" and not prefix and node.value is not None:
            self._set_exports(node.value)
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
        """The comment that stands directly above, as it stands; with `marked` only one that begins `#:`."""
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

    def _set_exports(self, value: ast.expr) -> None:
        self._module.exports = self._module.exports or []
        self._add_exports(value)

    def _add_exports(self, value: ast.expr) -> None:
        if isinstance(value, ast.List | ast.Tuple):
            for item in value.elts:
                if isinstance(item, ast.Constant) and isinstance(item.value, str):
                    self._export(item.value)
                else:
                    self._module.computed = True
        elif isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            self._add_exports(value.left)
            self._add_exports(value.right)
        elif not (isinstance(value, ast.Name) and value.id == "__all__"):
            self._module.computed = True

    def _export(self, name: str) -> None:
        exports = self._module.exports = self._module.exports or []
        exports.append(name)

    def _more_exports(self, node: ast.AugAssign | ast.Expr) -> None:
        if isinstance(node, ast.AugAssign):
            if isinstance(node.target, ast.Name) and node.target.id == "__all__":
                self._add_exports(node.value)
        elif isinstance(node.value, ast.Call) and _dotted(node.value.func).startswith("__all__."):
            how = _dotted(node.value.func).removeprefix("__all__.")
            for argument in node.value.args:
                if how == "append":
                    self._add_exports(ast.List([argument]))
                elif how == "extend":
                    self._add_exports(argument)

    # What it imports

    def _imports(self, tree: ast.Module) -> None:
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

    # What it calls

    def _uses(self, tree: ast.Module) -> None:
        """Every call whose name can be known from the text, with the lines of the best example of each."""
        imports = dict(self._module.imports)
        own = {name for name in self._module.definitions if "." not in name}
        counted: dict[str, list[int]] = {}
        Frame = tuple[ast.AST, dict[str, str], ast.stmt | None, ast.stmt | None]  # noqa: N806
        waiting: list[Frame] = [(tree, {}, None, None)]
        while waiting:
            node, types, statement, context = waiting.pop()
            head = None
            if isinstance(node, ast.stmt):
                if isinstance(node, _HEADED) and statement is None:
                    head = node
                if isinstance(node, _SIMPLE) or (
                    isinstance(node, _SHORT_COMPOUND)
                    and (node.end_lineno or 0) - node.lineno < LONGEST_EXAMPLE_LINES
                    and statement is None
                ):
                    statement = node if statement is None else statement
                elif not isinstance(node, _SIMPLE):
                    statement = None if statement is None or node.lineno > statement.lineno else statement
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    types = dict(types)
                    for argument in (*node.args.args, *node.args.kwonlyargs):
                        types.pop(argument.arg, None)
                        if argument.annotation is not None:
                            known = self._resolve(_annotated(argument.annotation), imports, own)
                            if known:
                                types[argument.arg] = known
                    statement = None
                elif isinstance(node, ast.ClassDef):
                    statement = None
                elif isinstance(node, ast.Assign):
                    known = self._type(node.value, types, imports, own)
                    for target in node.targets:
                        if isinstance(target, ast.Name):
                            if known:
                                types[target.id] = known
                            else:
                                types.pop(target.id, None)
                elif isinstance(node, ast.With):
                    for item in node.items:
                        if isinstance(item.optional_vars, ast.Name):
                            known = self._type(item.context_expr, types, imports, own)
                            if known:
                                types[item.optional_vars.id] = known
                elif isinstance(node, ast.ImportFrom | ast.Import):
                    continue
            elif isinstance(node, ast.Call):
                name = self._called(node.func, types, imports, own)
                if name and "._" not in name:
                    use = counted.setdefault(name, [0, 0, 0, 0])
                    use[0] += 1
                    if use[0] <= EXAMPLES_TRIED and statement is not None:
                        first, last, worth = self._example(statement, context, node, name)
                        if worth > use[3]:
                            use[1:] = [first, last, worth]
            children: list[Frame] = []
            before: ast.stmt | None = node if isinstance(node, ast.If) and self._stands_alone(node) else None
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    children.append((child, types, statement, context if statement else before))
                    before = child
                else:
                    children.append((child, types, head or statement, context))
            children.reverse()
            waiting.extend(children)
        self._module.usage = {name: (use[0], use[1], use[2], use[3]) for name, use in counted.items()}

    def _resolve(self, dotted: str, imports: Mapping[str, str], own: set[str]) -> str:
        """The full name of what is written as `dotted` here; "" where it is not known."""
        if not dotted:
            return ""
        root, dot, rest = dotted.partition(".")
        if root in imports:
            return imports[root] + dot + rest
        if root in own:
            return f"{self._module.name}.{dotted}"
        return dotted if root in _BUILTINS else ""

    def _called(
        self, func: ast.expr, types: Mapping[str, str], imports: Mapping[str, str], own: set[str]
    ) -> str:
        if isinstance(func, ast.Attribute):
            known = self._type(func.value, types, imports, own)
            if known:
                return f"{known}.{func.attr}"
        return self._resolve(_dotted(func), imports, own)

    def _type(
        self, node: ast.expr, types: Mapping[str, str], imports: Mapping[str, str], own: set[str]
    ) -> str:
        """The name of the class of a value, where the text alone shows it; else ""."""
        if isinstance(node, ast.Name):
            return types.get(node.id, "")
        if isinstance(node, ast.Call):
            name = self._called(node.func, types, imports, own)
            if name in _GIVES:
                return _GIVES[name]
            last = name.rpartition(".")[2]
            is_class = last[:1].isupper() or name in ("str", "dict", "list", "set", "bytes", "int", "float")
            return name if is_class else ""
        if isinstance(node, ast.Constant):
            kind = type(node.value).__name__
            return kind if kind in ("str", "bytes", "int", "float") else ""
        return _DISPLAYS.get(type(node), "")

    def _stands_alone(self, node: ast.If) -> bool:
        return not node.orelse and self._lines[node.lineno - 1].lstrip().startswith("if")

    def _example(
        self, statement: ast.stmt, context: ast.stmt | None, call: ast.Call, name: str
    ) -> tuple[int, int, int]:
        """The first and last line of an example that a statement is, and its worth; 0: none.

        A call of nothing but names says no more than a signature: it comes with the condition that it stands
        under, or with the assignment before it that says what such a name stands for.
        """
        first, last = statement.lineno, statement.end_lineno or statement.lineno
        if isinstance(statement, _HEADED) and last - first >= LONGEST_EXAMPLE_LINES:
            ends = [inner.end_lineno or 0 for inner in statement.body]
            last = max((end for end in ends if end - first < LONGEST_EXAMPLE_LINES), default=last)
        names = _only_names(statement, call)
        if names is not None:
            if not isinstance(context, ast.If) and not (
                isinstance(context, ast.Assign)
                and any(isinstance(target, ast.Name) and target.id in names for target in context.targets)
            ):
                return 0, 0, 0
            first = context.lineno
        return first, last, self._worth(statement, first, last, call, name)

    def _worth(self, statement: ast.stmt, first: int, last: int, call: ast.Call, name: str) -> int:
        """How good an example lines are: short, alone, of plain words, with something between the brackets.
        0: none."""
        if last - first >= LONGEST_EXAMPLE_LINES:
            return 0
        if any(isinstance(each, ast.Starred) for each in call.args) or any(
            each.arg is None for each in call.keywords
        ):
            return 0  # what passes everything on shows nothing
        lines = self._lines[first - 1 : last]
        text = "\n".join(lines).strip()
        if len(text) > LONGEST_EXAMPLE or "raise " in text or ">>>" in text:
            return 0
        if name.rpartition(".")[2] not in text:  # imported under another name: it would show nothing
            return 0
        worth = 100 - len(text) // 4 - 8 * (last - first)
        worth -= 12 * text.count("self.") + 6 * len(re.findall(r"\b_\w", text))
        worth -= 5 * max(0, text.count("(") - 1)
        worth += 10 * min(len(call.args) + len(call.keywords), 2)
        if any(isinstance(each, ast.Constant) for each in _arguments(call)):
            worth += 8
        if isinstance(statement, ast.Assign | ast.With):
            worth += 8
        if call in _head(statement):  # what is made for loops and blocks is shown with one
            worth += 25
        if isinstance(statement, ast.Return):
            worth -= 10
        if not isinstance(statement, _SIMPLE):
            worth += 5
        return max(worth, 1)


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords)]


def _head(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.With | ast.AsyncWith):
        return [item.context_expr for item in statement.items]
    return [statement.iter] if isinstance(statement, ast.For | ast.AsyncFor) else []


def _only_names(statement: ast.stmt, call: ast.Call) -> set[str] | None:
    """The names in a call that a statement consists of, where there is nothing else in it."""
    alone = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(alone, ast.Await):
        alone = alone.value
    arguments = _arguments(call)
    if alone is not call or not all(map(_dotted, arguments)):
        return None
    return {_dotted(each).partition(".")[0] for each in arguments}


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return (ast.get_docstring(node, clean=True) or "").strip()


def _dotted(node: ast.expr) -> str:
    """`a.b.c` as text; "" for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Subscript):
        return _dotted(node.value) if not parts else ""
    if not isinstance(node, ast.Name):
        return ""
    parts.append(node.id)
    return ".".join(reversed(parts))


def _annotated(node: ast.expr) -> str:
    """The class of an annotation; of `Optional[X]` and `X | None` it is X."""
    if isinstance(node, ast.BinOp):
        return _annotated(node.left)
    if isinstance(node, ast.Subscript) and _dotted(node.value).rpartition(".")[2] in (
        "Optional",
        "Annotated",
    ):
        inner = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
        return _annotated(inner)
    return _dotted(node)


def _signature(arguments: ast.arguments, returns: ast.expr | None, *, bound: bool) -> str:
    """Arguments as people write them, without `self`."""
    if bound:
        first = arguments.posonlyargs or arguments.args
        if first:
            defaults = arguments.defaults
            rest = (first[1:], arguments.args) if arguments.posonlyargs else ([], first[1:])
            total = len(rest[0]) + len(rest[1])
            arguments = ast.arguments(
                posonlyargs=rest[0],
                args=rest[1],
                vararg=arguments.vararg,
                kwonlyargs=arguments.kwonlyargs,
                kw_defaults=arguments.kw_defaults,
                kwarg=arguments.kwarg,
                defaults=defaults[len(defaults) - total :] if len(defaults) > total else defaults,
            )
    text = f"({ast.unparse(arguments)})"
    if returns is not None:
        text += f" -> {ast.unparse(returns)}"
    if len(text) > LONGEST_SIGNATURE:
        bare = ast.arguments(
            posonlyargs=[ast.arg(a.arg) for a in arguments.posonlyargs],
            args=[ast.arg(a.arg) for a in arguments.args],
            vararg=ast.arg(arguments.vararg.arg) if arguments.vararg else None,
            kwonlyargs=[ast.arg(a.arg) for a in arguments.kwonlyargs],
            kw_defaults=arguments.kw_defaults,
            kwarg=ast.arg(arguments.kwarg.arg) if arguments.kwarg else None,
            defaults=arguments.defaults,
        )
        text = f"({ast.unparse(bare)})"
    return text if len(text) <= 2 * LONGEST_SIGNATURE else text[: 2 * LONGEST_SIGNATURE] + "…"


# A package

Place = tuple[str, str]  # a module, and a name in it; "" for the module itself


class Names:
    """Which names lead to which definitions, over all the modules of a package."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self._modules = modules
        self._found: dict[Place, Place | None] = {}
        self._exported: dict[str, set[str]] = {}

    def find(self, module: str, name: str) -> Place | None:
        """Where the top-level name of a module is defined."""
        place = (module, name)
        if place not in self._found:
            self._found[place] = None  # a circle ends here
            self._found[place] = self._find(module, name)
        return self._found[place]

    def _find(self, module: str, name: str) -> Place | None:
        here = self._modules[module]
        if name in here.definitions:
            return (module, name)
        if name in here.imports:
            found = self.dotted(here.imports[name])
            if found is not None:
                return found
        for star in here.stars:
            if star in self._modules and star != module and name in self.exported(star):
                found = self.find(star, name)
                if found is not None:
                    return found
        if f"{module}.{name}" in self._modules:
            return (f"{module}.{name}", "")
        return None

    def dotted(self, dotted: str) -> Place | None:
        """Where a full dotted name leads; members of classes are not followed."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            module = ".".join(parts[:length])
            if module in self._modules:
                if length == len(parts):
                    return (module, "")
                if length == len(parts) - 1:
                    return self.find(module, parts[-1])
                found = self.find(module, parts[length])
                if found is not None and not found[1]:
                    return self.dotted(".".join([found[0], *parts[length + 1 :]]))
                return None
        return None

    def exported(self, module: str) -> set[str]:
        """The top-level names that a module offers, its own and those of the modules that it takes all of."""
        if module not in self._exported:
            names: set[str] = set()
            waiting, seen = [module], {module}
            while waiting:
                name = waiting.pop()
                names.update(self._offered(name))
                here = self._modules[name]
                if here.exports is None or here.computed:
                    stars = [star for star in here.stars if star in self._modules and star not in seen]
                    seen.update(stars)
                    waiting.extend(stars)
            self._exported[module] = names
        return self._exported[module]

    def _offered(self, module: str) -> set[str]:
        here = self._modules[module]
        names = set(here.exports or ())
        if here.exports is None or here.computed:
            names.update(name for name in here.definitions if "." not in name and not name.startswith("_"))
            for name, target in here.imports.items():
                if name.startswith("_") or name in names:
                    continue
                root = target.partition(".")[0]
                same = root == module.partition(".")[0]
                private = any(part.startswith("_") for part in target.split(".")[:-1])
                if (here.is_package and same) or (private and (same or root.startswith("_"))):
                    names.add(name)
        return names


def documented(modules: Mapping[str, Module], *, hidden: Iterable[str] = ()) -> Iterator[Documented]:
    """Everything that the modules define and offer, each once, under its shortest public name.

    `hidden` modules offer nothing themselves; others may offer what they define.
    """
    names = Names(modules)
    closed = set(hidden)
    offered: dict[Place, set[str]] = {}
    for name, module in modules.items():
        if name in closed or any(part.startswith("_") for part in name.split(".")):
            continue
        for exported in names.exported(name):
            place = names.find(name, exported)
            if place is None and module.is_package:
                # Offered, but imported only when somebody asks: a submodule has it.
                below = [other for other in modules if other.startswith(f"{name}.")]
                holders = [other for other in below if exported in modules[other].definitions]
                place = (holders[0], exported) if len(holders) == 1 else None
            if place is not None and place[1] and not exported.startswith("_"):
                offered.setdefault(place, set()).add(f"{name}.{exported}")
    faces = {place: sorted(found, key=_shortest) for place, found in offered.items()}
    inner_names = {name: _inner_index(module) for name, module in modules.items()}
    members: dict[Place, list[str]] = {}
    for (name, top), public in faces.items():
        module = modules[name]
        for definition in _members(modules, inner_names, names, name, top):
            where, inner = definition
            own = where == name and inner.startswith(f"{top}.")
            rest = inner.partition(".")[2]
            into = members.setdefault((where, inner), [])
            for position, face in enumerate(public):
                full = f"{face}.{rest}"
                if own and position == 0:
                    into.insert(0, full)
                else:
                    into.append(full)
        definition_ = module.definitions[top]
        canonical = [f"{name}.{top}"] if f"{name}.{top}" not in public else []
        yield Documented(public[0], definition_, module, tuple([*public[1:], *canonical][:8]))
    for (name, inner), found in members.items():
        own_face = faces.get((name, inner.partition(".")[0]))
        ordered = sorted(dict.fromkeys(found), key=lambda full: (full.count("."), full))
        if own_face:
            best = f"{own_face[0]}.{inner.partition('.')[2]}"
            if best.count(".") <= ordered[0].count("."):
                ordered.remove(best)
                ordered.insert(0, best)
        canonical = [f"{name}.{inner}"] if f"{name}.{inner}" not in ordered else []
        aliases = tuple([*ordered[1:], *canonical][:8])
        yield Documented(ordered[0], modules[name].definitions[inner], modules[name], aliases)


def _members(
    modules: Mapping[str, Module],
    inner_names: Mapping[str, Mapping[str, list[str]]],
    names: Names,
    module: str,
    top: str,
) -> Iterator[Place]:
    """The members of a class and those that it inherits within these modules, the nearest of each name."""
    have: set[str] = set()
    waiting, seen = [(module, top)], set()
    while waiting:
        place = waiting.pop(0)
        if place in seen:
            continue
        seen.add(place)
        here = modules[place[0]]
        definition = here.definitions.get(place[1])
        if definition is None or definition.kind != "class":
            continue
        for inner in inner_names[place[0]].get(place[1], ()):
            rest = inner[len(place[1]) + 1 :]
            if rest not in have:
                have.add(rest)
                yield (place[0], inner)
        for base in definition.bases:
            root, dot, rest = base.partition(".")
            found = names.find(place[0], root)
            if found is not None and dot:
                found = names.dotted(f"{found[0]}.{rest}") if not found[1] else None
            if found is not None and found[1]:
                waiting.append(found)


def _inner_index(module: Module) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for name in module.definitions:
        top, dot, _ = name.partition(".")
        if dot:
            index.setdefault(top, []).append(name)
    return index


def _shortest(name: str) -> tuple[int, int, str]:
    return (name.count("."), len(name), name)
