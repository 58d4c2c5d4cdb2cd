"""What there is to play in, and what there is to learn."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from envs import IDS, SESSION_IDS
from nba.cli import app

RUN = CliRunner()


def test_the_list_has_every_registered_id() -> None:
    told = json.loads(RUN.invoke(app, ["envs", "list", "--json"]).stdout)
    assert [row["id"] for row in told] == [*IDS, *SESSION_IDS]
    assert {row["kind"] for row in told if row["id"] in SESSION_IDS} == {"session"}


def test_a_report_tells_values_bounds_and_whether_the_claim_holds(tmp_path: Path) -> None:
    chosen = ["--env", "nba/ToneTuner-v0", "--env", "nba/MonthOfContacts-v0"]
    picture = tmp_path / "envs.png"
    sizes = ["--rounds", "1000", "--sessions", "300", "--picture", str(picture), "--json"]
    result = RUN.invoke(app, ["envs", "report", *chosen, *sizes])
    moment, session = json.loads(result.stdout)
    assert result.exit_code == 0
    assert moment["holds"]
    assert session["holds"]
    assert moment["values"]["uniform"]["value"] < moment["values"]["oracle"]["value"]
    assert (moment["bound"], session["bound"] > session["values"]["myopic"]["value"]) == (None, True)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_environment_is_refused_with_those_there_are() -> None:
    result = RUN.invoke(app, ["envs", "report", "--env", "nba/TeaTime-v0"])
    assert result.exit_code == 2
    assert "nba/ToneTuner-v0" in result.stderr


def test_targets_stand_beside_what_is_simulated() -> None:
    told = json.loads(RUN.invoke(app, ["envs", "targets", "--json"]).stdout)
    repair = next(row for row in told if row["name"] == "repair_success_by_rules")
    assert (repair["low"], repair["high"], repair["within"]) == (0.35, 0.40, True)
