from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer import BadParameter
from typer.testing import CliRunner

from nba.cli import app
from nba.cli.train import EXPLORERS, MODELS, ONLINE, kind_of, settings_of
from nba.policies import KINDS
from nba.policies.pair import PAIRS
from training.rl.settings import ALGORITHMS


@pytest.mark.parametrize(
    ("policy", "model", "explore", "kind"),
    [
        (None, None, None, "square_cb"),
        ("rules", None, None, "rules"),
        ("rff+falcon", None, None, "rff+falcon"),
        (None, "rff", None, "rff+square_cb"),
        (None, None, "thompson", "linear+thompson"),
        (None, "ensemble", "softmax", "ensemble+softmax"),
    ],
)
def test_a_kind_is_named_whole_or_by_its_parts(
    policy: str | None, model: str | None, explore: str | None, kind: str
) -> None:
    assert kind_of(policy, model, explore) == kind
    assert kind in KINDS


def test_a_kind_named_both_ways_is_refused() -> None:
    with pytest.raises(BadParameter, match="or by --model and --explore"):
        kind_of("rules", "linear", None)


def test_the_help_names_every_part_there_is() -> None:
    assert {f"{m}+{e}" for m in MODELS.split(", ") for e in EXPLORERS.split(", ")} == set(PAIRS)


def test_settings_are_names_and_numbers() -> None:
    assert settings_of(["scale=2", " floor =0.1"]) == {"scale": 2.0, "floor": 0.1}


@pytest.mark.parametrize("told", ["scale", "scale=wide", "=", ""])
def test_a_setting_that_is_none_is_refused(told: str) -> None:
    with pytest.raises(BadParameter, match="is no NAME=NUMBER"):
        settings_of([told])


def test_the_ways_to_learn_by_playing_sessions_are_those_there_are() -> None:
    assert set(ONLINE) == set(ALGORITHMS)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (["--prior", "2"], "a prior is of single rounds of a log"),
        (["--prior-weight", "300"], "a prior is of single rounds of a log"),
        (["--prior", "2", "--from", "log", "--session", "--algo", "bc"], "a prior is of single rounds of a log"),
        (["--from", "log", "--prior-weight", "-1"], "greater than or equal to 0"),
        (["--target", "dr"], "dr is of single rounds of a log"),
        (["--session", "--algo", "bc"], "bc learns sessions from the log"),
        (["--session", "--algo", "ppo", "--from", "log"], "ppo learns sessions from the simulator"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_learned(
    told: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path / "home"))
    done = CliRunner().invoke(app, ["train", *told], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 2
    assert why in " ".join(re.sub(r"[^\w\s=.-]", " ", done.output).split())
    assert not (tmp_path / "home").exists()
