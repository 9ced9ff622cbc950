import os
import subprocess
import sys
import threading
import time

import pytest

from benchmarks.processes import PROC, cpu_seconds, memory, threads

pytestmark = pytest.mark.skipif(not PROC.is_dir(), reason="needs /proc")


def test_cpu_seconds_grow_with_work() -> None:
    me = os.getpid()
    before, began = cpu_seconds(me), time.process_time()
    while time.process_time() - began < 0.1:
        pass
    assert 0.05 <= cpu_seconds(me) - before <= 1.0  # /proc counts in hundredths
    assert cpu_seconds(me, me) == pytest.approx(2 * cpu_seconds(me), abs=0.1)


def test_memory_is_of_one_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "x = bytes(range(256)) * 200_000; print(); input()"], stdin=-1, stdout=-1
    ) as big:
        assert big.stdout is not None
        big.stdout.readline()
        held = memory(big.pid)
        big.communicate(b"\n")
    assert 48 < held.pss <= held.rss < 100


def test_threads_are_counted() -> None:
    before = threads(os.getpid())
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert threads(os.getpid()) == before + 1
    done.set()
    thread.join()
