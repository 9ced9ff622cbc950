"""The retriever follows LangChain's contract and returns all fields of a passage."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests

from assistant.knowledge.index import IndexFailed
from assistant.knowledge.index_writer import IndexWriter
from assistant.knowledge.passage import Passage
from assistant.knowledge.retriever import DocumentationRetriever
from tests.support.fake_documentation import passage, unit


def opener(way: str) -> Passage:
    return passage(f"files.open_{way}", f"Open a file: it gives access to its text {way}.")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("index") / "documentation.db"
    with closing(IndexWriter(path)) as writer:
        writer.put([unit("files", *map(opener, ("text", "binary", "quickly", "safely", "again")))])
    return path


class TestContract(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _index(self, path: Path) -> None:
        self.path = path

    @property
    def retriever_constructor(self) -> type[DocumentationRetriever]:
        return DocumentationRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"path": self.path}

    @property
    def retriever_query_example(self) -> str:
        return "how do I open a file"


def test_a_document_has_the_text_and_all_fields_of_a_passage(path: Path) -> None:
    document = DocumentationRetriever(path=path).invoke("files.open_text")[0]
    wanted = opener("text")
    assert document.page_content == wanted.text
    assert document.metadata["name"] == wanted.name
    assert document.metadata["licence"] == wanted.licence
    assert document.metadata["location"] == wanted.location


async def test_it_also_searches_asynchronously(path: Path) -> None:
    retriever = DocumentationRetriever(path=path, k=2)
    assert await retriever.ainvoke("how do I open a file") == retriever.invoke("how do I open a file")


def test_a_missing_index_is_reported(tmp_path: Path) -> None:
    with pytest.raises(IndexFailed, match="cannot be read"):
        DocumentationRetriever(path=tmp_path / "none.db").invoke("open")
