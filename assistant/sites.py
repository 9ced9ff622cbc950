"""The sites that embed the widget: what their owners have set, in one JSON file a site below `DATA/sites`.

`python -m assistant site` writes the files, also while the application runs. The application looks at the
time of a site's file whenever it needs the site, so that a change counts at once. A file that cannot be read
is a site that does not exist.

BadSite       a value of a site is wrong; the message names it and says what it may be
NoSuchSite    there is no site with this key
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

log = logging.getLogger(__name__)

KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
KEY_LENGTH = 16
KEY = re.compile(r"[a-z0-9]{12,64}")
MOST_BYTES = 1 << 18  # of a site's file
LEAST_SECRET = 32  # characters of a key for HS256: RFC 7518 wants as many bytes as the hash has
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_NAME = r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_ORIGIN = re.compile(rf"(https?)://(\*\.)?({_NAME}|\[[0-9a-f:.]{{2,45}}\])(:[0-9]{{1,5}})?")

# What a value must look like, in the messages of `BadSite`.
FORMS = {
    "key": f"must have at least 12 of the characters {KEY_CHARACTERS}",
    "colour": "must be like #0a66c2",
    "texts": "the id of a text has letters, digits and -._ alone, and a text is one line",
    "language": "must be a language tag such as en or pt-BR",
}


class BadSite(ValueError):
    """The message has one line for each wrong value."""


class NoSuchSite(LookupError):
    pass


def origin_of(text: str) -> str:
    """An origin as browsers write it, such as `https://docs.example.org`. Raises ValueError.

    `https://*.example.org` stands for every host below example.org, but not for example.org itself.
    """
    scheme, mark, rest = text.strip().lower().removesuffix("/").partition("://")
    with contextlib.suppress(UnicodeError):
        rest = rest if rest.isascii() else rest.encode("idna").decode()
    match = _ORIGIN.fullmatch(scheme + mark + rest)
    if len(rest) > 260 or match is None or int((match[4] or ":0")[1:]) > 65535:
        raise ValueError("must be an origin such as https://docs.example.org, without a path")
    scheme, wildcard, host, port = match[1], match[2] or "", match[3], match[4] or ""
    if host.startswith("["):
        host = _ipv6(host)
    if wildcard and (scheme != "https" or "." not in host or host[-1].isdigit() or host.startswith("[")):
        raise ValueError("a wildcard must be like https://*.example.org")
    return f"{scheme}://{wildcard}{host}{'' if port == DEFAULT_PORTS[scheme] else port}"


def _ipv6(host: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    except ValueError:
        raise ValueError(f"must be an origin, and {host} is no address") from None


def _http_address(text: str) -> str:
    scheme, mark, rest = text.strip().partition("://")
    host, slash, path = rest.partition("/")
    try:
        origin = origin_of(f"{scheme}{mark}{host}")
    except ValueError:
        origin = "*"
    if "*" in origin or re.search(r"[\s\x00-\x1f]", path) or len(path) > 1000:
        raise ValueError("must be an address such as https://docs.example.org/guide/")
    return origin + slash + path


def _folder(docs: str) -> str:
    path, _, url = docs.rpartition("=")
    folder = path if path and url.startswith(("http://", "https://")) else docs
    if not os.path.isabs(folder) or "\0" in docs or "\n" in docs:
        raise ValueError("must be FOLDER or FOLDER=URL with the folder's absolute path")
    return docs


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _line(most: int, least: int = 0) -> StringConstraints:
    return StringConstraints(
        strip_whitespace=True, min_length=least, max_length=most, pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$"
    )


Origins = Annotated[
    tuple[Annotated[str, AfterValidator(origin_of)], ...], Field(max_length=50), AfterValidator(_distinct)
]
Count = Annotated[int, Field(ge=0, le=10**12)]
IdentityKey = Annotated[str, StringConstraints(min_length=LEAST_SECRET, max_length=500)]


@dataclass(frozen=True, slots=True)
class SiteLimits:
    """How many questions one visitor, one address and the whole site may ask in a minute and in a day, how
    long a question may be, and how many tokens all answers of a day may take. 0 allows none."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    visitor_minute: Count = 6
    visitor_day: Count = 100
    address_minute: Count = 30
    address_day: Count = 500
    site_minute: Count = 120
    site_day: Count = 5000
    characters: Annotated[int, Field(ge=1, le=100_000)] = 2000
    tokens_day: Count = 2_000_000


@dataclass(frozen=True, slots=True)
class Site:
    """A place where the widget is embedded. `make_site` checks the values."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    key: Annotated[str, StringConstraints(pattern=f"^{KEY.pattern}$")]  # public: it is in the host's page
    name: Annotated[str, _line(100, least=1)]
    origins: Origins  # the pages that may embed the widget; none but these
    docs: Annotated[
        tuple[Annotated[str, AfterValidator(_folder)], ...], Field(max_length=50), AfterValidator(_distinct)
    ] = ()  # FOLDER or FOLDER=URL, as the option --docs
    addresses: Annotated[
        tuple[Annotated[str, AfterValidator(_http_address)], ...],
        Field(max_length=10),
        AfterValidator(_distinct),
    ] = ()  # documentation to fetch
    library: bool = False  # whether Python's standard library is searched too
    uses_model: bool = True  # else every answer is a quotation
    tone: Annotated[str, _line(1000)] = ""  # a sentence or two for the model
    greeting: Annotated[str, _line(500)] = ""
    suggestions: Annotated[tuple[Annotated[str, _line(200, least=1)], ...], Field(max_length=8)] = ()
    colour: Annotated[str, StringConstraints(to_lower=True, pattern=r"^(#[0-9a-fA-F]{6})?$")] = ""
    position: Literal["right", "left"] = "right"
    language: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}$")] = "en"
    texts: Annotated[
        Mapping[
            Annotated[str, StringConstraints(pattern=r"^[a-z][a-zA-Z0-9_.-]{0,59}$")],
            Annotated[str, _line(500)],
        ],
        Field(max_length=200),
    ] = field(default_factory=dict)  # the frame's own texts that are replaced, by id
    keep_days: Annotated[int, Field(ge=1, le=36500)] | None = None  # how long a chat is kept; None: for ever
    limits: SiteLimits = field(default_factory=SiteLimits)
    report_secret_hash: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    identity_keys: Annotated[tuple[IdentityKey, ...], Field(max_length=2)] = ()  # newest first

    def is_listed(self, origin: str) -> bool:
        """Whether a page of this origin may embed the widget."""
        try:
            origin = origin_of(origin)
        except ValueError:
            return False
        if "*" in origin:
            return False
        scheme, _, host = origin.partition("://")
        return origin in self.origins or any(
            host.endswith(listed.removeprefix("https://*"))
            for listed in self.origins
            if scheme == "https" and listed.startswith("https://*.")
        )


@cache
def _checker() -> TypeAdapter[Site]:
    return TypeAdapter(Site)


def make_site(**values: Any) -> Site:
    """A site with these values. Raises `BadSite`."""
    try:
        return _checker().validate_python(values)
    except ValidationError as error:
        raise BadSite("\n".join(map(_sentence, error.errors()))) from None  # the values may be secrets


def changed(site: Site, **values: Any) -> Site:
    """The same site with other values. Raises `BadSite`."""
    return make_site(**{**asdict(site), **values})


def _sentence(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"] if isinstance(part, str) and part.isidentifier())
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "string_pattern_mismatch":
        message = FORMS.get(place, "must be one line")
    given = problem.get("input")
    shown = f" ({given[:80]!r})" if isinstance(given, str) and "identity" not in place else ""
    return f"{place}: {message}{shown}"


def new_key() -> str:
    return "".join(secrets.choice(KEY_CHARACTERS) for _ in range(KEY_LENGTH))


def hash_of(secret: str) -> str:
    """What is stored of a secret that is only checked. The secret is long and random: it needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Sites:
    """The sites in a folder. Without a folder there are none."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._read: dict[str, tuple[tuple[int, int, int], Site | None]] = {}  # by key, with the file's stamp

    def get(self, key: str) -> Site | None:
        """The site with this key, as its file is now."""
        if self._folder is None or not KEY.fullmatch(key):
            return None
        try:
            state = os.stat(path := self._file(key))
        except OSError:
            self._read.pop(key, None)
            return None
        stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
        if (known := self._read.get(key)) is None or known[0] != stamp:
            known = self._read[key] = (stamp, _load(path, key))
        return known[1]

    def existing(self, key: str) -> Site:
        """The site with this key. Raises `NoSuchSite`."""
        if (site := self.get(key)) is None:
            raise NoSuchSite(
                f"There is no site {key[:80]!r}. `python -m assistant site list` shows all sites."
            )
        return site

    def all(self) -> list[Site]:
        """All sites, by name."""
        keys = [] if self._folder is None else [path.stem for path in self._folder.glob("*.json")]
        sites = [site for key in keys if (site := self.get(key)) is not None]
        return sorted(sites, key=lambda site: (site.name.lower(), site.key))

    def place(self, key: str) -> Path:
        """The folder with the index and the fetched pages of a site. It may not exist yet."""
        assert self._folder is not None
        assert KEY.fullmatch(key)
        return self._folder / key

    def save(self, site: Site) -> None:
        """Write a site's file, which nobody ever reads half of. Raises OSError."""
        assert self._folder is not None
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.place(site.key).mkdir(mode=0o700, exist_ok=True)
        path = self._file(site.key)
        new = path.with_suffix(f".{os.getpid()}")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(_checker().dump_json(site, indent=1))
                file.flush()
                os.fsync(file.fileno())
            for made in (self._folder, self.place(site.key), new):
                _give_to_owner_of(self._folder.parent, made)
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        """Remove a site, and what was made for it. `removed` names it until `forget`. Raises `NoSuchSite`."""
        site = self.existing(key)
        os.replace(self._file(site.key), self._mark(site.key))
        shutil.rmtree(self.place(site.key), ignore_errors=True)

    def removed(self) -> list[str]:
        """The keys of removed sites whose chats may still be there."""
        keys = [] if self._folder is None else [path.stem for path in self._folder.glob("*.removed")]
        return [key for key in keys if KEY.fullmatch(key)]

    def forget(self, key: str) -> None:
        """Forget that there was a site, after its chats have been removed."""
        shutil.rmtree(self.place(key), ignore_errors=True)
        self._mark(key).unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self.place(key).with_suffix(".json")

    def _mark(self, key: str) -> Path:
        return self.place(key).with_suffix(".removed")


def _load(path: Path, key: str) -> Site | None:
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES)
        site = make_site(**{**json.loads(text), "key": key})
    except (OSError, ValueError, TypeError, RecursionError) as error:
        log.error("the site %s is left out, since %s cannot be used: %s", key, path, error)
        return None
    return site


def _give_to_owner_of(data: Path, path: Path) -> None:
    """Let the application read what the superuser writes, if another user runs it."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        state = data.stat()
        os.chown(path, state.st_uid, state.st_gid)
