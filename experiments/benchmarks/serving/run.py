"""How fast the server is: answers a second, latency and CPU, beside a no-op on the same ingress and beside others.

    python experiments/benchmarks/serving/run.py --json result.json --plots .

Parts, of which --only picks some:

    load      closed loop at 1, 16 and 64 connections on every target in turn, several times over; memory, cold start
    open      requests that come by themselves, at half of what a target answered at 16 connections
    batches   many decisions in one request
    stages    one decision, stage by stage, in this process
    growth    with actions, features and the size of the log, in this process
    replicas  one replica of ours beside two
    soak      only where asked for, and then alone: --soak 600 loads the server for ten minutes

Every figure is kept in the result as it comes: a run that was cut goes on where it stopped, and `--again` forgets it.
The whole takes about twenty-five minutes; --small half a minute, without Ray and without peers.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import growth
import stages
from cells import Cells
from plots import draw
from servers import BATCHES, HERE, ROOT, TARGETS, AbsentError, Place, Running, Target, started
from tables import show
from usage import cpu_seconds, pss_mb

PARTS = ("load", "open", "batches", "stages", "growth", "replicas")
CONNECTIONS = (1, 16, 64)
SOAK_STEP_S = 30.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    seconds: float  # of one load
    repetitions: int
    connections: tuple[int, ...]
    servers: tuple[str, ...]


WHOLE = Size(4.0, 3, CONNECTIONS, ("noop", "lane", "ray", "vw", "first", "mlflow", "feast"))
SMALL = Size(0.3, 1, (1, 16), ("noop", "lane"))


def main() -> None:
    """Measures, prints the tables, writes what it was asked to write."""
    asked = _arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    if asked.again and asked.json.exists():
        asked.json.unlink()
    cells = Cells(asked.json)
    size = (
        SMALL
        if asked.small
        else replace(WHOLE, repetitions=asked.repetitions, servers=tuple(asked.server or WHOLE.servers))
    )
    parts = asked.only or [part for part in PARTS if not (asked.small and part == "replicas")]
    if asked.soak and not asked.only:
        parts = []
    if not asked.show:
        _measure(cells, size, parts, asked)
    show(cells.found)
    if asked.plots:
        draw(cells.found, asked.plots)


def _measure(cells: Cells, size: Size, parts: list[str], asked: argparse.Namespace) -> None:
    from features.redis_server import RedisServer
    from nba.home import Home

    with tempfile.TemporaryDirectory(prefix="nba-serving-") as folder:
        home = Path(folder)
        (home / "benchmark").mkdir()
        with RedisServer.start(Home(home)) as redis:
            place = Place(home, redis.url, asked.vw_python)
            whole = [] if asked.small else ["whole"]
            environment = os.environ | {"PYTHONPATH": f"{ROOT}:{HERE}"}
            command = [sys.executable, str(HERE / "prepare.py"), folder, redis.url, *whole]
            subprocess.run(command, check=True, env=environment)
            assert redis._process is not None  # noqa: S101
            redis_pid = redis._process.pid
            if "load" in parts:
                _loads(cells, size, place, redis_pid, asked)
            if "replicas" in parts:
                _replicas(cells, size, place, redis_pid)
            if asked.soak:
                _soak(cells, "lane" if asked.small else "ray", place, redis_pid, asked.soak)
            if "stages" in parts:
                stages.measure(cells, place, rounds=2 if asked.small else 15)
            if "growth" in parts:
                growth.measure(cells, redis.url, small=asked.small)


def _loads(cells: Cells, size: Size, place: Place, redis: int, asked: argparse.Namespace) -> None:
    """Every server that has something left to measure at once, then the loads in turn."""
    open_ = asked.only is None or "open" in asked.only
    batches = asked.only is None or "batches" in asked.only
    with ExitStack() as stack:
        running = _start(cells, size.servers, place, redis, stack)
        targets = [target for target in TARGETS if target.server in running]
        for i in range(size.repetitions):
            for connections in size.connections:
                for target in targets:
                    name = f"load | {target.name} | {connections} | {i}"
                    cells.get(name, lambda: _load(target, running, connections, size.seconds, redis))  # noqa: B023
            for target in [batch for batch in BATCHES if batches and batch.server in running]:
                name = f"batch | {target.name} | 1 | {i}"
                cells.get(name, lambda: _load(target, running, 1, size.seconds, redis))  # noqa: B023
        for target in targets if open_ else []:
            rate = cells.found[f"load | {target.name} | 16 | 0"]["rate"] / 2.0
            name = f"open | {target.name} | 64 | 0"
            cells.get(name, lambda: _load(target, running, 64, 3.0 * size.seconds, redis, rate))  # noqa: B023
        for name in running:
            cells.get(f"memory | {name}", lambda: pss_mb([running[name].pid]))  # noqa: B023


def _start(cells: Cells, names: tuple[str, ...], place: Place, redis: int, stack: ExitStack) -> dict[str, Running]:
    running = {}
    for name in names:
        try:
            running[name] = stack.enter_context(started(name, place))
        except AbsentError as error:
            cells.found[f"absent | {name}"] = {"why": str(error)}
            continue
        cells.found.pop(f"absent | {name}", None)
        cells.get(f"cold start | {name}", lambda: {"seconds": running[name].cold_start_s})  # noqa: B023
    return running


def _load(
    target: Target, running: dict[str, Running], connections: int, seconds: float, redis: int, rate: float | None = None
) -> dict[str, Any]:
    """One load with what it cost. CPU in microseconds a request; `path`: of what a request passes, without Redis."""
    server = running[target.server]
    command = [sys.executable, "load.py", str(server.port + target.port), target.path, target.kind, str(connections)]
    words = [*command, str(seconds), *([] if rate is None else [str(rate)])]
    before = cpu_seconds([server.pid, redis])
    done = subprocess.run(words, cwd=HERE, capture_output=True, text=True, check=False)
    after = cpu_seconds([server.pid, redis])
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    told: dict[str, Any] = json.loads(done.stdout)
    n = max(told["answers"], 1)
    by_role = {role: round((after[role] - before.get(role, 0.0)) / n * 1e6, 1) for role in after}
    of_ray = any(role.startswith("replica") for role in by_role)
    path = sum(us for role, us in by_role.items() if role != "redis" and not (of_ray and role == "rest"))
    return {**told, "asked_rate": rate, "cpu_us": by_role, "path_us": round(path, 1)}


def _replicas(cells: Cells, size: Size, place: Place, redis: int) -> None:
    """Two replicas, for what one did in `load`."""
    with ExitStack() as stack:
        running = {"ray": stack.enter_context(started("ray", replace(place, replicas=2)))}
        for i in range(size.repetitions):
            for target in [target for target in TARGETS if target.server == "ray"]:
                name = f"replicas 2 | {target.name} | 64 | {i}"
                cells.get(name, lambda: _load(target, running, 64, size.seconds, redis))  # noqa: B023


def _soak(cells: Cells, name: str, place: Place, redis: int, seconds: float) -> None:
    """The fast lane under a steady load; figures of every half minute. Those of a run before are forgotten."""
    target = next(t for t in TARGETS if t.server == name and "lane" in t.name)
    step_s = min(SOAK_STEP_S, seconds)
    for past in [past for past in cells.found if past.startswith("soak | ")]:
        del cells.found[past]
    with ExitStack() as stack:
        running = {name: stack.enter_context(started(name, place))}
        for i in range(max(1, round(seconds / step_s))):

            def step() -> dict[str, Any]:
                told = _load(target, running, 16, step_s, redis)
                return {**told, "pss_mb": pss_mb([running[name].pid, redis])}

            cells.get(f"soak | {target.name} | {i}", step)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("result.json"), help="where figures are kept")
    parser.add_argument("--again", action="store_true", help="forget the figures there are")
    parser.add_argument("--show", action="store_true", help="print the tables of the figures there are")
    parser.add_argument("--plots", type=Path, help="folder for pictures")
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--server", action="append", choices=WHOLE.servers, help="instead of all of them")
    parser.add_argument("--repetitions", type=int, default=WHOLE.repetitions)
    parser.add_argument("--vw-python", type=Path, help="interpreter with Vowpal Wabbit (peers.txt)")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds")
    parser.add_argument("--small", action="store_true")
    return parser


if __name__ == "__main__":
    main()
