"""What the fault tests share: a small disk, and the counts that are printed at the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import COUNT
from tests.support.small_disk import NoSmallDisk, SmallDisk, small_disk

Count = Callable[[str], None]


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Count:
    """Prints a line of counts below the results of the run."""
    # A property of the test, since with xdist another process prints.
    return lambda line: request.node.user_properties.append((COUNT, line))


@pytest.fixture
def documentation_options(
    tmp_path: Path, make_data_with_documentation: Callable[[Path], Path]
) -> tuple[str, ...]:
    """Options for documentation with one more file; the folder "data" holds the index of all the rest."""
    make_data_with_documentation(tmp_path / "data")
    library = tmp_path / "library"
    library.mkdir()
    (library / "trees.md").write_text("# Remove a tree\n\nTo remove a tree, call `shutil.rmtree`.\n")
    return "--documentation", "--docs", str(library)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 16 MB."""
    try:
        with small_disk(tmp_path / "disk", 16 << 20) as disk:
            yield disk
    except NoSmallDisk as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
