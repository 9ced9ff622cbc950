"""Who imports whom, read from the source; and how long modules and classes may be."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = ("app", "assistant", "prompts", "serving", "storage")

# The modules of the assistant, but not its web face.
ASSISTANT = tuple(
    f"assistant.{file.stem}"
    for file in (ROOT / "assistant").iterdir()
    if file.stem not in ("web", "__init__")
)
# What a part may import of ours. The first entry that is the module's name or a parent of it counts.
MAY_IMPORT = {
    "app": OURS,
    **dict.fromkeys(
        ("assistant.accounts", "assistant.conversation", "assistant.provenance", "assistant.engine"), ()
    ),
    "assistant.events": ("assistant.conversation",),
    "assistant.knowledge": ("assistant.knowledge", "assistant.conversation"),
    "assistant.privacy": ("assistant.privacy",),  # it knows texts, and nothing of chats
    "assistant.web": ("assistant", "storage"),
    **dict.fromkeys(("assistant.__main__", "assistant.site_command"), ("assistant", "storage")),
    "assistant": (*ASSISTANT, "prompts", "storage"),  # it reaches serving only over HTTP
    "prompts": ("prompts", "assistant.conversation"),
    "storage": (
        "storage",
        "assistant.accounts",
        "assistant.conversation",
        "assistant.provenance",
        "assistant.events",
    ),
    "serving": ("serving",),  # so that it can move to another machine
}


def modules() -> dict[str, Path]:
    """Every module of ours, by its dotted name."""
    files = [ROOT / "app.py", *(file for part in OURS for file in (ROOT / part).rglob("*.py"))]
    named = {}
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return named


MODULES = modules()


@functools.cache
def source_of(name: str) -> str:
    return MODULES[name].read_text(encoding="utf-8")


parsed = functools.cache(ast.parse)


def imports(source: str, package: str = "", *, at_import: bool = False, types: bool = False) -> Iterator[str]:
    """The dotted names that a module imports. `at_import` leaves out imports inside functions; `types` adds
    imports that only type checkers run.

    `from a import b` names `a.b` where that is a module of ours, else `a`.
    """
    waiting: list[ast.AST] = [parsed(source)]
    while waiting:
        node = waiting.pop()
        if at_import and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            continue
        if not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base
        waiting.extend(ast.iter_child_nodes(node))


def imports_of(name: str, *, at_import: bool = False, types: bool = False) -> list[str]:
    file = MODULES[name]
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return sorted(set(imports(source_of(name), package, at_import=at_import, types=types)))


def is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def test_the_reader_of_imports_sees_every_kind() -> None:
    source = (
        "import a.b\nfrom assistant import conversation\nfrom assistant.conversation import Role\n"
        "from . import x\nfrom ..c import y\n"
        "def f():\n    import late\n"
        "class A:\n    import early\n"
        "if TYPE_CHECKING:\n    import never\n"
    )
    found = sorted(imports(source, "p.q"))
    assert found == ["a.b", "assistant.conversation", "assistant.conversation", "early", "late", "p.c", "p.q"]
    assert "late" not in set(imports(source, "p.q", at_import=True))


def test_a_module_imports_only_what_its_part_may() -> None:
    forbidden = []
    for name in MODULES:
        allowed = next(may for part, may in MAY_IMPORT.items() if is_within(name, part))
        ours = [other for other in imports_of(name) if other.partition(".")[0] in OURS]
        forbidden += [
            f"{name} imports {other}" for other in ours if not any(is_within(other, part) for part in allowed)
        ]
    assert forbidden == []


def test_conversation_needs_only_the_standard_library() -> None:
    roots = {name.partition(".")[0] for name in imports_of("assistant.conversation")}
    assert roots <= sys.stdlib_module_names


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {
        name: {other for other in imports_of(name, types=True) if other in MODULES} - {name}
        for name in MODULES
    }
    while free := [name for name, others in waiting.items() if not others & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert waiting == {}


def test_only_the_pages_import_gradio() -> None:
    importing = [name for name in MODULES if any(is_within(other, "gradio") for other in imports_of(name))]
    assert [name for name in importing if not is_within(name, "assistant.web.pages")] == []


def test_starting_the_application_imports_no_gradio() -> None:
    reached, waiting = set(), ["app"]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if name in MODULES:
            waiting.extend(imports_of(name, at_import=True))
            waiting.extend(name.rsplit(".", count)[0] for count in range(1, name.count(".") + 1))
    assert [name for name in reached if is_within(name, "gradio")] == []
    assert "assistant.replies" in reached


def test_modules_and_their_classes_stay_short() -> None:
    long = []
    for name in MODULES:
        source = source_of(name)
        if source.count("\n") > 600:
            long.append(name)
        classes = [node for node in ast.walk(parsed(source)) if isinstance(node, ast.ClassDef)]
        long += [f"{name}.{one.name}" for one in classes if one.end_lineno - one.lineno >= 300]
    assert long == []
