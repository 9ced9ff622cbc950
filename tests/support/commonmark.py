"""The examples of the CommonMark specification.

`python -m tests.support.commonmark` downloads it into .tools/.
Its licence, CC BY-SA, differs from this project's, so it is not among the project's files.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import urllib.request
from pathlib import Path

PACKAGE = "https://registry.npmjs.org/commonmark-spec/-/commonmark-spec-0.31.2.tgz"
SHA256 = "588280df96c211f7ce9db0b7943ded34ac4b8ba321e2fdf9c03d188ec0f01fea"
SPECIFICATION = Path(__file__).parents[2] / ".tools" / "commonmark-0.31.2.txt"
EXAMPLE = re.compile(r"^`{32} example\n(.*?)^\.\n(.*?)^`{32}$", re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """The Markdown and the HTML of each example, in their order. They are numbered from 1."""
    text = SPECIFICATION.read_text(encoding="utf-8").replace("→", "\t")
    return EXAMPLE.findall(text)


def download() -> None:
    """Raises OSError without network, and ValueError if the package is not the pinned one."""
    with urllib.request.urlopen(PACKAGE, timeout=60) as response:
        content = response.read()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{PACKAGE} is not the pinned package")
    with tarfile.open(fileobj=io.BytesIO(content)) as package:
        specification = package.extractfile("package/spec.txt")
        assert specification is not None
        SPECIFICATION.parent.mkdir(exist_ok=True)
        SPECIFICATION.write_bytes(specification.read())


if __name__ == "__main__" and not SPECIFICATION.exists():
    download()
