"""How the doctor asks for a text in OpenAI's protocol and in TGI's, and how it reads the answer.

It does not use our engines for this: they hide the very faults that the doctor looks for. So every field may
be missing or of the wrong type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any


@dataclass(slots=True)
class Answer:
    """A server's answer to one `TextRequest`. Counts are None where the server does not report them."""

    status: int
    asked_at: float = 0.0
    body: bytes = b""
    """Of an answer that is not an event stream."""
    refusal: str = ""
    """The error message, if the server sent one."""
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


@dataclass(frozen=True, slots=True)
class TextRequest:
    """With a seed the server samples; without one it always takes the likeliest token."""

    prompt: str
    _: KW_ONLY
    tokens: int
    stream: bool
    stop: str | None = None
    seed: int | None = None
    suffix: str | None = None


@dataclass(slots=True)
class OpenAIProtocol:
    url: str
    model: str | None = None
    kind: str = "openai"
    finish_reasons: Sequence[str] = ("stop", "length")
    """Those that our engine understands."""

    def encode(self, request: TextRequest) -> tuple[str, dict[str, Any]]:
        """The address and the JSON body of the request."""
        body: dict[str, Any] = {"model": self.model, "prompt": request.prompt, "max_tokens": request.tokens}
        body["temperature"] = 0.0 if request.seed is None else 1.0
        optional = {
            "seed": request.seed,
            "suffix": request.suffix,
            "stop": None if request.stop is None else [request.stop],
        }
        body |= {name: value for name, value in optional.items() if value is not None}
        if request.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return f"{self.url}/completions", body

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

    def encode(self, request: TextRequest) -> tuple[str, dict[str, Any]]:
        parameters: dict[str, Any] = {"max_new_tokens": request.tokens, "details": True}
        if request.stop is not None:
            parameters["stop"] = [request.stop]
        if request.seed is not None:
            parameters |= {"do_sample": True, "seed": request.seed}
        path = "generate_stream" if request.stream else "generate"
        return f"{self.url}/{path}", {"inputs": request.prompt, "parameters": parameters}

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
