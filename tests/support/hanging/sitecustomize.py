"""Imported by each Python process whose PYTHONPATH begins with this folder: lets a test hang a serving layer.

SIGUSR1 makes its event loop spin. SIGUSR2 stops for ever the thread that gets it, as a deadlock does.
"""

import ctypes
import signal
import sys


def spin(*_: object) -> None:
    while True:
        pass


if sys.orig_argv[1:3] == ["-m", "serving"]:
    libc = ctypes.CDLL(None)
    signal.signal(signal.SIGUSR1, spin)
    libc.signal(signal.SIGUSR2, libc.pause)
