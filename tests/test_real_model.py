"""A real language model with its own chat template, through the serving layer, as clients use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.support.application import PATIENCE, serving, wait_for


@pytest.fixture(scope="module")
def client(real_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a serving layer with the model."""
    cache = tmp_path_factory.mktemp("prefixes")
    options = ("--model", str(real_model), "--context", "2048", "--prefix-cache", str(cache))
    with serving(*options) as layer, httpx.Client(base_url=layer.url, timeout=PATIENCE) as client:
        wait_for(lambda: client.get("/info").json()["state"] == "ready")
        yield client


def generate(client: httpx.Client, **parameters: object) -> tuple[str, str]:
    """The likeliest text and its finish reason."""
    body = {"inputs": "def fibonacci(n):", "parameters": {"details": True, **parameters}}
    answer = client.post("/generate", json=body).raise_for_status().json()
    return answer["generated_text"], answer["details"]["finish_reason"]


def test_each_stop_sequence_ends_the_text_exactly_before_it(client: httpx.Client) -> None:
    generate(
        client, max_new_tokens=1
    )  # from here on the prompt is in the cache, and the text always the same
    text, reason = generate(client, max_new_tokens=40)
    assert (reason, len(text) > 60) == ("length", True)
    for start, length in ((5, 1), (17, 4), (30, 12), (41, 3)):
        stop = text[start : start + length]
        assert generate(client, max_new_tokens=40, stop=[stop]) == (text[: text.index(stop)], "stop_sequence")
    far, near = text[45:50], text[20:24]
    assert generate(client, max_new_tokens=40, stop=[far, near])[0] == text[: text.index(near)]
    assert generate(client, max_new_tokens=40, stop=["not in the text"]) == (text, "length")


def test_the_openai_client_chats_with_it(client: httpx.Client) -> None:
    question = {"role": "user", "content": "What is 2+2?"}
    with OpenAI(base_url=f"{str(client.base_url).rstrip('/')}/v1", api_key="none", max_retries=0) as openai:
        asked = {"model": openai.models.list().data[0].id, "messages": [question], "temperature": 0}
        openai.chat.completions.create(**asked, max_tokens=1)  # now the prompt is in the cache
        whole = openai.chat.completions.create(**asked, max_tokens=40).choices[0]
        assert "4" in whole.message.content
        assert whole.finish_reason == "stop"  # the model ended its turn itself
        chunks = openai.chat.completions.create(**asked, max_tokens=40, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.message.content
