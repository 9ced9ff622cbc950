"""`python -m serving doctor` examines a server: it runs all checks, within time limits, and reports what it
found.

A key is sent to the server, and removed from everything that is reported.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp

from serving.addresses import is_http, without_user
from serving.child import ChildFailed, ServingChild
from serving.doctor.checks import CHECKS
from serving.doctor.client import Client, OpenAIProtocol, get_text
from serving.doctor.report import CannotExamine, Finding, NoText, Report, unknown, wrong
from serving.engines.remote import Limits, ask, client_session

KEY_VARIABLE = "TECH_ASSISTANT_UPSTREAM_KEY"
LOAD_SECONDS = 300.0
CHECK_SECONDS = 30.0
TOTAL_SECONDS = 240.0
CONNECT_SECONDS = 10.0


def main(arguments: Sequence[str]) -> int:
    """0: usable; 1: something is wrong that we do not make up for; 2: the server could not be examined."""
    parser = argparse.ArgumentParser(
        prog="python -m serving doctor",
        description="Check what an upstream or the embedded engine does right, and what we make up for.",
    )
    parser.add_argument("url", nargs="?", metavar="URL", help="such as http://127.0.0.1:8000/v1")
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="examine the embedded engine with this GGUF file"
    )
    parser.add_argument("--kind", choices=("openai", "tgi"), help="the protocol (default: detected)")
    parser.add_argument(
        "--upstream-model", metavar="NAME", help="the name of the model on the server (default: its first)"
    )
    parser.add_argument(
        "--key-env",
        metavar="NAME",
        default=KEY_VARIABLE,
        help="the environment variable with the key (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--seconds",
        type=float,
        default=TOTAL_SECONDS,
        metavar="SECONDS",
        help="limit for the whole examination (%(default)g)",
    )
    options = parser.parse_args(arguments)
    if (options.url is None) == (options.model is None):
        parser.error("name either a URL or --model FILE")
    if options.url is not None and not is_http(options.url):
        parser.error("the URL must be an address such as http://127.0.0.1:8000/v1")
    try:
        report = asyncio.run(_report(options))
    except CannotExamine as error:
        sys.stderr.write(f"serving doctor: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(report.as_json() + "\n" if options.json else report.table())
    return 0 if report.is_usable else 1


async def _report(options: argparse.Namespace) -> Report:
    kind, seconds = options.kind, options.seconds
    if options.model is None:
        key, model = os.environ.get(options.key_env) or None, options.upstream_model
        return await examine(options.url, kind=kind, model=model, key=key, total_seconds=seconds)
    child = ServingChild(["--model", str(options.model), "--offline"])
    try:
        await child.start()
        url = str(child.url)
        await _wait_until_ready(url, child.api_key)
        address = url if kind == "tgi" else f"{url}/v1"
        return await examine(address, kind=kind, key=child.api_key, total_seconds=seconds)
    except ChildFailed as error:
        raise CannotExamine(f"The embedded engine could not be started: {error}") from error
    finally:
        await child.stop()


async def _wait_until_ready(url: str, key: str) -> None:
    async with client_session(key, Limits()) as http:
        begun = time.monotonic()
        while True:
            _, info = await ask(http, f"{url}/info", seconds=None)
            state = get_text(info, "state")
            if state == "ready":
                return
            if state == "failed" or time.monotonic() - begun > LOAD_SECONDS:
                raise CannotExamine(get_text(info, "state_detail") or "The model is not ready.")
            await asyncio.sleep(0.1)


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
    secrets = _secrets(url, key)
    findings: list[Finding] = []
    begun = time.monotonic()
    async with client_session(key, Limits(connect=CONNECT_SECONDS)) as http:
        client = Client(url, http, OpenAIProtocol(url), kind, key, model, clock, on_text)
        for name, check in CHECKS:
            is_last = False
            left = begun + total_seconds - time.monotonic()
            if left <= 0:
                finding = unknown(
                    f"The limit of {total_seconds:g} seconds for the whole examination is over."
                )
            else:
                finding, is_last = await _run(check, client, min(left, check_seconds))
            observation, remedy = (
                _printable(finding.observation, secrets),
                _printable(finding.remedy, secrets),
            )
            findings.append(replace(finding, name=name, observation=observation, remedy=remedy))
            if is_last:
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
    except NoText as error:
        return unknown(str(error)), False
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
