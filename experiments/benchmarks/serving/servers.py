"""Starts what is measured, each in processes of its own, and says where requests go."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from load import body
from usage import tree

from features.connection import feast_environment
from features.plan import REPOSITORY
from nba.home import Home

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BIN = Path(sys.executable).parent
START_S = 150.0
END_S = 40.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a kind of request goes."""

    name: str
    server: str
    path: str
    kind: str  # as `load.body` knows it
    port: int = 0  # above the server's own


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    pid: int
    port: int
    cold_start_s: float  # from its start to its first answer


TARGETS = (
    Target("uvicorn, no-op", "noop", "/x", "decide"),
    Target("ours, lane, no Ray", "lane", "/v1/decide", "decide"),
    Target("ingress, no-op", "ray", "/noop/x", "decide"),
    Target("ours, ingress", "ray", "/v1/decide", "decide"),
    Target("ours, lane", "ray", "/v1/decide", "decide", port=1),
    Target("Vowpal Wabbit, uvicorn", "vw", "/x", "decide"),
    Target("first write, Ray Serve", "first", "/decide", "decide"),
    Target("mlflow models serve", "mlflow", "/invocations", "mlflow"),
    Target("feast serve", "feast", "/get-online-features", "feast"),
)
BATCHES = (
    Target("ours, lane, 100 at once", "ray", "/v1/decide:batch", "batch-100", port=1),
    Target("ours, lane, 1,000 at once", "ray", "/v1/decide:batch", "batch-1000", port=1),
    Target("ours, ingress, 100 at once", "ray", "/v1/decide:batch", "batch-100"),
    Target("ours, lane, no Ray, 100 at once", "lane", "/v1/decide:batch", "batch-100"),
)


class AbsentError(Exception):
    """What should be measured is not here, or does not start."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where servers find their things."""

    home: Path
    redis_url: str
    vw_python: Path | None = None
    replicas: int = 1


@contextlib.contextmanager
def started(name: str, place: Place) -> Iterator[Running]:
    """A server of that name. Raises AbsentError."""
    port = free_port()
    command, first = _command(name, place, port)
    folder = place.home / "benchmark"
    environment = _environment(name, place)
    began = time.monotonic()
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=HERE)
        try:
            _until_answered(process, port, first, folder / f"{name}.log")
            took = time.monotonic() - began
            if name == "ray":  # the no-op beside comes later
                _until_answered(process, port, Target("", "", "/noop/x", "decide"), folder / f"{name}.log")
            yield Running(process.pid, port, round(took, 2))
        finally:
            _end(process)


def _command(name: str, place: Place, port: int) -> tuple[Sequence[str], Target]:
    """What starts a server on a port, and the first request it is to answer."""
    first = next(target for target in TARGETS if target.server == name)
    at, home = str(port), str(place.home)
    if name == "lane":
        return [sys.executable, "ours.py", "lane", home, place.redis_url, at], first
    if name == "ray":
        ours = next(target for target in TARGETS if target.name == "ours, ingress")
        return [sys.executable, "ours.py", "ray", home, place.redis_url, at, str(place.replicas)], ours
    if name == "first":
        return [sys.executable, "first_write.py", home, place.redis_url, at], first
    if name == "mlflow":
        model = ["-m", str(place.home / "benchmark" / "mlflow")]
        return [str(BIN / "mlflow"), "models", "serve", *model, "-p", at, "--env-manager", "local"], first
    if name == "feast":
        return [
            str(BIN / "feast"),
            "-c",
            str(REPOSITORY),
            "serve",
            "-h",
            "127.0.0.1",
            "-p",
            at,
            "--no-access-log",
        ], first
    if name == "vw":
        if place.vw_python is None or not place.vw_python.exists():
            raise AbsentError("no --vw-python")
        return [str(place.vw_python), "vw.py", at], first
    return [sys.executable, "noop.py", at], first


def _environment(name: str, place: Place) -> Mapping[str, str]:
    given = {
        n: v for n, v in os.environ.items() if not n.startswith(("NBA_", "RAY_")) and n != "PYTHONDONTWRITEBYTECODE"
    }
    given |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    if name != "vw":
        given["PYTHONPATH"] = f"{ROOT}:{HERE}"
    if name == "feast":
        given |= feast_environment(Home(place.home), place.redis_url) | {"NBA_PACKS": "support"}
    if name == "mlflow":
        given |= {"MLFLOW_TRACKING_URI": f"sqlite:///{place.home}/mlflow/mlflow.db"}
    if name == "first":
        given |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return given


def _until_answered(process: subprocess.Popen[bytes], port: int, target: Target, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port + target.port, timeout=10.0)
            connection.request("POST", target.path, body(target.kind, 0), {"content-type": "application/json"})
            if connection.getresponse().status in (200, 201):
                return
        time.sleep(0.05)
    raise AbsentError(f"does not answer: {' / '.join(log.read_text().strip().splitlines()[-3:])}")


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_S if process.args[1] in ("ours.py", "first_write.py") else 0.2)  # type: ignore[index]
    below = tree(process.pid)  # MLflow and Feast start workers, and leave them behind when they are killed
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10.0)
    for left in below:
        with contextlib.suppress(psutil.Error):
            left.kill()
    process.wait()


def free_port() -> int:
    """A port that is free, and the next one too."""
    while True:
        with socket.socket() as one, socket.socket() as two, contextlib.suppress(OSError, OverflowError):
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            two.bind(("127.0.0.1", port + 1))
            return port
