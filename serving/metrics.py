"""Counters and histograms of the server as Prometheus text, under TGI's names."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
SECONDS_A_TOKEN = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)
TOKENS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class _Histogram:
    """Counts the values up to each bound, and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum: float = 0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> list[tuple[str, float]]:
        totals = list(itertools.accumulate(self._counts))
        buckets = [f'_bucket{{le="{bound:g}"}}' for bound in self._bounds] + ['_bucket{le="+Inf"}']
        return [*zip(buckets, totals, strict=True), ("_sum", self._sum), ("_count", totals[-1])]


class Metrics:
    """Totals since the server started. Durations are in seconds."""

    def __init__(self) -> None:
        self.requests = 0
        self.failures: Counter[str] = Counter()  # by error type
        self._successes = 0
        self._histograms = {
            "duration": _Histogram(SECONDS),
            "mean_time_per_token_duration": _Histogram(SECONDS_A_TOKEN),
            "input_length": _Histogram(TOKENS),
            "generated_tokens": _Histogram(TOKENS),
            # An addition to TGI: how long people wait before they can start to read.
            "time_to_first_token_duration": _Histogram(SECONDS),
        }

    def succeeded(
        self, seconds: float, *, first_seconds: float, input_tokens: int | None, generated_tokens: int
    ) -> None:
        """Count a finished generation. `first_seconds` is the time until its first token."""
        self._successes += 1
        self._histograms["duration"].add(seconds)
        self._histograms["time_to_first_token_duration"].add(first_seconds)
        pace = (seconds - first_seconds) / max(1, generated_tokens - 1)
        self._histograms["mean_time_per_token_duration"].add(pace)
        self._histograms["input_length"].add(input_tokens or 0)
        self._histograms["generated_tokens"].add(generated_tokens)

    def text(self, *, queued: int, running: int, computed: int | None, reused: int | None) -> str:
        lines: list[str] = []

        def add(name: str, kind: str, *samples: tuple[str, float]) -> None:
            lines.append(f"# TYPE {name} {kind}")
            lines.extend(f"{name}{suffix} {value}" for suffix, value in samples)

        add("tgi_request_count", "counter", ("", self.requests))
        add("tgi_request_success", "counter", ("", self._successes))
        failures = [(f'{{err="{error_type}"}}', n) for error_type, n in sorted(self.failures.items())]
        add("tgi_request_failure", "counter", *failures)
        for name, histogram in self._histograms.items():
            add(f"tgi_request_{name}", "histogram", *histogram.samples())
        add("tgi_queue_size", "gauge", ("", queued))
        add("tgi_batch_current_size", "gauge", ("", running))
        # Additions to TGI, if the engine reports them: prompt tokens computed, and reused at no cost.
        if computed is not None and reused is not None:
            add("tgi_prompt_tokens_computed", "counter", ("", computed))
            add("tgi_prompt_tokens_reused", "counter", ("", reused))
        return "\n".join(lines) + "\n"
