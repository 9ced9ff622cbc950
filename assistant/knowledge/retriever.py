"""The documentation as a LangChain retriever, for chains outside this application.

The text of a passage becomes the content of a `Document`, all other fields its metadata.
"""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from assistant.knowledge.index import Index
from assistant.knowledge.search.search import search


class DocumentationRetriever(BaseRetriever):
    """Finds at most `k` passages that answer a question in the index at `path`, best first. Asynchronous
    calls search in a thread. Raises `IndexFailed` if there is no index."""

    path: Path
    k: int = 4
    corpora: tuple[str, ...] | None = None  # of "python", "packages", "docs"; None for all

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        # A connection belongs to one thread, and opening one takes less than a search.
        with closing(Index(self.path)) as index:
            result = search(index, query, limit=k or self.k, corpora=self.corpora)
        found = map(dataclasses.asdict, result.passages)
        return [Document(page_content=fields.pop("text"), metadata=fields) for fields in found]
