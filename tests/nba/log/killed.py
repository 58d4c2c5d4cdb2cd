"""A process that ships or compacts, and is killed (SIGKILL) as it comes to a place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import os, signal, sys
from importlib import import_module
from pathlib import Path

def compact(folder, target):
    import_module("nba.log.compact").compact(Path(folder), Path(target))

def ship(folder, archive):
    import_module("nba.log.ship").ship(Path(folder), archive)

job, place, nth, folder, target = sys.argv[1:]
module, _, path = place.partition(":")
owner = import_module(module)
*inner, name = path.split(".")
for each in inner:
    owner = getattr(owner, each)
real, calls = getattr(owner, name), 0

def fatal(*arguments, **named):
    global calls
    calls += 1
    if calls == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)

setattr(owner, name, fatal)
{"ship": ship, "compact": compact}[job](folder, target)
"""


def killed(job: str, place: str, nth: int, folder: Path, target: Path) -> None:
    """Runs `ship` or `compact`, and kills it as it calls the function at `place` for the nth time."""
    arguments = [sys.executable, "-c", CODE, job, place, str(nth), str(folder), str(target)]
    ended = subprocess.run(arguments, cwd=ROOT, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
