"""A look at the balance, and the loan that a policy would like to offer."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from nba.facts import code_facts
from nba.guardrails import action_mask
from nba.moment_plan import plan_moment
from nba.types import Value
from tests.envs import played

PACK = played.PACKS["banking"]
truth, best = (partial(of, "banking", "balance_check") for of in (played.truth, played.best))

CALM: dict[str, Value] = {"balance": 1_500, "planned_payments": 300, "days_to_payday": 10}
OVER_INDEBTED: dict[str, Value] = {
    "local_time": "2026-03-04T15:00:00",
    "balance": -500.0,
    "planned_payments": 300.0,
    "days_to_payday": 15.0,
    "debt_ratio": 0.6,
    "income_monthly": 2_000.0,
    "overdrafts_90d": 1.0,
    "loan_viewed": True,
}


def eligible(**facts: Value) -> set[str]:
    plan = plan_moment(PACK, "balance_check")
    mask = action_mask(plan.stages, code_facts(plan.encoder.fields, [facts]), len(plan.action_ids))[0]
    return {action for action, open_ in zip(plan.action_ids, mask, strict=True) if open_}


def test_silence_and_the_outlook_by_hand() -> None:
    """1,000 EUR, 500 due, 20 days: 500 + 400 are covered, gap 0; two looks before: worry 0.5.

    silence: settled 2.1 - 1.0 = 1.1, P 0.750260; overdrawn -4, P 0.017986; annoyed -9, P 0.000123:
    0.750260 - 0.6 * 0.018109 = 0.739395. Outlook: 1.1 - 1.0 + 0.6 * 0.5 + 2.8 * 0.5 = 1.8, P 0.858149; annoyed -4.4,
    P 0.012128: 0.858149 - 0.6 * 0.030114 - 0.01 = 0.830080.
    """
    values = truth(balance=1_000, planned_payments=500, days_to_payday=20, checks_today=2)
    assert values["no_action"] == pytest.approx(0.739395, abs=1e-5)
    assert values["show_outlook"] == pytest.approx(0.830080, abs=1e-5)


def test_who_only_looks_is_best_left_alone() -> None:
    assert best(**CALM) == "no_action"


def test_who_looks_again_and_again_wants_to_know_whether_it_lasts() -> None:
    assert best(**CALM, checks_today=5) == "show_outlook"


def test_money_to_spare_may_be_put_aside_and_money_that_is_due_may_not() -> None:
    assert best(balance=9_000, planned_payments=300, days_to_payday=10, variety=0.8) == "suggest_saving"
    short = truth(balance=100, planned_payments=800)
    assert short["suggest_saving"] < short["no_action"]


def test_a_plan_is_met_with_what_it_would_take_or_with_a_person() -> None:
    assert best(**CALM, intent="buy", style="detailed", debt_ratio=0.1) == "check_eligibility"
    assert best(**CALM, loan_viewed=True, style="brief", debt_ratio=0.1) == "offer_loan"
    rich: dict[str, Value] = {"balance": 9_000, "intent": "buy", "style": "brief", "tenure_months": 100}
    assert best(**rich) == "book_advisor"


def test_one_slip_calls_for_an_alert_and_many_for_advice() -> None:
    assert best(balance=200, planned_payments=300, days_to_payday=20, push_enabled=True, debt_ratio=0.1) == "set_alert"
    assert best(balance=-300, overdrafts_90d=4, debt_ratio=0.6) == "debt_advice"


def test_the_over_indebted_would_be_sold_a_loan_were_there_no_guardrail() -> None:
    """The reward sees the account filled and not the debt: suitability is not left to it."""
    assert best(**OVER_INDEBTED) == "offer_loan"
    assert not {"offer_loan", "check_eligibility"} & eligible(**OVER_INDEBTED)
    assert {"debt_advice", "no_action"} <= eligible(**OVER_INDEBTED)


@pytest.mark.parametrize(
    "unsuitable",
    [
        {"debt_ratio": 0.4},
        {"debt_ratio": None},
        {"income_monthly": 999.0},
        {"income_monthly": None},
        {"overdrafts_90d": 3.0},
        {"local_time": "2026-03-04T23:00:00"},
    ],
)
def test_a_loan_is_offered_only_where_it_is_suitable(unsuitable: dict[str, Value]) -> None:
    suitable = OVER_INDEBTED | {"debt_ratio": 0.2}
    assert "offer_loan" in eligible(**suitable)
    assert "offer_loan" not in eligible(**suitable | unsuitable)


def test_nobody_over_indebted_is_ever_eligible_for_credit() -> None:
    env = BatchMomentEnv(PACK, "balance_check")
    batch = env.sample(20_000, np.random.default_rng(0))
    ratio = batch.facts[:, list(PACK.moment_fields("balance_check")).index("debt_ratio")]
    credit = [env.plan.action_ids.index(action) for action in ("offer_loan", "check_eligibility")]
    unsuitable = ~(ratio < 0.4)
    assert 0.1 < unsuitable.mean() < 0.4
    assert not batch.mask[np.ix_(unsuitable, credit)].any()
    assert batch.mask[:, credit].any(axis=0).all()


def test_rates_without_a_word() -> None:
    """Six visits in ten are settled; one account in eight is overdrawn before payday."""
    env = BatchMomentEnv(PACK, "balance_check")
    batch = env.sample(20_000, np.random.default_rng(0))
    settled, overdrawn, annoyed = env.probabilities(batch.contexts)[:, 0].mean(axis=0)
    assert (settled, overdrawn, annoyed) == pytest.approx((0.62, 0.13, 0.0), abs=0.03)
