"""What a policy would have earned in logged sessions, with weights that can be worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from nba.policies.uniform import Uniform
from nba.types import ActionMask, Contexts, Distribution
from tests.training.offline.small import sessions
from training.offline.value import session_estimate


@dataclass(frozen=True, slots=True)
class Column:
    """Always the action of one column."""

    action: int

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        distribution: Distribution = np.zeros(mask.shape)
        distribution[:, self.action] = 1.0
        return distribution


def test_the_logging_policy_is_worth_what_it_earned() -> None:
    estimate = session_estimate(Uniform(), sessions(50))
    assert estimate.value == pytest.approx(estimate.logged)
    assert estimate.effective_n == 50


def test_going_on_is_worth_1_from_a_and_nothing_from_c() -> None:
    """Half of the sessions start in A, so that about 0.5 is earned a session."""
    assert session_estimate(Column(1), sessions(4_000)).value == pytest.approx(0.5, abs=0.05)


def test_a_policy_that_was_never_followed_has_no_estimate() -> None:
    none = sessions(50)
    never = replace(none, rounds=replace(none.rounds, actions=np.zeros_like(none.rounds.actions)))
    estimate = session_estimate(Column(1), never)
    assert np.isnan(estimate.value)
    assert estimate.effective_n == 0.0


def test_a_step_that_no_policy_chose_weighs_nothing() -> None:
    logged = sessions(50)
    forced = replace(logged, choices=np.zeros(len(logged.rounds), dtype=np.bool_))
    estimate = session_estimate(Column(1), forced)
    assert estimate.value == pytest.approx(estimate.logged)
