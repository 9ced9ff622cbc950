"""The operator's settings: from the command line, else `TECH_ASSISTANT_*` variables, else a `.env` file.

They are read and checked once at the start. A wrong value or an unknown name ends the start with a message.
`docs/options.md` is generated from the descriptions here, and so is `--help`.
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
# Only from the environment or `.env`, because every user of the machine can read a command line.
SECRETS = ("secret_key", "upstream_key", "oidc_client_secret", "operator_key")
# A serving key must be too long to guess, and must fit into an HTTP header.
_KEY = re.compile(r"[!-~]{16,}")
# A file in a repository on Hugging Face, OWNER/NAME:FILE.
_HUB_FILE = re.compile(r"[\w.-]+/[\w.-]+:[^:]+")
_PATH_AND_URL = re.compile(r"(?P<path>.+?)=(?P<url>[A-Za-z][A-Za-z0-9+.-]*://.*)")


class BadSettings(ValueError):
    """A setting is wrong; the message names it and says what it may be."""


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an incomplete IPv6 address, or a port that is not a number
        is_address = False
    if not is_address:
        raise ValueError("must be an address such as http://127.0.0.1:8000")
    return value.rstrip("/")


def _absolute(path: str | Path) -> Path:
    """The absolute path. `~NAME` of an unknown user is not expanded."""
    return Path(os.path.expanduser(path)).absolute()


def _folder(docs: str) -> str:
    """`PATH` or `PATH=URL`, with the folder's absolute path. Raises ValueError."""
    named = None if os.path.isdir(_absolute(docs)) else _PATH_AND_URL.fullmatch(docs)
    folder = _absolute(docs if named is None else named["path"])
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {folder}")
    return str(folder) if named is None else f"{folder}={_http_url(named['url'])}"


def _environment(path: Path) -> Path:
    # Symbolic links stay: an environment's interpreter is a link to one outside the environment.
    if not os.path.exists(path := _absolute(path)):
        raise ValueError(f"there is no interpreter and no environment {path}")
    return path


def _text_file(path: Path) -> Path:
    if not os.path.isfile(path := _absolute(path)):
        raise ValueError(f"there is no file {path}")
    try:
        path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return path


HttpUrl = Annotated[str, AfterValidator(_http_url)]
HostName = Annotated[str, AfterValidator(str.lower)]
Network = Annotated[str, AfterValidator(lambda network: str(ipaddress.ip_network(network)))]
Folder = Annotated[str, AfterValidator(_folder)]
Environment = Annotated[Path, AfterValidator(_environment)]
TextFile = Annotated[Path, AfterValidator(_text_file)]
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
        description="model for the embedded llama.cpp: a GGUF file, a name in the catalogue or REPO:FILE "
        "(both downloaded once), 'auto' (a model that suits this machine, downloaded at the first start), or "
        "'none' (start without a model)",
    )
    upstream: Annotated[tuple[HttpUrl, ...], NoDecode] = Field(
        (),
        description="address of a server that runs the model and speaks OpenAI's protocol or TGI's, such as "
        "http://127.0.0.1:8000/v1; repeat the option to share the work among several servers",
    )
    upstream_model: str | None = Field(
        None, description="name of the model on the upstream server; if absent, the first that it lists"
    )
    serving_url: HttpUrl | None = Field(
        None, description="address of a serving layer (`python -m serving`) that runs elsewhere"
    )
    expose_serving: bool = Field(
        False,
        description="let programs that have the serving key use the model directly: at /serving/ (TGI's "
        "protocol) and at /v1/ (OpenAI's protocol, also with documentation)",
    )
    serving_key: SecretStr | None = Field(
        None,
        description="key for --serving-url and --expose-serving; prefer the environment variable "
        f"{PREFIX}SERVING_KEY, because every user of this machine can read a command line",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(7860, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    data: Annotated[Path, AfterValidator(_absolute)] = Field(
        Path(platformdirs.user_data_dir("tech-assistant", appauthor=False)),
        description="directory for the database, the cookie key, models and caches",
    )
    allowed_hosts: Annotated[tuple[HostName, ...], NoDecode] = Field(
        (),
        description="host names under which browsers may reach this server, separated by commas; IP "
        "addresses and localhost are always allowed",
    )
    proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="addresses or networks of trusted reverse proxies, separated by commas; what they report "
        "about the client's address and HTTPS is believed",
    )
    offline: bool = Field(False, description="never download anything")
    documentation: bool = Field(
        True,
        description="answer from the documentation on this machine, and ground the model's answers in it",
    )
    docs: Annotated[tuple[Folder, ...], NoDecode] = Field(
        (),
        description="folder of documentation to index, as PATH or as PATH=URL with the address where it is "
        "published; repeat the option for several folders",
    )
    packages: Annotated[tuple[Environment, ...], NoDecode] = Field(
        (),
        description="Python interpreter or virtual environment whose packages are indexed; repeat the option "
        "for several",
    )
    open_browser: bool = Field(True, description="open the page in a browser if this machine has a screen")

    login: Annotated[tuple[Literal["passwords", "oidc", "proxy"], ...], NoDecode] = Field(
        (),
        description="how people sign in: 'passwords' (accounts made by `python -m assistant account add`), "
        "'oidc' (an identity provider) or 'proxy' (a trusted proxy names them); commas separate several; if "
        "absent, there is no login",
    )
    anonymous: bool = Field(False, description="with --login, let people ask without signing in, too")
    members: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="who may sign in by 'oidc' or 'proxy', separated by commas: verified e-mail addresses, "
        "all of a domain (@example.org), or the provider's identifiers; if absent, everybody whom it knows",
    )
    operators: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="the members who are operators, named in the same ways"
    )
    oidc_issuer: HttpUrl | None = Field(
        None, description="address of the identity provider for --login oidc, as in its ID tokens"
    )
    oidc_client_id: str | None = Field(None, description="name of this application at the provider")
    oauth_endpoints: Annotated[tuple[HttpUrl, ...], NoDecode] = Field(
        (),
        description="for a provider that has only OAuth 2, such as GitHub Enterprise: its addresses for "
        "authorization, for tokens and of the user, separated by commas",
    )
    user_header: str = Field(
        "X-Forwarded-User", description="header in which a trusted proxy names the person for --login proxy"
    )
    session_days: int = Field(
        30, ge=1, le=400, description="number of days after which people must sign in again"
    )

    limit_questions: int | None = Field(None, ge=1, description="questions of a person in a minute")
    limit_address_questions: int | None = Field(
        None, ge=1, description="questions from an address in a minute"
    )
    limit_tokens: int | None = Field(None, ge=1, description="tokens that a person's answers take in a day")
    limit_conversations: int | None = Field(None, ge=1, description="conversations that a person may keep")
    limit_megabytes: int | None = Field(None, ge=1, description="megabytes of text that a person may keep")
    limit_new_owners: int | None = Field(
        None, ge=1, description="new people from an address whose first question is answered in an hour"
    )

    frame_ancestors: Annotated[tuple[HttpUrl, ...], NoDecode] = Field(
        (),
        description="sites whose pages may show the chat in a frame, such as https://example.org, separated "
        "by commas",
    )
    snapshots: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="folder for snapshots of the database, which may be on a network; the newest is restored "
        "at a start without a database",
    )

    prompt: Literal["auto", "tech-assistant", "chat"] = Field(
        "auto",
        description="prompt template: 'chat' (the model's own chat template), 'tech-assistant' (ours, for "
        "base models), or 'auto' (the model's own if it has one)",
    )
    chat_template: TextFile | None = Field(
        None, description="file with a Jinja chat template to use instead of the model's own"
    )
    max_new_tokens: int = Field(1024, ge=1, le=32768, description="maximum number of tokens in one answer")
    temperature: float = Field(
        0.2, ge=0, le=5, description="randomness of the answers; 0 always takes the most likely token"
    )
    top_p: float = Field(
        0.95, gt=0, le=1, description="sample from the most likely tokens that together have this probability"
    )
    repetition_penalty: float = Field(
        1.0, gt=0, le=5, description="above 1, tokens that have already occurred become less likely"
    )
    max_replies: int = Field(
        256, ge=1, description="maximum number of replies that run at once; further replies wait"
    )
    max_waiting: int = Field(
        256, ge=0, description="maximum number of replies that wait; further questions are refused with 429"
    )
    connect_seconds: Seconds = Field(5.0, description="time limit for connecting to the model's server")
    first_seconds: Seconds = Field(
        120.0,
        description="time limit until an answer begins; an embedded engine that computes nothing for so long "
        "is restarted",
    )
    between_seconds: Seconds = Field(
        30.0, description="longest silence within an answer; after it the answer fails and its text is kept"
    )
    total_seconds: Seconds = Field(1800.0, description="time limit for a whole answer")
    hang_seconds: Seconds = Field(
        30.0,
        ge=1,
        description="restart the serving layer if it does not respond for this long, or for twenty times as "
        "long while it loads a model",
    )
    context: int | None = Field(
        None,
        ge=256,
        description="context size of the embedded engine in tokens, shared by all running answers; if "
        "absent, what the model was trained for, at most 16384",
    )
    parallel: int | None = Field(
        None, ge=1, description="number of answers that the embedded engine computes at once; if absent, 4"
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="number of threads of the embedded engine; if absent, one for each processor it may use",
    )

    # SECRETS. CliSuppress only hides them in `--help`; `read_settings` refuses them as options.
    secret_key: CliSuppress[SecretStr | None] = Field(
        None,
        description="key that signs the cookies, at least 16 characters; if absent, one is generated and "
        "kept in the data directory; NEW,OLD replaces a key",
    )
    upstream_key: CliSuppress[SecretStr | None] = Field(None, description="API key of the upstream server")
    oidc_client_secret: CliSuppress[SecretStr | None] = Field(
        None, description="secret of this application at the identity provider"
    )
    operator_key: CliSuppress[SecretStr | None] = Field(
        None, description="key that opens the operator's page where there is no login, at least 16 characters"
    )

    @field_validator("model", mode="before")
    @classmethod
    def _model(cls, value: str | None) -> str:
        if value is None:  # pydantic-settings turns the word "None" into this
            return "none"
        if value.lower() in ("auto", "none"):
            return value.lower()
        return str(_absolute(value)) if _is_file(value) else value

    @field_validator(
        "allowed_hosts", "proxies", "docs", "packages", "login", "members", "operators", "oauth_endpoints",
        "frame_ancestors", mode="before",
    )  # fmt: skip
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            value = value.split(",")
        if isinstance(value, Sequence):
            return tuple(part.strip() for part in map(str, value) if part.strip())
        return value

    @field_validator("upstream", mode="before")
    @classmethod
    def _split_upstreams(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_engine(self) -> Settings:
        given = [name for name in ("upstream", "serving_url") if getattr(self, name)]
        if "model" in self.model_fields_set and self.model != "none":
            given.insert(0, "model")
        if len(given) > 1:
            options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ValueError(f"{options} exclude each other: give only one of them")
        if self.upstream_model is not None and not self.upstream:
            raise ValueError("--upstream-model needs --upstream")
        return self

    @model_validator(mode="after")
    def _exposed(self) -> Settings:
        if not self.expose_serving:
            return self
        if self.engine_arguments is None and self.serving_url is None and not self.documentation:
            raise ValueError("--expose-serving: with --model none and no documentation, nothing can answer")
        if self.serving_key is None or not _KEY.fullmatch(self.serving_key.get_secret_value()):
            raise ValueError(
                f"--expose-serving needs a key for its clients: set {PREFIX}SERVING_KEY to at least 16 "
                "letters, digits or punctuation marks, without blanks"
            )
        return self

    @property
    def engine_arguments(self) -> list[str] | None:
        """Arguments for `python -m serving`, or None if the application starts no serving layer."""
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
        """Environment variables for `python -m serving`: secrets, which must not be on its command line."""
        environment: dict[str, str] = {}
        if self.upstream_key is not None:
            environment["TECH_ASSISTANT_UPSTREAM_KEY"] = self.upstream_key.get_secret_value()
        if any("@" in urlsplit(url).netloc for url in self.upstream):  # an address with a password
            environment["TECH_ASSISTANT_UPSTREAM"] = ",".join(self.upstream)
        return environment

    @property
    def may_manage(self) -> bool:
        """Whether every visitor is the operator, because only this machine can reach the page."""
        if self.allowed_hosts:
            return False
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host.lower() == "localhost"


def _is_file(model: str) -> bool:
    """Whether `--model` names a file on this machine. The file need not exist."""
    if os.path.isfile(_absolute(model)):  # `Path.is_file` would raise for a name that is too long
        return True
    if _HUB_FILE.fullmatch(model):
        return False
    return model.lower().endswith(".gguf") or model.startswith(("~", "/", "."))


def read_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings. Raises `BadSettings`, and SystemExit for `--help` and unknown options."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(
        name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known
    )
    if unknown:
        raise BadSettings(
            f"{unknown[0]}: there is no such setting. The settings are: {', '.join(sorted(known))}"
        )
    for name in SECRETS:
        option = f"--{name.replace('_', '-')}"
        if any(argument.partition("=")[0] == option for argument in arguments):
            raise BadSettings(f"{option}: secrets come from the environment only, as {PREFIX}{name.upper()}")
    if "--upstream=" in arguments or ("--upstream", "") in itertools.pairwise(arguments):
        # An empty address would otherwise be dropped, and the application would download a model.
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
    """The keys that sign the owners' cookies: from the settings, else from a file in the data directory.

    The first key signs; cookies that the others signed are still valid. The file (mode 0600) is made at the
    first start and read at later ones, so that owners keep their conversations.
    """
    if settings.secret_key is not None:
        keys = [key.strip() for key in settings.secret_key.get_secret_value().split(",")]
        if any(len(key) < 16 for key in keys):
            raise BadSettings(
                f"{PREFIX}SECRET_KEY: each key must have at least 16 characters; commas separate several keys"
            )
        return tuple(key.encode() for key in keys)
    path = settings.data / "secret_key"
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():  # on a full disk, a start with an existing key must not fail
            _make_key(path)
        key = path.read_text().strip()
    except OSError as error:
        raise BadSettings(f"--data: {settings.data} cannot be used: {error.strerror or error}") from error
    if len(key) < 16:
        raise BadSettings(f"--data: the key in {path} is damaged; remove the file to make a new one")
    return (key.encode(),)


def keep_private(data: Path) -> None:
    """Make the files of an existing data directory readable and writable for their owner only."""
    for pattern in ("tech-assistant.db*", "documentation.db*", "secret_key*", "sites/*"):
        for path in data.glob(pattern):
            with contextlib.suppress(OSError):  # another user's file, or a file system without modes
                path.chmod(0o700 if path.is_dir() else 0o600)


def _make_key(path: Path) -> None:
    """Write the key to a temporary file and link it into place, so that nobody ever reads half a key."""
    new = path.with_name(f"secret_key.{os.getpid()}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster, and its key counts
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)
