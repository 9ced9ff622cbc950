"""Downloads, licences and lost models on the page, with a scripted engine."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.scripted_page import DOWNLOAD, LICENCE, LOST, MODEL, QUOTES, Scripted
from tests.browser.test_accessibility import TWO_LOOKS, Inspection

DOWNLOAD_STATES = ("offered", "running", "declined", "failed")
FETCHING = {**QUOTES, "state": "fetching", "download": DOWNLOAD}
UNACCEPTED = {**MODEL, "licence": LICENCE}


def test_a_download_is_shown_and_declined_and_then_the_model_answers(scripted: Scripted) -> None:
    chat = scripted(FETCHING)
    expect(chat.download).to_contain_text("Fetching Small (986 MB, Apache-2.0) from Hugging Face: 43 %")
    expect(chat.download.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "43")
    chat.download.get_by_role("button", name="Don’t fetch").click()
    chat.engine["download"] = {**DOWNLOAD, "state": "declined"}
    expect(chat.download.get_by_role("button", name="Fetch it (986 MB)")).to_be_visible()
    assert chat.calls == ["DELETE"]
    chat.engine |= {**MODEL, "download": None}
    expect(chat.account).to_contain_text("Answered by Small")
    expect(chat.spoken.last).to_have_text("Answered by Small.")


def test_a_licence_is_accepted_and_the_question_goes_on(scripted: Scripted) -> None:
    chat = scripted(UNACCEPTED)
    expect(chat.account).to_contain_text("Answered by Small")
    chat.ask("Under which licence?")
    expect(chat.composer).to_have_value("Under which licence?")
    expect(chat.consent).to_contain_text("Small is under the OpenRAIL licence, which forbids some uses.")
    expect(chat.consent).to_be_focused()
    chat.engine["licence"] = {**LICENCE, "accepted": True}
    chat.consent.get_by_role("button", name="Accept and ask").click()
    chat.expect_status("done")
    expect(chat.bubbles).to_have_text("Under which licence?")
    expect(chat.consent).to_be_hidden()
    assert chat.calls == ["PUT"]


@pytest.mark.parametrize("look", TWO_LOOKS.values(), ids=TWO_LOOKS)
def test_axe_finds_nothing_whatever_the_state_of_the_model(scripted: Scripted) -> None:
    chat = scripted(UNACCEPTED)
    inspection = Inspection(chat)

    def look_at_each_state(place: str) -> None:
        for state in DOWNLOAD_STATES:
            chat.change_engine(**QUOTES, download={**DOWNLOAD, "state": state})
            expect(chat.account).to_have_attribute("data-download", state)
            expect(chat.download).to_be_visible()
            inspection.look(f"{state}, {place}")
        chat.change_engine(**LOST, download=None)
        expect(chat.notice).to_contain_text("The model cannot be used now.")
        inspection.look(f"lost, {place}")

    expect(chat.account).to_contain_text("Answered by Small")
    chat.ask("Under which licence?")
    expect(chat.consent).to_be_visible()
    inspection.look("licence")
    chat.consent.get_by_role("button", name="Not now").click()
    chat.composer.fill("")
    chat.engine["licence"], chat.model = None, "documentation"
    look_at_each_state("introduction")
    chat.ask_and_wait("Trees")
    chat.answer.locator(".chips button").first.click()
    look_at_each_state("quotation")
    assert inspection.found == {}


def test_the_time_left_is_shown_once_the_speed_is_known(scripted: Scripted, context: BrowserContext) -> None:
    context.add_init_script(
        "const now = performance.now.bind(performance);performance.now = () => now() + (window.skipped ?? 0);"
    )
    chat = scripted(FETCHING)
    left = chat.download.locator(".left")
    expect(chat.download).to_contain_text("43 %")
    expect(left).to_be_hidden()
    chat.page.evaluate("() => { window.skipped = 20_000; }")
    chat.engine["download"] = {**DOWNLOAD, "received": 444_000_000}
    expect(left).to_have_text(re.compile(r"^about \d+ minutes left$"))
    chat.engine["download"] = {**DOWNLOAD, "bytes": None}
    expect(chat.download).to_contain_text("Fetching Small (Apache-2.0) from Hugging Face")
    expect(chat.download).not_to_contain_text("%")
    expect(left).to_be_hidden()
    expect(chat.download.get_by_role("progressbar")).to_have_count(0)


def test_readers_who_may_not_change_the_download_have_no_button(scripted: Scripted) -> None:
    chat = scripted({**QUOTES, "detail": "No network."})
    for state in DOWNLOAD_STATES:
        chat.change_engine(download={**DOWNLOAD, "state": state, "may_change": False})
        expect(chat.account).to_have_attribute("data-download", state)
        expect(chat.account).to_contain_text("Answers from the documentation")
        expect(chat.download.get_by_role("button")).to_have_count(0)
        if state in ("offered", "declined"):  # the operator decides
            expect(chat.download).to_be_hidden()
        else:
            sentence = {"running": "Fetching Small", "failed": "No network."}[state]
            expect(chat.download).to_contain_text(sentence)


def test_a_button_acts_once_and_a_refusal_is_shown(scripted: Scripted) -> None:
    chat = scripted(FETCHING)
    button = chat.download.get_by_role("button", name="Don’t fetch")
    chat.hold()
    with chat.page.expect_request("**/api/engine/download"):
        button.click()
    expect(button).to_have_attribute("aria-disabled", "true")
    button.dispatch_event("click")
    chat.refuse("Small is on this machine already.")
    chat.release()
    expect(chat.alarm).to_have_text("Small is on this machine already.")
    expect(button).not_to_have_attribute("aria-disabled", "true")
    assert chat.calls == ["DELETE"]


def test_a_download_that_failed_says_why_and_is_tried_again(scripted: Scripted) -> None:
    chat = scripted(FETCHING)
    expect(chat.download).to_contain_text("43 %")
    failed = {**DOWNLOAD, "state": "failed"}
    chat.engine |= {"state": "none", "detail": "The network is gone.", "download": failed}
    expect(chat.download).to_contain_text("The network is gone.")
    expect(chat.spoken.last).to_have_text("The network is gone.")
    chat.engine |= {"state": "fetching", "download": DOWNLOAD}
    chat.download.get_by_role("button", name="Try again").click()
    expect(chat.download.get_by_role("button", name="Don’t fetch")).to_be_visible()
    assert chat.calls == ["POST"]


def test_above_the_composer_the_text_is_at_the_left_and_the_button_at_the_right(scripted: Scripted) -> None:
    failed = {**DOWNLOAD, "state": "failed"}
    chat = scripted({**QUOTES, "detail": "No network.", "download": failed}, asked="Trees")
    account, button = chat.account.bounding_box(), chat.download.get_by_role("button").bounding_box()
    assert account is not None
    assert button is not None
    assert button["x"] + button["width"] == pytest.approx(account["x"] + account["width"], abs=1)


def test_not_now_and_escape_ask_nothing_and_lead_back_to_what_was_typed(scripted: Scripted) -> None:
    chat = scripted(UNACCEPTED)
    expect(chat.account).to_contain_text("Answered by Small")
    for leave in (
        lambda: chat.consent.get_by_role("button", name="Not now").click(),
        lambda: chat.page.keyboard.press("Escape"),
    ):
        chat.ask("Under which licence?")
        expect(chat.consent).to_be_focused()
        leave()
        expect(chat.consent).to_be_hidden()
        expect(chat.composer).to_be_focused()
        expect(chat.composer).to_have_value("Under which licence?")
        expect(chat.answers).to_have_count(0)
        assert chat.calls == []


def test_an_acceptance_that_fails_is_reported_and_can_be_tried_again(scripted: Scripted) -> None:
    chat = scripted(UNACCEPTED)
    expect(chat.account).to_contain_text("Answered by Small")
    chat.ask("Under which licence?")
    agree = chat.consent.get_by_role("button", name="Accept and ask")
    chat.refuse("The database is locked.")
    agree.click()
    expect(chat.alarm).to_have_text("The database is locked.")
    expect(chat.consent).to_be_visible()
    chat.hold()
    with chat.page.expect_request("**/api/licences/*"):
        agree.click()
    agree.dispatch_event("click")
    chat.refuse(None)
    chat.release()
    chat.expect_status("done")
    expect(chat.bubbles).to_have_text(["Under which licence?"])
    expect(chat.alarm).to_be_hidden()
    assert chat.calls == ["PUT", "PUT"]


def test_another_answer_waits_for_the_licence(scripted: Scripted) -> None:
    chat = scripted(MODEL, asked="Trees")
    chat.engine["licence"] = LICENCE
    chat.page.reload()
    chat.answer.get_by_role("button", name="Regenerate").click()
    expect(chat.consent).to_be_visible()
    expect(chat.answers).to_have_count(1)
    chat.engine["licence"] = {**LICENCE, "accepted": True}
    chat.consent.get_by_role("button", name="Accept and ask").click()
    chat.expect_version(chat.answer, "2 / 2")


def test_a_question_edited_waits_in_its_editor_for_the_licence(scripted: Scripted) -> None:
    chat = scripted(MODEL, asked="Trees")
    chat.engine["licence"] = LICENCE
    chat.page.reload()
    expect(chat.answers).to_have_count(1)
    chat.edit(chat.questions.last, "Forests")
    expect(chat.page.locator(".editor .reason")).to_have_text("Accept the model’s licence first.")
    chat.page.keyboard.press("Escape")
    expect(chat.consent).to_be_hidden()
    expect(chat.editor).to_be_focused()
    chat.editor.press("Enter")
    chat.editor.fill("Woods")  # what stands there when it is accepted is asked
    chat.engine["licence"] = {**LICENCE, "accepted": True}
    chat.consent.get_by_role("button", name="Accept and ask").click()
    expect(chat.bubbles).to_have_text(["Woods"])
    chat.expect_version(chat.questions.last, "2 / 2")
    expect(chat.editor).to_have_count(0)


def test_a_lost_model_is_reported_and_the_documentation_answers_until_it_is_back(scripted: Scripted) -> None:
    chat = scripted(MODEL)
    for state in ("failed", "loading"):
        expect(chat.account).to_contain_text("Answered by Small")
        expect(chat.notice).to_have_count(0)
        chat.engine |= {**LOST, "state": state}
        chat.model = "documentation"
        chat.ask_and_wait("Trees")  # the answer's provenance tells the page that the model is lost
        expect(chat.notice).to_have_text(
            "The model cannot be used now. "
            "Until it is back, answers come from the documentation on this machine."
        )
        expect(chat.account).not_to_contain_text("no language model is loaded")
        expect(chat.answer.locator(".origin")).to_be_visible()
        chat.engine |= MODEL
        expect(chat.notice).to_have_count(0)
        expect(chat.spoken.last).to_have_text("Answered by Small.")


def test_an_idle_page_notices_that_the_model_is_lost(scripted: Scripted, context: BrowserContext) -> None:
    context.clock.install()
    chat = scripted(MODEL)
    expect(chat.account).to_contain_text("Answered by Small")
    chat.engine |= LOST
    chat.page.clock.run_for(10_000)
    expect(chat.notice).to_contain_text("answers come from the documentation")
