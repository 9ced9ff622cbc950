"""Hostile texts as answers, questions, titles, sources and edited questions, in the real page."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, expect

from tests.browser.hostile import HOSTILE, HOSTILE_TEXTS
from tests.browser.scripted_page import MODEL, RMTREE, Scripted

WINDOWS = """() => [
    frames.length, document.querySelectorAll("tech-chat :is(img, script, iframe, form, input)").length
]"""


def test_hostile_texts_do_nothing_wherever_they_stand(scripted: Scripted, context: BrowserContext) -> None:
    assert len(HOSTILE_TEXTS) > 300
    happened: list[str] = []
    chat = scripted(MODEL)
    page = chat.page
    ours = (chat.address, "data:", "blob:")
    context.on("request", lambda it: None if it.url.startswith(ours) else happened.append(it.url))
    context.on("page", lambda it: happened.append(f"window {it.url}"))
    page.on("dialog", lambda it: (happened.append(it.message), it.dismiss()))  # type: ignore[func-returns-value]
    page.on("console", lambda it: happened.append(it.text) if it.type == "error" else None)
    page.on("framenavigated", lambda it: None if it.url.startswith(ours) else happened.append(it.url))
    everything = "\n\n".join(HOSTILE_TEXTS)
    chat.text_of_answers = f"{everything}\n\n{' '.join(f'[{number}]' for number in range(1, 24))}"
    chat.sources = [
        {**RMTREE, **dict.fromkeys(("name", "title", "package", "location", "quote"), text), "url": text}
        for text in HOSTILE
    ]
    chat.ask_and_wait(everything)
    for index in range(chat.chips.count()):
        chat.chips.nth(index).click()
    chat.start_editing(chat.questions.first)
    for text in HOSTILE:
        headers = {"Origin": chat.address}
        page.request.post(f"{chat.address}/api/messages", data={"text": text}, headers=headers)
    page.reload()
    expect(chat.listed).to_have_count(len(HOSTILE) + 1)
    for title in chat.listed.all():
        title.hover()
    assert page.evaluate(WINDOWS) == [0, 0]
    assert happened == []
