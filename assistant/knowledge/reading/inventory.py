"""Reads `objects.inv`, in which Sphinx lists the address of every name that a documentation describes."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

FILE = "objects.inv"
LARGEST_FILE, LARGEST_LIST = 4_000_000, 40_000_000  # bytes, packed and unpacked
PLACES = (FILE, f"*/{FILE}", f"*/*/{FILE}")  # below a folder: Sphinx writes to `_build/html`


def inventories(folders: Iterable[tuple[Path, str]]) -> Iterator[tuple[str, Path, str]]:
    """The project, the file and the address on the web ("" if unknown) of each inventory in these folders,
    which are given with their own addresses."""
    for folder, url in folders:
        for file in (file for place in PLACES for file in sorted(folder.glob(place))):
            try:
                with file.open("rb") as stream:
                    found = re.match(
                        rb"# Sphinx inventory version 2\n# Project: (.{1,100})\n", stream.read(200)
                    )
            except OSError:
                continue
            if found:
                below = file.parent.relative_to(folder).as_posix().removeprefix(".")
                address = f"{url.rstrip('/')}/{below}".rstrip("/") + "/" if url else ""
                yield found[1].decode("utf-8", "replace").strip(), file, address


def addresses(file: Path) -> dict[str, str]:
    """For each name of Python, its address below that of the documentation; none if the file is broken."""
    try:
        with file.open("rb") as stream:
            *_, packed = stream.read(LARGEST_FILE).split(b"\n", 4)
        listed = zlib.decompressobj().decompress(packed, LARGEST_LIST).decode("utf-8", "replace")
    except (OSError, zlib.error):
        return {}
    found = {}
    for line in listed.splitlines():
        name, _, rest = line.partition(" ")
        kind, _, address = rest.partition(" ")
        if kind.startswith("py:") and (parts := address.split(" ", 2))[1:]:
            found[name] = parts[1].removesuffix("$") + name if parts[1].endswith("$") else parts[1]
    return found
