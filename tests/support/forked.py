"""Starts Python programs by a fork of one process that has imported their modules already.

`python -m PROGRAM` imports for one to five seconds of CPU at each start, which is most of what the program
does in a test. Here one process imports the modules once, and each start forks it. A forked program has a
process, an environment and standard streams of its own, and `kill -9` ends it like any other. It runs as
`__main__`, but its module stands on no command line.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
LONGEST = 1 << 20  # bytes of a request
CHILD_ENDED = {signal.SIGCHLD}


class ForkedProgram:
    """A running program, with the part of the interface of `subprocess.Popen` that the tests use."""

    def __init__(self, pid: int, stdout: IO[str], ending: IO[bytes]) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._ending = ending  # gets the exit code, which only the parent of the process learns

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """The exit code, or None while the program runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._ending], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int(self._ending.read())
            self._ending.close()
        return self.returncode


def fork(
    program: str,
    *arguments: str,
    imports: Sequence[str],
    environment: Mapping[str, str],
    errors: IO[str] | None,
) -> ForkedProgram:
    """Run `program`, the name of a module, after `imports`. `errors` gets its standard error."""
    request = {
        "program": program, "arguments": arguments, "imports": imports, "environment": dict(environment)
    }  # fmt: skip
    stdout, stdout_of_program = os.pipe()
    ending, ending_of_program = os.pipe()
    descriptors = [stdout_of_program, 2 if errors is None else errors.fileno(), ending_of_program]
    try:
        with _connect() as parent:
            socket.send_fds(parent, [json.dumps(request).encode()], descriptors)
            pid = int(parent.recv(LONGEST))
    finally:
        os.close(stdout_of_program)
        os.close(ending_of_program)
    return ForkedProgram(pid, os.fdopen(stdout), os.fdopen(ending, "rb"))


_starting = threading.Lock()


@functools.cache
def _address() -> bytes:
    """The address of the process that forks. That process ends with this one."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # Linux chooses a free name
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
        assert process.stdin is not None
        atexit.register(process.wait)
        atexit.register(process.stdin.close)
        return bytes(listener.getsockname())


def _connect() -> socket.socket:
    with _starting:
        address = _address()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    return connection


class _Parent:
    """Imports, forks, and tells how the programs ended."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._endings: dict[int, int] = {}  # where to write the exit code of each process
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, self._tell)

    def run(self) -> None:
        """Start programs until the tests end. In a forked process, run the program instead."""
        while sys.stdin not in select.select([self._listener, sys.stdin], [], [])[0]:
            connection, _ = self._listener.accept()
            with connection:
                message, descriptors, _, _ = socket.recv_fds(connection, LONGEST, 3)
                request = json.loads(message)
                for module in request["imports"]:
                    importlib.import_module(module)
                gc.freeze()  # to search what stays for garbage would copy its memory in each program
                signal.pthread_sigmask(signal.SIG_BLOCK, CHILD_ENDED)
                pid = os.fork()
                if pid == 0:
                    self._leave()
                    break
                *others, self._endings[pid] = descriptors
                signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_ENDED)
                connection.sendall(b"%d" % pid)
            for descriptor in others:
                os.close(descriptor)
        else:
            return
        _run(request, descriptors)

    def _leave(self) -> None:
        """In a forked process: keep nothing of the parent."""
        self._listener.close()
        for descriptor in self._endings.values():
            os.close(descriptor)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_ENDED)

    def _tell(self, *_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                ending = self._endings.pop(ended[0])
                with contextlib.suppress(BrokenPipeError):
                    os.write(ending, b"%d" % os.waitstatus_to_exitcode(ended[1]))
                os.close(ending)


def _run(request: dict[str, Any], descriptors: Sequence[int]) -> None:
    stdout, stderr, ending = descriptors
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), stdout, stderr)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.close(ending)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]
    runpy.run_module(request["program"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _Parent(socket.socket(fileno=int(sys.argv[1]))).run()
