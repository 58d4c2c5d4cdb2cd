"""The README runs from top to bottom: every `sh` block, in its order, against a server that `nba up` started."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.installation import NBA, Installation

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_it_can_be_run_by_line_forty() -> None:
    assert "make run" in "\n".join(README.splitlines()[:40])


def test_its_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL))
def test_its_python_runs(block: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", block], cwd=ROOT, check=True, timeout=120)


def test_its_test_command_is_what_ci_runs() -> None:
    assert "make test" in README
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.system
def test_its_commands_run_from_top_to_bottom(installation: Installation, tmp_path: Path) -> None:
    """`make run` is what started the server; ports and the number of rounds are this test's own."""
    run = [block for block in BLOCKS if "make run" not in block]
    assert len(run) >= 4
    for block in run:
        script = block.replace("127.0.0.1:8000", f"127.0.0.1:{installation.port}").replace("/tmp", str(tmp_path))
        script = script.replace("curl -s", "curl -sS --fail-with-body").replace("--rounds 20000", "--rounds 6000")
        environment = installation.environment | {"PATH": f"{NBA.parent}:{installation.environment['PATH']}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        refused = script == "nba promote\n" and "the gate refuses" in done.stderr  # as the README says it may
        assert done.returncode == 0 or refused, f"{script}\n{done.stdout}\n{done.stderr}"


def test_its_cron_line_names_a_command_that_exists() -> None:
    line = next(line for line in README.splitlines() if "nba retrain --quarter last" in line and line[0] == "0")
    minute, hour, day, months, weekday = line.split()[:5]
    assert (minute, hour, weekday) == ("0", "3", "*")
    assert yaml.safe_load(f"[{months}]") == [1, 4, 7, 10]
    assert int(day) > 1, "reward windows of the quarter's last days have to close first"
