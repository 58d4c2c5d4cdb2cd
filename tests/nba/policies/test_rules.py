from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nba.facts import code_facts
from nba.moment_plan import MomentPlan, plan_moment
from nba.pack import Pack
from nba.policies.rules import Rules
from nba.rounds import LoggedRounds
from nba.testing import check_policy, random_mask

ALL = np.ones((1, 4), dtype=np.bool_)


def chosen(shop: Pack, mask: np.ndarray, make_rounds: Callable[..., LoggedRounds], **facts: object) -> str:
    plan = plan_moment(shop, "basket")
    policy = Rules.fit(plan, make_rounds(plan, 0))
    contexts = plan.encoder.encode(code_facts(plan.encoder.fields, [facts]))
    (row,) = policy.distribution(contexts, mask)
    assert sorted(row) == [0.0, 0.0, 0.0, 1.0]
    return plan.action_ids[int(row.argmax())]


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        ({"mood": -0.9, "member": True}, "offer"),
        ({"mood": -0.9, "member": False}, "offer"),
        ({"mood": 0.9, "member": True}, "remind"),
        ({"mood": 0.9, "member": False}, "no_action"),
        ({}, "no_action"),
    ],
)
def test_the_first_rule_that_holds_acts(
    shop: Pack, make_rounds: Callable[..., LoggedRounds], facts: dict[str, object], action: str
) -> None:
    """The list: offer where the mood is below -0.5; remind members; else nothing."""
    assert chosen(shop, ALL, make_rounds, **facts) == action


def test_a_rule_whose_action_is_not_eligible_is_passed_over(
    shop: Pack, make_rounds: Callable[..., LoggedRounds]
) -> None:
    without_offer = np.array([[True, True, True, False]])
    assert chosen(shop, without_offer, make_rounds, mood=-0.9, member=True) == "remind"
    assert chosen(shop, without_offer, make_rounds, mood=-0.9, member=False) == "no_action"


@pytest.mark.parametrize("k", [1, 2, 7, 1000])
def test_it_keeps_the_contract_of_a_policy(k: int) -> None:
    rng = np.random.default_rng(k)
    contexts = rng.uniform(-1.0, 1.0, (40, 12)).astype(np.float32)
    actions = rng.integers(0, k, 8)
    check_policy(
        Rules(4, actions),
        contexts,
        random_mask(40, k, rng),
        permuted=lambda order: Rules(4, np.argsort(order)[actions]),
    )


def test_the_list_of_every_moment_of_the_support_pack_fits_its_plan(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    for plan in support_plans.values():
        rounds = make_rounds(plan, 20)
        found = Rules.fit(plan, rounds).distribution(rounds.contexts, rounds.mask)
        assert found.sum() == 20.0
