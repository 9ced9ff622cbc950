"""`python app.py` that logs its audit events: each file that it opens and each host name that it looks up.

The environment variable `TESTS_WATCHED` names the log. Python has no events for libraries that the system's
linker opens.
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
