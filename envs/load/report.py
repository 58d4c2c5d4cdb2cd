"""What came of driving a server with simulated customers."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np

from envs.load.tally import Tally
from envs.load.traffic import MomentValues, Traffic
from nba.errors import UnavailableError
from nba.types import Rewards


@dataclass(frozen=True, slots=True)
class SessionValues:
    """The sessions of one moment that were played to their end. Reward units a session."""

    sessions: int
    steps: int
    reward_mean: float  # realised
    reward_low: float  # 95 % interval of the mean
    reward_high: float
    uniform: float  # what policies earn in the simulator
    rules: float
    planner: float  # which plans ahead and knows the truth, but not the customer's type (`envs.planning`)
    bound: float  # no policy over contexts earns more


@dataclass(frozen=True, slots=True)
class DelayReport:
    """What became of outcomes that take their time."""

    held: int  # reports that were held back until they were due
    most_held: int  # by one sender at once
    lost: int  # never came
    too_late: int  # came after their window, and were not reported
    waited_s: float  # after the last decision


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """What the server was told about customers between their rounds."""

    events: dict[str, int]  # event -> how many
    consent_changes: int
    stated: int  # customers whose consent was stated before they were first acted on
    dropped: int  # rounds and sessions not asked for: it is not known whether a change of their customer arrived


@dataclass(frozen=True, slots=True)
class DriveReport:
    """One drive. Rewards and values are reward units a round."""

    rounds: int  # asked for
    decided: int  # of them, answered with an action
    steps: int  # of sessions, answered with an action
    replayed: int  # rounds and steps answered from the store: the run had been there before
    errors: dict[str, int]  # call and code -> calls given up
    retried: dict[str, int]  # call and code -> calls made again
    rewards: dict[str, int]  # what the server said of a reported outcome: joined, late, duplicate -> how many
    seconds: float  # until the last decision, its outcomes included where they come at once
    decisions_per_s: float  # rounds and steps
    rate: float  # decisions a second that were asked for; 0: as fast as possible
    batch: int  # decisions a call
    latency_p50_ms: float  # of one call to decide, its retries included; at a rate from its slot on
    latency_p99_ms: float
    reward_mean: float | None  # realised; None where no round was decided
    reward_low: float | None  # 95 % interval of the mean
    reward_high: float | None
    values: MomentValues | None  # by the truth
    moments: dict[str, MomentValues]
    sessions_asked: int
    sessions_broken: int  # by an error in their middle
    sessions: dict[str, SessionValues]  # by moment
    delays: DelayReport
    changes: ChangeReport
    policies: dict[str, int]  # policy version -> decisions
    degraded: dict[str, int]  # what had failed -> decisions
    no_action_share: float  # of the rounds

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return asdict(self)


def report_of(
    traffic: Traffic, tally: Tally, *, seconds: float, waited_s: float = 0.0, batch: int, rate: float = 0.0
) -> DriveReport:
    """The report of a finished drive. Raises UnavailableError where nothing at all was decided."""
    decisions = tally.decided + tally.steps
    if not decisions:
        raise UnavailableError(
            f"none of {len(traffic)} rounds was decided: {dict(tally.errors)}",
            help="check the address, the key and `/readyz` of the server",
        )
    rewards = np.concatenate([*(part.rewards() for part in traffic.moments.values()), np.empty(0)])
    mean, low, high = interval(rewards) if len(rewards) else (None, None, None)
    p50, p99 = np.percentile(np.array(tally.latencies_s) * 1_000.0, [50, 99])
    values, moments = traffic.values()
    silent = sum(int((part.served == 0).sum()) for part in traffic.moments.values())
    return DriveReport(
        rounds=len(traffic),
        decided=tally.decided,
        steps=tally.steps,
        replayed=tally.replayed,
        errors=dict(tally.errors),
        retried=dict(tally.retried),
        rewards=dict(tally.rewards),
        seconds=seconds,
        decisions_per_s=decisions / seconds,
        rate=rate,
        batch=batch,
        latency_p50_ms=float(p50),
        latency_p99_ms=float(p99),
        reward_mean=mean,
        reward_low=low,
        reward_high=high,
        values=values,
        moments=moments,
        sessions_asked=len(traffic.sessions),
        sessions_broken=tally.broken,
        sessions=_sessions(traffic),
        delays=_delays(traffic, tally, waited_s),
        changes=ChangeReport(dict(tally.events), tally.consent_changes, tally.stated, tally.dropped),
        policies=dict(tally.policies),
        degraded=dict(tally.degraded),
        no_action_share=silent / max(tally.decided, 1),
    )


def interval(rewards: Rewards) -> tuple[float, float, float]:
    """Mean of some rewards, one at least, and the ends of its 95 % interval."""
    half = 1.96 * float(rewards.std(ddof=1)) / np.sqrt(len(rewards)) if len(rewards) > 1 else 0.0
    mean = float(rewards.mean())
    return mean, float(mean - half), float(mean + half)


def _sessions(traffic: Traffic) -> dict[str, SessionValues]:
    return {
        moment: SessionValues(len(earned), steps, *interval(earned), *astuple(others))
        for moment, earned, steps, others in traffic.sessions.played()
    }


def _delays(traffic: Traffic, tally: Tally, waited_s: float) -> DelayReport:
    parts = traffic.moments.values()
    lost, too_late = sum(part.lost for part in parts), sum(part.too_late for part in parts)
    return DelayReport(tally.held, tally.most_held, lost, too_late, waited_s)
