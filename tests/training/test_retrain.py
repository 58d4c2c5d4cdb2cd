"""The quarterly retrain on a real log and a real MLflow."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import training.retrain
from nba.errors import EmptyLogError
from nba.home import Home
from nba.pack import Pack
from tests.training.conftest import NOW
from training.gate import Gate
from training.ledger import Ledger
from training.promote import promote, rollback
from training.retrain import Retrained, retrain
from training.tracking import CHALLENGER, CHAMPION, PREVIOUS, Tracking
from training.train import train_without_rounds
from training.window import QuarterError

KINDS = {"quadratic+thompson", "linear+thompson", "square_cb"}  # the pack's candidates


def stock(home: Home, log: Path, pack: Pack) -> Tracking:
    """A log of 8,000 closed rounds of the fourth quarter, and a champion that is uniform."""
    shutil.copytree(log, home.log)
    tracking = Tracking.of(home)
    first = train_without_rounds(home, tracking, pack, "uniform")
    promote(home, tracking, pack, first, verdict=None, at=NOW - timedelta(days=30), actor="ann")
    return tracking


@pytest.fixture
def stocked(home: Home, support_log: Path, pack: Pack, no_pictures: None) -> Home:
    """An installation that is ready for its first retrain."""
    stock(home, support_log, pack)
    return home


@dataclass
class Finished:
    """An installation that has been retrained once. Tests only look at it."""

    home: Home
    tracking: Tracking
    told: Retrained
    steps: list[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, migrated: Path, support_log: Path, pack: Pack) -> Finished:
    home = Home(tmp_path_factory.mktemp("finished"))
    home.mlflow.mkdir()
    shutil.copy(migrated, home.mlflow / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking = stock(home, support_log, pack)
    steps: list[str] = []
    return Finished(home, tracking, again(home, tracking, pack, on_step=steps.append), steps)


@pytest.fixture
def copied(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy of the finished installation, to go on from."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(finished.home.path, tmp_path / "copied")
    return Home(tmp_path / "copied")


def again(home: Home, tracking: Tracking, pack: Pack, **changes: Any) -> Retrained:
    given: dict[str, Any] = {"as_of": NOW, "actor": "cron"} | changes
    return retrain(home, tracking, pack, given.pop("quarter", "2026Q4"), **given)


def runs(tracking: Tracking) -> list[Any]:
    experiment = tracking.client.get_experiment_by_name("nba/support")
    return list(tracking.client.search_runs([experiment.experiment_id]))


def test_it_promotes_a_better_policy_and_its_true_value_is_higher(finished: Finished, pack: Pack) -> None:
    best = finished.told.candidates[0]
    assert {c.version.kind for c in finished.told.candidates} == KINDS
    assert best.verdict.promote
    aliases = finished.tracking.aliases("support")
    assert (aliases[CHAMPION], aliases[PREVIOUS]) == (best.version.version, "1")
    assert finished.told.promoted is not None
    assert finished.told.promoted.to_version == best.version.version
    assert finished.told.promoted.why.startswith("retrain 2026Q4: lift over the champion is 0.")
    assert len(best.evaluation.truth) == len(pack.moments)
    for moment, true in best.evaluation.truth.items():
        assert true.champion == true.yardsticks.uniform < true.yardsticks.oracle
        if moment in best.evaluation.moments:
            assert true.champion < true.challenger < true.yardsticks.oracle
        else:  # nothing was logged of it
            assert true.challenger == true.champion


def test_it_registers_every_candidate_with_the_quarter_under_one_parent(finished: Finished) -> None:
    every, told = runs(finished.tracking), finished.told
    parents = {r.data.tags["mlflow.parentRunId"] for r in every if "mlflow.parentRunId" in r.data.tags}
    assert parents == {told.run_id}
    for candidate in told.candidates:
        tags = candidate.version.tags
        assert (tags["quarter"], tags["window"], tags["prior"]) == ("2026Q4", told.window.digest, "1")
    parent = finished.tracking.client.get_run(told.run_id)
    assert (parent.data.tags["quarter"], parent.data.tags["outcome"]) == ("2026Q4", told.outcome)
    assert parent.data.metrics["decisions/joined"] == 8_000.0


def test_steps_are_told(finished: Finished, pack: Pack) -> None:
    learning = [f"learning and judging {kind}" for kind in pack.candidates]
    assert finished.steps == ["freezing the closed rounds of 2026Q4", *learning]


def test_repeating_it_reports_the_same_and_changes_nothing(finished: Finished, copied: Home, pack: Pack) -> None:
    first, tracking = finished.told, Tracking.of(copied)
    before = (tracking.versions("support"), runs(tracking), copied.ledger.read_bytes(), tracking.aliases("support"))
    second = again(copied, tracking, pack, as_of=NOW + timedelta(days=1))
    after = (tracking.versions("support"), runs(tracking), copied.ledger.read_bytes(), tracking.aliases("support"))
    assert [v.version for v in after[0]] == [v.version for v in before[0]] == ["1", "2", "3", "4"]
    assert [r.to_dictionary() for r in after[1]] == [r.to_dictionary() for r in before[1]]
    assert after[2:] == before[2:]
    assert (first.repeated, second.repeated) == (False, True)
    assert second.outcome == first.outcome
    assert second.promoted == first.promoted
    assert [c.evaluation for c in second.candidates] == [c.evaluation for c in first.candidates]


def test_a_policy_that_was_taken_back_is_not_promoted_again(copied: Home, pack: Pack) -> None:
    tracking = Tracking.of(copied)
    rollback(copied, tracking, "support", why="it hurt", at=NOW, actor="ann")
    assert again(copied, tracking, pack).repeated
    assert tracking.aliases("support")[CHAMPION] == "1"


@pytest.mark.parametrize("dies_in", ["assess", "promote"])
def test_what_died_in_the_middle_goes_on_where_it_stopped(
    stocked: Home, tracking: Tracking, pack: Pack, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    """It dies with the second candidate, or in the promotion once the alias has moved."""
    with monkeypatch.context() as patch:
        if dies_in == "promote":
            patch.setattr(Ledger, "append", _dies)
        else:
            patch.setattr(training.retrain, dies_in, _dies_the_second_time(getattr(training.retrain, dies_in)))
        with pytest.raises(SystemExit):
            again(stocked, tracking, pack)
    told = again(stocked, tracking, pack)
    assert not told.repeated
    assert told.promoted is not None
    assert [v.version for v in tracking.versions("support")] == ["1", "2", "3", "4"]
    assert [e.to_version for e in Ledger(stocked.ledger).read().entries] == ["1", told.candidates[0].version.version]
    assert len([r for r in runs(tracking) if r.data.tags.get("stage") == "retrain"]) == 1


def test_it_says_why_not_when_none_passes(stocked: Home, tracking: Tracking, pack: Pack) -> None:
    told = again(stocked, tracking, pack, gate=Gate(min_lift_low=1.0))
    assert told.promoted is None
    assert told.outcome.startswith("version 1 stays: ")
    assert all(f"{kind}: lift over the champion is" in told.outcome for kind in KINDS)
    aliases = tracking.aliases("support")
    assert (aliases[CHAMPION], aliases[CHALLENGER]) == ("1", told.candidates[0].version.version)


def test_a_champion_that_came_meanwhile_is_left_alone(
    stocked: Home, tracking: Tracking, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*given: Any, **named: Any) -> Any:
        rules = train_without_rounds(stocked, tracking, pack, "rules")
        promote(stocked, tracking, pack, rules, verdict=None, at=NOW, actor="ann", why="at once", force=True)
        monkeypatch.setattr(training.retrain, "assess", judge)
        return judge(*given, **named)

    judge = training.retrain.assess
    monkeypatch.setattr(training.retrain, "assess", meanwhile)
    told = again(stocked, tracking, pack)
    assert told.candidates[0].verdict.promote
    assert told.promoted is None
    assert told.outcome == "version 3 became champion meanwhile and stays"
    assert tracking.aliases("support")[CHAMPION] == "3"


def test_the_first_champion_may_come_from_a_retrain(
    home: Home, support_log: Path, tracking: Tracking, pack: Pack, no_pictures: None
) -> None:
    shutil.copytree(support_log, home.log)
    told = again(home, tracking, pack)
    assert told.champion is None
    assert told.promoted is not None
    assert told.promoted.from_version is None
    assert tracking.aliases("support")[CHAMPION] == told.candidates[0].version.version


def test_a_quarter_without_closed_rounds_is_an_empty_log(stocked: Home, tracking: Tracking, pack: Pack) -> None:
    with pytest.raises(EmptyLogError, match="no closed, learnable round"):
        again(stocked, tracking, pack, quarter="2026Q3")
    assert [v.version for v in tracking.versions("support")] == ["1"]
    with pytest.raises(QuarterError):
        again(stocked, tracking, pack, quarter="Q4")


def _dies(*_: object) -> None:
    raise SystemExit


def _dies_the_second_time(function: Any) -> Any:
    calls = []

    def instead(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise SystemExit
        return function(*given, **named)

    return instead
