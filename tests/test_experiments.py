"""The experiments run on what real data there is here; a person runs them whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import free_port

ROOT = Path(__file__).parent.parent
HILLSTROM = Path(os.environ.get("NBA_DATA_DIR", ROOT.parent / "shared" / "data")) / "hillstrom.csv"


@pytest.mark.system
@pytest.mark.skipif(not HILLSTROM.exists(), reason=f"{HILLSTROM} is not here (NBA_DATA_DIR names its folder)")
def test_the_loop_runs_on_real_customers(tmp_path: Path) -> None:
    """3,000 of them: enough for every step, too few for the gate. Replay and doubly robust agree within intervals."""
    result = tmp_path / "result.json"
    command = [sys.executable, ROOT / "experiments" / "hillstrom" / "run.py", "--data", HILLSTROM, "--rows", "3000"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NBA_", "RAY_"))}
    done = subprocess.run(
        [*command, "--json", result, "--port", str(free_port())],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(result.read_bytes())
    assert told["customers"] == 1500
    assert told["degraded"] == {}
    assert not told["promoted"]
    for name, estimates in told["visits_a_customer"].items():
        replay, robust = estimates["replay"], estimates["doubly_robust"]
        assert replay["low"] <= robust["high"], name
        assert robust["low"] <= replay["high"], name


SIMULATOR = ROOT / "experiments" / "benchmarks" / "simulator" / "run.py"


@pytest.mark.slow
def test_the_simulator_is_measured_beside_the_same_content_written_plainly(tmp_path: Path) -> None:
    """At a tiny size: the plain environments agree with ours, ours is many times as fast, an absent peer is named."""
    result = tmp_path / "result.json"
    parts = [word for part in ("ids", "others", "peers", "growth") for word in ("--only", part)]
    done = subprocess.run(
        [sys.executable, SIMULATOR, "--quick", *parts, "--json", result, "--plots", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(result.read_bytes())
    assert all(content["same"] for content in told["same_content"].values())
    for id_ in ("nba/ToneTuner-v0", "nba/ServiceConversation-v0"):
        assert told["others"][f"plain Python {id_}"]["batched_is_times"]["median"] > 5.0
    assert all("rate" in peer or peer["absent"] for peer in told["peers"].values())
    assert {path.name for path in tmp_path.glob("*.png")} == {"steps.png", "growth.png"}
