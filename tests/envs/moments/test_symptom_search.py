"""A symptom is searched for: the emergency, the ill, the worried and the well."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from nba.types import Value
from tests.envs import played

truth, best = (partial(of, "health", "symptom_search") for of in (played.truth, played.best))

WELL: dict[str, Value] = {
    "red_flag": False,
    "severity": 1,
    "duration_days": 0,
    "worry": 0.1,
    "understanding": 0.9,
    "searches_today": 0,
}


def test_silence_by_hand() -> None:
    """Severity 3 since today: acute 0, lasting 0, need 0; worry 0.5, never searched: afraid 0.5; unclear 0.25.

    well 2 - 0.6 - 0.2 = 1.2, P 0.768525; again -1.6 + 0.9 + 0.2 = -0.5, P 0.377541; worsened -4.6, P 0.009952;
    0.768525 - 0.3 * 0.377541 - 1.5 * 0.009952 = 0.640335.
    """
    values = truth(**WELL | {"severity": 3, "worry": 0.5, "understanding": 0.75})
    assert values["no_action"] == pytest.approx(0.640335, abs=1e-5)


def test_a_person_at_a_red_flag_by_hand() -> None:
    """As above, but with a red flag: help 1.2 * 0 - 0.8 + 6.5 - 1.2 * 0.5 = 5.1.

    well 1.2 - 4 + 5.1 = 2.3, P 0.908877; again -0.5 - 3.06 = -3.56, P 0.027652; worsened -4.6 + 4.8 - 2.55 = -2.35,
    P 0.087066; 0.908877 - 0.3 * 0.027652 - 1.5 * 0.087066 - 0.25 = 0.519982.
    """
    values = truth(**WELL | {"red_flag": True, "severity": 3, "worry": 0.5, "understanding": 0.75})
    assert values["hand_over"] == pytest.approx(0.519982, abs=1e-5)


@pytest.mark.parametrize("severity", [0, 5, 10])
@pytest.mark.parametrize("worry", [0.0, 1.0])
@pytest.mark.parametrize("wait", [0, 120])
def test_silence_at_a_red_flag_harms_whoever_it_is(severity: int, worry: float, wait: int) -> None:
    values = truth(red_flag=True, severity=severity, worry=worry, nurse_wait_min=wait)
    assert values["no_action"] < -0.7
    assert values["hand_over"] > 0.4
    assert max(values, key=lambda action: values[action]) == "hand_over"


def test_the_oracle_hands_over_at_every_red_flag_and_where_nobody_checked() -> None:
    env = BatchMomentEnv(played.PACKS["health"], "symptom_search")
    batch = env.sample(20_000, np.random.default_rng(0))
    flag = batch.facts[:, list(env.plan.encoder.fields).index("red_flag")]
    right = np.where(batch.mask, env.expected_rewards(batch.contexts), -np.inf).argmax(axis=1)
    assert 0.02 < (flag == 1.0).mean() < 0.04
    assert (right[flag != 0.0] == env.plan.action_ids.index("hand_over")).all()  # nan, not checked, is not 0 either


def test_who_is_well_and_calm_is_best_left_alone() -> None:
    assert best(**WELL) == "no_action"
    assert truth(**WELL)["hand_over"] < truth(**WELL)["no_action"] - 0.5


def test_questions_help_where_it_is_doubtful_what_is_meant_only() -> None:
    assert best(**WELL | {"understanding": 0.3}) == "ask_questions"
    assert truth(**WELL)["ask_questions"] < truth(**WELL)["no_action"]


def test_the_brief_are_told_what_to_do_and_the_detailed_why() -> None:
    assert best(**WELL, style="brief", device="mobile") == "self_care_steps"
    assert best(**WELL, style="detailed") == "explain_symptom"


def test_to_read_too_much_frightens_the_frightened() -> None:
    afraid = WELL | {"worry": 0.9, "searches_today": 3}
    assert best(**afraid, style="detailed") == "reassure"
    assert truth(**afraid)["explain_symptom"] < truth(**afraid)["no_action"]


def test_the_severe_need_a_person_where_one_is_free_and_else_a_doctor_on_the_screen() -> None:
    severe = WELL | {"severity": 8, "worry": 0.5, "device": "mobile"}
    assert best(**severe, nurse_wait_min=2) == "hand_over"
    assert best(**severe, nurse_wait_min=100) == "offer_video"


def test_a_kind_word_to_the_severe_makes_it_worse() -> None:
    values = truth(**WELL | {"severity": 9, "worry": 0.6})
    assert values["reassure"] < values["no_action"] - 0.1


def test_a_child_that_is_as_ill_needs_to_be_seen_sooner() -> None:
    ill = WELL | {"severity": 5, "duration_days": 2, "device": "mobile", "nurse_wait_min": 30}
    adult, child = (truth(**ill, patient=patient) for patient in ("adult", "child"))
    assert child["no_action"] < adult["no_action"] - 0.15
    assert best(**ill, patient="child") == "offer_video"


def test_what_lasts_calls_for_an_appointment_that_is_near() -> None:
    lasting = WELL | {"severity": 4, "duration_days": 40, "worry": 0.3, "tenure_months": 60}
    assert best(**lasting, hours_to_slot=6) == "book_appointment"
    assert (
        truth(**lasting, hours_to_slot=6)["book_appointment"] > truth(**lasting, hours_to_slot=200)["book_appointment"]
    )


def test_neither_well_nor_ill_is_asked_again_later() -> None:
    assert best(**WELL | {"severity": 4, "duration_days": 3, "worry": 0.3}) == "check_in_4h"


def test_rates_without_a_word_and_with_the_right_one() -> None:
    """Half are well cared for, two in five search again, one in twenty gets worse; 75 %, 25 % and 2 % at best."""
    env = BatchMomentEnv(played.PACKS["health"], "symptom_search")
    batch = env.sample(20_000, np.random.default_rng(0))
    chances = env.probabilities(batch.contexts)
    assert chances[:, 0].mean(axis=0) == pytest.approx([0.52, 0.38, 0.05], abs=0.02)
    right = np.where(batch.mask, env.expected_rewards(batch.contexts), -np.inf).argmax(axis=1)
    assert chances[np.arange(20_000), right].mean(axis=0) == pytest.approx([0.75, 0.25, 0.02], abs=0.02)
