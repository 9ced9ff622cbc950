"""Download folders of real documentation, in many formats, for benchmarks and trials of the search.

    .venv/bin/python -m benchmarks.corpora DIR

Each folder comes from a release at PyPI or npm that its SHA-256 pins (`corpora.toml`). It is unpacked into a
directory with the project's name, such as `DIR/flask/docs`. Folders that are there already are kept. Nothing
of them belongs to this project: they keep their own licences, and only questions about them are kept here.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urljoin

import httpx

LIST = Path(__file__).with_name("corpora.toml")
PYPI, NPM = "https://pypi.org/simple/{name}/", "https://registry.npmjs.org/{name}/-/{archive}"
JSON = "application/vnd.pypi.simple.v1+json"
LARGEST = 1 << 28  # bytes of an archive, and of the files that are unpacked from it


class CorpusError(Exception):
    """A corpus cannot be had: the release is missing, differs from the pinned one, or is too large."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A project's folder of documentation in one release; the fields are explained in `corpora.toml`."""

    registry: str
    name: str
    version: str
    sha256: str
    folder: str
    without: tuple[str, ...] = ()

    @property
    def archive(self) -> str:
        return f"{self.name}-{self.version}.{'tgz' if self.registry == 'npm' else 'tar.gz'}"


def corpora() -> list[Corpus]:
    entries = tomllib.loads(LIST.read_text(encoding="utf-8"))["corpus"]
    return [Corpus(**{**entry, "without": tuple(entry.get("without", ()))}) for entry in entries]


def fetch(corpus: Corpus, folder: Path, client: httpx.Client) -> Path:
    """Return a corpus's directory, downloaded if it is missing; raises CorpusError or httpx.HTTPError."""
    target = folder / corpus.name
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as scratch, tempfile.TemporaryFile() as archive:
            download(address(corpus, client), corpus.sha256, archive, client)
            unpack(archive, corpus, Path(scratch, "whole"))
            Path(scratch, "whole").rename(target)
    return target


def address(corpus: Corpus, client: httpx.Client) -> str:
    """Where the archive lies; PyPI's index has to be asked, since its files have addresses by hash."""
    if corpus.registry == "npm":
        return NPM.format(name=corpus.name, archive=corpus.archive)
    page = client.get(PYPI.format(name=corpus.name), headers={"Accept": JSON}).raise_for_status()
    for file in page.json()["files"]:
        if file["filename"] == corpus.archive:
            return urljoin(str(page.url), str(file["url"]))
    raise CorpusError(f"PyPI has no {corpus.archive}.")


def download(url: str, sha256: str, archive: IO[bytes], client: httpx.Client) -> None:
    digest, size = hashlib.sha256(), 0
    with client.stream("GET", url) as response:
        for block in response.raise_for_status().iter_bytes():
            digest.update(block)
            size += archive.write(block)
            if size > LARGEST:
                raise CorpusError(f"{url} is larger than {LARGEST} bytes.")
    if digest.hexdigest() != sha256:
        raise CorpusError(f"{url} has the SHA-256 {digest.hexdigest()} instead of {sha256}.")
    archive.seek(0)


def unpack(archive: IO[bytes], corpus: Corpus, target: Path) -> None:
    """Unpack only the documentation's files; refuses paths that lead out of the target."""
    left_out = tuple(f"{corpus.folder}/{part}/" for part in corpus.without)
    with tarfile.open(fileobj=archive, mode="r:gz") as tar:
        members = {}
        for member in tar:
            name = member.name.partition("/")[2]  # without the archive's top directory
            if member.isfile() and name.startswith(f"{corpus.folder}/") and not name.startswith(left_out):
                members[name] = member
        if not members or sum(member.size for member in members.values()) > LARGEST:
            raise CorpusError(f"{corpus.archive} has nothing in {corpus.folder}, or too much.")
        if any(".." in PurePosixPath(name).parts for name in members):
            raise CorpusError(f"{corpus.archive} has a path that leads out of its folder.")
        for name, member in members.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            path.write_bytes(source.read() if source else b"")


def main() -> None:
    parser = argparse.ArgumentParser(description="Download folders of real documentation.")
    parser.add_argument("folder", type=Path, help="directory to put the projects' folders in")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with httpx.Client(follow_redirects=True, timeout=60.0) as client:
        for corpus in corpora():
            try:
                target = fetch(corpus, options.folder, client)
            except (CorpusError, httpx.HTTPError, tarfile.TarError) as error:
                sys.exit(f"{corpus.name} {corpus.version}: {error}")
            print(f"{target / corpus.folder} (release {corpus.version})")


if __name__ == "__main__":
    main()
