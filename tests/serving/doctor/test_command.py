"""`python -m serving doctor`: its arguments, its output and its exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from serving.doctor.command import main
from tests.serving.conftest import PATIENCE, ROOT
from tests.serving.doctor.test_doctor import Upstream


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://[::1"], "must be an address"),
        (["http://localhost:http"], "must be an address"),
        (["localhost"], "must be an address"),
        (["ftp://127.0.0.1"], "must be an address"),
        ([], "name either a URL or --model FILE"),
    ],
)
def test_bad_usage_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


async def test_it_examines_a_model_file_and_leaves_nothing_running(tiny_model: Path) -> None:
    status, output = await run("--model", str(tiny_model), "--json")
    report = json.loads(output)
    assert (status, report["usable"], report["kind"]) == (0, True, "openai")
    assert set(report["findings"][0]) == {"name", "status", "seen", "ours"}


async def test_its_exit_code_shows_a_problem() -> None:
    async with Upstream("odd reason", "buffered") as upstream:
        status, output = await run(upstream.url)
    assert status == 1
    assert "wrong        end of the text" in output


def test_its_exit_code_shows_that_the_engine_could_not_be_started(tmp_path: Path) -> None:
    assert main(["--model", str(tmp_path / "missing.gguf")]) == 2


async def run(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serving", "doctor", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=ROOT,
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()
