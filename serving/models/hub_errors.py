"""What the errors of the Hugging Face hub mean, in sentences that name the next step for the operator."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from serving.addresses import without_user
from serving.models.catalogue import either

if TYPE_CHECKING:  # imported late: it reads its settings from the environment at import
    from huggingface_hub.errors import HfHubHTTPError


class DownloadFailed(Exception):
    """The text says why, and what to do next."""


class Interrupted(Exception):
    """Another try may succeed, after `wait` seconds if the server says so. The text says what happened.
    `tries` counts those that have failed already."""

    def __init__(self, message: str, *, wait: float = 0.0, tries: int = 1) -> None:
        super().__init__(message)
        self.wait = wait
        self.tries = tries


@contextlib.contextmanager
def hub_errors(refused: Callable[[HfHubHTTPError], Exception], unreachable: Interrupted) -> Iterator[None]:
    """Raises our errors in place of those of huggingface_hub and of its HTTP client."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as error:
        raise refused(error) from error
    except OfflineModeIsEnabled as error:
        raise DownloadFailed("HF_HUB_OFFLINE forbids downloads. Unset it, and start again.") from error
    except (DownloadFailed, Interrupted, OSError, ValueError):
        raise
    except Exception as error:  # the HTTP client's: another huggingface_hub may use another client
        raise unreachable from error


def hub_refused(error: HfHubHTTPError, repo: str, file: str) -> Exception:
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    status, page = error.response.status_code, f"{without_user(constants.ENDPOINT)}/{repo}"
    if isinstance(error, GatedRepoError):
        return DownloadFailed(
            f"{repo} is given only to those who have accepted its terms. Accept them at {page}, set HF_TOKEN "
            "to a token of your account, and start again."
        )
    if isinstance(error, EntryNotFoundError) or (status == 404 and _model_files(repo)):
        files = _model_files(repo)
        close = difflib.get_close_matches(file, files, n=3, cutoff=0.5) or files[:5]
        hint = f"Did you mean {either(close)}?" if close else "Choose another model with --model."
        return DownloadFailed(f"{repo} has no file {file}. {hint}")
    if status == 404:
        return DownloadFailed(
            f"There is no repository {repo} on {host()}. Check its name, or choose another model with "
            "--model."
        )
    if status in (401, 403) or isinstance(error, RepositoryNotFoundError):
        token = "HF_TOKEN" if get_token() is None else "another HF_TOKEN"
        return DownloadFailed(
            f"{host()} does not give {repo} to this machine ({status}): it does not exist, is private, or "
            f"you have not accepted its terms. See {page}, accept its terms, set {token}, and start again."
        )
    if status in (408, 429) or status >= 500:
        problem = "has had too many requests" if status == 429 else "has a problem"
        return Interrupted(f"{host()} {problem} ({status}).", wait=_retry_after(error))
    return DownloadFailed(
        f"{host()} refused {repo} ({status}). See {page}, or choose another model with --model."
    )


def storage_refused(error: HfHubHTTPError) -> Exception:
    """The hub redirects to a storage elsewhere, at addresses that expire."""
    storage, status = error.response.url.host, error.response.status_code
    message = f"{storage}, which stores the hub's files, refused ({status})."
    return Interrupted(message, wait=_retry_after(error))


def not_a_hub() -> DownloadFailed:
    return DownloadFailed(
        f"{host()} does not answer like a hub of models: another server may have answered in its place. "
        "Check the network and HF_ENDPOINT, and try again."
    )


def host() -> str:
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


def _retry_after(error: HfHubHTTPError) -> float:
    with contextlib.suppress(ValueError):
        return float(error.response.headers.get("Retry-After", "0"))
    return 0.0
