"""What a policy would have earned in logged sessions: importance weights, decision by decision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba.types import Policy
from training.offline.episodes import LoggedEpisodes


@dataclass(frozen=True, slots=True)
class SessionEstimate:
    """Reward units a session, and how many sessions the estimate rests on."""

    logged: float  # what the sessions did earn
    value: float  # what they would have earned
    sessions: int
    effective_n: float  # as many equally weighted sessions at the step whose weights are worst; below 100 trust nothing

    def as_dict(self) -> dict[str, float]:
        """Its figures by name."""
        return {
            "logged": self.logged,
            "value": self.value,
            "sessions": float(self.sessions),
            "effective_n": self.effective_n,
        }


def session_estimate(policy: Policy, episodes: LoggedEpisodes) -> SessionEstimate:
    """Weighted per-decision importance sampling over the sessions that have ended.

        V = sum_t  sum_i w_it r_it / sum_i w_it,     w_it = prod over chosen steps s <= t of pi(a|x) / p,  0 < p logged

    A session that is over keeps its last weight and earns nothing more. A step that no policy chose has weight 1: the
    same would have happened. Self-normalised at each step: biased, and far less noisy than without.
    Raises EmptyLogError where no session has ended. Source: Precup, Sutton and Singh (2000), Eligibility Traces for
    Off-Policy Policy Evaluation, section 3.
    """
    whole = episodes.take(episodes.ended)
    whole.check()
    rounds, lengths = whole.rounds, np.diff(whole.offsets)
    chance = policy.distribution(rounds.contexts, rounds.mask)[np.arange(len(rounds)), rounds.actions]
    ratio = np.where(whole.choices, chance / rounds.propensities, 1.0)
    weights, value, effective = np.ones(len(whole)), 0.0, float(len(whole))
    for t in range(int(lengths.max())):
        live = lengths > t
        rows = whole.offsets[:-1][live] + t
        weights[live] *= ratio[rows]
        if not weights.sum() > 0.0:
            return SessionEstimate(_mean(rounds.rewards, whole), float("nan"), len(whole), 0.0)
        value += float((weights[live] * rounds.rewards[rows]).sum() / weights.sum())
        effective = min(effective, float(weights.sum() ** 2 / (weights**2).sum()))
    return SessionEstimate(_mean(rounds.rewards, whole), value, len(whole), effective)


def _mean(rewards: NDArray[np.float64], episodes: LoggedEpisodes) -> float:
    return float(rewards.sum() / len(episodes))
