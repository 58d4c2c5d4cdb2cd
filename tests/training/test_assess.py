"""Versions before the gate, judged on customers they were not learned from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as changed

from nba.home import Home
from nba.pack import Pack
from nba.rounds import LoggedRounds
from tests.training.conftest import played, uniform, window
from training.assess import Assessment, assess
from training.gate import Gate
from training.tracking import Tracking, Version
from training.train import train_on_log, train_without_rounds
from training.truth import SimulatedMoment
from training.window import Split, Window

Simulated = dict[str, SimulatedMoment]


@pytest.fixture(scope="module")
def frozen(pack: Pack, simulated: Simulated) -> Window:
    return window(played(simulated, uniform(pack), each=2_000, seed=4))


def judged(
    home: Home, tracking: Tracking, pack: Pack, version: Version, champion: Version | None, frozen: Window
) -> Assessment:
    return assess(home, tracking, pack, version, champion, frozen, Gate(), np.random.default_rng(1))


def test_what_learned_from_a_good_log_passes(home: Home, tracking: Tracking, pack: Pack, frozen: Window) -> None:
    champion = train_without_rounds(home, tracking, pack, "uniform")
    version = train_on_log(home, tracking, pack, "square_cb", frozen, split=Split(), prior=None)
    told = judged(home, tracking, pack, version, champion, frozen)
    assert told.verdict.promote
    held_out = sum(len(rounds) for rounds in frozen.split(Split())[1].values())
    assert told.evaluation.overall.rounds == held_out
    kept = tracking.client.get_run(version.run_id).data.metrics
    assert told.evaluation.overall.lift is not None
    assert kept["lift_low"] == told.evaluation.overall.lift.low > 0.0
    assert tracking.version("support", version.version).tags["verdict"].startswith("promote: lift over the champion")
    pictures = [f.path for f in tracking.client.list_artifacts(version.run_id, "plots")]
    assert pictures == ["plots/estimates.png", "plots/weights.png"]


@pytest.mark.usefixtures("no_pictures")
def test_the_held_out_customers_are_those_of_the_versions_own_split(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window
) -> None:
    split = Split(share=0.5, salt=3)
    version = train_on_log(home, tracking, pack, "square_cb", frozen, split=split, prior=None)
    told = judged(home, tracking, pack, version, None, frozen)
    assert told.evaluation.overall.rounds == sum(len(rounds) for rounds in frozen.split(split)[1].values())


@pytest.mark.usefixtures("no_pictures")
def test_a_log_with_wrong_propensities_is_refused_as_biased(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window
) -> None:
    """Every propensity is logged as half of what it was: all weights double."""
    champion = train_without_rounds(home, tracking, pack, "uniform")
    version = train_on_log(home, tracking, pack, "square_cb", frozen, split=Split(), prior=None)
    wrong = replace(frozen, rounds={moment: _halved(rounds) for moment, rounds in frozen.rounds.items()})
    told = judged(home, tracking, pack, version, champion, wrong)
    assert not told.verdict.promote
    assert "the log is biased" in told.verdict.reasons[0]


@pytest.mark.usefixtures("no_pictures")
def test_a_challenger_no_better_is_refused(home: Home, tracking: Tracking, pack: Pack, frozen: Window) -> None:
    champion = train_on_log(home, tracking, pack, "square_cb", frozen, split=Split(), prior=None)
    version = train_without_rounds(home, tracking, pack, "uniform")
    told = judged(home, tracking, pack, version, champion, frozen)
    assert not told.verdict.promote
    assert any("not clearly above 0" in reason for reason in told.verdict.reasons)


@pytest.mark.usefixtures("no_pictures")
def test_a_champion_of_another_pack_cannot_be_compared_with(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window
) -> None:
    old = changed(pack, version=9)
    champion = train_without_rounds(home, tracking, old, "uniform")
    version = train_on_log(home, tracking, pack, "square_cb", frozen, split=Split(), prior=None)
    told = judged(home, tracking, pack, version, champion, frozen)
    assert not told.verdict.promote
    assert told.verdict.reasons == (
        "the champion, version 1, was made for another version of the pack: nothing to compare",
    )


@pytest.mark.usefixtures("no_pictures")
def test_judging_again_adds_nothing(home: Home, tracking: Tracking, pack: Pack, frozen: Window) -> None:
    version = train_without_rounds(home, tracking, pack, "rules")
    first = judged(home, tracking, pack, version, None, frozen)
    again = judged(home, tracking, pack, tracking.version("support", version.version), None, frozen)
    assert again.evaluation == first.evaluation
    assert len(tracking.client.get_metric_history(version.run_id, "doubly_robust")) == 1


def _halved(rounds: LoggedRounds) -> LoggedRounds:
    return replace(rounds, propensities=rounds.propensities / 2.0)
