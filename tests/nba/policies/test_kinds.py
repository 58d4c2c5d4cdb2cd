"""What holds for every kind of policy: learned from rounds of a pack, it keeps the contract and survives the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nba.moment_plan import MomentPlan
from nba.pack import Pack
from nba.policies import KINDS
from nba.rounds import LoggedRounds
from nba.testing import check_policy, check_saved, random_mask


@pytest.mark.parametrize("kind", KINDS)
def test_a_learned_policy_keeps_the_contract_in_every_moment(
    kind: str, support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    rng = np.random.default_rng(1)
    for plan in support_plans.values():
        rounds = make_rounds(plan, 150)
        policy = KINDS[kind].fit(plan, rounds)
        check_policy(policy, rounds.contexts, random_mask(len(rounds), len(plan.action_ids), rng))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_policy_answers_with_the_same_bits(
    kind: str,
    support: Pack,
    support_plans: dict[str, MomentPlan],
    make_rounds: Callable[..., LoggedRounds],
    tmp_path: Path,
) -> None:
    policies = {name: KINDS[kind].fit(plan, make_rounds(plan, 150)) for name, plan in support_plans.items()}
    check_saved(support, kind, policies, tmp_path / "artefact", rng=np.random.default_rng(2))
