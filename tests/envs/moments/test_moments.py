"""What holds for every moment that is played: it is worth looking at the customer, and there is something to learn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from envs.batch import Batch, BatchMomentEnv
from envs.moments import MOMENTS
from envs.oracle import Oracle, best_context_free
from envs.rollout import value
from nba.policies.rules import Rules
from nba.policies.uniform import Uniform
from nba.types import ActionValues, Distribution, Policy
from tests.envs.played import PACKS, PLAYED


@dataclass(frozen=True)
class Sample:
    env: BatchMomentEnv
    batch: Batch
    expected: ActionValues
    oracle: Distribution

    def value(self, policy: Policy) -> float:
        return value(policy, self.env, self.batch.contexts, self.batch.mask).value


@cache
def sample(pack: str, moment: str) -> Sample:
    """20,000 contexts of 10,000 customers."""
    env = BatchMomentEnv(PACKS[pack], moment, customers=10_000)
    batch = env.sample(20_000, np.random.default_rng(0))
    expected = env.expected_rewards(batch.contexts)
    return Sample(env, batch, expected, Oracle(env.response).distribution(batch.contexts, batch.mask))


def test_every_moment_that_is_played_stands_in_one_pack() -> None:
    assert sorted(moment for _, moment in PLAYED) == sorted(MOMENTS)


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_the_best_action_depends_on_the_customer_as_the_pack_claims(pack: str, moment: str) -> None:
    s = sample(pack, moment)
    gain = s.value(Oracle(s.env.response)) / s.value(best_context_free(s.expected, s.batch.mask)) - 1.0
    assert PACKS[pack].moment(moment).heterogeneous
    assert gain >= 0.1


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_every_action_is_possible_for_some_and_the_best_for_two_in_a_hundred(pack: str, moment: str) -> None:
    s = sample(pack, moment)
    shares = dict(zip(s.env.plan.action_ids, s.oracle.mean(axis=0).tolist(), strict=True))
    assert s.batch.mask.any(axis=0).all()
    assert min(shares.values()) >= 0.02, shares


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_the_rules_of_the_pack_are_better_than_chance_and_not_as_good_as_can_be(pack: str, moment: str) -> None:
    s = sample(pack, moment)
    plan = s.env.plan
    rules = s.value(Rules(plan.encoder.first_rule, plan.rule_actions))
    assert s.value(Uniform()) < rules < 0.95 * s.value(Oracle(s.env.response))
