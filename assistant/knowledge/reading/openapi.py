"""Reads OpenAPI and Swagger documents, JSON or YAML: a section for each operation and each schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from assistant.knowledge.plain_text import code
from assistant.knowledge.reading.page import Page, Unreadable

MOST_SECTIONS = 5_000
MOST_FIELDS = 100  # of a schema or an operation that are listed
LONGEST_OPERATION = 4_000  # characters that stay in one passage
DEEPEST = 4  # fields within fields, and types within types
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
_STATED = re.compile(
    rb"""(?:^|[{,])\s{0,20}["']?(?:openapi|swagger)["']?\s{0,4}:\s{0,4}["']?[1-4](?:\.\d|["'])""",
    re.MULTILINE,
)
# Nesting without indentation, to which YAML's parser, which recurses, knows no limit.
_DEEP = re.compile(r"(?:[-?:] ){60}|(?:[\[{][^\[\]{}]{0,200}){200}")


def states_openapi(data: bytes) -> bool:
    """Whether these parts of a JSON or YAML file state that it is an OpenAPI document."""
    return _STATED.search(data) is not None


def read_openapi(text: str) -> Page:
    """Raises `Unreadable`."""
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise Unreadable("it is nested too deeply") from error
    except ValueError:
        document = _parsed_yaml(text)
    if not isinstance(document, dict) or not (document.get("openapi") or document.get("swagger")):
        raise Unreadable("it is not an OpenAPI document")
    return _OpenApiReader(document, text).read()


def _parsed_yaml(text: str) -> Any:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def flatten_mapping(self, node: Any) -> None:
            """Leave out merge keys, which OpenAPI does not have and which can grow without end."""
            node.value = [pair for pair in node.value if not pair[0].tag.endswith(":merge")]

    if _DEEP.search(text):
        raise Unreadable("it is nested too deeply")
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise Unreadable("it is not valid YAML") from error


class _OpenApiReader:
    def __init__(self, document: dict[Any, Any], text: str) -> None:
        self._document = document
        self._page = Page()
        self._number = 1
        self._numbers: dict[str, list[int]] = {}  # of the lines that begin with a key
        for number, line in enumerate(text.split("\n"), 1):
            self._numbers.setdefault(line.partition(": ")[0].strip("\"':{ ,")[:200], []).append(number)

    def read(self) -> Page:
        info = _mapping(self._document.get("info"))
        self._page.open_heading(_line(info.get("title")) or "API", 1)
        self._add(_text(info, "description"), f"Version {_line(info.get('version'))}")
        servers = [_line(_mapping(each).get("url")) for each in _items(self._document.get("servers"))]
        self._add(*(f"Server: {code(each)}" for each in servers[:MOST_FIELDS] if each))
        operations = (
            (f"{method.upper()} {path}", item, item[method], self._line_of(method, self._line_of(path)))
            for path, item in self._named(self._document.get("paths"))
            for method in _METHODS
            if isinstance(item.get(method), dict)
        )
        for name, item, operation, self._number in islice(operations, MOST_SECTIONS):
            self._page.open_heading(name, 2)
            start = len(self._page.lines)
            self._operation(operation, _items(item.get("parameters")))
            if sum(map(len, self._page.lines[start:])) < LONGEST_OPERATION:
                self._page.keep_together(start, len(self._page.lines))
        schemas = _mapping(self._document.get("components")).get("schemas", self._document.get("definitions"))
        for name, schema in islice(self._named(schemas), MOST_SECTIONS):
            self._number = self._line_of(name)
            self._page.open_heading(name, 2)
            self._add(_text(schema, "description"), f"Schema: {_type(schema)}", self._fields(schema))
        return self._page.finished()

    def _named(self, value: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
        return ((str(name), self._resolved(each)) for name, each in _mapping(value).items())

    def _line_of(self, key: str, after: int = 0) -> int:
        return next((each for each in self._numbers.get(key[:200], ()) if each > after), max(after, 1))

    def _add(self, *paragraphs: str) -> None:
        for text in filter(None, paragraphs):
            for line in [*text.split("\n"), ""]:
                self._page.add([line], self._number)

    def _operation(self, operation: dict[Any, Any], shared: list[Any]) -> None:
        called = operation.get("operationId")
        self._add(
            "**Deprecated.**" if operation.get("deprecated") is True else "",
            _text(operation, "summary"),
            _text(operation, "description"),
            f"Operation: {code(_line(called))}" if called else "",
        )
        if parameters := [*shared, *_items(operation.get("parameters"))][:MOST_FIELDS]:
            shown = [self._parameter(self._resolved(each)) for each in parameters]
            self._add("**Parameters**", "\n".join(shown))
        if body := self._resolved(operation.get("requestBody")):
            self._add(f"**Request body**{_required(body)}", _text(body, "description"), *self._content(body))
        if responses := dict(islice(self._named(operation.get("responses")), MOST_FIELDS)):
            shown = [f"- {code(each)}: {_line(responses[each].get('description'))}" for each in responses]
            good = next((responses[each] for each in responses if each[0] == "2"), {})
            self._add("**Responses**", "\n".join(shown), *self._content(good))

    def _parameter(self, parameter: dict[Any, Any]) -> str:
        schema = self._resolved(parameter.get("schema")) or parameter
        facts = f"{_line(parameter.get('in'))}, {_type(schema)}{_required(parameter)}"
        return f"- {code(_line(parameter.get('name')))} ({facts}): {_line(parameter.get('description'))}"

    def _content(self, body: dict[Any, Any]) -> Iterator[str]:
        """The type and the fields of a body; Swagger has its schema beside the description."""
        for media, content in list(_mapping(body.get("content", {"": body})).items())[:4]:
            if schema := _mapping(_mapping(content).get("schema")):
                yield f"{code(str(media))} {_type(schema)}".strip()
                yield self._fields(self._resolved(schema))

    def _fields(self, schema: dict[Any, Any]) -> str:
        return "\n".join(islice(self._items_of(schema, 0), MOST_FIELDS))

    def _items_of(self, schema: dict[Any, Any], depth: int) -> Iterator[str]:
        """The fields of a schema as items of a list, with the fields within them."""
        parts = map(self._resolved, [schema.get("items"), *_items(schema.get("allOf"))[:MOST_FIELDS]])
        for part in (schema, *parts) if depth < DEEPEST else ():
            for name, field in _mapping(part.get("properties")).items():
                field = _mapping(field)
                facts = _type(field) + (", required" if name in _items(part.get("required")) else "")
                words = _line(field.get("description") or self._resolved(field).get("description"))
                yield f"{'  ' * depth}- {code(str(name))} ({facts}){': ' if words else ''}{words}"
                yield from self._items_of(field, depth + 1)

    def _resolved(self, value: Any) -> dict[Any, Any]:
        """What a `$ref` within the document leads to, through at most eight references."""
        for _ in range(8):
            reference = _mapping(value).get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#/"):
                break
            value = self._document
            for part in reference[2:].split("/", 20):
                value = _mapping(value).get(part.replace("~1", "/").replace("~0", "~"))
        return _mapping(value)


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: dict[Any, Any], key: str) -> str:
    return str(value.get(key) or "").strip()[:20_000]


def _line(value: Any) -> str:
    return " ".join(str(value).split())[:1000] if isinstance(value, (str, int, float)) else ""


def _required(value: dict[Any, Any]) -> str:
    return ", required" if value.get("required") is True else ""


def _type(schema: dict[Any, Any], depth: int = 0) -> str:
    """The type of a schema in words: "array of Pet", "string (date-time), one of `a`, `b`"."""
    if isinstance(reference := schema.get("$ref"), str):
        return reference.rpartition("/")[2][:100]
    inner = [_mapping(each) for key in ("anyOf", "oneOf") for each in _items(schema.get(key))[:8]]
    if depth < DEEPEST and inner:
        return " or ".join(dict.fromkeys(_type(each, depth + 1) for each in inner))
    kind = " or ".join(map(_line, _items(schema.get("type")))) or _line(schema.get("type")) or "object"
    if depth < DEEPEST and kind == "array":
        return f"array of {_type(_mapping(schema.get('items')), depth + 1)}"
    form, default = _line(schema.get("format")), _line(schema.get("default"))
    values = ", ".join(code(_line(each)) for each in _items(schema.get("enum"))[:20] if _line(each))
    kind += f" ({form})" if form else ""
    return (
        f"{kind}{', one of ' if values else ''}{values}{f', by default {code(default)}' if default else ''}"
    )
