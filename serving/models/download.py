"""`python -m serving.models.download` fetches one file of the Hugging Face hub, in a process of its own.

    DIR/OWNER/NAME/FILE                  a complete and verified file
    DIR/OWNER/NAME/FILE.ETAG.part        an incomplete file, from which the next download goes on

The process can be killed at any moment. It prints JSON objects, one a line: `{"bytes", "received"}` while it
fetches, and at the end `{"path"}`, or `{"failed"}` with a sentence that names the next step. It exits when
its standard input is closed.

huggingface_hub transfers the bytes and tries again when a connection breaks off. We call its `http_get`,
because `hf_hub_download` cannot go on with the bytes that a killed process has left.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import hashlib
import io
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
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from serving.addresses import is_http, without_user
from serving.models.catalogue import either, in_words, is_safe_path

if TYPE_CHECKING:  # imported late: it reads its settings from the environment at import
    from huggingface_hub import HfFileMetadata
    from huggingface_hub.errors import HfHubHTTPError

try:
    import fcntl
except ImportError:  # Windows: two downloads of one file are not kept apart there
    fcntl = None  # type: ignore[assignment]

REPORT_SECONDS = 0.2
CHUNK = 1 << 16  # bytes: what is written, and reported, at once
KEPT_FREE = 512 << 20  # bytes of the disk that stay free; on a small disk a twentieth of it
TRIES = 6  # in a row that bring no byte
FIRST_TRIES = 3  # while there is no byte yet: without a network the operator wants to know soon
LONGEST_WAIT = 30.0  # seconds between two tries
LONGEST_MESSAGE = 2000  # characters; the hub's names may be longer
SHA256 = re.compile(r"[0-9a-f]{64}")

Report = Callable[[int | None, int], None]
"""Called with the size of the file, if it is known, and the number of bytes received."""


def fetch(repo: str, file: str, models: Path, report: Report, sha256: str | None = None) -> Path:
    """The path of the file, once it is complete. Raises `DownloadFailed`."""
    if not is_safe_path(repo, file):
        raise DownloadFailed(f"{repo}:{file} is no file of a repository.")
    os.environ.update(
        HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_VERBOSITY="error"
    )
    path = models.joinpath(*repo.split("/"), *file.split("/"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, report):
            return path if path.is_file() else _Download(repo, file, path, report, sha256).run()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadFailed(_no_room(path.parent, None)) from error
        raise DownloadFailed(f"{path.parent} cannot be written: {error.strerror or error}.") from error


def received(path: Path) -> int:
    """How many bytes of an incomplete file are on the disk."""
    return max(map(_size, _parts(path)), default=0)


class DownloadFailed(Exception):
    """The text says why, and what to do next."""


class Interrupted(Exception):
    """Another try may succeed, after `wait` seconds if the server says so. The text says what happened.
    `tries` counts those that have failed already."""

    def __init__(self, message: str, *, wait: float = 0.0, tries: int = 1) -> None:
        super().__init__(message)
        self.wait = wait
        self.tries = tries


@dataclass
class _Download:
    repo: str
    file: str
    path: Path
    report: Report
    known_sha256: str | None

    def run(self) -> Path:
        for _ in range(2):
            part, sha256 = self._fetch()
            if sha256 is None or _sha256(part) == sha256:
                _sync(part)
                os.replace(part, self.path)
                _sync(self.path.parent)
                return self.path
            part.unlink()
        raise DownloadFailed(
            f"What the hub sent as {self.file} is damaged: its SHA-256 is wrong, twice. It was removed. "
            "Try again later, or choose another model with --model."
        )

    def _fetch(self) -> tuple[Path, str | None]:
        """All bytes of the file, and its SHA-256 if that is known."""
        tries, before = 0, received(self.path)
        while True:
            try:
                metadata, sha256 = self._ask_hub()
                version = re.sub(r"[^0-9a-z]", "", str(metadata.etag).lower())[:16]
                part = self.path.with_name(f"{self.path.name}.{version}.part")
                self._transfer(metadata, part)
                return part, sha256
            except Interrupted as error:
                now = received(self.path)
                tries = 1 if now > before else tries + error.tries
                before = now
                if tries >= TRIES and now:
                    hint = f"{in_words(now)} have arrived and are kept: try again to continue."
                    raise DownloadFailed(f"{error} {hint}") from error
                if tries >= FIRST_TRIES and not now:
                    hint = f"Try again later, or fetch {self.file} on another machine and start with"
                    raise DownloadFailed(f"{error} {hint} --model FILE.gguf.") from error
                time.sleep(min(max(2 ** (tries - 2), error.wait), LONGEST_WAIT))

    def _ask_hub(self) -> tuple[HfFileMetadata, str | None]:
        """What the hub says about the file, and its SHA-256 if that is known."""
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HFValidationError

        unreachable = Interrupted(f"{_host()} cannot be reached: is this machine on the network?")
        try:
            if not is_http(constants.ENDPOINT):
                raise ValueError
            with self._hub_errors(unreachable):
                metadata = get_hf_file_metadata(hf_hub_url(self.repo, self.file))
        except HFValidationError as error:
            raise DownloadFailed(f"{self.repo} is no name of a repository on the hub.") from error
        except ValueError as error:  # an invalid address or number
            raise _not_a_hub() from error
        is_complete = metadata.commit_hash and metadata.etag and (metadata.size or 0) > 0
        if not is_complete or not is_http(metadata.location):
            raise _not_a_hub()  # perhaps the page of a proxy
        etag = str(metadata.etag).lower()
        sha256 = etag if SHA256.fullmatch(etag) else None
        if self.known_sha256 is not None and sha256 not in (None, self.known_sha256):
            raise DownloadFailed(
                f"{self.file} on the hub is another file than the one that we know, so it was not fetched. "
                "Choose another model with --model."
            )
        return metadata, self.known_sha256 or sha256

    def _transfer(self, metadata: HfFileMetadata, part: Path) -> None:
        """Add the missing bytes to `part`."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        size, url = metadata.size or 0, metadata.location
        for other in _parts(self.path):
            if other != part or other.is_symlink() or _size(other) > size:  # not of this version of the file
                other.unlink()
        self.report(size, begun := _size(part))
        if begun == size:
            return
        self._check_room(part, size)
        constants.DOWNLOAD_CHUNK_SIZE = CHUNK  # an incomplete chunk is lost when the connection breaks off
        is_hub = _origin(url) == _origin(constants.ENDPOINT)
        headers = {"Accept-Encoding": "identity"} | (build_hf_headers() if is_hub else {})  # with the token
        last_report = 0.0

        def written(count: int) -> None:
            nonlocal last_report
            if (now := time.monotonic()) - last_report >= REPORT_SECONDS:
                last_report = now
                self.report(size, count)
                self._check_room(part, size)

        broken_off = Interrupted(f"The connection to {_host()} broke off.", tries=TRIES)  # of http_get
        try:
            with _Part(part, size, written) as file, self._hub_errors(broken_off, is_hub=is_hub):
                http_get(url, file, resume_size=begun, headers=headers)
        except OSError as error:
            if error.errno is not None:  # a fault of the disk
                raise
        if _size(part) < size:
            raise Interrupted(f"{_host()} ended the answer too early.")
        self.report(size, size)

    @contextlib.contextmanager
    def _hub_errors(self, unreachable: Interrupted, *, is_hub: bool = True) -> Iterator[None]:
        """Raises our errors in place of those of huggingface_hub and of its HTTP client."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            yield
        except HfHubHTTPError as error:
            raise self._refusal(error, is_hub) from error
        except OfflineModeIsEnabled as error:
            raise DownloadFailed("HF_HUB_OFFLINE forbids downloads. Unset it, and start again.") from error
        except (DownloadFailed, Interrupted, OSError, ValueError):
            raise
        except Exception as error:  # the HTTP client's: another huggingface_hub may use another client
            raise unreachable from error

    def _refusal(self, error: HfHubHTTPError, is_hub: bool) -> Exception:
        """Our error for a status of the hub, or else of the storage that it redirects to."""
        from huggingface_hub import constants, get_token
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

        repo, status, wait = self.repo, error.response.status_code, 0.0
        with contextlib.suppress(ValueError):
            wait = float(error.response.headers.get("Retry-After", "0"))
        if not is_hub:  # its addresses expire, so ask the hub again
            storage = error.response.url.host
            return Interrupted(f"{storage}, which stores the hub's files, refused ({status}).", wait=wait)
        page = f"{without_user(constants.ENDPOINT)}/{repo}"
        if isinstance(error, GatedRepoError):
            return DownloadFailed(
                f"{repo} is given only to those who have accepted its terms. Accept them at {page}, set "
                "HF_TOKEN to a token of your account, and start again."
            )
        if status == 404:
            files = _model_files(repo)
            if not files and not isinstance(error, EntryNotFoundError):
                hint = "Check its name, or choose another model with --model."
                return DownloadFailed(f"There is no repository {repo} on {_host()}. {hint}")
            close = difflib.get_close_matches(self.file, files, n=3, cutoff=0.5) or files[:5]
            hint = f"Did you mean {either(close)}?" if close else "Choose another model with --model."
            return DownloadFailed(f"{repo} has no file {self.file}. {hint}")
        if status in (401, 403) or isinstance(error, RepositoryNotFoundError):
            token = "HF_TOKEN" if get_token() is None else "another HF_TOKEN"
            return DownloadFailed(
                f"{_host()} does not give {repo} to this machine ({status}): it does not exist, is private, "
                f"or you have not accepted its terms. See {page}, accept its terms, set {token}, and start "
                "again."
            )
        if status in (408, 429) or status >= 500:
            problem = "has had too many requests" if status == 429 else "has a problem"
            return Interrupted(f"{_host()} {problem} ({status}).", wait=wait)
        return DownloadFailed(
            f"{_host()} refused {repo} ({status}). See {page}, or choose another model with --model."
        )

    def _check_room(self, part: Path, size: int) -> None:
        disk = shutil.disk_usage(part.parent)
        needed = size - _size(part) + min(KEPT_FREE, disk.total // 20)
        if disk.free < needed:
            raise DownloadFailed(_no_room(part.parent, needed))


class _Part(io.FileIO):
    """An incomplete file of at most `limit` bytes. It calls `written` with its size."""

    def __init__(self, path: Path, limit: int, written: Callable[[int], None]) -> None:
        super().__init__(path, "a")
        self._limit = limit
        self._written = written

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._limit:
            self.truncate(0)  # the bytes before cannot be trusted either
            raise Interrupted(f"{_host()} sends more bytes than it said that the file has.")
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        self._written(self.tell())
        return len(data)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _not_a_hub() -> DownloadFailed:
    return DownloadFailed(
        f"{_host()} does not answer like a hub of models: another server may have answered in its place. "
        "Check the network and HF_ENDPOINT, and try again."
    )


def _host() -> str:
    from huggingface_hub import constants

    return urlsplit(without_user(constants.ENDPOINT)).netloc


def _model_files(repo: str) -> list[str]:
    """The model files of the repository; empty if the hub does not list them."""
    from huggingface_hub import HfApi

    try:
        siblings = HfApi().model_info(repo, timeout=10).siblings or []
    except Exception:  # noqa: BLE001 - they are only a hint
        return []
    return [sibling.rfilename for sibling in siblings if sibling.rfilename.endswith(".gguf")]


def _no_room(folder: Path, needed: int | None) -> str:
    free = in_words(shutil.disk_usage(folder).free)
    needs = "" if needed is None else f" {in_words(needed)} are needed and"
    return (
        f"There is no room for the model:{needs} {folder} has {free} left. Make room and try again, or name "
        "another folder with --data."
    )


def _parts(path: Path) -> list[Path]:
    """The incomplete files of all versions of a file."""
    is_part = re.compile(re.escape(path.name) + r"\.[0-9a-z]*\.part").fullmatch
    with contextlib.suppress(OSError):
        return [other for other in path.parent.iterdir() if is_part(other.name)]
    return []


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Write a file or a folder to the disk, so that it survives a power cut."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path, report: Report) -> Iterator[None]:
    """Lock the folder of the file. While another process has the lock, report what that one has received."""
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
                report(None, received(path))
                time.sleep(REPORT_SECONDS)
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
    parser.add_argument("--sha256", help="the SHA-256 of the file, if it is known")
    options = parser.parse_args(arguments)
    threading.Thread(target=_exit_with_stdin, daemon=True).start()

    def say(**message: Any) -> None:
        print(json.dumps(message), flush=True)

    def report(size: int | None, count: int) -> None:
        say(bytes=size, received=count)

    try:
        path = fetch(options.repo, options.file, options.models, report, options.sha256)
    except DownloadFailed as error:
        say(failed=str(error)[:LONGEST_MESSAGE])
        return 1
    say(path=str(path))
    return 0


def _exit_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
