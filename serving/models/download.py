"""`python -m serving.models.download`: fetch one file of the Hugging Face hub, as a program of its own.

    DIR/OWNER/NAME/FILE                  a file that is complete and verified
    DIR/OWNER/NAME/FILE.ETAG.part        one on its way: what has come is kept, and goes on from there

Knows the hub (through `huggingface_hub`: its address, `HF_ENDPOINT`, and token, `HF_TOKEN`), what can go
wrong on the way, and how to say it; refuses to know models and engines. It is a program so that it can be
ended at any moment, by whatever means, and gives its memory back. It writes one JSON object a line:
`{"bytes", "received"}` while it fetches, last `{"path"}`, or `{"failed"}`, which is a sentence with the next
step. It ends when its standard input does.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from serving.models.catalogue import either, in_words, is_place

if TYPE_CHECKING:  # imported late, with its settings in the environment
    from huggingface_hub.errors import HfHubHTTPError

try:
    import fcntl
except ImportError:  # Windows: two at once are not kept apart there
    fcntl = None  # type: ignore[assignment]

TELL_SECONDS = 0.2
# Bytes that stay free for all others on the disk; of a small disk a twentieth.
KEPT_FREE = 512 << 20
LONGEST_DELAY = 30.0
LONGEST_FAILURE = 2000  # characters; some are the hub's
SHA256 = re.compile(r"[0-9a-f]{64}")


class DownloadFailed(Exception):
    """The text says why, and what to do."""


class _Trouble(Exception):
    """May come right by itself; the text says what it is, `delay` after how many seconds the hub wants to be
    asked again."""

    def __init__(self, words: str, delay: float = 0.0) -> None:
        super().__init__(words)
        self.delay = delay


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long: tries without a byte in between, and seconds before the second of them."""

    tries: int = 6
    first_tries: int = 3
    """While nothing has come yet: where there is no network, people want to know soon."""
    delay: float = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file on the hub. Raises ValueError for names that would leave the folder, or that no folder takes."""

    repo: str
    file: str
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not is_place(self.repo, self.file):
            raise ValueError(f"{self.repo}:{self.file} is no file of a repository")


Tell = Callable[[int | None, int], None]
"""Is told, at least as often as `TELL_SECONDS`, how large the file is and how much of it is here."""


def fetch(wanted: Wanted, models: Path, tell: Tell, patience: Patience | None = None) -> Path:
    """The file's path, once it is complete. Raises `DownloadFailed`."""
    # Nothing is told to anybody, and the file is fetched as a stream that can be watched.
    os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_XET="1")
    path = models.joinpath(*wanted.repo.split("/"), *wanted.file.split("/"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, tell):
            return path if path.is_file() else _Fetch(wanted, path, tell, patience or Patience()).run()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadFailed(_no_room(path.parent, None)) from error
        raise DownloadFailed(f"{path.parent} cannot be written: {error.strerror or error}.") from error


def received(path: Path) -> int:
    """How many bytes of a file that is not complete are here."""
    return max(map(_size, _parts(path)), default=0)


class _Fetch:
    def __init__(self, wanted: Wanted, path: Path, tell: Tell, patience: Patience) -> None:
        self._wanted = wanted
        self._path = path
        self._tell = tell
        self._patience = patience
        self._told = 0.0

    def run(self) -> Path:
        is_second = False
        while True:
            part, sha256 = self._bring_all()
            if sha256 is None or _sha256(part) == sha256:
                break
            part.unlink()
            if is_second:
                raise DownloadFailed(
                    f"What the hub sent as {self._wanted.file} is damaged: its SHA-256 is wrong, twice. It "
                    "was removed. Try again later, or choose another model by --model."
                )
            is_second = True
        _sync(part)
        os.replace(part, self._path)
        _sync(self._path.parent)
        return self._path

    def _bring_all(self) -> tuple[Path, str | None]:
        """The file with all its bytes, and the hash that it should have where that is known."""
        tries, had = 0, -1
        while True:
            found = None
            try:
                found = self._ask()
                part = self._part(found.etag)
                if self._bring(found, part):
                    return part, found.sha256
                raise _Trouble(f"{_host()} ended the answer too early.")
            except _Trouble as trouble:
                has = _size(self._part(found.etag)) if found is not None else received(self._path)
                tries = 1 if has > had >= 0 else tries + 1
                had = has
                if tries >= (self._patience.tries if has else self._patience.first_tries):
                    raise DownloadFailed(self._gave_up(str(trouble), has)) from trouble
                delay = max(self._patience.delay * 2 ** (tries - 1), trouble.delay)
                time.sleep(min(delay, LONGEST_DELAY))

    def _ask(self) -> _Found:
        """What the hub says of the file."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HFValidationError

        wanted = self._wanted
        try:
            with _hub_errors(self._refused):
                said = get_hf_file_metadata(hf_hub_url(wanted.repo, wanted.file))
        except HFValidationError as error:
            raise DownloadFailed(f"{wanted.repo} is no name of a repository on the hub.") from error
        except ValueError as error:  # an address that is none, a number that is none
            raise _no_hub() from error
        size = said.size or 0
        if said.commit_hash is None or not said.etag or size < 1:
            raise _no_hub()  # a proxy's page, perhaps, that says nothing of the file
        etag = said.etag.lower()
        told = etag if SHA256.fullmatch(etag) else None
        if wanted.sha256 is not None and told not in (None, wanted.sha256):
            raise DownloadFailed(
                f"{wanted.file} on the hub is another file than the one that is known here, and was not "
                "fetched. Choose another by --model."
            )
        return _Found(said.location, etag, wanted.sha256 or told, size)

    def _part(self, etag: str) -> Path:
        name = re.sub(r"[^0-9a-z]", "", etag)[:16]
        return self._path.with_name(f"{self._path.name}.{name}.part")

    def _bring(self, found: _Found, part: Path) -> bool:
        """Add to the part what is missing; whether it is complete then."""
        for other in _parts(self._path):  # of an older version of the file
            if other != part:
                other.unlink()
        if part.is_symlink() or _size(part) > found.bytes:  # not of our making
            part.unlink()
        has = _size(part)
        self._tell(found.bytes, has)
        if has < found.bytes:
            self._check_room(found, has)
            with part.open("ab", buffering=0) as file:
                self._stream(found, file, has)
                has = file.tell()
            self._tell(found.bytes, has)
        return has == found.bytes

    def _stream(self, found: _Found, file: BinaryIO, has: int) -> None:
        from httpx2 import Timeout
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        headers = {"Accept-Encoding": "identity"}
        if has:
            headers["Range"] = f"bytes={has}-"
        timeout = Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT, connect=constants.HF_HUB_ETAG_TIMEOUT)
        is_hub = _origin(found.location) == _origin(constants.ENDPOINT)
        if is_hub:  # nobody else gets the token
            headers |= build_hf_headers()
        with (
            _hub_errors(self._refused if is_hub else _storage_refused),
            get_session().stream("GET", found.location, headers=headers, timeout=timeout) as answer,
        ):
            hf_raise_for_status(answer)
            if has and answer.status_code != 206:  # all of it comes again
                file.truncate(0)
                has = 0
            for piece in answer.iter_raw():
                has += len(piece)
                if has > found.bytes:  # perhaps without end; nor can what came before be trusted
                    file.truncate(0)
                    raise _Trouble(f"{_host()} sends more of {self._wanted.file} than it says that it has.")
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest) :]
                if (now := time.monotonic()) - self._told >= TELL_SECONDS:
                    self._told = now
                    self._tell(found.bytes, has)
                    self._check_room(found, has)

    def _check_room(self, found: _Found, has: int) -> None:
        disk = shutil.disk_usage(self._path.parent)
        kept = min(KEPT_FREE, disk.total // 20)
        missing = found.bytes - has
        if disk.free - kept < missing:
            raise DownloadFailed(_no_room(self._path.parent, missing + kept))

    def _refused(self, error: HfHubHTTPError) -> Exception:
        """What the hub's refusal means."""
        from huggingface_hub import constants
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

        wanted, status = self._wanted, error.response.status_code
        page = f"{public(constants.ENDPOINT)}/{wanted.repo}"
        if isinstance(error, GatedRepoError):
            return DownloadFailed(
                f"{wanted.repo} is given only to those who have accepted its terms. Accept them at {page}, "
                "set HF_TOKEN to a token of your account, and start again."
            )
        if isinstance(error, EntryNotFoundError) or (status == 404 and self._files()):
            return DownloadFailed(self._no_such_file())
        if status == 404:
            return DownloadFailed(
                f"There is no repository {wanted.repo} on {_host()}. Check its name, or choose another by "
                "--model."
            )
        if status in (401, 403) or isinstance(error, RepositoryNotFoundError):
            token = "another HF_TOKEN" if _has_token() else "HF_TOKEN"
            return DownloadFailed(
                f"{_host()} does not give {wanted.repo} to this machine ({status}): it does not exist, is "
                f"private, or wants its terms accepted. See {page}, accept its terms, set {token}, and start "
                "again."
            )
        if status == 416:  # the part is longer than the file: it is of another one
            for part in _parts(self._path):
                part.unlink()
            return _Trouble(f"{_host()} has another file than before.")
        if status in (408, 429) or status >= 500:
            words = "has had too many requests" if status == 429 else "has a problem of its own"
            return _Trouble(f"{_host()} {words} ({status}).", _retry_after(error))
        return DownloadFailed(
            f"{_host()} refused {wanted.repo} ({status}). See {page}, or choose another by --model."
        )

    def _files(self) -> list[str]:
        """The model files that the repository has; none where that cannot be told."""
        from huggingface_hub import HfApi

        try:
            siblings = HfApi().model_info(self._wanted.repo, timeout=10).siblings or []
        except Exception:  # noqa: BLE001 - it is only for a hint
            return []
        return [sibling.rfilename for sibling in siblings if sibling.rfilename.endswith(".gguf")]

    def _no_such_file(self) -> str:
        wanted, files = self._wanted, self._files()
        close = difflib.get_close_matches(wanted.file, files, n=3, cutoff=0.5) or files[:5]
        hint = f"Did you mean {either(close)}?" if close else "Choose another by --model."
        return f"{wanted.repo} has no file {wanted.file}. {hint}"

    def _gave_up(self, words: str, received: int) -> str:
        if received:
            return f"{words} {in_words(received)} have come and are kept: try again to go on from there."
        return (
            f"{words} Try again later, or fetch {self._wanted.file} on another machine and start with "
            "--model FILE.gguf."
        )


@dataclass(frozen=True, slots=True)
class _Found:
    location: str
    etag: str
    sha256: str | None
    bytes: int


@contextlib.contextmanager
def _hub_errors(refused: Callable[[HfHubHTTPError], Exception]) -> Iterator[None]:
    """What `huggingface_hub` and its client raise, as ours."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as error:
        raise refused(error) from error
    except OfflineModeIsEnabled as error:
        raise DownloadFailed("HF_HUB_OFFLINE forbids to fetch. Unset it, and start again.") from error
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise _Trouble(f"{_host()} cannot be reached: is this machine on the network?") from error
    except httpx2.InvalidURL as error:
        raise _no_hub() from error
    except httpx2.TimeoutException as error:
        raise _Trouble(f"{_host()} has stopped answering.") from error
    except httpx2.HTTPError as error:
        raise _Trouble(f"The connection to {_host()} broke off.") from error


def _host() -> str:
    from huggingface_hub import constants

    return urlsplit(public(constants.ENDPOINT)).netloc


def public(address: str) -> str:
    """An address as it may be told: without a name and a password for it."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _no_hub() -> DownloadFailed:
    return DownloadFailed(
        f"{_host()} does not answer as a hub of models does: something may have answered in its place. "
        "Check the network and HF_ENDPOINT, and try again."
    )


def _storage_refused(error: HfHubHTTPError) -> Exception:
    """The hub sends its clients to a storage elsewhere, by addresses that are good for some time only."""
    host, status = error.response.url.host, error.response.status_code
    return _Trouble(f"{host}, which stores the hub's files, refused ({status}).", _retry_after(error))


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _retry_after(error: HfHubHTTPError) -> float:
    with contextlib.suppress(ValueError):
        return float(error.response.headers.get("Retry-After", "0"))
    return 0.0


def _no_room(folder: Path, needed: int | None) -> str:
    free = in_words(shutil.disk_usage(folder).free)
    needs = "" if needed is None else f" {in_words(needed)} are needed and"
    return (
        f"There is no room for the model:{needs} {folder} has {free} left. Make room and try again, or name "
        "another folder by --data."
    )


def _parts(path: Path) -> list[Path]:
    """What has come of a file, in each of its versions."""
    try:
        beside = list(path.parent.iterdir())
    except OSError:
        return []
    is_part = re.compile(re.escape(path.name) + r"\.[0-9a-z]*\.part").fullmatch
    return [other for other in beside if is_part(other.name)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """What a file or a folder holds is there after a power cut too."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path, tell: Tell) -> Iterator[None]:
    """Hold the file's folder alone. While another process has it, what that one has fetched is told."""
    if fcntl is None:
        yield
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                tell(None, received(path))
                time.sleep(TELL_SECONDS)
            except OSError:  # some network file systems have no locks
                break
        yield
    finally:
        os.close(folder)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.models.download", description=__doc__)
    parser.add_argument("repo")
    parser.add_argument("file")
    parser.add_argument("models", type=Path, metavar="DIR")
    parser.add_argument("--sha256", help="of the file, where it is known")
    parser.add_argument(
        "--delay", type=float, default=Patience().delay, help="seconds before the second try (%(default)s)"
    )
    options = parser.parse_args(arguments)
    threading.Thread(target=_exit_with_stdin, daemon=True).start()

    def say(**words: Any) -> None:
        print(json.dumps(words), flush=True)

    try:
        wanted = Wanted(options.repo, options.file, options.sha256)
    except ValueError as error:
        say(failed=f"{error}.")
        return 1
    try:
        path = fetch(
            wanted,
            options.models,
            lambda size, received: say(bytes=size, received=received),
            Patience(delay=options.delay),
        )
    except DownloadFailed as error:
        say(failed=str(error)[:LONGEST_FAILURE])
        return 1
    say(path=str(path))
    return 0


def _exit_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
