"""Reads the packages of a Python environment that the operator names.

Finds the packages, their metadata with the README, and the source files that users need, which leaves out
tests, vendored copies and generated code. Reads source with `ast` and imports no package. If the operator
names an interpreter, it is started once, only to report where its packages are.
"""

from __future__ import annotations

import contextlib
import email.parser
import hashlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path, PurePosixPath

from assistant.knowledge.passage import Batch, Passage
from assistant.knowledge.reading.inventory import addresses, inventories
from assistant.knowledge.reading.markdown import read_markdown
from assistant.knowledge.reading.python_calls import CallCounter
from assistant.knowledge.reading.python_code import Module, SourceUnreadable, read_module, read_text
from assistant.knowledge.reading.python_names import is_public, public_definitions
from assistant.knowledge.reading.rest import read_rest
from assistant.knowledge.rest_in_words import in_words

CORPUS = "packages"
ANSWER_SECONDS = 10.0  # an interpreter's time to report where its packages are
MOST_FILES = 3000  # of one package; more than that is generated
LONGEST_LICENCE = 100  # characters; a longer field is the licence's text, not its name
LONGEST_SUMMARY = 500
LARGEST_METADATA = 4_000_000  # bytes

_PRINT_FOLDERS = (
    "import json, sysconfig; print(json.dumps([sysconfig.get_path(k) for k in ('purelib', 'platlib')]))"
)
MOST_SECTIONS = 40  # of a README
SHORTEST_SECTION = 30  # characters; a shorter one holds only a link

_LEFT_OUT = frozenset(
    """
    tests _test _tests vendor vendored _vendor _vendored extern third_party typeshed node_modules examples
    example benchmarks conftest setup __pycache__ site-packages
    """.split()  # noqa: SIM905 - a table to read
)
_IS_TEST = re.compile(r"test_.*|.*_tests?")
_FOR_INSIDERS = frozenset(("testing", "internal", "internals"))  # public only as far as `__all__` says so
_NOT_ABOUT_USE = re.compile(
    r"licen[cs]e|contribut|sponsor|backers|credits|authors?\b|acknowledg|code of conduct|badges|change ?log"
    r"|table of contents|donat|funding|citation|citing|security|release notes",
    re.IGNORECASE,
)
_STUB = "_stub"
_FENCED = re.compile(r"(^[ \t]*```.*?^[ \t]*```)", re.MULTILINE | re.DOTALL)
_BADGES = re.compile(r"^[ \t]*(?:\[?!\[|<|\|\w[\w -]*\|).*\n?", re.MULTILINE)


class PackagesUnreadable(Exception):
    """An environment that cannot be read; the text is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed package: what its metadata says, and its source files."""

    name: str
    version: str
    licence: str
    url: str
    site: Path
    files: tuple[str, ...]  # of source, below `site`, with "/"
    metadata: str  # the file with the metadata, below `site`
    imports: tuple[str, ...] = ()  # the top-level names under which it is imported, the main one first
    inventory: Path | None = None  # `objects.inv` of its documentation
    documentation: str = ""  # the address of the documentation that the inventory lists

    def fingerprint(self) -> str:
        """A hash of the metadata and of the files' sizes and times, which changes when the package does."""
        state = [self.name, self.version, self.licence, self.url, self.documentation]
        for file in (*self.files, self.metadata, self.inventory or ""):
            state.append(str(file))
            with contextlib.suppress(OSError):
                found = (self.site / file).stat()
                state.append(f"{found.st_size} {found.st_mtime_ns}")
        return hashlib.sha256("\n".join(state).encode("utf-8", "replace")).hexdigest()


def sites(environment: Path) -> list[Path]:
    """The site-packages folders of an environment (its folder or interpreter). Raises
    `PackagesUnreadable`."""
    try:
        if environment.is_dir():
            found = [environment] if next(environment.glob("*.dist-info"), None) else []
            for place in ("lib64/python*/site-packages", "lib/python*/site-packages", "Lib/site-packages"):
                found += sorted(environment.glob(place))
        elif environment.is_file():
            found = _sites_of_interpreter(environment)
        else:
            raise PackagesUnreadable(f"There is no Python environment at {environment}.")
        distinct = list({site.resolve(): site for site in found if site.is_dir()}.values())
    except OSError as error:
        raise PackagesUnreadable(f"The packages of {environment} cannot be read: {error}.") from error
    if any(not str(site).isprintable() for site in distinct):
        raise PackagesUnreadable(f"The name of {str(environment)!a} has characters that cannot be printed.")
    if not distinct:
        raise PackagesUnreadable(f"{environment} is not a Python environment: it has no site-packages.")
    return distinct


def _sites_of_interpreter(interpreter: Path) -> list[Path]:
    command = [str(interpreter), "-I", "-c", _PRINT_FOLDERS]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, check=True
        )
        return [Path(folder) for folder in json.loads(answer.stdout)]
    except subprocess.TimeoutExpired as error:
        text = f"{interpreter} did not report within {ANSWER_SECONDS:.0f} seconds where its packages are."
        raise PackagesUnreadable(text) from error
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        raise PackagesUnreadable(f"{interpreter} is not a working Python interpreter.") from error


def distributions(site: Path, *, warn: Callable[[str], object] = str) -> Iterator[Distribution]:
    """The packages in a site-packages folder; `warn` gets a sentence for each broken one."""
    for folder in sorted(site.glob("*.dist-info")):
        try:
            metadata = email.parser.HeaderParser().parsestr(_text(folder / "METADATA"))
            listed = _listed(folder, site)
        except (OSError, UnicodeError, ValueError) as error:
            warn(f"The package {folder.name.partition('-')[0]!a} cannot be read: {error}.")
            continue
        stem, _, version = folder.name.removesuffix(".dist-info").partition("-")
        name = _line(metadata.get("name", "")) or stem
        files = _for_users(listed)
        if not files and not metadata.get("summary"):
            continue
        yield Distribution(
            name=name,
            version=_line(metadata.get("version", "")) or version,
            licence=_licence(metadata),
            url=_address(metadata),
            site=site,
            files=files,
            metadata=f"{folder.name}/METADATA",
            imports=_imports(name, listed),
        )


def _text(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open("rb") as stream:
        return stream.read(LARGEST_METADATA).decode("utf-8", "replace")


def _line(text: str, longest: int = LONGEST_LICENCE) -> str:
    return " ".join(text.split())[:longest]


def _licence(metadata: Message) -> str:
    """The licence expression, else the licence field if it holds a name and no text, else the classifiers."""
    for key in ("license-expression", "license"):
        licence = metadata.get(key, "").strip()
        if licence.upper() not in ("", "UNKNOWN") and licence == _line(licence):
            return licence
    classifiers = [
        value.rpartition("::")[2].strip()
        for value in metadata.get_all("classifier", ())
        if value.startswith("License ::") and not value.endswith("OSI Approved")
    ]
    return _line(", ".join(classifiers))


def _address(metadata: Message) -> str:
    """The address of the package's documentation, else of its home page."""
    labelled = [value.partition(",") for value in metadata.get_all("project-url", ())]
    by_label = {label.strip().lower(): address.strip() for label, _, address in labelled}
    by_label["home-page"] = metadata.get("home-page", "")
    labels = ("documentation", "docs", "home-page", "homepage", "home", "source", "repository")
    addresses = (by_label.get(label, "") for label in labels)
    return next((each for each in addresses if re.fullmatch(r"https?://[^\s<>\"]{3,300}", each)), "")


def with_inventories(
    found: Iterable[Distribution], folders: Iterable[tuple[Path, str]]
) -> Iterator[Distribution]:
    """The same packages, each with the inventory of its documentation if one of the folders has it. Without
    an address of the folder, the address that the package states counts, if it leads to a version."""
    known = {plain_name(project): (file, url) for project, file, url in inventories(folders)}
    for each in found:
        file, url = known.get(plain_name(each.name), (None, ""))
        if not url and re.fullmatch(r"https?://(?!github\.com)[^/]+/.+", each.url):
            url = each.url.rstrip("/") + "/"
        yield replace(each, inventory=file, documentation=url) if file and url else each


def _listed(folder: Path, site: Path) -> list[PurePosixPath]:
    """The files of a package, from its RECORD, or else from its top-level names."""
    if record := _text(folder / "RECORD"):
        listed = [line.rsplit(",", 2)[0].strip('"') for line in record.splitlines()]
    else:
        listed = []
        for top in _text(folder / "top_level.txt").split():
            if (site / f"{top}.py").is_file():
                listed.append(f"{top}.py")
            elif "/" not in top and ".." not in top:
                listed += [file.relative_to(site).as_posix() for file in (site / top).rglob("*.py")]
    files = map(PurePosixPath, listed)
    return [file for file in files if not file.is_absolute() and ".." not in file.parts]


def _imports(name: str, listed: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """The public names at the top of the files: packages and modules, in Python or in C. The name most like
    that of the distribution comes first, else the one with the most files."""
    code = [file for file in listed if file.suffix in (".py", ".pyi", ".so", ".pyd")]
    sizes = Counter(file.parts[0].partition(".")[0] for file in code)
    public = [top for top in sizes if top.isidentifier() and is_public(top) and top not in _LEFT_OUT]
    public.sort(key=lambda top: (plain_name(top) != plain_name(name), -sizes[top], top))
    return tuple(public)


def plain_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _for_users(listed: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """The source files for users. A stub counts where there is no source, or where a part is written in C."""
    code = [file for file in listed if file.suffix in (".py", ".pyi")]
    test_folders = {file.parent for file in code if "test" in file.parts and _IS_TEST.fullmatch(file.stem)}
    compiled = any(file.suffix in (".so", ".pyd") for file in listed)
    wanted = {}  # by module, sources after stubs
    for file in sorted(code, key=lambda file: file.suffix == ".py"):
        parts = (*file.parts[:-1], file.stem)
        is_test = parts[0] == "test" or not test_folders.isdisjoint(file.parents)
        is_generated = file.stem.endswith(("_pb2", "_pb2_grpc"))
        is_left_out = (
            is_test or is_generated or not _LEFT_OUT.isdisjoint(parts) or _IS_TEST.fullmatch(file.stem)
        )
        if all(map(str.isidentifier, parts)) and not is_left_out:
            wanted[file if compiled else file.with_suffix("")] = file.as_posix()
    return tuple(sorted(wanted.values())[:MOST_FILES])


def read(distribution: Distribution) -> Batch:
    """The passages of a package, under its public names."""
    modules: dict[str, Module] = {}
    unread = 0
    for file in distribution.files:
        parts = PurePosixPath(file).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        try:
            module = read_module(read_text(distribution.site / file), name, file)
        except SourceUnreadable:
            unread += 1
            continue
        if name in modules:  # a stub beside the source describes what the source imports from C
            modules[name].stars.insert(0, f"{name}.{_STUB}")
            name = f"{name}.{_STUB}"
        modules[name] = module
    links = addresses(distribution.inventory) if distribution.inventory else {}

    def new_passage(name: str, kind: str, title: str, text: str, *others: str, **fields: str) -> Passage:
        link = next((links[each] for each in (name, *others) if each in links), "")
        return Passage(
            *(name, kind, title, text, distribution.name, distribution.version, distribution.licence),
            corpus=CORPUS,
            url=distribution.documentation + link if link else distribution.url,
            **fields,
        )

    passages: dict[str, Passage] = {}
    aliases: list[tuple[str, str]] = []
    unstated = (name for name, module in modules.items() if module.exports is None)
    insiders = [name for name in unstated if _FOR_INSIDERS & {*name.split(".")}]
    for public in public_definitions(modules, hidden=insiders):
        definition = public.definition
        passages[public.name] = new_passage(
            *(public.name, definition.kind, public.name, definition.doc, *public.aliases),
            location=f"{public.module.path}:{definition.line}",
            signature=public.signature,
        )
        aliases += [(alias, public.name) for alias in public.aliases]
    metadata = email.parser.HeaderParser().parsestr(text := _text(distribution.site / distribution.metadata))
    main = (*distribution.imports, distribution.name)[0]
    summary = _line(metadata.get("summary", ""), LONGEST_SUMMARY)
    for name in dict.fromkeys((main, *distribution.imports, *modules)):
        module = modules.get(name) or Module(name, distribution.metadata)
        doc = module.doc
        if name == main and summary not in doc:
            doc = "\n\n".join(filter(None, (summary, doc)))
        elif name in distribution.imports:
            doc = doc or summary
        if doc and is_public(name) and name not in passages:  # a function may hide the module of its name
            location = f"{module.path}:{module.doc_line}"
            passages[name] = new_passage(name, "module", name, doc, location=location)
    spellings = {distribution.name, distribution.name.lower(), plain_name(distribution.name), main.lower()}
    spellings |= {spelling.replace("-", "_") for spelling in spellings}
    aliases += [(spelling, main) for spelling in sorted(spellings - {main})]
    readme = [
        new_passage(name, "section", title, body, location=f"{distribution.metadata}:{line}")
        for name, title, body, line in _readme(distribution.name, metadata, text)
    ]
    usage = {module.path: module.usage for module in modules.values() if module.usage}
    lines = text.split("\n")
    counter = CallCounter(lines, main, {}, set())
    counter.count_snippets(0, len(lines))
    usage[distribution.metadata] = counter.counted
    raised = [each for module in modules.values() for each in module.raised]
    return Batch([*passages.values(), *readme], aliases, usage, unread, raised=raised)


def _readme(package: str, metadata: Message, text: str) -> Iterator[tuple[str, str, str, int]]:
    """The name, title, text and first line of each section of the README in the metadata, as Markdown."""
    readme = str(metadata.get_payload())
    before = text[: len(text) - len(readme)].count("\n")
    is_markdown = "markdown" in metadata.get("description-content-type", "")
    page = read_markdown(readme) if is_markdown else read_rest(readme)
    for section in page.sections[:MOST_SECTIONS]:
        names = section.heading.path if section.heading else [package]
        names = [*([package] if plain_name(names[0]) != plain_name(package) else []), *names]
        rows = (row for row in range(section.start, section.end) if not page.skipped[row])
        parts = _FENCED.split("\n".join(page.lines[row] for row in rows))
        body = "".join(part if at % 2 else _BADGES.sub("", part) for at, part in enumerate(parts)).strip()
        if len(body) >= SHORTEST_SECTION and not any(map(_NOT_ABOUT_USE.search, names[1:])):
            line = before + page.numbers[section.start]
            yield names[-1], " › ".join(names), body if is_markdown else in_words(body), line
