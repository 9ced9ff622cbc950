import asyncio
import re
import shutil
from pathlib import Path

import httpx
import pytest

from assistant import errors
from assistant.web.problems import KNOWN
from tests.support.fake_model import ScriptedModel

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_the_examples_of_the_document_run(address: str, model: ScriptedModel) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    script = "set -eu\n" + commands.replace("http://127.0.0.1:7860", address).replace("curl ", "curl --fail ")
    model.say("Open it.")
    model.end()
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, error = await shell.communicate()
    assert shell.returncode == 0, error.decode()
    answers = out.decode()
    assert '"title":"Reading files"' in answers
    assert 'event: delta\ndata: {"text": "Open it."}' in answers
    assert 'id: 8\nevent: delta\ndata: {"text": "n it."}' in answers
    assert answers.count("event: done") == 2
    assert '{"status":"done"}' in answers


async def test_every_route_has_an_example(client: httpx.AsyncClient) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    examples = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    paths = (await client.get("/api/openapi.json")).json()["paths"]
    for path, item in paths.items():
        pattern = re.sub(r"\\\{\w+\\\}", r"\\$\\w+", re.escape(path))
        assert re.search(rf"\$TECH{pattern}[\"?]", examples), path
        for method in item:
            described = method.upper() + " " + re.sub(r"\{\w+\}", "{id}", path)
            assert described in text or path == "/api/engine", described


def test_every_error_type_is_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    failures = {error.type for error in vars(errors).values() if isinstance(error, type)}
    for name in {name for _, _, name in KNOWN} | failures - {"refused"}:
        assert f"`{name}`" in text, name
