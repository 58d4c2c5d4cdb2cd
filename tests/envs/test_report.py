"""The table of environments: claims that hold, at a small size."""

from __future__ import annotations

import pytest

from envs import IDS, SESSION_IDS
from envs.report import LEAST_MARGIN, EnvironmentReport, report_moment, report_session
from envs.rollout import PolicyValue


@pytest.mark.parametrize("name", IDS)
def test_a_look_at_the_customer_is_worth_what_the_pack_claims(name: str) -> None:
    """3,000 contexts: the order every environment must have, and the claim."""
    told = report_moment(name, *IDS[name], rounds=3_000, seed=1)
    values = {policy: value.value for policy, value in told.values.items()}
    assert values["uniform"] < values["rules"] < values["oracle"]
    assert values["context_free"] < values["linear"] < values["oracle"]
    assert told.claims
    assert told.margin >= LEAST_MARGIN


@pytest.mark.parametrize("name", SESSION_IDS)
def test_a_plan_is_worth_a_tenth_more_than_the_best_next_step(name: str) -> None:
    """1,500 sessions, the same for every policy."""
    told = report_session(name, *SESSION_IDS[name], sessions=1_500, seed=1)
    values = {policy: value.value for policy, value in told.values.items()}
    assert values["uniform"] < values["myopic"] < values["oracle"]
    assert max(values["rules"], values["linear"], values["context_free"]) < values["oracle"]
    assert told.holds
    assert told.bound is not None
    assert 0.9 * told.bound < values["oracle"] < told.bound + 3.0 * told.values["oracle"].standard_error


def test_a_claim_that_is_not_worth_a_tenth_does_not_hold() -> None:
    """1.05 over 1.0 is 5 %; without a claim it does not matter."""
    values = {"context_free": PolicyValue(1.0, 0.0, 1), "oracle": PolicyValue(1.05, 0.0, 1)}
    claiming, silent = (EnvironmentReport("e", "p", "m", False, claims, values) for claims in (True, False))
    assert claiming.margin == pytest.approx(0.05)
    assert (claiming.holds, silent.holds) == (False, True)
