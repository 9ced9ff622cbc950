"""Finds the public name of each definition in a package: `requests.get` is defined in `requests/api.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from assistant.knowledge.reading.python_code import Definition, Module

Target = tuple[str, str]  # a module, and a name that it defines; "" for the module itself


@dataclass(frozen=True, slots=True)
class PublicDefinition:
    """A definition with its shortest public name and its other names."""

    name: str
    definition: Definition
    module: Module
    aliases: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        return self.name + self.definition.signature if self.definition.signature else ""


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


class NameResolver:
    """Follows names through imports to their definitions, within the modules of a package."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self._modules = modules
        self._targets: dict[Target, Target | None] = {}
        self._exported: dict[str, set[str]] = {}

    def find(self, module: str, name: str) -> Target | None:
        """Where a top-level name of a module is defined."""
        key = (module, name)
        if key not in self._targets:
            self._targets[key] = None  # imports in a circle end here
            self._targets[key] = self._find(module, name)
        return self._targets[key]

    def _find(self, module: str, name: str) -> Target | None:
        here = self._modules[module]
        if name in here.definitions:
            return (module, name)
        if name in here.imports:
            found = self.find_dotted(here.imports[name])
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

    def find_dotted(self, dotted: str) -> Target | None:
        """Where a full dotted name is defined; does not look into classes."""
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
                    return self.find_dotted(".".join([found[0], *parts[length + 1 :]]))
                return None
        return None

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


def public_definitions(
    modules: Mapping[str, Module], *, hidden: Iterable[str] = ()
) -> Iterator[PublicDefinition]:
    """Every public definition in the modules, each once, under its shortest public name. `hidden` modules
    have no public names of their own, but other modules may import from them."""
    resolver = NameResolver(modules)
    closed = set(hidden)
    exporters: dict[Target, set[str]] = {}  # by definition, all its public names
    for name, module in modules.items():
        if name in closed or not is_public(name):
            continue
        for exported in resolver.exported(name):
            target = resolver.find(name, exported)
            if target is None and module.is_package:
                # The package imports the name lazily from one of its submodules.
                below = [other for other in modules if other.startswith(f"{name}.")]
                holders = [other for other in below if exported in modules[other].definitions]
                target = (holders[0], exported) if len(holders) == 1 else None
            if target is not None and target[1] and not exported.startswith("_"):
                exporters.setdefault(target, set()).add(f"{name}.{exported}")
    public_names = {
        target: sorted(found, key=lambda name: (name.count("."), len(name), name))
        for target, found in exporters.items()
    }
    members_of = {name: _members_by_class(module) for name, module in modules.items()}
    members: dict[Target, set[str]] = {}
    for (name, top), public in public_names.items():
        module = modules[name]
        for where, inner in _all_members(modules, members_of, resolver, name, top):
            rest = inner.partition(".")[2]
            members.setdefault((where, inner), set()).update(f"{owner}.{rest}" for owner in public)
        yield _with_aliases(public, module, top)
    for (name, inner), found in members.items():
        owners = public_names.get((name, inner.partition(".")[0]))
        ordered = sorted(found, key=lambda full: (full.count("."), full))
        if owners:
            best = f"{owners[0]}.{inner.partition('.')[2]}"
            if best.count(".") <= ordered[0].count("."):
                ordered.remove(best)
                ordered.insert(0, best)
        yield _with_aliases(ordered, modules[name], inner)


def _with_aliases(names: list[str], module: Module, inner: str) -> PublicDefinition:
    """The definition `inner` of a module under the first of its public names."""
    aliases = dict.fromkeys((*names, f"{module.name}.{inner}"))
    return PublicDefinition(names[0], module.definitions[inner], module, tuple(aliases)[1:9])


def _all_members(
    modules: Mapping[str, Module],
    members_of: Mapping[str, Mapping[str, list[str]]],
    resolver: NameResolver,
    module: str,
    top: str,
) -> Iterator[Target]:
    """The members of a class and those that it inherits within these modules. Of several with one name,
    the nearest wins."""
    have: set[str] = set()
    waiting, seen = [(module, top)], set()
    while waiting:
        where, name = waiting.pop(0)
        if (where, name) in seen:
            continue
        seen.add((where, name))
        definition = modules[where].definitions.get(name)
        if definition is None or definition.kind != "class":
            continue
        for inner in members_of[where].get(name, ()):
            rest = inner[len(name) + 1 :]
            if rest not in have:
                have.add(rest)
                yield (where, inner)
        for base in definition.bases:
            root, dot, rest = base.partition(".")
            found = resolver.find(where, root)
            if found is not None and dot:
                found = resolver.find_dotted(f"{found[0]}.{rest}") if not found[1] else None
            if found is not None and found[1]:
                waiting.append(found)


def _members_by_class(module: Module) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for name in module.definitions:
        top, dot, _ = name.partition(".")
        if dot:
            index.setdefault(top, []).append(name)
    return index
