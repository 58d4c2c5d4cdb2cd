"""A drive's figures, by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from envs.load.report import report_of
from envs.load.tally import Tally
from envs.load.traffic import Traffic
from nba.errors import UnavailableError
from nba.pack_file import load_pack

PACK = load_pack("support")


def traffic() -> Traffic:
    return Traffic(PACK, ["followup_whisper"], 8, customers=100, population_seed=0, seed=0)


def test_figures_by_hand() -> None:
    """Four of eight rounds in 2 s: 2 a second. Calls of 10, 20, 30 ms: median 20, 99th percentile 29.8. One silent.

    Rewards 0.99, -0.02, 0.99, 0 (cost 0.01, 0.02, 0.01, 0): mean 0.49, deviation 0.5774, so 0.49 +- 0.5659.
    """
    some = traffic()
    part = some.moments["followup_whisper"]
    ids = part.env.plan.action_ids
    for row, (action, answered) in enumerate(
        [("ask_in_4h", 1), ("ask_now_long", 0), ("ask_in_24h", 1), ("no_action", 0)]
    ):
        part.outcomes[row, ids.index(action)] = [answered, 0]
        some.serve(row, action)
    tally = Tally(decided=4, latencies_s=[0.01, 0.03, 0.02], policies=Counter({"7": 4}))
    report = report_of(some, tally, seconds=2.0, batch=1)
    assert (report.rounds, report.decided, report.decisions_per_s) == (8, 4, 2.0)
    assert (report.latency_p50_ms, report.latency_p99_ms) == (pytest.approx(20.0), pytest.approx(29.8))
    assert report.no_action_share == 0.25
    rewards = np.array([0.99, -0.02, 0.99, 0.0])
    assert report.reward_mean == pytest.approx(0.49)
    half = 1.96 * rewards.std(ddof=1) / 2.0
    assert (report.reward_low, report.reward_high) == (pytest.approx(0.49 - half), pytest.approx(0.49 + half))
    assert half == pytest.approx(0.5659, abs=1e-3)
    served = part.expected[np.arange(4), part.served[:4]].mean()
    assert report.values.served == pytest.approx(served)
    assert report.as_dict()["policies"] == {"7": 4}


def test_one_decision_has_no_interval() -> None:
    some = traffic()
    some.serve(0, "no_action")
    report = report_of(some, Tally(decided=1, latencies_s=[0.01]), seconds=1.0, batch=1)
    assert report.reward_low == report.reward_mean == report.reward_high


def test_no_decision_is_no_report() -> None:
    tally = Tally(errors=Counter({"decide ConnectError": 20}))
    with pytest.raises(UnavailableError, match=r"none of 8 rounds .*ConnectError"):
        report_of(traffic(), tally, seconds=1.0, batch=1)
