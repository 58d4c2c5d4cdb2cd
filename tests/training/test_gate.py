"""The gate, on figures small enough to check by hand."""

from __future__ import annotations

from typing import Any

import pytest

from nba.decision import PolicyRef
from nba.ope import Estimate
from training.evaluate import Estimates, Evaluation
from training.gate import Gate, judge

GATE = Gate()


def estimate(value: float, low: float, high: float, *, n: int = 10_000, effective_n: float = 4_000.0) -> Estimate:
    return Estimate(value, low, high, n, effective_n)


def estimates(
    lift: tuple[float, float, float] = (0.02, 0.01, 0.03),
    weight: tuple[float, float, float] = (1.0, 0.98, 1.02),
    *,
    champion_weight: tuple[float, float, float] = (1.0, 0.98, 1.02),
    n: int = 10_000,
    effective_n: float = 4_000.0,
) -> Estimates:
    some = estimate(0.5, 0.48, 0.52, n=n, effective_n=effective_n)
    return Estimates(
        logged=0.4,
        ips=some,
        snips=some,
        direct_method=some,
        doubly_robust=some,
        mean_weight=estimate(*weight),
        champion=some,
        champion_weight=estimate(*champion_weight),
        lift=estimate(*lift, n=n, effective_n=effective_n),
    )


def evaluation(overall: Estimates, moments: dict[str, Estimates] | None = None, **changes: Any) -> Evaluation:
    refs = {
        "challenger": PolicyRef(name="support", version="2", kind="square_cb", digest="new"),
        "champion": PolicyRef(name="support", version="1", kind="uniform", digest="old"),
    }
    return Evaluation(**(refs | changes), overall=overall, moments=moments or {}, truth={})


def test_a_lift_clearly_above_zero_passes() -> None:
    verdict = judge(evaluation(estimates()), GATE)
    assert verdict.promote
    assert verdict.reasons == ("lift over the champion is 0.0200 [0.0100, 0.0300]",)
    assert verdict.cautions == ()


@pytest.mark.parametrize("low", [0.0, -0.001, float("nan")])
def test_a_lower_bound_not_above_zero_is_refused(low: float) -> None:
    verdict = judge(evaluation(estimates(lift=(0.02, low, 0.05))), GATE)
    assert not verdict.promote
    assert "not clearly above 0" in verdict.reasons[0]


def test_the_bound_asked_for_can_be_higher() -> None:
    """0.01 is above 0 but not above 0.01."""
    assert not judge(evaluation(estimates()), Gate(min_lift_low=0.01)).promote


def test_too_few_effective_rounds_are_refused() -> None:
    assert judge(evaluation(estimates(effective_n=500.0)), GATE).promote
    verdict = judge(evaluation(estimates(effective_n=499.0)), GATE)
    assert not verdict.promote
    assert verdict.reasons == ("too few rounds: 499 effective ones of 10,000, at least 500 are needed",)


def test_a_log_that_hardly_ever_did_the_like_is_refused() -> None:
    """900 effective of 100,000 rounds are 0.9 %, less than 1 %."""
    verdict = judge(evaluation(estimates(n=100_000, effective_n=900.0)), GATE)
    assert not verdict.promote
    assert "0.9%" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("weight", "sound"),
    [
        ((1.10, 1.06, 1.14), True),  # 0.10 off, 2.5 half widths of 0.04: just within
        ((1.11, 1.07, 1.15), False),
        ((0.90, 0.86, 0.94), True),
        ((0.89, 0.85, 0.93), False),
        ((0.90, 0.80, 0.92), False),  # only the side towards 1 counts: 0.02 is passed five times
        ((2.44, 2.40, 2.48), False),
        ((1.0, 1.0, 1.0), True),  # the champion's own log
        ((float("nan"), float("nan"), float("nan")), False),
    ],
)
def test_a_mean_weight_off_one_beyond_chance_is_refused(weight: tuple[float, float, float], sound: bool) -> None:
    assert judge(evaluation(estimates(weight=weight)), GATE).promote is sound
    assert judge(evaluation(estimates(champion_weight=weight)), GATE).promote is sound


def test_a_biased_log_is_called_biased() -> None:
    verdict = judge(evaluation(estimates(weight=(2.44, 2.40, 2.48))), GATE)
    assert "the log is biased" in verdict.reasons[0]
    assert "2.4400 [2.4000, 2.4800]" in verdict.reasons[0]


def test_a_moment_that_clearly_loses_is_refused_though_the_whole_gains() -> None:
    loses = estimates(lift=(-0.05, -0.09, -0.01))
    verdict = judge(evaluation(estimates(), {"tone_tuner": loses}), GATE)
    assert not verdict.promote
    assert "clearly worse in tone_tuner" in verdict.reasons[0]
    may_lose = estimates(lift=(-0.05, -0.11, 0.01))
    assert judge(evaluation(estimates(), {"tone_tuner": may_lose}), GATE).promote


def test_every_reason_is_told() -> None:
    bad = estimates(lift=(-0.1, -0.2, -0.05), weight=(2.0, 1.9, 2.1), effective_n=20.0)
    assert len(judge(evaluation(bad), GATE).reasons) == 4


def test_the_first_champion_passes() -> None:
    assert judge(evaluation(estimates(effective_n=3.0), champion=None), GATE).promote


def test_the_champion_itself_is_not_promoted_again() -> None:
    same = PolicyRef(name="support", version="2", kind="uniform", digest="old")
    verdict = judge(evaluation(estimates(), challenger=same), GATE)
    assert not verdict.promote
    assert verdict.reasons == ("it is the champion already",)


def test_cautions_do_not_refuse() -> None:
    """39 effective rounds of a moment are fewer than 50, a tenth of 500; a fifth of all decisions wait."""
    few = estimates(lift=(0.0, -0.1, 0.1), weight=(1.3, 1.2, 1.4), effective_n=39.0)
    verdict = judge(evaluation(estimates(), {"tone_tuner": few}), GATE, waiting=0.2)
    assert verdict.promote
    assert [c.split(" ")[0] for c in verdict.cautions] == ["20%", "in", "in"]
