"""From a real log to a calibration: what is recovered, what is recorded, and what is said to be open."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from envs.calibration.parameters import ResponseParameters, load_calibration, read_calibration
from envs.response import Response
from nba.errors import EmptyLogError
from nba.home import Home
from nba.log import LogWriter
from nba.pack import Pack
from tests.training.conftest import NOW, history, uniform
from training.calibrate import CalibrationReport, calibrate, keep, metrics
from training.tracking import Tracking
from training.truth import SimulatedMoment

CHANGED = ResponseParameters(
    offsets={"satisfied": {"push_now": -0.8, "mail_estimate": 0.7}, "annoyed": {"push_now": 0.9}},
    slopes={"inbound_contact": 0.5},
)


@pytest.fixture(scope="module")
def report(support_log: Path, pack: Pack) -> CalibrationReport:
    """Of a log that the simulator as it is has made."""
    return calibrate(pack, support_log, as_of=NOW)


def write(folder: Path, pack: Pack, playground: SimulatedMoment, n: int, seed: int = 0) -> Path:
    writer = LogWriter(folder)
    writer.append(*history(uniform(pack), playground, n, np.random.default_rng(seed))).result(timeout=60)
    writer.close()
    return folder


@pytest.fixture(scope="module")
def changed_log(pack: Pack, simulated: dict[str, SimulatedMoment], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,000 rounds of late parcels whose customers respond otherwise than the simulator's."""
    playground = simulated["proactive_nudge"]
    before = playground.env.response
    playground.env.response = Response.of(playground.env.plan, (CHANGED,))
    folder = write(tmp_path_factory.mktemp("changed") / "log", pack, playground, 6_000)
    playground.env.response = before
    return folder


def test_a_changed_response_is_found_in_a_real_log(pack: Pack, changed_log: Path) -> None:
    told = calibrate(pack, changed_log, as_of=NOW)
    fitted = {(r.outcome, r.action): r for r in told.parameters if r.identified}
    for outcome, offsets in CHANGED.offsets.items():
        for action, offset in offsets.items():
            assert abs(fitted[outcome, action].value - offset) < 3.0 * fitted[outcome, action].standard_error
    assert fitted["inbound_contact", None].value == pytest.approx(0.5, abs=0.2)
    before, after = told.misses()
    assert before.missed > 0.15 * before.judged
    assert after.missed < 0.12 * after.judged
    losses = metrics(told)
    for outcome in ("satisfied", "inbound_contact", "annoyed"):
        name = f"proactive_nudge/{outcome}"
        assert losses[f"log_loss_after/{name}"] < losses[f"log_loss_before/{name}"]


def test_the_simulator_as_it_is_needs_no_calibration(report: CalibrationReport) -> None:
    """Of 95 % intervals 5 in 100 are off; nothing is shown to predict better, and that is said."""
    off = [abs(r.value - r.default) > 1.96 * r.standard_error for r in report.parameters if r.identified]
    assert np.mean(off) < 0.15
    assert max(abs(t.value) / t.standard_error for t in report.population.traits if t.identified) < 3.5
    assert any("not shown to predict better than uncalibrated" in sentence for sentence in report.cannot_tell)


def test_what_the_log_cannot_tell_is_said_in_words(report: CalibrationReport) -> None:
    said = "\n".join(report.cannot_tell)
    assert "proactive_nudge, annoyed: no_action (" in said
    assert "it never came" in said
    assert re.search(r"warmth.*: no field answers to it; left at 0", said)


def test_customers_are_on_one_side_only(report: CalibrationReport) -> None:
    fitted = sum(r.fit.rounds for r in report.moments.values())
    judged = sum(r.held_out for r in report.moments.values())
    assert fitted == report.calibration.rounds
    assert (fitted + judged, report.log.counts) == (8_000, {"used_online": 8_000})
    assert 0.2 < judged / 8_000 < 0.4


def test_it_is_kept_in_mlflow_and_in_a_file(
    home: Home, tracking: Tracking, pack: Pack, report: CalibrationReport
) -> None:
    path = keep(home, tracking, report, held_out=0.3, seed=0)
    assert path == home.calibration / "support.json"
    assert read_calibration(path, pack) == report.calibration
    assert set(load_calibration(path, pack)) == set(pack.moments)
    found = tracking.find_run("support", window=report.calibration.digest)
    assert found is not None
    names = {f.path for folder in ("plots", "tables") for f in tracking.client.list_artifacts(found[0], folder)}
    assert {"plots/reliability_tone_tuner.png", "plots/by_action_tone_tuner.png", "plots/field_means.png"} <= names
    logged = tracking.client.get_run(found[0]).data
    assert logged.params["held_out"] == "0.3"
    assert logged.metrics["judged_after"] == report.misses()[1].judged
    table = Path(tracking.client.download_artifacts(found[0], "tables/parameters.json"))
    rows = json.loads(table.read_text())
    assert len(rows) == len(report.parameters)
    assert any(row["standard_error"] is None for row in rows)


@pytest.mark.usefixtures("no_pictures")
def test_five_rounds_change_nothing_and_say_why(
    home: Home, tracking: Tracking, pack: Pack, simulated: dict[str, SimulatedMoment], tmp_path: Path
) -> None:
    log = write(tmp_path / "log", pack, simulated["tone_tuner"], 5)
    told = calibrate(pack, log, as_of=NOW)
    assert (told.calibration.moments, told.calibration.trait_means) == ({}, {})
    said = "\n".join(told.cannot_tell)
    assert "fewer than 30 rounds" in said
    assert "fewer than 30; left at 0" in said
    assert "no closed round that can be used" in said
    assert load_calibration(keep(home, tracking, told, held_out=0.3, seed=0), pack)["tone_tuner"]["adjustments"] == ()


def test_one_action_and_one_outcome_always_are_borne(
    pack: Pack, simulated: dict[str, SimulatedMoment], tmp_path: Path
) -> None:
    """Nothing is ever done and nobody is ever satisfied: the file names neither."""
    records = history(uniform(pack), simulated["proactive_nudge"], 400, np.random.default_rng(1))
    made = []
    for record in records:
        if hasattr(record, "decision"):
            made.append(replace(record, decision=replace(record.decision, action_id="no_action", propensity=1.0)))
        elif record.outcome == "satisfied":
            made.append(replace(record, value=0.0))
    writer = LogWriter(tmp_path / "log")
    writer.append(*made).result(timeout=60)
    writer.close()
    told = calibrate(pack, tmp_path / "log", as_of=NOW)
    said = "\n".join(told.cannot_tell)
    assert told.calibration.moments == {}
    assert "proactive_nudge, satisfied: never came in" in said
    assert "does the app report it?" in said


def test_an_empty_log_says_what_to_do(pack: Pack, tmp_path: Path, support_log: Path) -> None:
    with pytest.raises(EmptyLogError, match=r"no closed round of pack 'support' .*no decision at all(.|\n)*--log"):
        calibrate(pack, tmp_path, as_of=NOW)
    with pytest.raises(EmptyLogError, match="8000 open"):
        calibrate(pack, support_log, as_of=NOW - timedelta(days=10) + timedelta(seconds=30))


def test_a_pack_that_nobody_plays_says_so(pack: Pack, tmp_path: Path) -> None:
    strange = replace(pack, moments={"lunch": pack.moments["tone_tuner"]})
    with pytest.raises(EmptyLogError, match="play no one-step moment of pack 'support'"):
        calibrate(strange, tmp_path, as_of=NOW)
