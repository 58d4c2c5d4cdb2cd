"""The truth: its equations by hand, its outcomes by frequency, and what makes the moments hard."""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np
import pytest

from envs.response import Response
from nba.errors import PackError, UnknownMomentError
from nba.facts import code_facts
from nba.moment_plan import plan_moment
from tests.envs import played

PACK = played.PACKS["support"]
truth, best = partial(played.truth, "support"), partial(played.best, "support")


def test_silence_after_a_closed_case_by_hand() -> None:
    """survey 1 / (1 + e^4.5) = 0.010987, annoyed 1 / (1 + e^6) = 0.002473: 0.010987 - 0.7 * 0.002473 = 0.009256."""
    assert truth("followup_whisper")["no_action"] == pytest.approx(0.009256, abs=1e-6)


def test_silence_on_the_path_by_hand() -> None:
    """4 steps: long 0.4; 14 s: stuck 0.5; flow 0.3; base 0.4 - 0.64 - 0.6 = -0.84; completed -0.84 + 0.48 = -0.36.

    P = 0.410960; abandoned -1 + 0.9 * 0.36 = -0.676, P = 0.337162; 0.410960 - 0.4 * 0.337162 = 0.276095.
    """
    value = truth("personalized_path", task_steps_left=4, hesitation_s=14)["no_action"]
    assert value == pytest.approx(0.276095, abs=1e-5)


def test_the_cost_of_an_action_is_taken_off() -> None:
    """Neutral reply, nothing known: cross 0.25, wanted 0.2375 (1 contact), miss 3 * 0.2375^2 = 0.169219, smooth 0.

    resolved 1.1 - 0.169219 = 0.930781, P 0.717240; repeat -1 - 0.651547, P 0.160899; escalated
    -2.2 - 0.465391 + 0.35 = -2.315391, P 0.089864; 0.717240 - 0.5 * 0.160899 - 0.8 * 0.089864 - 0.01 = 0.554899.
    """
    assert truth("tone_tuner")["neutral_reply"] == pytest.approx(0.554899, abs=1e-5)


@pytest.mark.parametrize(("pack", "moment"), played.PLAYED)
def test_customers_of_whom_nothing_is_known_still_have_a_truth(pack: str, moment: str) -> None:
    assert np.isfinite(list(played.truth(pack, moment).values())).all()


def test_empathy_has_to_match_the_signal() -> None:
    assert best("tone_tuner", sentiment=-0.95, contacts_30d=0) == "empathetic_reply_3"
    assert best("tone_tuner", sentiment=-0.45, contacts_30d=0) == "empathetic_reply_1"
    mild = truth("tone_tuner", sentiment=-0.3)
    assert mild["empathetic_reply_3"] < mild["neutral_reply"] < mild["warm_reply"]


def test_nothing_wrong_is_best_left_alone() -> None:
    assert best("tone_tuner", sentiment=0.5, understanding=0.9) == "no_action"
    assert best("personalized_path", task_steps_left=1, hesitation_s=2) == "no_action"
    assert best("proactive_nudge", minutes_late=35, order_value=40) == "no_action"
    assert best("instant_clarifier", understanding=0.6, intent="know", channel="app", sentiment=0.4) == "no_action"


def test_clarifying_helps_where_understanding_is_doubtful_only() -> None:
    assert best("instant_clarifier", understanding=0.5, device="desktop") == "clarify_two_way"
    assert best("instant_clarifier", understanding=0.95, device="desktop") == "answer_directly"


def test_a_voucher_is_wasted_on_a_small_delay_and_right_for_a_big_one() -> None:
    small, big = (
        truth("proactive_nudge", minutes_late=late, order_value=200, local_time="2026-03-02T15:00:00")
        for late in (60, 2_400)
    )
    assert small["mail_voucher"] < small["no_action"] - 0.3
    assert max(big, key=lambda action: big[action]) == "mail_voucher"


def test_a_push_at_night_annoys() -> None:
    night, day = (
        truth("proactive_nudge", minutes_late=900, push_enabled=True, device="mobile", local_time=f"2026-03-02T{t}")
        for t in ("03:00:00", "15:00:00")
    )
    assert night["push_now"] < night["push_later"]
    assert day["push_now"] > day["push_later"]


def test_ask_later_when_the_case_was_closed_a_minute_ago() -> None:
    fresh = truth("followup_whisper", hours_since_resolved=0.1, sentiment=0.2)
    assert max(fresh, key=lambda action: fresh[action]) == "ask_in_24h"
    assert fresh["ask_now_short"] < fresh["ask_in_4h"]


def test_what_the_feature_store_knows_changes_which_guidance_is_best() -> None:
    slow = {"task_steps_left": 6, "hesitation_s": 11}
    assert best("personalized_path", **slow, intent="buy", purchases_90d=10, contacts_30d=0) == "guide_by_purchases"
    assert best("personalized_path", **slow, intent="do", purchases_90d=0, contacts_30d=6) == "guide_by_support"


def test_outcomes_come_as_often_as_their_probabilities_say() -> None:
    """200,000 draws of one context: within 4 standard errors, for every action and outcome."""
    response = Response.of(plan_moment(PACK, "tone_tuner"))
    encoder = response.plan.encoder
    chances = response.probabilities(encoder.encode(code_facts(encoder.fields, [{"sentiment": -0.6}])))[0]
    quality = np.random.default_rng(0).random((200_000, 1))
    rates = response.happened(chances[None], quality).mean(axis=0)
    assert (np.abs(rates - chances) < 4.0 * np.sqrt(chances * (1.0 - chances) / 200_000)).all()


def test_good_and_bad_outcomes_exclude_each_other_where_chances_allow() -> None:
    """P 0.6 and 0.4: u < 0.6 or u > 0.6, never both. P 0.7 and 0.4: both for u in (0.6, 0.7)."""
    response = Response.of(plan_moment(PACK, "personalized_path"))
    quality = np.linspace(0.0005, 0.9995, 1_000)
    assert response.outcomes == ("completed", "abandoned")
    exact = response.happened(np.array([[0.6, 0.4]]), quality)
    assert exact.sum(axis=1).max() == 1.0
    both = response.happened(np.array([[0.7, 0.4]]), quality).sum(axis=1) == 2.0
    assert quality[both].min() > 0.6
    assert both.sum() == 100


def test_an_action_without_an_equation_is_refused_by_name() -> None:
    moment = msgspec.structs.replace(PACK.moments["tone_tuner"], actions=("show_options",), rules=())
    pack = msgspec.structs.replace(PACK, moments={"tone_tuner": moment})
    with pytest.raises(PackError, match="'show_options'"):
        Response.of(plan_moment(pack, "tone_tuner"))


def test_a_pack_with_fewer_actions_keeps_the_truth_of_those_it_has() -> None:
    moment = msgspec.structs.replace(PACK.moments["tone_tuner"], actions=("formal_reply",), rules=())
    pack = msgspec.structs.replace(PACK, moments={"tone_tuner": moment})
    response = Response.of(plan_moment(pack, "tone_tuner"))
    encoder = response.plan.encoder
    expected = response.expected_rewards(encoder.encode(code_facts(encoder.fields, [{"sentiment": -0.6}])))[0]
    whole = truth("tone_tuner", sentiment=-0.6)
    assert expected.tolist() == pytest.approx([whole["no_action"], whole["formal_reply"]])


def test_a_moment_without_equations_is_refused() -> None:
    pack = msgspec.structs.replace(PACK, moments={"tea_time": PACK.moments["tone_tuner"]})
    with pytest.raises(UnknownMomentError, match="tea_time"):
        Response.of(plan_moment(pack, "tea_time"))
