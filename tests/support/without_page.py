"""`python app.py` without its page, whose import takes longer than the rest of the start."""

from __future__ import annotations

import sys

import app
from assistant.web.application import create_app


def create(*arguments: object, load_page: object, **more: object) -> object:
    return create_app(*arguments, **more)  # type: ignore[arg-type]


if __name__ == "__main__":
    app.create_app = create
    sys.exit(app.main(sys.argv[1:]))
