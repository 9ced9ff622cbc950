"""The whole application, `python app.py` and its serving layer, with a small model or a fake upstream."""

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app import endpoint_of
from assistant.engine import FAILED, Endpoint
from assistant.settings import read_settings
from tests.support.application import (
    APPLICATION,
    PATIENCE,
    Application,
    environment,
    is_alive,
    running,
    start,
    upstream,
    wait_for,
)
from tests.support.tiny_gguf import write_tiny_gguf

TEXT = "One two three four five six seven eight nine ten. " * 12

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="the tests look at processes in /proc")


@pytest.fixture(scope="module")
def talking_upstream() -> Iterator[str]:
    with upstream(TEXT) as url:
        yield url


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory, talking_upstream: str) -> Iterator[Application]:
    """An application that a test may kill, if it starts it again."""
    data = tmp_path_factory.mktemp("application")
    with running(data, "--upstream", talking_upstream, page=False) as application:
        application.wait_until("ready")
        yield application


def test_an_embedded_model_answers(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", context=8192)
    options = ("--model", str(model), "--threads", "1", "--max-new-tokens", "40")
    with running(tmp_path, *options, fresh=True) as application:
        chat = application.new_chat()
        text, end = application.answer(application.ask(chat, "How do I read a file?"))
        assert end["status"] == "done", end
        assert text
        reply = application.reply(chat)
        assert reply["content"] == text
        assert reply["provenance"]["model"] == "tiny.gguf"
        assert reply["provenance"]["tokens"]["answer"] <= 40
        assert application.client.get("/serving/info").status_code == 404


def test_an_interrupt_ends_everything_and_keeps_what_was_shown(tmp_path: Path, talking_upstream: str) -> None:
    # Started afresh, so that its page may still be loading.
    with running(tmp_path, "--upstream", talking_upstream, fresh=True) as application:
        application.wait_until("ready")
        chat = application.new_chat()
        shown = application.read_some(application.ask(chat, "q"), 30)
        child = application.serving_pid()
        assert application.end(signal.SIGINT) in (0, 130, -signal.SIGINT)
        assert not is_alive(child)
        application.start()
        reply = application.reply(chat)
        assert reply["status"] == "interrupted"
        assert reply["content"].startswith(shown)
        assert "Traceback" not in application.log, application.log


def test_killed_in_mid_answer_nothing_shown_is_missing(application: Application) -> None:
    chat = application.new_chat()
    reply_id = application.ask(chat, "q")
    shown = application.read_some(reply_id, 40)
    child = application.serving_pid()
    application.kill()
    wait_for(lambda: not is_alive(child))  # the serving layer does not outlive the application
    application.start()
    reply = application.reply(chat)
    assert (reply["status"], reply["finish_reason"]) == ("interrupted", None)
    assert reply["content"].startswith(shown)
    end = {"status": "interrupted", "finish_reason": None}
    assert application.answer(reply_id) == (reply["content"], end)
    application.wait_until("ready")
    assert application.answer(application.ask(chat, "again"))[0] == TEXT


def test_a_killed_serving_layer_fails_the_reply_and_the_next_one_works(application: Application) -> None:
    chat = application.new_chat()
    reply_id = application.ask(chat, "q")
    shown = application.read_some(reply_id, 40)
    os.kill(application.serving_pid(), signal.SIGKILL)
    text, end = application.answer(reply_id)
    assert text.startswith(shown)
    assert end["type"] == "engine_unreachable"
    assert application.reply(chat)["content"] == text
    assert application.answer(application.ask(chat, "again"))[0] == TEXT


def expect_refusal(application: Application, cause: str) -> None:
    """Expect that a question is refused and not stored, and that only the operator learns the cause."""
    told = application.client.get("/api/engine").json()
    assert (told["detail"], cause in told["cause"]) == (FAILED, True)
    assert cause in application.log
    others = application.client.get("/api/engine", headers={"X-Forwarded-For": "203.0.113.7"})
    assert (others.json()["detail"], others.json()["cause"]) == (FAILED, None)
    chat = application.new_chat()
    response = application.client.post(f"/api/conversations/{chat}/messages", json={"text": "q"})
    assert (response.status_code, response.json()["type"]) == (503, "no_model")
    assert response.json()["detail"] == FAILED
    assert application.client.get(f"/api/conversations/{chat}").json()["messages"] == []


def test_the_operator_learns_that_the_upstream_cannot_be_reached(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    with running(tmp_path, "--upstream", f"http://127.0.0.1:{unused_tcp_port}/v1", page=False) as application:
        application.wait_until("failed")
        expect_refusal(application, f"127.0.0.1:{unused_tcp_port}")


@pytest.mark.parametrize(
    "broken",
    [None, b"nonsense", b"GGUF" + b"\3\0\0\0" + b"\xff" * 64],
    ids=["missing", "no GGUF", "broken GGUF"],
)
def test_the_operator_learns_that_the_model_is_missing_or_broken(
    tmp_path: Path, broken: bytes | None
) -> None:
    model = tmp_path / "broken.gguf"
    if broken is not None:
        model.write_bytes(broken)
    with running(tmp_path, "--model", str(model), page=False) as application:
        application.wait_until("failed")
        expect_refusal(application, "broken.gguf")


def test_an_owner_outlives_a_restart_and_a_revoked_cookie_does_not(tmp_path: Path) -> None:
    with running(tmp_path, page=False) as application:
        chat = application.new_chat()
        revoked = dict(application.client.cookies)
        application.client.post("/api/me/revoke").raise_for_status()
        assert application.client.get("/ready").json()["engine"] == "none"
        application.end()
        application.start()
        assert application.client.get(f"/api/conversations/{chat}").status_code == 200
        for cookies in ({}, revoked):
            found = httpx.get(f"{application.address}/api/conversations/{chat}", cookies=cookies)
            assert found.status_code == 404


def test_only_the_owner_can_read_the_files_even_if_everybody_could_before(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    with running(data, page=False) as application:
        application.new_chat()
        names = {path.name for path in data.iterdir()}
        application.kill()  # a clean end would remove the database's log
        for path in data.iterdir():
            path.chmod(0o666)
        application.start()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
    assert {"tech-assistant.db", "tech-assistant.db-wal", "secret_key"} <= names
    assert modes == dict.fromkeys(names, 0o600)


def test_secrets_are_in_no_log_and_on_no_command_line(
    tmp_path: Path, talking_upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {f"TECH_ASSISTANT_{name}_KEY": f"canary-{name}-0123456789" for name in ("SECRET", "UPSTREAM")}
    monkeypatch.setattr("tests.support.application.environment", lambda: {**environment(), **secrets})
    options = ("--upstream", talking_upstream)
    with running(tmp_path / "data", *options, page=False, fresh=True) as application:
        application.wait_until("ready")
        chat = application.new_chat()
        reply = application.ask(chat, "q")
        application.read_some(reply, 40)
        assert application.process is not None
        pids = [application.process.pid, application.serving_pid()]
        commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]
        os.kill(pids[1], signal.SIGKILL)
        failure = application.answer(reply)[1]
        wait_for(lambda: "the serving process ended" in application.log)
        answers = [
            application.client.get(path).text
            for path in ("/ready", "/api/engine", f"/api/conversations/{chat}")
        ]
    said = "\n".join([*commands, application.log, str(failure), *answers])
    assert str(tmp_path) in said
    assert [name for name, secret in secrets.items() if secret in said] == []
    assert not [path for path in (tmp_path / "data").iterdir() if b"canary" in path.read_bytes()]


@pytest.mark.parametrize(("url", "key"), [("http://x", "k" * 16), ("http://me:secret@x", None)])
def test_an_address_with_a_password_takes_the_place_of_the_key(url: str, key: str | None) -> None:
    settings = read_settings(["--serving-url", url, "--serving-key", "k" * 16, "--expose-serving"])
    endpoint = endpoint_of(settings, None)
    assert endpoint is not None
    assert endpoint() == Endpoint(url, key)


def test_a_start_that_fails_prints_the_reason_without_a_traceback(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        running(tmp_path / "data", page=False) as application,
    ):
        port = str(taken.getsockname()[1])
        for arguments, words in (
            (["--port", port, "--data", str(tmp_path / "other")], "--port 0 takes a free one"),
            (["--port", "0", "--data", str(application.data)], "Another Tech Assistant is using"),
            (["--upstream", "nonsense"], "--upstream: must be an address"),
            (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        ):
            with (log := tmp_path / "log").open("w") as errors:
                started = start("app", *arguments, imports=APPLICATION, errors=errors)
            with started.stdout:
                assert started.wait(PATIENCE) == 2
            assert words in log.read_text()
            assert "Traceback" not in log.read_text()
