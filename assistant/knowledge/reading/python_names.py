"""Finds the public name of each definition in a package: `requests.get` is defined in `requests/api.py`.

A name stands for what an import gives at run time: the last binding of the name in the module counts, and a
function hides the module of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from assistant.knowledge.reading.python_code import Definition, Module
from assistant.knowledge.reading.python_parameters import Parameter, signature_of

Target = tuple[str, str]  # a module, and a name that it defines; "" for the module itself
DEEPEST = 100  # imports of imports that are followed
MOST_ALIASES, MOST_ALIASES_OF_MEMBER = 40, 5  # a name of its class leads to a member too

# The classes of other packages whose subclasses take their annotated attributes as parameters.
_BY_KEYWORD = frozenset(("BaseModel", "BaseSettings", "TypedDict", "Struct", "SQLModel"))
_TAKES_ANYTHING = re.compile(r"\((?:/, )?\*\*\w+(?:: \w+)?\)")


@dataclass(frozen=True, slots=True)
class PublicDefinition:
    """A definition with its shortest public name and its other names."""

    name: str
    definition: Definition
    module: Module
    aliases: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        """The signatures of a function with several stand in lines."""
        signature = self.definition.signature
        return "\n".join(self.name + line for line in signature.split("\n")) if signature else ""


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


class NameResolver:
    """Follows names through imports to their definitions, within the modules of a package."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self._modules = modules
        self._targets: dict[Target, Target | None] = {}
        self._exported: dict[str, set[str]] = {}
        self._depth = 0
        self._members: dict[str, dict[str, list[str]]] = {}  # by module and class
        self._holders: dict[str, list[str]] = {}  # the modules that define a top-level name
        for name, module in modules.items():
            members = self._members[name] = {}
            for inner in module.definitions:
                top, dot, _ = inner.partition(".")
                if dot:
                    members.setdefault(top, []).append(inner)
                else:
                    self._holders.setdefault(top, []).append(name)

    def find(self, module: str, name: str) -> Target | None:
        """Where a top-level name of a module is defined."""
        key = (module, name)
        if key not in self._targets:
            self._targets[key] = None  # imports in a circle end here
            self._depth += 1
            self._targets[key] = self._find(module, name) if self._depth < DEEPEST else None
            self._depth -= 1
        return self._targets[key]

    def _find(self, module: str, name: str) -> Target | None:
        here = self._modules[module]
        bound = here.bindings.get(name)
        found = self.find_dotted(bound) if bound else None
        is_better = found is not None and self._modules[found[0]].path  # what is written in C says less
        own = (module, name) if name in here.definitions else None
        if own is not None and not is_better and self._says_something(own):
            return own
        if found is not None:
            return found
        for star in reversed(here.stars):
            if star in self._modules and star != module and name in self.exported(star):
                found = self.find(star, name)
                if found is not None:
                    return found
        if own is not None:
            return own
        if bound is not None:
            return None
        if f"{module}.{name}" in self._modules:
            return (f"{module}.{name}", "")
        # The package may import the name lazily from the one of its submodules that defines it.
        below = [each for each in self._holders.get(name, ()) if each.startswith(f"{module}.")]
        return (below[0], name) if here.is_package and len(below) == 1 else None

    def _says_something(self, target: Target) -> bool:
        definition = self._modules[target[0]].definitions[target[1]]
        return bool(definition.doc) or definition.kind != "data"

    def find_dotted(self, dotted: str) -> Target | None:
        """Where a full dotted name is defined; does not look into classes."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            module = ".".join(parts[:length])
            if module in self._modules:
                # `from .x import x` takes the function x of the package rather than its module x.
                if length == len(parts):
                    return (module, "")
                found = self.find(module, parts[length])
                if found is None or length == len(parts) - 1:
                    return found
                return self.find_dotted(".".join([found[0], *parts[length + 1 :]])) if not found[1] else None
        return None

    def place_docs(self) -> None:
        """Give docstrings that stand in other modules to what has none."""
        for source, module in self._modules.items():
            for place, given in module.docs:
                top, dot, member = given.name.partition(".")
                found = self.find_dotted(f"{place}.{top}")
                if found is not None and found[1] and self._says_something(found):
                    definitions, inner = self._modules[found[0]].definitions, found[1] + dot + member
                    if inner in definitions and not definitions[inner].doc:
                        definitions[inner] = replace(definitions[inner], doc=given.doc)
                elif place in self._modules and not dot:
                    module.definitions[top] = given
                    self._modules[place].bindings[top] = f"{source}.{top}"
        self._targets.clear()

    def exported(self, module: str) -> set[str]:
        """The public top-level names of a module, with those that it gets by `import *`."""
        if module not in self._exported:
            names: set[str] = set()
            waiting, seen = [module], {module}
            while waiting:
                name = waiting.pop()
                names.update(self._own_exports(name))
                here = self._modules[name]
                if here.exports is None or here.computed:
                    stars = [star for star in here.stars if star in self._modules and star not in seen]
                    seen.update(stars)
                    waiting.extend(stars)
            self._exported[module] = names
        return self._exported[module]

    def _own_exports(self, module: str) -> set[str]:
        here = self._modules[module]
        names = {*(here.exports or ()), *here.reexported}
        if here.exports is None or here.computed:
            names.update(name for name in here.definitions if "." not in name)
            for name, target in here.bindings.items():
                root = target.partition(".")[0]
                same = root == module.partition(".")[0]
                private = any(part.startswith("_") for part in target.split(".")[:-1])
                is_shown = (here.is_package and same) or (private and (same or root.startswith("_")))
                if target and (is_shown or target.startswith(f"{module}.")):
                    names.add(name)
        return {name for name in names if not name.startswith("_")}

    def is_stated(self, module: str, name: str) -> bool:
        """Whether a module says that it exports a name, rather than only defining it."""
        here = self._modules[module]
        is_top = "." not in module and not (
            name in here.definitions and here.definitions[name].kind == "data"
        )
        return is_top or bool(here.bindings.get(name)) or name in {*here.reexported, *(here.exports or ())}

    def ancestors(self, module: str, top: str) -> Iterator[tuple[str, Definition, tuple[str, ...]]]:
        """A class and the classes that it inherits from within these modules, the nearest first, each with
        its module and the names of its other bases."""
        waiting, seen = [(module, top)], set()
        for where, name in waiting:
            definition = self._modules[where].definitions.get(name)
            if (where, name) in seen or definition is None or definition.kind != "class":
                continue
            seen.add((where, name))
            other = []
            for base in definition.bases:
                root, dot, rest = base.partition(".")
                found = self.find(where, root)
                if found is not None and dot:
                    found = self.find_dotted(f"{found[0]}.{rest}") if not found[1] else None
                if found is not None and found[1]:
                    waiting.append(found)
                else:
                    other.append(base.rpartition(".")[2])
            yield where, definition, tuple(other)

    def members(self, module: str, top: str) -> Iterator[Target]:
        """The members of a class and those that it inherits. Of several with one name, the nearest wins that
        has a docstring."""
        best: dict[str, Target] = {}
        for where, definition, _ in self.ancestors(module, top):
            for inner in self._members[where].get(definition.name, ()):
                rest = inner[len(definition.name) + 1 :]
                known = best.get(rest)
                if known is None or (
                    not self._modules[known[0]].definitions[known[1]].doc
                    and self._modules[where].definitions[inner].doc
                ):
                    best[rest] = (where, inner)
        yield from best.values()

    def completed(self, module: str, definition: Definition) -> Definition:
        """A function with the docstring that it copies, a method of a variable as a function, or a class with
        the parameters that it inherits or that are made from its fields."""
        if definition.like and not definition.doc:
            owner, _, name = definition.like.rpartition(".")
            found = self.find(module, (owner or name).partition(".")[0])
            if found is not None and found[1] and owner:
                named = {inner.rpartition(".")[2]: (where, inner) for where, inner in self.members(*found)}
                found = named.get(name)
            if found is not None and found[1]:
                there = self._modules[found[0]].definitions[found[1]]
                kind = "function" if there.kind == "method" and definition.kind == "data" else definition.kind
                signature = definition.signature or there.signature
                return replace(definition, kind=kind, doc=there.doc, signature=signature)
        if definition.kind != "class" or definition.signature:
            return definition
        fields: dict[str, Parameter] = {}
        mark = ""
        for _, each, others in self.ancestors(module, definition.name):
            fields = {parameter[0]: parameter for parameter in each.fields} | fields
            if each.signature and not (fields and _TAKES_ANYTHING.fullmatch(each.signature)):
                return definition if fields and mark else replace(definition, signature=each.signature)
            takes_keywords = each.signature or _BY_KEYWORD.intersection(others)
            mark = mark or (
                "*" if takes_keywords else "fields" if each.generates or "NamedTuple" in others else ""
            )
        if not (fields and mark):
            return definition
        parameters = [("*", "", "")] if mark == "*" else []
        return replace(definition, signature=signature_of([*parameters, *fields.values()]))


def public_definitions(
    modules: Mapping[str, Module], *, hidden: Iterable[str] = (), with_undocumented: bool = False
) -> Iterator[PublicDefinition]:
    """Every public definition in the modules, each once, under its shortest public name. `hidden` modules
    have no public names of their own, but other modules may import from them. Functions without a docstring
    are left out, unless a module states that it exports them, or `with_undocumented`."""
    resolver = NameResolver(modules)
    resolver.place_docs()
    closed = set(hidden)
    exporters: dict[Target, set[str]] = {}  # by definition, all its public names
    stated: set[Target] = set()
    for name in modules:
        if name in closed or not is_public(name):
            continue
        for exported in sorted(resolver.exported(name)):
            target = resolver.find(name, exported)
            if target is not None and target[1] and not exported.startswith("_"):
                exporters.setdefault(target, set()).add(f"{name}.{exported}")
                if with_undocumented or resolver.is_stated(name, exported):
                    stated.add(target)
    members: dict[Target, set[str]] = {}
    best_names: dict[Target, str] = {}
    for target, found in exporters.items():
        where, top = target
        root = where.partition(".")[0]
        ordered = sorted(
            found,
            key=lambda name: (
                *(not name.startswith(f"{root}."), name.count("."), name != f"{where}.{top}"),
                *(name.rpartition(".")[2] != top, len(name), name),
            ),
        )
        best_names[target] = ordered[0]
        definition = modules[where].definitions[top]
        for each in resolver.members(where, top):
            rest = each[1].partition(".")[2]
            members.setdefault(each, set()).update(f"{owner}.{rest}" for owner in ordered)
        definition = resolver.completed(where, definition)
        if definition.doc or definition.kind == "class" or target in stated:
            yield _public(ordered, modules[where], definition)
    for (where, inner), found in members.items():
        definition = modules[where].definitions[inner]
        best = f"{best_names.get((where, inner.partition('.')[0]))}.{inner.partition('.')[2]}"
        ordered = sorted(found, key=lambda full: (full.count("."), full != best, full))
        yield _public(ordered, modules[where], resolver.completed(where, definition))


def _public(names: list[str], module: Module, definition: Definition) -> PublicDefinition:
    """The definition under the first of its public names. The fields that only its own passage describes
    lead to it."""
    aliases = list(dict.fromkeys((names[0], f"{module.name}.{definition.name}", *names)))
    aliases = aliases[1 : 1 + (MOST_ALIASES_OF_MEMBER if "." in definition.name else MOST_ALIASES)]
    members = module.definitions
    aliases += [
        f"{names[0]}.{each}" for each in definition.listed if f"{definition.name}.{each}" not in members
    ]
    return PublicDefinition(names[0], definition, module, tuple(aliases))
