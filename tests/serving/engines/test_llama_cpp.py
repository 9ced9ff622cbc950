from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from serving.engine import Accepted, Chunk, End, EngineState, FinishReason, SamplingParams, Unhealthy
from serving.engines.llama_cpp import LlamaCpp
from serving.models.gguf_header import BadModelFile
from tests.serving.conftest import PATIENCE, eventually
from tests.serving.engines.conftest import happens, loaded, tiny, until
from tests.support.scripted_gguf import Script, write_scripted_gguf
from tests.support.scripted_gguf import prompt as scripted
from tests.support.tiny_gguf import END, write_tiny_gguf

# All tests share one event loop, so that they can share the engine of the fixture.
pytestmark = pytest.mark.asyncio(loop_scope="session")


async def generate(
    engine: LlamaCpp, prompt: str = "the code", max_new_tokens: int | None = 12, **params: Any
) -> tuple[str, End, list[Chunk]]:
    sampling = SamplingParams(**{"max_new_tokens": max_new_tokens, "seed": 1, "temperature": 1.0, **params})
    events = [event async for event in engine.generate(prompt, sampling)]
    assert isinstance(events[0], Accepted)
    assert isinstance(events[-1], End)
    chunks = [event for event in events if isinstance(event, Chunk)]
    text = b"".join(chunk.data for chunk in chunks).decode("utf-8", "replace")
    return text, events[-1], chunks


async def test_generates_text_up_to_the_limit_with_its_counts(engine: LlamaCpp) -> None:
    text, end, chunks = await generate(engine)
    assert text.isprintable() or "\n" in text
    assert end.finish_reason is FinishReason.LENGTH
    assert end.generated_tokens == sum(chunk.tokens for chunk in chunks) == len(chunks) == 12
    assert end.input_tokens == len(await engine.tokenize("the code"))
    assert engine.info.model_id == "tiny.gguf"  # where it lies is nobody's business
    assert all(chunk.token_id > 0 for chunk in chunks)


async def test_a_hanging_engine_ends_its_process(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, looks = asyncio.Event(), 0
    async with loaded(tiny_model, silence=0.1, end=ended.set) as engine:
        ask = engine._server.ask

        async def answer_twice(path: str, **body: Any) -> Any:
            nonlocal looks
            looks += 1
            if looks not in (1, 3):  # one look that is not answered in between is no proof
                await asyncio.Event().wait()
            return await ask(path, **body)

        monkeypatch.setattr(engine._server, "ask", answer_twice)
        await happens(ended)
        assert looks == 5


async def test_the_same_seed_gives_the_same_text_and_temperature_zero_ignores_it(engine: LlamaCpp) -> None:
    first, again, other = [(await generate(engine, seed=seed))[0] for seed in (7, 7, 8)]
    assert first == again != other
    likeliest = {(await generate(engine, temperature=0.0, seed=seed))[0] for seed in (1, 2)}
    assert len(likeliest) == 1
    assert (await generate(engine, seed=2**64))[0]


async def test_parameters_have_their_effect(engine: LlamaCpp) -> None:
    likeliest = (await generate(engine, temperature=0.0))[0]
    assert (await generate(engine, temperature=2.0, top_k=1))[0] == likeliest
    assert (await generate(engine, temperature=2.0, top_p=1e-6))[0] == likeliest
    assert (await generate(engine, temperature=0.0, repetition_penalty=5.0))[0] != likeliest
    await generate(engine, typical_p=0.5, frequency_penalty=1.0)


async def test_a_known_beginning_is_not_computed_again(tiny_model: Path) -> None:
    shared = "the code\n" * 100
    async with loaded(tiny_model) as engine:
        first, second = len(await engine.tokenize(shared)), len(await engine.tokenize(shared + "class error"))
        await generate(engine, shared)
        assert (engine.info.computed_tokens, engine.info.reused_tokens) == (first, 0)
        await generate(engine, shared + "class error")
        assert (engine.info.computed_tokens, engine.info.reused_tokens) == (second, first)


async def test_the_end_of_the_text_differs_from_the_length_limit(tmp_path: Path) -> None:
    async with tiny(tmp_path, ends=True) as engine:
        text, end, chunks = await generate(engine, max_new_tokens=1000)
        assert end.finish_reason is FinishReason.END_OF_TEXT
        assert END not in text
        assert end.generated_tokens == len(chunks)
        assert (chunks[-1].data, chunks[-1].special) == (b"", END)  # the end token counts, and has no text


async def test_tokens_have_probabilities_and_alternatives_on_request(engine: LlamaCpp) -> None:
    _, _, chunks = await generate(engine, temperature=0.0, top_tokens=3)
    for chunk in chunks:
        assert chunk.logprob is not None
        assert chunk.logprob < 0
        assert [top.logprob for top in chunk.top] == sorted((t.logprob for t in chunk.top), reverse=True)
        assert (chunk.top[0].id, chunk.top[0].text.encode()) == (chunk.token_id, chunk.data)
        assert len(chunk.top) == 3
    _, _, chunks = await generate(engine)
    assert all(chunk.logprob is None for chunk in chunks)


async def test_a_text_does_not_end_before_min_new_tokens(tmp_path: Path) -> None:
    async with tiny(tmp_path, ends=True) as engine:
        for seed in range(4):
            _, end, chunks = await generate(engine, seed=seed, max_new_tokens=400, min_new_tokens=40)
            assert (end.generated_tokens or 0) > 40
            assert all(chunk.special is None for chunk in chunks[:40])
        _, end, _ = await generate(engine, max_new_tokens=40, min_new_tokens=40)
        assert end == End(FinishReason.LENGTH, end.input_tokens, 40)


async def test_min_new_tokens_may_end_inside_a_character(tmp_path: Path) -> None:
    scripts = {"a": Script([b"a"], instead=b"\xe7"), "b": Script([b"a", b"b"], instead=b"\xe7")}
    async with loaded(write_scripted_gguf(tmp_path / "a.gguf", scripts)) as engine:
        for name in scripts:
            for least in range(2, 6):
                for most in (least, least + 3):
                    options = {"temperature": 0.0, "min_new_tokens": least}
                    _, end, chunks = await generate(engine, scripted(name), most, **options)
                    assert end.generated_tokens == sum(chunk.tokens for chunk in chunks) >= least


async def test_truncate_keeps_only_the_end_of_a_prompt(engine: LlamaCpp) -> None:
    whole, end, _ = await generate(engine, "is that it you", temperature=0.0, truncate=2)
    assert end.input_tokens == 2
    tokens = await engine.tokenize("is that it you")
    kept = "".join(span.text for span in tokens[-2:])
    assert (await generate(engine, kept, temperature=0.0))[0] == whole


async def test_any_bytes_of_a_model_become_whole_characters(tmp_path: Path) -> None:
    async with tiny(tmp_path, wild=True) as engine:
        for seed in range(5):
            text, end, chunks = await generate(engine, max_new_tokens=60, seed=seed, temperature=3.0)
            text.encode("utf-8")
            assert end.generated_tokens == 60 >= sum(chunk.tokens for chunk in chunks)


async def test_invalid_utf8_takes_no_more_context_than_its_tokens(tmp_path: Path) -> None:
    bad = [b"\xe7", b"x"] * 20
    tail = [b"x"] * 22 + [b"\xe7"]  # at the limit there is a token to be made once more
    async with loaded(
        write_scripted_gguf(tmp_path / "a.gguf", {"a": Script([*bad, *tail])}, context=64)
    ) as engine:
        for least in (0, 40):
            options = {"temperature": 0.0, "min_new_tokens": least}
            _, end, chunks = await generate(engine, scripted("a"), None, **options)
            assert end.generated_tokens == sum(chunk.tokens for chunk in chunks) == 63


async def test_only_the_models_own_chat_template_is_reported(tmp_path: Path, tiny_model: Path) -> None:
    async with loaded(tiny_model) as engine:
        assert engine.info.chat_template is None
        assert engine.info.eos_token == END
    own = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    async with tiny(tmp_path, chat_template=own) as engine:
        assert engine.info.chat_template == own


async def test_the_default_context_is_that_of_the_training(engine: LlamaCpp) -> None:
    assert engine.info.context == 2048
    assert engine.info.parameters


async def test_a_missing_file_and_a_file_that_is_no_model_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    problems = {"missing.gguf": "cannot read", "text.gguf": "not a GGUF file", "": "cannot read"}
    for name, message in problems.items():
        with pytest.raises(BadModelFile, match=message):
            LlamaCpp(tmp_path / name)


@pytest.fixture(params=[10, 2_000, 150_000])
def damaged_model(request: pytest.FixtureRequest, tmp_path: Path, tiny_model: Path) -> Path:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(tiny_model.read_bytes()[: request.param])
    return path


async def test_a_damaged_file_fails_to_load_and_says_so(damaged_model: Path) -> None:
    async with loaded(damaged_model) as engine:
        assert engine.info.state is EngineState.FAILED
        assert "damaged" in (engine.info.state_detail or "")
        with pytest.raises(Unhealthy, match="damaged"):
            await generate(engine)


async def test_a_missing_system_library_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    async with loaded(tiny_model) as engine:
        assert engine.info.state is EngineState.FAILED
        assert "libgomp1" in (engine.info.state_detail or "")


async def test_more_generations_than_slots_wait(tiny_model: Path) -> None:
    async with loaded(tiny_model, parallel=1) as engine:
        running = engine.generate("the", SamplingParams(max_new_tokens=500, seed=1))
        await anext(running)
        await anext(running)
        second = asyncio.create_task(generate(engine))

        await until(lambda: engine.info.waiting == 1)
        await running.aclose()
        async with asyncio.timeout(PATIENCE):
            await second
        assert engine.info.waiting == 0


@pytest.mark.parametrize("busy", [False, True])
async def test_cancelling_a_prompt_ends_the_computation_within_a_second(slow_model: Path, busy: bool) -> None:
    async with loaded(slow_model, parallel=2) as engine:
        # Processor time shows what is computed, however busy the machine is.
        before = time.process_time()
        other = asyncio.create_task(generate(engine, max_new_tokens=200)) if busy else None
        reading = asyncio.create_task(generate(engine, " the" * 6000))  # takes several seconds to read

        await until(lambda: reading.done() or time.process_time() - before > 0.4)
        if reading.done():
            pytest.fail(f"the prompt was read at once: {await reading}")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        given_up = time.process_time()
        if other is not None:
            await other
        await eventually(idle)
        assert time.process_time() - given_up < (2.0 if busy else 1.0)


async def idle() -> bool:
    """Whether this process computes next to nothing for a fifth of a second."""
    before = time.process_time()
    await asyncio.sleep(0.2)
    return time.process_time() - before < 0.05


async def test_long_conversations_use_the_context_one_after_the_other(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", context=1024)
    async with loaded(model, parallel=4) as engine:
        prompts = [f"{n} " + "the code " * 250 for n in range(6)]  # each takes over half of the context
        answers = await asyncio.gather(*(generate(engine, prompt, 20) for prompt in prompts))
        assert [end.generated_tokens for _, end, _ in answers] == [20] * 6
        assert engine.info.waiting == 0


async def test_the_prompt_of_a_cancelled_answer_stays_cached(slow_model: Path) -> None:
    async with loaded(slow_model, parallel=3) as engine:
        prompt = "the code is for you\n" * 40
        length = len(await engine.tokenize(prompt))
        for turn in range(4):
            before = engine.info.reused_tokens or 0
            events = engine.generate(prompt, SamplingParams(max_new_tokens=500, seed=1))
            assert isinstance(await anext(events), Accepted)
            await anext(events)
            await events.aclose()
            assert ((engine.info.reused_tokens or 0) - before >= length - 1) == (turn > 0)


SCRIPTS = {
    "inside the second character": [b"\xe7\x94", b"\xa8", b"\xf0", b"\x9f", b"\xa6", b"\x89", b"b", b"c"],
    "behind a character": ["\N{LATIN SMALL LETTER E WITH ACUTE}".encode() + b"\xe7", b"\x94\xa8", b"b"],
    "no text at all": [b"\xff\xf0", b"x", b"\xf0", b"\x9f", b"\xa6", b"\x89", b"b"],
    "broken and gone on": [b"x\xe7", b"b", b"c", b"d", b"e"],
    "whole": [b"\xe7\x94", b"\xa8", b"b", b"c", b"d", b"e"],
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_the_length_limit_may_be_inside_a_character(name: str, tmp_path: Path) -> None:
    pieces = SCRIPTS[name]
    async with loaded(write_scripted_gguf(tmp_path / "a.gguf", {"a": Script(pieces)})) as engine:
        for limit in range(1, len(pieces) + 1):
            for least in (0, limit // 2):
                options = {"temperature": 0.0, "min_new_tokens": least, "logprobs": True}
                _, end, chunks = await generate(engine, scripted("a"), limit, **options)
                assert end.generated_tokens == sum(chunk.tokens for chunk in chunks) == limit
                assert b"".join(chunk.data for chunk in chunks) == b"".join(pieces[:limit])
