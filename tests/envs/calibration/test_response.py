from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from envs.calibration.parameters import ResponseParameters
from envs.calibration.response import Parameter, ResponseFit, fit_response
from envs.calibration.rounds import OutcomeRounds
from envs.response import Response
from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.pack_file import load_pack
from tests.envs.calibration.made import closed_rounds, drawn_truth

MOMENT = "proactive_nudge"


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack("support")


@pytest.fixture(scope="module")
def response(pack: Pack) -> Response:
    return Response.of(plan_moment(pack, MOMENT))


def row(fit: ResponseFit, outcome: str, action: str | None) -> Parameter:
    return next(row for row in fit.table if (row.outcome, row.action) == (outcome, action))


def truth_of(parameters: ResponseParameters, told: Parameter) -> float:
    return parameters.slopes[told.outcome] if told.action is None else parameters.offsets[told.outcome][told.action]


def test_an_offset_alone_is_the_logit_of_the_rate(response: Response, pack: Pack) -> None:
    """One context 400 times, silence: slope and offset pull one way; the fitted rate is the observed 100 / 400."""
    rounds = closed_rounds(pack, MOMENT, 1).take(np.zeros(400, dtype=np.intp))
    outcomes = np.zeros((400, 3))
    outcomes[:100, 0] = 1.0
    customers = np.arange(400, dtype=np.uint64)
    silent = OutcomeRounds(rounds.facts, rounds.contexts, np.zeros(400, dtype=np.int64), outcomes, customers)
    fit = fit_response(response, silent)
    told = row(fit, "satisfied", "no_action")
    z = response.logits(rounds.contexts[:1])[0, 0, 0]
    assert row(fit, "satisfied", None).why == "not told apart from its prior"
    assert told.value == pytest.approx(math.log(1 / 3) - z, abs=0.02)
    assert told.standard_error == pytest.approx(1 / math.sqrt(400 * 0.25 * 0.75 + 0.25), rel=0.01)
    assert (told.rounds, told.came) == (400, 100.0)


def test_known_parameters_are_found_within_their_errors(response: Response, pack: Pack) -> None:
    truth = drawn_truth(pack, MOMENT, np.random.default_rng(5))
    fit = fit_response(response, closed_rounds(pack, MOMENT, 20_000, truth=truth, seed=3))
    told = [row for row in fit.table if row.identified]
    away = [abs(row.value - truth_of(truth, row)) / row.standard_error for row in told]
    assert len(told) >= 19  # all but annoyed by silence, which hardly ever is, and at most one other
    assert max(away) < 4.0
    assert fit.parameters.slopes["satisfied"] == pytest.approx(truth.slopes["satisfied"], abs=0.1)


@pytest.mark.slow
def test_intervals_hold_the_truth_19_times_of_20(response: Response, pack: Pack) -> None:
    """100 logs by about 19 parameters, which depend on each other within a log."""
    held = []
    for seed in range(100):
        truth = drawn_truth(pack, MOMENT, np.random.default_rng([7, seed]))
        fit = fit_response(response, closed_rounds(pack, MOMENT, 4_000, truth=truth, seed=seed))
        held += [r.interval[0] <= truth_of(truth, r) <= r.interval[1] for r in fit.table if r.identified]
    assert len(held) > 1_500
    assert 0.93 < np.mean(held) < 0.97


def test_few_rounds_tell_nothing_and_say_so(response: Response, pack: Pack) -> None:
    fit = fit_response(response, closed_rounds(pack, MOMENT, 5))
    assert not any(row.identified for row in fit.table)
    assert fit.parameters == ResponseParameters()
    assert row(fit, "satisfied", "no_action").why == "fewer than 30 rounds"
    assert row(fit, "satisfied", None).why == "no action's offset is told"


def test_many_rounds_of_few_customers_tell_little(response: Response, pack: Pack) -> None:
    """Every round four times over says what it said once; nine customers say nothing of the others."""
    rounds = closed_rounds(pack, MOMENT, 6_000)
    once, often = (fit_response(response, part) for part in (rounds, rounds.take(np.tile(np.arange(6_000), 4))))
    told = [row(fit, "inbound_contact", "mail_estimate").standard_error for fit in (once, often)]
    assert told[1] == pytest.approx(told[0], rel=0.15)
    few = fit_response(response, closed_rounds(pack, MOMENT, 2_000, customers=9))
    assert row(few, "satisfied", "no_action").why == "rounds of fewer than 10 customers"


def test_no_rounds_at_all_are_borne(response: Response, pack: Pack) -> None:
    fit = fit_response(response, closed_rounds(pack, MOMENT, 1).take(np.zeros(0, dtype=np.intp)))
    assert fit.parameters == ResponseParameters()
    assert fit.rounds == 0


@pytest.mark.parametrize(("value", "why"), [(0.0, "it never came"), (1.0, "it always came")])
def test_an_outcome_that_does_not_vary_stays_at_its_prior(
    response: Response, pack: Pack, value: float, why: str
) -> None:
    rounds = closed_rounds(pack, MOMENT, 2_000)
    rounds.outcomes[:, 0] = value
    fit = fit_response(response, rounds)
    assert row(fit, "satisfied", "no_action").why == why
    assert not np.isfinite(row(fit, "satisfied", "no_action").interval).any()
    assert "satisfied" not in fit.parameters.offsets
    assert "satisfied" not in fit.parameters.slopes
    assert fit.parameters.offsets["inbound_contact"]


def test_an_action_never_taken_leaves_the_others_told(response: Response, pack: Pack) -> None:
    rounds = closed_rounds(pack, MOMENT, 6_000)
    fit = fit_response(response, rounds.take(rounds.actions != 2))
    assert row(fit, "satisfied", "push_later").why == "fewer than 30 rounds"
    assert row(fit, "satisfied", "push_now").identified
    assert fit.covariances["satisfied"][2].tolist() == [0.0] * 7


def test_facts_that_are_all_missing_are_borne(response: Response, pack: Pack) -> None:
    """One context for all: the slope cannot be told from the offsets, which can be told without it."""
    rounds = closed_rounds(pack, MOMENT, 600)
    facts = np.full_like(rounds.facts, np.nan)
    unknown = OutcomeRounds(
        facts, response.plan.encoder.encode(facts), rounds.actions, rounds.outcomes, rounds.subjects
    )
    fit = fit_response(response, unknown)
    assert row(fit, "satisfied", "no_action").identified
    assert np.isfinite([row.value for row in fit.table]).all()


def test_an_outcome_beyond_one_is_not_simulated_and_not_fitted(pack: Pack) -> None:
    stars = replace(pack, outcomes=pack.outcomes | {"satisfied": replace(pack.outcomes["satisfied"], range=(0, 5))})
    fit = fit_response(Response.of(plan_moment(stars, MOMENT)), closed_rounds(pack, MOMENT, 1_000))
    assert row(fit, "satisfied", "no_action").why == "its range is not within [0, 1]"
    assert row(fit, "inbound_contact", "no_action").identified
