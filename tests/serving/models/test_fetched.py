"""A model that is fetched while the server runs: declined, continued, and loaded without a restart."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.child import ChildFailed, ServingChild
from serving.engine import DownloadState
from serving.engines.llama_cpp import LlamaCpp
from serving.models.catalogue import in_words, on_hub
from serving.models.fetched import BROKE_OFF, FetchedModel
from tests.serving.conftest import Served, eventually, serve
from tests.support.application import children, is_alive
from tests.support.fake_hub import FakeHub

REPO, FILE = "Maker/StarCoder-GGUF", "tiny.gguf"
MODEL = f"{REPO}:{FILE}"
SIZE = 1 << 17  # bytes that arrive before the gate


@pytest.fixture
def hub(tiny_model: Path) -> Iterator[FakeHub]:
    with FakeHub().running() as hub:
        hub.add(REPO, FILE, tiny_model.read_bytes())
        hub.gate.clear()
        hub.gate_at = SIZE
        yield hub


@contextlib.asynccontextmanager
async def started(hub: FakeHub, models: Path, *arguments: str, **variables: str) -> AsyncIterator[Served]:
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(models.parent / "home"), **variables}
    options = ("--models", str(models), "--threads", "1", *arguments)
    async with serve("--model", MODEL, *options, **variables) as served:
        yield served


async def held(served: Served) -> dict[str, Any]:
    """/info, once the download has reached the gate."""

    async def look() -> dict[str, Any] | None:
        _, info = await served.get("/info")
        return info if info["download"] and info["download"]["received"] == SIZE else None

    return await eventually(look)


@contextlib.asynccontextmanager
async def fetching(hub: FakeHub, models: Path) -> AsyncIterator[Served]:
    async with started(hub, models) as served:
        await held(served)
        yield served


async def steer(served: Served, method: str) -> int:
    async with served.http.request(method, f"{served.url}/download") as answer:
        return answer.status


async def test_it_listens_at_once_reports_progress_and_loads_the_model(hub: FakeHub, tmp_path: Path) -> None:
    async with started(hub, tmp_path / "models") as served:
        info = await held(served)
        size = len(hub.files[f"{REPO}/{FILE}"])
        assert info["state"] == "fetching"
        assert info["state_detail"] == f"Fetching tiny.gguf ({100 * SIZE // size} % of {in_words(size)})."
        licence, sizes = "bigcode-openrail-m", {"bytes": size, "received": SIZE}
        named = {"model": "tiny.gguf", "repo": REPO, "file": FILE, "licence": licence}
        assert info["download"] == {"state": "running", **named, **sizes}
        status, refused = await served.post("/generate", {"inputs": "x"})
        assert (status, refused["error"]) == (503, info["state_detail"])
        pid = served.process.pid
        hub.gate.set()
        info = await served.becomes("ready")
        assert (info["download"], info["license"]["must_accept"]) == (None, True)
        assert info["infilling"]["middle"] == "<fim_middle>"
        status, answer = await served.post("/generate", {"inputs": "x", "parameters": {"max_new_tokens": 3}})
        assert (status, bool(answer["generated_text"]), served.process.pid) == (200, True, pid)
        assert await steer(served, "POST") == 409
        assert await steer(served, "DELETE") == 409


async def test_a_declined_download_stops_at_once_and_can_be_continued(hub: FakeHub, tmp_path: Path) -> None:
    async with fetching(hub, tmp_path / "models") as served:
        assert await steer(served, "DELETE") == 204
        _, info = await served.get("/info")
        assert (info["state"], info["download"]["state"]) == ("none", "declined")
        assert info["download"]["received"] == SIZE
        assert "declined" in info["state_detail"]
        assert await steer(served, "DELETE") == 204
        hub.gate.set()
        assert await steer(served, "POST") == 202
        await served.becomes("ready")
    assert hub.asked_of("storage")[-1].headers["range"] == f"bytes={SIZE}-"


async def test_a_declined_download_is_only_offered_after_a_restart(hub: FakeHub, tmp_path: Path) -> None:
    async with fetching(hub, tmp_path / "models") as served:
        assert await steer(served, "DELETE") == 204
    asked = len(hub.asked)
    hub.gate.set()
    async with started(hub, tmp_path / "models") as served:
        _, info = await served.get("/info")
        assert (info["state"], info["download"]["state"]) == ("none", "offered")
        assert (info["download"]["received"], len(hub.asked)) == (SIZE, asked)
        assert await steer(served, "POST") == 202
        await served.becomes("ready")
    async with started(hub, tmp_path / "models") as served:  # the request has undone the decline
        await served.becomes("ready")


async def test_the_next_start_continues_a_killed_download(hub: FakeHub, tmp_path: Path) -> None:
    async with fetching(hub, tmp_path / "models") as served:
        os.kill(served.process.pid, signal.SIGKILL)
        await served.process.wait()
    hub.gate.set()
    async with started(hub, tmp_path / "models") as served:
        await served.becomes("ready")
    assert hub.asked_of("storage")[-1].headers["range"] == f"bytes={SIZE}-"


async def test_a_failed_download_is_reported_and_can_be_tried_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.gate.set()
    hub.refusals = [(403, {"X-Error-Code": "GatedRepo"})]
    async with started(hub, tmp_path / "models") as served:

        async def failed() -> dict[str, Any] | None:
            _, info = await served.get("/info")
            return info if info["download"]["state"] == "failed" else None

        info = await eventually(failed)
        assert info["state"] == "none"
        assert "Accept them at" in info["state_detail"]
        assert await steer(served, "POST") == 202
        await served.becomes("ready")


async def test_offline_uses_the_files_on_the_disk_and_asks_nobody(hub: FakeHub, tmp_path: Path) -> None:
    for option, variables in ((("--offline",), {}), ((), {"HF_HUB_OFFLINE": "1"})):
        async with started(hub, tmp_path / "models", *option, **variables) as served:
            _, info = await served.get("/info")
            assert (info["state"], info["download"]) == ("none", None)
            assert "There is no model on this machine" in info["state_detail"]
            assert await steer(served, "POST") == 409
    (path := tmp_path / "models" / REPO / FILE).parent.mkdir(parents=True)
    path.write_bytes(hub.files[f"{REPO}/{FILE}"])
    async with started(hub, tmp_path / "models", "--offline") as served:
        await served.becomes("ready")
    assert hub.asked == []


async def test_a_fetched_file_that_is_no_model_has_failed(hub: FakeHub, tmp_path: Path) -> None:
    hub.gate.set()
    hub.add(REPO, FILE, b"<html>a page</html>")
    async with started(hub, tmp_path / "models") as served:
        assert "is not a GGUF file" in (await served.becomes("failed"))["state_detail"]


@pytest.mark.parametrize("script", ["echo nonsense", "echo '[]'", "head -c 200000 /dev/zero", "exit 3"])
async def test_a_download_process_that_prints_nonsense_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    (program := tmp_path / "program").write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    fetched = FetchedModel(on_hub(REPO, FILE), tmp_path / "models", LlamaCpp)
    await fetched.start()

    async def failed() -> bool:
        return fetched.info.download is not None and fetched.info.download.state is DownloadState.FAILED

    await eventually(failed)
    assert fetched.info.state_detail == BROKE_OFF
    await fetched.close()


async def test_an_engine_that_fetches_nothing_says_so(tiny_model: Path) -> None:
    async with serve("--model", str(tiny_model), "--threads", "1") as served:
        assert await steer(served, "POST") == 409
        assert (await served.becomes("ready"))["license"] is None


async def test_ending_during_a_download_leaves_no_process(hub: FakeHub, tmp_path: Path) -> None:
    async with fetching(hub, tmp_path / "models") as served:
        (download,) = children(served.process.pid)
        served.process.terminate()
        await served.process.wait()

        async def gone() -> bool:
            return not is_alive(download)

        assert await eventually(gone)


async def test_a_wrong_name_is_refused_with_similar_names() -> None:
    child = ServingChild(["--model", "qwen2.5-coder-15b"])
    with pytest.raises(ChildFailed, match=r"did you mean qwen2\.5-coder-1\.5b"):
        await child.start()
    await child.stop()
