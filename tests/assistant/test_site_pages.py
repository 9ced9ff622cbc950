"""The pages of a site's addresses: fetched by the command, fetched again by the application, and searched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assistant import site_command
from assistant.knowledge.reading.addresses import CRAWL_FILE
from assistant.site_documentation import SiteDocumentation
from assistant.site_pages import RETRY_SECONDS, Refresher, fetch_in_process, folders_of
from assistant.sites import Site, Sites, make_site
from tests.knowledge.crawling.test_crawl import Web, server, web

__all__ = ("server", "web")  # fixtures

KEY = "k" * 16
ADDRESSES = (
    "https://docs.example.org",
    "https://docs.example.org/",
    "https://docs.example.org/a/",
    "https://docs.example.org/../x",
    "http://localhost:8000/b",
)


def site(sites: Sites, **values: object) -> Site:
    made = make_site(key=KEY, name="Docs", origins=("https://docs.example.org",), **values)
    sites.save(made)
    return made


def test_each_address_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = folders_of(site(Sites(tmp_path), addresses=ADDRESSES), tmp_path)
    assert folders["https://docs.example.org"] == tmp_path / "pages" / "docs.example.org"
    assert len(set(folders.values())) == len(ADDRESSES) - 1  # the first two are one
    assert {folder.resolve().parent for folder in folders.values()} == {tmp_path / "pages"}


async def test_only_what_is_due_is_fetched_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = 1e9
    fetched: list[list[str]] = []

    async def fetch(arguments: list[str]) -> str:
        fetched.append(arguments)
        return "the site answers 500"

    sites = Sites(tmp_path)
    refresher = Refresher(sites, fetch=fetch, now=lambda: now)
    made = site(sites, addresses=ADDRESSES[2:3])
    await refresher.refresh()
    assert fetched == []  # this site does not ask for it
    made = site(sites, addresses=ADDRESSES[2:3], refresh_hours=24, private_hosts=("docs.example.org",))
    (folder,) = folders_of(made, sites.place(KEY)).values()
    await refresher.refresh()
    command = ["fetch", "--allow-private-host", "docs.example.org", "--", ADDRESSES[2], str(folder)]
    assert [arguments[2:] for arguments in fetched] == [command]
    assert "the site answers 500" in caplog.text
    await refresher.refresh()
    assert len(fetched) == 1  # not at once after a failure
    now += RETRY_SECONDS
    await refresher.refresh()
    assert len(fetched) == 2
    folder.mkdir(parents=True)
    (folder / CRAWL_FILE).touch()
    os.utime(folder / CRAWL_FILE, (now, now))
    now += 24 * 3600 - 1
    await refresher.refresh()
    assert len(fetched) == 2
    now += 1
    await refresher.refresh()
    assert len(fetched) == 3


async def test_the_reason_of_a_failure_is_known(tmp_path: Path) -> None:
    command = ["-m", "assistant.knowledge", "fetch", "--", "http://127.0.0.1/", str(tmp_path)]
    assert "not an address of the public web" in await fetch_in_process(command)


async def test_a_site_searches_what_was_fetched_from_its_address(
    web: Web, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address = f"http://localhost:{web.port}/docs/"
    web.pages = {"/docs/": '<h1 id="zebra">Zebras</h1><p>Feed the zebra at noon.</p>'}

    def command(*arguments: str) -> int:
        return site_command.main(["site", *arguments, "--data", str(tmp_path)])

    assert command("add", "Docs", "--origin", "https://docs.example.org", "--docs-from", address) == 1
    assert "is not an address of the public web" in capfd.readouterr().err
    sites = Sites(tmp_path / "sites")
    (made,) = sites.all()
    assert command("set", made.key, "--allow-private-host", "localhost", "--refresh", "24") == 0
    assert command("refresh", made.key) == 0
    assert f"fetched  {address}" in capfd.readouterr().out
    documentation = SiteDocumentation(sites)
    try:
        found = await documentation.of(made.key)
        await found.wait_until_read()
        passages = (await found.search("When do I feed the zebra?")).passages
        assert [passage.url for passage in passages] == [f"{address}#zebra"]
    finally:
        await documentation.close()
    (folder,) = folders_of(made, sites.place(made.key)).values()
    assert folder.is_dir()
    assert command("set", made.key, "--docs-from", "", "--refresh", "never") == 0
    assert not folder.exists()
    assert command("refresh", made.key) == 2
