"""What a replica counts, for Prometheus. Every label has few values: names of the pack, versions, fixed words."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nba.records import DecisionRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The metrics of one replica, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        where = ("pack", "moment")
        self._decisions = Counter(
            "nba_decisions",
            "Decisions answered",
            (*where, "action", "version", "mode"),
            registry=self.registry,
        )
        self._replayed = Counter("nba_decisions_replayed", "Stored answers given again", where, registry=self.registry)
        self._degraded = Counter("nba_decisions_degraded", "Degraded decisions", ("cause",), registry=self.registry)
        self._ignored = Counter("nba_context_keys_ignored", "Unknown context keys", where, registry=self.registry)
        self._weights = Counter(
            "nba_uniform_weight_sum", "Sum of importance weights of a uniform target", where, registry=self.registry
        )
        self._weighted = Counter(
            "nba_uniform_weight_count", "Learnable decisions in that sum: the mean is 1", where, registry=self.registry
        )
        self._rewards = Counter("nba_rewards", "Outcomes reported", ("status",), registry=self.registry)
        self._requests = Counter("nba_requests", "HTTP answers", ("route", "code"), registry=self.registry)
        self._stage = Histogram(
            "nba_stage_seconds", "Time of a stage", ("stage",), buckets=_SECONDS, registry=self.registry
        )
        self.in_flight = Gauge("nba_requests_in_flight", "Requests being worked on", registry=self.registry)
        self.log_waiting = Gauge("nba_log_appends_waiting", "Appends that wait for a sync", registry=self.registry)
        self._claims = Gauge(
            "nba_claims_state", "1 for the state the claims are in", ("state",), registry=self.registry
        )
        self._champion = Gauge(
            "nba_champion_info", "1 for what serves", ("pack", "version", "kind"), registry=self.registry
        )

    def decided(self, record: DecisionRecord) -> None:
        """Counts a new decision."""
        decision = record.decision
        where = (decision.pack, decision.context.moment)
        self._decisions.labels(*where, decision.action_id, decision.policy.version, decision.mode).inc()
        for cause in decision.degraded:
            self._degraded.labels(cause).inc()
        if decision.request.ignored:
            self._ignored.labels(*where).inc(len(decision.request.ignored))
        if decision.learnable:
            # A uniform target over what could have been drawn: its mean weight is 1 where propensities are right.
            self._weights.labels(*where).inc(1.0 / (sum(p > 0.0 for p in decision.distribution) * decision.propensity))
            self._weighted.labels(*where).inc()

    def replayed(self, record: DecisionRecord) -> None:
        """Counts a stored answer that was given again."""
        self._replayed.labels(record.decision.pack, record.decision.context.moment).inc()

    def rewarded(self, status: str) -> None:
        """Counts a reported outcome by where it went."""
        self._rewards.labels(status).inc()

    def answered(self, route: str, code: int) -> None:
        """Counts an HTTP answer."""
        self._requests.labels(route, str(code)).inc()

    def took(self, seconds: Mapping[str, float]) -> None:
        """Notes how long each stage took, in seconds."""
        for stage, duration in seconds.items():
            self._stage.labels(stage).observe(duration)

    def render(self, *, claims: str, champions: Mapping[str, tuple[str, str]]) -> bytes:
        """The page, with the state of the claims and the (version, kind) that serves each pack."""
        for gauge in (self._claims, self._champion):
            gauge.clear()
        self._claims.labels(claims).set(1)
        for pack, (version, kind) in champions.items():
            self._champion.labels(pack, version, kind).set(1)
        return generate_latest(self.registry)
