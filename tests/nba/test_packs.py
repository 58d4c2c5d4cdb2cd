"""The packs that ship with the server: sound, complete, and with the lines that hold whatever is learned."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nba.facts import code_facts
from nba.guardrails import action_mask
from nba.moment_plan import plan_moment, plan_pack
from nba.pack_file import built_in_packs, load_pack
from nba.types import Value

PACKS = {name: load_pack(name) for name in built_in_packs()}
EVERY_PACK = pytest.mark.parametrize("name", sorted(PACKS))


def eligible(pack: str, moment: str, **facts: Value) -> set[str]:
    """What survives the pack's own conditions for a customer of whom these facts are known."""
    plan = plan_moment(PACKS[pack], moment)
    mask = action_mask(plan.stages, code_facts(plan.encoder.fields, [facts]), len(plan.action_ids))
    return {plan.action_ids[column] for column in np.flatnonzero(mask[0])}


def test_the_packs_of_the_industries_are_built_in() -> None:
    assert {"support", "retail", "travel", "banking", "health", "media"} <= set(PACKS)


@EVERY_PACK
def test_a_pack_can_be_planned_and_has_a_digest_of_its_own(name: str) -> None:
    assert list(plan_pack(PACKS[name])) == list(PACKS[name].moments)
    assert re.fullmatch("[0-9a-f]{64}", PACKS[name].digest)
    assert [pack.digest for pack in PACKS.values()].count(PACKS[name].digest) == 1


@EVERY_PACK
def test_one_outcome_closes_the_window_of_each_moment(name: str) -> None:
    pack = PACKS[name]
    for moment in pack.moments.values():
        assert sum(pack.outcomes[outcome].closes_window for outcome in moment.reward) == 1


@EVERY_PACK
def test_every_action_names_what_it_is_meant_to_raise_and_what_it_must_not_hurt(name: str) -> None:
    for action_id, action in PACKS[name].actions.items():
        if action_id != "no_action":
            assert action.metric, action_id
            assert action.guardrail_metric, action_id


@EVERY_PACK
def test_every_message_is_there_in_every_language(name: str) -> None:
    for action in PACKS[name].actions.values():
        for messages in action.treatments.values():
            assert set(messages) == set(PACKS[name].languages)


@EVERY_PACK
def test_every_moment_has_rules_and_every_stored_fact_an_age_after_which_it_is_missing(name: str) -> None:
    assert all(moment.rules for moment in PACKS[name].moments.values())
    assert all(field.max_age for field in PACKS[name].fields.values() if field.feature)


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("retail", "abandoned_cart"),
        ("travel", "disruption"),
        ("banking", "balance_check"),
        ("health", "symptom_search"),
        ("media", "evening_pick"),
    ],
)
def test_every_action_of_an_industry_has_several_phrasings(name: str, moment: str) -> None:
    pack = PACKS[name]
    assert all(len(pack.action(action_id).treatments) >= 2 for action_id in pack.moment(moment).actions)


def test_a_discount_is_never_given_above_the_margin() -> None:
    cart: dict[str, Value] = {"minutes_idle": 120, "basket_value": 80}
    assert "discount_10" in eligible("retail", "abandoned_cart", **cart, margin_rate=0.2)
    assert "discount_10" not in eligible("retail", "abandoned_cart", **cart, margin_rate=0.19)
    assert "discount_10" not in eligible("retail", "abandoned_cart", **cart)


def test_nobody_is_sold_anything_while_a_case_is_open() -> None:
    cart: dict[str, Value] = {"minutes_idle": 120, "basket_value": 80, "margin_rate": 0.4, "push_enabled": True}
    selling = {"remind_push", "remind_mail", "discount_10"}
    assert selling <= eligible("retail", "abandoned_cart", **cart, open_cases=0)
    assert not selling & eligible("retail", "abandoned_cart", **cart, open_cases=1)


def test_a_store_that_is_closed_puts_nothing_aside() -> None:
    saturday, sunday = "2026-03-07T{}:00:00", "2026-03-08T{}:00:00"
    for time, there in ((saturday.format("07"), True), (saturday.format("20"), False), (sunday.format("12"), False)):
        assert ("reserve_nearby" in eligible("retail", "abandoned_cart", store_km=1, local_time=time)) is there


def test_words_and_meals_are_no_substitute_for_a_journey() -> None:
    assert "kind_word" in eligible("travel", "disruption", delay_minutes=90, sentiment=-0.5)
    assert "kind_word" not in eligible("travel", "disruption", cancelled=True, sentiment=-0.5)
    assert "meal_voucher" not in eligible("travel", "disruption", cancelled=True, delay_minutes=200)


def test_nobody_is_rebooked_onto_a_full_departure_and_no_party_is_split() -> None:
    rebooked = {"rebook_next", "care_package"}
    for seats, travellers, fits in ((1, 1, True), (0, 1, False), (None, 1, False), (3, 4, False), (4, 4, True)):
        open_to = eligible("travel", "disruption", cancelled=True, seats_next=seats, travellers=travellers)
        assert (rebooked <= open_to) is fits


@pytest.mark.parametrize("unsuitable", [{"debt_ratio": 0.4}, {"debt_ratio": None}, {"overdrafts_90d": 3.0}])
def test_no_credit_for_the_over_indebted_nor_for_whose_debts_are_not_known(unsuitable: dict[str, Value]) -> None:
    suitable: dict[str, Value] = {"loan_viewed": True, "debt_ratio": 0.2, "income_monthly": 2_500}
    credit = {"offer_loan", "check_eligibility"}
    assert credit <= eligible("banking", "balance_check", **suitable)
    assert not credit & eligible("banking", "balance_check", **suitable | unsuitable)


@pytest.mark.parametrize(
    ("pack", "moment", "action", "facts"),
    [
        ("retail", "abandoned_cart", "remind_push", {"push_enabled": True, "minutes_idle": 60}),
        ("travel", "disruption", "status_update", {"push_enabled": True, "delay_minutes": 60}),
        ("banking", "balance_check", "set_alert", {"push_enabled": True, "balance": 100}),
        ("media", "evening_pick", "push_premiere", {"push_enabled": True, "new_titles": 2}),
    ],
)
def test_no_notification_wakes_a_customer(pack: str, moment: str, action: str, facts: dict[str, Value]) -> None:
    assert action in eligible(pack, moment, **facts, local_time="2026-03-04T12:00:00")
    assert action not in eligible(pack, moment, **facts, local_time="2026-03-04T03:00:00")


ILL: dict[str, Value] = {
    "red_flag": False,
    "severity": 5,
    "duration_days": 3,
    "worry": 0.5,
    "understanding": 0.6,
    "hours_to_slot": 20,
    "nurse_wait_min": 10,
    "push_enabled": True,
    "local_time": "2026-03-04T10:00:00",
}


def test_a_red_flag_leaves_a_person_and_nothing_else() -> None:
    assert eligible("health", "symptom_search", **ILL) == set(PACKS["health"].moment("symptom_search").action_ids)
    for flag in (True, None):  # None: the check did not run
        for wait in (0, 120, None):
            red = ILL | {"red_flag": flag, "nurse_wait_min": wait}
            assert eligible("health", "symptom_search", **red) == {"hand_over", "no_action"}


def test_the_first_rule_of_health_hands_a_red_flag_over() -> None:
    first = PACKS["health"].moment("symptom_search").rules[0]
    assert (first.when, first.action) == ("red_flag or missing(red_flag)", "hand_over")
    assert PACKS["health"].fields["red_flag"].default is None
    assert PACKS["health"].fields["red_flag"].purpose is None


def test_the_severe_and_the_frail_are_looked_at_not_talked_to() -> None:
    soothing = {"self_care_steps", "reassure", "check_in_4h"}
    for severity, patient, soothed in (
        (6, "adult", True),
        (7, "adult", False),
        (3, "child", True),
        (4, "senior", False),
    ):
        open_to = eligible("health", "symptom_search", **ILL | {"severity": severity, "patient": patient})
        assert (soothing <= open_to) is soothed
        assert soothed or not soothing & open_to


def test_a_queue_is_no_help_to_who_is_in_no_danger() -> None:
    for wait, there in ((44, True), (45, False), (None, True)):
        assert ("hand_over" in eligible("health", "symptom_search", **ILL | {"nurse_wait_min": wait})) is there


def test_a_question_that_would_come_four_hours_later_at_night_is_not_asked() -> None:
    for hour, asked in (("02", False), ("03", True), ("17", True), ("18", False)):
        there = eligible("health", "symptom_search", **ILL | {"local_time": f"2026-03-04T{hour}:00:00"})
        assert ("check_in_4h" in there) is asked


def test_health_sells_nothing_and_knows_nothing_of_what_is_bought() -> None:
    pack = PACKS["health"]
    assert not [
        f.feature for f in pack.fields.values() if f.feature and ("purchase" in f.feature or "discount" in f.feature)
    ]
    assert pack.fields["severity"].purpose == pack.fields["duration_days"].purpose == "health_data"


def test_four_of_one_genre_in_a_row_are_enough() -> None:
    for streak, there in ((3, True), (4, False)):
        assert ("familiar_pick" in eligible("media", "evening_pick", genre_streak=streak)) is there


def test_a_child_is_helped_to_stop_and_its_mood_is_nobodys_signal() -> None:
    child: dict[str, Value] = {
        "profile": "kids",
        "mood": -0.5,
        "push_enabled": True,
        "new_titles": 3,
        "genre_streak": 1,
    }
    by_day = eligible("media", "evening_pick", **child, local_time="2026-03-04T16:00:00")
    late = eligible("media", "evening_pick", **child, local_time="2026-03-04T20:00:00", days_since_episode=1)
    assert by_day == {"no_action", "familiar_pick", "new_genre", "wind_down"}
    assert late == {"no_action", "wind_down"}


def test_after_four_hours_nobody_is_kept_awake() -> None:
    keeping = {"continue_series", "push_premiere", "offer_three"}
    evening: dict[str, Value] = {"days_since_episode": 1, "browsing_minutes": 5, "push_enabled": True, "new_titles": 2}
    assert keeping <= eligible("media", "evening_pick", **evening, watched_minutes=239)
    assert not keeping & eligible("media", "evening_pick", **evening, watched_minutes=240)


def test_a_mood_that_is_not_known_is_not_met() -> None:
    assert PACKS["media"].fields["mood"].purpose == "emotion"
    assert "mood_pick" in eligible("media", "evening_pick", mood=-0.5)
    assert "mood_pick" not in eligible("media", "evening_pick")
