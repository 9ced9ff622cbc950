"""docs/options.md says what the settings say."""

from assistant.settings import Settings
from scripts.options import GROUPS, page
from tests.test_imports import ROOT


def test_each_setting_has_a_group() -> None:
    assert sorted(" ".join(GROUPS.values()).split()) == sorted(Settings.model_fields)


def test_the_options_page_is_made_from_the_settings() -> None:
    written = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert written == page(), "run: .venv/bin/python -m scripts.options > docs/options.md"
