"""What the engine tells Prometheus. Names and labels are part of its interface: dashboards and alerts use them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from tools.integrations.serving.routing import CHALLENGER, CHAMPION, Variant
from tools.integrations.serving.worker import Score

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SCORE_BUCKETS = tuple(k / 10 for k in range(1, 11))
VALUE_BUCKETS = (-1e4, -1e3, -100.0, -10.0, -1.0, 0.0, 1.0, 10.0, 100.0, 1e3, 1e4)
RELATIVE_DISAGREEMENT = 0.1
STATUSES = (200, 500, 503, 504)
FALLBACK_REASONS = ("slow", "failed", "lost")


class EngineMetrics:
    """The engine's own registry. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "mlops_requests_total",
            "Requests by the variant asked for the answer; a failed challenger's request counts for the champion too.",
            ["variant", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "mlops_request_latency_seconds",
            "Seconds from request to response, by the variant that answered.",
            ["variant"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.score_latency = Histogram(
            "mlops_score_latency_seconds",
            "Seconds inside the model's process, answering or in the shadow.",
            ["variant"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.share = Gauge(
            "mlops_traffic_share",
            "Share of requests routed to the variant, 0 to 1.",
            ["variant"],
            registry=self.registry,
        )
        self.shadow_scores = Counter(
            "mlops_shadow_scores_total",
            "Requests scored by the variant that did not answer.",
            ["variant", "status"],
            registry=self.registry,
        )
        self.fallbacks = Counter(
            "mlops_fallbacks_total",
            "Requests routed to the challenger that the champion answered: slow, failed or lost.",
            ["reason"],
            registry=self.registry,
        )
        self.left_out = Counter(
            "mlops_shadow_scores_left_out_total",
            "Shadow scores left out because too much was waiting.",
            ["variant"],
            registry=self.registry,
        )
        self.disagreements = Counter(
            "mlops_shadow_disagreements_total",
            "Rows that champion and challenger predicted differently (numbers: by more than 10 %).",
            registry=self.registry,
        )
        self.shadow_lost = Counter(
            "mlops_shadow_records_lost_total", "Shadow records that could not be written.", registry=self.registry
        )
        self.scores = Histogram(
            "mlops_prediction_score",
            "Probability of the second class (two classes) or of the predicted class (more).",
            ["variant"],
            buckets=SCORE_BUCKETS,
            registry=self.registry,
        )
        self.values = Histogram(
            "mlops_prediction_value", "Predicted numbers.", ["variant"], buckets=VALUE_BUCKETS, registry=self.registry
        )
        self.info = Gauge(
            "mlops_model_info",
            "1 for the model each variant serves now.",
            ["variant", "name", "version"],
            registry=self.registry,
        )
        for variant in (CHAMPION, CHALLENGER):
            for status in STATUSES:
                # A series that starts at 0 lets rate() see its first request.
                self.requests.labels(variant, str(status))
                self.shadow_scores.labels(variant, str(status))
            self.latency.labels(variant)
            self.score_latency.labels(variant)
            self.left_out.labels(variant)
        for reason in FALLBACK_REASONS:
            self.fallbacks.labels(reason)

    def serve(self, name: str, champion: str | None, challenger: str | None, percent: float) -> None:
        """Which versions are served now, and how the traffic is split."""
        self.info.clear()
        share = percent / 100.0 if challenger is not None else 0.0
        self.share.labels(CHAMPION).set(1.0 - share if champion is not None else 0.0)
        self.share.labels(CHALLENGER).set(share)
        if champion is not None:
            self.info.labels(CHAMPION, name, champion).set(1)
        if challenger is not None:
            self.info.labels(CHALLENGER, name, challenger).set(1)

    def scored(self, variant: Variant, score: Score) -> None:
        """A variant scored a request, answering or in the shadow."""
        if not score.ok or score.predictions is None:
            return
        self.score_latency.labels(variant).observe(score.latency_ms / 1000.0)
        if score.probabilities is not None:
            for row in score.probabilities:
                self.scores.labels(variant).observe(row[1] if len(row) == 2 else max(row))
        elif score.predictions and isinstance(score.predictions[0], float):
            for value in score.predictions:
                self.values.labels(variant).observe(value)

    def compare(self, champion: Score, challenger: Score) -> None:
        """Count the rows on which both variants answered differently."""
        if champion.predictions is None or challenger.predictions is None:
            return
        differing = sum(
            _differ(ours, theirs) for ours, theirs in zip(champion.predictions, challenger.predictions, strict=False)
        )
        self.disagreements.inc(differing)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


def _differ(ours: object, theirs: object) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return abs(ours - theirs) > RELATIVE_DISAGREEMENT * abs(ours)
    return ours != theirs
