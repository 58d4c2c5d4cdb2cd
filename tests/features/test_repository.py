"""What Feast's own command line makes of the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.connection import feast_environment
from features.redis_server import RedisServer
from features.store import apply
from nba.home import Home
from nba.pack_file import load_pack

from .conftest import Seeded

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def feast(home: Home, url: str, *words: str) -> str:
    """What `feast` prints, run from the project's root as the settings file says."""
    environment = os.environ | feast_environment(home, url) | {"NBA_PACKS": "support", "PYTHONPATH": str(ROOT)}
    command = [Path(sys.executable).parent / "feast", "-c", "features/repository", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_line_finds_what_was_applied_in_process(seeded: Seeded) -> None:
    """`feast plan` would tell what `feast apply` would change: nothing."""
    assert "No changes to registry" in feast(seeded.home, seeded.url, "plan")


def test_the_command_line_applies_what_the_in_process_apply_would(fresh_home: Home) -> None:
    with RedisServer.start(fresh_home) as server:
        feast(fresh_home, server.url, "apply")
        assert apply(fresh_home, [load_pack("support")], server.url) == ()
