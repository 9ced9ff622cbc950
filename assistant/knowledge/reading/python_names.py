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
        if own and not is_better and self._says_something(own):
            return own
        stars = (star for star in reversed(here.stars) if star in self._modules and star != module)
        through_stars = (self.find(star, name) for star in stars if name in self.exported(star))
        found = found or next(filter(None, through_stars), own)
        if found is not None or bound is not None:
            return found
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
            if (module := ".".join(parts[:length])) in self._modules:
                found = self.find(module, parts[length]) if parts[length:] else (module, "")
                if found is None or not (rest := parts[length + 1 :]):
                    return found
                return self.find_dotted(".".join((found[0], *rest))) if not found[1] else None
        return None

    def place_docs(self) -> None:
        """Give docstrings that stand in other modules to what has none."""
        for source, module in self._modules.items():
            for place, given in module.docs:
                top, dot, member = given.name.partition(".")
                found = self.find_dotted(f"{place}.{top}")
                if found and found[1] and self._says_something(found):
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
            names = self._exported[module] = set()
            waiting = [module]
            for name in waiting:
                names.update(self._own_exports(name))
                here = self._modules[name]
                if here.exports is None or here.computed:
                    waiting += (star for star in {*here.stars}.difference(waiting) if star in self._modules)
        return self._exported[module]

    def _own_exports(self, module: str) -> set[str]:
        here = self._modules[module]
        names = {*(here.exports or ()), *here.reexported}
        if here.exports is None or here.computed:
            names.update(name for name in here.definitions if "." not in name)
            for name, target in here.bindings.items():
                root = target.partition(".")[0]
                same = root == module.partition(".")[0]
                private = not is_public(target.rpartition(".")[0])
                is_shown = (here.is_package and same) or (private and (same or root.startswith("_")))
                if target and (is_shown or target.startswith(f"{module}.")):
                    names.add(name)
        return {name for name in names if not name.startswith("_")}

    def is_stated(self, module: str, name: str) -> bool:
        """Whether a module says that it exports a name, rather than only defining it."""
        here = self._modules[module]
        is_data = name in here.definitions and here.definitions[name].kind == "data"
        is_top = "." not in module and not is_data
        return is_top or bool(here.bindings.get(name)) or name in {*here.reexported, *(here.exports or ())}

    def ancestors(self, module: str, top: str) -> Iterator[tuple[str, Definition, tuple[str, ...]]]:
        """A class and the classes that it inherits from within these modules, the nearest first, each with
        its module and the names of its other bases."""
        waiting = [(module, top)]
        for where, name in waiting:
            definition = self._modules[where].definitions.get(name)
            if definition is None or definition.kind != "class":
                continue
            other = []
            for base in definition.bases:
                found = self.find_dotted(f"{where}.{base}")
                if found is None or not found[1]:
                    other.append(base.rpartition(".")[2])
                elif found not in waiting:
                    waiting.append(found)
            yield where, definition, tuple(other)

    def members(self, module: str, top: str) -> Iterator[Target]:
        """The members of a class and those that it inherits. Of several with one name, the nearest wins that
        has a docstring."""
        best: dict[str, Target] = {}
        for where, definition, _ in self.ancestors(module, top):
            for inner in self._members[where].get(definition.name, ()):
                rest = inner[len(definition.name) + 1 :]
                if rest not in best or (self._doc(where, inner) and not self._doc(*best[rest])):
                    best[rest] = (where, inner)
        yield from best.values()

    def _doc(self, module: str, name: str) -> str:
        return self._modules[module].definitions[name].doc

    def completed(self, module: str, definition: Definition) -> Definition:
        """A function with the docstring that it copies, a method of a variable as a function, or a class with
        the parameters that it inherits or that are made from its fields."""
        if definition.like and not definition.doc:
            owner, _, name = definition.like.rpartition(".")
            found = self.find_dotted(f"{module}.{owner or name}")
            if found and owner:
                found = next((each for each in self.members(*found) if each[1].endswith(f".{name}")), None)
            if found and found[1]:
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
            is_by_position = each.generates or "NamedTuple" in others
            takes_keywords = each.signature or _BY_KEYWORD.intersection(others)
            mark = mark or ("*" if takes_keywords else "fields" * is_by_position)
        if not (fields and mark):
            return definition
        first = [("*", "", "")] * (mark == "*")
        return replace(definition, signature=signature_of([*first, *fields.values()]))


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

        def rank(name: str, here: str = f"{where}.{top}") -> tuple[object, ...]:
            is_foreign = name.partition(".")[0] != here.partition(".")[0]
            is_renamed = name.rpartition(".")[2] != here.rpartition(".")[2]
            return is_foreign, name.count("."), name != here, is_renamed, len(name), name

        ordered = sorted(found, key=rank)
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
