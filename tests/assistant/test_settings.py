import errno
import stat
import sys
from pathlib import Path

import pytest

from assistant.settings import BadSettings, read_settings, secret_keys


def test_a_setting_comes_from_the_command_line_then_the_environment_then_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("TECH_ASSISTANT_PORT=1111\nTECH_ASSISTANT_HOST=0.0.0.0\n")
    assert read_settings([]).port == 1111
    monkeypatch.setenv("TECH_ASSISTANT_PORT", "2222")
    assert read_settings([]).port == 2222
    assert read_settings(["--port", "3333"]).port == 3333
    assert read_settings([]).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "x"], "--port"),
        (["--port", "70000"], "--port"),
        (["--upstream", "localhost:8000"], "--upstream: must be an address"),
        (["--upstream", "http://x/v1", "--upstream", "y"], "--upstream: must be an address"),
        (["--upstream", ""], "--upstream: must be an address"),
        (["--upstream", "http://[::1"], "--upstream: must be an address"),
        (["--upstream", "http://me:pass/word@x"], "--upstream: must be an address"),
        (["--expose-serving"], "TECH_ASSISTANT_SERVING_KEY"),
        (["--expose-serving", "--serving-key", "s" * 15], "at least 16"),
        (["--expose-serving", "--serving-key", "s" * 16 + " "], "without blanks"),
        (
            ["--expose-serving", "--serving-key", "s" * 16, "--model", "none", "--no-documentation"],
            "nothing can answer",
        ),
        (["--serving-url", "ftp://x"], "--serving-url: must be an address"),
        (["--model", "a.gguf", "--upstream", "http://x/v1"], "--model and --upstream exclude each other"),
        (["--model", "auto", "--serving-url", "http://x"], "--model and --serving-url exclude each other"),
        (["--docs", "nowhere"], "--docs: there is no folder"),
        (["--docs", ".=ftp://x"], "--docs: must be an address"),
        (["--packages", "nowhere"], "--packages: there is no interpreter"),
        (["--upstream-model", "m"], "--upstream-model needs --upstream"),
        (["--chat-template", "nowhere.jinja"], "there is no file"),
        (["--chat-template", sys.executable], "cannot be read"),
        (["--chat-template", "x" * 300], "there is no file"),
        (["--docs", "x" * 300], "there is no folder"),
        (["--docs", "~nobody-of-this-name"], "there is no folder"),
        (["--packages", "x" * 300], "there is no interpreter"),
        (["--temperature", "-1"], "--temperature"),
        (["--prompt", "other"], "--prompt"),
        (["--proxies", "proxy.example"], "--proxies: 'proxy.example' does not appear to be an IPv4"),
        (["--proxies", "127.0.0.1,10.0.0.1/8"], "--proxies: 10.0.0.1/8 has host bits set"),
        (["--proxies", "*"], "--proxies"),
    ],
)
def test_the_message_names_the_wrong_setting(arguments: list[str], message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        read_settings(arguments)


def test_unknown_settings_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="TECH_ASSISTANT_MODLE"):
        read_settings([], {"TECH_ASSISTANT_MODLE": "x"})
    with pytest.raises(SystemExit):
        read_settings(["--modle", "x"])
    (tmp_path / ".env").write_text("TECH_ASSISTANT_MODLE=x\n")
    with pytest.raises(BadSettings, match="no such setting"):
        read_settings([])


@pytest.mark.parametrize("name", ["secret-key", "upstream-key"])
def test_secrets_are_no_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([f"--{name}", "s" * 20], [f"--{name}={'s' * 20}"]):
        with pytest.raises(BadSettings, match=f"--{name}: secrets come from the environment") as refused:
            read_settings(arguments)
        assert "s" * 20 not in str(refused.value)
    for arguments in ([f"--{name.replace('-', '_')}", "s" * 20], [f"--{name[:-1]}", "s" * 20], ["--help"]):
        with pytest.raises(SystemExit):
            read_settings(arguments)
    assert name not in capsys.readouterr().out


def test_the_key_of_the_serving_layer_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "canary-0123456789"
    settings = read_settings(["--expose-serving", "--serving-key", key])
    monkeypatch.setenv("TECH_ASSISTANT_SERVING_KEY", key)
    for given in (settings, read_settings(["--expose-serving"])):
        assert given.expose_serving
        assert given.serving_key is not None
        assert given.serving_key.get_secret_value() == key
        assert key not in f"{given!r} {given} {given.engine_arguments}"
    with pytest.raises(BadSettings) as refused:
        read_settings(["--expose-serving", "--serving-key", key + " "])
    assert key not in str(refused.value)
    with pytest.raises(SystemExit):
        read_settings(["--help"])
    printed = capsys.readouterr().out
    assert key not in printed
    assert "TECH_ASSISTANT_SERVING_KEY" in printed


@pytest.mark.parametrize("name", ["connect", "first", "between", "total"])
def test_the_serving_layer_gets_the_time_limits(name: str) -> None:
    for engine in ("--model", "m.gguf"), ("--upstream", "http://x/v1"):
        arguments = read_settings([*engine, f"--{name}-seconds", "0.5"]).engine_arguments
        assert arguments is not None
        assert arguments[arguments.index(f"--{name}-seconds") + 1] == "0.5"
    for wrong in ("0", "-1", "inf", "nan", "soon"):
        with pytest.raises(BadSettings, match=f"--{name}-seconds"):
            read_settings([f"--{name}-seconds", wrong])


def test_the_arguments_of_the_serving_layer(tmp_path: Path) -> None:
    seconds = ["--connect-seconds", "5", "--first-seconds", "120", "--between-seconds", "30"]
    prefixes = ["--prefix-cache", str(tmp_path / "data" / "prefixes"), *seconds, "--total-seconds", "1800"]
    models = ["--models", str(tmp_path / "data" / "models"), *prefixes]

    def arguments(*given: str) -> list[str] | None:
        return read_settings([*given, "--data", str(tmp_path / "data")]).engine_arguments

    assert arguments() == ["--model", "auto", *models]
    assert arguments("--offline") == ["--model", "auto", *models, "--offline"]
    assert arguments("--model", "None") is None
    assert arguments("--serving-url", "http://x") is None
    assert arguments("--model", "m.gguf", "--threads", "1") == [
        *("--model", str(tmp_path / "m.gguf")),
        *models,
        *("--threads", "1"),
    ]
    for name in ("starcoder2-3b", "Qwen/Some-GGUF:some.gguf"):
        assert arguments("--model", name) == ["--model", name, *models]
    given = arguments("--upstream", "http://x/v1/", "--upstream", "http://y/v1", "--upstream-model", "m")
    upstreams = ["--upstream", "http://x/v1", "--upstream", "http://y/v1"]
    assert given == [*upstreams, "--upstream-model", "m", *prefixes]


def test_a_model_name_may_be_longer_than_any_file_name() -> None:
    assert read_settings(["--model", "x" * 300]).model == "x" * 300


def test_a_file_wins_over_a_catalogue_name(tmp_path: Path) -> None:
    (tmp_path / "owner").mkdir()
    for name in ("starcoder2-3b", "owner/repo:file.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
        assert read_settings(["--model", name]).model == str(tmp_path / name)


def test_model_none_goes_with_an_upstream_and_empty_variables_count_as_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TECH_ASSISTANT_MODEL", "none")
    assert read_settings(["--upstream", "http://x/v1"]).upstream == ("http://x/v1",)
    monkeypatch.setenv("TECH_ASSISTANT_UPSTREAM", "http://x/v1, http://y/v1/")
    assert read_settings([]).upstream == ("http://x/v1", "http://y/v1")
    monkeypatch.delenv("TECH_ASSISTANT_UPSTREAM")
    monkeypatch.setenv("TECH_ASSISTANT_MODEL", "")
    assert read_settings([]).model == "auto"


def test_folders_of_documentation_come_from_repeated_options_or_from_one_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c=d"):
        (tmp_path / name).mkdir()
    found = (f"{tmp_path}/a", f"{tmp_path}/b=https://x.org/guide", f"{tmp_path}/c=d")
    given = ["a", "b=https://x.org/guide/", "c=d"]
    assert read_settings([part for docs in given for part in ("--docs", docs)]).docs == found
    monkeypatch.setenv("TECH_ASSISTANT_DOCS", ", ".join(given))
    assert read_settings([]).docs == found
    monkeypatch.setenv("TECH_ASSISTANT_PACKAGES", "a,b")
    assert read_settings([]).packages == (tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("arguments", "may"),
    [
        ([], True),
        (["--host", "::1"], True),
        (["--host", "localhost"], True),
        (["--host", "0.0.0.0"], False),
        (["--host", "assistant.example"], False),
        (["--allowed-hosts", "assistant.example"], False),
    ],
)
def test_visitors_are_operators_only_where_nobody_else_can_reach_the_page(
    arguments: list[str], may: bool
) -> None:
    assert read_settings(arguments).may_manage is may


def test_the_key_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    settings = read_settings(["--data", str(tmp_path / "data")])
    key = secret_keys(settings)
    assert secret_keys(settings) == key
    assert stat.S_IMODE((tmp_path / "data" / "secret_key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret_key"]


def test_an_existing_key_is_read_without_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings(["--data", str(tmp_path)])
    key = secret_keys(settings)

    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.open", no_room)
    assert secret_keys(settings) == key


def test_a_damaged_key_is_an_error(tmp_path: Path) -> None:
    settings = read_settings(["--data", str(tmp_path)])
    (tmp_path / "secret_key").write_text("")
    with pytest.raises(BadSettings, match="damaged"):
        secret_keys(settings)


def test_keys_from_the_environment_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = "s" * 20, "t" * 16
    for given, keys in ((first, (first,)), (f"{first}, {second}", (first, second))):
        monkeypatch.setenv("TECH_ASSISTANT_SECRET_KEY", given)
        settings = read_settings(["--data", str(tmp_path)])
        assert secret_keys(settings) == tuple(key.encode() for key in keys)
        assert first not in repr(settings)
    for wrong in ("short", f"{first},short", f"{first},", f"{first},,{second}"):
        monkeypatch.setenv("TECH_ASSISTANT_SECRET_KEY", wrong)
        with pytest.raises(BadSettings, match="16") as refused:
            secret_keys(read_settings([]))
        assert first not in str(refused.value)


def test_a_data_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match="--data"):
        secret_keys(read_settings(["--data", str(tmp_path / "file" / "data")]))
