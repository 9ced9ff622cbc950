"""`python -m serving doctor`: its arguments, and its examination of the embedded engine."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from serving.addresses import is_http
from serving.child import ChildFailed, ServingChild
from serving.doctor.doctor import TOTAL_SECONDS, examine
from serving.doctor.protocols import get_text
from serving.doctor.report import CannotExamine, Report
from serving.engines.remote import Limits, ask, client_session

KEY_VARIABLE = "TECH_ASSISTANT_UPSTREAM_KEY"
LOAD_SECONDS = 300.0


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
    if options.model is None:
        key = os.environ.get(options.key_env) or None
        return await examine(
            options.url,
            kind=options.kind,
            model=options.upstream_model,
            key=key,
            total_seconds=options.seconds,
        )
    child = ServingChild(["--model", str(options.model), "--offline"])
    try:
        await child.start()
        url = str(child.url)
        await _wait_until_ready(url, child.api_key)
        address = url if options.kind == "tgi" else f"{url}/v1"
        return await examine(address, kind=options.kind, key=child.api_key, total_seconds=options.seconds)
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
