"""How a reply was made: which model or documentation wrote it, with which settings, in how many seconds.

The value is stored and shown as one JSON object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Generation:
    """What the engine reported at the end of a generation; None for what it did not report."""

    template_hash: str | None  # of the prompt template
    turns_dropped: int | None  # oldest turns that did not fit into the context
    seed: int | None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """`generation` is None for a quotation from the documentation, and where a generation did not end."""

    model: str | None = None  # its name, or `documentation`
    revision: str | None = None  # of the model, or of the documentation
    sampling: Mapping[str, Any] | None = None  # the sampling parameters
    generation: Generation | None = None
    seconds: float | None = None  # from the question to the end of the reply

    def as_json(self) -> dict[str, Any]:
        """The JSON object: what is not known is left out, what an engine did not report is null."""
        stored: dict[str, Any] = {"model": self.model, "sampling": self.sampling, "revision": self.revision}
        stored = {name: value for name, value in stored.items() if value is not None}
        if (made := self.generation) is not None:
            stored |= {"revision": self.revision, "template_hash": made.template_hash}
            stored |= {"turns_dropped": made.turns_dropped, "seed": made.seed}
            if made.prompt_tokens is not None:
                stored["tokens"] = {"prompt": made.prompt_tokens, "answer": made.answer_tokens}
        return stored if self.seconds is None else {**stored, "seconds": self.seconds}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Provenance:
        """Raises `TypeError` or `AttributeError` for anything but an object that `as_json` made."""
        generation = None
        if "template_hash" in stored:
            tokens = stored.get("tokens") or {}
            generation = Generation(
                stored["template_hash"],
                stored.get("turns_dropped"),
                stored.get("seed"),
                tokens.get("prompt"),
                tokens.get("answer"),
            )
        return cls(
            model=stored.get("model"),
            revision=stored.get("revision"),
            sampling=stored.get("sampling"),
            generation=generation,
            seconds=stored.get("seconds"),
        )
