"""`python -m assistant site`: the sites that embed the widget."""

from __future__ import annotations

import sys

from assistant.site_command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
