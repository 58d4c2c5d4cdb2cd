"""`nba calibrate` from the command line, on a log of five rounds: short, and it says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nba.cli import app
from nba.errors import EmptyLogError
from nba.home import Home
from nba.log import LogWriter
from nba.pack_file import load_pack
from tests.training.conftest import NOW, history, uniform
from training.tracking import Run
from training.truth import simulate

RUNNER = CliRunner()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty rounds of the moment `tone_tuner`, in an installation of its own."""
    monkeypatch.setenv("NBA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(Run, "figure", lambda *_: None)
    pack = load_pack("support")
    writer = LogWriter(tmp_path / "log")
    playground = simulate(pack, contexts=10)["tone_tuner"]
    writer.append(*history(uniform(pack), playground, 60, np.random.default_rng(0))).result(timeout=60)
    writer.close()
    return tmp_path / "log"


def test_calibrate_writes_the_file_and_says_what_it_cannot_tell(log: Path) -> None:
    asked = ["calibrate", "--log", str(log), "--as-of", NOW.strftime("%Y-%m-%dT%H:%M:%S")]
    told = RUNNER.invoke(app, asked)
    assert told.exit_code == 0, told.output
    assert "what this log cannot tell" in told.output
    assert "fewer than 30 rounds" in told.output
    assert "intervals miss" in told.output
    read = json.loads(RUNNER.invoke(app, [*asked, "--json"]).stdout)
    assert read["path"] == str(Home.from_environment().calibration / "support.json")
    assert json.loads(Path(read["path"]).read_text()) == read["calibration"]
    assert {"parameters", "population", "cannot_tell", "metrics"} <= read.keys()


def test_calibrate_without_a_log_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    told = RUNNER.invoke(app, ["calibrate"])
    assert isinstance(told.exception, EmptyLogError)
    assert "no decision at all" in told.exception.message


def test_help_teaches() -> None:
    shown = RUNNER.invoke(app, ["calibrate", "--help"]).output
    assert [word for word in ("offset", "slope", "--held-out", "--as-of", "by chance") if word not in shown] == []
