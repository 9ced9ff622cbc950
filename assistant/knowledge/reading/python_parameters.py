"""Reads the parameters of functions and the fields of classes: their signature, and what is said of each."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Sequence

from assistant.knowledge.reading.python_calls import dotted_name

LONGEST_SIGNATURE = 4000  # characters; a longer one loses its annotations, then its defaults, then its end
LONGEST_LISTED = 300  # characters about one parameter or field in the list of a definition
LONGEST_LIST = 4000

Parameter = tuple[str, str, str]  # its name with stars, its annotation and its default, as source code
Described = tuple[str, str]  # the name of a parameter or field, and what is said of it

_FIELD_MAKERS = frozenset(("Field", "field", "ib", "attrib", "mapped_column"))


class ParameterReader:
    """Reads parameters in the lines of one source file."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    def parameters(self, arguments: ast.arguments, bound: bool) -> tuple[list[Parameter], list[Described]]:
        """The parameters of a function, without `self` if it is bound, and what they say of themselves."""
        positional = [*arguments.posonlyargs, *arguments.args]
        required = [None] * (len(positional) - len(arguments.defaults))
        pairs = list(zip(positional, [*required, *arguments.defaults], strict=True))[bound:]
        rows: list[tuple[str, ast.arg | None, ast.expr | None]] = [("", *pair) for pair in pairs]
        if len(arguments.posonlyargs) > bound:
            rows.insert(len(arguments.posonlyargs) - bound, ("/", None, None))
        if arguments.vararg or arguments.kwonlyargs:
            rows.append(("*", arguments.vararg, None))
        rows += [("", *pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
        if arguments.kwarg:
            rows.append(("**", arguments.kwarg, None))
        parameters: list[Parameter] = []
        described: list[Described] = []
        for stars, argument, value in rows:
            if argument is None:
                parameters.append((stars, "", ""))
                continue
            annotation, text = undescribed(argument.annotation)
            default, in_default, _ = self.default(value, shown=True)
            parameters.append((stars + argument.arg, self.source(annotation), default))
            if text := text or in_default:
                described.append((argument.arg, text))
        return parameters, described

    def default(self, value: ast.expr | None, *, shown: bool = False) -> tuple[str, str, bool]:
        """The default that a value stands for, its description, and whether `__init__` takes it: the value
        may be a call such as `Field(default=1, description="…")`, which stays as it is if it is `shown`."""
        if not isinstance(value, ast.Call):
            return self.source(value), "", True
        text = _description(value)
        if shown or dotted_name(value.func).rpartition(".")[2] not in _FIELD_MAKERS:
            if text and shown:
                kept = [each for each in value.keywords if each.arg != "description"]
                value = ast.Call(value.func, value.args, kept)
                return ast.unparse(value), text, True
            return self.source(value), text, True
        given = {each.arg: each.value for each in value.keywords}
        made = given.get("default_factory") or given.get("factory")
        if made is not None:
            default = self.source(getattr(made, "body", made)) + "()" * (not isinstance(made, ast.Lambda))
        else:
            default = self.source(given.get("default", value.args[0] if value.args else None))
        in_init = getattr(given.get("init"), "value", True) is not False
        return "" if default == "..." else default, text, in_init

    def source(self, node: ast.expr | None) -> str:
        """An expression as it stands in the source, in one line."""
        if node is None:
            return ""
        line = self._lines[node.lineno - 1]
        if node.lineno == node.end_lineno and line.isascii():
            return line[node.col_offset : node.end_col_offset]
        return ast.unparse(node)


def text_of(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return inspect.cleandoc(node.value).strip()
    return ""


def _description(call: ast.Call) -> str:
    """The text about a parameter or field in a call such as `Doc("…")` or `Query(description="…")`."""
    name = dotted_name(call.func).rpartition(".")[2]
    if name == "Doc":
        return text_of(call.args[0] if call.args else None)
    keywords = [each.value for each in call.keywords if each.arg in ("description", "doc")]
    return text_of(keywords[0]) if keywords and (name[:1].isupper() or name in _FIELD_MAKERS) else ""


def undescribed(annotation: ast.expr | None) -> tuple[ast.expr | None, str]:
    """`int` and "the text" for `Annotated[int, Doc("the text")]`; other annotations stay as they are."""
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        for each in annotation.slice.elts[1:]:
            if isinstance(each, ast.Call) and (text := _description(each)):
                return annotation.slice.elts[0], text
    return annotation, ""


def with_list(doc: str, described: Sequence[Described]) -> str:
    """A docstring, and below it a list of parameters or fields with what is said of each. The more there are,
    the less is shown of each."""
    items: list[str] = []
    for longest in (LONGEST_LISTED, 120, 60):
        items = [f"- `{name}`: {_beginning(text, longest)}" for name, text in described]
        if sum(map(len, items)) <= LONGEST_LIST:
            break
    return "\n\n".join(filter(None, (doc, "\n".join(items)[:LONGEST_LIST])))


def _beginning(text: str, longest: int) -> str:
    """The first paragraphs in one line, as many as fit, or the beginning of the first."""
    first, *others = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    for other in others:
        if len(first) + len(other) > longest or other.startswith(("```", ">>>")):
            break
        first = f"{first} {other}"
    return (
        first
        if len(first) <= max(longest, LONGEST_LISTED // 2)
        else f"{first[:longest].rpartition(' ')[0]} …"
    )


def signature_of(parameters: Sequence[Parameter], returns: str = "") -> str:
    """The signature as source code, in one line."""
    for without in range(3):
        shown = [
            (name, annotation * (without < 1), default * (without < 2))
            for name, annotation, default in parameters
        ]
        returned = f" -> {returns}" if returns and without < 1 else ""
        text = f"({', '.join(map(_parameter, shown))}){returned}"
        if len(text) <= LONGEST_SIGNATURE:
            return text
    return f"{text[: text.rfind(',', 0, LONGEST_SIGNATURE)]}, …)"


def _parameter(parameter: Parameter) -> str:
    name, annotation, default = parameter
    text = f"{name}: {annotation}" if annotation else name
    if not default:
        return text
    return f"{text} = {default}" if annotation else f"{text}={default}"
