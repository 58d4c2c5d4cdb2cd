"""A message lifts today, tires tomorrow, and may be the last."""

from __future__ import annotations

import pytest

from tests.envs.sessions.solved import Solved

MONTH = Solved.of("media", "month_of_contacts")
REACHABLE = {"may_contact": 1}


def test_a_day_without_a_message_by_hand() -> None:
    """E 2: watched -2.2 + 1.1 = -1.1, e^-1.1 = 0.332871; cancelled -5 - 1.2 = -6.2, 0.002029; 0.332871 / 1.334900."""
    assert MONTH.chance("watched", "no_action", engagement=2) == pytest.approx(0.24936, abs=1e-5)
    assert MONTH.chance("withdrew", "no_action", engagement=2) == 0.0


def test_the_rested_are_written_to_and_the_tired_left_alone() -> None:
    assert MONTH.best(engagement=2, **REACHABLE) == "push_favourites"
    assert MONTH.best(engagement=2, contact_pressure=3, **REACHABLE) == "no_action"


def test_more_of_the_same_gives_way_to_something_new() -> None:
    assert MONTH.best(engagement=2, sameness=2, **REACHABLE) == "push_discovery"


def test_a_premiere_is_worth_an_invitation_while_it_is_on() -> None:
    assert MONTH.best(engagement=2, premiere_on=1, **REACHABLE) == "premiere_invite"


def test_who_withdrew_consent_is_never_written_to() -> None:
    assert MONTH.best(engagement=2, premiere_on=1, may_contact=0) == "no_action"
    assert MONTH.law.mask[MONTH.state(engagement=2, premiere_on=1)].tolist() == [True, False, False, False, False]


def test_pressure_lowers_what_a_message_adds_and_raises_what_it_risks() -> None:
    rested, tired = ({"engagement": 2, "contact_pressure": level, **REACHABLE} for level in (0, 4))
    assert MONTH.chance("watched", "push_favourites", **tired) < MONTH.chance("watched", "no_action", **tired)
    assert MONTH.chance("watched", "push_favourites", **rested) > 1.8 * MONTH.chance("watched", "no_action", **rested)
    assert MONTH.chance("withdrew", "push_favourites", **tired) > 10.0 * MONTH.chance(
        "withdrew", "push_favourites", **rested
    )


def test_the_easily_annoyed_withdraw_sooner() -> None:
    calm, touchy = (
        MONTH.chance(
            "withdrew", "push_favourites", traits=(annoyance, 0.0), engagement=2, contact_pressure=2, **REACHABLE
        )
        for annoyance in (-1.0, 1.0)
    )
    assert touchy > 2.0 * calm
