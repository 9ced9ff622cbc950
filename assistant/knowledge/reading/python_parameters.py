"""Reads the parameters of functions and the fields of classes: their signature, and what is said of each."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence

from assistant.knowledge.reading.python_calls import dotted_name

LONGEST_SIGNATURE = 4000  # characters; a longer one loses its annotations, then its defaults, then its end
LONGEST_LISTED, SHORTEST_LISTED = 300, 60  # characters about one parameter or field in the list
LONGEST_LIST = 4000  # the more items there are, the less is shown of each

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
        pairs = zip(positional, [*required, *arguments.defaults], strict=True)
        rows: list[tuple[str, ast.arg | None, ast.expr | None]] = [("", *pair) for pair in pairs]
        if arguments.posonlyargs[bound:]:
            rows.insert(len(arguments.posonlyargs), ("/", None, None))
        if arguments.vararg or arguments.kwonlyargs:
            rows.append(("*", arguments.vararg, None))
        rows += [("", *pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
        if arguments.kwarg:
            rows.append(("**", arguments.kwarg, None))
        parameters: list[Parameter] = []
        described: list[Described] = []
        for stars, argument, value in rows[bound and bool(positional) :]:
            annotation, text = undescribed(argument.annotation if argument else None)
            name = argument.arg if argument else ""
            parameters.append((stars + name, self.source(annotation), self.source(value)))
            if text := text or description(value):
                described.append((name, text))
        return parameters, described

    def field(self, value: ast.expr | None) -> str | None:
        """The default of a field; None if `__init__` does not take it. The value may be a call such as
        `Field(default=1, description="…")`."""
        if not (isinstance(value, ast.Call) and _last_name(value) in _FIELD_MAKERS):
            return self.source(value)
        given = {each.arg: each.value for each in value.keywords}
        if getattr(given.get("init"), "value", True) is False:
            return None
        made = given.get("default_factory") or given.get("factory")
        if made is not None:
            return self.source(made.body) if isinstance(made, ast.Lambda) else f"{self.source(made)}()"
        default = self.source(given.get("default", value.args[0] if value.args else None))
        return default if default != "..." else ""

    def source(self, node: ast.expr | None) -> str:
        """An expression as it stands in the source, in one line."""
        if node is None:
            return ""
        line = self._lines[node.lineno - 1]
        if node.lineno == node.end_lineno and line.isascii():
            return line[node.col_offset : node.end_col_offset]
        return ast.unparse(node)


def text_of(node: ast.expr | None) -> str:
    value = node.value if isinstance(node, ast.Constant) else None
    return inspect.cleandoc(value).strip() if isinstance(value, str) else ""


def _last_name(call: ast.Call) -> str:
    return dotted_name(call.func).rpartition(".")[2]


def description(value: ast.expr | None) -> str:
    """The text about a parameter or field in a call such as `Doc("…")` or `Query(description="…")`."""
    if not isinstance(value, ast.Call):
        return ""
    name = _last_name(value)
    if name == "Doc":
        return text_of(value.args[0] if value.args else None)
    texts = [text_of(each.value) for each in value.keywords if each.arg in ("description", "doc")]
    return texts[0] if texts and (name[:1].isupper() or name in _FIELD_MAKERS) else ""


def undescribed(annotation: ast.expr | None) -> tuple[ast.expr | None, str]:
    """`int` and "the text" for `Annotated[int, Doc("the text")]`; other annotations stay as they are."""
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        text = next(filter(None, map(description, annotation.slice.elts[1:])), "")
        return (annotation.slice.elts[0], text) if text else (annotation, "")
    return annotation, ""


def with_list(doc: str, described: Sequence[Described]) -> str:
    """A docstring, and below it a list of parameters or fields with the first paragraph about each."""
    longest = min(LONGEST_LISTED, max(SHORTEST_LISTED, LONGEST_LIST // (len(described) + 1)))
    texts = (textwrap.shorten(text.partition("\n\n")[0], longest, placeholder=" …") for _, text in described)
    items = [f"- `{name}`: {text}" for (name, _), text in zip(described, texts, strict=True)]
    return "\n\n".join(filter(None, (doc, "\n".join(items)[:LONGEST_LIST])))


def signature_of(parameters: Sequence[Parameter], returns: str = "") -> str:
    """The signature as source code, in one line."""
    text = ""
    for annotated, with_defaults in ((True, True), (False, True), (False, False)):
        shown = []
        for name, annotation, default in parameters:
            is_annotated = annotated and annotation
            equals = (" = " if is_annotated else "=") + default if with_defaults and default else ""
            shown.append(f"{name}: {annotation}{equals}" if is_annotated else name + equals)
        text = f"({', '.join(shown)})" + (f" -> {returns}" if returns and annotated else "")
        if len(text) <= LONGEST_SIGNATURE:
            return text
    return f"{text[: text.rfind(',', 0, LONGEST_SIGNATURE)]}, …)"
