"""Each site is searched in its own documentation, with real indexes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from assistant.engine import EngineState
from assistant.knowledge.documentation import Documentation, DocumentationState
from assistant.site_documentation import SiteDocumentation
from assistant.sites import Site, Sites, changed, make_site, new_key
from assistant.visitors import Visitor
from storage.database import Database
from tests.assistant.conftest import OWNER, events
from tests.support.fake_documentation import FakeDocumentation
from tests.support.fake_model import FakeServed
from tests.support.parts import Parts


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path / "data" / "sites")


@pytest.fixture
async def documentation(sites: Sites) -> AsyncIterator[SiteDocumentation]:
    documentation = SiteDocumentation(sites, most_open=2)
    yield documentation
    await documentation.close()


def add(sites: Sites, tmp_path: Path, product: str, **values: Any) -> Site:
    """A site whose documentation tells how to start its product."""
    folder = tmp_path / product
    folder.mkdir(exist_ok=True)
    text = f"# Start {product}\n\nRun `{product}-serve --now` to start the server of {product}.\n"
    (folder / "start.md").write_text(text)
    docs = [f"{folder}=https://{product}.example.org/"]
    site = make_site(
        **{"key": new_key(), "name": product, "origins": ["https://a.org"], "docs": docs, **values}
    )
    sites.save(site)
    return site


async def found(documentation: SiteDocumentation, site: Site, question: str) -> list[str]:
    """Where the answers are, after all changes have been read."""
    await (await documentation.of(site.key)).wait_until_read()
    result = await (await documentation.of(site.key)).search(question)
    return [passage.url for passage in result.passages]


async def test_a_site_is_searched_in_its_own_documentation_as_it_is_set_now(
    sites: Sites, documentation: SiteDocumentation, tmp_path: Path
) -> None:
    zebra, yak = add(sites, tmp_path, "zebra"), add(sites, tmp_path, "yak")
    await documentation.start()
    both = "How do I start the server of zebra and of yak?"
    assert await found(documentation, zebra, both) == ["https://zebra.example.org/start.html#start-zebra"]
    assert await found(documentation, yak, both) == ["https://yak.example.org/start.html#start-yak"]
    assert await found(documentation, yak, "How do I remove a folder with shutil.rmtree?") == []
    status = (await documentation.of(zebra.key)).status
    assert (status.state, status.passages) == (DocumentationState.READY, 1)
    assert (await documentation.of(zebra.key)).version is None
    # The owner changes the folders while the application runs.
    sites.save(changed(zebra, docs=yak.docs))
    assert await found(documentation, zebra, both) == ["https://yak.example.org/start.html#start-yak"]
    # A third one: the one that was used longest ago is closed, and opened again when it is needed.
    gnu = add(sites, tmp_path, "gnu")
    assert await found(documentation, gnu, "How do I start gnu?") != []
    assert len(documentation) == 2
    assert await found(documentation, yak, both) == ["https://yak.example.org/start.html#start-yak"]
    sites.remove(yak.key)
    assert await found(documentation, yak, both) == []
    assert not sites.place(yak.key).exists()
    assert (await documentation.of("x" * 16)).status.state is DocumentationState.OFF


async def test_look_ups_that_have_begun_end_before_their_index_is_closed(
    sites: Sites, documentation: SiteDocumentation, tmp_path: Path
) -> None:
    site = add(sites, tmp_path, "zebra")
    assert await found(documentation, site, "How do I start zebra?") != []
    before = await documentation.of(site.key)
    looking = [asyncio.create_task(before.search(f"How do I start zebra {n}?")) for n in range(5)]
    await asyncio.sleep(0)
    sites.save(changed(site, docs=[]))
    assert await documentation.of(site.key) is not before
    for look in looking:
        assert (await look).passages


async def test_what_was_fetched_is_searched_and_read_again_when_it_changes(
    sites: Sites, documentation: SiteDocumentation, tmp_path: Path
) -> None:
    site = add(sites, tmp_path, "zebra", docs=[], addresses=["https://docs.example.org/guide/"])
    assert await found(documentation, site, "How do I feed a zebra?") == []
    pages = sites.place(site.key) / "pages" / "docs.example.org"
    pages.mkdir(parents=True)
    (pages / "feed.md").write_text("# Feed a zebra\n\nGive the zebra some grass twice a day.\n")
    (pages / ".crawl.json").write_text("{}")
    assert await found(documentation, site, "How do I feed a zebra?") == [
        "https://docs.example.org/feed.html#feed-a-zebra"
    ]


async def test_an_answer_quotes_the_documentation_of_its_site_alone(
    sites: Sites, tmp_path: Path, database: Database
) -> None:
    site = add(sites, tmp_path, "zebra", uses_model=False)
    main = FakeDocumentation()
    parts = Parts(database, served := FakeServed(), main, sites)
    await parts.start()
    served.set(EngineState.FAILED)  # which does not concern a site that has no model
    asked = await parts.replies.ask(
        OWNER, None, "How do I start the server of zebra?", visitor=Visitor(site, OWNER, "::1")
    )
    await events(parts, asked.reply_id)  # type: ignore[arg-type]
    reply = await parts.chats.reply(OWNER, asked.reply_id)
    assert reply.content.startswith("**Start zebra**")
    assert "zebra-serve --now" in reply.content
    assert [source.url for source in reply.sources] == ["https://zebra.example.org/start.html#start-zebra"]
    assert (reply.provenance.model, reply.provenance.revision) == ("documentation", None)
    assert main.asked == []
    await parts.close()


def test_without_a_path_there_is_no_documentation() -> None:
    assert Documentation(None).is_idle
