"""The doctor examines a server: it runs all checks, within time limits, and reports what it found.

A key is sent to the server, and removed from everything that is reported.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import aiohttp

from serving.addresses import without_user
from serving.doctor.checks import CHECKS
from serving.doctor.client import Client
from serving.doctor.protocols import OpenAIProtocol
from serving.doctor.report import CannotExamine, Finding, Report, unknown, wrong
from serving.engines.remote import Limits, client_session

CHECK_SECONDS = 30.0
TOTAL_SECONDS = 240.0
CONNECT_SECONDS = 10.0


async def examine(
    url: str,
    *,
    kind: str | None = None,
    model: str | None = None,
    key: str | None = None,
    check_seconds: float = CHECK_SECONDS,
    total_seconds: float = TOTAL_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    on_text: Callable[[], None] = lambda: None,
) -> Report:
    """`url` is the address of a server, with or without /v1. See `Client` for the other parameters."""
    url = url.rstrip("/")
    findings: list[Finding] = []
    begun = time.monotonic()
    async with client_session(key, Limits(connect=CONNECT_SECONDS)) as http:
        client = Client(url, http, OpenAIProtocol(url), kind, key, model, clock, on_text)
        for name, check in CHECKS:
            left = begun + total_seconds - time.monotonic()
            if left <= 0:
                finding = unknown(
                    f"The limit of {total_seconds:g} seconds for the whole examination is over."
                )
                is_over = False
            else:
                finding, is_over = await _run(check, client, min(left, check_seconds))
            findings.append(
                replace(
                    finding,
                    name=name,
                    observation=_printable(finding.observation, _secrets(url, key)),
                    remedy=_printable(finding.remedy, _secrets(url, key)),
                )
            )
            if is_over:
                break
    return Report(without_user(url), client.protocol.kind, findings)


async def _run(
    check: Callable[[Client], Awaitable[Finding]], client: Client, seconds: float
) -> tuple[Finding, bool]:
    """What the check found, and whether the examination ends with it."""
    try:
        async with asyncio.timeout(seconds):
            return await check(client), False
    except CannotExamine as error:
        return wrong(str(error)), True
    except TimeoutError:
        if client.listed is None:
            return wrong(f"Nobody answers within {seconds:.0f} seconds."), True
        return unknown(f"There was no answer within {seconds:.0f} seconds."), False
    except (aiohttp.ClientError, OSError) as error:
        observation = f"The connection broke off ({type(error).__name__})."
        return wrong(observation, "Such a request fails, and the client gets an error that says so."), False


def _secrets(url: str, key: str | None) -> list[str]:
    """The key and the password, in every form in which a server may repeat them."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    header = base64.b64encode(f"{user}:{password}".encode()).decode() if password else ""
    return [secret for secret in (key, parts.password, password, header) if secret]


def _printable(text: str, secrets: list[str]) -> str:
    """The text without secrets and without control characters, which a terminal would execute."""
    for secret in secrets:
        text = text.replace(secret, "[key]")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
