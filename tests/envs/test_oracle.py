"""Policies that know the truth, and what the truth is worth: the moments are hard in the ways they are meant to be."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from envs.oracle import FixedOrder, Oracle, best_context_free
from envs.rollout import rollout, value
from nba.models.linear import LinearModel
from nba.policies.epsilon_greedy import EpsilonGreedy
from nba.policies.rules import Rules
from nba.policies.uniform import Uniform
from nba.testing import check_policy
from nba.types import Policy
from tests.envs.played import PACKS, PLAYED

PACK = PACKS["support"]


def test_a_fixed_order_takes_its_first_eligible_action() -> None:
    mask = np.array([[True, True, True], [True, False, True], [True, False, False]])
    distribution = FixedOrder((1, 2, 0)).distribution(np.zeros((3, 1), dtype=np.float32), mask)
    assert distribution.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_the_best_order_by_hand() -> None:
    """Action 1 is worth 5 once, action 2 is worth 3 and 3. Order (1, 2): 5 + 3; (2, ...): 3 + 3; so 1 first."""
    expected = np.array([[0.0, 5.0, 3.0], [0.0, 9.0, 3.0]])
    mask = np.array([[True, True, True], [True, False, True]])
    assert best_context_free(expected, mask).order == (1, 2, 0)


def test_an_action_that_harms_those_it_is_left_to_is_not_in_the_order() -> None:
    """Action 2 alone is worth 1 and -4: after action 1 only the -4 is left, so silence comes before it."""
    expected = np.array([[0.0, 2.0, 1.0], [0.0, 0.0, -4.0]])
    mask = np.array([[True, True, True], [True, False, True]])
    assert best_context_free(expected, mask).order == (1, 0)


def test_no_order_of_five_actions_beats_the_best_one() -> None:
    rng = np.random.default_rng(0)
    expected, mask = rng.normal(size=(40, 5)), rng.random((40, 5)) < 0.6
    mask[:, 0] = True

    def total(order: tuple[int, ...]) -> float:
        return float((FixedOrder(order).distribution(expected.astype(np.float32), mask) * expected).sum())

    assert total(best_context_free(expected, mask).order) == pytest.approx(max(map(total, permutations(range(5)))))


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_the_oracle_takes_the_best_eligible_action(pack: str, moment: str) -> None:
    env = BatchMomentEnv(PACKS[pack], moment)
    batch = env.sample(300, np.random.default_rng(0))
    distribution = Oracle(env.response).distribution(batch.contexts, batch.mask)
    expected = env.expected_rewards(batch.contexts)
    for row in range(300):
        eligible = np.flatnonzero(batch.mask[row])
        assert distribution[row, eligible[expected[row, eligible].argmax()]] == 1.0


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_policies_that_know_the_truth_keep_the_contract_of_policies(pack: str, moment: str) -> None:
    env = BatchMomentEnv(PACKS[pack], moment)
    batch = env.sample(100, np.random.default_rng(0))
    check_policy(Oracle(env.response), batch.contexts, batch.mask)
    check_policy(best_context_free(env.expected_rewards(batch.contexts), batch.mask), batch.contexts, batch.mask)


@pytest.mark.parametrize("moment", [moment for pack, moment in PLAYED if pack == "support"])
def test_context_is_worth_a_tenth_and_more_and_a_linear_model_gets_most_of_it(moment: str) -> None:
    """20,000 contexts; uniform < rules < linear from 4,000 uniform rounds < oracle; the figures are printed."""
    env, rng = BatchMomentEnv(PACK, moment), np.random.default_rng(1)
    batch = env.sample(20_000, rng)
    truth = env.expected_rewards(batch.contexts)
    order = best_context_free(truth, batch.mask)
    rounds = rollout(Uniform(), env, episodes=4_000, rng=rng)
    learned = EpsilonGreedy(LinearModel.fit(rounds, env.plan.action_features, ridge=10.0), epsilon=0.0)
    rules = Rules(env.plan.encoder.first_rule, env.plan.rule_actions)
    policies: dict[str, Policy] = {
        "uniform": Uniform(),
        "rules": rules,
        "context_free": order,
        "linear": learned,
        "oracle": Oracle(env.response),
    }
    values = {name: value(policy, env, batch.contexts, batch.mask) for name, policy in policies.items()}
    shares = policies["oracle"].distribution(batch.contexts, batch.mask).mean(axis=0)
    told = ", ".join(f"{name} {v.value:.3f} +- {1.96 * v.standard_error:.3f}" for name, v in values.items())
    print(f"{moment}: {told}; no_action is best in {shares[0]:.0%}")  # noqa: T201  # what `-s` is for
    uniform, by_rules, context_free, linear, oracle = (v.value for v in values.values())
    assert 0.6 * oracle < context_free <= 0.9 * oracle
    assert uniform + 0.02 < by_rules < 0.9 * oracle
    assert 1.02 * max(by_rules, context_free) < linear
    assert 0.85 * oracle < linear < 0.98 * oracle
    assert 0.05 < shares[0] < 0.5
    assert (shares[1:] > 0.01).all()  # every action is the best one for somebody
