"""What the operator decides: options of the command line, else `TECH_ASSISTANT_*`, else a `.env` file.

Built once, frozen, handed down. A bad or unknown value fails at the start, with a sentence.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliSuppress, NoDecode, SettingsConfigDict, SettingsError

PREFIX = "TECH_ASSISTANT_"
# From the environment (or `.env`) alone: a command line is readable by everybody on the machine.
SECRETS = ("secret_key", "upstream_key")
# What clients may be asked to give: long enough not to be guessed, and fit for a header.
_KEY = re.compile(r"[!-~]{16,}")

# A file of a repository on the hub, OWNER/NAME:FILE.
_ON_THE_HUB = re.compile(r"[\w.-]+/[\w.-]+:[^:]+")
_HAS_URL = re.compile(r"(?P<path>.+?)=(?P<url>[A-Za-z][A-Za-z0-9+.-]*://.*)")


class BadSettings(ValueError):
    """The text says which setting is wrong and what it may be."""


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, a port that is no number
        is_address = False
    if not is_address:
        raise ValueError("must be an address such as http://127.0.0.1:8000")
    return value.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Tech Assistant: ask programming questions in the browser; a model that you host answers."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        cli_prog_name="app.py",
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_implicit_flags=True,
    )

    model: str = Field(
        "auto",
        description="the model of the embedded llama.cpp: a GGUF file, a name of the catalogue or REPO:FILE "
        "(fetched once), 'auto' (what suits this machine, fetched at the first start) or 'none'",
    )
    upstream: Annotated[tuple[HttpUrl, ...], NoDecode] = Field(
        (),
        description="a server that speaks OpenAI's protocol or TGI's, such as http://127.0.0.1:8000/v1; "
        "several times, and they share the work",
    )
    upstream_model: str | None = Field(None, description="the model's name there (default: its first)")
    serving_url: HttpUrl | None = Field(
        None, description="a serving layer (TGI protocol) that runs elsewhere"
    )
    expose_serving: bool = Field(
        False,
        description="let programs that have the key of the serving layer use it, at /serving/ (TGI protocol) "
        "and /v1/ (OpenAI protocol) of this server",
    )
    serving_key: SecretStr | None = Field(
        None,
        description="the key of the serving layer, for --serving-url and --expose-serving; better given as "
        f"{PREFIX}SERVING_KEY, since everybody on the machine can read a command line",
    )
    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(7860, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    data: Path = Field(
        Path(platformdirs.user_data_dir("tech-assistant", appauthor=False)),
        description="the directory of the database, keys and caches",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="names under which browsers may reach this server, separated by commas"
    )
    proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="addresses or networks of the proxies in front of this server, separated by commas; "
        "what they say about the client's address and HTTPS is believed",
    )
    offline: bool = Field(False, description="never use the network to fetch anything")
    documentation: bool = Field(True, description="answer from the documentation on this machine")
    docs: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="a folder of documentation to index as well, as PATH or PATH=URL; several times"
    )
    packages: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="a Python interpreter or environment whose packages to index as well; several times"
    )
    open_browser: bool = Field(True, description="open the page when there is a screen")

    prompt: Literal["auto", "tech-assistant", "chat"] = Field(
        "auto", description="how a conversation is put to the model: its own chat template or ours"
    )
    chat_template: Path | None = Field(
        None, description="a Jinja chat template that replaces the model's own"
    )
    max_new_tokens: int = Field(1024, ge=1, le=32768, description="the most tokens of one answer")
    temperature: float = Field(0.2, ge=0, le=5, description="0 always takes the likeliest token")
    top_p: float = Field(0.95, gt=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, le=5)
    max_replies: int = Field(256, ge=1, description="replies under way at once; more of them wait")
    max_waiting: int = Field(256, ge=0, description="replies that wait; more are refused with 429")
    connect_seconds: Seconds = Field(
        5.0, description="seconds that a connection to the model's server may take"
    )
    first_seconds: Seconds = Field(
        120.0,
        description="seconds that it may take to begin an answer; an embedded engine that computes nothing "
        "for so long is started again",
    )
    between_seconds: Seconds = Field(
        30.0, description="seconds that it may then be silent; after that the answer has broken off"
    )
    total_seconds: Seconds = Field(
        1800.0, description="seconds that a whole answer may take, however lively it is"
    )
    hang_seconds: Seconds = Field(
        30.0,
        ge=1,
        description="seconds that the serving layer may not answer at all before it is started again; twenty "
        "times as long while it loads a model",
    )
    context: int | None = Field(None, ge=256, description="tokens of context of the embedded engine")
    parallel: int | None = Field(None, ge=1, description="replies that the embedded engine computes at once")
    threads: int | None = Field(None, ge=1, description="threads of the embedded engine")

    # SECRETS. Suppressing keeps them out of `--help` and no more: `read_settings` refuses them as options.
    secret_key: CliSuppress[SecretStr | None] = None
    upstream_key: CliSuppress[SecretStr | None] = None

    @field_validator("model", mode="before")
    @classmethod
    def _model(cls, value: str | None) -> str:
        if value is None:  # what the command line makes of the word "None"
            return "none"
        if value.lower() in ("auto", "none"):
            return value.lower()
        return str(_whole(value)) if _is_file(value) else value

    @field_validator("allowed_hosts", "proxies", "docs", "packages", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            value = value.split(",")
        if isinstance(value, Sequence):
            return tuple(part.strip() for part in map(str, value) if part.strip())
        return value

    @field_validator("upstream", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _lower(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.lower() for name in value)

    @field_validator("proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(network)) for network in value)

    @field_validator("docs")
    @classmethod
    def _folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_folder, value))

    @field_validator("packages")
    @classmethod
    def _environments(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        # Not resolved: the interpreter of an environment is a link to one that knows nothing of it.
        paths = tuple(map(_whole, value))
        if missing := [path for path in paths if not os.path.exists(path)]:
            raise ValueError(f"there is no interpreter and no environment {missing[0]}")
        return paths

    @field_validator("data", "chat_template")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else _whole(value)

    @model_validator(mode="after")
    def _one_engine(self) -> Settings:
        given = [name for name in ("upstream", "serving_url") if getattr(self, name)]
        if "model" in self.model_fields_set and self.model != "none":
            given.insert(0, "model")
        if len(given) > 1:
            options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ValueError(f"{options} exclude each other: give one of them")
        if self.upstream_model is not None and not self.upstream:
            raise ValueError("--upstream-model needs --upstream")
        if self.chat_template is not None:
            if not os.path.isfile(self.chat_template):
                raise ValueError(f"--chat-template: there is no file {self.chat_template}")
            try:
                self.chat_template.read_text(encoding="utf-8")
            except (OSError, UnicodeError) as error:
                raise ValueError(f"--chat-template: {self.chat_template} cannot be read: {error}") from error
        return self

    @model_validator(mode="after")
    def _exposed(self) -> Settings:
        if not self.expose_serving:
            return self
        if self.engine_arguments is None and self.serving_url is None:
            raise ValueError("--expose-serving: with --model none there is no serving layer to expose")
        if self.serving_key is None or not _KEY.fullmatch(self.serving_key.get_secret_value()):
            raise ValueError(
                "--expose-serving needs a key that its clients must give: set "
                f"{PREFIX}SERVING_KEY to at least 16 letters, digits or signs, without blanks"
            )
        return self

    @property
    def engine_arguments(self) -> list[str] | None:
        """The arguments of `python -m serving`, or None where no serving layer is to be started."""
        common = ["--prefix-cache", str(self.data / "prefixes")]
        for name in ("connect", "first", "between", "total"):
            common += [f"--{name}-seconds", f"{getattr(self, f'{name}_seconds'):g}"]
        if self.upstream:
            named = [] if self.upstream_model is None else ["--upstream-model", self.upstream_model]
            urls = () if "TECH_ASSISTANT_UPSTREAM" in self.engine_environment else self.upstream
            return [*(part for url in urls for part in ("--upstream", url)), *named, *common]
        if self.serving_url is not None or self.model == "none":
            return None
        arguments = ["--model", self.model, "--models", str(self.data / "models"), *common]
        if self.offline:
            arguments.append("--offline")
        for name in ("context", "parallel", "threads"):
            if (value := getattr(self, name)) is not None:
                arguments += [f"--{name}", str(value)]
        return arguments

    @property
    def engine_environment(self) -> dict[str, str]:
        """What `python -m serving` is told besides: secrets, which are on no command line."""
        environment: dict[str, str] = {}
        if self.upstream_key is not None:
            environment["TECH_ASSISTANT_UPSTREAM_KEY"] = self.upstream_key.get_secret_value()
        if any("@" in urlsplit(url).netloc for url in self.upstream):  # a password
            environment["TECH_ASSISTANT_UPSTREAM"] = ",".join(self.upstream)
        return environment

    @property
    def may_manage(self) -> bool:
        """Whether whoever reaches the page runs the application too: nobody else's browser gets here."""
        if self.allowed_hosts:
            return False
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host.lower() == "localhost"


def _whole(path: str | Path) -> Path:
    """The whole path; `~` of somebody unknown stays as it is."""
    return Path(os.path.expanduser(path)).absolute()


def _is_file(model: str) -> bool:
    """Whether `--model` names a file on this machine, which need not be there."""
    if os.path.isfile(_whole(model)):  # a `Path` raises where a name is too long to be one
        return True
    if _ON_THE_HUB.fullmatch(model):
        return False
    return model.lower().endswith(".gguf") or model.startswith(("~", "/", "."))


def _folder(docs: str) -> str:
    """`PATH` or `PATH=URL` with the folder's whole path. Raises ValueError."""
    named = None if os.path.isdir(_whole(docs)) else _HAS_URL.fullmatch(docs)
    folder = _whole(docs if named is None else named["path"])
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {folder}")
    return str(folder) if named is None else f"{folder}={_http_url(named['url'])}"


def read_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the command line, the environment and `.env`. Raises `BadSettings`.

    `--help` prints the options and leaves by SystemExit, as a bad option does.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(
        name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known
    )
    if unknown:
        raise BadSettings(f"{unknown[0]}: there is no such setting. There are: {', '.join(sorted(known))}")
    for name in SECRETS:
        option = f"--{name.replace('_', '-')}"
        if any(argument.partition("=")[0] == option for argument in arguments):
            raise BadSettings(f"{option}: secrets come from the environment alone, as {PREFIX}{name.upper()}")
    if "--upstream=" in arguments or ("--upstream", "") in itertools.pairwise(arguments):
        # Else nothing would be left of it, and a model would be fetched instead.
        raise BadSettings("--upstream: must be an address such as http://127.0.0.1:8000/v1")
    try:
        return Settings(_cli_parse_args=list(arguments))  # type: ignore[call-arg]
    except ValidationError as error:
        raise BadSettings("\n".join(_sentence(dict(problem)) for problem in error.errors())) from error
    except SettingsError as error:
        raise BadSettings(str(error)) from error


def _sentence(problem: dict[str, Any]) -> str:
    place = ".".join(part for part in problem["loc"] if isinstance(part, str)).replace("_", "-")
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "there is no such setting"
    return f"--{place}: {message}" if place and not message.startswith("--") else message


def secret_keys(settings: Settings) -> tuple[bytes, ...]:
    """The keys of owners' cookies: as set, else one that is kept in the data directory (mode 0600).

    The first signs; those that it replaces are valid too. Made at the first start; a restart reads it again,
    so that nobody loses their conversations.
    """
    if settings.secret_key is not None:
        keys = [key.strip() for key in settings.secret_key.get_secret_value().split(",")]
        if any(len(key) < 16 for key in keys):
            raise BadSettings(
                f"{PREFIX}SECRET_KEY: must have at least 16 characters; of several keys, separated by "
                "commas, each must"
            )
        return tuple(key.encode() for key in keys)
    path = settings.data / "secret_key"
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():  # a start on a full disk must not fail at a key that is there
            _make_key(path)
        key = path.read_text().strip()
    except OSError as error:
        raise BadSettings(f"--data: {settings.data} cannot be used: {error.strerror or error}") from error
    if len(key) < 16:
        raise BadSettings(f"--data: the key in {path} is damaged; remove the file to make a new one")
    return (key.encode(),)


def keep_private(data: Path) -> None:
    """Take from everybody else what they may do with the files in a data directory that was there already."""
    for pattern in ("tech-assistant.db*", "documentation.db*", "secret_key*"):
        for path in data.glob(pattern):
            with contextlib.suppress(OSError):  # another's, or on a disk that has no modes
                path.chmod(0o600)


def _make_key(path: Path) -> None:
    """Written aside and linked into place, so that no reader and no crash ever sees half a key."""
    new = path.with_name(f"secret_key.{os.getpid()}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster: its key is the one
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)
