"""What a replica counts, for Prometheus. Every label has few values: names of the pack, versions, fixed words."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from nba.records import DecisionRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_TOGETHER = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
_AGES = (1.0, 10.0, 60.0, 300.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0, 7_776_000.0)  # 1 s to 90 days

M = TypeVar("M", Counter, Histogram)


class _Labelled(Generic[M]):
    """A metric with labels, whose children are looked up at once: the library checks and counts each time."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._children: dict[tuple[str, ...], M] = {}

    def __call__(self, *labels: str) -> M:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        return child


class _Ages(Collector):
    """A histogram by feature view. Counted here, because the library's takes ten times as long, for every view."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = defaultdict(float)

    def add(self, view: str, age_s: float) -> None:
        counts = self._counts.get(view)
        if counts is None:
            counts = self._counts[view] = [0] * (len(_AGES) + 1)
        counts[bisect_left(_AGES, age_s)] += 1
        self._sums[view] += age_s

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily("nba_feature_age_seconds", "Age of what was read of a view", labels=("view",))
        bounds = [*map(floatToGoString, _AGES), "+Inf"]
        for view, counts in list(self._counts.items()):
            family.add_metric((view,), list(zip(bounds, accumulate(counts), strict=True)), self._sums[view])
        yield family


class Metrics:
    """The metrics of one replica, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        where = ("pack", "moment")
        self._decisions = self._counter(
            "nba_decisions", "Decisions answered", *where, "action", "arm", "version", "mode"
        )
        self._replayed = self._counter("nba_decisions_replayed", "Stored answers given again", *where)
        self._degraded = self._counter("nba_decisions_degraded", "Degraded decisions", "cause")
        self._ignored = self._counter("nba_context_keys_ignored", "Unknown context keys", *where)
        self._weights = self._counter("nba_uniform_weight_sum", "Sum of importance weights of a uniform target", *where)
        self._weighted = self._counter(
            "nba_uniform_weight_count", "Learnable decisions in that sum: the mean is 1", *where
        )
        self._rewards = self._counter("nba_rewards", "Outcomes reported", "status")
        self._requests = self._counter("nba_requests", "HTTP answers", "route", "code")
        self._keys = self._counter(
            "nba_key_requests", "Requests by key; the names of twenty, then `other`", "key", "outcome"
        )
        self._stage = _Labelled(
            Histogram(
                "nba_stage_seconds",
                "Time of a stage, once for all that are decided together; `all`: of a request",
                ("stage",),
                buckets=_SECONDS,
                registry=self.registry,
            )
        )
        self._ages = _Ages()
        self.registry.register(self._ages)
        self.together = Histogram(
            "nba_decisions_together", "Decisions made in one go", buckets=_TOGETHER, registry=self.registry
        )
        self.in_flight = Gauge("nba_requests_in_flight", "Requests being worked on", registry=self.registry)
        self.lane_connections = Gauge("nba_lane_connections", "Open on the fast lane", registry=self.registry)
        self.log_waiting = Gauge("nba_log_appends_waiting", "Appends that wait for a sync", registry=self.registry)
        self.log_lag = Gauge(
            "nba_log_lag_seconds",
            "For which the oldest append waits for its sync; 0: none does",
            registry=self.registry,
        )
        self.log_since_sync = Gauge(
            "nba_log_since_sync_seconds", "Since the last sync; NaN: none yet", registry=self.registry
        )
        self.log_unshipped = Gauge(
            "nba_log_unshipped_segments",
            "Segments of this machine that are done and not shipped",
            registry=self.registry,
        )
        self.log_unshipped_age = Gauge(
            "nba_log_unshipped_age_seconds",
            "Since the oldest of them was last written; 0: none",
            registry=self.registry,
        )
        self._made = Gauge(
            "nba_page_timestamp_seconds", "When this replica made its page, Unix time", registry=self.registry
        )
        self._claims = Gauge(
            "nba_claims_state", "1 for the state the claims are in", ("state",), registry=self.registry
        )
        self._champion = Gauge(
            "nba_champion_info", "1 for what serves", ("pack", "version", "kind"), registry=self.registry
        )

    def _counter(self, name: str, says: str, *labels: str) -> _Labelled[Counter]:
        return _Labelled(Counter(name, says, labels, registry=self.registry))

    def decided(self, *records: DecisionRecord) -> None:
        """Counts new decisions; what several of them add to one counter is added at once."""
        tallies: dict[tuple[_Labelled[Counter], tuple[str, ...]], float] = defaultdict(float)
        for record in records:
            decision = record.decision
            where = (decision.pack, decision.request.context.moment)
            made = (*where, decision.action_id, decision.policy.arm, decision.policy.version, decision.mode)
            tallies[self._decisions, made] += 1.0
            for cause in decision.degraded:
                tallies[self._degraded, (cause,)] += 1.0
            for view, age_s in decision.request.age_s.items():
                self._ages.add(view, age_s)
            if decision.request.ignored:
                tallies[self._ignored, where] += len(decision.request.ignored)
            if decision.learnable:
                # A uniform target over what could have been drawn: its mean weight is 1 where propensities are right.
                possible = len(decision.distribution) - decision.distribution.count(0.0)
                tallies[self._weights, where] += 1.0 / (possible * decision.propensity)
                tallies[self._weighted, where] += 1.0
        for (counter, labels), n in tallies.items():
            counter(*labels).inc(n)

    def replayed(self, record: DecisionRecord) -> None:
        """Counts a stored answer that was given again."""
        self._replayed(record.decision.pack, record.decision.context.moment).inc()

    def rewarded(self, status: str) -> None:
        """Counts a reported outcome by where it went."""
        self._rewards(status).inc()

    def answered(self, route: str, code: int) -> None:
        """Counts an HTTP answer."""
        self._requests(route, str(code)).inc()

    def key_asked(self, key: str, outcome: str) -> None:
        """Counts a request that needs a key, where there are keys, by its key's name and how it went at the door."""
        self._keys(key, outcome).inc()

    def took(self, seconds: Mapping[str, float]) -> None:
        """Notes how long each stage took, in seconds."""
        for stage, duration in seconds.items():
            self._stage(stage).observe(duration)

    def render(self, *, claims: str, champions: Mapping[str, tuple[str, str]]) -> bytes:
        """This replica's page, with the state of the claims and the (version, kind) that serves each pack."""
        for gauge in (self._claims, self._champion):
            gauge.clear()
        self._claims.labels(claims).set(1)
        for pack, (version, kind) in champions.items():
            self._champion.labels(pack, version, kind).set(1)
        self._made.set(time.time())
        return generate_latest(self.registry)
