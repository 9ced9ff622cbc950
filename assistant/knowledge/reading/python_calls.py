"""Counts the calls in Python source, by the full name of what is called, and picks an example of each.

A call counts if the source alone shows its full name: from imports, built-ins, and the types of variables
that an assignment or annotation makes plain. An example is code that somebody would run: from a docstring or
a README, or else from another package. How a package calls itself is counted, but is no example.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assistant.knowledge.passage import Calls

LONGEST_EXAMPLE_LINES, LONGEST_EXAMPLE = 4, 300
EXAMPLES_TRIED = 4  # calls of one name in one file that are considered as an example
FOR_READERS = 100  # added to the score of an example that was written to be read
LONGEST_SNIPPET_LINES = 200

_BUILTINS = {name: value for name, value in vars(builtins).items() if not name.startswith("_")}
# The return types of common functions: enough to know what `connection.execute` in an example belongs to.
_RETURN_TYPES = {
    "open": "io.TextIOBase",
    "re.compile": "re.Pattern",
    "sqlite3.connect": "sqlite3.Connection",
    "logging.getLogger": "logging.Logger",
    "datetime.datetime.now": "datetime.datetime",
    "str.encode": "bytes",
    "bytes.decode": "str",
    **dict.fromkeys(("re.match", "re.search", "re.fullmatch"), "re.Match"),
    **{f"str.{name}": "str" for name in ("format", "join", "strip", "lower", "replace")},
}
_CONVENTIONS = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "sa": "sqlalchemy"}
_HEADED = (ast.With, ast.AsyncWith, ast.For, ast.AsyncFor)
_SHOWN = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Delete, ast.Assert, *_HEADED)
_BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)
_WITHOUT_CALLS = frozenset((ast.Name, ast.Constant, ast.Load, ast.Store, str, type(None), int))

_OTHER_FIELDS = frozenset(("annotation", "ctx", "op", "ops", "attr", "arg", "kind", "conversion"))
_EXPRESSIONS = {  # the fields of each kind of node that may hold calls
    kind: tuple(name for name in kind._fields if name not in _OTHER_FIELDS)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}

# A node, the known types of variables there, and the statement that is the example of a call in the node.
_Frame = tuple[ast.AST, dict[str, str], ast.stmt | None]


class CallCounter:
    """Counts the calls in a module. `own` are the names that the module defines at its top level."""

    def __init__(self, lines: Sequence[str], module: str, imports: Mapping[str, str], own: set[str]) -> None:
        self._lines = lines
        self._module = module
        self._top = module.partition(".")[0]
        self._imports = dict(imports)
        self._own = own
        self._in_snippet = False
        self.counted: dict[str, Calls] = {}  # by full name

    def count(self, tree: ast.Module) -> None:
        """Count the calls in all statements and docstrings, without recursion, since code may be deep."""
        waiting: list[_Frame] = [(tree, {}, None)]
        while waiting:
            node, types, statement = waiting.pop()
            if isinstance(node, ast.stmt):
                if statement is None or _height(statement) >= LONGEST_EXAMPLE_LINES:
                    statement = node if isinstance(node, _SHOWN) else None
                types = self._learn_types(node, types)
                if (
                    isinstance(node, ast.Expr)
                    and isinstance(node.value, ast.Constant)
                    and not self._in_snippet
                ):
                    text = str(node.value.value)
                    if ">>>" in text or "::" in text or "```" in text:
                        self.count_snippets(node.lineno - 1, node.end_lineno or node.lineno)
                    continue
            children: list[_Frame] = []
            for name in node._fields:
                value: Any = getattr(node, name, None)
                values = value if isinstance(value, list) else [value]
                if values and isinstance(values[0], _BLOCKS):
                    children += [(child, types, statement) for child in values]
                elif name not in ("annotation", "returns"):
                    for call in _calls_in(values):
                        self._count_call(call, types, statement)
            children.reverse()
            waiting.extend(children)

    def count_snippets(self, start: int, end: int) -> None:
        """Count the calls in the examples of a text, which stands in these lines; the first line is 0."""
        imports = self._imports
        self._imports = {**_CONVENTIONS, **imports}
        self._in_snippet = True
        for first, code in _snippets(self._lines[start:end]):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree = ast.parse(code)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            for node in tree.body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self._imports.update(imported(node))
            ast.increment_lineno(tree, start + first)
            self.count(tree)
        self._in_snippet = False
        self._imports = imports

    def _learn_types(self, node: ast.stmt, types: dict[str, str]) -> dict[str, str]:
        """Add the types that a statement shows. A function gets its own copy."""
        learned: list[tuple[ast.expr | str | None, str]] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            types = dict(types)
            for each in (*node.args.args, *node.args.kwonlyargs):
                annotation = (
                    each.annotation.left if isinstance(each.annotation, ast.BinOp) else each.annotation
                )
                learned.append((each.arg, self._resolve(dotted_name(annotation))))
        elif isinstance(node, ast.Assign):
            learned = [(target, self._type(node.value, types)) for target in node.targets]
        elif isinstance(node, ast.With | ast.AsyncWith):
            learned = [(item.optional_vars, self._type(item.context_expr, types)) for item in node.items]
        for target, known in learned:
            name = target.id if isinstance(target, ast.Name) else target
            if isinstance(name, str):
                types[name] = known
        return types

    def _count_call(self, call: ast.Call, types: Mapping[str, str], statement: ast.stmt | None) -> None:
        name = self._called(call.func, types)
        if not name or "._" in name:
            return
        count, first, last, score = self.counted.get(name, (0, 0, 0, 0))
        is_own = name.startswith(f"{self._top}.")
        if statement is not None and (self._in_snippet or (count < EXAMPLES_TRIED and not is_own)):
            example = self._example(statement, call, name)
            if example[2] > score:
                first, last, score = example
        self.counted[name] = (count + 1, first, last, score)

    def _resolve(self, dotted: str) -> str:
        """The full name of `dotted` in this module; "" if it is unknown."""
        root, dot, rest = dotted.partition(".")
        if root in self._imports:
            return self._imports[root] + dot + rest
        if root in self._own:
            return f"{self._module}.{dotted}"
        if root in _BUILTINS:
            return dotted
        # An example in the documentation of a package often leaves out the import.
        return f"{self._top}.{dotted}" if root and self._in_snippet else ""

    def _called(self, func: ast.expr, types: Mapping[str, str]) -> str:
        if isinstance(func, ast.Attribute):
            known = self._type(func.value, types)
            if known:
                return f"{known}.{func.attr}"
        return self._resolve(dotted_name(func))

    def _type(self, node: ast.expr, types: Mapping[str, str]) -> str:
        """The class of a value, if the source alone shows it; otherwise ""."""
        match node:
            case ast.Name(id=name):
                return types.get(name, "")
            case ast.Call(func=func):
                name = self._called(func, types)
                is_class = name.rpartition(".")[2][:1].isupper() or isinstance(_BUILTINS.get(name), type)
                return _RETURN_TYPES.get(name, name if is_class else "")
            case ast.Constant(value=str() | bytes() as value):
                return type(value).__name__
            case ast.JoinedStr():
                return "str"
            case ast.List() | ast.ListComp():
                return "list"
            case ast.Dict() | ast.DictComp():
                return "dict"
        return ""

    def _example(self, statement: ast.stmt, call: ast.Call, name: str) -> tuple[int, int, int]:
        """The first and last line of the example that a statement makes, and its score; 0 for no example.
        Good ones are short, have a literal among the arguments, and show the block that the call begins."""
        first, last = statement.lineno, statement.lineno + _height(statement)
        if isinstance(statement, _HEADED):
            ends = [inner.end_lineno or 0 for inner in statement.body]
            last = max((end for end in ends if end - first < LONGEST_EXAMPLE_LINES), default=last)
        text = "\n".join(self._lines[first - 1 : last]).strip()
        arguments = [*call.args, *(each.value for each in call.keywords)]
        alone = statement.value if isinstance(statement, ast.Expr) and not self._in_snippet else None
        if call in (alone, getattr(alone, "value", None)) and all(map(dotted_name, arguments)):
            return 0, 0, 0  # a call whose arguments are all names says no more than a signature
        passes_all_on = any(isinstance(each, ast.Starred) for each in call.args) or any(
            each.arg is None for each in call.keywords
        )
        is_long = last - first >= LONGEST_EXAMPLE_LINES or len(text) > LONGEST_EXAMPLE
        if passes_all_on or is_long or "raise " in text or name.rpartition(".")[2] not in text:
            return 0, 0, 0
        score = 101 - len(text) // 4 + 20 * any(isinstance(each, ast.Constant) for each in arguments)
        heads = [item.context_expr for item in getattr(statement, "items", ())]
        is_head = call in (*heads, getattr(statement, "iter", None))
        return first, last, score + 30 * is_head + FOR_READERS * self._in_snippet


def _calls_in(nodes: Sequence[object]) -> Iterator[ast.Call]:
    """The calls in expressions. Annotations are left out."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if type(node) in _WITHOUT_CALLS or not isinstance(node, ast.AST):
            continue
        if isinstance(node, ast.Call):
            yield node
        for name in _EXPRESSIONS.get(type(node), ()):
            value = getattr(node, name, None)
            if isinstance(value, list):
                waiting.extend(value)
            else:
                waiting.append(value)


_OPENING = re.compile(r"(?P<fence>`{3,})\s*(?:\{?\.?(?:python3?|py|pycon)\b.*)?$|(?:.*::(?:\s*py\w+)?)$")


def _snippets(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The first line and the code of each example in a text: the sessions after prompts as one example, each
    fenced block, and each indented block after `::`."""
    session = [line.strip() if line.lstrip().startswith((">>>", "...")) else "" for line in lines]
    if any(session):
        yield 0, "\n".join(line[4:] for line in session)
    at = 0
    while at < len(lines):
        opening = _OPENING.match(lines[at].strip()[-100:])
        at += 1
        if opening is None:
            continue
        fence, start, indent = opening["fence"], at, _indent(lines[at - 1])
        while at < len(lines) and not (
            lines[at].strip().startswith(fence)
            if fence
            else lines[at].strip() and _indent(lines[at]) <= indent
        ):
            at += 1
        if not any(session[start:at]) and at - start <= LONGEST_SNIPPET_LINES:
            yield start, textwrap.dedent("\n".join(lines[start:at]))
        at += bool(fence)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _height(statement: ast.stmt) -> int:
    return (statement.end_lineno or statement.lineno) - statement.lineno


def imported(node: ast.Import | ast.ImportFrom, package: str = "") -> Iterator[tuple[str, str]]:
    """Each name that an import in this package binds, and the full name of what it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (top, top)
        return
    parents = package.split(".")
    base = parents[: len(parents) - node.level + 1] if node.level else []
    for alias in node.names:
        yield alias.asname or alias.name, ".".join((*base, *filter(None, [node.module]), alias.name))


def dotted_name(node: ast.expr | None) -> str:
    """`a.b.c` as text, also for `a.b.c[x]`; "" for anything else."""
    node = node.value if isinstance(node, ast.Subscript) else node
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join((node.id, *reversed(parts))) if isinstance(node, ast.Name) else ""
