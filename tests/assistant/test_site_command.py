import re
import shlex
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from assistant.host_users import host_user
from assistant.site_command import main
from assistant.sites import SiteLimits, Sites, hash_of
from tests.test_imports import ROOT

ORIGIN = "https://docs.example.org"


class Command:
    """`python -m assistant site`, and what it has printed."""

    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data = data
        self.sites = Sites(data / "sites")
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        code = main(["site", *arguments, "--data", str(self.data)])
        out, error = self._capsys.readouterr()
        assert (code, error) == (0, ""), error
        return str(out)

    def refused(self, *arguments: str) -> str:
        code = main(["site", *arguments, "--data", str(self.data)])
        out, error = self._capsys.readouterr()
        assert (code, out) == (2, "")
        assert "Traceback" not in error
        return str(error)


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.delenv("TECH_ASSISTANT_DATA", raising=False)
    return Command(tmp_path / "data", capsys)


def test_a_site_is_added_shown_changed_and_removed(site: Command, tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    docs = f"{tmp_path / 'guide'}=https://docs.example.org/guide/"
    said = site(
        *("add", "My docs", "--origin", "https://Docs.Example.org/", "--origin", "https://*.example.com"),
        *("--docs", docs, "--no-model", "--tone", "Be brief.", "--suggestion", "How?", "--keep-days", "30"),
        *("--limit", "visitor-minute=3", "--text", "send=Go", "--server", "https://chat.example.org/"),
    )
    (one,) = site.sites.all()
    assert (
        f'<script src="https://chat.example.org/widget/v1.js" data-site="{one.key}" async></script>' in said
    )
    assert f'<iframe src="https://chat.example.org/widget/{one.key}"' in said
    assert re.search(r"sha384-[\w+/]{64}\s", said)
    (secret,) = re.findall(r"shown only now:\n\n +(\S{40,})\n", said)
    assert one.report_secret_hash == hash_of(secret)
    assert (one.name, one.origins) == ("My docs", (ORIGIN, "https://*.example.com"))
    assert (one.docs, one.uses_model, one.tone, one.suggestions) == ((docs,), False, "Be brief.", ("How?",))
    assert (one.keep_days, one.limits.visitor_minute, dict(one.texts)) == (30, 3, {"send": "Go"})
    assert one.limits.visitor_day > 3
    assert site("list").split() == [one.key, "My", "docs", ORIGIN, "https://*.example.com"]
    shown = site("show", one.key)
    assert "keep-days:      30\n" in shown
    assert one.report_secret_hash not in shown

    site(
        *("set", one.key, "--model", "--suggestion", "", "--keep-days", "for-ever", "--limit", "site-day=7"),
        *("--text", "send=", "--text", "stop=Halt", "--colour", "#AA00ff", "--language", "de"),
    )
    (changed,) = site.sites.all()
    assert (changed.uses_model, changed.suggestions, changed.keep_days) == (True, (), None)
    assert (changed.limits.site_day, changed.limits.visitor_minute) == (7, 3)
    assert (dict(changed.texts), changed.colour, changed.language) == ({"stop": "Halt"}, "#aa00ff", "de")
    assert (changed.origins, changed.docs, changed.tone) == (one.origins, one.docs, one.tone)

    assert "Its chats are deleted for good" in site("remove", one.key)
    assert (site("list"), site.sites.removed()) == ("", [one.key])


def test_keys_and_secrets_are_shown_once_and_can_be_replaced(site: Command) -> None:
    first = re.findall(r"\n    (\S{40,})\n", site("add", "a", "--origin", ORIGIN, "--new-identity-key"))[-1]
    (one,) = site.sites.all()
    assert one.identity_keys == (first,)
    second = re.findall(r"\n    (\S{40,})\n", site("set", one.key, "--new-identity-key"))[0]
    third = re.findall(r"\n    (\S{40,})\n", site("set", one.key, "--new-identity-key"))[0]
    assert site.sites.existing(one.key).identity_keys == (third, second)
    assert not {first, second, third} & set(site("show", one.key).split())
    site("set", one.key, "--drop-old-identity-key")
    assert site.sites.existing(one.key).identity_keys == (third,)
    site("set", one.key, "--no-identity")
    assert site.sites.existing(one.key).identity_keys == ()
    (secret,) = re.findall(r"\n    (\S{40,})\n", site("set", one.key, "--new-report-secret"))
    assert site.sites.existing(one.key).report_secret_hash == hash_of(secret)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (site.data / "sites").glob("*.json")}
    assert modes == {0o600}


def test_what_is_wrong_is_said_and_changes_nothing(site: Command, tmp_path: Path) -> None:
    site("add", "a", "--origin", ORIGIN)
    (one,) = site.sites.all()
    for words, arguments in {
        "There is no site 'nonsense'": ("show", "nonsense"),
        "site list": ("remove", "a" * 16),
        "nothing to change": ("set", one.key),
        "--origin: must be an origin": ("set", one.key, "--origin", "docs.example.org"),
        "a wildcard must be": ("set", one.key, "--origin", "https://*.org"),
        "--docs: there is no folder": ("set", one.key, "--docs", str(tmp_path / "nowhere")),
        "--limit: there is no 'x'": ("set", one.key, "--limit", "x=3"),
        "must be NAME=NUMBER": ("set", one.key, "--limit", "site-day"),
        "--limit site-day: ": ("set", one.key, "--limit", "site-day=many"),
        "--colour: ": ("set", one.key, "--colour", "red"),
        "--keep-days: ": ("set", one.key, "--keep-days", "0"),
        "--docs-from: must be an address": ("set", one.key, "--docs-from", "file:///etc/passwd"),
        "--refresh: ": ("set", one.key, "--refresh", "0"),
        "--allow-private-host: ": ("set", one.key, "--allow-private-host", "a b"),
        "has no address to fetch from": ("refresh", one.key),
        "--name: ": ("set", one.key, "--name", " "),
        "--text: ": ("set", one.key, "--text", "<b>=x"),
    }.items():
        assert words in site.refused(*arguments), arguments
    assert site.sites.all() == [one]


def test_the_document_works_word_for_word(site: Command, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "embed.md").read_text(encoding="utf-8")
    start = ".venv/bin/python -m assistant site "
    lines = [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)]
    adding, *others = [
        line.replace("/srv/docs", str(tmp_path)) for line in lines if "--docs-from" not in line
    ]
    said = site(*shlex.split(adding), "--server", "https://assistant.example.org")
    (one,) = site.sites.all()
    (pasted,) = re.findall(r"^<script src.*$", text, re.MULTILINE)
    assert pasted.replace("KEY", one.key) in said
    managing = [shlex.split(line.replace("KEY", one.key)) for line in others if not line.startswith("report")]
    assert [command[0] for command in managing] == ["list", "show", "set", "remove"]
    *before, removing = managing
    for command in before:
        assert one.key in site(*command)
    # Sign your user in: the command in the first step, and the server's code in the second.
    (command,) = re.findall(rf"`{re.escape(start)}(set KEY --new-identity-key)`", text)
    (key,) = re.findall(r"\S{32,}", site(*command.replace("KEY", one.key).split()))
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    server: dict[str, Any] = {"SITE_KEY": one.key, "IDENTITY_KEY": key}
    exec(code, server)
    assert host_user(site.sites.existing(one.key), server["token_for"]("ada"))
    site(*removing)
    assert site.sites.all() == []


def test_the_document_names_every_option_and_limit(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "embed.md").read_text(encoding="utf-8")
    known = set()
    for command in ("add", "list", "show", "refresh", "set", "remove", "report"):
        with pytest.raises(SystemExit):
            main(["site", command, "--help"])
        known |= set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    named = set(re.findall(r"--[a-z][a-z-]*", text))
    assert known - named == {"--help"}
    of_the_application = {"--allowed-hosts", "--proxies", "--demo-widget"}
    of_fetch = {"--most-pages", "--most-seconds", "--pause"}
    assert named - known <= of_the_application | of_fetch
    usual = asdict(SiteLimits())
    rows = re.findall(r"^\| (`[a-z, `-]+`) \| ([0-9, ]+) \|", text, re.MULTILINE)
    told = {
        name: int(number.replace(",", ""))
        for names, numbers in rows
        for name, number in zip(re.findall(r"[a-z-]+", names), numbers.split(", "), strict=True)
    }
    assert told == {name.replace("_", "-"): number for name, number in usual.items()}
