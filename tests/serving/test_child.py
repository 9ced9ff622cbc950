from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest
import pytest_asyncio

from assistant.settings import read_settings
from serving import child as child_module
from serving.child import LOADING_TIMES, MISSES, ChildFailed, ServingChild
from tests.serving.conftest import PATIENCE, ROOT, eventually

PROC = Path("/proc")


@contextlib.asynccontextmanager
async def started(*arguments: str, **options: Any) -> AsyncIterator[ServingChild]:
    child = ServingChild(arguments, **options)
    try:
        async with asyncio.timeout(PATIENCE):
            await child.start()
        yield child
    finally:
        await child.stop()


@contextlib.asynccontextmanager
async def tiny(model: Path, **options: Any) -> AsyncIterator[tuple[ServingChild, int]]:
    """A child that serves this model, and the id of its process."""
    async with started("--model", str(model), "--threads", "1", **options) as child:
        assert child.pid is not None
        yield child, child.pid


async def info(child: ServingChild, key: str | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key or child.api_key}"}
    async with aiohttp.ClientSession() as http, http.get(f"{child.url}/info", headers=headers) as answer:
        return answer.status, await answer.json()


needs_proc = pytest.mark.skipif(not PROC.exists(), reason="needs /proc")


def exit_codes(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Of the processes that have ended so far."""
    return [int(code) for code in re.findall(r"ended with code (-?\d+)", caplog.text)]


def is_running(pid: int) -> bool:
    """Whether the process runs. A zombie does not."""
    try:
        if not PROC.exists():
            os.kill(pid, 0)
            return True
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def child(tiny_model: Path) -> AsyncIterator[ServingChild]:
    async with tiny(tiny_model, environment={"OMP_WAIT_POLICY": "ACTIVE"}) as (child, _):
        yield child


@pytest.mark.asyncio(loop_scope="module")
async def test_a_child_serves_on_an_address_of_its_own_with_a_key_of_its_own(child: ServingChild) -> None:
    assert child.pid is not None
    assert child.failure is None
    assert child.url is not None
    assert child.url.startswith("http://127.0.0.1:")
    assert (await info(child))[0] == 200
    assert (await info(child, "wrong"))[0] == 401


async def test_a_child_that_is_killed_is_started_again_with_the_same_key(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with tiny(tiny_model) as (child, pid):
        first = child.url
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: child.url not in (None, first) and child.pid != pid)
        assert exit_codes(caplog) == [-signal.SIGKILL]
        assert (await info(child))[0] == 200


@needs_proc
async def test_a_child_that_hangs_is_killed_and_started_again(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child_module, "LOADING_TIMES", 2)  # in case no check saw it ready
    async with tiny(tiny_model, hang_seconds=3.0) as (child, pid):

        async def is_ready() -> bool:
            return child.url is not None and (await info(child))[1]["state"] == "ready"

        await eventually(is_ready)
        assert child.pid == pid
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: child.url is not None and child.pid != pid)
        assert exit_codes(caplog) == [-signal.SIGKILL]
        assert not is_running(pid)


SILENT = ""


@pytest.mark.parametrize(
    ("answers", "unanswered"),
    [
        (["ready"], MISSES),
        (["failed"], MISSES),
        (["loading"], MISSES * LOADING_TIMES),
        ([], MISSES * LOADING_TIMES),  # it may be loading
        (["loading", "ready"], MISSES),
        (["ready", SILENT, SILENT, "ready"], 2 + MISSES),  # not in a row
        (["ready", *[SILENT, "loading"] * 3], 3 + MISSES * LOADING_TIMES),
    ],
)
async def test_a_child_counts_as_hung_after_several_unanswered_checks_in_a_row(
    answers: list[str], unanswered: int
) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(state := answers[len(asked)] if len(asked) < len(answers) else SILENT)
        if state != SILENT:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"state": "%b"}' % state.encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with asyncio.timeout(PATIENCE):
            await ServingChild([], hang_seconds=MISSES * 0.05)._wait_for_hang(f"http://{host}:{port}")
    assert asked.count(SILENT) == unanswered


async def test_a_parent_that_cannot_send_checks_kills_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = AsyncMock(side_effect=OSError(errno.EMFILE, "Too many open files"))
    monkeypatch.setattr(asyncio, "open_connection", refuse)
    hangs = asyncio.create_task(ServingChild([], hang_seconds=0.01)._wait_for_hang("http://127.0.0.1:1"))
    await eventually(lambda: refuse.call_count > MISSES * LOADING_TIMES)
    assert not hangs.done()
    hangs.cancel()


@needs_proc
async def test_a_child_that_never_prints_its_address_is_started_again(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child_module, "START_SECONDS", 0.01)
    child = ServingChild(["--model", str(tiny_model), "--threads", "1"])
    starting = asyncio.create_task(child.start())
    await eventually(lambda: len(exit_codes(caplog)) > 1)
    assert set(exit_codes(caplog)) == {-signal.SIGKILL}
    starting.cancel()
    await child.stop()


async def test_a_child_is_started_later_if_the_system_has_no_resources_now(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refused = asyncio.create_subprocess_exec, [BlockingIOError(11, "no"), OSError(12, "no memory")]

    async def start_later(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        if refused:
            raise refused.pop()
        return await start(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_later)
    monkeypatch.setattr(child_module, "FIRST_DELAY_SECONDS", 0.01)
    async with tiny(tiny_model) as (child, _):
        assert (await info(child))[0] == 200
    assert refused == []


async def test_a_usage_error_is_reported_and_the_child_not_started_again(tmp_path: Path) -> None:
    child = ServingChild(["--model", str(tmp_path / "missing.gguf")])
    with pytest.raises(ChildFailed, match=r"cannot read .*missing\.gguf: No such file"):
        async with asyncio.timeout(PATIENCE):
            await child.start()
    assert child.failure is not None
    assert child.pid is None
    await child.stop()


async def test_stopping_ends_the_process_and_starts_no_other(tiny_model: Path) -> None:
    async with tiny(tiny_model) as (child, pid):
        begun = time.monotonic()
        await child.stop()
        assert time.monotonic() - begun < child_module.TERMINATE_SECONDS + PATIENCE
        assert child.pid is None
        assert child.url is None
        assert not is_running(pid)


async def test_a_child_that_ignores_the_signal_is_killed(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "TERMINATE_SECONDS", 0.1)
    async with tiny(tiny_model) as (child, pid):
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            await child.stop()
        assert not is_running(pid)


PARENT = """
import asyncio, sys
from serving.child import ServingChild
async def main():
    child = ServingChild(["--model", sys.argv[1], "--threads", "1"])
    await child.start()
    print(child.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_child_never_outlives_its_parent(tiny_model: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tiny_model), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    async with asyncio.timeout(PATIENCE):
        pid = int(await parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
        await parent.wait()
        await eventually(lambda: not is_running(pid))


async def test_the_childs_output_goes_to_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "serving")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF and nothing else")
    async with tiny(damaged):
        await eventually(lambda: "damaged" in caplog.text)


@needs_proc
@pytest.mark.asyncio(loop_scope="module")
async def test_the_key_is_not_on_the_command_line_and_variables_reach_the_child(child: ServingChild) -> None:
    process = PROC / str(child.pid)
    environment, command = [(process / name).read_bytes() for name in ("environ", "cmdline")]
    assert b"OMP_WAIT_POLICY=ACTIVE" in environment
    assert child.api_key.encode() in environment
    assert child.api_key.encode() not in command


@needs_proc
async def test_an_upstream_with_a_password_is_not_on_the_command_line(tmp_path: Path) -> None:
    urls = ("--upstream", "http://me:password@127.0.0.1:9/v1", "--upstream", "http://127.0.0.1:9")
    settings = read_settings(["--data", str(tmp_path), *urls])
    assert settings.engine_arguments is not None
    async with started(*settings.engine_arguments, environment=settings.engine_environment) as child:
        assert b"password" not in (PROC / str(child.pid) / "cmdline").read_bytes()

        async def reported() -> bool:
            detail = (await info(child))[1]["state_detail"]
            return detail.count("http://127.0.0.1:9") == 2 and "cannot be reached" in detail

        await eventually(reported)


def test_the_module_needs_only_the_standard_library() -> None:
    code = "import sys, serving.child; print([n for n in sys.modules if n.partition('.')[0] in " \
        "('aiohttp', 'uvicorn', 'starlette', 'msgspec', 'xllamacpp')])"  # fmt: skip
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "[]\n"
