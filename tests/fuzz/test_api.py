"""The whole server, asked by Schemathesis what its own description allows, and what it does not.

No 5xx, no answer that the description does not know, no hang, no memory that goes on growing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.fuzz.conftest import Effort

CONFIG = Path(__file__).with_name("schemathesis.toml")
SCHEMATHESIS = (sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()")
GROWTH = 128 << 20  # bytes by which this process may grow: the server, its log's index, what pytest keeps


def schemathesis(url: str, folder: Path, *options: str) -> None:
    """Asks everything; fails with its report where an answer is wrong."""
    done = subprocess.run(
        [*SCHEMATHESIS, "--config-file", CONFIG, "run", f"{url}/openapi.json", *options],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        capture_output=True,
        text=True,
        timeout=1_200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_server_answers_whatever_it_is_asked_as_it_says(served: str, effort: Effort, tmp_path: Path) -> None:
    seed = ("--seed", str(effort.seed))
    schemathesis(served, tmp_path, *seed, "--phases=stateful", "--max-examples=5")
    before = psutil.Process().memory_info().rss
    how_much = ("--max-examples=5",) if effort.seconds is None else (f"--max-time={effort.seconds:.0f}",)
    schemathesis(served, tmp_path, *seed, *how_much)
    assert psutil.Process().memory_info().rss - before < GROWTH
