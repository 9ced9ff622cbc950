"""Collects the `raise` statements of Python source: the exception, its message, and the condition for it.

A message is known as far as the source spells it: in a literal, or a constant or variable that holds one.
Each part that is only known at run time is shown as "…".
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping, Sequence

from assistant.knowledge.passage import Raised
from assistant.knowledge.reading.python_calls import dotted_name

LONGEST_MESSAGE = 400  # characters
LONGEST_CODE = 600
MOST_LINES = 6  # of code
DEEPEST = 20  # expressions in one another that are looked into
ELLIPSIS = "…"

_PLACEHOLDER = re.compile(r"%(?:\([^()]*\))?[-#0 +]*\d*(?:\.\d+)?[a-zA-Z]|\{[^{}]*\}")
_EXCEPTION = re.compile(r".*(?:Error|Exception|Warning|Interrupt)$")
_FIELDS = ("body", "handlers", "orelse", "finalbody", "cases")  # of a statement, with statements in them
_Values = Mapping[str, ast.expr]  # by name, what was last assigned to a variable


def raised_in(tree: ast.Module, lines: Sequence[str], module: str, path: str) -> list[Raised]:
    """The distinct `raise` statements of a module, in the order of the source. A call of `__init__` in an
    exception counts too, because it states the message. Raising again what was caught does not count."""
    found: dict[tuple[str, str, str], Raised] = {}
    # A node, its owner, the values of variables there, the lines of the condition, and the exception around.
    waiting: list[tuple[ast.AST, str, dict[str, ast.expr], Sequence[int], str]] = [(tree, module, {}, (), "")]
    while waiting:
        node, owner, values, condition, around = waiting.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            owner, values, condition = f"{owner}.{node.name}", dict(values), ()
            if isinstance(node, ast.ClassDef):
                is_exception = any(map(_EXCEPTION.match, (node.name, *map(dotted_name, node.bases))))
                around = node.name * is_exception
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                values[dotted_name(target)] = node.value
            continue
        elif isinstance(node, ast.Raise | ast.Expr):
            exception, message = _raised(node, values, around)
            if exception:
                code = _code(lines, condition, node)
                raised = Raised(exception, message, owner, f"{path}:{node.lineno}", code)
                found.setdefault((exception, message, owner), raised)
            continue
        children = [
            (child, owner, values, _condition(node, name, lines) or condition, around)
            for name in _FIELDS
            for child in getattr(node, name, ())
            if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
        ]
        waiting.extend(reversed(children))
    return list(found.values())


def _raised(node: ast.Raise | ast.Expr, values: _Values, around: str) -> tuple[str, str]:
    """The exception and the message of a statement; ("", "") if it raises nothing of its own."""
    if isinstance(node, ast.Expr):
        call = node.value if isinstance(node.value, ast.Call) and around else None
        is_init = call is not None and getattr(call.func, "attr", "") == "__init__"
        message = _message_of_call(call, values) if call and is_init else ""
        return (around, message) if message else ("", "")
    raised = node.exc
    if isinstance(raised, ast.Name):
        raised = values.get(raised.id, raised)
    if isinstance(raised, ast.Call):
        exception, message = dotted_name(raised.func), _message_of_call(raised, values)
    else:
        exception, message = dotted_name(raised), ""
        if not exception.rpartition(".")[2][:1].isupper():
            return "", ""
    if exception.endswith(("NotImplementedError", ".with_traceback")) and not message:
        return "", ""
    return exception, message


def _message_of_call(call: ast.Call, values: _Values) -> str:
    """The first argument with words of its own."""
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        text = " ".join(_message(argument, values).split())
        text = re.sub(rf"{ELLIPSIS}(?:\s*{ELLIPSIS})+", ELLIPSIS, text)
        if re.search(r"[^\W\d_]{2}", text):
            return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + ELLIPSIS
    return ""


def _message(node: ast.expr | None, values: _Values, depth: int = 0) -> str:
    """The text that an expression gives, with "…" for what is not spelled in the source."""

    def inner(part: ast.expr) -> str:
        return _message(part, values, depth + 1)

    match node if depth <= DEEPEST else None:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(inner(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return inner(left) + inner(right)
        case ast.BinOp(left=left, op=ast.Mod()):
            return _PLACEHOLDER.sub(ELLIPSIS, inner(left))
        case ast.Call(func=ast.Attribute(value=template, attr="format")):
            return _PLACEHOLDER.sub(ELLIPSIS, inner(template))
        case ast.Call(args=[argument, *_]):  # such as `_("…")` and `textwrap.dedent("…")`
            return inner(argument)
        case ast.IfExp(body=first, orelse=second):
            return text if (text := inner(first)) != ELLIPSIS else inner(second)
        case ast.Name() | ast.Attribute():
            # A variable may be part of its own value: "text = text + text" must come to an end soon.
            return _message(values.get(dotted_name(node)), values, depth + 8)
    return ELLIPSIS


def _condition(node: ast.AST, name: str, lines: Sequence[str]) -> Sequence[int]:
    """The numbers of the lines that say when the statements in a field of a node run; none if it is no block
    with a condition. For `else` these are also the lines of `if`."""
    if not isinstance(node, ast.If | ast.ExceptHandler | ast.match_case):
        return ()
    first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
    header = list(range(first, max(first + 1, node.body[0].lineno)))[:MOST_LINES]
    otherwise = node.orelse[0].lineno if isinstance(node, ast.If) and name == "orelse" else 0
    if not otherwise or lines[otherwise - 1].lstrip().startswith("elif"):
        return header
    above = range(otherwise, first, -1)
    return [*header, *[number for number in above if lines[number - 1].lstrip().startswith("else")][:1]]


def _code(lines: Sequence[str], condition: Sequence[int], node: ast.stmt) -> str:
    """The lines of a statement, with all from the condition on if it is near, else with the condition."""
    first, last = node.lineno, node.end_lineno or node.lineno
    last = min(last, first + MOST_LINES - 2)
    if condition and last - condition[0] < MOST_LINES:
        condition = range(condition[0], first)
    chosen: list[str] = []
    before = 0
    for number in (*condition, *range(first, last + 1)):
        line = lines[number - 1]
        if line.lstrip().startswith("else") and number - before > 1:
            chosen.append(f"{line[: len(line) - len(line.lstrip())]}    {ELLIPSIS}")
        before = number
        chosen += [line] if line.strip() else []
    return textwrap.dedent("\n".join(chosen))[:LONGEST_CODE]
