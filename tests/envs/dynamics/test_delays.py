"""Outcomes take their time, some never come, and what a log holds is less than what happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from envs.dynamics.delays import AT_ONCE, Delay, Delays
from envs.load.traffic import Traffic
from nba.errors import ShapeError
from nba.moment_plan import plan_moment
from nba.pack_file import load_pack
from nba.records import RewardRecord
from nba.settle import close_window

PACK = load_pack("support")
PLAN = plan_moment(PACK, "tone_tuner")
DEFAULTS = Delays.of(PLAN)


def test_shares_kept_by_hand() -> None:
    """Median 6 h of a window of 24 h: Phi(log 4) = Phi(1.386) = 0.917, of which 3 % are lost: 0.8898. At once: all."""
    assert Delay(6.0).kept(24 * 3_600.0) == pytest.approx(0.97 * 0.91717, abs=1e-4)
    assert Delay(24.0, never=0.0).kept(24 * 3_600.0) == 0.5
    assert AT_ONCE.kept(1.0) == 1.0
    assert Delay(2.0, spread=0.0, never=0.25).kept(2 * 3_600.0) == 0.75


def test_delays_come_as_their_law_says() -> None:
    """100,000 rounds by the defaults: 3 % never; half of the others within the median; the share kept as stated."""
    seconds = DEFAULTS.draw(100_000, np.random.default_rng(0))
    medians = np.array([delay.median_h * 3_600.0 for delay in DEFAULTS.outcomes])
    assert np.abs(np.isinf(seconds).mean(axis=0) - 0.03).max() < 4.0 * np.sqrt(0.03 * 0.97 / 100_000)
    assert np.abs((seconds <= medians).mean(axis=0) - 0.485).max() < 4.0 * np.sqrt(0.25 / 100_000)
    in_time = (seconds <= DEFAULTS.window_s).mean(axis=0)
    assert np.abs(in_time - DEFAULTS.kept()).max() < 4.0 * np.sqrt(0.09 / 100_000)


def test_by_default_the_closing_outcome_is_mostly_in_time_and_mostly_last() -> None:
    """A quarter and a sixteenth of the window: in time Phi(log 4) = 0.917; the last Phi(log 4 / sqrt 2) = 0.837."""
    seconds = DEFAULTS.draw(50_000, np.random.default_rng(1))
    closing = DEFAULTS.closing.index(True)
    assert DEFAULTS.kept()[closing] == pytest.approx(0.97 * 0.917, abs=1e-3)
    came = np.isfinite(seconds).all(axis=1)
    other = (closing + 1) % len(DEFAULTS.outcomes)
    assert (seconds[came, other] < seconds[came, closing]).mean() == pytest.approx(0.837, abs=0.008)


def test_missing_good_outcomes_bias_the_mean_reward_downwards() -> None:
    """Weight 1, p 0.6, cost 0.1, half of the reports too late: 0.6 * 0.5 - 0.1 = 0.2 is logged, 0.5 is true.

    A harm of weight -0.5 and p 0.4, of which a quarter is lost, adds -0.2 in truth and -0.15 to the log.
    """
    delays = Delays((Delay(24.0, never=0.0), Delay(0.0, never=0.25)), (False, False), 24 * 3_600.0)
    weights, p, rng = np.array([1.0, -0.5]), np.array([0.6, 0.4]), np.random.default_rng(2)
    assert weights * p @ delays.kept() - 0.1 == pytest.approx(0.2 - 0.15)
    happened = rng.random((200_000, 2)) < p
    logged = (happened & delays.in_window(delays.draw(200_000, rng))) @ weights - 0.1
    assert logged.mean() == pytest.approx(0.05, abs=4.0 * logged.std() / np.sqrt(200_000))
    assert (happened @ weights).mean() - 0.1 > logged.mean() + 0.2


def test_what_counts_is_what_the_join_s_window_counts() -> None:
    """A hundred rounds with every outcome reported when it comes, settled by the server's own rule."""
    shown, moment = datetime(2026, 3, 2, 12, tzinfo=UTC), PACK.moment("tone_tuner")
    seconds = DEFAULTS.draw(100, np.random.default_rng(3))
    for row, counts in zip(seconds, DEFAULTS.in_window(seconds), strict=True):
        reports = [
            RewardRecord(
                decision_id="d",
                outcome=outcome,
                value=1.0,
                observed_at=shown + timedelta(seconds=after),
                idempotency_key=outcome,
                received_at=shown + timedelta(seconds=after),
            )
            for outcome, after in zip(moment.reward, row.tolist(), strict=True)
            if np.isfinite(after)
        ]
        window = close_window(moment, PACK.outcomes, shown, reports)
        assert set(window.outcomes) == {o for o, kept in zip(moment.reward, counts.tolist(), strict=True) if kept}


def test_without_delays_everything_comes_at_once_and_nothing_is_drawn() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    none = Delays.none(PLAN)
    assert not none.draw(5, rng).any()
    assert rng.bit_generator.state == before
    assert none.kept().tolist() == [1.0] * len(none.outcomes)


def test_delayed_traffic_reports_less_and_brings_the_same_customers() -> None:
    """300 rounds: some closing outcomes stay away, which without delays never happens."""
    prompt, delayed = (
        Traffic(PACK, ["tone_tuner"], 300, customers=500, population_seed=0, seed=0, delayed=delayed)
        for delayed in (False, True)
    )
    reports = [
        [{told.outcome for told in traffic.serve(i, "neutral_reply")} for i in range(300)]
        for traffic in (prompt, delayed)
    ]
    assert prompt.body(7, "r") == delayed.body(7, "r")
    closed = [sum("resolved" in told for told in of) for of in reports]
    assert closed[0] == 300
    assert 0.8 * 300 < closed[1] < 300
    assert all(less <= all_of_it for all_of_it, less in zip(*reports, strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"median_h": -1.0}, "median -1.0"),
        ({"median_h": 1.0, "spread": float("inf")}, "spread inf"),
        ({"median_h": 1.0, "never": 1.5}, "share of 1.5"),
    ],
)
def test_a_delay_without_sense_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Delay(**settings)
