"""The life of a reply, from a question to a stored answer. The one use case of this application.

    ask ──> stored: question, pending reply ──> a task owns the reply (no connection does)
                                                  │ 1. it waits for its turn
                                                  │ 2. the path from the root to the question
                                                  │ 3. the model streams its answer to it, with what the
                                                  │    documentation has; without a model, and where it
                                                  │    fails before any text, that is quoted
                                                  │ 4. each piece is journalled, then shown
                                                  └ 5. the outcome is folded into the message

Knows the order of these steps and what may go wrong in each; refuses to know HTTP, SQL, prompt formats and
engines. Closing a tab does not end a reply; `stop` does. Whatever happens, the text shown so far is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from assistant.admission import Admission, Place
from assistant.conversation import Conversation, Failure, FinishReason, Message, Role, Source, Status, Turn
from assistant.errors import (
    AssistantError,
    Broken,
    Closing,
    EmptyText,
    LicenceNotAccepted,
    ModelError,
    NoDocumentation,
    NoModel,
    NoModelLoaded,
    Unreachable,
)
from assistant.knowledge.answer import answer as quotation
from assistant.knowledge.answer import reference
from assistant.knowledge.documentation import Documentation, DocumentationStatus, DocumentationUnreadable
from assistant.knowledge.passage import SearchResult
from assistant.served import EngineState, EngineStatus, ServedModel
from prompts.render import PromptError, QuestionTooLong
from storage.errors import DatabaseUnavailable, DiskFull, NotFound
from storage.journal import NOT_STORED, Entry, Journal, Outcome
from storage.store import LATEST, MOST_MESSAGES, Asked, Branch, ConversationStore, Latest

if TYPE_CHECKING:  # it brings LangChain along, seconds of CPU
    from assistant.model import TechAssistantChat
    from assistant.served import Licence

log = logging.getLogger(__name__)

TITLE_LENGTH = 80  # code points of a title made from a question
MODEL_WAIT_SECONDS = 120.0  # how long a stored question waits for a model that is loading
RESTORABLE = timedelta(seconds=60)  # how long a deleted conversation can be brought back
TIDY_SECONDS = 20.0
COOKIE_KEPT = timedelta(days=400)  # since it was last renewed; browsers keep none longer
LONGEST_CAUSE = 300  # characters of what another server has said, in the log
CLEAN_SECONDS = 5.0  # how long erasing waits until nothing is left in the files either


@dataclass(frozen=True, slots=True)
class Waiting:
    """The reply has not had its turn; `before` others come first."""

    before: int


@dataclass(frozen=True, slots=True)
class Cited:
    """What the reply quotes or was made from, best first."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of a reply; `position` counts the code points of all text up to its end."""

    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Reset:
    """All the text so far, for a listener whose place is not known."""

    text: str
    position: int


@dataclass(frozen=True, slots=True)
class End:
    """How a reply ended."""

    status: Status
    finish_reason: FinishReason | None
    failure: Failure | None
    position: int


Event = Waiting | Cited | Delta | Reset | End


class Answers(enum.StrEnum):
    """Who answers a question."""

    MODEL = "model"
    DOCUMENTATION = "documentation"


@dataclass(slots=True)
class _Running:
    conversation_id: str
    entry: Entry
    place: Place
    provenance: dict[str, object]
    generating: asyncio.Task[FinishReason]  # cancelled to end the reply
    owner: asyncio.Task[None] | None = None  # never cancelled: it stores the outcome
    ended_as: Status = Status.STOPPED  # what a cancelled reply is settled as
    began: float = field(default_factory=time.monotonic)


class Assistant:
    """Answers questions: the object that every face of the application talks to."""

    def __init__(
        self,
        store: ConversationStore,
        journal: Journal,
        served: ServedModel,
        documentation: Documentation,
        *,
        max_replies: int,
        max_waiting: int,
        total_seconds: float | None = None,
    ) -> None:
        """`total_seconds` is how long a model may write at one reply, however lively it is."""
        self._store = store
        self._journal = journal
        self._served = served
        self._documentation = documentation
        self._total_seconds = total_seconds
        # An engine that computes a few at once is given no more: its own queue does not know owners.
        self._admission = Admission(
            limit=max_replies + max_waiting,
            running=lambda: min(max_replies, self.engine.parallel or max_replies),
        )
        self._beginning: set[asyncio.Task[Asked]] = set()  # questions that are just being stored
        self._running: dict[str, _Running] = {}
        self._tidying: asyncio.Task[None] | None = None
        self._left: Sequence[str] | None = None  # replies of an earlier process to settle; None: not read yet
        self._closing = False
        self.marks: dict[str, str] = {}  # of owners who revoked their cookies: which are theirs since

    @property
    def engine(self) -> EngineStatus:
        return self._served.status

    @property
    def documentation(self) -> DocumentationStatus:
        return self._documentation.status

    @property
    def answers(self) -> Answers | None:
        """Who would answer a question that is asked now; None when nobody would."""
        is_loading = self.engine.state is EngineState.LOADING
        if self.engine.state is EngineState.READY or (is_loading and not self.engine.is_lost):
            return Answers.MODEL
        if self._documentation.can_answer:
            return Answers.DOCUMENTATION
        return Answers.MODEL if is_loading else None

    async def check(self) -> None:
        """Raises `DatabaseUnavailable` when questions cannot be stored."""
        await self._store.check()

    async def look_back(self) -> None:
        """Read what earlier processes left. Raises `DatabaseUnavailable`."""
        self.marks.update(await self._store.marks())
        self._left = await self._store.unfinished()

    async def start(self) -> None:
        """Settle what an earlier process left unfinished, and begin to answer."""
        if self._left is None:
            await self.look_back()
        await self._tidy()
        self._journal.start()
        self._served.start(self._admission.look_again)  # another engine may answer more at once
        await self._documentation.start()
        self._tidying = asyncio.create_task(self._keep_tidy())

    async def close(self) -> None:
        """End all replies as interrupted, their text stored, and stop answering."""
        self._closing = True
        await asyncio.gather(*self._beginning, return_exceptions=True)
        for running in self._running.values():
            running.ended_as = Status.INTERRUPTED
        await asyncio.gather(*(self._end(running) for running in list(self._running.values())))
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)
        await self._served.close()
        await self._documentation.close()
        await self._journal.close()

    # Conversations: as the store has them, but that a running reply must end before its conversation does.

    async def create_conversation(
        self, owner: str, title: str | None = None, *, grounding: bool = True
    ) -> Conversation:
        return await self._store.create_conversation(owner, title or "", grounding=grounding)

    async def conversation(
        self, owner: str, conversation_id: str, *, limit: int = MOST_MESSAGES, before: int | None = None
    ) -> tuple[Conversation, Sequence[Message]]:
        return await self._store.conversation(owner, conversation_id, limit=limit, before=before)

    async def conversations(
        self, owner: str, *, limit: int, cursor: str | None
    ) -> tuple[list[Conversation], str | None]:
        return await self._store.conversations(owner, limit=limit, cursor=cursor)

    async def change(
        self,
        owner: str,
        conversation_id: str,
        *,
        title: str | None = None,
        active_leaf_id: str | None = None,
        grounding: bool | None = None,
    ) -> Conversation:
        return await self._store.change(
            owner, conversation_id, title=title, active_leaf_id=active_leaf_id, grounding=grounding
        )

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Take a conversation away; for a while (`RESTORABLE`, at least) `restore` brings it back."""
        await self._store.delete(owner, conversation_id)
        for running in list(self._running.values()):
            if running.conversation_id == conversation_id:
                await self._end(running)

    async def restore(self, owner: str, conversation_id: str) -> Conversation:
        return await self._store.restore(owner, conversation_id)

    # All that a person has here

    async def export(self, owner: str) -> AsyncIterator[Conversation | Message]:
        """Each conversation of an owner, followed by its messages; read piece by piece."""
        after = ""
        while ids := await self._store.ids(owner, after=after):
            for after in ids:
                with contextlib.suppress(NotFound):  # it was deleted meanwhile
                    conversation, messages = await self._store.messages(owner, after)
                    yield conversation
                    while messages:
                        for message in messages:
                            yield message
                        last = messages[-1].position
                        _, messages = await self._store.messages(owner, after, after=last)

    async def acceptances(self, owner: str) -> dict[str, datetime]:
        """The licences that an owner has accepted, and when."""
        return await self._store.acceptances(owner)

    async def erase(self, owner: str) -> None:
        """Remove everything of an owner at once and for good, deleted conversations too.

        What is being stored just now is either stored before and removed, or stored after as something new.
        """
        if not await self._store.erase(owner):
            return
        await asyncio.gather(*self._beginning, return_exceptions=True)
        theirs = [running for running in self._running.values() if running.place.owner == owner]
        await asyncio.gather(*map(self._end, theirs))
        await self._store.purge(older_than=RESTORABLE)
        await self._store.clean(rewrite=True, patience=CLEAN_SECONDS)

    async def _keep_tidy(self) -> None:
        await self._store.examine()
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            await self._tidy()
            # Everybody waits while the database is rewritten: better when nobody is being answered.
            await self._store.clean(rewrite=not self._running)

    async def _tidy(self) -> None:
        """Settle what an earlier process left, if that is not done, and remove for good what was deleted."""
        try:
            if self._left:
                await self._store.interrupt(self._left)
                log.warning("%d replies were interrupted by the end of an earlier process", len(self._left))
                self._left = ()
            await self._store.purge(older_than=RESTORABLE)
        except DatabaseUnavailable as error:  # chats can still be read; it is tried again
            log.error("the database could not be tidied: %s", error)
        except Exception:  # whatever it is, it must not be the last try
            log.exception("the database could not be tidied")

    async def revoke(self, owner: str) -> None:
        """Make all cookies that were given to an owner until now invalid. Their chats stay."""
        self.marks[owner] = await self._store.revoke(owner, kept=COOKIE_KEPT)

    # The engine, its model and the licence of that

    async def begin_download(self) -> None:
        """Fetch the model that is offered. Raises `AssistantError`."""
        await self._served.begin_download()

    async def decline_download(self) -> None:
        """Do not fetch it, or no further. Raises `AssistantError`."""
        await self._served.decline_download()

    async def accept_licence(self, owner: str, licence: str) -> None:
        """Record that this person has accepted a licence. Raises `NotFound` for another than the model's."""
        if self.engine.licence is None or self.engine.licence.id != licence:
            raise NotFound("No model here comes under that licence.")
        await self._store.accept(owner, licence)

    async def has_accepted(self, owner: str, licence: Licence) -> bool:
        """Whether this person may use what comes under a licence."""
        return not licence.must_accept or await self._store.has_accepted(owner, licence.id)

    async def _check_licence(self, owner: str) -> None:
        licence = self.engine.licence
        if licence is not None and not await self.has_accepted(owner, licence):
            raise LicenceNotAccepted(
                licence.id,
                f"{self.engine.model or 'The model'} comes under the {licence.name}, which forbids some uses."
                f" Read {licence.url} and accept it in the page, or by PUT /api/licences/{licence.id}.",
            )

    # Questions and replies

    async def ask(
        self,
        owner: str,
        conversation_id: str | None,
        text: str,
        *,
        parent_id: str | Latest | None = LATEST,
        client_id: str | None = None,
        grounding: bool = True,
    ) -> Asked:
        """Store a question and begin to answer it; without a conversation, as the first of a new one, for
        whose answers documentation is looked up if `grounding`.

        Raises `AssistantError` and `storage.errors.StorageError`. The same `client_id` with the same body
        gets the same answer again, also while new questions are refused.
        """
        if not text.strip():
            raise EmptyText("The message is empty. Write a question.")
        try:
            by, place = await self._admit(owner)
            storing = self._store.ask(
                owner,
                conversation_id,
                text,
                parent_id=parent_id,
                client_id=client_id,
                title=_title(text),
                grounding=grounding,
            )
            return await self._begin_whole(by, place, storing)
        except (AssistantError, DiskFull):
            earlier = await self._store.asked(
                owner, conversation_id, text, parent_id=parent_id, client_id=client_id
            )
            if earlier is None:
                raise
            return earlier

    async def retry(self, owner: str, reply_id: str) -> Asked:
        """Answer the same question again, as a sibling of an earlier reply."""
        by, place = await self._admit(owner)
        storing = self._store.retry(owner, reply_id)
        return await self._begin_whole(by, place, storing)

    async def reply(self, owner: str, reply_id: str) -> Message:
        """A reply as it is stored now. Raises `NotFound`."""
        return await self._store.reply(owner, reply_id)

    async def stop(self, owner: str, reply_id: str) -> Status:
        """End a reply, its text kept, and tell how it has ended; one that had ended stays as it is."""
        reply = await self._store.reply(owner, reply_id)
        if (running := self._running.get(reply_id)) is None:
            return reply.status
        await self._end(running)
        return (await self._store.reply(owner, reply_id)).status

    async def follow(self, owner: str, reply_id: str, after: int | None = 0) -> AsyncIterator[Event]:
        """The events of a reply from code point `after` on; first all of its text if that is not known.

        Raises `NotFound`. A reply that has ended is told from storage.
        """
        if (running := self._running.get(reply_id)) is not None and running.place.owner == owner:
            return _follow_running(running, after)
        return _tell_ended(await self._store.reply(owner, reply_id), after)

    async def _admit(self, owner: str) -> tuple[Answers, Place]:
        """Who answers one more reply, as far as the engine has told, and its place, which `_begin` uses or
        gives back."""
        if self._closing:
            raise Closing("The application is shutting down. Ask again in a moment.")
        if (by := self.answers) is None:
            raise NoModelLoaded(self.engine.detail or "No model is loaded.")
        if by is Answers.MODEL:
            await self._check_licence(owner)
        return by, self._admission.enter(owner)

    async def _begin_whole(self, by: Answers, place: Place, storing: Coroutine[None, None, Asked]) -> Asked:
        """Like `_begin`, and to its end also if who asked gives up."""
        self._beginning.add(beginning := asyncio.create_task(self._begin(by, place, storing)))
        beginning.add_done_callback(self._beginning.discard)
        return await asyncio.shield(beginning)

    async def _begin(self, by: Answers, place: Place, storing: Coroutine[None, None, Asked]) -> Asked:
        handed_over = False
        try:
            asked = await storing
            if asked.is_new:
                entry = self._journal.open(asked.reply_id)
                provenance: dict[str, object] = {}
                generating = asyncio.create_task(self._answer(by, entry, place, provenance))
                running = _Running(asked.conversation_id, entry, place, provenance, generating)
                self._running[asked.reply_id] = running
                running.owner = asyncio.create_task(self._own(entry, running))
                running.owner.add_done_callback(lambda _: self._ended(asked.reply_id))
                handed_over = True
            return asked
        finally:
            if not handed_over:
                place.leave()

    async def _end(self, running: _Running) -> None:
        running.generating.cancel()
        if running.owner is not None:
            await asyncio.wait([running.owner])

    def _ended(self, reply_id: str) -> None:
        self._running.pop(reply_id).place.leave()

    async def _own(self, entry: Entry, running: _Running) -> None:
        """Wait for the end of a generation, however it ends, and store the outcome."""
        await asyncio.wait([running.generating])
        if running.generating.cancelled():
            outcome = Outcome(running.ended_as)
        elif (error := running.generating.exception()) is not None:
            outcome = Outcome(Status.FAILED, failure=self._failure(entry, error))
        else:
            outcome = Outcome(Status.DONE, running.generating.result())
        running.provenance["seconds"] = round(time.monotonic() - running.began, 3)
        await self._journal.settle(entry, dataclasses.replace(outcome, provenance=running.provenance))

    def _failure(self, entry: Entry, error: BaseException) -> Failure:
        if isinstance(error, ModelError):
            self._note(entry, error)
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
        return Failure("internal", "Something went wrong inside the application; its log says what.")

    def _note(self, entry: Entry, error: ModelError) -> None:
        """Look at the server where the error makes its state doubtful, and log what people are not told."""
        if isinstance(error, Unreachable):
            self._served.look_now()
        cause = "" if error.__cause__ is None else f" ({str(error.__cause__)[:LONGEST_CAUSE]!r})"
        log.warning("the answer of reply %s failed: %s%s", entry.reply_id, error, cause)

    async def _answer(
        self, by: Answers, entry: Entry, place: Place, provenance: dict[str, object]
    ) -> FinishReason:
        is_lost = self._is_lost
        await place.turn()
        branch = await self._store.branch(entry.reply_id)
        if by is Answers.DOCUMENTATION:
            return await self._quote(entry, branch.turns, provenance, instead=is_lost)
        try:
            return await self._write(entry, place.owner, branch, provenance)
        except (NoModel, Unreachable, Broken) as error:
            # What was shown of the model's answer stays alone: the two are never mixed.
            if entry.text or not self._documentation.can_answer:
                raise
            # Without a model it may have been asked before the engine had said that it has none, or not yet.
            instead = not isinstance(error, NoModel) or self._is_lost
            if instead:
                self._note(entry, error)
            provenance.clear()
            return await self._quote(entry, branch.turns, provenance, instead=instead)

    @property
    def _is_lost(self) -> bool:
        """Whether there is a model that should answer, and does not."""
        return self.engine.state in (EngineState.FAILED, EngineState.LOADING)

    async def _write(
        self, entry: Entry, owner: str, branch: Branch, provenance: dict[str, object]
    ) -> FinishReason:
        """Answer by the model."""
        can_quote = self._documentation.can_answer
        model = await self._served.ready(MODEL_WAIT_SECONDS, also_lost=not can_quote)
        await self._check_licence(owner)
        sources = await self._look_up(branch.turns) if branch.grounding else None
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._generate(entry, model, branch, sources, provenance)
        except TimeoutError as error:
            raise Broken(f"The answer was not complete within {self._total_seconds:g} seconds.") from error

    async def _quote(
        self, entry: Entry, turns: Sequence[Turn], provenance: dict[str, object], *, instead: bool
    ) -> FinishReason:
        """Answer by what the documentation says, word for word; say so if it is `instead` of a model."""
        provenance |= {"model": Answers.DOCUMENTATION.value, "revision": self._documentation.version}
        try:
            question, found = await self._find(turns)
        except DocumentationUnreadable as error:
            raise NoDocumentation(str(error)) from error
        answer = quotation(question, found, instead=instead)
        self._journal.cite(entry, answer.sources)
        for piece in answer.pieces():
            self._journal.append(entry, piece)
            await asyncio.sleep(0)
        return FinishReason.EOS_TOKEN

    async def _look_up(self, turns: Sequence[Turn]) -> tuple[Source, ...] | None:
        """What the documentation has on the last of `turns`; None where there is none to ask."""
        if not self._documentation.can_answer:
            return None
        if not self._documentation.is_searchable:  # the model does not wait for it
            return ()
        try:
            _, found = await self._find(turns)
        except DocumentationUnreadable as error:  # the model answers without
            log.warning("the documentation could not be asked: %s", error)
            return ()
        return tuple(map(reference, found.passages))

    async def _find(self, turns: Sequence[Turn]) -> tuple[str, SearchResult]:
        *previous, question = [turn.content for turn in turns if turn.role is Role.USER]
        return question, await self._documentation.search(question, previous=previous)

    async def _generate(
        self,
        entry: Entry,
        model: TechAssistantChat,
        branch: Branch,
        sources: tuple[Source, ...] | None,
        provenance: dict[str, object],
    ) -> FinishReason:
        provenance |= {"model": model.model_name, "sampling": model.sampling}
        finish_reason: FinishReason | None = None
        answer = model.answer(branch.turns, passages=sources, session=branch.conversation_id)
        async with contextlib.aclosing(answer) as chunks:
            async for chunk in chunks:
                if (used := chunk.response_metadata.get("passages_used")) is not None and sources:
                    self._journal.cite(entry, sources[:used])
                if text := str(chunk.content):
                    self._journal.append(entry, text)
                if reason := chunk.response_metadata.get("finish_reason"):
                    finish_reason = FinishReason(reason)
                    names = ("revision", "template_hash", "turns_dropped", "seed")
                    provenance |= {name: chunk.response_metadata.get(name) for name in names}
                    if chunk.usage_metadata is not None:
                        provenance["tokens"] = {
                            "prompt": chunk.usage_metadata["input_tokens"],
                            "answer": chunk.usage_metadata["output_tokens"],
                        }
        if finish_reason is None:
            raise Broken("The answer broke off: the engine's stream ended before the answer did.")
        return finish_reason


async def _follow_running(running: _Running, after: int | None) -> AsyncIterator[Event]:
    async for before in running.place.waits():
        yield Waiting(before)
    entry = running.entry
    position = entry.known if after is None else after
    if after is None or after > entry.known:
        position = entry.known
        yield Reset(entry.text[:position], position)
    async for text in entry.follow(position):
        if isinstance(text, tuple):
            yield Cited(text)
        else:
            position += len(text)
            yield Delta(text, position)
    assert entry.outcome is not None
    yield End(entry.outcome.status, entry.outcome.finish_reason, entry.outcome.failure, position)


async def _tell_ended(reply: Message, after: int | None) -> AsyncIterator[Event]:
    length = len(reply.content)
    if reply.sources:
        yield Cited(reply.sources)
    if after is None or after > length:
        yield Reset(reply.content, length)
    elif after < length:
        yield Delta(reply.content[after:], length)
    if reply.status.is_final:
        yield End(reply.status, reply.finish_reason, reply.failure, length)
    else:  # the database refuses its end, for now
        yield End(Status.FAILED, None, NOT_STORED, length)


def _title(text: str) -> str:
    """A title for a conversation that begins with this question: its first line that says something."""
    line = " ".join(next(line for line in text.splitlines() if line.strip()).split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"
