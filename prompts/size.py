"""How much of a prompt a model can use, by its size.

A small model does not weigh what it reads: it repeats it. With four passages and instructions in front of a
question, SmolLM2-135M repeated itself or the prompt in half of its answers, and with the introduction and the
examples for base models in 28 of 30 (`benchmarks/grounding.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model of some size can use."""

    passages: int  # of documentation, at most
    passage_tokens: int  # the most tokens of all passages
    explains: bool  # whether the prompt says what the passages are, and asks for citations
    detail: int  # of `tech_assistant.jinja`, at most


TINY = ModelSize(passages=1, passage_tokens=400, explains=False, detail=0)
SMALL = ModelSize(passages=2, passage_tokens=700, explains=True, detail=2)
# A few pages of documentation, so that a large context does not mean a long wait at each question.
LARGE = ModelSize(passages=4, passage_tokens=1500, explains=True, detail=2)


def size_of(parameters: int | None) -> ModelSize:
    """The size of a model with so many parameters (weights). One of unknown size is taken for large: most
    of those run on other people's servers."""
    if parameters is None or parameters >= 4_000_000_000:
        return LARGE
    return SMALL if parameters >= 1_000_000_000 else TINY
