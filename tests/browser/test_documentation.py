"""Documentation on the page: sources, labels, progress and the switch, with a scripted engine."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Route, expect

from tests.browser.scripted_page import BUILDING, MODEL, QUOTES, READ, TEXT, Scripted


def test_a_chip_opens_and_closes_the_quoted_lines(scripted: Scripted) -> None:
    chat = scripted(MODEL, asked="Trees")
    expect(chat.chips).to_have_text(
        ["[1]shutil.rmtree· Python 3.11.2", "[2]Example: shutil.rmtree· Python 3.11.2"]
    )
    lines = chat.answer.get_by_text("Recursively delete a directory tree.").first
    expect(lines).to_be_hidden()
    chat.chips.first.press("Enter")
    expect(chat.chips.first).to_have_attribute("aria-expanded", "true")
    expect(lines).to_be_visible()
    expect(chat.answer.locator(".facts").first).to_have_text(
        "Python 3.11.2 · shutil.py:722 · PSF-2.0 · docs.python.org"
    )
    expect(chat.answer.locator(".source a")).to_have_count(1)  # only an address of the web becomes a link
    chat.chips.first.press("Enter")
    expect(lines).to_be_hidden()
    for inside in (chat.chips.last, chat.answer.get_by_label("Quoted lines").last):
        chat.chips.last.press("Enter")
        inside.press("Escape")
        expect(chat.answer.locator(".source").last).to_be_hidden()
        expect(chat.chips.last).to_have_attribute("aria-expanded", "false")
        expect(chat.chips.last).to_be_focused()


def test_a_number_in_the_text_leads_to_its_source_but_not_in_code(scripted: Scripted) -> None:
    chat = scripted(MODEL, asked="Trees")
    links = chat.answer.locator("a.cite")
    expect(links).to_have_text(["[1]", "[2]"])
    address = chat.page.url
    links.last.click()
    expect(chat.chips.last).to_be_focused()
    expect(chat.answer.locator(".source").last).to_be_visible()
    assert chat.page.url == address


def test_print_lists_the_sources_and_shows_neither_quotations_nor_buttons(scripted: Scripted) -> None:
    chat = scripted(MODEL, asked="\n".join(f"line {number}" for number in range(40)))
    chat.chips.first.click()
    chat.page.emulate_media(media="print")
    expect(chat.answer.locator(".source")).to_have_count(2)
    for source, words in zip(
        chat.answer.locator(".source").all(),
        ("[1] shutil.rmtree", "[2] Example: shutil.rmtree"),
        strict=True,
    ):
        expect(source).to_be_visible()
        expect(source).to_contain_text(words)
        expect(source).to_contain_text("Python 3.11.2 · ")
    address = "(node) => getComputedStyle(node, '::after').content"
    assert chat.answer.locator(".facts a").evaluate(address) == '"https://docs.python.org/3/"'
    expect(chat.page.locator(".source blockquote:visible, button:visible, textarea:visible")).to_have_count(0)
    height = chat.bubbles.evaluate("node => node.clientHeight")
    assert height > 40 * 20  # it is not folded


def test_forced_colours_leave_focus_buttons_and_choices_visible(
    scripted: Scripted, context: BrowserContext
) -> None:
    chat = scripted(MODEL, asked="Trees")
    chat.page.emulate_media(forced_colors="active")
    chat.composer.focus()
    expect(chat.page.locator("#tech-composer")).to_have_css("outline-style", "solid")
    expect(chat.page.locator("tech-conversations a[aria-current]")).to_have_css("outline-style", "solid")
    expect(chat.page.locator("tech-grounding button")).to_have_css("outline-style", "solid")
    for button in (chat.send, chat.answer.get_by_role("button", name="Copy answer"), chat.chips.first):
        expect(button).to_have_css("border-top-style", "solid")
    chat.start_editing(chat.questions.first)
    expect(chat.page.locator(".editor")).to_have_css("outline-style", "solid")


def test_an_answer_of_the_documentation_is_labelled_and_the_introduction_gone(scripted: Scripted) -> None:
    chat = scripted(QUOTES)
    expect(chat.account).to_contain_text("no language model is loaded.")
    expect(chat.page.locator("tech-grounding")).to_be_hidden()
    chat.page.get_by_role("button", name="Remove a folder").click()
    chat.expect_status("done")
    expect(chat.answer.locator(".origin")).to_have_text("From the documentation")
    expect(chat.answer.locator(".origin")).to_be_visible()
    expect(chat.page.locator("tech-chat .intro")).to_be_hidden()
    expect(chat.page.get_by_role("heading", level=1)).to_have_count(1)


def test_the_switch_holds_for_its_conversation(scripted: Scripted) -> None:
    chat = scripted(MODEL)
    switch = chat.page.get_by_role("button", name="Documentation")
    expect(switch).to_have_attribute("aria-pressed", "true")
    switch.click()
    expect(switch).to_have_attribute("aria-pressed", "false")
    chat.ask_and_wait("Without")
    assert chat.stored_conversation()["grounding"] is False
    with chat.page.expect_response(f"**/api/conversations/{chat.conversation}"):
        switch.click()
    assert chat.stored_conversation()["grounding"] is True


def test_what_a_chip_opens_is_brought_into_view(scripted: Scripted) -> None:
    chat = scripted(MODEL)
    chat.page.set_viewport_size({"width": 900, "height": 420})
    chat.ask_and_wait("Trees")
    chat.page.get_by_role("region", name="Conversation").evaluate("node => { node.scrollTop -= 60; }")
    expect(chat.chips.first).to_be_in_viewport()
    chat.chips.first.press("Enter")
    expect(chat.answer.locator(".source .facts").first).to_be_in_viewport(ratio=1)


def test_sources_are_copied_with_the_answer(scripted: Scripted) -> None:
    chat = scripted(MODEL, asked="Trees")
    chat.answer.get_by_role("button", name="Copy answer").click()
    expect(chat.answer.get_by_role("button", name="Copied")).to_be_visible()
    assert chat.clipboard == (
        f"{TEXT}\n\nSources:\n\n"
        "1. `shutil.rmtree`, Python 3.11.2, shutil.py:722, PSF-2.0, https://docs.python.org/3/\n"
        "2. Example: `shutil.rmtree`, Python 3.11.2, a.py:1, PSF-2.0"
    )


@pytest.mark.parametrize(
    ("engine", "truth", "is_labelled"),
    [
        pytest.param(QUOTES, "Small", False, id="the model had come"),
        pytest.param(MODEL, "documentation", True, id="there was no model"),
    ],
)
def test_at_the_end_label_and_details_name_what_really_answered(
    scripted: Scripted, engine: dict[str, Any], truth: str, is_labelled: bool
) -> None:
    chat = scripted(engine)
    chat.model = truth
    chat.ask_and_wait("Trees")
    label = chat.answer.get_by_text("From the documentation")
    expect(label).to_be_visible() if is_labelled else expect(label).to_be_hidden()
    chat.answer.get_by_role("button", name="Details").click()
    who = "Documentation of Python 3.11.2" if is_labelled else "Small"
    expect(chat.answer.locator(".details")).to_contain_text(f" · {who} · 0.1 s")


def test_while_the_documentation_is_read_the_waiting_answer_is_labelled_and_progress_shown(
    scripted: Scripted, context: BrowserContext
) -> None:
    chat = scripted({**QUOTES, "documentation": BUILDING})
    reading = chat.account.get_by_role("progressbar", name="The documentation is being read")
    expect(reading).to_have_attribute("aria-valuenow", "33")
    expect(chat.account).to_contain_text("Reading the documentation: 33 %")
    held: list[Route] = []
    context.route("**/events", lambda route: held.append(route))
    chat.ask("Trees")
    expect(chat.answer).to_contain_text("The documentation is still being read.")
    expect(chat.answer.get_by_text("From the documentation")).to_be_visible()
    expect(reading).to_be_visible()
    chat.engine["documentation"] = READ
    expect(reading).to_be_hidden()
    expect(chat.answer).not_to_contain_text("still being read")
    expect(chat.spoken.last).to_have_text("The documentation has been read.")
    expect(chat.account.get_by_text("Reading the documentation")).to_be_hidden()


@pytest.mark.parametrize("state", ["failed", "ready"])
def test_documentation_that_could_not_be_read_is_reported(scripted: Scripted, state: str) -> None:
    failed = {**READ, "state": state, "detail": "The documentation could not be read: the disk is full."}
    chat = scripted({**QUOTES, "documentation": failed})
    expect(chat.account.get_by_text("The documentation could not be read: the disk is full.")).to_be_visible()
    expect(chat.account.get_by_role("progressbar")).to_have_count(0)


def test_a_button_shows_how_to_load_a_model(scripted: Scripted) -> None:
    chat = scripted({**QUOTES, "detail": "Start with `--model FILE.gguf`."})
    how = chat.page.get_by_role("button", name="How to load one")
    advice = chat.account.get_by_text("Start with")
    expect(advice).to_be_hidden()
    how.press("Enter")
    expect(how).to_have_attribute("aria-expanded", "true")
    expect(advice).to_be_visible()
    expect(advice.locator("code")).to_have_text("--model FILE.gguf")


def test_a_switch_that_fails_returns_to_its_state_and_says_why(
    scripted: Scripted, context: BrowserContext
) -> None:
    chat = scripted(MODEL, asked="Trees")
    switch = chat.page.get_by_role("button", name="Documentation")
    refused: list[Route] = []

    def refuse(route: Route) -> None:
        if route.request.method != "PATCH":
            route.fallback()
        elif refused:
            route.fulfill(status=503, json={"type": "database", "detail": "The database is locked."})
        else:
            refused.append(route)

    context.route("**/api/conversations/*", refuse)
    with chat.page.expect_request("**/api/conversations/*"):
        switch.click()  # off
    switch.click()  # on
    switch.click()  # off
    expect(switch).to_have_attribute("aria-pressed", "false")
    refused[0].fulfill(status=204)
    expect(chat.alarm).to_contain_text("could not be switched off. The database is locked.")
    expect(switch).to_have_attribute("aria-pressed", "false")  # as the first one has it
    switch.click()
    expect(chat.alarm).to_contain_text("could not be switched on. The database is locked.")
    expect(switch).to_have_attribute("aria-pressed", "false")
