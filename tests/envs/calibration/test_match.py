from __future__ import annotations

import numpy as np
import pytest

from envs.calibration.match import Cell, Misses, match, segments
from envs.calibration.response import fit_response
from envs.response import Response
from nba.facts import Field
from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.pack_file import load_pack
from tests.envs.calibration.made import closed_rounds, drawn_truth

MOMENT = "tone_tuner"


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack("support")


@pytest.fixture(scope="module")
def response(pack: Pack) -> Response:
    return Response.of(plan_moment(pack, MOMENT))


def test_segments_are_values_thirds_and_what_is_missing() -> None:
    fields = {"device": Field(type="category", values=("mobile", "desktop")), "age": Field(type="number")}
    facts = np.array([[0.0, 1.0], [1.0, 2.0], [np.nan, 3.0], [0.0, np.nan]])
    found = {name: np.flatnonzero(where).tolist() for name, where in segments(fields, facts)}
    assert found == {
        "device = mobile": [0, 3],
        "device = desktop": [1],
        "device missing": [2],
        "age <= 1.667": [0],
        "age > 1.667 and <= 2.333": [1],
        "age > 2.333": [2],
        "age missing": [3],
    }


def test_a_number_of_one_value_is_one_segment() -> None:
    found = [name for name, _ in segments({"age": Field(type="number")}, np.ones((5, 1)))]
    assert found == ["age <= 1"]


def test_a_cell_is_the_rate_beside_the_mean_probability(response: Response, pack: Pack) -> None:
    rounds = closed_rounds(pack, MOMENT, 500)
    cell = next(c for c in match(response, rounds).by_action if (c.outcome, c.group) == ("resolved", "neutral_reply"))
    rows = rounds.actions == 1
    assert cell.rounds == rows.sum()
    assert cell.observed == rounds.outcomes[rows, 0].mean()
    assert cell.simulated == pytest.approx(response.probabilities(rounds.contexts[rows])[:, 1, 0].mean())


def test_a_cell_of_few_rounds_is_not_judged(response: Response, pack: Pack) -> None:
    matched = match(response, closed_rounds(pack, MOMENT, 20))
    assert not any(cell.judged or cell.misses for cell in matched.by_action + matched.by_segment)
    assert Misses.of(matched.by_action) == Misses(0, 0)


def test_misses_are_counted_beside_those_that_chance_makes() -> None:
    """|0.2| > 0.1 misses, |0.05| does not, the third is not judged: 1 of 2, 0.1 by chance."""
    cells = [Cell("m", "o", "a", 100, 0.5 + away, 0.5, half) for away, half in ((0.2, 0.1), (0.05, 0.1), (0.4, np.inf))]
    misses = Misses.of(tuple(cells))
    assert (misses, misses.by_chance) == (Misses(2, 1), 0.1)


def test_the_right_simulator_misses_as_often_as_chance_does(response: Response, pack: Pack) -> None:
    """Ten logs of the simulator as it is."""
    missed = judged = 0
    for seed in range(10):
        matched = match(response, closed_rounds(pack, MOMENT, 1_500, seed=seed))
        told = Misses.of(matched.by_action + matched.by_segment)
        missed, judged = missed + told.missed, judged + told.judged
    assert judged > 1_000
    assert 0.02 < missed / judged < 0.09


@pytest.mark.slow
def test_calibration_brings_held_out_customers_within_their_intervals(response: Response, pack: Pack) -> None:
    """24 logs. The intervals count what the fit itself is unsure of, so misses come back to about one in twenty."""
    was, now = np.zeros(2), np.zeros(2)
    for seed in range(24):
        truth = drawn_truth(pack, MOMENT, np.random.default_rng(seed))
        fitted_on, held_out = closed_rounds(pack, MOMENT, 5_000, truth=truth, seed=seed).split(0.7)
        before, after = match(response, held_out), match(response, held_out, fit_response(response, fitted_on))
        for total, matched in ((was, before), (now, after)):
            told = Misses.of(matched.by_action + matched.by_segment)
            total += told.missed, told.judged
    assert was[0] > 0.2 * was[1]
    assert 0.02 * now[1] < now[0] < 0.09 * now[1]


def test_calibration_predicts_held_out_customers_better(response: Response, pack: Pack) -> None:
    truth = drawn_truth(pack, MOMENT, np.random.default_rng(2))
    fitted_on, held_out = closed_rounds(pack, MOMENT, 6_000, truth=truth, seed=2).split(0.7)
    before, after = match(response, held_out), match(response, held_out, fit_response(response, fitted_on))
    for old, new in zip(before.reliability, after.reliability, strict=True):
        assert new.log_loss < old.log_loss
        assert new.gain == pytest.approx(old.log_loss - new.log_loss)
        assert new.error < 2.0 * new.by_chance
        assert sum(b.rounds for b in new.bins) == len(held_out)


def test_the_uncalibrated_gains_nothing_on_itself(response: Response, pack: Pack) -> None:
    told = match(response, closed_rounds(pack, MOMENT, 100)).reliability[0]
    assert (told.gain, told.gain_half_width) == (0.0, 0.0)


def test_no_rounds_match_nothing(response: Response, pack: Pack) -> None:
    assert match(response, closed_rounds(pack, MOMENT, 1).take(np.zeros(0, dtype=np.intp))).reliability == ()
