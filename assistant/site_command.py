"""The command `python -m assistant site`: add, list, show, change, remove and report on sites, for operators.

It reads and writes the files of `assistant/sites.py`, so it works while the application runs, and without it.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assistant.knowledge.documentation import ROOT
from assistant.report.formats import as_csv, as_text
from assistant.report.report import PERIODS, beginning, make_report
from assistant.settings import BadSettings, Settings, read_settings
from assistant.site_pages import arguments_of, folders_of
from assistant.sites import (
    BadSite,
    NoSuchSite,
    Site,
    SiteLimits,
    Sites,
    changed,
    give_to_owner_of,
    hash_of,
    make_site,
    new_key,
)
from storage.errors import StorageError
from storage.exchanges import ExchangeStore
from storage.read_only import ReadOnlyDatabase

# Each value of these is given by an option of its own.
LISTS = ("origins", "docs", "addresses", "private_hosts", "suggestions")
OPTIONS = {
    "origins": "--origin",
    "suggestions": "--suggestion",
    "addresses": "--docs-from",
    "refresh_hours": "--refresh",
    "private_hosts": "--allow-private-host",
    "texts": "--text",
    "limits": "--limit",
    "uses_model": "--model",
}  # the others have the names of their fields
NEVER = "for-ever"
NEVER_AGAIN = "never"
LIMITS = [name.replace("_", "-") for name in asdict(SiteLimits())]
REMOVED = """The site {name!r} ({key}) is removed. Its widget and its tokens are refused from now on.
Its index and its fetched pages are deleted. Its chats are deleted for good: within a minute if the
application runs, else when it starts the next time."""


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings(["--data", options.data] if options.data else [])
        sites = Sites(settings.data / "sites")
        return int(options.run(options, sites, settings) or 0)
    except (BadSettings, BadSite, NoSuchSite, StorageError) as error:
        print(_in_options(str(error)), file=sys.stderr)
        return 2
    except OSError as error:
        print(f"The site cannot be written: {error}", file=sys.stderr)
        return 1


def _add(options: argparse.Namespace, sites: Sites, settings: Settings) -> int:
    secret = secrets.token_urlsafe(32)
    values = _given(options, {})
    identity_key = secrets.token_urlsafe(48) if options.new_identity_key else None
    if identity_key is not None:
        values["identity_keys"] = (identity_key,)
    site = make_site(key=new_key(), report_secret_hash=hash_of(secret), **values)
    sites.save(site)
    print(f"The site {site.name!r} has the key {site.key}.\n")
    _print_lines(site, _address(options, settings))
    print(f"The secret of the site's report. It is shown only now:\n\n    {secret}\n")
    _print_identity_key(identity_key)
    return _fetch_pages(site, sites) if site.addresses else 0


def _list(options: argparse.Namespace, sites: Sites, settings: Settings) -> None:
    for site in sites.all():
        print(f"{site.key}  {site.name}  {' '.join(site.origins)}")


def _show(options: argparse.Namespace, sites: Sites, settings: Settings) -> None:
    site = sites.existing(options.key)
    for name, value in asdict(site).items():
        if name == "limits":
            value = " ".join(f"{limit.replace('_', '-')}={most}" for limit, most in value.items())
        elif name == "texts":
            value = "; ".join(f"{text}={words}" for text, words in value.items())
        elif name == "identity_keys":
            value = f"{len(value)}, which are in the site's file alone" if value else "none"
        elif name == "report_secret_hash":
            name, value = "report_secret", "set" if value else "none"
        elif name == "keep_days":
            value = NEVER if value is None else value
        elif name == "refresh_hours":
            value = NEVER_AGAIN if value is None else value
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, tuple):
            value = "; ".join(value)
        print(f"{name.replace('_', '-') + ':':15} {value}".rstrip())
    print()
    _print_lines(site, _address(options, settings))


def _set(options: argparse.Namespace, sites: Sites, settings: Settings) -> int:
    site = sites.existing(options.key)
    values = _given(options, asdict(site))
    secret = identity_key = None
    if options.new_report_secret:
        secret = secrets.token_urlsafe(32)
        values["report_secret_hash"] = hash_of(secret)
    if options.new_identity_key:
        identity_key = secrets.token_urlsafe(48)
        values["identity_keys"] = (identity_key, *site.identity_keys)[:2]
    elif options.drop_old_identity_key:
        values["identity_keys"] = site.identity_keys[:1]
    elif options.no_identity:
        values["identity_keys"] = ()
    if not values:
        raise BadSite("There is nothing to change: give an option. `--help` lists them.")
    new = changed(site, **values)
    sites.save(new)
    place = sites.place(site.key)
    for folder in set(folders_of(site, place).values()) - set(folders_of(new, place).values()):
        shutil.rmtree(folder, ignore_errors=True)
    print(f"The site {site.name!r} ({site.key}) is changed: {', '.join(sorted(values)).replace('_', '-')}.")
    if secret is not None:
        print(f"The new secret of the site's report. It is shown only now:\n\n    {secret}\n")
    _print_identity_key(identity_key)
    return _fetch_pages(new, sites) if values.get("addresses") else 0


def _refresh(options: argparse.Namespace, sites: Sites, settings: Settings) -> int:
    site = sites.existing(options.key)
    if not site.addresses:
        raise BadSite("The site has no address to fetch from. `site set KEY --docs-from URL` gives it one.")
    return _fetch_pages(site, sites)


def _fetch_pages(site: Site, sites: Sites) -> int:
    """Fetch the pages of all addresses, and show what is fetched. Returns the exit status."""
    place = sites.place(site.key)
    failed = 0
    for address, folder in folders_of(site, place).items():
        print(f"Fetching {address}", flush=True)
        command = [sys.executable, *arguments_of(site, address, folder)]
        failed |= subprocess.run(command, cwd=ROOT, check=False).returncode
    pages = place / "pages"
    for made in (pages, *pages.rglob("*")) if pages.is_dir() else ():
        give_to_owner_of(place.parent.parent, made)
    if failed:
        print(f"Try it again with `python -m assistant site refresh {site.key}`.", file=sys.stderr)
    return 1 if failed else 0


def _remove(options: argparse.Namespace, sites: Sites, settings: Settings) -> None:
    site = sites.existing(options.key)
    sites.remove(site.key)
    print(REMOVED.format(name=site.name, key=site.key))


def _report(options: argparse.Namespace, sites: Sites, settings: Settings) -> None:
    site = sites.existing(options.key)
    now = datetime.now(UTC)
    exchanges = ExchangeStore(ReadOnlyDatabase(settings.data / "tech-assistant.db"))
    found = asyncio.run(exchanges.of_site(site.key, since=beginning(options.days, now)))
    report = make_report(found, options.days, now)
    print(as_csv(report) if options.csv else as_text(report, site.name), end="")


def _given(options: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    """The values of a site that options name. An option without a value empties a list."""
    fields = ("name", *LISTS, "library", "uses_model", "tone", "greeting", "colour", "position", "language")
    values = {name: getattr(options, name) for name in fields if getattr(options, name) is not None}
    for name in LISTS:
        if name in values:
            values[name] = tuple(value for value in values[name] if value)
    if "docs" in values:
        values["docs"] = tuple(_absolute(docs) for docs in values["docs"])
    if options.refresh_hours is not None:
        values["refresh_hours"] = None if options.refresh_hours == NEVER_AGAIN else options.refresh_hours
    if options.keep_days is not None:
        values["keep_days"] = None if options.keep_days == NEVER else options.keep_days
    if options.texts is not None:
        texts = {
            **before.get("texts", {}),
            **dict(_pair(text, "--text", "ID=TEXT") for text in options.texts),
        }
        values["texts"] = {name: text for name, text in texts.items() if text}
    if options.limits is not None:
        limits = dict(_pair(limit, "--limit", "NAME=NUMBER") for limit in options.limits)
        if unknown := [name for name in limits if name not in LIMITS]:
            raise BadSite(f"--limit: there is no {unknown[0]!r}. The limits are: {', '.join(LIMITS)}.")
        named = {name.replace("-", "_"): number for name, number in limits.items()}
        values["limits"] = {**before.get("limits", {}), **named}
    return values


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise BadSite(f"{option}: {text!r} must be {form}")
    return name.strip(), value.strip()


def _absolute(docs: str) -> str:
    """FOLDER or FOLDER=URL with an absolute folder, which must exist."""
    path, _, url = docs.rpartition("=")
    is_pair = path and url.startswith(("http://", "https://"))
    folder = Path(os.path.expanduser(path if is_pair else docs)).absolute()
    if not folder.is_dir():
        raise BadSite(f"--docs: there is no folder {folder}")
    return f"{folder}={url}" if is_pair else str(folder)


def _in_options(message: str) -> str:
    """The message with the names of options in place of those of fields."""

    def option(field: re.Match[str]) -> str:
        name, _, limit = field[1].partition(".")
        named = OPTIONS.get(name, f"--{name}") + (f" {limit}" if name == "limits" else "")
        return f"{named.replace('_', '-')}: "

    return re.sub(r"^([a-z_]+(?:\.\w+)*): ", option, message, flags=re.MULTILINE)


def _address(options: argparse.Namespace, settings: Settings) -> str:
    """The address of the application as browsers see it, as far as the settings say."""
    if options.server:
        return str(options.server).rstrip("/")
    if settings.allowed_hosts:
        return f"https://{settings.allowed_hosts[0]}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def _print_lines(site: Site, address: str) -> None:
    from assistant.web.widget.loader import loader_integrity, script_line

    print(
        f"Paste this line into the pages of {' and '.join(site.origins) or 'the site'}:\n\n"
        f"    {script_line(site, address)}\n\n"
        "Or show the widget as a part of a page:\n\n"
        f'    <iframe src="{address}/widget/{site.key}" title="Assistant" width="400" height="600">'
        "</iframe>\n\n"
        "The integrity hash of v1.js, which changes with a release:\n\n"
        f"    {loader_integrity()}\n"
        f"\nThe report of what visitors ask:\n\n    {address}/sites/{site.key}/report\n"
    )


def _print_identity_key(key: str | None) -> None:
    if key is not None:
        print(f"The key with which the site signs the JWT of its user. It is shown only now:\n\n    {key}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m assistant", description="The sites that embed the widget."
    )
    things = parser.add_subparsers(required=True, metavar="site")
    commands = things.add_parser(
        "site", help="add, list, show, refresh, set or remove a site"
    ).add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help)
        made.set_defaults(run=run)
        made.add_argument(
            "--data", metavar="FOLDER", help="the application's data directory; else TECH_ASSISTANT_DATA"
        )
        return made

    adding = command("add", _add, "add a site, and print the line to paste into its pages")
    adding.add_argument("name", metavar="NAME", help="the name that visitors see")
    _add_values(adding, is_new=True)
    command("list", _list, "list all sites")
    showing = command("show", _show, "show what is set for a site, and the line to paste")
    refreshing = command("refresh", _refresh, "fetch what has changed of a site's documentation")
    setting = command("set", _set, "change what is set for a site; a list is replaced as a whole")
    removing = command("remove", _remove, "remove a site, its index and its chats")
    reporting = command("report", _report, "report what visitors of a site ask, and what was not answered")
    reporting.add_argument(
        "--days", type=int, choices=PERIODS, default=30, help="how many days until today (30)"
    )
    reporting.add_argument("--csv", action="store_true", help="print the gaps as CSV, one a line")
    for one in (showing, refreshing, setting, removing, reporting):
        one.add_argument("key", metavar="KEY", help="the site's key")
    setting.add_argument("--name", metavar="NAME", help="the name that visitors see")
    _add_values(setting, is_new=False)
    setting.add_argument(
        "--new-report-secret", action="store_true", help="make a new secret for the site's report"
    )
    for one in (adding, showing):
        one.add_argument("--server", metavar="URL", help="the application's address, for the lines to paste")
    return parser


def _add_values(parser: argparse.ArgumentParser, *, is_new: bool) -> None:
    """The options for a site's values."""
    add = parser.add_argument
    add(
        "--origin",
        dest="origins",
        action="append",
        required=is_new,
        metavar="ORIGIN",
        help="an origin whose pages may embed the widget, such as https://docs.example.org (repeatable)",
    )
    add(
        "--docs",
        action="append",
        metavar="FOLDER[=URL]",
        help="a folder of the site's documentation, and its address on the web (repeatable)",
    )
    add(
        "--docs-from",
        dest="addresses",
        action="append",
        metavar="URL",
        help="an address on the web whose documentation is fetched now (repeatable)",
    )
    add(
        "--refresh",
        dest="refresh_hours",
        metavar="HOURS",
        help=f"how often the application fetches it again, or {NEVER_AGAIN}, which is usual",
    )
    add(
        "--allow-private-host",
        dest="private_hosts",
        action="append",
        metavar="NAME",
        help="let this host of --docs-from have an address of a private network (repeatable)",
    )
    add(
        "--library",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether Python's standard library is searched too (no)",
    )
    add(
        "--model",
        dest="uses_model",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the model answers; else the documentation is quoted (yes)",
    )
    add("--tone", metavar="TEXT", help="a sentence or two that tell the model how to answer")
    add("--greeting", metavar="TEXT", help="what visitors read first")
    add(
        "--suggestion",
        dest="suggestions",
        action="append",
        metavar="TEXT",
        help="a question that visitors can choose (repeatable)",
    )
    add("--colour", metavar="#RRGGBB", help="the accent colour")
    add("--position", choices=("right", "left"), help="the corner of the launcher")
    add("--language", metavar="TAG", help="the language of the frame's own texts: en, de, fr, es, pt, zh, ja")
    add(
        "--text",
        dest="texts",
        action="append",
        metavar="ID=TEXT",
        help="a text of the frame; ID= brings the usual one back (repeatable)",
    )
    add("--keep-days", metavar="DAYS", help=f"how long a chat is kept after its last question, or {NEVER}")
    add(
        "--limit",
        dest="limits",
        action="append",
        metavar="NAME=NUMBER",
        help=f"a limit (repeatable): {', '.join(LIMITS)}",
    )
    identity = parser.add_mutually_exclusive_group()
    identity.add_argument(
        "--new-identity-key",
        action="store_true",
        help="make a key with which the site signs the JWT of its user; the key before it stays valid",
    )
    if not is_new:
        identity.add_argument("--drop-old-identity-key", action="store_true", help="keep only the newest key")
        identity.add_argument("--no-identity", action="store_true", help="accept no JWT any more")
