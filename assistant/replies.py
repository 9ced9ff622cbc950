"""The life of a reply, from a question to a stored answer.

    ask ──> stored: question, pending reply ──> a task of this process runs the reply, under a lease
                                                  │ 1. it waits for its turn
                                                  │ 2. it reads the path from the root to the question
                                                  │ 3. the model writes, with passages of the documentation;
                                                  │    without a model, the documentation is quoted
                                                  │ 4. each piece of text is journalled, then shown
                                                  └ 5. the outcome is folded into the message

No connection owns a reply: closing a tab does not end it, `stop` does. Whatever happens, the text that was
shown is kept. A reply that another process runs is stopped by a request, and followed from the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assistant.admission import Admission, Ticket
from assistant.conversation import Failure, FinishReason, Role, Source, Status, Turn
from assistant.engine import EngineState, EngineStatus
from assistant.errors import (
    AssistantError,
    Closing,
    EmptyText,
    GenerationFailed,
    LicenceNotAccepted,
    ModelError,
    NoDocumentation,
    NoModel,
    NoModelLoaded,
    Unreachable,
)
from assistant.events import ReplyEvent
from assistant.following import follow_here, follow_stored
from assistant.grounding import passages_for, with_citations
from assistant.knowledge.answer import DocumentationAnswer
from assistant.knowledge.answer import answer as quotation
from assistant.knowledge.documentation import Documentation, DocumentationUnreadable
from assistant.knowledge.passage import SearchResult
from assistant.licences import Licences
from assistant.limits import Limits
from assistant.provenance import Generation, Provenance
from assistant.served import ServedModel
from assistant.site_documentation import SiteDocumentation
from assistant.sites import Site, Sites
from assistant.titles import title_of
from assistant.visitors import Visitor, admit, charge
from prompts.render import PromptError, QuestionTooLong
from storage.errors import DatabaseUnavailable, DiskFull, NotFound
from storage.journal import Journal, JournalEntry
from storage.running import Outcome, Running
from storage.store import LATEST, Branch, ConversationStore, Latest, StoredQuestion

if TYPE_CHECKING:  # it imports LangChain, which takes seconds of CPU
    from langchain_core.messages import AIMessageChunk

    from assistant.model import TechAssistantChat

log = logging.getLogger(__name__)

MODEL_WAIT_SECONDS = 120.0  # how long a stored question waits for a model that is loading
DELETED = Failure("deleted", "This answer ended when its conversation was deleted.")
AWAY = "This assistant cannot answer now. Try again later."
LONGEST_CAUSE = 300  # characters of another server's message, in the log
LOOK_SECONDS = 1.0  # between two looks for requests to stop, and at the text of another process
LOOKS_A_RENEWAL = 10  # leases are renewed, and abandoned replies settled, at each of so many looks
STOP_SECONDS = 5.0  # how long a stop waits for the process that runs the reply


class Answers(enum.StrEnum):
    """Who answers a question."""

    MODEL = "model"
    DOCUMENTATION = "documentation"


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A question that will be answered, as far as that is known now."""

    by: Answers
    ticket: Ticket
    visitor: Visitor | None  # of a site; None in the chat itself


@dataclass(slots=True)
class _Run:
    """A reply that this process runs."""

    by: Answers
    owner: str
    visitor: Visitor | None
    conversation_id: str
    entry: JournalEntry
    ticket: Ticket
    provenance: Provenance = field(default_factory=Provenance)
    writing: asyncio.Task[FinishReason] | None = None  # cancelled to end the reply
    storing: asyncio.Task[None] | None = None  # never cancelled: it stores the outcome
    ended_as: Status = Status.STOPPED  # the status of a cancelled reply
    prompt_tokens: int = 0  # of what a model was given, estimated
    began: float = field(default_factory=time.monotonic)

    @property
    def site(self) -> str | None:
        return None if self.visitor is None else self.visitor.site.key

    def cancel(self, status: Status) -> None:
        if self.writing is not None and not self.writing.done():
            self.ended_as = status
            self.writing.cancel()

    async def end(self, status: Status) -> None:
        """Cancel the reply and wait until its outcome is stored."""
        self.cancel(status)
        if self.storing is not None:
            await asyncio.wait([self.storing])


class Replies:
    """The replies that this process runs, and the way to those of others."""

    def __init__(
        self,
        store: ConversationStore,
        journal: Journal,
        running: Running,
        served: ServedModel,
        documentation: Documentation,
        licences: Licences,
        sites: SiteDocumentation | None = None,
        *,
        max_replies: int,
        max_waiting: int,
        total_seconds: float | None = None,
    ) -> None:
        """`total_seconds` is how long a model may write at one reply, even if text keeps coming."""
        self.served = served
        self.documentation = documentation
        self.licences = licences
        self.site_documentation = SiteDocumentation(Sites()) if sites is None else sites
        self._limits = Limits()  # of the visitors of sites
        self._store = store
        self._journal = journal
        self._running = running
        self._author = _Author(
            store, journal, served, self.documentation_at, licences, self._limits, total_seconds
        )
        # An engine that computes a few answers at once is given no more: its own queue does not know owners.
        self._admission = Admission(
            limit=max_replies + max_waiting,
            most_running=lambda: min(max_replies, served.status.parallel or max_replies),
        )
        self._beginning: set[asyncio.Task[StoredQuestion]] = set()  # questions that are being stored
        self._runs: dict[str, _Run] = {}  # by reply id
        self._looking: asyncio.Task[None] | None = None
        self._is_closing = False

    @property
    def answers(self) -> Answers | None:
        """Who would answer a question that is asked now; None when nobody would."""
        return _who_answers(self.served.status, self.documentation)

    async def answers_at(self, site: Site) -> Answers | None:
        """Who would answer a visitor of a site. Visitors accept no licence: where they would have to, and
        where the site has no model, its documentation answers."""
        documentation = await self.site_documentation.of(site.key)
        licence = self.served.status.licence
        if site.uses_model and not (licence is not None and licence.must_accept):
            return _who_answers(self.served.status, documentation)
        return Answers.DOCUMENTATION if documentation.can_answer else None

    async def documentation_at(self, site: str | None) -> Documentation:
        """What is searched for the visitors of a site, or for the chat itself. Do not keep it."""
        return self.documentation if site is None else await self.site_documentation.of(site)

    @property
    def are_running(self) -> bool:
        """Whether this process runs any reply."""
        return bool(self._runs)

    async def start(self) -> None:
        """Settle the replies that other processes have abandoned, and begin to answer."""
        await self._settle_abandoned()
        self._journal.start()
        self.served.start(self._admission.start_waiting)  # another engine may answer more at once
        await self.documentation.start()
        await self.site_documentation.start()
        self._looking = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        """End all replies of this process as interrupted, their text stored, and stop answering."""
        self._is_closing = True
        await asyncio.gather(*self._beginning, return_exceptions=True)
        await asyncio.gather(*(run.end(Status.INTERRUPTED) for run in list(self._runs.values())))
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self.served.close()
        await self.documentation.close()
        await self.site_documentation.close()
        await self._journal.close()

    # What faces ask

    async def ask(
        self,
        owner: str,
        conversation_id: str | None,
        text: str,
        *,
        parent_id: str | Latest | None = LATEST,
        client_id: str | None = None,
        grounding: bool = True,
        visitor: Visitor | None = None,
    ) -> StoredQuestion:
        """Store a question and begin to answer it.

        Without a conversation the question begins a new one, for whose answers documentation is looked up if
        `grounding`. A `visitor` asks within the limits of the site. The same `client_id` with the same body
        returns the same ids again, even while new questions are refused. Raises `AssistantError` and
        `storage.errors.StorageError`.
        """
        if not text.strip():
            raise EmptyText("The message is empty. Write a question.")
        try:
            admitted = await self._admit(owner, visitor, text)
            storing = self._store.ask(
                owner,
                conversation_id,
                text,
                parent_id=parent_id,
                client_id=client_id,
                title=title_of(text),
                grounding=grounding,
                site=None if visitor is None else visitor.site.key,
            )
            return await self._begin(admitted, storing)
        except (AssistantError, DiskFull):
            earlier = await self._store.asked(
                owner, conversation_id, text, parent_id=parent_id, client_id=client_id
            )
            if earlier is None:
                raise
            return earlier

    async def retry(self, owner: str, reply_id: str, *, visitor: Visitor | None = None) -> StoredQuestion:
        """Answer the same question again, as a sibling of an earlier reply."""
        admitted = await self._admit(owner, visitor)
        return await self._begin(admitted, self._store.retry(owner, reply_id))

    async def stop(self, owner: str, reply_id: str) -> Status:
        """End a reply, its text kept, and return how it ended; one that had ended stays as it is."""
        reply = await self._store.reply(owner, reply_id)
        if (run := self._runs.get(reply_id)) is not None:
            await run.end(Status.STOPPED)
            return (await self._store.reply(owner, reply_id)).status
        if await self._running.is_held(reply_id):
            await self._running.request_stop(reply_id=reply_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    while not (reply := await self._store.reply(owner, reply_id)).status.is_final:
                        await asyncio.sleep(LOOK_SECONDS / 4)
        return reply.status

    async def stop_conversation(self, conversation_id: str) -> None:
        """End the reply that runs in a conversation, whichever process runs it."""
        ours = [run for run in self._runs.values() if run.conversation_id == conversation_id]
        await asyncio.gather(*(run.end(Status.STOPPED) for run in ours))
        await self._running.request_stop(conversation_id=conversation_id)

    async def stop_owner(self, owner: str) -> None:
        """End the replies of an owner that this process runs. Others end when their messages are removed."""
        await asyncio.gather(*self._beginning, return_exceptions=True)
        ours = [run for run in self._runs.values() if run.owner == owner]
        await asyncio.gather(*(run.end(Status.STOPPED) for run in ours))

    async def rename_owner(self, owner: str, new_owner: str) -> None:
        """Give the replies of an owner that this process runs to another one."""
        await asyncio.gather(*self._beginning, return_exceptions=True)
        for run in self._runs.values():
            if run.owner == owner:
                run.owner = new_owner

    async def follow(self, owner: str, reply_id: str, after: int | None = 0) -> AsyncIterator[ReplyEvent]:
        """The events of a reply after code point `after`; None begins with all of its text.

        Raises `NotFound`.
        """
        if (run := self._runs.get(reply_id)) is not None and run.owner == owner:
            return follow_here(run.ticket, run.entry, after)
        is_held = await self._running.is_held(reply_id)  # first: a reply that ends meanwhile is final then
        reply = await self._store.reply(owner, reply_id)
        return follow_stored(self._store, self._running, owner, reply, is_held, after, LOOK_SECONDS / 4)

    # What programs ask, whose questions are not stored

    async def quote(self, turns: Sequence[Turn]) -> DocumentationAnswer:
        """The answer to the last of `turns` that quotes the documentation. Raises `ModelError`."""
        return await self._author.quotation(turns)

    async def look_up(self, turns: Sequence[Turn]) -> tuple[Source, ...] | None:
        """The passages that a model is given for the last of `turns`; None if there is no documentation."""
        return await self._author.look_up(turns)

    # What happens to a question

    async def _admit(self, owner: str, visitor: Visitor | None, text: str = "") -> _Admitted:
        """Admit one more question. The caller passes the value to `_begin`, which returns the ticket."""
        if self._is_closing:
            raise Closing("The application is shutting down. Ask again in a moment.")
        by = self.answers if visitor is None else await self.answers_at(visitor.site)
        if by is None:
            detail = self.served.status.detail if visitor is None else AWAY  # what the operator can do
            raise NoModelLoaded(detail or "No model is loaded.")
        if visitor is not None:
            admit(self._limits, visitor, text)
        elif by is Answers.MODEL:
            await self.licences.check(owner)
        return _Admitted(by, self._admission.enter(owner), visitor)

    async def _begin(
        self, admitted: _Admitted, storing: Coroutine[None, None, StoredQuestion]
    ) -> StoredQuestion:
        """Store a question and run its reply, even if the connection that asked is closed meanwhile."""
        self._beginning.add(beginning := asyncio.create_task(self._store_and_run(admitted, storing)))
        beginning.add_done_callback(self._beginning.discard)
        return await asyncio.shield(beginning)

    async def _store_and_run(
        self, admitted: _Admitted, storing: Coroutine[None, None, StoredQuestion]
    ) -> StoredQuestion:
        is_running = False
        try:
            stored = await storing
            if stored.is_new:
                entry = self._journal.open(stored.reply_id)
                ticket = admitted.ticket
                run = _Run(admitted.by, ticket.owner, admitted.visitor, stored.conversation_id, entry, ticket)
                self._runs[stored.reply_id] = run
                run.writing = asyncio.create_task(self._author.write(run))
                run.storing = asyncio.create_task(self._store_outcome(run, run.writing))
                run.storing.add_done_callback(lambda _: self._runs.pop(stored.reply_id).ticket.leave())
                is_running = True
            return stored
        finally:
            if not is_running:
                admitted.ticket.leave()

    async def _store_outcome(self, run: _Run, writing: asyncio.Task[FinishReason]) -> None:
        """Wait until the text ends, however it ends, and store the outcome."""
        await asyncio.wait([writing])
        if writing.cancelled():
            outcome = Outcome(run.ended_as, failure=await self._deletion(run))
        elif (error := writing.exception()) is not None:
            outcome = Outcome(Status.FAILED, failure=self._author.failure(run.entry, error))
        else:
            outcome = Outcome(Status.DONE, writing.result())
        seconds = round(time.monotonic() - run.began, 3)
        provenance = dataclasses.replace(run.provenance, seconds=seconds)
        with contextlib.suppress(DatabaseUnavailable):  # settling says so
            self._journal.cite(run.entry, with_citations(run.entry.text, run.entry.sources))
        self._author.charge(run)
        await self._journal.settle(run.entry, dataclasses.replace(outcome, provenance=provenance))

    async def _deletion(self, run: _Run) -> Failure | None:
        """Why a cancelled reply ended, if its conversation was deleted, in whichever process."""
        try:
            await self._store.reply(run.owner, run.entry.reply_id)
        except NotFound:
            return DELETED
        except DatabaseUnavailable:  # the journal says so loudly
            pass
        return None

    # Leases

    async def _keep_looking(self) -> None:
        for look in itertools.count(1):
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
                if look % LOOKS_A_RENEWAL == 0:
                    if self._runs:
                        await self._running.renew()
                    await self._settle_abandoned()
            except DatabaseUnavailable as error:  # the journal says so loudly, and ends the replies
                log.debug("leases could not be renewed: %s", error)
            except Exception:  # whatever it is, there must be a next look
                log.exception("leases could not be renewed")

    async def _look(self) -> None:
        """End the replies that somebody wants stopped, and those that another process has settled."""
        if runs := dict(self._runs):
            leases = await self._running.leases()
            for reply_id, run in runs.items():
                if reply_id not in leases:
                    run.cancel(Status.INTERRUPTED)
                elif leases[reply_id]:
                    run.cancel(Status.STOPPED)

    async def _settle_abandoned(self) -> None:
        try:
            if count := await self._running.settle_abandoned():
                log.warning("%d replies were interrupted by the end of an earlier process", count)
        except DatabaseUnavailable as error:  # chats can still be read, and it is tried again
            log.error("replies of an earlier process could not be settled: %s", error)


@dataclass(frozen=True, slots=True)
class _Author:
    """Writes the text of a reply: by the model, or from the documentation."""

    _store: ConversationStore
    _journal: Journal
    _served: ServedModel
    _documentation_at: Callable[[str | None], Awaitable[Documentation]]
    _licences: Licences
    _limits: Limits
    _total_seconds: float | None

    async def write(self, run: _Run) -> FinishReason:
        """Write the whole text of a reply. Raises `ModelError` and what `failure` knows."""
        is_lost = self._is_lost and (run.visitor is None or run.visitor.site.uses_model)
        await run.ticket.wait_to_start()
        branch = await self._store.branch(run.entry.reply_id)
        if run.by is Answers.DOCUMENTATION:
            return await self._quote(run, branch.turns, instead=is_lost)
        try:
            return await self._generate(run, branch)
        except (NoModel, Unreachable, GenerationFailed) as error:
            # A reply is never half the model's and half the documentation's.
            if run.entry.text or not (await self._documentation_at(run.site)).can_answer:
                raise
            # `NoModel` alone is no failure: the engine had not yet said that it has no model.
            instead = not isinstance(error, NoModel) or self._is_lost
            if instead:
                self._log(run.entry, error)
            return await self._quote(run, branch.turns, instead=instead)

    def failure(self, entry: JournalEntry, error: BaseException) -> Failure:
        """What the reader is told of an error; the log gets what the reader does not."""
        if isinstance(error, ModelError):
            self._log(entry, error)
        if isinstance(error, ModelError | LicenceNotAccepted):
            return Failure(error.type, str(error))
        if isinstance(error, QuestionTooLong):
            return Failure("question_too_long", str(error))
        if isinstance(error, PromptError):  # it may quote the template, which is another server's
            log.error("the prompt of reply %s failed: %s", entry.reply_id, error)
            return Failure("prompt", "The prompt could not be written; the application's log says why.")
        if isinstance(error, DatabaseUnavailable):
            return Failure("storage", str(error))
        log.error("reply %s failed", entry.reply_id, exc_info=error)
        return Failure("internal", "The application failed. Its log has the details.")

    def _log(self, entry: JournalEntry, error: ModelError) -> None:
        if isinstance(error, Unreachable):
            self._served.look_now()
        cause = "" if error.__cause__ is None else f" ({str(error.__cause__)[:LONGEST_CAUSE]!r})"
        log.warning("the answer of reply %s failed: %s%s", entry.reply_id, error, cause)

    @property
    def _is_lost(self) -> bool:
        """Whether there is a model that should answer, and does not."""
        return self._served.status.state in (EngineState.FAILED, EngineState.LOADING)

    async def _generate(self, run: _Run, branch: Branch) -> FinishReason:
        """Answer by the model, with passages from the documentation if the conversation wants them."""
        can_quote = (await self._documentation_at(run.site)).can_answer
        model = await self._served.ready(MODEL_WAIT_SECONDS, also_lost=not can_quote)
        if run.site is None:
            await self._licences.check(run.owner)
        sources = await self.look_up(branch.turns, run.site) if branch.grounding else None
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._stream(run, model, branch, sources)
        except TimeoutError as error:
            limit = f"{self._total_seconds:g} seconds"
            raise GenerationFailed(f"The answer was not complete within {limit}.") from error

    async def _stream(
        self, run: _Run, model: TechAssistantChat, branch: Branch, sources: tuple[Source, ...] | None
    ) -> FinishReason:
        """Journal the model's text piece by piece as it comes."""
        run.provenance = Provenance(model=model.model_name, sampling=model.sampling)
        finish_reason: FinishReason | None = None
        if run.visitor is not None:
            read = (*(turn.content for turn in branch.turns), *(source.quote for source in sources or ()))
            run.prompt_tokens = min(model.count_tokens("\n".join(read)), model.context)
        answer = model.answer(
            branch.turns,
            passages=sources,
            session=branch.conversation_id,
            tone="" if run.visitor is None else run.visitor.site.tone,
        )
        async with contextlib.aclosing(answer) as chunks:
            async for chunk in chunks:
                if (used := chunk.response_metadata.get("passages_used")) is not None and sources:
                    self._journal.cite(run.entry, sources[:used])
                if text := str(chunk.content):
                    self._journal.append(run.entry, text)
                if reason := chunk.response_metadata.get("finish_reason"):
                    finish_reason = FinishReason(reason)
                    run.provenance = dataclasses.replace(run.provenance, **_reported(chunk))
        if finish_reason is None:
            raise GenerationFailed("The answer broke off: the engine's stream ended before the answer did.")
        return finish_reason

    async def _quote(self, run: _Run, turns: Sequence[Turn], *, instead: bool) -> FinishReason:
        """Answer by quoting the documentation, and say so if it stands in `instead` of a model."""
        version = (await self._documentation_at(run.site)).version
        run.provenance = Provenance(model=Answers.DOCUMENTATION.value, revision=version)
        answer = await self.quotation(turns, run.site, instead=instead)
        self._journal.cite(run.entry, answer.sources)
        for piece in answer.pieces():
            self._journal.append(run.entry, piece)
            await asyncio.sleep(0)
        return FinishReason.EOS_TOKEN

    async def quotation(
        self, turns: Sequence[Turn], site: str | None = None, *, instead: bool = False
    ) -> DocumentationAnswer:
        """The answer to the last of `turns` that quotes the documentation."""
        try:
            question, found = await self._find(turns, site)
        except DocumentationUnreadable as error:
            raise NoDocumentation(str(error)) from error
        return quotation(question, found, instead=instead, by_visitor=site is not None)

    async def look_up(self, turns: Sequence[Turn], site: str | None = None) -> tuple[Source, ...] | None:
        """The passages on the last of `turns`; None where there is no documentation."""
        documentation = await self._documentation_at(site)
        if not documentation.can_answer:
            return None
        if not documentation.is_searchable:  # the model does not wait for it
            return ()
        try:
            question, found = await self._find(turns, site)
        except DocumentationUnreadable as error:  # the model answers without it
            log.warning("the documentation could not be searched: %s", error)
            return ()
        return passages_for(question, found)

    async def _find(self, turns: Sequence[Turn], site: str | None) -> tuple[str, SearchResult]:
        *previous, question = [turn.content for turn in turns if turn.role is Role.USER]
        documentation = await self._documentation_at(site)
        return question, await documentation.search(question, previous=previous)

    def charge(self, run: _Run) -> None:
        """Count the tokens of a reply for its site: those that the engine reports, else an estimate."""
        if run.visitor is None or not run.prompt_tokens:
            return
        made = run.provenance.generation
        if made is not None and made.prompt_tokens is not None:
            tokens = made.prompt_tokens + (made.answer_tokens or 0)
        else:
            tokens = run.prompt_tokens + len(run.entry.text.encode("utf-8", "replace")) // 3
        charge(self._limits, run.visitor, tokens)


def _who_answers(engine: EngineStatus, documentation: Documentation) -> Answers | None:
    is_loading = engine.state is EngineState.LOADING
    if engine.state is EngineState.READY or (is_loading and not engine.is_lost):
        return Answers.MODEL
    if documentation.can_answer:
        return Answers.DOCUMENTATION
    return Answers.MODEL if is_loading else None


def _reported(chunk: AIMessageChunk) -> dict[str, Any]:
    """What the last chunk of a generation reports, as fields of the provenance."""
    reported, usage = chunk.response_metadata, chunk.usage_metadata
    generation = Generation(
        reported.get("template_hash"),
        reported.get("turns_dropped"),
        reported.get("seed"),
        None if usage is None else usage["input_tokens"],
        None if usage is None else usage["output_tokens"],
    )
    return {"revision": reported.get("revision"), "generation": generation}
