"""In a conversation with passages of documentation an engine computes only the new part of each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assistant.conversation import Role, Source, Turn
from assistant.model import TechAssistantChat
from prompts.render import Prompt
from prompts.templates import TechAssistantTemplate
from tests.serving.conftest import Served, serve
from tests.support.tiny_gguf import write_tiny_gguf

# Tokens at the end of the known part: they may become others where the text goes on, and an engine computes
# the last token of a prompt again even if it knows the whole prompt.
SEAM = 4


class Recorded(TechAssistantTemplate):
    """Keeps the prompts that it renders."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[Prompt] = []

    def render(self, *turns: Any, **options: Any) -> Prompt:
        self.prompts.append(super().render(*turns, **options))
        return self.prompts[-1]


class Engine:
    """An engine behind the HTTP interface."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def tokens(self, text: str) -> int:
        status, spans = await self._served.post("/tokenize", {"inputs": text})
        assert status == 200
        return len(spans)

    async def read(self) -> tuple[int, int]:
        """The tokens of all prompts so far: computed ones, and those that were cached."""
        _, body = await self._served.get("/metrics")
        values = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if line[:1] != "#")
        return int(values["tgi_prompt_tokens_computed"]), int(values["tgi_prompt_tokens_reused"])


def passage(name: str, *lines: str) -> Source:
    return Source(name, name, "Python", "3.11", "PSF-2.0", f"{name}.__doc__", "", "\n".join(lines))


def question(text: str) -> Turn:
    return Turn(Role.USER, text)


REMOVE = [
    passage("shutil.rmtree", *["Delete a folder and all in it."] * 9),
    passage("os.rmdir", "Remove it."),
]
COPY = [passage("shutil.copytree", *["Copy a folder and all in it."] * 9)]
SORT = [passage("sorted", *["Return a new sorted list."] * 9)]


async def test_an_engine_computes_only_the_new_part_of_a_grounded_question(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", context=16384)
    async with serve("--model", str(model), "--threads", "1") as served:
        await served.becomes("ready")
        engine, template = Engine(served), Recorded()
        chat = TechAssistantChat(
            base_url=served.url, template=template, context=16384, max_tokens=16, seed=1, temperature=0
        )
        texts: list[str] = []

        async def ask(turns: Sequence[Turn], passages: Sequence[Source] | None) -> tuple[str, int, int]:
            """The answer, and how many tokens of the prompt were computed and known."""
            before = await engine.read()
            chunks: list[Any] = [chunk async for chunk in chat.answer(turns, passages=passages)]
            after = await engine.read()
            texts.append(template.prompts[-1].text)
            used = chunks[0].response_metadata.get("passages_used")
            assert used == (None if passages is None else len(passages))
            computed, known = after[0] - before[0], after[1] - before[1]
            assert computed + known == await engine.tokens(texts[-1])
            return "".join(str(chunk.content) for chunk in chunks), computed, known

        async def new_part(earlier: str, later: str) -> int:
            start = next(
                at for at, (one, other) in enumerate(zip(earlier, later, strict=False)) if one != other
            )
            return await engine.tokens(later[start:])

        # The first question of all: everything is computed.
        first = [question("How do I remove a folder?")]
        answer, computed, known = await ask(first, REMOVE)
        assert known <= SEAM
        preamble = texts[0].partition("Human: Documentation was looked up")[0]
        assert await engine.tokens(preamble) > 2000

        # The second in the same conversation: the history is unchanged but without passages, and the new
        # passages come after it.
        second = [*first, Turn(Role.ASSISTANT, answer), question("And how do I copy one?")]
        copied, computed, known = await ask(second, COPY)
        start, history, last = texts[1].partition("Human: How do I remove a folder?\n\nAssistant: ")
        assert (start, bool(history)) == (preamble, True)
        assert "shutil.rmtree" not in last
        assert last.index("Human: Documentation was looked up") < last.index("[1] shutil.copytree")
        assert last.endswith("\n\nQuestion: And how do I copy one?\n\nAssistant:")
        assert known >= await engine.tokens(preamble) - SEAM
        assert computed <= await new_part(texts[0], texts[1]) + SEAM
        assert computed * 5 < known

        # The third, for which no passage was found: everything before the second question is cached too.
        third = [*second, Turn(Role.ASSISTANT, copied), question("Thank you.")]
        _, computed, known = await ask(third, [])
        history = texts[1][: texts[1].index("Documentation was looked up")]
        assert texts[2].startswith(history)
        assert known >= await engine.tokens(history) - SEAM
        assert computed <= await new_part(texts[1], texts[2]) + SEAM

        # Other conversations, with and without passages: the preamble is byte for byte the same.
        for passages in (SORT, None):
            _, computed, known = await ask([question("How do I sort a list?")], passages)
            assert texts[-1].startswith(preamble + "Human: ")
            assert known >= await engine.tokens(preamble) - SEAM
            assert computed <= await engine.tokens(texts[-1].removeprefix(preamble)) + SEAM
        assert len(texts) == len(template.prompts)  # no prompt had to be shortened
