"""`python -m serving.models.download`, as a process of its own, with a hub that fails in every way."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from huggingface_hub import close_session, constants

from serving.models import download
from serving.models.download import CHUNK, DownloadFailed
from tests.serving.conftest import PATIENCE, ROOT
from tests.support.fake_hub import FakeHub
from tests.support.small_disk import SmallDisk, small_disk

REPO, FILE = "Maker/Model-GGUF", "model-q4_k_m.gguf"
CONTENT = b"GGUF" + random.Random(7).randbytes(400_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
PART = f"{FILE}.{HASH[:16]}.part"
TERMS = {"X-Error-Code": "GatedRepo"}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub().running() as hub:
        hub.add(REPO, FILE, CONTENT)
        yield hub


class Result(NamedTuple):
    code: int
    messages: list[dict[str, Any]]

    @property
    def failure(self) -> str:
        return str(self.messages[-1]["failed"])


Begin = Callable[..., "subprocess.Popen[str]"]
Fetch = Callable[..., Result]


@pytest.fixture
def fetch(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Fetch]:
    """Runs the program inside this process, with pauses a hundred times shorter."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds / 100))
    monkeypatch.setattr(download, "_exit_with_stdin", lambda: None)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_VERBOSITY"):
        monkeypatch.setenv(name, "")  # restored after the program has set it

    def fetch(
        file: str = FILE,
        *,
        repo: str = REPO,
        models: Path | None = None,
        options: tuple[str, ...] = (),
        endpoint: str = hub.url,
    ) -> Result:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        code = download.main([repo, file, str(models or tmp_path / "models"), *options])
        return Result(code, [json.loads(line) for line in capsys.readouterr().out.splitlines()])

    yield fetch
    close_session()


@pytest.fixture
def begin(hub: FakeHub, tmp_path: Path) -> Iterator[Begin]:
    """Starts the program."""
    started: list[subprocess.Popen[str]] = []

    def begin(models: Path | None = None, **variables: str) -> subprocess.Popen[str]:
        folder = str(models or tmp_path / "models")
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.models.download", REPO, FILE, folder],
            cwd=ROOT,
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def end(process: subprocess.Popen[str]) -> Result:
    assert process.stdout is not None
    messages = [json.loads(line) for line in process.stdout]
    return Result(process.wait(PATIENCE), messages)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "models" / REPO / FILE


def test_a_file_is_fetched_and_its_progress_reported(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    found = fetch()
    assert (found.code, found.messages[-1]) == (0, {"path": str(path)})
    assert path.read_bytes() == CONTENT
    assert [other.name for other in path.parent.iterdir()] == [FILE]
    assert found.messages[0] == {"bytes": len(CONTENT), "received": 0}
    assert found.messages[-2] == {"bytes": len(CONTENT), "received": len(CONTENT)}


def test_an_existing_file_is_not_fetched_again(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF mine")
    assert fetch().messages[-1] == {"path": str(path)}
    assert (path.read_bytes(), hub.asked) == (b"GGUF mine", [])


def test_after_a_broken_connection_only_the_rest_is_fetched(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    hub.cuts = [2 * CHUNK, 0, CHUNK]
    assert fetch().code == 0
    assert path.read_bytes() == CONTENT
    assert hub.sent == len(CONTENT)
    ranges = [asked.headers.get("range") for asked in hub.asked_of("storage")]
    assert ranges == [None, f"bytes={2 * CHUNK}-", f"bytes={2 * CHUNK}-", f"bytes={3 * CHUNK}-"]


def begin_held(begin: Begin, hub: FakeHub, models: Path | None = None) -> subprocess.Popen[str]:
    """A download that has received two chunks and gets no more until the gate opens."""
    hub.gate.clear()
    hub.gate_at = 2 * CHUNK
    process = begin(models)
    assert hub.reached.wait(PATIENCE)
    return process


def assert_fetched(fetch: Fetch, path: Path, content: bytes = CONTENT) -> None:
    assert fetch().code == 0
    assert path.read_bytes() == content


def test_a_killed_download_is_continued(begin: Begin, hub: FakeHub, path: Path) -> None:
    process = begin_held(begin, hub)
    wait_until_written(path, 2 * CHUNK)
    process.kill()
    process.wait()
    assert not path.exists()
    hub.gate.set()
    assert end(begin()).code == 0
    assert path.read_bytes() == CONTENT
    assert hub.asked_of("storage")[-1].headers["range"] == f"bytes={2 * CHUNK}-"


def wait_until_written(path: Path, size: int) -> None:
    waited = threading.Event()
    while sum(part.stat().st_size for part in path.parent.glob("*.part")) < size:
        waited.wait(0.01)


def test_it_exits_with_its_standard_input(begin: Begin, hub: FakeHub) -> None:
    process = begin_held(begin, hub)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE) == 1


def test_a_server_without_ranges_sends_the_whole_file_again(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    hub.cuts, hub.ignores_ranges = [100_000], True
    assert_fetched(fetch, path)


def test_an_incomplete_file_of_another_version_is_removed(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    hub.cuts = [CHUNK] + [0] * 99
    assert fetch().code == 1
    hub.cuts = []
    hub.add(REPO, FILE, newer := b"GGUF" + bytes(1000))
    assert_fetched(fetch, path, newer)
    assert [other.name for other in path.parent.iterdir()] == [FILE]


def test_a_damaged_file_is_fetched_once_more(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    hub.damaged = 1
    assert_fetched(fetch, path)
    assert hub.sent == 2 * len(CONTENT)


def test_what_comes_damaged_twice_is_removed_and_said(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    hub.damaged = 2
    found = fetch()
    assert "SHA-256 is wrong" in found.failure
    assert list(path.parent.iterdir()) == []


def test_a_file_with_another_hash_than_the_known_one_is_not_fetched(fetch: Fetch, hub: FakeHub) -> None:
    assert "another file" in fetch(options=("--sha256", "0" * 64)).failure
    assert hub.sent == 0
    assert fetch(options=("--sha256", HASH)).code == 0


def test_without_a_hash_the_size_counts(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    hub.tells_hash = False
    assert_fetched(fetch, path)


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_file_larger_than_said_is_not_fetched(fetch: Fetch, hub: FakeHub, path: Path, size: int) -> None:
    hub.add(REPO, FILE, bytes(64 << 20))  # more than any buffer on the way holds
    hub.says = {"X-Linked-Size": str(size)}
    assert "sends more bytes than it said" in fetch().failure
    assert hub.sent < 48 << 20  # of three tries together
    assert max(part.stat().st_size for part in path.parent.iterdir()) <= size


def test_an_incomplete_file_with_wrong_bytes_is_fetched_again(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    part = path.with_name(PART)
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:150_000])
    hub.confuses_ranges = True
    assert_fetched(fetch, path)


ODD = {
    "X-Repo-Commit": [None],
    "X-Linked-Etag": [None],
    "X-Linked-Size": [None, "-5", "0"],
    "Location": ["http://[bad", "http://\x7f/"],
}


@pytest.mark.parametrize("says", [{name: value} for name, values in ODD.items() for value in values])
def test_a_server_that_is_no_hub_is_named(
    fetch: Fetch, hub: FakeHub, path: Path, says: dict[str, str | None]
) -> None:
    hub.says = says
    assert "does not answer like a hub of models" in fetch().failure
    assert (path.exists(), hub.sent) == (False, 0)


def test_a_link_in_place_of_a_file_is_replaced(
    fetch: Fetch, hub: FakeHub, path: Path, tmp_path: Path
) -> None:
    (elsewhere := tmp_path / "elsewhere").write_text("precious")
    path.parent.mkdir(parents=True)
    path.with_name(PART).symlink_to(elsewhere)
    assert fetch().code == 0
    assert (path.read_bytes(), path.is_symlink()) == (CONTENT, False)
    assert elsewhere.read_text() == "precious"


def test_the_incomplete_file_of_another_file_is_kept(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    path.parent.mkdir(parents=True)
    (other := path.with_name(f"{FILE}.other.gguf.abc.part")).write_bytes(b"GGUF")
    found = fetch()
    assert found.messages[0] == {"bytes": len(CONTENT), "received": 0}
    assert other.read_bytes() == b"GGUF"


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, TERMS), "Accept them at {url}/" + REPO + ", set HF_TOKEN"),
        ((401, TERMS), "Accept them at {url}/" + REPO + ", set HF_TOKEN"),
        ((401, {}), "does not give " + REPO + " to this machine (401)"),
        ((403, {}), "does not give " + REPO + " to this machine (403)"),
        ((404, {"X-Error-Code": "RepoNotFound"}), "Did you mean " + FILE),
        ((400, {}), "refused " + REPO + " (400)"),
    ],
)
def test_a_refusal_names_the_next_step(
    fetch: Fetch, hub: FakeHub, refusal: tuple[int, dict[str, str]], message: str
) -> None:
    hub.refusals = [refusal]
    found = fetch()
    assert message.format(url=hub.url) in found.failure
    assert (found.code, hub.sent) == (1, 0)


def test_an_unknown_file_is_refused_with_similar_names(fetch: Fetch, hub: FakeHub) -> None:
    hub.add(REPO, "README.md", b"")
    assert fetch("model-q4-k-m.gguf").failure == f"{REPO} has no file model-q4-k-m.gguf. Did you mean {FILE}?"


def test_a_message_is_never_too_long(fetch: Fetch, hub: FakeHub) -> None:
    hub.add(REPO, "x" * 100_000 + ".gguf", b"GGUF")
    assert f"{REPO} has no file other.gguf" in (failure := fetch("other.gguf").failure)
    assert len(failure) <= 2000


def test_an_unknown_repository_is_refused(fetch: Fetch, hub: FakeHub) -> None:
    assert "No/Model" in fetch(repo="No/Model").failure
    hub.refusals = [(404, {"X-Error-Code": "RepoNotFound"})]
    assert "There is no repository No/Model" in fetch(repo="No/Model").failure


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_with_a_problem_is_asked_again(fetch: Fetch, hub: FakeHub, path: Path, status: int) -> None:
    hub.refusals = [(status, {"Retry-After": "0"})] * 2
    assert_fetched(fetch, path)
    path.unlink()
    hub.refusals = [(status, {})] * 9
    assert f"({status})" in fetch().failure
    assert len(hub.refusals) == 6


def test_a_silent_storage_is_asked_again(begin: Begin, hub: FakeHub, path: Path) -> None:
    hub.silent = 1
    assert end(begin(HF_HUB_DOWNLOAD_TIMEOUT="1")).code == 0
    assert path.read_bytes() == CONTENT


def test_an_unreachable_hub_is_named(fetch: Fetch, unused_tcp_port: int, path: Path) -> None:
    found = fetch(endpoint=f"http://127.0.0.1:{unused_tcp_port}")
    assert f"127.0.0.1:{unused_tcp_port} cannot be reached" in found.failure
    assert "--model FILE.gguf" in found.failure


def test_received_bytes_are_kept_when_the_hub_disappears(fetch: Fetch, hub: FakeHub, path: Path) -> None:
    hub.cuts = [3 * CHUNK] + [0] * 99
    assert "197 kB have arrived and are kept" in fetch().failure
    hub.cuts = []
    assert fetch().code == 0
    assert hub.sent == len(CONTENT)


def test_the_token_goes_to_the_hub_alone(begin: Begin, hub: FakeHub) -> None:
    assert end(begin(HF_TOKEN="hf_canary")).code == 0
    assert {asked.headers.get("authorization") for asked in hub.asked_of("hub")} == {"Bearer hf_canary"}
    assert {asked.headers.get("authorization") for asked in hub.asked_of("storage")} == {None}


def test_a_password_for_the_hub_is_in_no_message(fetch: Fetch, hub: FakeHub) -> None:
    endpoint = hub.url.replace("//", "//ann:canary@")
    for status in (400, 401, 404):
        hub.refusals = [(status, {})]
        failure = fetch(endpoint=endpoint).failure
        assert "canary" not in failure
        assert hub.url.removeprefix("http://") in failure or FILE in failure
    assert fetch(endpoint=endpoint).code == 0


def test_the_offline_setting_of_the_hub_is_respected(begin: Begin, hub: FakeHub) -> None:
    assert "HF_HUB_OFFLINE" in end(begin(HF_HUB_OFFLINE="1")).failure
    assert hub.asked == []


def test_two_at_once_fetch_one_file(begin: Begin, hub: FakeHub, path: Path) -> None:
    first = begin_held(begin, hub)
    second = begin()
    assert second.stdout is not None
    message = json.loads(second.stdout.readline())
    assert message["bytes"] is None  # it reports the progress of the first
    hub.gate.set()
    assert [end(process).code for process in (first, second)] == [0, 0]
    assert (path.read_bytes(), hub.sent) == (CONTENT, len(CONTENT))


def test_a_second_download_continues_when_the_first_is_killed(begin: Begin, hub: FakeHub, path: Path) -> None:
    first = begin_held(begin, hub)
    wait_until_written(path, 2 * CHUNK)
    second = begin()
    assert second.stdout is not None
    assert json.loads(second.stdout.readline()) == {"bytes": None, "received": 2 * CHUNK}
    first.kill()
    hub.gate.set()
    assert end(second).code == 0
    assert path.read_bytes() == CONTENT


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        yield disk


def test_a_full_disk_is_reported_before_the_download(fetch: Fetch, hub: FakeHub, disk: SmallDisk) -> None:
    disk.fill(leave=len(CONTENT))
    found = fetch(models=disk.path)
    assert "no room for the model" in found.failure
    assert f"{disk.path / REPO} has" in found.failure
    assert hub.sent == 0


def test_a_disk_that_fills_up_meanwhile_is_reported(begin: Begin, hub: FakeHub, disk: SmallDisk) -> None:
    process = begin_held(begin, hub, disk.path)
    wait_until_written(disk.path / REPO / FILE, 2 * CHUNK)
    disk.fill()
    hub.gate.set()
    assert "no room for the model" in end(process).failure
    disk.empty()
    assert end(begin(models=disk.path)).code == 0
    assert (disk.path / REPO / FILE).read_bytes() == CONTENT
    assert hub.sent < 2 * len(CONTENT)


def test_a_folder_that_cannot_be_written_is_reported(fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in fetch(models=tmp_path / "file").failure


@pytest.mark.parametrize(
    ("repo", "file"), [("../..", "x.gguf"), ("a/b", "../x.gguf"), ("a/b", "/x.gguf"), ("a/b", "x" * 300)]
)
def test_no_name_leaves_the_folder(repo: str, file: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="no file of a repository"):
        download.fetch(repo, file, tmp_path, lambda size, count: None)
    assert list(tmp_path.iterdir()) == []
