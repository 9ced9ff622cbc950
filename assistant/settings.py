"""What the operator decides: options of the command line, else `TECH_ASSISTANT_*`, else a `.env` file.

Built once, frozen, handed down. A bad or unknown value fails at the start, with a sentence.
"""

from __future__ import annotations

import contextlib
import os
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
SECRETS = ("secret_key", "serving_key", "upstream_key")


class BadSettings(ValueError):
    """The text says which setting is wrong and what it may be."""


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address such as http://127.0.0.1:8000")
    return value.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]


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

    model: str | None = Field(None, description="a GGUF file to load with the embedded llama.cpp, or 'none'")
    upstream: HttpUrl | None = Field(
        None, description="an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"
    )
    upstream_model: str | None = Field(None, description="the model's name there (default: its first)")
    serving_url: HttpUrl | None = Field(
        None, description="a serving layer (TGI protocol) that runs elsewhere"
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
    context: int | None = Field(None, ge=256, description="tokens of context of the embedded engine")
    parallel: int | None = Field(None, ge=1, description="replies that the embedded engine computes at once")
    threads: int | None = Field(None, ge=1, description="threads of the embedded engine")

    # SECRETS. Suppressing keeps them out of `--help` and no more: `read_settings` refuses them as options.
    secret_key: CliSuppress[SecretStr | None] = None
    serving_key: CliSuppress[SecretStr | None] = None
    upstream_key: CliSuppress[SecretStr | None] = None

    @field_validator("model")
    @classmethod
    def _none_is_no_model(cls, value: str | None) -> str | None:
        return None if value is None or value.lower() == "none" else value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            value = value.split(",")
        if isinstance(value, Sequence):
            return tuple(part.strip().lower() for part in value if part.strip())
        return value

    @field_validator("data", "chat_template")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @model_validator(mode="after")
    def _one_engine(self) -> Settings:
        given = [name for name in ("model", "upstream", "serving_url") if getattr(self, name) is not None]
        if len(given) > 1:
            options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ValueError(f"{options} exclude each other: give one of them")
        if self.upstream_model is not None and self.upstream is None:
            raise ValueError("--upstream-model needs --upstream")
        if self.chat_template is not None and not self.chat_template.is_file():
            raise ValueError(f"--chat-template: there is no file {self.chat_template}")
        return self

    @property
    def engine_arguments(self) -> list[str] | None:
        """The arguments of `python -m serving`, or None where no serving layer is to be started."""
        if self.model is not None:
            arguments = ["--model", str(Path(self.model).expanduser().absolute())]
            for name in ("context", "parallel", "threads"):
                if (value := getattr(self, name)) is not None:
                    arguments += [f"--{name}", str(value)]
            return arguments
        if self.upstream is not None:
            named = [] if self.upstream_model is None else ["--upstream-model", self.upstream_model]
            return ["--upstream", self.upstream, *named]
        return None


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
    try:
        return Settings(_cli_parse_args=list(arguments))  # type: ignore[call-arg]
    except ValidationError as error:
        raise BadSettings("\n".join(_sentence(dict(problem)) for problem in error.errors())) from error
    except SettingsError as error:
        raise BadSettings(str(error)) from error


def _sentence(problem: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"]).replace("_", "-")
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "there is no such setting"
    return f"--{place}: {message}" if place and not message.startswith("--") else message


def secret_key(settings: Settings) -> bytes:
    """The key that signs owners' cookies: as set, else kept in the data directory (mode 0600).

    Made at the first start; a restart reads it again, so that nobody loses their conversations.
    """
    if settings.secret_key is not None:
        key = settings.secret_key.get_secret_value()
        if len(key) < 16:
            raise BadSettings(f"{PREFIX}SECRET_KEY: must have at least 16 characters")
        return key.encode()
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
    return key.encode()


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
