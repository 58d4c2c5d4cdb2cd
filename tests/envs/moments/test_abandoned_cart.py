"""A cart left behind: sure buyers, the persuadable and lost causes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from nba.types import Value
from tests.envs import played

truth, best = (partial(of, "retail", "abandoned_cart") for of in (played.truth, played.best))

RUNNING_SHOES: dict[str, Value] = {  # nearby, on a Saturday, before a morning jog
    "local_time": "2026-03-07T07:10:00",
    "intent": "go",
    "device": "mobile",
    "store_km": 0.8,
    "basket_value": 120.0,
    "minutes_idle": 5.0,
    "alternatives_viewed": 0.0,
}
GADGET: dict[str, Value] = {  # just seen, and what do others say?
    "local_time": "2026-03-07T20:40:00",
    "intent": "know",
    "style": "detailed",
    "basket_value": 60.0,
    "minutes_idle": 12.0,
    "alternatives_viewed": 0.0,
    "purchases_90d": 0.0,
}
SURE: dict[str, Value] = {
    "intent": "buy",
    "basket_value": 150.0,
    "minutes_idle": 5.0,
    "alternatives_viewed": 0.0,
    "purchases_90d": 9.0,
    "discount_share": 0.2,
}
PERSUADABLE: dict[str, Value] = {
    "intent": "do",
    "basket_value": 200.0,
    "minutes_idle": 60.0,
    "alternatives_viewed": 1.0,
    "purchases_90d": 3.0,
    "discount_share": 0.9,
}
LOST: dict[str, Value] = {
    "intent": "know",
    "basket_value": 80.0,
    "minutes_idle": 2_500.0,
    "alternatives_viewed": 6.0,
    "purchases_90d": 0.0,
    "discount_share": 0.1,
    "variety": 0.1,
}


def test_silence_and_a_discount_by_hand() -> None:
    """cold, regular, torn, dear and thrift 0.5 each: price 0.5 (0.4 + 0.7) = 0.55, carriage 0.25.

    silence: -0.9 + 0.9 - 0.8 - 0.99 - 0.25 - 0.6 = -2.64, P 0.066608; annoyed 1 / (1 + e^9) = 0.000123:
    0.066608 - 0.6 * 0.000123 = 0.066534. Discount: -2.64 - 0.2 + 3.4 * 0.55 = -0.97, P 0.274877, of which it pays
    1 - 0.35; annoyed -4.2, P 0.014774: 0.65 * 0.274877 - 0.6 * 0.014774 - 0.005 = 0.164806.
    """
    values = truth(minutes_idle=120, purchases_90d=3, alternatives_viewed=2, basket_value=150, discount_share=0.5)
    assert values["no_action"] == pytest.approx(0.066534, abs=1e-5)
    assert values["discount_10"] == pytest.approx(0.164806, abs=1e-5)


def test_running_shoes_are_put_aside_nearby_before_a_morning_jog() -> None:
    assert best(**RUNNING_SHOES) == "reserve_nearby"
    assert best(**RUNNING_SHOES | {"store_km": 9.0}) != "reserve_nearby"


def test_reviews_of_a_gadget_just_seen_are_for_who_wants_to_know_in_detail() -> None:
    assert best(**GADGET) == "show_reviews"
    seen, brief = truth(**GADGET), truth(**GADGET | {"style": "brief"})
    assert seen["show_reviews"] > brief["show_reviews"] + 0.1


def test_a_discount_is_wasted_on_who_would_buy_anyway() -> None:
    values = truth(**SURE)
    assert values["no_action"] > 0.8
    assert values["discount_10"] < values["no_action"] - 0.3
    assert best(**SURE) == "no_action"


def test_a_discount_pays_where_it_persuades() -> None:
    values = truth(**PERSUADABLE)
    assert best(**PERSUADABLE) == "discount_10"
    assert values["discount_10"] > values["no_action"] + 0.2


def test_nothing_brings_a_lost_cause_back() -> None:
    values = truth(**LOST)
    assert best(**LOST) == "no_action"
    assert max(values.values()) < 0.05


def test_a_push_at_night_annoys() -> None:
    night, day = (truth(minutes_idle=120, local_time=f"2026-03-02T{t}:00:00")["remind_push"] for t in ("03", "19"))
    assert night < day - 0.1


def test_advice_is_for_newcomers_with_a_dear_cart_and_comparison_for_the_torn() -> None:
    assert best(basket_value=400, purchases_90d=0, alternatives_viewed=1, discount_share=0.1) == "offer_advice"
    assert best(alternatives_viewed=7, variety=0.9) == "compare_items"


def test_a_discount_is_redeemed_by_who_buys_and_by_nobody_else() -> None:
    env, rng = BatchMomentEnv(played.PACKS["retail"], "abandoned_cart"), np.random.default_rng(0)
    batch = env.sample(5_000, rng)
    bought, redeemed = (env.outcome_names.index(name) for name in ("bought", "discount_redeemed"))
    for column, action in enumerate(env.plan.action_ids):
        came = env.outcomes(batch, np.full(5_000, column), rng)
        np.testing.assert_array_equal(came[:, redeemed], came[:, bought] * (action == "discount_10"))


def test_rates_without_a_word_and_with_a_discount_for_whoever_may_have_one() -> None:
    """One cart in five is bought later without a word; half of the discounts that may be given are wasted."""
    env = BatchMomentEnv(played.PACKS["retail"], "abandoned_cart")
    batch = env.sample(20_000, np.random.default_rng(0))
    bought = env.probabilities(batch.contexts)[:, 0, env.outcome_names.index("bought")]
    assert bought.mean() == pytest.approx(0.2, abs=0.02)
    discount = env.plan.action_ids.index("discount_10")
    values = env.expected_rewards(batch.contexts)[batch.mask[:, discount]]
    assert (values[:, discount] < values[:, 0]).mean() == pytest.approx(0.5, abs=0.05)
