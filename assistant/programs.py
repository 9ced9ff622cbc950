"""Answers for programs, whose conversations are not stored: a quotation, or the model with passages.

They are grounded as the replies of `replies.py` are. Searches take turns by address, so that no program slows
the chats of others.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assistant.admission import Admission
from assistant.conversation import FinishReason, Source, Turn
from assistant.engine import NO_MODEL, EngineState
from assistant.errors import GenerationFailed, NoModel, PromptTooLong, Unreachable
from assistant.grounding import with_citations
from assistant.knowledge.answer import DocumentationAnswer
from assistant.knowledge.documentation import SEARCH_THREADS, Documentation
from assistant.replies import Replies
from prompts.render import PromptError, QuestionTooLong

if TYPE_CHECKING:  # it imports LangChain, which takes seconds of CPU
    from langchain_core.messages import AIMessageChunk

log = logging.getLogger(__name__)

MOST_SEARCHES = 64  # that run or wait; one address gets at most half of them
MODEL_SECONDS = 1.0  # how long an answer waits for a model that was ready a moment ago


@dataclass(frozen=True, slots=True)
class Tokens:
    """How many tokens a model has read and written."""

    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of an answer; `tokens` is None if the engine does not report them."""

    finish_reason: FinishReason
    sources: tuple[Source, ...]
    tokens: Tokens | None


class ProgramAnswers:
    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._admission = Admission(limit=MOST_SEARCHES, most_running=lambda: SEARCH_THREADS)

    @property
    def documentation(self) -> Documentation:
        return self._replies.documentation

    async def quote(self, turns: Sequence[Turn], *, address: str) -> DocumentationAnswer:
        """The answer to the last of `turns` that quotes the documentation. Raises `ModelError`, and
        `QueueFull` if too many searches wait."""
        async with self._admission.turn(address):
            return await self._replies.quote(turns)

    async def generate(
        self,
        turns: Sequence[Turn],
        *,
        asked: Sequence[Turn],
        address: str,
        session: str | None,
        stop: list[str],
        options: dict[str, Any],
    ) -> AsyncGenerator[str | Ended]:
        """The model's answer to the last of `turns`, piece by piece; the first is empty and says that the
        engine has accepted the prompt. Passages are looked up for `asked`, which are the turns without the
        program's instructions. The rest as in `TechAssistantChat.answer`. Raises as `quote` does."""
        with self._errors_of_model():
            served = self._replies.served
            if served.status.state is not EngineState.READY:
                raise NoModel(served.status.detail or NO_MODEL)
            model = await served.ready(MODEL_SECONDS)
            async with self._admission.turn(address):
                sources = await self._replies.look_up(asked) or ()
            chunks = model.answer(turns, passages=sources, session=session, stop=stop, options=options)
            used, text = 0, ""
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    used = chunk.response_metadata.get("passages_used", used)
                    text += (piece := str(chunk.content))
                    yield piece
                    if reason := chunk.response_metadata.get("finish_reason"):
                        cited = with_citations(text, sources[:used])
                        yield Ended(FinishReason(reason), cited, _tokens(chunk))
                        return
            raise GenerationFailed("The answer broke off: the engine's stream ended before the answer did.")

    @contextlib.contextmanager
    def _errors_of_model(self) -> Iterator[None]:
        """Turn the errors of a prompt into `ModelError`, and look at once for a model that was lost."""
        try:
            yield
        except QuestionTooLong as error:
            raise PromptTooLong(str(error)) from error
        except PromptError as error:  # it may quote the template, which is another server's
            log.error("the prompt of a program failed: %s", error)
            raise GenerationFailed("The prompt could not be written.") from error
        except Unreachable:
            self._replies.served.look_now()
            raise


def _tokens(chunk: AIMessageChunk) -> Tokens | None:
    count = chunk.usage_metadata
    return None if count is None else Tokens(count["input_tokens"], count["output_tokens"])
