"""experiments/benchmarks/serving at its small size: without Ray and without peers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "experiments" / "benchmarks" / "serving" / "run.py"


def run(result: Path, *words: str) -> str:
    command = [sys.executable, str(RUN), "--small", "--json", str(result), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_part_measures_something_and_no_request_fails(tmp_path: Path) -> None:
    """A second run finds every figure in the file and keeps it; pictures are drawn of what there is."""
    result = tmp_path / "result.json"
    told = run(result, "--soak", "0.3") and run(result, "--plots", str(tmp_path))
    cells = json.loads(result.read_bytes())["cells"]
    loads = {name: cell for name, cell in cells.items() if name.startswith(("load", "open", "batch", "soak"))}
    assert {name.split(" | ")[0] for name in loads} == {"load", "open", "batch", "soak"}
    for name, cell in loads.items():
        assert cell["answers"] > 0, name
        assert set(cell["codes"]) <= {"200", "201"}, (name, cell["troubles"])
    assert {name.split(" | ")[0] for name in cells} >= {"memory", "cold start", "stages", "inside", "growth"}
    assert all(us > 0.0 for name, cell in cells.items() if name.startswith("stages") for us in cell["us"].values())
    assert "Against the goals" not in told  # the ingress is not there
    assert (tmp_path / "rates.png").exists()
    assert run(result, "--show") == told
    assert json.loads(result.read_bytes())["cells"] == cells
