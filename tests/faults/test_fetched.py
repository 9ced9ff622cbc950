"""The application while its model is being downloaded: nothing waits, and then the model takes over."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.application import Application, children, is_alive, running, wait_for
from tests.support.fake_hub import FakeHub
from tests.support.tiny_gguf import write_tiny_gguf

REPO, FILE = "Maker/Tiny-GGUF", "tiny.gguf"
HELD = 1 << 17  # bytes that the hub sends before its gate opens

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="the tests look at processes in /proc")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub().running() as hub:
        hub.add(REPO, FILE, write_tiny_gguf(tmp_path / "tiny.gguf", context=8192).read_bytes())
        hub.gate.clear()
        hub.gate_at = HELD
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        yield hub


@pytest.fixture
def application(hub: FakeHub, tmp_path: Path) -> Iterator[Application]:
    options = ("--model", f"{REPO}:{FILE}", "--threads", "1", "--max-new-tokens", "20")
    with running(tmp_path / "data", *options, page=False) as application:
        application.wait_until("fetching")
        wait_for(lambda: download(application)["received"] == HELD)
        yield application


def download(application: Application) -> dict[str, object]:
    return dict(application.client.get("/api/engine").json()["download"] or {"received": None})


def test_the_next_question_is_answered_by_the_model_that_has_come(
    application: Application, hub: FakeHub
) -> None:
    shown = download(application)
    assert shown["state"] == "running"
    assert shown["bytes"] == len(hub.files[f"{REPO}/{FILE}"])
    before = application.serving_pid()
    hub.gate.set()
    application.wait_until("ready")
    chat = application.new_chat()
    text, end = application.answer(application.ask(chat, "How do I read a file?"))
    assert (end["status"], bool(text)) == ("done", True)
    assert application.reply(chat)["provenance"]["model"] == FILE
    assert application.serving_pid() == before
    assert application.client.get("/api/engine").json()["download"] is None


def test_answers_of_the_documentation_that_are_under_way_end_as_they_began(
    hub: FakeHub, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    options = ("--model", f"{REPO}:{FILE}", "--threads", "1", "--max-new-tokens", "20", "--documentation")
    with (
        (data / "documentation.db.lock").open("w") as lock,
        running(data, *options, page=False) as application,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another build would; until it is over, questions wait
        application.wait_until("fetching")
        begun = {chat: application.ask(chat, "What does len do?") for chat in new_chats(application, 2)}
        hub.gate.set()
        application.wait_until("ready")
        assert {application.reply(chat)["status"] for chat in begun} == {"pending"}
        later = application.new_chat()
        application.answer(application.ask(later, "What does len do?"))
        fcntl.flock(lock, fcntl.LOCK_UN)
        for reply in begun.values():
            text, end = application.answer(reply)
            assert end.get("status") == "done", end
            assert "Return the number of items in a container." in text
        for chat in begun:
            assert application.reply(chat)["provenance"]["model"] == "documentation"
        assert application.reply(later)["provenance"]["model"] == FILE


def new_chats(application: Application, count: int) -> list[str]:
    return [application.new_chat() for _ in range(count)]


def test_declined_it_stays_declined_over_a_restart_and_goes_on_when_asked(
    application: Application, hub: FakeHub
) -> None:
    assert application.client.delete("/api/engine/download").status_code == 204
    wait_for(lambda: download(application)["state"] == "declined")
    application.end()
    hub.gate.set()
    asked = len(hub.asked)
    application.start()
    wait_for(lambda: download(application).get("state") == "offered")
    assert len(hub.asked) == asked
    assert application.client.post("/api/engine/download").status_code == 202
    application.wait_until("ready")
    assert hub.asked_of("storage")[-1].headers["range"] == f"bytes={HELD}-"


def test_killed_in_the_middle_the_next_start_fetches_the_rest(application: Application, hub: FakeHub) -> None:
    serving = application.serving_pid()
    (fetching,) = children(serving)
    application.kill()
    wait_for(lambda: not is_alive(serving) and not is_alive(fetching))  # neither outlives the application
    hub.gate.set()
    application.start()
    application.wait_until("ready")
    assert hub.asked_of("storage")[-1].headers["range"] == f"bytes={HELD}-"
