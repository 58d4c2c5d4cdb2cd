"""What makes a conversation go well, and its chances by hand."""

from __future__ import annotations

import pytest

from tests.envs.sessions.solved import Solved

TALK = Solved.of("support", "service_conversation")


def test_an_answer_that_is_understood_by_hand() -> None:
    """U 3, calm, several steps left, average customer, answer.

    progressed -3.1 + 4.2 = 1.1, e^1.1 = 3.00417; misunderstood 1.1 - 3.6 = -2.5, 0.082085; clarified and soothed -4,
    0.018316 each; left -5.6, 0.003698; nothing 1; sum 4.126585: 0.728, 0.0199 and 0.2423.
    """
    state = {"understanding": 3, "task_steps_left": 3}
    assert TALK.chance("progressed", "answer_directly", **state) == pytest.approx(3.004166 / 4.126585, abs=1e-5)
    assert TALK.chance("misunderstood", "answer_directly", **state) == pytest.approx(0.082085 / 4.126585, abs=1e-5)
    assert TALK.chance("resolved", "answer_directly", **state) == 0.0


def test_the_last_step_resolves_instead() -> None:
    assert TALK.chance("resolved", "answer_directly", understanding=3) > 0.7
    assert TALK.chance("progressed", "answer_directly", understanding=3) == 0.0


def test_doubt_is_cleared_up_before_it_is_answered() -> None:
    for understanding in (0, 2):
        state = {"understanding": understanding, "task_steps_left": 3, "agents_free": 1}
        assert TALK.best(**state) == "clarify_two_way"
    assert TALK.best(understanding=3, task_steps_left=3) == "answer_directly"


def test_looking_one_step_ahead_answers_or_gives_away() -> None:
    assert TALK.best(ahead=False, understanding=2, task_steps_left=3) == "answer_directly"
    assert TALK.best(ahead=False, understanding=0, task_steps_left=3, agents_free=1) == "hand_over"


def test_the_angry_are_soothed_first_but_not_three_times() -> None:
    angry = {"understanding": 1, "sentiment": 3, "task_steps_left": 2}
    assert TALK.best(**angry) == "empathetic_reply_2"
    assert TALK.best(**angry, acknowledgements=2) == "clarify_two_way"


def test_a_hopeless_case_is_handed_over_while_somebody_is_free() -> None:
    hopeless = {"understanding": 0, "sentiment": 4, "reformulations": 2, "task_steps_left": 4}
    assert TALK.best(step=29, agents_free=1, **hopeless) == "hand_over"
    assert TALK.best(step=29, agents_free=0, **hopeless) != "hand_over"


def test_the_patient_stay_longer() -> None:
    leaving = [
        TALK.chance("left", "no_action", traits=(patience, 0.0), sentiment=4, task_steps_left=3)
        for patience in (-1.0, 0.0, 1.0)
    ]
    assert leaving[0] > 1.5 * leaving[1] > 2.0 * leaving[2]
