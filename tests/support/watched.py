"""`python app.py` whose audit events are written down: each file that is opened, each name that is looked up.

The file is named by `WATCHED`. What the system opens for an extension (the linker's libraries) is not told.
"""

from __future__ import annotations

import os
import sys

WATCHED = "TESTS_WATCHED"
EVENTS = ("open", "os.listdir", "os.scandir", "socket.getaddrinfo", "socket.gethostbyname", "socket.connect")


def watch(descriptor: int) -> None:
    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in EVENTS:
            what = arguments[1] if event == "socket.connect" else arguments[0]
            os.write(descriptor, f"{event}\t{what!r}\n".encode(errors="replace"))

    sys.addaudithook(hook)


if __name__ == "__main__":
    watch(os.open(os.environ[WATCHED], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    import app

    sys.exit(app.main(sys.argv[1:]))
