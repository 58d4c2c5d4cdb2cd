"""The arrows between rooms, and the one door of each framework: [tool.importlinter] in pyproject.toml."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contracts on the rooms in this folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_rooms_keep_to_their_arrows_and_doors() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


def test_a_room_that_imports_against_the_arrows_is_caught(tmp_path: Path) -> None:
    """Five small rooms: the simulator in the server, Ray in the domain, MLflow past its door, a use of the command."""
    for room in ("nba", "envs", "features", "training", "serving"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
    (tmp_path / "nba" / "cli.py").touch()
    (tmp_path / "nba" / "domain.py").write_text("import ray\nimport envs\n")
    (tmp_path / "serving" / "server.py").write_text("import envs\nimport nba.cli\n")
    (tmp_path / "training" / "learn.py").write_text("import serving.server\nimport mlflow\n")
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")

    done = lint(tmp_path)

    told = " ".join(done.stdout.split())
    names = [contract["name"] for contract in tomllib.loads(settings)["tool"]["importlinter"]["contracts"]]
    broken = {name.partition(":")[0] for name in names if f"{name} BROKEN" in told}
    assert done.returncode == 1
    assert broken == {
        "Rooms",
        "The server never imports the simulator",
        "Nobody imports the command line",
        "Ray",
        "MLflow",
    }
