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

_BUILTINS = frozenset(name for name in dir(builtins) if not name.startswith("_"))
# The return types of common functions: enough to know what `connection.execute` in an example belongs to.
_RETURN_TYPES = {
    "open": "io.TextIOBase",
    "re.compile": "re.Pattern",
    "sqlite3.connect": "sqlite3.Connection",
    "logging.getLogger": "logging.Logger",
    "str.encode": "bytes",
    **dict.fromkeys(("re.match", "re.search", "re.fullmatch"), "re.Match"),
    **{f"datetime.datetime.{name}": "datetime.datetime" for name in ("now", "strptime", "fromtimestamp")},
    **dict.fromkeys(("pathlib.Path.cwd", "pathlib.Path.home"), "pathlib.Path"),
    **{f"str.{name}": "str" for name in ("format", "join", "strip", "lower", "replace")},
    **dict.fromkeys(("bytes.decode", "input", "repr", "os.path.join"), "str"),
    **dict.fromkeys(("str.split", "str.splitlines", "sorted"), "list"),
}
_CONVENTIONS = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "sa": "sqlalchemy"}
_LITERAL_TYPES: dict[type[ast.AST], str] = {
    ast.List: "list", ast.ListComp: "list", ast.Dict: "dict", ast.DictComp: "dict",
    ast.Set: "set", ast.SetComp: "set", ast.Tuple: "tuple", ast.JoinedStr: "str",
}  # fmt: skip
_SIMPLE = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Delete, ast.Assert)
_SHORT_COMPOUND = (ast.With, ast.For, ast.Try, ast.While)
_HEADED = (ast.With, ast.AsyncWith, ast.For, ast.AsyncFor)  # their first lines are examples too
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
        """Visits all statements in the order of the source, without recursion, since code may be nested
        deeply."""
        waiting: list[_Frame] = [(tree, {}, None)]
        while waiting:
            node, types, statement = waiting.pop()
            head = None
            if isinstance(node, ast.stmt):
                head = node if isinstance(node, _HEADED) and statement is None else None
                statement = _example_statement(node, statement)
                types = self._learn_types(node, types)
            children: list[_Frame] = []
            for name in node._fields:
                value: Any = getattr(node, name, None)
                values = value if isinstance(value, list) else [value]
                if values and isinstance(values[0], _BLOCKS):
                    children += [(child, types, statement) for child in values]
                elif name not in ("annotation", "returns"):
                    for call in _calls_in(values):
                        self._count_call(call, types, head or statement)
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
            for node in ast.iter_child_nodes(tree):
                if isinstance(node, ast.Import):
                    self._imports.update({a.asname: a.name for a in node.names if a.asname})
                    self._imports.update({r: r for r in (a.name.partition(".")[0] for a in node.names)})
                elif isinstance(node, ast.ImportFrom) and node.module:
                    self._imports.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
            ast.increment_lineno(tree, start + first)
            self.count(tree)
        self._in_snippet = False
        self._imports = imports

    def _learn_types(self, node: ast.stmt, types: dict[str, str]) -> dict[str, str]:
        """Add the types that a statement shows. A function gets its own copy."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            types = dict(types)
            for argument in (*node.args.args, *node.args.kwonlyargs):
                annotation = argument.annotation
                known = self._resolve(_annotated_class(annotation)) if annotation is not None else ""
                _set_type(types, argument.arg, known)
        elif isinstance(node, ast.Assign):
            known = self._type(node.value, types)
            for target in node.targets:
                if isinstance(target, ast.Name):
                    _set_type(types, target.id, known)
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                known = self._type(item.context_expr, types)
                if known and isinstance(item.optional_vars, ast.Name):
                    types[item.optional_vars.id] = known
        return types

    def _count_call(self, call: ast.Call, types: dict[str, str], statement: ast.stmt | None) -> None:
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
        if isinstance(node, ast.Name):
            return types.get(node.id, "")
        if isinstance(node, ast.Call):
            name = self._called(node.func, types)
            if name in _RETURN_TYPES:
                return _RETURN_TYPES[name]
            last = name.rpartition(".")[2]
            is_class = last[:1].isupper() or name in ("str", "dict", "list", "set", "bytes", "int", "float")
            return name if is_class else ""
        if isinstance(node, ast.Constant):
            kind = type(node.value).__name__
            return kind if kind in ("str", "bytes", "int", "float") else ""
        return _LITERAL_TYPES.get(type(node), "")

    def _example(self, statement: ast.stmt, call: ast.Call, name: str) -> tuple[int, int, int]:
        """The first and last line of the example that a statement makes, and its score; 0 for no example.
        Good ones are short and plain, and pass something to the call."""
        first, last = statement.lineno, statement.end_lineno or statement.lineno
        if isinstance(statement, _HEADED) and last - first >= LONGEST_EXAMPLE_LINES:
            ends = [inner.end_lineno or 0 for inner in statement.body]
            last = max((end for end in ends if end - first < LONGEST_EXAMPLE_LINES), default=last)
        text = "\n".join(self._lines[first - 1 : last]).strip()
        passes_all_on = any(isinstance(each, ast.Starred) for each in call.args) or any(
            each.arg is None for each in call.keywords
        )
        # A call whose arguments are all names says no more than a signature.
        if (
            (passes_all_on or not (self._in_snippet or _says_more(statement, call)))
            or (last - first >= LONGEST_EXAMPLE_LINES or len(text) > LONGEST_EXAMPLE)
            or ("raise " in text or name.rpartition(".")[2] not in text)
        ):
            return 0, 0, 0
        score = 100 - len(text) // 4 - 8 * (last - first)
        score -= 12 * text.count("self.") + 6 * len(re.findall(r"\b_\w", text))
        score -= 5 * max(0, text.count("(") - 1)
        score += 10 * min(len(call.args) + len(call.keywords), 2)
        score += 8 * any(isinstance(each, ast.Constant) for each in _arguments(call))
        if call in _head(statement):  # an example of a context manager or iterator shows the block or loop
            score += 30
        elif isinstance(statement, ast.Assign | ast.With):
            score += 8
        elif isinstance(statement, ast.Return):
            score -= 10
        return first, last, max(score, 1) + FOR_READERS * self._in_snippet


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


def _set_type(types: dict[str, str], name: str, known: str) -> None:
    if known:
        types[name] = known
    else:
        types.pop(name, None)


def _example_statement(node: ast.stmt, outer: ast.stmt | None) -> ast.stmt | None:
    """The statement that is the example of a call within `node`: the outermost simple one or short block."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return None
    is_short = (node.end_lineno or 0) - node.lineno < LONGEST_EXAMPLE_LINES
    if isinstance(node, _SIMPLE) or (isinstance(node, _SHORT_COMPOUND) and is_short and outer is None):
        return outer or node
    return None if outer is None or node.lineno > outer.lineno else outer


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords)]


def _head(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.With | ast.AsyncWith):
        return [item.context_expr for item in statement.items]
    return [statement.iter] if isinstance(statement, ast.For | ast.AsyncFor) else []


def _says_more(statement: ast.stmt, call: ast.Call) -> bool:
    """Whether a statement is more than this call with names as its arguments."""
    alone = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(alone, ast.Await):
        alone = alone.value
    return alone is not call or not all(map(dotted_name, _arguments(call)))


def dotted_name(node: ast.expr) -> str:
    """`a.b.c` as text; "" for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Subscript):
        return dotted_name(node.value) if not parts else ""
    if not isinstance(node, ast.Name):
        return ""
    parts.append(node.id)
    return ".".join(reversed(parts))


def _annotated_class(node: ast.expr) -> str:
    """The class that an annotation names: X for `X`, `Optional[X]` and `X | None`."""
    if isinstance(node, ast.BinOp):
        return _annotated_class(node.left)
    outer = dotted_name(node.value).rpartition(".")[2] if isinstance(node, ast.Subscript) else ""
    if isinstance(node, ast.Subscript) and outer in ("Optional", "Annotated"):
        inner = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
        return _annotated_class(inner)
    return dotted_name(node)
