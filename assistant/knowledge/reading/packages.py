"""Reads the packages of a Python environment that the operator names.

Finds the packages, their version and licence, and the source files that users need, which leaves out tests,
vendored copies and generated code. Reads source with `ast` and imports no package. If the operator names an
interpreter, it is started once, only to report where its packages are.
"""

from __future__ import annotations

import email.parser
import functools
import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath

from assistant.knowledge.passage import Batch, Passage
from assistant.knowledge.reading.python_code import Module, SourceUnreadable, read_module, read_text
from assistant.knowledge.reading.python_names import is_public, public_definitions

CORPUS = "packages"
ANSWER_SECONDS = 10.0  # an interpreter's time to report where its packages are
MOST_FILES = 3000  # of one package; more than that is generated
LONGEST_LICENCE = 100  # characters; a longer field is the licence's text, not its name
LARGEST_METADATA = 4_000_000  # bytes

_PRINT_FOLDERS = (
    "import json, sysconfig; print(json.dumps([sysconfig.get_path(k) for k in ('purelib', 'platlib')]))"
)
_LEFT_OUT = frozenset(
    """
    test tests _test _tests vendor vendored _vendor _vendored extern third_party node_modules migrations
    examples example benchmarks conftest setup __pycache__ site-packages
    """.split()  # noqa: SIM905 - a table to read
)


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
    files: tuple[str, ...]  # below `site`, with "/"

    def fingerprint(self) -> str:
        """A hash of the metadata and of the files' sizes and times, which changes when the package does."""
        state = hashlib.sha256(f"{self.name} {self.version} {self.licence} {self.url}".encode())
        for file in self.files:
            try:
                found = (self.site / file).stat()
                state.update(f"{file} {found.st_size} {found.st_mtime_ns}\n".encode("utf-8", "replace"))
            except OSError:
                state.update(f"{file} -\n".encode("utf-8", "replace"))
        return state.hexdigest()


def sites(environment: Path) -> list[Path]:
    """The site-packages folders of an environment (its folder or interpreter). Raises
    `PackagesUnreadable`."""
    try:
        if environment.is_dir():
            found = [environment] if next(environment.glob("*.dist-info"), None) else []
            found += [
                *sorted(environment.glob("lib/python*/site-packages")),
                *sorted(environment.glob("lib64/python*/site-packages")),
                *environment.glob("Lib/site-packages"),
            ]
        elif environment.is_file():
            found = _sites_of_interpreter(environment)
        else:
            raise PackagesUnreadable(f"There is no Python environment at {environment}.")
        distinct = list({site.resolve(): site for site in reversed(found) if site.is_dir()}.values())[::-1]
    except OSError as error:
        raise PackagesUnreadable(f"The packages of {environment} cannot be read: {error}.") from error
    if any(not str(site).isprintable() for site in distinct):
        raise PackagesUnreadable(f"The name of {str(environment)!a} has characters that cannot be printed.")
    if not distinct:
        raise PackagesUnreadable(f"{environment} is not a Python environment: it has no site-packages.")
    return distinct


def _sites_of_interpreter(interpreter: Path) -> list[Path]:
    try:
        answer = subprocess.run(
            [str(interpreter), "-I", "-c", _PRINT_FOLDERS],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_SECONDS,
            check=True,
        )
        return [Path(folder) for folder in json.loads(answer.stdout)]
    except subprocess.TimeoutExpired as error:
        text = f"{interpreter} did not report within {ANSWER_SECONDS:.0f} seconds where its packages are."
        raise PackagesUnreadable(text) from error
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        raise PackagesUnreadable(f"{interpreter} is not a working Python interpreter.") from error


def distributions(site: Path, *, warn: Callable[[str], object] = str) -> Iterator[Distribution]:
    """The packages in a site-packages folder that have source files; `warn` gets a sentence for each broken
    one."""
    for folder in sorted(site.glob("*.dist-info")):
        try:
            metadata = email.parser.HeaderParser().parsestr(_text(folder / "METADATA"))
            files = _files(folder, site)
        except (OSError, UnicodeError, ValueError) as error:
            warn(f"The package {folder.name.partition('-')[0]!a} cannot be read: {error}.")
            continue
        if not files:
            continue
        stem, _, version = folder.name.removesuffix(".dist-info").partition("-")
        yield Distribution(
            name=_line(metadata.get("name", "")) or stem,
            version=_line(metadata.get("version", "")) or version,
            licence=_licence(metadata),
            url=_address(metadata),
            site=site,
            files=files,
        )


def _text(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open("rb") as stream:
        return stream.read(LARGEST_METADATA).decode("utf-8", "replace")


def _line(text: str) -> str:
    return " ".join(text.split())[:LONGEST_LICENCE]


def _licence(metadata: Message) -> str:
    """The licence expression, else the licence field if it holds a name and no text, else the classifiers."""
    for key in ("license-expression", "license"):
        licence = metadata.get(key, "").strip()
        is_name = "\n" not in licence and len(licence) <= LONGEST_LICENCE
        if licence and licence.upper() != "UNKNOWN" and is_name:
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
    wanted = ("documentation", "docs", "homepage", "home", "source", "repository")
    addresses = [*(by_label.get(label, "") for label in wanted[:2]), *metadata.get_all("home-page", ())]
    addresses += [by_label.get(label, "") for label in wanted[2:]]
    return next((each for each in addresses if re.fullmatch(r"https?://[^\s<>\"]{3,300}", each)), "")


def _files(folder: Path, site: Path) -> tuple[str, ...]:
    """The source files for users, from the package's RECORD, or else from its top-level names."""
    record = _text(folder / "RECORD")
    if record:
        listed = [line.rsplit(",", 2)[0].strip('"') for line in record.splitlines()]
    else:
        listed = []
        for top in _text(folder / "top_level.txt").split():
            if (site / f"{top}.py").is_file():
                listed.append(f"{top}.py")
            elif "/" not in top and ".." not in top:
                listed += [file.relative_to(site).as_posix() for file in (site / top).rglob("*.py")]
    wanted = {file for file in listed if file.endswith(".py") and _for_users(PurePosixPath(file))}
    return tuple(sorted(wanted)[:MOST_FILES])


def _for_users(file: PurePosixPath) -> bool:
    parts = (*file.parts[:-1], file.stem)
    if file.is_absolute() or ".." in parts or _LEFT_OUT.intersection(parts):
        return False
    if file.stem.startswith("test_") or file.stem.endswith(("_test", "_tests", "_pb2", "_pb2_grpc")):
        return False
    return all(part.isidentifier() for part in parts)


def read(distribution: Distribution) -> Batch:
    """The passages of a package, under its public names."""
    modules: dict[str, Module] = {}
    unread = 0
    for file in distribution.files:
        parts = PurePosixPath(file).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        try:
            modules[name] = read_module(read_text(distribution.site / file), name, file)
        except SourceUnreadable:
            unread += 1
    new_passage = functools.partial(
        Passage,
        package=distribution.name,
        version=distribution.version,
        licence=distribution.licence,
        corpus=CORPUS,
        url=distribution.url,
    )
    passages = [
        new_passage(name, "module", name, module.doc, location=f"{module.path}:{module.doc_line}")
        for name, module in modules.items()
        if module.doc and is_public(name)
    ]
    modules_named = {passage.name for passage in passages}
    aliases: list[tuple[str, str]] = []
    for public in public_definitions(modules):
        if public.name in modules_named:
            continue  # a function that hides the module of the same name
        definition = public.definition
        passages.append(
            new_passage(
                *(public.name, definition.kind, public.name, definition.doc),
                location=f"{public.module.path}:{definition.line}",
                signature=public.signature,
            )
        )
        aliases += [(alias, public.name) for alias in public.aliases]
    usage = {module.path: module.usage for module in modules.values() if module.usage}
    return Batch(passages, aliases, usage, unread)
