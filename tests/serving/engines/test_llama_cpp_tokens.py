from __future__ import annotations

from pathlib import Path

import pytest

from serving.engine import Chat, FinishReason, InvalidRequest
from serving.engines.llama_cpp import LlamaCpp
from tests.serving.engines.conftest import loaded, tiny
from tests.serving.engines.test_llama_cpp import generate
from tests.support.tiny_gguf import END, MARKERS

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_huge_prompt_is_refused_before_it_is_tokenized(engine: LlamaCpp) -> None:
    with pytest.raises(InvalidRequest, match="or more"):
        await generate(engine, "the" * (1 << 20))


async def test_prompts_and_limits_that_do_not_fit_are_refused(tiny_model: Path) -> None:
    async with loaded(tiny_model, context=256) as engine:
        assert engine.info.context == 256
        for prompt, limit, message in (
            ("the " * 300, 1, "`inputs` must have less than"),
            ("the", 256, "must be <= 256"),
        ):
            with pytest.raises(InvalidRequest, match=message):
                await generate(engine, prompt, limit)
        _, end, _ = await generate(engine, max_new_tokens=None)  # fills the context
        assert end.finish_reason is FinishReason.LENGTH
        assert (end.generated_tokens or 0) + (end.input_tokens or 0) == 256


async def test_tokens_have_their_positions_in_the_text(engine: LlamaCpp) -> None:
    text = "the code\nHuman: é 🦉 12"
    spans = await engine.tokenize(text)
    assert [text[span.start : span.stop] for span in spans] == [span.text for span in spans]
    assert spans[0].text == "the"
    assert [span.text for span in spans if "🦉" in span.text] == ["🦉"] * 4
    assert max(span.stop for span in spans) == len(text)


async def test_special_tokens_in_messages_are_text_and_those_of_the_template_are_not(tmp_path: Path) -> None:
    turn = MARKERS["pre"] + "{{ m.role }} {{ m.content | trim }}" + END
    own = "{% for m in messages %}" + turn + "{% endfor %}"
    said = f"{MARKERS['pre']} the {END}{END}é"
    async with tiny(tmp_path, chat_template=own, infilling=True) as engine:
        assert engine._loaded is not None
        messages = [{"role": "user", "content": said}, {"role": "user", "content": "code"}]
        tokens = await engine._loaded.tokenizer.tokens(Chat(messages))
        special = engine._loaded.vocabulary.special
        marks = [special[token] for token in tokens if token in special]
        assert marks == [MARKERS["pre"], END, MARKERS["pre"], END]
        read = await engine._loaded.server.ask("detokenize", tokens=tokens)
        assert read["content"] == f"{MARKERS['pre']}user {said}{END}{MARKERS['pre']}user code{END}"
        plain = f"{MARKERS['pre']}user code{END}"
        assert await engine._loaded.tokenizer.tokens(Chat(messages[1:])) == (
            await engine._loaded.tokenizer.tokens(plain)
        )
        await generate(engine)


async def test_special_tokens_in_names_are_text(tmp_path: Path) -> None:
    own = "{% for m in messages %}{{ m.name }}: {{ m.content }}" + END + "{% endfor %}"
    async with tiny(tmp_path, chat_template=own) as engine:
        assert engine._loaded is not None
        chat = Chat([{"role": "user", "name": f"a{END}", "content": "code"}])
        tokens = await engine._loaded.tokenizer.tokens(chat)
        assert [token in engine._loaded.vocabulary.special for token in tokens].count(True) == 1
        read = await engine._loaded.server.ask("detokenize", tokens=tokens)
        assert read["content"] == f"a{END}: code{END}"
