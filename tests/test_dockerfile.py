"""The Dockerfile agrees with the application and with .dockerignore. No image is built."""

import re

import pytest

from assistant.settings import read_settings
from tests.test_imports import OURS, ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_its_variables_ports_and_volumes_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = dict(re.findall(r"(TECH_ASSISTANT_\w+)=(\S+)", DOCKERFILE))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = read_settings([], variables)
    assert (settings.host, settings.port, str(settings.data)) == ("0.0.0.0", 7860, "/data")
    assert not settings.open_browser
    assert f"EXPOSE {settings.port}\n" in DOCKERFILE
    assert f"VOLUME {settings.data}\n" in DOCKERFILE


def test_the_build_context_has_what_is_copied_and_no_more() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert ignored[1] == "*"
    assert sent >= {name if (ROOT / name).is_dir() else f"{name}.py" for name in OURS}
    for names in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert set(names.split()) <= sent | {"."}
    assert not sent & {"tests", ".env", ".git", ".venv", "data"}
