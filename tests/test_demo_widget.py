"""The demonstration of the widget, and the examples of the line that embeds it."""

from __future__ import annotations

import re
from pathlib import Path

from assistant.sites import Sites
from scripts.demo_widget import NAME, Pages, demonstration_site

ROOT = Path(__file__).parents[1]
ADDRESS, OTHER = "http://docs.localhost:7861", "http://docs.localhost:7862"


def test_the_pages_are_those_of_the_documentation_and_have_the_line() -> None:
    pages = Pages("<script src='x'></script>")
    for path in ("/", "/embed", "/embed/", "/embed.md", "/embed.html"):
        page = pages.page(path)
        assert page is not None
        assert b"<script src='x'></script></head>" in page
        assert b'<h2 id="in-your-pages">In your pages</h2>' in page
    assert pages.page("/../app.py") is None
    assert pages.page("/nothing") is None


def test_the_site_of_the_demonstration_is_made_once(tmp_path: Path) -> None:
    sites = Sites(tmp_path / "sites")
    first, second = demonstration_site(sites, ADDRESS), demonstration_site(sites, OTHER)
    assert [site.key for site in sites.all()] == [first.key] == [second.key]
    assert (second.name, second.origins) == (NAME, (OTHER,))


def test_each_example_embeds_the_widget() -> None:
    files = [path for path in (ROOT / "examples").rglob("*") if path.is_file()]
    assert len(files) == 4
    for file in files:
        text = file.read_text()
        assert "https://assistant.example.org/widget/v1.js" in text
        assert re.search(r'data-site"?[=:] ?"KEY"', text)
        assert f"examples/{file.relative_to(ROOT / 'examples')}" in (ROOT / "docs" / "embed.md").read_text()
