"""Where customers live, what they speak and what they agree to."""

from __future__ import annotations

import numpy as np
import pytest

from envs.circumstances import CONSENT_SHARE, COUNTRIES, PURPOSES, country
from envs.draws import Draw
from envs.people import Population
from nba.pack_file import load_pack

MANY = Population(load_pack("support")).people(np.arange(40_000))
HOME = country(Draw(MANY.customers, 0, {}))


@pytest.mark.parametrize(("purpose", "share"), list(zip(PURPOSES, CONSENT_SHARE, strict=True)))
def test_consent_is_given_as_often_as_stated(purpose: str, share: float) -> None:
    """40,000 customers: 4 standard errors are at most 4 sqrt(0.1875 / 40,000) = 0.0087."""
    assert 1.0 - MANY.withholds(purpose).mean() == pytest.approx(share, abs=0.0087)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_the_loyal_agree_and_the_easily_annoyed_refuse_neither_always(purpose: str) -> None:
    agrees = ~MANY.withholds(purpose)
    assert 0.2 < np.corrcoef(agrees, MANY.trait("loyalty"))[0, 1] < 0.9
    assert -0.9 < np.corrcoef(agrees, MANY.trait("annoyance"))[0, 1] < -0.2


def test_who_refuses_one_purpose_is_likelier_to_refuse_another() -> None:
    """By itself one in four withholds proactive contact."""
    others = MANY.withholds("personalization")
    assert MANY.withholds("proactive_contact")[others].mean() > 0.5


def test_nobody_withholds_a_purpose_they_were_never_asked_about() -> None:
    assert not MANY.withholds("location").any()


def test_clocks_are_those_of_the_country() -> None:
    zones = {name: set(MANY.time_zone[i == HOME].tolist()) for i, name in enumerate(COUNTRIES)}
    assert zones == {"DE": {1}, "AT": {1}, "CH": {1}, "GB": {0}, "US": {-5, -6, -7, -8}}


def test_half_of_the_us_lives_in_the_east() -> None:
    us = MANY.time_zone[COUNTRIES.index("US") == HOME]
    assert (us == -5).mean() == pytest.approx(0.48, abs=0.025)
    assert (us == -8).mean() == pytest.approx(0.16, abs=0.02)


def test_the_language_follows_the_country() -> None:
    """0.45 * 0.95 + 0.1 * 0.97 + 0.1 * 0.7 + 0.15 * 0.03 + 0.2 * 0.04 = 0.607."""
    assert MANY.german.mean() == pytest.approx(0.607, abs=0.01)
