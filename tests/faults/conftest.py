"""What the tests of faults share: a small disk, and the counts that they print at the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import COUNT
from tests.support.small_disk import NoSmallDisk, SmallDisk, small_disk

Count = Callable[[str], None]


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Count:
    """Has a line of counts printed under the results of the run."""
    # A property of the test: the process that runs it need not be the one that prints.
    return lambda line: request.node.user_properties.append((COUNT, line))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 16 MB."""
    try:
        with small_disk(tmp_path / "disk", 16 << 20) as disk:
            yield disk
    except NoSmallDisk as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
