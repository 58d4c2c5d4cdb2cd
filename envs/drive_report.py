"""What came of driving a server with simulated customers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from envs.traffic import MomentValues, Traffic
from nba.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class DriveReport:
    """One drive. Rewards and values are reward units a round."""

    rounds: int  # asked for
    decided: int  # answered with an action
    replayed: int  # of those, answered from the store: the run had been there before
    errors: dict[str, int]  # call and code -> calls given up
    retried: dict[str, int]  # call and code -> calls made again
    rewards: dict[str, int]  # what the server said of a reported outcome: joined, late, duplicate -> how many
    seconds: float
    decisions_per_s: float  # rewards included in the time
    batch: int  # decisions a call
    latency_p50_ms: float  # of one call to decide, its retries included
    latency_p99_ms: float
    reward_mean: float  # realised
    reward_low: float  # 95 % interval of the mean
    reward_high: float
    values: MomentValues  # by the truth
    moments: dict[str, MomentValues]
    policies: dict[str, int]  # policy version -> decisions
    degraded: dict[str, int]  # what had failed -> decisions
    no_action_share: float

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return asdict(self)


@dataclass(slots=True)
class Tally:
    """What is counted while a drive runs."""

    done: int = 0  # rounds behind us, decided or given up
    unanswered: int = 0  # calls in a row that were given up after every retry
    decided: int = 0
    replayed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    rewards: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    def report(self, traffic: Traffic, *, seconds: float, batch: int) -> DriveReport:
        """The report of a finished drive. Raises UnavailableError where nothing at all was decided."""
        if not self.decided:
            raise UnavailableError(
                f"none of {len(traffic)} rounds was decided: {dict(self.errors)}",
                help="check the address, the key and `/readyz` of the server",
            )
        rewards = np.concatenate([part.rewards() for part in traffic.moments.values()])
        half = 1.96 * float(rewards.std(ddof=1)) / np.sqrt(len(rewards)) if len(rewards) > 1 else 0.0
        p50, p99 = np.percentile(np.array(self.latencies_s) * 1_000.0, [50, 99])
        values, moments = traffic.values()
        silent = sum(int((part.served == 0).sum()) for part in traffic.moments.values())
        return DriveReport(
            rounds=len(traffic),
            decided=self.decided,
            replayed=self.replayed,
            errors=dict(self.errors),
            retried=dict(self.retried),
            rewards=dict(self.rewards),
            seconds=seconds,
            decisions_per_s=self.decided / seconds,
            batch=batch,
            latency_p50_ms=float(p50),
            latency_p99_ms=float(p99),
            reward_mean=float(rewards.mean()),
            reward_low=float(rewards.mean() - half),
            reward_high=float(rewards.mean() + half),
            values=values,
            moments=moments,
            policies=dict(self.policies),
            degraded=dict(self.degraded),
            no_action_share=silent / self.decided,
        )
