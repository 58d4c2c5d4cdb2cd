from __future__ import annotations

import numpy as np
import pytest

from envs.calibration.population import PopulationFit, fit_population, statistics
from envs.calibration.rounds import OutcomeRounds
from envs.people import TRAITS
from nba.facts import Field
from nba.pack import Pack
from nba.pack_file import load_pack
from tests.envs.calibration.made import closed_rounds

MOMENTS = ("tone_tuner", "proactive_nudge")
SHIFTS = {"skill": -0.5, "loyalty": 0.4, "push": 0.3, "patience": 0.3}


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack("support")


def logged(pack: Pack, seed: int, n: int = 3_000) -> dict[str, OutcomeRounds]:
    """Each customer in about two rounds of each moment, the same customers in both."""
    return {moment: closed_rounds(pack, moment, n, trait_means=SHIFTS, seed=seed) for moment in MOMENTS}


@pytest.fixture(scope="module")
def fit(pack: Pack) -> PopulationFit:
    return fit_population(pack, logged(pack, 1), customers=4_000)


def test_statistics_of_each_type_of_field_by_hand() -> None:
    """A number, a boolean, two of three values, 06:00 as sine 1 and cosine 0; missing stays missing."""
    fields = {
        "mood": Field(type="number"),
        "push": Field(type="boolean"),
        "device": Field(type="category", values=("mobile", "desktop", "tablet")),
        "at": Field(type="time"),
    }
    facts = np.array([[0.5, 1.0, 1.0, 21_600.0], [np.nan] * 4])
    names, values = statistics(fields, facts)
    hour = ["at (sine of the hour)", "at (cosine of the hour)"]
    assert names == ["mood", "push", "device = mobile", "device = desktop", *hour]
    np.testing.assert_allclose(values[0], [0.5, 1.0, 0.0, 1.0, 1.0, 0.0], atol=1e-12)
    assert np.isnan(values[1]).all()


def test_known_shifts_are_found_within_their_errors(fit: PopulationFit) -> None:
    told = [t for t in fit.traits if t.identified]
    assert {"skill", "loyalty", "push", "patience", "chronotype"} <= fit.trait_means.keys()
    assert max(abs(t.value - SHIFTS.get(t.trait, 0.0)) / t.standard_error for t in told) < 3.5
    assert fit.trait_means["skill"] == pytest.approx(-0.5, abs=0.2)


def test_a_trait_that_shows_in_no_field_is_left_at_nought_and_named(fit: PopulationFit) -> None:
    warmth = next(t for t in fit.traits if t.trait == "warmth")
    assert "no field answers to it" in warmth.why
    assert (warmth.value, "warmth" in fit.trait_means) == (0.0, False)


def test_field_means_come_closer(fit: PopulationFit) -> None:
    before, after = (sum(m.misses(getattr(m, when)) for m in fit.means) for when in ("before", "after"))
    assert before >= 8
    assert after <= 4


def test_missing_shares_are_reported_beside_each_other(fit: PopulationFit) -> None:
    nps = next(m for m in fit.missing if (m.moment, m.name) == ("tone_tuner", "nps"))
    assert nps.logged == pytest.approx(nps.simulated, abs=0.08)
    assert 0.4 < nps.logged < 0.7


def test_the_same_log_and_seed_give_the_same_fit(pack: Pack, fit: PopulationFit) -> None:
    assert fit_population(pack, logged(pack, 1), customers=4_000).trait_means == fit.trait_means


def test_rounds_of_the_same_customers_are_no_new_customers(pack: Pack, fit: PopulationFit) -> None:
    """Every round four times over: the means stay, and so do their errors."""
    rounds = {m: part.take(np.tile(np.arange(len(part)), 4)) for m, part in logged(pack, 1).items()}
    again = {m.name: m.standard_error for m in fit_population(pack, rounds, customers=4_000).means}
    assert again["nps"] == pytest.approx(next(m for m in fit.means if m.name == "nps").standard_error, rel=1e-6)


@pytest.mark.parametrize("n", [0, 20])
def test_a_handful_of_customers_tell_nothing(pack: Pack, n: int) -> None:
    fit = fit_population(pack, {"tone_tuner": closed_rounds(pack, "tone_tuner", 20).take(np.arange(n))})
    assert fit.trait_means == {}
    assert all("fewer than 30" in t.why for t in fit.traits)
    assert [t.trait for t in fit.traits] == list(TRAITS)


def test_facts_that_are_all_missing_tell_nothing(pack: Pack) -> None:
    rounds = closed_rounds(pack, "tone_tuner", 200)
    rounds.facts[:] = np.nan
    fit = fit_population(pack, {"tone_tuner": rounds})
    assert fit.trait_means == {}
    assert fit.traits[0].why == "no field varies among enough customers"


@pytest.mark.slow
def test_intervals_hold_the_truth_19_times_of_20(pack: Pack) -> None:
    """20 logs by 7 traits: of 140 at 95 %, 7 +- 2.6 are out; traits of one log depend on each other: 0.88 to 1."""
    held = []
    for seed in range(20):
        fit = fit_population(pack, logged(pack, 100 + seed), seed=seed, customers=3_000)
        told = [t for t in fit.traits if t.identified]
        held += [t.interval[0] <= SHIFTS.get(t.trait, 0.0) <= t.interval[1] for t in told]
    assert len(held) > 100
    assert np.mean(held) >= 0.90
