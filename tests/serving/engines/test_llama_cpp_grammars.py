from __future__ import annotations

import json
import re
from typing import Any

import pytest

from serving.engine import FinishReason, Grammar, GrammarKind, IncompleteGeneration, InvalidRequest
from serving.engines.llama_cpp import LlamaCpp
from tests.serving.engines.test_llama_cpp import generate

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        (Grammar(GrammarKind.REGEX, "(ab|c/d)[0-9]{3}"), r"(ab|c/d)[0-9]{3}"),
        (Grammar(GrammarKind.REGEX, r"a\/b\.c"), r"a/b\.c"),
        (Grammar(GrammarKind.REGEX, "x\n{2}y"), "x\n\ny"),
        (Grammar(GrammarKind.JSON, '{"enum": ["one", "two"]}'), r'"(one|two)"'),
    ],
)
async def test_a_text_follows_its_grammar(engine: LlamaCpp, grammar: Grammar, pattern: str) -> None:
    for seed in range(3):
        text, end, _ = await generate(engine, seed=seed, grammar=grammar, max_new_tokens=40)
        assert re.fullmatch(pattern, text)
        assert end.finish_reason is FinishReason.END_OF_TEXT


async def test_an_invalid_grammar_is_refused_and_the_engine_goes_on(engine: LlamaCpp) -> None:
    for grammar in (Grammar(GrammarKind.REGEX, "(a"), Grammar(GrammarKind.JSON, '{"type": "nothing"}')):
        with pytest.raises(InvalidRequest):
            await generate(engine, grammar=grammar)
    assert (await generate(engine))[0]


async def test_lists_that_are_too_long_for_llama_cpp_are_refused(engine: LlamaCpp) -> None:
    for lists in (
        '"minItems": 1000000000',
        '"maxItems": 1e9',
        '"items": {"anyOf": [{"type": "array", "maxItems": 9999}, {"type": "array", "minItems": 2}]}',
    ):
        with pytest.raises(InvalidRequest, match="maxItems"):
            await generate(engine, grammar=Grammar(GrammarKind.JSON, f'{{"type": "array", {lists}}}'))
    most = Grammar(GrammarKind.JSON, '{"type": "array", "minItems": 5000, "maxItems": 5000}')
    assert (await generate(engine, grammar=most))[0].startswith("[")


async def test_too_many_combined_patterns_are_refused(engine: LlamaCpp) -> None:
    patterns = [f"^(a|b)*{letter}(a|b){{{n}}}$" for letter in "ab" for n in range(8, 30)]
    texts = [{"type": "string", "pattern": pattern} for pattern in patterns]
    named = {f"t{number}": text for number, text in enumerate(texts)}
    for schema in (
        {"allOf": texts},
        {"$defs": named, "allOf": [{"$ref": f"#/$defs/{name}"} for name in named]},
    ):
        with pytest.raises(InvalidRequest, match="allOf"):
            await generate(engine, grammar=Grammar(GrammarKind.JSON, json.dumps(schema)))


async def test_an_ignored_grammar_is_an_error(engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = re.compile("start: .*")
    grammar = Grammar(GrammarKind.REGEX, "[0-9]{3}")
    stream = LlamaCpp._stream

    def without(self: LlamaCpp, loaded: Any, text: Any, limit: int, sampling: Any) -> Any:
        weaker = pattern.sub(lambda _: "start: /[a-z0-9]{2,3}/", sampling["grammar"])
        return stream(self, loaded, text, limit, {**sampling, "grammar": weaker})

    monkeypatch.setattr(LlamaCpp, "_stream", without)
    with pytest.raises(IncompleteGeneration, match="grammar"):
        await generate(engine, grammar=grammar)
    weaker = Grammar(GrammarKind.REGEX, "[a-z0-9]{4}")  # it ends too early for this one
    with pytest.raises(IncompleteGeneration, match="before the grammar allows"):
        await generate(engine, grammar=weaker)
