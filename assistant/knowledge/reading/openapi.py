"""Reads OpenAPI and Swagger documents, JSON or YAML: a section for each operation and each schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from assistant.knowledge.plain_text import code
from assistant.knowledge.reading.page import Page, Unreadable

MOST_SECTIONS = 5_000
MOST_FIELDS = 60  # of a schema that are listed
DEEPEST = 4  # levels of fields within fields
MOST_VALUES = 200_000  # that YAML's merge keys may copy
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
_STATED = re.compile(
    rb"""(?:^|[{,])\s{0,20}["']?(?:openapi|swagger)["']?\s{0,4}:\s{0,4}["']?[1-4](?:\.\d|["'])""",
    re.MULTILINE,
)
# Nesting without indentation. YAML's parser recurses, and so cannot read it at any depth.
_DEEP = re.compile(r"(?:[-?:] ){60}|(?:[\[{][^\[\]{}]{0,200}){200}")


def states_openapi(data: bytes) -> bool:
    """Whether these parts of a JSON or YAML file state that it is an OpenAPI document."""
    return _STATED.search(data) is not None


def read_openapi(text: str) -> Page:
    """Raises `Unreadable`."""
    document = _parsed(text)
    if not isinstance(document, dict) or not isinstance(
        document.get("openapi", document.get("swagger")), (str, float)
    ):
        raise Unreadable("it is not an OpenAPI document")
    return _OpenApiReader(document, text).read()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise Unreadable("it is nested too deeply") from error
    except ValueError:
        pass
    if _DEEP.search(text):
        raise Unreadable("it is nested too deeply")
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        copied = 0

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            self.copied += len(node.value)
            if self.copied > MOST_VALUES:
                raise Unreadable("its merge keys copy too much")

    try:
        return yaml.load(text, Loader)
    except Unreadable:
        raise
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise Unreadable("it is not valid YAML") from error


class _OpenApiReader:
    def __init__(self, document: dict[Any, Any], text: str) -> None:
        self._document = document
        self._page = Page()
        self._number = 1
        self._numbers: dict[str, list[int]] = {}
        for number, line in enumerate(text.split("\n"), 1):
            key = line.strip().partition(": ")[0].strip("\"':{ ,")
            self._numbers.setdefault(key[:200], []).append(number)

    def read(self) -> Page:
        info = _mapping(self._document.get("info"))
        title = _line(info.get("title")) or "API"
        self._page.open_heading(title, 1)
        self._add(
            _words(info.get("summary")),
            _words(info.get("description")),
            f"Version {_line(info.get('version'))}",
        )
        servers = [_line(_mapping(each).get("url")) for each in _items(self._document.get("servers"))[:10]]
        servers += (
            [f"{self._document.get('host', '')}{self._document['basePath']}"]
            if "basePath" in self._document
            else []
        )
        self._add(*(f"- Server: {code(each)}" for each in servers if each), gap=False)
        count = 0
        for group in ("paths", "webhooks"):
            for path, item in _mapping(self._document.get(group)).items():
                start = self._line_of(str(path), 0)
                item = self._resolved(item)
                for method in _METHODS:
                    if isinstance(operation := item.get(method), dict) and count < MOST_SECTIONS:
                        count += 1
                        self._number = self._line_of(method, start)
                        self._operation(f"{method.upper()} {path}", operation, _items(item.get("parameters")))
        components = _mapping(self._document.get("components"))
        for name, schema in _mapping(components.get("schemas", self._document.get("definitions"))).items():
            count += 1
            if count < MOST_SECTIONS:
                self._number = self._line_of(str(name), 0)
                self._page.open_heading(str(name), 2)
                schema = self._resolved(schema)
                self._add(_words(schema.get("description")), f"Schema: {_type(schema)}")
                self._add(*self._fields(schema, 0), gap=False)
        return self._page.finished()

    def _line_of(self, key: str, after: int) -> int:
        numbers = self._numbers.get(key[:200], ())
        return next((number for number in numbers if number > after), max(after, 1))

    def _add(self, *texts: str, gap: bool = True) -> None:
        for text in filter(None, texts):
            for line in text.split("\n"):
                self._page.add([line], self._number)
            if gap:
                self._page.add([""], self._number)
        if not gap and texts:
            self._page.add([""], self._number)

    def _operation(self, name: str, operation: dict[Any, Any], shared: list[Any]) -> None:
        self._page.open_heading(name, 2)
        old = "**Deprecated.**" if operation.get("deprecated") is True else ""
        called = f"Operation: {code(_line(operation['operationId']))}" if operation.get("operationId") else ""
        self._add(old, _words(operation.get("summary")), _words(operation.get("description")), called)
        parameters = [
            self._resolved(each) for each in [*shared, *_items(operation.get("parameters"))][:MOST_FIELDS]
        ]
        if parameters:
            self._add("**Parameters**")
            self._add(*map(self._parameter, parameters), gap=False)
        if body := self._resolved(operation.get("requestBody")):
            self._add(f"**Request body**{_required(body)}", _words(body.get("description")))
            self._content(body)
        responses = {
            status: self._resolved(each) for status, each in _mapping(operation.get("responses")).items()
        }
        self._add("**Responses**" if responses else "")
        self._add(
            *(
                f"- {code(str(status))}: {_line(each.get('description'))}"
                for status, each in responses.items()
            ),
            gap=False,
        )
        for status in [each for each in responses if str(each).startswith("2")][:1]:
            self._content(responses[status])

    def _parameter(self, parameter: dict[Any, Any]) -> str:
        schema = self._resolved(parameter.get("schema")) or parameter
        facts = f"{_line(parameter.get('in'))}, {_type(schema)}{_required(parameter)}"
        return f"- {code(_line(parameter.get('name')))} ({facts}): {_line(parameter.get('description'))}"

    def _content(self, body: dict[Any, Any]) -> None:
        contents = list(_mapping(body.get("content")).items())[:4] or [("", body)] * ("schema" in body)
        for media, content in contents:
            written = _mapping(_mapping(content).get("schema"))
            schema = self._resolved(written)
            self._add(f"{code(str(media))} {_type(written)}".strip())
            self._add(*self._fields(schema, 0), gap=False)

    def _fields(self, schema: dict[Any, Any], depth: int) -> Iterator[str]:
        """The fields of a schema as items of a list, with the fields within them."""
        if depth >= DEEPEST:
            return
        parts = [schema, *map(self._resolved, _items(schema.get("allOf"))[:8])]
        if isinstance(schema.get("items"), dict):
            parts.append(self._resolved(schema["items"]))
        for part in parts:
            required = _items(part.get("required"))
            for name, field in list(_mapping(part.get("properties")).items())[:MOST_FIELDS]:
                field = _mapping(field)
                facts = _type(field) + (", required" if name in required else "")
                words = _line(field.get("description") or self._resolved(field).get("description"))
                yield f"{'  ' * depth}- {code(str(name))} ({facts}){': ' if words else ''}{words}"
                if "$ref" not in field:
                    yield from self._fields(field, depth + 1)

    def _resolved(self, value: Any) -> dict[Any, Any]:
        """What a `$ref` within the document leads to, through at most eight references."""
        for _ in range(8):
            value = _mapping(value)
            reference = value.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#/"):
                break
            value = self._document
            for part in reference[2:].split("/")[:20]:
                value = _mapping(value).get(part.replace("~1", "/").replace("~0", "~"))
        return _mapping(value)


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _words(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _line(value: Any) -> str:
    return " ".join(str(value).split())[:1000] if isinstance(value, (str, int, float)) else ""


def _required(value: dict[Any, Any]) -> str:
    return ", required" if value.get("required") is True else ""


def _type(schema: dict[Any, Any], depth: int = 0) -> str:
    """The type of a schema in words: "array of Pet", "string (date-time)", "one of `a`, `b`"."""
    if isinstance(reference := schema.get("$ref"), str):
        return reference.rpartition("/")[2][:100]
    choices = [*_items(schema.get("anyOf")), *_items(schema.get("oneOf"))][:8]
    if depth < 3 and choices:
        return " or ".join(dict.fromkeys(_type(_mapping(each), depth + 1) for each in choices))
    kind = " or ".join(map(_line, _items(schema.get("type")))) or _line(schema.get("type")) or "object"
    if isinstance(inner := schema.get("items"), dict) and kind == "array":
        return f"array of {_type(inner, depth + 1) if depth < 5 else 'array'}"
    if form := _line(schema.get("format")):
        kind = f"{kind} ({form})"
    if values := _items(schema.get("enum"))[:20]:
        kind = f"{kind}, one of {', '.join(code(_line(each)) for each in values if _line(each))}"
    default = schema.get("default")
    return f"{kind}, by default {code(_line(default))}" if _line(default) else kind
