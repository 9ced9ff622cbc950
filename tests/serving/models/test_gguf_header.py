from __future__ import annotations

from pathlib import Path

from serving.models.gguf_header import read_metadata
from tests.support.tiny_gguf import write_tiny_gguf


def test_metadata_has_no_arrays(tmp_path: Path) -> None:
    metadata, _ = read_metadata(write_tiny_gguf(tmp_path / "x.gguf", context=512, chat_template="t"))
    assert metadata["general.architecture"] == "starcoder2"
    assert metadata["starcoder2.context_length"] == 512
    assert metadata["tokenizer.chat_template"] == "t"
    assert "tokenizer.ggml.tokens" not in metadata
