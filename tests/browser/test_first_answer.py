"""The first start on a machine without a network, a model or an index of documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.chat_page import ChatPage
from tests.support.application import running


@pytest.mark.parametrize("look", [{"viewport": {"width": 390, "height": 700}}])
def test_the_first_question_is_answered_by_quotation_and_the_answer_stays(
    context: BrowserContext, tmp_path: Path
) -> None:
    options = ("--offline", "--model", "auto", "--documentation")
    with running(tmp_path / "data", *options) as application:
        application.wait_for_page()
        chat = ChatPage(context, application.address)
        chat.ask("How do I remove a folder with everything in it?")
        application.wait_for_documentation()
        quotation = chat.answer.get_by_text("Recursively delete a directory tree.").first
        expect(quotation).to_be_in_viewport()  # the page shows the beginning of a long answer
        expect(chat.questions.last).to_be_in_viewport()
        expect(chat.answer.get_by_text("From the documentation")).to_be_visible()
        expect(chat.chips.first).to_contain_text("[1]shutil.rmtree")
        chat.chips.first.click()
        expect(chat.answer.locator(".source").first).to_contain_text("shutil.py:")
        count = chat.chips.count()
        chat.page.reload()
        expect(chat.chips).to_have_count(count)
        expect(chat.answer).to_contain_text("Recursively delete a directory tree.")
        chat.ask("What does shutil.rmtreee do?")
        expect(chat.answer).to_contain_text("Did you mean shutil.rmtree")
        expect(chat.answer.get_by_role("group", name="Sources")).to_have_count(0)
