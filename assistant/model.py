"""TechAssistantChat: a LangChain chat model on the serving layer.

It renders the messages as a prompt (`prompts.render`), and yields what the server generates
(`serving_client.py`) as LangChain's chunks. Import this module late: LangChain takes seconds to import.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import aiohttp
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    SystemMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, SecretStr
from text_generation.types import Parameters

from assistant.conversation import Role, Source, Turn
from assistant.errors import PromptTooLong
from assistant.serving_client import GenerationDetails, ServingClient, Timeouts, new_session
from prompts.render import Prompt, QuestionTooLong, Template
from prompts.templates import choose_template

T = TypeVar("T")

# UTF-8 bytes of a token of English or code, until a count by the server gives a better estimate.
BYTES_PER_TOKEN = 3.0
# When the server finds a prompt too long after all, the budget shrinks to this share, and so often at most.
SHRINK = 0.7
SHRINK_TRIES = 5


class TechAssistantChat(BaseChatModel):
    """A technical assistant made of a language model, its prompt template and its stop sequences.

    A system message becomes part of the question after it. `temperature` 0 always takes the likeliest token.
    `context` is the number of tokens of the prompt and the answer together.
    """

    base_url: str
    api_key: SecretStr | None = None
    model_name: str = Field("tech-assistant", alias="model")
    revision: str | None = None
    template: Template = Field(
        default_factory=lambda: choose_template(choice="tech-assistant"), exclude=True, repr=False
    )
    context: int = 8192
    max_new_tokens: int = Field(1024, alias="max_tokens")
    temperature: float = 0.2
    top_p: float = 0.95
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_sequences: list[str] = Field(default_factory=list, alias="stop")
    bytes_per_token: float = BYTES_PER_TOKEN
    timeouts: Timeouts = Field(default_factory=Timeouts, exclude=True, repr=False)
    session: aiohttp.ClientSession | None = Field(None, exclude=True, repr=False)

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, protected_namespaces=())

    @property
    def _llm_type(self) -> str:
        return "tech-assistant"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model_name, "revision": self.revision, **self.sampling}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        return LangSmithParams(
            **{**params, "ls_provider": "tech-assistant", "ls_max_tokens": self.answer_tokens}
        )

    @property
    def sampling(self) -> dict[str, Any]:
        """The sampling parameters of an answer, for its provenance."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
            "max_new_tokens": self.answer_tokens,
        }

    @property
    def answer_tokens(self) -> int:
        """The most tokens of an answer: `max_new_tokens`, but at most half of the context."""
        return max(1, min(self.max_new_tokens, self.context // 2))

    @property
    def beginning(self) -> str:
        """The text that every prompt begins with."""
        return self.template.beginning(budget=self.context - self.answer_tokens, count=self.count_tokens)

    def count_tokens(self, text: str) -> int:
        """An estimate of the number of tokens of a text. Only the server knows the exact number."""
        return math.ceil(len(text.encode("utf-8", "replace")) / self.bytes_per_token)

    async def answer(
        self,
        turns: Sequence[Turn],
        *,
        passages: Sequence[Source] | None = None,
        session: str | None = None,
        tone: str = "",
        stop: list[str] | None = None,
        options: dict[str, Any] | None = None,
    ) -> AsyncGenerator[AIMessageChunk]:
        """The answer to the last of `turns`, as chunks of `astream`. Raises `ModelError` and `PromptError`.

        Does not call LangChain's callbacks, which would cost more time than the chunks. `session` is that of
        `ServingClient.generation`, `passages` and `tone` are those of `Template.render`, `stop` and `options`
        (such as `temperature`) those of `astream`.

        Unless `passages` is None, a chunk without text comes as soon as the server accepts the prompt. Its
        `response_metadata` has `passages_used`: how many passages, from the first on, the prompt contains. If
        the server then finds the prompt too long after all, this chunk comes again for the next prompt. The
        last one counts.
        """
        async with contextlib.aclosing(
            self._chunks(turns, stop, options or {}, passages, session, tone)
        ) as chunks:
            async for chunk in chunks:
                yield cast(AIMessageChunk, chunk.message)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with contextlib.aclosing(self._chunks(_turns(messages), stop, kwargs)) as chunks:
            async for chunk in chunks:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
                yield chunk

    async def _chunks(
        self,
        turns: Sequence[Turn],
        stop: list[str] | None,
        options: dict[str, Any],
        passages: Sequence[Source] | None = None,
        session: str | None = None,
        tone: str = "",
    ) -> AsyncGenerator[ChatGenerationChunk]:
        budget = whole = self.context - self.answer_tokens
        key = None if self.api_key is None else self.api_key.get_secret_value()
        async with new_session() if self.session is None else contextlib.nullcontext(self.session) as http:
            client = ServingClient(self.base_url, key, http, self.timeouts)
            for last_try in (*[False] * SHRINK_TRIES, True):
                try:
                    prompt = await self._prompt(client, turns, budget, passages, tone)
                except QuestionTooLong:
                    if not passages or budget == whole:
                        raise
                    # The question may fit without its passages.
                    passages, budget = (), whole
                    prompt = await self._prompt(client, turns, budget, passages, tone)
                try:
                    parameters = self._parameters(prompt, stop, options)
                    answer = self._answer(client, prompt, parameters, session)
                    async with contextlib.aclosing(answer) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    return
                except PromptTooLong:  # nothing was generated yet; our estimate was too low
                    if last_try:
                        raise
                    budget = int(budget * SHRINK)

    async def _prompt(
        self,
        client: ServingClient,
        turns: Sequence[Turn],
        budget: int,
        passages: Sequence[Source] | None,
        tone: str,
    ) -> Prompt:
        """The prompt for these turns. If the question seems too long, the server counts its tokens first."""
        try:
            return self.template.render(
                turns, budget=budget, count=self.count_tokens, passages=passages, tone=tone
            )
        except QuestionTooLong:
            question = turns[-1].content
            counted = await client.count_tokens(question)
            estimated = self.count_tokens(question)
            if counted is None or counted >= estimated:
                raise
            share = counted / estimated
            return self.template.render(
                turns,
                budget=budget,
                count=lambda text: math.ceil(self.count_tokens(text) * share),
                passages=passages,
                tone=tone,
            )

    async def _answer(
        self, client: ServingClient, prompt: Prompt, parameters: Parameters, session: str | None
    ) -> AsyncGenerator[ChatGenerationChunk]:
        """The chunks of one generation: the number of passages in its prompt, its text, and how it ended."""
        answer = self.template.answer()
        details: GenerationDetails | None = None
        async with client.generation(prompt.text, parameters, session=session) as events:
            if prompt.passages_used is not None:
                metadata = {"passages_used": prompt.passages_used}
                yield ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata=metadata))
            async for event in events:
                details = event.details or details
                if not event.token.special and (text := answer.feed(event.token.text)):
                    yield ChatGenerationChunk(message=AIMessageChunk(content=text))
        assert details is not None  # the client raises otherwise
        yield self._last_chunk(prompt, answer.flush(), details)

    def _last_chunk(self, prompt: Prompt, text: str, details: GenerationDetails) -> ChatGenerationChunk:
        input_tokens, output_tokens = details.input_length, details.generated_tokens
        usage = None
        if input_tokens is not None:
            total = input_tokens + output_tokens
            usage = UsageMetadata(input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=total)
        metadata = {
            "finish_reason": details.finish_reason.value,
            "model_name": self.model_name,
            "revision": self.revision,
            "template_hash": prompt.template_hash,
            "turns_dropped": prompt.turns_dropped,
            "seed": details.seed,
        }
        message = AIMessageChunk(
            content=text, response_metadata=metadata, usage_metadata=usage, chunk_position="last"
        )
        return ChatGenerationChunk(
            message=message, generation_info={"finish_reason": metadata["finish_reason"]}
        )

    def _parameters(self, prompt: Prompt, stop: list[str] | None, options: dict[str, Any]) -> Parameters:
        temperature = options.get("temperature", self.temperature)
        top_p = options.get("top_p", self.top_p)
        sampled = bool(temperature)
        return Parameters(
            details=True,
            do_sample=sampled,
            max_new_tokens=min(
                options.get("max_tokens", options.get("max_new_tokens", self.answer_tokens)),
                self.answer_tokens,
            ),
            temperature=temperature if sampled else None,
            top_p=top_p if sampled and top_p < 1 else None,
            repetition_penalty=None if self.repetition_penalty == 1 else self.repetition_penalty,
            seed=options.get("seed", self.seed),
            stop=[*prompt.stop_sequences, *(self.stop_sequences if stop is None else stop)],
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        # In another thread, since the caller's thread may already run an event loop, as in a notebook.
        with ThreadPoolExecutor(1) as thread, asyncio.Runner() as runner:

            def run(step: Callable[[], Awaitable[T]]) -> T:
                async def awaited() -> T:
                    return await step()

                context = contextvars.copy_context()
                return thread.submit(lambda: runner.run(awaited(), context=context)).result()

            chunks = self._chunks(_turns(messages), stop, kwargs)
            try:
                while (chunk := run(lambda: anext(chunks, None))) is not None:
                    if run_manager is not None:
                        run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
                    yield chunk
            finally:
                run(chunks.aclose)
                thread.submit(runner.close).result()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))


def _turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """LangChain's messages as turns. A system message goes in front of the next question."""
    turns: list[Turn] = []
    instructions: list[str] = []
    for message in messages:
        text = message.content if isinstance(message.content, str) else message.text
        if isinstance(message, SystemMessage):
            instructions.append(text)
            continue
        by_assistant = isinstance(message, AIMessage) or (
            isinstance(message, ChatMessage) and message.role == "assistant"
        )
        if by_assistant:
            turns.append(Turn(Role.ASSISTANT, text))
        else:
            turns.append(Turn(Role.USER, "\n\n".join([*instructions, text])))
            instructions = []
    if instructions:
        turns.append(Turn(Role.USER, "\n\n".join(instructions)))
    return turns
