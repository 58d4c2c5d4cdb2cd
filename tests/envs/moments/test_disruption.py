"""A disrupted journey: the stranded, the waiting and the hurt."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from nba.types import Value
from tests.envs import played

truth, best = (partial(of, "travel", "disruption") for of in (played.truth, played.best))

CHEAP_FLIGHT: dict[str, Value] = {  # for this weekend, cancelled on Friday evening
    "local_time": "2026-03-06T18:00:00",
    "trip": "weekend",
    "fare": "saver",
    "cancelled": True,
    "hours_to_next": 2.0,
    "seats_next": 9.0,
    "travellers": 1.0,
}


def test_silence_by_hand() -> None:
    """120 minutes: late 0.5, trouble 0.575 - 0.15 = 0.425; not hurt; two years a customer: 0.4 * 0.5 = 0.2.

    satisfied 2 - 1.7 + 0.2 = 0.5, P 0.622459; called -2.4 + 1.02 = -1.38, P 0.201009; complained -3.6 + 0.765 =
    -2.835, P 0.055462; 0.622459 - 0.5 * 0.201009 - 0.8 * 0.055462 = 0.477585.
    """
    values = truth(delay_minutes=120, sentiment=0, tenure_months=24, contacts_30d=0)
    assert values["no_action"] == pytest.approx(0.477585, abs=1e-5)


def test_a_weekend_at_stake_is_rebooked_with_a_voucher_and_a_kind_word() -> None:
    values = truth(**CHEAP_FLIGHT)
    assert best(**CHEAP_FLIGHT) == "care_package"
    assert values["rebook_next"] > values["offer_options"]
    hurt = truth(**CHEAP_FLIGHT | {"sentiment": -0.8})
    assert hurt["care_package"] - hurt["rebook_next"] > values["care_package"] - values["rebook_next"] + 0.1


def test_on_business_the_next_seat_is_enough() -> None:
    assert best(**CHEAP_FLIGHT | {"trip": "business"}) == "rebook_next"


def test_who_wants_to_know_and_has_a_flexible_fare_chooses_for_themselves() -> None:
    assert best(**CHEAP_FLIGHT | {"trip": "leisure", "fare": "flex", "style": "detailed"}) == "offer_options"


def test_a_bed_where_nothing_goes_before_the_morning() -> None:
    assert best(cancelled=True, hours_to_next=14, local_time="2026-03-06T21:00:00") == "hotel_night"


def test_a_large_party_that_does_not_fit_needs_a_person_of_whom_there_are_fewer_at_night() -> None:
    party: dict[str, Value] = {"cancelled": True, "travellers": 5, "seats_next": 1}
    day, night = (truth(**party, local_time=f"2026-03-06T{t}:00:00") for t in ("15", "03"))
    assert max(day, key=lambda action: day[action]) == "hand_over"
    assert night["hand_over"] < day["hand_over"] - 0.1


def test_who_waits_needs_to_know_later_a_meal_and_a_kind_word_where_it_hurts() -> None:
    assert best(delay_minutes=60, sentiment=0.2, device="mobile") == "status_update"
    assert best(delay_minutes=200) == "meal_voucher"
    assert best(delay_minutes=90, sentiment=-0.7) == "kind_word"


def test_a_kind_word_instead_of_a_journey_makes_it_worse() -> None:
    values = truth(**CHEAP_FLIGHT | {"sentiment": -0.8})
    assert values["kind_word"] < values["no_action"] - 0.05


def test_a_few_minutes_are_best_left_alone() -> None:
    assert best(delay_minutes=10, sentiment=0.1, device="desktop") == "no_action"


def test_a_connection_is_missed_where_the_delay_is_longer_than_the_slack() -> None:
    held, missed = (truth(delay_minutes=90, connection_minutes=m, seats_next=9) for m in (180, 40))
    assert missed["no_action"] < held["no_action"] - 0.4
    assert missed["rebook_next"] > missed["no_action"] + 0.1
    assert held["rebook_next"] < held["no_action"] - 0.1


def test_rates_without_a_word_and_with_the_right_one() -> None:
    """55 % satisfied, a quarter calls, one in ten complains; the right answer saves half of the calls."""
    env = BatchMomentEnv(played.PACKS["travel"], "disruption")
    batch = env.sample(20_000, np.random.default_rng(0))
    chances = env.probabilities(batch.contexts)
    satisfied, called, complained = chances[:, 0].mean(axis=0)
    assert (satisfied, called, complained) == pytest.approx((0.55, 0.26, 0.1), abs=0.03)
    right = np.where(batch.mask, env.expected_rewards(batch.contexts), -np.inf).argmax(axis=1)
    assert chances[np.arange(20_000), right, 1].mean() == pytest.approx(called / 2.0, abs=0.02)
