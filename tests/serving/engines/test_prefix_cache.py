"""The beginning of prompts is computed once, by llama.cpp's own counts of computed and cached tokens."""

from __future__ import annotations

import asyncio
import errno
import gc
from pathlib import Path

import pytest

from serving.engine import Accepted, SamplingParams
from serving.engines.llama_cpp import LlamaCpp
from tests.serving.engines.conftest import loaded, until

BEGINNING = "the code is for you with the list of it\n" * 20
ONE_TOKEN = SamplingParams(max_new_tokens=1, seed=1)


async def ask(engine: LlamaCpp, prompt: str) -> tuple[int, int]:
    """How many tokens of a prompt were computed, and how many were known."""
    before = engine.info
    [_ async for _ in engine.generate(prompt, ONE_TOKEN)]
    after = engine.info
    return (
        (after.computed_tokens or 0) - (before.computed_tokens or 0),
        (after.reused_tokens or 0) - (before.reused_tokens or 0),
    )


async def kept(engine: LlamaCpp) -> None:
    await until(lambda: engine._warming is not None and engine._warming.done())


async def warm(engine: LlamaCpp, beginning: str = BEGINNING) -> None:
    await engine.warm(beginning)
    await kept(engine)


async def length(engine: LlamaCpp) -> int:
    return len(await engine.tokenize(BEGINNING))


def states(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def saved(model: Path, directory: Path) -> Path:
    """The state that an engine leaves on the disk."""
    async with loaded(model, prefixes=directory) as engine:
        await warm(engine)
    (state,) = states(directory)
    return state


async def test_every_slot_has_the_prefix_for_its_first_prompt(tiny_model: Path, tmp_path: Path) -> None:
    async with loaded(tiny_model, prefixes=tmp_path, parallel=3) as engine:
        await warm(engine)
        prompts = [BEGINNING + end for end in ("add", "remove", "first")]
        answers = [engine.generate(prompt, ONE_TOKEN) for prompt in prompts]
        for answer in answers:  # all at once, so that each has a slot of its own
            assert isinstance(await anext(answer), Accepted)
        for answer in answers:
            [_ async for _ in answer]
        assert (engine.info.reused_tokens or 0) >= 3 * (await length(engine) - 1)
        assert (engine.info.computed_tokens or 0) <= 3 * 3
        assert len(states(tmp_path)) == 1


async def test_the_prefix_takes_at_most_half_of_the_context(tiny_model: Path, tmp_path: Path) -> None:
    async with loaded(tiny_model, prefixes=tmp_path, parallel=4, context=1024) as engine:
        assert 3 * await length(engine) > 512
        await warm(engine)
        assert len(states(tmp_path)) == 1
    async with loaded(tiny_model, prefixes=tmp_path, parallel=4, context=1024) as engine:
        assert len(states(tmp_path)) == 1
        assert (await ask(engine, BEGINNING + "add"))[1] >= await length(engine) - 1


async def test_conversations_keep_their_slots(tiny_model: Path, tmp_path: Path) -> None:
    async with loaded(tiny_model, prefixes=tmp_path, parallel=2) as engine:
        other = "add remove first last " * 20
        await ask(engine, other)
        await warm(engine)
        assert (await ask(engine, other + "add"))[1] > 20
        assert (await ask(engine, BEGINNING + "add"))[1] >= await length(engine) - 1


async def test_after_a_restart_the_prefix_is_read_from_disk(tiny_model: Path, tmp_path: Path) -> None:
    await saved(tiny_model, tmp_path)
    async with loaded(tiny_model, prefixes=tmp_path) as engine:  # without a call of `warm`
        computed, reused = await ask(engine, BEGINNING + "add")
        assert (computed, reused) <= (3, await length(engine))
        assert reused >= await length(engine) - 1
        (state,) = states(tmp_path)
        written = state.stat().st_ino
        await warm(engine)
        assert [state.stat().st_ino for state in states(tmp_path)] == [written]


async def test_no_state_of_another_model_is_read(tiny_model: Path, slow_model: Path, tmp_path: Path) -> None:
    await saved(tiny_model, tmp_path)
    for model, context in ((slow_model, None), (tiny_model, 1024)):
        async with loaded(model, prefixes=tmp_path, context=context) as engine:
            assert (await ask(engine, BEGINNING + "add"))[1] == 0


async def test_a_damaged_state_is_computed_again(tiny_model: Path, tmp_path: Path) -> None:
    state = await saved(tiny_model, tmp_path)
    good = state.read_bytes()
    for damaged in (b"", b"nonsense", good[:100], good[: len(good) * 2 // 3], good[:-4096] + bytes(4096)):
        for other in states(tmp_path):
            other.unlink()
        state.write_bytes(damaged)
        async with loaded(tiny_model, prefixes=tmp_path) as engine:
            assert states(tmp_path) == []  # it was not read
            await warm(engine)
            assert (await ask(engine, BEGINNING + "add"))[1] >= await length(engine) - 1
            assert len(states(tmp_path)) == 1


async def test_a_damaged_state_may_stay(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await saved(tiny_model, tmp_path)
    state.write_bytes(b"nonsense")

    def refuse(path: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as read_only:
        read_only.setattr(Path, "unlink", refuse)
        async with loaded(tiny_model, prefixes=tmp_path) as engine:
            assert await ask(engine, BEGINNING + "add") == (await length(engine) + 1, 0)


async def test_of_several_prefixes_only_the_last_is_computed(tiny_model: Path, tmp_path: Path) -> None:
    unseen: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context["message"]))
    async with loaded(tiny_model, prefixes=tmp_path) as engine:
        for _ in range(3):
            tasks = len(asyncio.all_tasks())
            await asyncio.gather(*(engine.warm(f"{number} {BEGINNING}") for number in range(5)))
            assert len(asyncio.all_tasks()) <= tasks + 2  # one that warms, and its step
            await kept(engine)
            assert (await ask(engine, f"4 {BEGINNING}add"))[1] >= await length(engine)
    gc.collect()
    await asyncio.sleep(0)
    assert unseen == []


async def test_prompts_wait_for_their_prefix_and_interrupt_others(slow_model: Path, tmp_path: Path) -> None:
    async with loaded(slow_model, prefixes=tmp_path, parallel=2) as engine:
        await engine.warm(BEGINNING * 4)
        await begun(engine)
        interrupted = computing(engine)
        await ask(engine, "something else")  # it is given up for this, and begun again
        assert states(tmp_path) == []
        await begun(engine, after=interrupted)
        computed, reused = await ask(engine, BEGINNING * 4 + "add")
        assert reused > 4 * 100 > computed
        await kept(engine)
        assert len(states(tmp_path)) == 1


def computing(engine: LlamaCpp) -> object:
    return engine._loaded and engine._loaded.warmer._computing


async def begun(engine: LlamaCpp, *, after: object = None) -> None:
    await until(lambda: computing(engine) is not after)


async def test_no_more_than_a_few_states_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    async with loaded(tiny_model, prefixes=tmp_path) as engine:
        for number in range(7):
            await warm(engine, f"{number} {BEGINNING}")
    assert len(states(tmp_path)) == 4


async def test_a_directory_that_cannot_be_written_does_no_harm(tiny_model: Path, tmp_path: Path) -> None:
    async with loaded(tiny_model, prefixes=tmp_path / "gone") as engine:
        await warm(engine)
        assert (await ask(engine, BEGINNING + "add"))[1] >= await length(engine) - 1


async def test_closing_ends_the_computation_of_the_prefix(slow_model: Path, tmp_path: Path) -> None:
    async with loaded(slow_model, prefixes=tmp_path) as engine:
        await engine.warm(BEGINNING * 4)
        await begun(engine)
        async with asyncio.timeout(20):
            await engine.close()
