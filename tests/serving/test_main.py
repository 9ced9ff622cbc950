from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from serving.__main__ import main
from tests.serving.conftest import PATIENCE, ROOT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["--model", "/nowhere/x.gguf"], "/nowhere/x.gguf"),
        (["--model", __file__], "not a GGUF file"),
        (["--upstream", "localhost:8000"], "must be an address"),
        (["--upstream", "http://[::1"], "must be an address"),
        (["--upstream", "http://localhost:http/v1"], "must be an address"),
        (["--upstream", "http://x", "--model", "y"], "not allowed with"),
        (["--model", "TINY", "--host", "no.such.host.invalid"], "cannot listen"),
        (["--model", "TINY", "--parallel", "0"], "--parallel"),
    ],
)
def test_a_usage_error_ends_with_code_2_and_a_clear_last_line(
    arguments: list[str], message: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tiny_model) if argument == "TINY" else argument for argument in arguments]
    try:
        code: object = main(arguments)
    except SystemExit as error:
        code = error.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


async def test_the_process_ends_with_that_code_and_no_traceback(tiny_model: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "serving", "--model", str(tiny_model), "--port", "99999"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert "cannot listen" in err.decode().splitlines()[-1]
    assert b"Traceback" not in err
