"""Conversations in the browser with the embedded engine and a real language model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.chat_page import ChatPage
from tests.conftest import REAL_MODEL
from tests.support.application import Application, Serving, running, serving
from tests.support.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A serving layer with the real model, or with a tiny one that writes nonsense if none was downloaded."""
    folder = tmp_path_factory.mktemp("models")
    model = REAL_MODEL if REAL_MODEL.exists() else write_tiny_gguf(folder / "tiny.gguf", context=8192)
    with serving("--model", str(model), "--prefix-cache", str(folder / "prefixes")) as layer:
        yield layer


@pytest.fixture(scope="module")
def application(layer: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    data = tmp_path_factory.mktemp("real") / "data"
    options = ("--serving-url", layer.url, "--max-new-tokens", "24", "--temperature", "0")
    with running(data, *options) as application:
        application.wait_until("ready")
        application.wait_for_page()
        yield application


def prompt_tokens(layer: Serving) -> tuple[int, int]:
    """How many tokens of prompts the engine has computed, and how many it had computed already."""
    metrics = httpx.get(f"{layer.url}/metrics").text
    computed, reused = (
        int(re.findall(rf"^tgi_prompt_tokens_{name} (\d+)", metrics, re.MULTILINE)[0])
        for name in ("computed", "reused")
    )
    return computed, reused


def test_the_real_model_answers(real_model: Path, application: Application, context: BrowserContext) -> None:
    chat = ChatPage(context, application.address)
    expect(chat.account).to_contain_text(real_model.name)
    chat.ask_and_wait("Which planet do we live on?")
    chat.expect_text("Earth")
    assert chat.stored()[1]["content"].strip() == chat.text.strip()


def test_for_a_follow_up_the_engine_computes_only_what_is_new(
    application: Application, layer: Serving, context: BrowserContext
) -> None:
    chat = ChatPage(context, application.address)
    chat.ask_and_wait("How do I read a file?")
    first = chat.stored()[1]
    assert first["content"] != ""
    before = prompt_tokens(layer)
    chat.ask_and_wait("And how do I write one?")
    computed, reused = (after - was for after, was in zip(prompt_tokens(layer), before, strict=True))
    tokens = first["provenance"]["tokens"]
    assert reused >= tokens["prompt"]  # the first question and all that came before it
    whole = chat.stored()[3]["provenance"]["tokens"]["prompt"]
    assert computed + reused == whole > tokens["prompt"] + tokens["answer"]
