"""How the doctor asks a server for texts, in OpenAI's protocol and in TGI's, and how it reads the answers.

It does not use our engines for this: they hide the very faults that the doctor looks for. So every field
of an answer may be missing or of the wrong type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from serving.doctor.report import NoText
from serving.engines.remote import LONGEST_ANSWER, ask, message, message_of, parse_lenient_json, read_body

PROMPT = "def fibonacci(n):\n"
TOKENS = 48
LONGEST_QUOTE = 160  # characters of a server's message

_BUSY = re.compile(
    r"^(?:vllm:num_requests_running|sglang:num_running_reqs|llamacpp:requests_processing"
    r"|tgi_batch_current_size)(?:\{[^}]*\})?[ \t]+([0-9]{1,9})(?:\.0*)?(?=\s|$)",
    re.MULTILINE,
)


@dataclass(slots=True)
class Answer:
    """A server's answer to one request. Counts are None where the server does not report them."""

    status: int
    asked_at: float = 0.0
    body: bytes = b""  # of an answer that is not an event stream
    refusal: str = ""  # the error message, if the server sent one
    pieces: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    role: str | None = None
    input_tokens: int | None = None
    generated_tokens: int | None = None
    total_tokens: int | None = None
    reads: list[float] = field(default_factory=list)
    """The times at which new text was read from the connection."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def is_text(self) -> bool:
        return self.status == 200 and not self.refusal


@dataclass(slots=True)
class OpenAIProtocol:
    url: str
    model: str | None = None
    kind: str = "openai"
    finish_reasons: Sequence[str] = ("stop", "length")  # those that our engine understands

    def encode(
        self,
        prompt: Any,
        *,
        tokens: int,
        stream: bool,
        stop: str | None = None,
        seed: int | None = None,
        suffix: str | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """The address and the JSON body of a request. With a seed the server samples; without one it always
        takes the likeliest token."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0.0 if seed is None else 1.0,
            "seed": seed,
            "suffix": suffix,
            "stop": stop and [stop],
            "stream": stream or None,
            "stream_options": {"include_usage": True} if stream else None,
        }
        return f"{self.url}/completions", {key: value for key, value in body.items() if value is not None}

    def decode(self, content: Any, answer: Answer) -> None:
        """Add the content of an event, or of a whole answer, to `answer`."""
        choices = get_list(content, "choices")
        choice = choices[0] if choices and isinstance(choices[0], dict) else {}
        message = choice.get("delta") or choice.get("message")
        if text := get_text(choice, "text") or get_text(message, "content"):
            answer.pieces.append(text)
        if role := get(message, "role"):
            answer.role = str(role)
        if (reason := choice.get("finish_reason")) is not None:
            answer.finish_reason = str(reason)
        if usage := get(content, "usage"):
            answer.input_tokens = get_count(usage, "prompt_tokens")
            answer.generated_tokens = get_count(usage, "completion_tokens")
            answer.total_tokens = get_count(usage, "total_tokens")


@dataclass(slots=True)
class TgiProtocol:
    url: str
    model: str | None = None
    kind: str = "tgi"
    finish_reasons: Sequence[str] = ("eos_token", "length", "stop_sequence")

    def encode(
        self, prompt: Any, *, tokens: int, stream: bool, stop: str | None = None, seed: int | None = None
    ) -> tuple[str, dict[str, Any]]:
        parameters: dict[str, Any] = {"max_new_tokens": tokens, "details": True}
        if stop is not None:
            parameters["stop"] = [stop]
        if seed is not None:
            parameters |= {"do_sample": True, "seed": seed}
        path = "generate_stream" if stream else "generate"
        return f"{self.url}/{path}", {"inputs": prompt, "parameters": parameters}

    def decode(self, content: Any, answer: Answer) -> None:
        if isinstance(content, list) and content:
            content = content[0]
        token, details = get(content, "token"), get(content, "details")
        if isinstance(token, dict):
            text = "" if token.get("special") else get_text(token, "text")
        else:
            text = get_text(content, "generated_text")
        if text:
            answer.pieces.append(text)
        if isinstance(details, dict):
            answer.finish_reason = str(details.get("finish_reason"))
            answer.generated_tokens = get_count(details, "generated_tokens")
            answer.input_tokens = get_count(details, "input_length")


@dataclass(slots=True)
class Client:
    url: str  # as the operator wrote it, with or without /v1
    http: aiohttp.ClientSession
    protocol: OpenAIProtocol | TgiProtocol
    kind: str | None  # None until a check has found out which protocol the server speaks
    key: str | None
    model: str | None
    clock: Callable[[], float]  # the time in seconds
    on_text: Callable[[], None]  # called whenever a piece of text has been read
    listed: Any = None  # the server's list of models, or its /info; None until it has answered
    software: str = ""
    context: int | None = None  # in tokens
    sample: Answer = field(default_factory=lambda: Answer(0))
    """A streamed answer, with which others are compared."""

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    async def generate(
        self, prompt: Any = PROMPT, *, tokens: int = TOKENS, stream: bool = True, **options: Any
    ) -> Answer:
        return await self.send(*self.protocol.encode(prompt, tokens=tokens, stream=stream, **options))

    async def text(self, prompt: str = PROMPT, **options: Any) -> Answer:
        """The answer of `generate`. Raises `NoText`."""
        answer = await self.generate(prompt, **options)
        if not answer.is_text:
            raise NoText(f"Refused: {error_of(answer)}")
        return answer

    async def send(self, url: str, body: dict[str, Any]) -> Answer:
        """Ask for a text. The answer may be an event stream, JSON, or anything else."""
        asked_at = self.clock()
        async with self.http.post(url, json=body) as response:
            answer = Answer(response.status, asked_at)
            if response.status == 200 and response.content_type == "text/event-stream":
                await self._read_events(response.content, answer)
                return answer
            answer.body = await read_body(response)
            content = parse_lenient_json(answer.body)
            if get(content, "error"):
                answer.refusal = message_of(content)
            if response.status == 200 and not answer.refusal:
                if content is None:
                    answer.refusal = f"{response.content_type} instead of an answer"
                self.protocol.decode(content, answer)
            return answer

    async def _read_events(self, content: aiohttp.StreamReader, answer: Answer) -> None:
        rest, size = b"", 0
        while piece := await content.readany():
            at, before = self.clock(), len(answer.pieces)
            size += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                data = line[5:].strip()
                if not line.startswith(b"data:") or data == b"[DONE]":
                    continue
                event = parse_lenient_json(data)
                if event is None:
                    answer.refusal = f"an event that is not JSON: {quote(data.decode('utf-8', 'replace'))}"
                elif get(event, "error"):
                    answer.refusal = message_of(event) or "an error without a message"
                else:
                    self.protocol.decode(event, answer)
            if len(answer.pieces) > before:
                answer.reads.append(at)
                self.on_text()
            if size > LONGEST_ANSWER:
                answer.refusal = "an answer without an end"
                return

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON; None for anything but JSON."""
        return await ask(self.http, f"{self.root}/{path}", seconds=None)

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return await ask(self.http, f"{self.root}/{path}", body, seconds=None)

    async def token_count(self, text: str) -> int | None:
        """How many tokens the text has; None where the server has no /tokenize."""
        if self.software == "llama.cpp":
            body: dict[str, Any] = {"content": text, "parse_special": True}
        elif self.software == "vLLM":
            body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        else:
            body = {"inputs": text, "add_special_tokens": False}
        status, answer = await self.post("tokenize", body)
        tokens = answer if isinstance(answer, list) else get(answer, "tokens")
        return len(tokens) if status == 200 and isinstance(tokens, list) and tokens else None

    async def running_answers(self) -> int | None:
        """How many answers the server computes now, if it reports that."""
        async with self.http.get(f"{self.root}/metrics") as response:
            metrics = (await read_body(response)).decode("utf-8", "replace") if response.status == 200 else ""
        if counts := _BUSY.findall(metrics):
            return sum(map(int, counts))
        status, slots = await self.get("slots")
        if status == 200 and isinstance(slots, list) and slots:
            return sum(bool(get(slot, "is_processing")) for slot in slots)
        return None

    async def has_foreign_template(self) -> bool:
        """Whether llama-server uses ChatML for a model that has no such tokens, as it does by default."""
        _, props = await self.get("props")
        if "<|im_start|>" not in get_text(props, "chat_template"):
            return False
        return await self.token_count("<|im_start|>") not in (None, 1)


def error_of(answer: Answer) -> str:
    """The status and the message of an answer that is not a text."""
    text = answer.refusal or message(answer.body) or answer.body.decode("utf-8", "replace")
    return f"{answer.status} {quote(text)}" if text else str(answer.status)


def quote(text: str) -> str:
    text = " ".join(text.split(" "))
    return repr(text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…")


def get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def get_list(value: Any, key: str) -> list[Any]:
    found = get(value, key)
    return found if isinstance(found, list) else []


def get_text(value: Any, key: str) -> str:
    found = get(value, key)
    return found if isinstance(found, str) else ""


def get_count(value: Any, key: str) -> int | None:
    found = get(value, key)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None
