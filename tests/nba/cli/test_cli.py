"""The command line: what a person sees first, and what a script reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nba.cli import app, main

RUNNER = CliRunner()


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["nba", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_help_names_every_command() -> None:
    shown = RUNNER.invoke(app, ["--help"]).output
    commands = "up serve simulate train evaluate promote rollback retrain ledger calibrate play envs features log pack"
    assert [c for c in commands.split() if c not in shown] == []


def test_help_imports_no_framework() -> None:
    code = (
        "import sys\nfrom nba.cli import main\nsys.argv = ['nba', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'ray', 'feast', 'mlflow', 'torch', 'pandas', 'gymnasium', 'matplotlib', 'redis'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_pack_check_tells_a_script_what_it_found() -> None:
    result = RUNNER.invoke(app, ["pack", "check", "support", "--json"])
    told = json.loads(result.output)
    assert (result.exit_code, told["pack"], len(told["moments"])) == (0, "support", 6)


def test_a_bad_pack_is_two_lines_and_exit_code_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("pack: shop\nversion: one\n")
    assert run_main(monkeypatch, "pack", "check", str(path)) == 1
    first, second = capsys.readouterr().err.strip().split("\n")
    assert first.startswith("error:")
    assert second.startswith("help:")


def test_pack_new_writes_a_sound_pack_and_never_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert RUNNER.invoke(app, ["pack", "new", "shop", "--in", str(tmp_path)]).exit_code == 0
    assert RUNNER.invoke(app, ["pack", "check", str(tmp_path / "shop.yaml")]).exit_code == 0
    assert run_main(monkeypatch, "pack", "new", "shop", "--in", str(tmp_path)) == 1
    assert "exists" in capsys.readouterr().err


def test_ledger_of_a_new_installation_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    assert json.loads(RUNNER.invoke(app, ["ledger", "--json"]).output) == []


def test_learning_from_an_empty_log_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    assert run_main(monkeypatch, "train", "--from", "log") == 1
    told = capsys.readouterr().err
    assert "no closed, learnable round" in told
    assert "nba simulate" in told
