"""LangChain's own tests of chat models, against the real serving layer with a small model.

The tests of tools, structured output, images and files are skipped: the chat model supports none of these.
"""

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from assistant.model import TechAssistantChat
from tests.support.application import ROOT, environment, wait_for
from tests.support.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", context=8192)
    command = [sys.executable, "-m", "serving", "--model", str(model), "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("serving on ").strip()
        wait_for(lambda: httpx.get(f"{url}/health").is_success)
        yield url
    finally:
        process.terminate()
        process.communicate()


class Supported:
    """What the chat model supports, for both classes of tests."""

    @property
    def chat_model_class(self) -> type[TechAssistantChat]:
        return TechAssistantChat

    has_tool_calling = has_structured_output = supports_json_mode = False


class TestUnit(Supported, ChatModelUnitTests):
    @property
    def chat_model_params(self) -> dict[str, object]:
        return {"base_url": "http://127.0.0.1:9"}


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
class TestIntegration(Supported, ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _server(self, server: str) -> None:
        type(self).url = server

    @property
    def chat_model_params(self) -> dict[str, object]:
        return {"base_url": self.url, "max_tokens": 24, "context": 8192, "model": "tiny.gguf"}
