from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nba.moment_plan import MomentPlan
from nba.policies.uniform import Uniform
from nba.rounds import LoggedRounds
from nba.testing import check_policy, random_mask


def test_every_eligible_action_has_the_same_chance() -> None:
    mask = np.array([[True, False, True, True], [True, False, False, False]])
    found = Uniform().distribution(np.zeros((2, 1), dtype=np.float32), mask)
    np.testing.assert_array_equal(found, [[1 / 3, 0, 1 / 3, 1 / 3], [1, 0, 0, 0]])


def test_there_is_nothing_to_learn(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    plan = support_plans["tone_tuner"]
    assert Uniform.fit(plan, make_rounds(plan, 10)) == Uniform()


@pytest.mark.parametrize("k", [1, 2, 7, 1000])
def test_it_keeps_the_contract_of_a_policy(k: int) -> None:
    rng = np.random.default_rng(k)
    contexts = rng.uniform(-1.0, 1.0, (40, 3)).astype(np.float32)
    check_policy(Uniform(), contexts, random_mask(40, k, rng), floor=1.0, permuted=lambda order: Uniform())
