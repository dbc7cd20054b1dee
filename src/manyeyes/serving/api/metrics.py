"""Counters of a server, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Bounds of the buckets of response times."""


class Metrics:
    """One registry for each server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests by HTTP status.", "status")
        self.images_encoded = self._counter("images_encoded", "Images that encoders looked at.")
        self.images_reused = self._counter("images_reused", "Images that were known already.")
        self.prefixes_read = self._counter(
            "prefixes_read", "Beginnings of prompts that the language model read."
        )
        self.prefixes_reused = self._counter(
            "prefixes_reused", "Prompts whose beginning was read already."
        )
        self.batches = self._counter("batches", "Batches that the model answered.")
        self.tokens = self._counter("generated_tokens", "Tokens that were generated.")
        self.waiting = Gauge(
            "manyeyes_waiting", "Requests that wait for a batch.", registry=self._registry
        )
        self.seconds = Histogram(
            "manyeyes_answer_seconds",
            "Seconds from a request's arrival in the queue to its answer.",
            buckets=SECONDS,
            registry=self._registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"manyeyes_{name}", text, labels, registry=self._registry)

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return bytes(generate_latest(self._registry))

    def values(self) -> dict[str, float]:
        """Return all counters by their name; requests by status."""
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for metric in self._registry.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
