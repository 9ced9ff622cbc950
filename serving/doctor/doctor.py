"""`python -m serving doctor`: looks at an upstream, or at the embedded engine, and says what it does right.

Knows what OpenAI's protocol and TGI's promise, how servers are known to break that, and what the rest of the
serving layer does to make up for it; refuses to know what the texts mean. It asks the server itself, without
our engines between, because these hide what is to be seen. A key is sent and never shown.

What is right with one question may be wrong with the next: a finding tells what was seen, once.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import functools
import json
import os
import re
import secrets
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from serving.engines.remote import is_http
from serving.models.catalogue import infilling_of

KEY_VARIABLE = "TECH_ASSISTANT_UPSTREAM_KEY"
PROBE_SECONDS = 30.0
TOTAL_SECONDS = 240.0
LOAD_SECONDS = 300.0
LARGEST = 4 << 20  # bytes of an answer
LONGEST_QUOTE = 160  # characters of what the server says
ASSUMED_CONTEXT = 8192  # tokens, by our engines too where a server does not tell
LONGEST_PROMPT = 300_000  # words: longer contexts are not tried
LONG_ANSWER = 1024  # tokens: what is given up must not have ended by then
FAST_SECONDS = 0.25  # an answer that is whole by then tells nothing of how it was sent
SETTLE_SECONDS = 5.0  # in which a server must have seen that nobody reads any more

PROMPT = "def fibonacci(n):\n"
OWLS = "\N{OWL}\N{FOX FACE}" * 12
TOKENS = 48


class Status(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    MADE_UP = "made up for"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    status: Status
    seen: str
    ours: str = ""
    """What the serving layer does about it, or what has to be done instead."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A finding that has no name yet."""

    status: Status
    seen: str
    ours: str = ""


_right = functools.partial(_Seen, Status.RIGHT)
_wrong = functools.partial(_Seen, Status.WRONG)
_made_up = functools.partial(_Seen, Status.MADE_UP)
_unknown = functools.partial(_Seen, Status.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Report:
    url: str
    kind: str
    findings: Sequence[Finding]

    @property
    def is_usable(self) -> bool:
        """Nothing is wrong that is not made up for."""
        return all(finding.status is not Status.WRONG for finding in self.findings)

    def table(self) -> str:
        rows = [f"{self.url}, asked by the protocol of {'TGI' if self.kind == 'tgi' else 'OpenAI'}", ""]
        for finding in self.findings:
            head = f"{finding.status:11}  {finding.name:19}  "
            rows += textwrap.wrap(finding.seen, 110, initial_indent=head, subsequent_indent=" " * len(head))
            if finding.ours:
                indent = " " * len(head)
                rows += textwrap.wrap(
                    finding.ours, 110, initial_indent=f"{indent}-> ", subsequent_indent=f"{indent}   "
                )
        wrong = sum(finding.status is Status.WRONG for finding in self.findings)
        rows += ["", f"{wrong} wrong." if wrong else "Nothing is wrong that is not made up for."]
        return "\n".join(rows) + "\n"

    def as_json(self) -> str:
        findings = [asdict(finding) for finding in self.findings]
        return json.dumps(
            {"url": self.url, "kind": self.kind, "usable": self.is_usable, "findings": findings},
            ensure_ascii=False,
            indent=2,
        )


@dataclass(slots=True)
class _Answer:
    """What came back to one question for a text."""

    status: int
    body: bytes = b""
    """Where it is no text."""
    pieces: list[str] = field(default_factory=list)
    reason: str | None = None
    given: int | None = None
    made: int | None = None
    total: int | None = None
    reads: list[tuple[float, int]] = field(default_factory=list)
    """When something was read, and how many pieces of text that were."""
    asked_at: float = 0.0
    refusal: str = ""
    role: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def is_text(self) -> bool:
        return self.status == 200 and not self.refusal


@dataclass(frozen=True, slots=True)
class _Wish:
    """A text to ask for. With a seed tokens are drawn, else the likeliest is taken."""

    prompt: str
    _: KW_ONLY
    tokens: int
    stream: bool
    stop: str | None = None
    seed: int | None = None
    suffix: str | None = None


class _Words(Protocol):
    """How a protocol asks for a text, and how it tells one."""

    kind: str
    ends: Sequence[str]
    """The reasons for an end that our engine knows."""

    def ask(self, wish: _Wish) -> tuple[str, dict[str, Any]]:
        """The address and the body."""

    def read(self, answer: _Answer, told: Any) -> None:
        """Take what an event tells, or a whole answer."""


@dataclass(slots=True)
class _OpenAI:
    url: str
    model: str | None = None
    kind: str = "openai"
    ends: Sequence[str] = ("stop", "length")

    def ask(self, wish: _Wish) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"model": self.model, "prompt": wish.prompt, "max_tokens": wish.tokens}
        body["temperature"] = 0.0 if wish.seed is None else 1.0
        more = {"seed": wish.seed, "suffix": wish.suffix, "stop": None if wish.stop is None else [wish.stop]}
        body |= {name: value for name, value in more.items() if value is not None}
        if wish.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return f"{self.url}/completions", body

    def read(self, answer: _Answer, told: Any) -> None:
        choices = _list(told, "choices")
        choice = choices[0] if choices and isinstance(choices[0], dict) else {}
        said = choice.get("delta") or choice.get("message") or {}
        text = choice.get("text") or (said.get("content") if isinstance(said, dict) else None)
        if isinstance(said, dict) and said.get("role"):
            answer.role = str(said["role"])
        if isinstance(text, str) and text:
            answer.pieces.append(text)
        if choice.get("finish_reason") is not None:
            answer.reason = str(choice["finish_reason"])
        usage = told.get("usage") if isinstance(told, dict) else None
        if isinstance(usage, dict):
            answer.given, answer.made = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
            answer.total = _count(usage, "total_tokens")


@dataclass(slots=True)
class _Tgi:
    url: str
    model: str | None = None
    kind: str = "tgi"
    ends: Sequence[str] = ("eos_token", "length", "stop_sequence")

    def ask(self, wish: _Wish) -> tuple[str, dict[str, Any]]:
        parameters: dict[str, Any] = {"max_new_tokens": wish.tokens, "details": True}
        if wish.stop is not None:
            parameters["stop"] = [wish.stop]
        if wish.seed is not None:
            parameters |= {"do_sample": True, "seed": wish.seed}
        path = "generate_stream" if wish.stream else "generate"
        return f"{self.url}/{path}", {"inputs": wish.prompt, "parameters": parameters}

    def read(self, answer: _Answer, told: Any) -> None:
        if isinstance(told, list) and told:
            told = told[0]
        if not isinstance(told, dict):
            return
        token, details = told.get("token"), told.get("details")
        if isinstance(token, dict):
            if isinstance(text := token.get("text"), str) and text and not token.get("special"):
                answer.pieces.append(text)
        elif isinstance(whole := told.get("generated_text"), str):
            answer.pieces.append(whole)
        if isinstance(details, dict):
            answer.reason = str(details.get("finish_reason"))
            answer.made = _count(details, "generated_tokens")
            answer.given = _count(details, "input_length")


class _Unreachable(Exception):
    """The text says why nothing more can be asked."""


class Doctor:
    """`url` is an upstream's, with or without /v1. `clock` tells seconds; `heard` is called whenever a piece
    of text has been read."""

    def __init__(
        self,
        url: str,
        *,
        kind: str | None = None,
        model: str | None = None,
        key: str | None = None,
        probe_seconds: float = PROBE_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        parts = urlsplit(url.rstrip("/"))
        self._shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._has_two = bool(key and parts.password)
        name, word = unquote(parts.username or ""), unquote(parts.password or "")
        sent = base64.b64encode(f"{name}:{word}".encode()).decode() if word else ""
        self._secrets = [secret for secret in (key, parts.password, word, sent) if secret]
        self._url = url.rstrip("/")
        self._root = self._url.removesuffix("/v1")
        self._kind = kind
        self._model = model
        self._key = key
        self._probe_seconds = probe_seconds
        self._total_seconds = total_seconds
        self._clock = clock
        self._heard = heard
        self._words: _Words = _OpenAI(self._url)
        self._listed: Any = None
        self._software = ""
        self._context: int | None = None
        self._sample = _Answer(0)
        self._reused = 0
        self._is_over = False

    async def examine(self) -> Report:
        self._headers = {"Accept-Encoding": "identity"}  # as our engines ask: compression holds tokens back
        if self._key is not None:
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._http = aiohttp.ClientSession(
            headers=self._headers,
            # Not to stumble over those that are closed without a word; `_keep_alive` looks at that.
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        )
        probes: Sequence[tuple[str, Callable[[], Awaitable[_Seen]]]] = (
            ("reachable", self._reachable),
            ("software", self._which_software),
            ("models", self._models),
            ("text", self._text),
            ("stop sequences", self._stop_sequences),
            ("end of the text", self._end),
            ("temperature 0", self._temperature),
            ("seed", self._seed),
            ("token counts", self._counts),
            ("chat", self._chat),
            ("fill in the middle", self._middle),
            ("streaming", self._streaming),
            ("keep-alive", self._keep_alive),
            ("characters", self._characters),
            ("errors", self._errors),
            ("context", self._too_long),
            ("cancel", self._cancel),
        )
        findings: list[Finding] = []
        begun = time.monotonic()
        try:
            for name, probe in probes:
                left = begun + self._total_seconds - time.monotonic()
                found = await self._limited(probe, left)
                findings.append(Finding(name, found.status, self._clean(found.seen), self._clean(found.ours)))
                if self._is_over:
                    break
        finally:
            await self._http.close()
        return Report(self._shown, self._words.kind, findings)

    async def _limited(self, probe: Callable[[], Awaitable[_Seen]], left: float) -> _Seen:
        if left <= 0:
            return _unknown(f"The {self._total_seconds:g} seconds for all are over.")
        try:
            async with asyncio.timeout(min(left, self._probe_seconds)):
                return await probe()
        except _Unreachable as error:
            self._is_over = True
            return _wrong(str(error))
        except TimeoutError:
            seconds = min(left, self._probe_seconds)
            if self._listed is None:  # it has not even told what it has
                self._is_over = True
                return _wrong(f"Nobody answers within {seconds:.0f} seconds.")
            return _unknown(f"There was no answer within {seconds:.0f} seconds.")
        except (aiohttp.ClientError, OSError) as error:
            seen = f"The connection broke off ({type(error).__name__})."
            return _wrong(seen, "Such a request fails with an error that says so.")

    def _clean(self, text: str) -> str:
        """Without keys, and without what a terminal would obey."""
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)

    # What is there

    async def _reachable(self) -> _Seen:
        begun = self._clock()
        if self._has_two:
            raise _Unreachable("There is a password in the address, and a key: only one of them can be sent.")
        try:
            if self._kind is None:
                is_tgi = not self._url.endswith("/v1") and _is_tgi((await self._get(f"{self._root}/info"))[1])
                self._kind = "tgi" if is_tgi else "openai"
            if self._kind == "tgi":
                self._words = _Tgi(self._root)
                asked = f"{self._root}/info"
            else:
                base = self._url if urlsplit(self._url).path else f"{self._url}/v1"
                self._words = _OpenAI(base)
                asked = f"{base}/models"
            status, self._listed = await self._get(asked)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _Unreachable(f"Nobody answers ({type(error).__name__}).") from error
        path = urlsplit(asked).path
        if status in (401, 403):
            raise _Unreachable(f"{path} answers {status}: the key is missing or wrong (see --key-env).")
        if status == 503:
            raise _Unreachable(f"{path} answers 503: the server is still loading, or overloaded.")
        if status != 200 or not isinstance(self._listed, dict):
            what = "no JSON" if status == 200 else str(status)
            if self._model is None:
                raise _Unreachable(
                    f"{path} answers {what}: is this the base address? A server that lists no models needs "
                    "--upstream-model."
                )
            self._listed = {}
            return _made_up(
                f"{path} answers {what}.",
                f"The model is taken to be {self._model}, as --upstream-model says.",
            )
        return _right(f"{path} answers after {1000 * (self._clock() - begun):.0f} ms.")

    async def _which_software(self) -> _Seen:
        self._software, version = await self._recognise()
        if not self._software:
            return _unknown(
                "It does not say what it is.",
                "It is asked for nothing that OpenAI's protocol does not have; other parameters are refused.",
            )
        return _right(f"{self._software} {version}".strip())

    async def _recognise(self) -> tuple[str, str]:
        if self._words.kind == "tgi":
            ours = self._listed.get("router") == "tech-assistant"
            return ("tech-assistant" if ours else "TGI"), "" if ours else _words_of(self._listed, "version")
        owners = {_words_of(model, "owned_by") for model in _models(self._listed)}
        if "tech-assistant" in owners:
            return "tech-assistant", ""
        if "llamacpp" in owners:
            _, props = await self._get(f"{self._root}/props")
            return "llama.cpp", _words_of(props, "build_info")
        for owner, name, paths in (
            ("vllm", "vLLM", ("version",)),
            ("sglang", "SGLang", ("server_info", "get_server_info")),
        ):
            if owner in owners:
                for path in paths:
                    if version := _words_of((await self._get(f"{self._root}/{path}"))[1], "version"):
                        return name, version
                return name, ""
        if version := _words_of((await self._get(f"{self._root}/api/version"))[1], "version"):
            return "Ollama", version
        return "", ""

    async def _models(self) -> _Seen:
        if self._words.kind == "tgi":
            name, context = self._listed.get("model_id"), _count(self._listed, "max_total_tokens")
            names = [str(name)] if name else []
            chosen: dict[str, Any] = {}
        else:
            models = _models(self._listed)
            names = [str(model["id"]) for model in models]
            chosen = next((model for model in models if self._model in (None, model["id"])), {})
            name, context = self._model or chosen.get("id"), _told_context(chosen)
        if not name:
            raise _Unreachable("It lists no model. Name one by --upstream-model.")
        self._model, self._context = str(name), context
        if isinstance(self._words, _OpenAI):
            self._words.model = self._model
        if names and self._model not in names:
            raise _Unreachable(f"It has no model {_quote(self._model)}, but: {', '.join(names[:5])}.")
        if not names and self._listed:
            return _unknown(f"It lists none. {self._model} is asked for.")
        others = f", and {len(names) - 1} more" if len(names) > 1 else ""
        ours = "The first is taken where --upstream-model names none." if others else ""
        return _right(f"{self._model}{others}.", ours)

    # What it does

    async def _text(self) -> _Seen:
        self._sample = await self._generate(PROMPT, tokens=TOKENS, stream=True)
        if self._sample.is_text and self._sample.text:
            count = len(self._sample.pieces)
            return _right(f"A text is continued, in {count} pieces.")
        if self._sample.is_text:
            return _unknown(
                "The answer is an event stream without any text."
                if self._sample.reason
                else "The answer holds no event that our engine could read."
            )
        return _wrong(
            f"A text is not continued: {self._refused(self._sample)}",
            "Prompts that are plain text cannot be answered; chats may be. The application sends plain text.",
        )

    async def _stop_sequences(self) -> _Seen:
        chosen = _straddling(self._sample.pieces)
        if chosen is None:
            seen = "There is no text of several pieces to take a stop sequence from."
            return _unknown(seen, _STOPS)
        stop, at = chosen
        text = self._sample.text
        verdicts: list[str] = []
        for stream in (True, False):
            answer = await self._generate(PROMPT, tokens=TOKENS, stream=stream, stop=stop)
            if not answer.is_text:
                verdict: str | None = f"refused: {self._refused(answer)}"
            else:
                verdict = _stopped(answer.text, answer.reason, text, at, stop)
            if verdict is None:
                return _unknown("Asked again, it says another text at temperature 0.", _STOPS)
            verdicts.append(verdict)
        tried = f"{_quote(stop)}, which straddles two tokens"
        if all(verdict == _EXACT for verdict in verdicts):
            if await self._loses_what_it_holds_back():
                seen = f"The text ends before {tried}. What could become one is lost at the length limit."
                return _made_up(seen, _STOPS)
            return _right(f"The text ends before {tried}, streamed or whole.", _STOPS)
        streamed, whole = verdicts
        told = streamed if streamed == whole else f"streamed, {streamed}; whole, {whole}"
        return _made_up(f"With {tried}: {told}.", _STOPS)

    async def _loses_what_it_holds_back(self) -> bool:
        """With a stop sequence that only begins where the text is at its limit."""
        text = self._sample.text
        stop = text[-2:] + "\N{SECTION SIGN}" * 2
        answer = await self._generate(PROMPT, tokens=TOKENS, stream=True, stop=stop)
        return answer.is_text and text.startswith(answer.text) and len(answer.text) < len(text)

    async def _end(self) -> _Seen:
        answer = await self._generate(PROMPT, tokens=4, stream=True)
        if not answer.is_text:
            return self._no_text(answer)
        known = ", ".join(self._words.ends)
        if answer.reason not in self._words.ends:
            told = "no reason at all" if answer.reason is None else f"the reason {_quote(answer.reason)}"
            return _wrong(
                f"A text that ends tells {told}; known are {known}.", "Such an answer counts as broken off."
            )
        if answer.made is not None and answer.made > 4:
            return _wrong(
                f"Asked for 4 tokens it made {answer.made}.", "An answer is cut at four pieces a token."
            )
        if answer.reason != "length":
            return _unknown(f"The text ended by itself within 4 tokens ({answer.reason}).")
        ours = (
            "It says `stop` at the end of a text and at a stop sequence alike. We send no stop sequences, so "
            "that `stop` means the end of the text."
            if self._words.kind == "openai"
            else ""
        )
        return _Seen(
            Status.MADE_UP if ours else Status.RIGHT, "The length limit is kept, and told as such.", ours
        )

    async def _temperature(self) -> _Seen:
        answer = await self._generate(PROMPT, tokens=TOKENS, stream=True)
        if not answer.is_text or not self._sample.text:
            return self._no_text(answer)
        if answer.text == self._sample.text:
            return _right("The same question had the same answer twice.")
        pairs = enumerate(zip(answer.text, self._sample.text, strict=False))
        at = next((place for place, (one, other) in pairs if one != other), "all")
        return _wrong(
            f"The same question had two answers; {at} characters are alike.",
            "Nothing can be done from here: servers that compute several answers at once may round otherwise "
            "each time.",
        )

    async def _seed(self) -> _Seen:
        answers = [
            await self._generate(PROMPT, tokens=TOKENS, stream=False, seed=seed) for seed in (7, 7, 8, 9)
        ]
        if any(not answer.is_text for answer in answers):
            return self._no_text(next(answer for answer in answers if not answer.is_text))
        first, again, *others = [answer.text for answer in answers]
        if first != again:
            return _wrong(
                "The same seed had two answers.", "The seed is sent, but answers cannot be had again by it."
            )
        if all(other == first for other in others):
            return _unknown("All seeds have the same answer.")
        return _right("The same seed has the same answer, others have others.")

    async def _counts(self) -> _Seen:
        streamed = self._sample
        if not streamed.is_text:
            return self._no_text(streamed)
        whole = await self._generate(PROMPT, tokens=TOKENS, stream=False)
        if streamed.made is None:
            where = "A stream" if whole.made is not None else "No answer"
            return _made_up(
                f"{where} tells the number of tokens made."
                if whole.made is None
                else "A stream tells no token counts; a whole answer does.",
                "Pieces are counted instead; the length of the prompt stays unknown.",
            )
        problems = []
        if not 0 < streamed.made <= TOKENS:
            problems.append(f"{streamed.made} tokens where at most {TOKENS} were asked for")
        if streamed.given == 0:
            problems.append("a prompt of 0 tokens")
        if streamed.total is not None and streamed.total != (streamed.given or 0) + streamed.made:
            problems.append(f"{streamed.given} and {streamed.made} tokens, {streamed.total} together")
        if whole.is_text and whole.text == streamed.text and whole.made not in (None, streamed.made):
            problems.append(f"{streamed.made} tokens streamed, {whole.made} whole, for the same text")
        if problems:
            ours = "The counts are passed on as they are told."
            return _wrong(f"It tells {'; '.join(problems)}.", ours)
        given = "unknown" if streamed.given is None else streamed.given
        return _right(f"Prompt {given}, answer {streamed.made}, and they agree.")

    async def _chat(self) -> _Seen:
        messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Say yes."}]
        if isinstance(self._words, _Tgi):
            status, answer = await self._post(f"{self._root}/chat_tokenize", {"messages": messages})
            written = (
                answer[1] if isinstance(answer, list) and len(answer) == 2 else _get(answer, "templated_text")
            )
            if status == 200 and isinstance(written, str):
                return _right("It has a chat template, and writes a chat by it.")
            return _made_up(f"/chat_tokenize answers {status}.", _DIALOGUE)
        assert isinstance(self._words, _OpenAI)
        body = {"model": self._model, "messages": messages, "max_tokens": TOKENS, "temperature": 0}
        chat = await self._send(f"{self._words.url}/chat/completions", body)
        if not chat.is_text:
            return _made_up(
                f"No chat: {self._refused(chat)}",
                "The application writes the dialogue itself; other clients get the server's refusal.",
            )
        if chat.role not in (None, "assistant"):
            return _wrong(f"The answer is told as by {_quote(chat.role)}.")
        if self._software == "llama.cpp" and await self._has_foreign_template():
            return _made_up("It writes a chat by a template whose marks the model does not have.", _DIALOGUE)
        if not chat.text:
            return _unknown("A chat is taken, but answered without text.")
        if chat.reason not in self._words.ends:
            return _wrong(
                f"A chat ends for the reason {chat.reason}.", "Such an answer counts as broken off."
            )
        end = ", and ends by itself" if chat.reason == "stop" else ""
        return _right(f"A chat with a system message is answered{end}.")

    async def _has_foreign_template(self) -> bool:
        _, props = await self._get(f"{self._root}/props")
        if "<|im_start|>" not in _words_of(props, "chat_template"):
            return False
        return await self._token_count("<|im_start|>") not in (None, 1)

    async def _middle(self) -> _Seen:
        marks = infilling_of(self._model)
        if marks is not None:
            counts = {
                mark: await self._token_count(mark) for mark in (marks.prefix, marks.suffix, marks.middle)
            }
            split = [mark for mark, count in counts.items() if count not in (None, 1)]
            if split:
                seen = f"{' '.join(split)} should be marks of {self._model}, but its vocabulary lacks them."
                return _wrong(seen, "Give it a name that does not promise them.")
            if all(counts.values()):
                return _right(
                    "The model's markers are known by its name, and each is one token.",
                    "They are put into the prompt here; the server's own `suffix` is not used.",
                )
            return _made_up(
                "The model's markers are known by its name. It has no /tokenize that tells whether each is "
                "one token.",
                "They are put into the prompt here; the server's own `suffix` is not used.",
            )
        if isinstance(self._words, _Tgi):
            seen = f"No markers are known for {self._model}."
            return _made_up(seen, "Requests with a suffix are refused.")
        plain = await self._generate(PROMPT, tokens=1, stream=False)
        filled = await self._generate(PROMPT, tokens=1, stream=False, suffix="\n    return a\n" * 16)
        if not filled.is_text:
            return _made_up(
                f"No markers are known for {self._model}, and `suffix` is refused: {self._refused(filled)}",
                "Requests with a suffix are refused in the server's words.",
            )
        if plain.given is None or filled.given is None:
            seen = "`suffix` is taken; without token counts nobody can tell whether it was read."
            return _unknown(seen)
        if filled.given <= plain.given:
            seen = f"No markers are known for {self._model}, and `suffix` is left out without a word."
            if self._software == "llama.cpp":
                return _made_up(seen, "Requests with a suffix are refused.")
            return _wrong(seen, "Do not send requests with a suffix to it.")
        return _right("`suffix` is read.", "It is passed on.")

    async def _streaming(self) -> _Seen:
        answer = await self._generate(PROMPT, tokens=4 * TOKENS, stream=True)
        if not answer.is_text or not answer.reads:
            return self._no_text(answer)
        first, last = answer.reads[0][0], answer.reads[-1][0]
        took, spread = last - answer.asked_at, last - first
        count = len(answer.pieces)
        if count < 3:
            return _unknown(f"The answer has only {count} pieces.")
        if len(answer.reads) > 1 and spread >= 0.2 * took:
            return _right(f"{count} pieces came in {len(answer.reads)} reads, as they were made.")
        if took < FAST_SECONDS:
            seen = f"All of the answer was there after {1000 * took:.0f} ms: too fast to see."
            return _unknown(seen)
        return _wrong(
            f"All {count} pieces came at once, after {took:.1f} s: something between collects them.",
            "We ask without compression; a proxy in between must be told not to buffer (nginx: "
            "`proxy_buffering off`), or be passed by.",
        )

    async def _keep_alive(self) -> _Seen:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(self._count_reuse)
        kept, fresh = aiohttp.ClientSession(headers=self._headers, trace_configs=[trace]), self._http
        self._http = kept
        try:
            for _ in range(2):
                await self._get(f"{self._root}/health")
            for _ in range(3):
                await self._generate(PROMPT, tokens=2, stream=True)
        except (aiohttp.ClientError, OSError):
            return _made_up(
                "It closes connections without saying so beforehand, after an answer that was streamed.",
                "No connection is used twice.",
            )
        finally:
            self._http = fresh
            await kept.close()
        if self._reused:
            return _right("A connection serves more than one request.")
        return _made_up("It closes the connection after each answer.", "None is used twice.")

    async def _characters(self) -> _Seen:
        answer = await self._generate(OWLS, tokens=TOKENS, stream=True)
        if not answer.is_text:
            return self._no_text(answer)
        if any("\ud800" <= c <= "\udfff" for c in answer.text):
            return _made_up(
                "Characters of several tokens come in halves.", "The halves are joined before they are shown."
            )
        if "\ufffd" in answer.text:
            whole = await self._generate(OWLS, tokens=TOKENS, stream=False)
            if whole.is_text and whole.text.count("\ufffd") < answer.text.count("\ufffd"):
                return _wrong("Characters of several tokens come as U+FFFD in a stream.", "They are lost.")
            return _unknown("The model itself says what is no UTF-8.")
        if answer.text.isascii():
            return _unknown("The model said none of several bytes.")
        return _right("Characters of several bytes come whole.")

    async def _errors(self) -> _Seen:
        path, body = self._words.ask(_Wish(PROMPT, tokens=1, stream=False))
        body |= {"prompt": {"no": 1}} if self._words.kind == "openai" else {"inputs": {"no": 1}}
        answer = await self._send(path, body)
        if answer.is_text:
            return _unknown("It answers even a prompt that is no text.")
        if _error_words(_parsed(answer.body)):
            return _right(f"Status {answer.status}, and why, in JSON: {self._refused(answer)}")
        return _made_up(
            f"Status {answer.status} without words in JSON: {_quote(answer.body.decode('utf-8', 'replace'))}",
            "The status tells what it was; such a body is shown to nobody.",
        )

    async def _too_long(self) -> _Seen:
        told = self._context
        limit = told or ASSUMED_CONTEXT
        words = 2 * limit
        said = (
            f"It tells a context of {told:,} tokens" if told else "It does not tell how long its context is"
        )
        assumed = "" if told else f"{ASSUMED_CONTEXT:,} tokens are assumed."
        if words > LONGEST_PROMPT:
            return _unknown(f"{said}, more than is tried here.")
        answer = await self._generate(" the" * words, tokens=1, stream=False)
        if answer.is_text:
            if answer.given is not None and answer.given < words * 3 // 4:
                seen = f"{said}, and cuts a longer prompt to {answer.given:,} without a word."
                return _wrong(seen, "Answers to long chats miss what was cut.")
            return _Seen(
                Status.MADE_UP if assumed else Status.UNKNOWN, f"{said}; it took {words:,}.", assumed
            )
        why = self._refused(answer)
        if answer.status not in (400, 413, 422) or not _error_words(_parsed(answer.body)):
            return _wrong(
                f"{said}; a longer prompt is refused unclearly: {why}",
                "It is told as a failure of the engine, not as a prompt that is too long.",
            )
        told_again = re.findall(r"\d[\d,]*", answer.refusal)
        numbers = {int(number.replace(",", "")) for number in told_again if len(number) < 20}
        if told and numbers and not {told, told - 1} & numbers:  # some keep one token for the answer
            seen = f"{said}; a longer prompt is refused with other numbers: {why}"
            return _unknown(seen, "What it tells in its list is believed.")
        status = Status.RIGHT if told else Status.MADE_UP
        return _Seen(status, f"{said}, and refuses a longer prompt: {why}", assumed)

    async def _cancel(self) -> _Seen:
        """Whether computing ends with the connection. Servers that tell what they do are asked."""
        ours = "We end an answer by closing the connection, at a stop sequence too."
        tokens = min(LONG_ANSWER, (self._context or ASSUMED_CONTEXT) // 2)
        path, body = self._words.ask(_Wish(PROMPT, tokens=tokens, stream=True))
        before = await self._busy()
        alone = self._clock()
        if before is None:
            await self._generate(PROMPT, tokens=1, stream=False)
        alone = self._clock() - alone
        during: int | None = None
        async with self._http.post(path, json=body) as response:
            if response.status != 200:
                return _unknown(f"An answer of {tokens:,} tokens is refused: {response.status}.", ours)
            await response.content.readany()
            if before is not None:
                during = await self._busy()
            response.close()
        if before is None:
            begun = self._clock()
            await self._generate(PROMPT, tokens=1, stream=False)
            took = self._clock() - begun
            if took > 3 * alone + 2:
                seen = (
                    f"After an answer that was given up, a short one took {took:.1f} s instead of {alone:.1f}"
                )
                return _wrong(f"{seen}.", "What was given up holds others up until it ends.")
            return _unknown("It has no /metrics or /slots that tell what it computes.", ours)
        if during is None or during <= before:
            return _unknown("The answer had ended before it could be looked at: too fast.", ours)
        waited = time.monotonic()
        while time.monotonic() - waited < SETTLE_SECONDS:
            # Some servers count only while they compute something.
            await self._generate(PROMPT, tokens=1, stream=False)
            now = await self._busy()
            if now is not None and now <= before:
                return _right("It stops computing when nobody reads any more.", ours)
            await asyncio.sleep(0.2)
        return _wrong(
            f"{SETTLE_SECONDS:g} s after nobody reads any more it still computes.",
            "What was given up, or ended by a stop sequence, holds others up until its length limit.",
        )

    # How it is asked

    async def _generate(self, prompt: str, *, tokens: int, stream: bool, **more: Any) -> _Answer:
        path, body = self._words.ask(_Wish(prompt, tokens=tokens, stream=stream, **more))
        return await self._send(path, body)

    async def _send(self, url: str, body: dict[str, Any]) -> _Answer:
        """What a question for a text comes to, whatever shape it has."""
        asked_at = self._clock()
        async with self._http.post(url, json=body) as response:
            answer = _Answer(response.status, asked_at=asked_at)
            if response.status == 200 and response.content_type == "text/event-stream":
                await self._read_events(response.content, answer)
            else:
                answer.body = await _read(response)
                told = _parsed(answer.body)
                answer.refusal = _error_words(told) if _get(told, "error") else ""
                if response.status == 200 and not answer.refusal:
                    if told is None:
                        answer.refusal = f"{response.content_type} instead of an answer"
                    self._words.read(answer, told)
            return answer

    async def _read_events(self, content: aiohttp.StreamReader, answer: _Answer) -> None:
        rest, size = b"", 0
        while piece := await content.readany():
            at, before = self._clock(), len(answer.pieces)
            size += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                data = line[5:].strip()
                if not line.startswith(b"data:") or data == b"[DONE]":
                    continue
                told = _parsed(data)
                if told is None:
                    answer.refusal = f"an event that is no JSON: {_quote(data.decode('utf-8', 'replace'))}"
                elif _get(told, "error"):
                    answer.refusal = _error_words(told) or "an error without words"
                else:
                    self._words.read(answer, told)
            if new := len(answer.pieces) - before:
                answer.reads.append((at, new))
                self._heard()
            if size > LARGEST:
                answer.refusal = "an answer without an end"
                return

    async def _get(self, url: str) -> tuple[int, Any]:
        async with self._http.get(url) as response:
            return response.status, _parsed(await _read(response))

    async def _post(self, url: str, body: dict[str, Any]) -> tuple[int, Any]:
        async with self._http.post(url, json=body) as response:
            return response.status, _parsed(await _read(response))

    async def _token_count(self, text: str) -> int | None:
        """How many tokens a mark is, by whatever /tokenize there is; None where there is none."""
        if self._software == "llama.cpp":
            body: dict[str, Any] = {"content": text, "parse_special": True}
        elif self._software == "vLLM":
            body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        else:
            body = {"inputs": text, "add_special_tokens": False}
        status, answer = await self._post(f"{self._root}/tokenize", body)
        tokens = answer if isinstance(answer, list) else _get(answer, "tokens")
        return len(tokens) if status == 200 and isinstance(tokens, list) and tokens else None

    async def _busy(self) -> int | None:
        """How many answers it computes now, by what it tells."""
        async with self._http.get(f"{self._root}/metrics") as response:
            metrics = (await _read(response)).decode("utf-8", "replace") if response.status == 200 else ""
        counts = [int(count) for count in _BUSY.findall(metrics)]
        if counts:
            return sum(counts)
        status, slots = await self._get(f"{self._root}/slots")
        if status == 200 and isinstance(slots, list) and slots:
            return sum(bool(_get(slot, "is_processing")) for slot in slots)
        return None

    async def _count_reuse(self, *_: object) -> None:
        self._reused += 1

    def _no_text(self, answer: _Answer) -> _Seen:
        why = "There is no text to look at." if answer.is_text else f"Refused: {self._refused(answer)}"
        return _unknown(why)

    def _refused(self, answer: _Answer) -> str:
        words = answer.refusal or _error_words(_parsed(answer.body))
        if not words:
            words = answer.body.decode("utf-8", "replace")
        return f"{answer.status} {_quote(words)}" if words else str(answer.status)


_STOPS = "We send no stop sequences; they are matched here, byte for byte, and then the connection is closed."
_DIALOGUE = "A chat is written as a plain dialogue here, and sent as text."
_EXACT = "the text ends before it"
_BUSY = re.compile(
    r"^(?:vllm:num_requests_running|sglang:num_running_reqs|llamacpp:requests_processing"
    r"|tgi_batch_current_size)(?:\{[^}]*\})?[ \t]+([0-9]{1,9})(?:\.0*)?(?=\s|$)",
    re.MULTILINE,
)


def _straddling(pieces: Sequence[str]) -> tuple[str, int] | None:
    """A string that begins inside one piece of the text, ends inside another, and where it begins; it is
    nowhere in the text before."""
    text, at = "".join(pieces), 0
    found: tuple[str, int] | None = None
    for number, piece in enumerate(pieces[:-1]):
        at += len(piece)
        onward = pieces[number + 1]
        # A piece of one character has no inside: then the string ends, or begins, with all of it.
        begins, ends = at - max(1, len(piece) // 2), at + max(1, len(onward) // 2)
        stop = text[begins:ends]
        if number and text.find(stop) == begins and stop.strip():
            if len(piece) > 1 and len(onward) > 1:
                return stop, begins
            found = found or (stop, begins)
    return found


def _stopped(text: str, reason: str | None, free: str, at: int, stop: str) -> str | None:
    """What became of a stop sequence; None when the text is another one."""
    before = free[:at]
    if text == before:
        if reason in ("stop", "stop_sequence"):
            return _EXACT
        return f"{_EXACT}, but the reason told is {reason}"
    if text == before + stop:
        return "the text ends with it"
    if free.startswith(text) and len(text) > at + len(stop):
        return "the text goes on behind it" if len(text) < len(free) else "it is not seen at all"
    if free.startswith(text):
        return "a part of it is left in the text" if len(text) > at else "text before it is lost"
    return None


def _parsed(body: bytes) -> Any:
    """JSON, even with bytes and halves of characters that have no place in it; None for anything else."""
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LARGEST:
            break
    return bytes(body)


def _is_tgi(info: Any) -> bool:
    return bool(_get(info, "model_id")) and _get(info, "max_total_tokens") is not None


def _models(listed: Any) -> list[dict[str, Any]]:
    return [model for model in _list(listed, "data") if isinstance(model, dict) and model.get("id")]


def _told_context(model: dict[str, Any]) -> int | None:
    meta = model.get("meta") or {}
    return _count(model, "max_model_len") or _count(meta, "n_ctx") or _count(meta, "n_ctx_train")


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _list(value: Any, key: str) -> list[Any]:
    found = _get(value, key)
    return found if isinstance(found, list) else []


def _count(value: Any, key: str) -> int | None:
    number = _get(value, key)
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None


def _words_of(value: Any, key: str) -> str:
    words = _get(value, key)
    return words if isinstance(words, str) else ""


def _error_words(answer: Any) -> str:
    while isinstance(answer, dict):
        answer = answer.get("error") or answer.get("message") or answer.get("detail")
    if isinstance(answer, list) and answer:  # a list of what is wrong with the body
        return _error_words(_get(answer[0], "msg"))
    return answer if isinstance(answer, str) else ""


def _quote(text: str) -> str:
    text = " ".join(text.split(" "))
    return repr(text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…")


@contextlib.asynccontextmanager
async def _embedded(model: Path, *arguments: str) -> AsyncIterator[tuple[str, str]]:
    """A serving layer of our own for a model, its address and its key. Raises `_Unreachable`."""
    key = secrets.token_urlsafe(32)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serving", "--model", str(model), "--port", "0", "--offline"),
        *("--exit-with-stdin", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TECH_ASSISTANT_SERVING_KEY": key},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        line = (await child.stdout.readline()).decode()
        if "http://" not in line:
            raise _Unreachable("The engine has not started.")
        url = line[line.index("http://") :].strip()
        await _loaded(url, key)
        yield url, key
    finally:
        child.stdin.close()  # which ends it
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await child.wait()
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _loaded(url: str, key: str) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:
        begun = time.monotonic()
        while True:
            async with http.get(f"{url}/info") as response:
                info = _parsed(await response.read())
            if _get(info, "state") == "ready":
                return
            if _get(info, "state") == "failed" or time.monotonic() - begun > LOAD_SECONDS:
                raise _Unreachable(_words_of(info, "state_detail") or "The model is not ready.")
            await asyncio.sleep(0.1)


def main(arguments: Sequence[str]) -> int:
    """0: usable; 1: something is wrong that is not made up for; 2: it could not be asked."""
    parser = argparse.ArgumentParser(
        prog="python -m serving doctor",
        description="What an upstream, or the embedded engine, does right, and what we make up for.",
    )
    parser.add_argument("url", nargs="?", metavar="URL", help="such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", type=Path, metavar="FILE", help="a GGUF file, for the embedded engine")
    parser.add_argument(
        "--kind", choices=("openai", "tgi"), help="the protocol (default: what it looks like)"
    )
    parser.add_argument(
        "--upstream-model", metavar="NAME", help="the model's name there (default: its first)"
    )
    parser.add_argument(
        "--key-env", metavar="NAME", default=KEY_VARIABLE, help="the variable with its key (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument(
        "--seconds",
        type=float,
        default=TOTAL_SECONDS,
        metavar="SECONDS",
        help="that all of it may take (%(default)g)",
    )
    options = parser.parse_args(arguments)
    if (options.url is None) == (options.model is None):
        parser.error("name either a URL or --model FILE")
    if options.url is not None and not is_http(options.url):
        parser.error("the URL must be an address such as http://127.0.0.1:8000/v1")
    try:
        report = asyncio.run(_report(options))
    except _Unreachable as error:
        sys.stderr.write(f"serving doctor: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(report.as_json() + "\n" if options.json else report.table())
    return 0 if report.is_usable else 1


async def _report(options: argparse.Namespace) -> Report:
    if options.model is None:
        key = os.environ.get(options.key_env) or None
        doctor = Doctor(
            options.url,
            kind=options.kind,
            model=options.upstream_model,
            key=key,
            total_seconds=options.seconds,
        )
        return await doctor.examine()
    async with _embedded(options.model) as (url, key):
        address = url if options.kind == "tgi" else f"{url}/v1"
        return await Doctor(address, kind=options.kind, key=key, total_seconds=options.seconds).examine()
