"""The benchmark of whole sessions, at a small size; a person runs it whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SESSIONS = Path(__file__).parents[3] / "experiments" / "benchmarks" / "learning" / "sessions.py"


@pytest.mark.slow
def test_sessions_are_measured_from_uniform_to_the_planner(tmp_path: Path) -> None:
    result, plot = tmp_path / "result.json", tmp_path / "sessions.png"
    parts = [word for part in ("levels", "bandits", "offline") for word in ("--only", part)]
    done = subprocess.run(
        [sys.executable, SESSIONS, "--quick", *parts, "--json", result, "--plot", plot],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shares = {row["name"]: row["shares"][0] for row in json.loads(result.read_bytes())["rows"]}
    assert (shares["uniform"], shares["planner"]) == (0.0, 1.0)
    assert {"bound", "linear+thompson, to go", "bc", "return_to_go", "fitted_q", "implicit_q"} <= shares.keys()
    assert plot.exists()
