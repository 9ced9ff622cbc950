"""A web application with sites, whose files a test may change while it runs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.sites import Site, Sites, make_site, new_key
from assistant.web.application import create_app
from storage.database import Database
from tests.support.fake_documentation import FakeDocumentation
from tests.support.fake_model import FakeServed
from tests.support.parts import Parts
from tests.web.conftest import KEY, running

ORIGIN, OTHER_ORIGIN = "https://docs.example.org", "https://www.example.net"
WIDE: Any = dict.fromkeys(
    ("visitor_minute", "visitor_day", "address_minute", "address_day", "site_minute", "site_day"), 10_000
)


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path / "sites")


def add_site(sites: Sites, **values: Any) -> Site:
    site = make_site(**{"key": new_key(), "name": "Docs", "origins": [ORIGIN], "limits": WIDE, **values})
    sites.save(site)
    return site


@pytest.fixture
def site(sites: Sites) -> Site:
    return add_site(sites)


@pytest.fixture
async def parts(
    tmp_path: Path, served: FakeServed, documentation: FakeDocumentation, sites: Sites
) -> AsyncIterator[Parts]:
    database = Database(tmp_path / "chats.db")
    yield Parts(database, served, documentation, sites, max_replies=8, max_waiting=64)
    database.close()


@pytest.fixture
async def address(parts: Parts, sites: Sites) -> AsyncIterator[str]:
    app = create_app(parts.replies, parts.chats, sites, key=KEY, may_manage=True)
    async with running(app) as address:
        yield address.replace("127.0.0.1", "localhost")
        await parts.close()


async def try_token(client: httpx.AsyncClient, key: str, **body: Any) -> httpx.Response:
    return await client.post(f"/widget/{key}/token", json={"origin": ORIGIN, **body})


async def token_of(client: httpx.AsyncClient, key: str, **body: Any) -> str:
    response = await try_token(client, key, **body)
    assert response.status_code == 200, response.text
    return str(response.json()["token"])


def visitor(address: str, token: str) -> httpx.AsyncClient:
    """A frame that shows its token to the API, and keeps no cookies."""
    return httpx.AsyncClient(base_url=address, timeout=20, headers={"Authorization": f"Bearer {token}"})
