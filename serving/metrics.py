"""Counts of what the server has done, as Prometheus text under the names that TGI gives them.

Knows numbers; refuses to know requests.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Metrics:
    """Totals since the start. Durations are in seconds."""

    requests: int = 0
    successes: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # by error type
    duration: float = 0.0
    input_tokens: int = 0
    generated_tokens: int = 0

    def succeeded(self, seconds: float, *, input_tokens: int | None, generated_tokens: int) -> None:
        self.successes += 1
        self.duration += seconds
        self.input_tokens += input_tokens or 0
        self.generated_tokens += generated_tokens

    def text(self, *, queued: int, running: int, computed: int | None, reused: int | None) -> str:
        lines: list[str] = []

        def add(name: str, kind: str, *samples: tuple[str, float]) -> None:
            lines.append(f"# TYPE {name} {kind}")
            lines.extend(f"{name}{suffix} {value}" for suffix, value in samples)

        def summary(name: str, total: float) -> None:
            add(name, "summary", ("_sum", total), ("_count", self.successes))

        add("tgi_request_count", "counter", ("", self.requests))
        add("tgi_request_success", "counter", ("", self.successes))
        failures = [(f'{{err="{error_type}"}}', n) for error_type, n in sorted(self.failures.items())]
        add("tgi_request_failure", "counter", *failures)
        summary("tgi_request_duration", self.duration)
        summary("tgi_request_input_length", self.input_tokens)
        summary("tgi_request_generated_tokens", self.generated_tokens)
        add("tgi_queue_size", "gauge", ("", queued))
        add("tgi_batch_current_size", "gauge", ("", running))
        # Beyond TGI, where the engine tells: the tokens of prompts, and those that cost nothing.
        if computed is not None and reused is not None:
            add("tgi_prompt_tokens_computed", "counter", ("", computed))
            add("tgi_prompt_tokens_reused", "counter", ("", reused))
        return "\n".join(lines) + "\n"
