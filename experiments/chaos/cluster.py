"""Real Ray Serve: what is killed comes back, what is changed changes without a failed request."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import psutil
from client import Load
from fault import Fault, Row, Watch, attempt, patient, quantile, until
from ground import HERE, Ground, free_port
from policies import check_versions, promote_in_mlflow
from prove import prove

REPLICAS = 2
BACK_S, INGRESS_BACK_S, CONTROLLER_BACK_S = 15.0, 10.0, 30.0
START_S = 240.0


@dataclass
class Cluster:
    """A server in a process tree of its own."""

    process: subprocess.Popen[str]
    url: str
    fast_url: str

    def tree(self, word: str) -> list[psutil.Process]:
        """Its living processes whose command line has this word."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and word in "".join(process.cmdline()):
                    found.append(process)
        return found

    def say(self, word: str) -> None:
        """Tells it to do something, and waits until that is done."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("no pipes")
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        for told in self.process.stdout:  # Ray tells things there, too
            if told.strip() == "deployed":
                return
        raise RuntimeError(f"{word}: the server ended")

    def version(self) -> str:
        """What serves, by whichever replica answers."""
        told = httpx.get(f"{self.url}/v1/policies", timeout=10, trust_env=False).json()
        return str(told["policies"][0]["policy"]["version"])


@contextmanager
def cluster(ground: Ground, watch: Watch) -> Iterator[Cluster]:
    """A started server, ended with everything it started."""
    promote_in_mlflow(ground.home, ground.artefact("uniform"))
    port, fast = free_port(), free_port()
    asked: dict[str, Any] = {
        "home": str(ground.home.path),
        "packs": [str(ground.pack_file)],
        "redis_url": ground.redis.url,
        "port": port,
        "fast_port": fast,
        "replicas": REPLICAS,
        "champion_poll_s": 0.5,
        "start_timeout_s": START_S,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NBA_", "RAY_", "MLFLOW_"))}
    began = time.monotonic()
    with (ground.folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, HERE / "serve.py", json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=clean,
            cwd=HERE.parent.parent,
            start_new_session=True,
        )
    tree: list[psutil.Process] = []
    try:
        if process.stdout is None or not process.stdout.readline().startswith("ready"):
            raise RuntimeError(f"no server: {(ground.folder / 'serve.log').read_text()[-600:]}")
        watch.note(f"started in {time.monotonic() - began:.0f} s")
        made = Cluster(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{fast}")
        until(lambda: len(made.tree("ServeReplica")) >= REPLICAS, 60.0, "all replicas")
        yield made
    finally:
        tree = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=120)
        process.kill()
        for left in psutil.wait_procs(tree, timeout=5)[1]:  # of this server alone
            with contextlib.suppress(psutil.Error):
                left.kill()


def rows(ground: Ground, kills: int) -> Iterator[Row]:
    """One server for all of it, because a start costs half a minute; the last row proves its whole log."""
    loads: dict[str, Load] = {}
    started = Watch()
    with ground:
        try:
            with cluster(ground, started) as server:
                for part in PARTS:
                    yield attempt(_fault(part, kills), partial(_play, part, ground, server, kills, loads))
        except Exception as error:  # noqa: BLE001  # no server: the last row says so
            started.wrong.append(f"{type(error).__name__}: {error}"[:600])

        def proved(watch: Watch) -> None:
            watch.wrong, watch.seen = started.wrong, started.seen
            proof = prove(ground, [load.ledger for load in loads.values()])
            watch.check(str(proof), proof.ok)
            if "promotion" in loads:
                check_versions(ground, watch, loads["promotion"], {"1": "uniform", "2": "rules"})

        yield attempt(_fault(LAST, kills), proved)


def _play(part: Part, ground: Ground, server: Cluster, kills: int, loads: dict[str, Load], watch: Watch) -> None:
    urls = [server.fast_url] if part.fast_only else [server.url, server.fast_url]
    loads[part.key] = Load(urls, f"ray-{part.key}", rewards=part.key != "promotion")
    with loads[part.key] as load:
        load.answered(20, 60.0)
        part.play(ground, server, watch, load, kills)
        load.answered(20, 60.0)
    refused = dict(load.ledger.refused)
    watch.check(f"{len(load.ledger.answers)} answers, refused {refused}", part.may_refuse or not refused)


def _fault(part: Part, kills: int) -> Fault:
    return Fault("cluster", part.name.format(kills=kills), part.done, part.must, lambda ground, watch: None)


def _killed(ground: Ground, server: Cluster, watch: Watch, load: Load, kills: int) -> None:
    back = list[float]()
    for i in range(kills):
        victim = server.tree("ServeReplica")[i % REPLICAS]
        victim.kill()
        began = time.monotonic()
        load.answered(5, 60.0)
        until(lambda v=victim: _replaced(server, v), 60.0, "replaced")  # type: ignore[misc]
        back.append(time.monotonic() - began)
    middle, most = quantile(back, 0.5), max(back)
    watch.check(f"all replicas back after {middle:.1f} s, at most {most:.1f} s", most < patient(BACK_S))


def _replaced(server: Cluster, victim: psutil.Process) -> bool:
    """Whether there are as many replicas as before, without this one, and each of them listens."""
    alive = [process for process in server.tree("ServeReplica") if process.pid != victim.pid]
    fast = int(server.fast_url.rpartition(":")[2])
    return sum(_listens(process, fast) for process in alive) >= REPLICAS


def _listens(process: psutil.Process, port: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in process.net_connections("inet"))
    return False


def _ingress(ground: Ground, server: Cluster, watch: Watch, load: Load, kills: int) -> None:
    for process in server.tree("haproxy"):
        if process.name() == "haproxy":
            process.kill()
    began = time.monotonic()
    until(lambda: not _answers(server.url), 10.0, "the ingress is gone")
    until(lambda: _answers(server.url), 60.0, "the ingress is back")
    took = time.monotonic() - began
    watch.check(f"back after {took:.1f} s", took < patient(INGRESS_BACK_S))


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=1.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _controller(ground: Ground, server: Cluster, watch: Watch, load: Load, kills: int) -> None:
    (victim, *_) = server.tree("ServeController")
    victim.kill()
    another: Callable[[], bool] = lambda: any(p.pid != victim.pid for p in server.tree("ServeController"))  # noqa: E731
    took = until(another, patient(CONTROLLER_BACK_S), "another controller")
    watch.note(f"another one after {took:.1f} s")
    load.answered(100, 60.0)


def _promoted(ground: Ground, server: Cluster, watch: Watch, load: Load, kills: int) -> None:
    promote_in_mlflow(ground.home, ground.artefact("rules"))
    seen = len(load.ledger.answers)
    took = until(lambda: any(t["policy"]["version"] == "2" for t in load.ledger.answers[seen:]), 30.0, "version 2")
    watch.check(f"serves after {took:.1f} s", took < patient(5.0))


def _redeployed(ground: Ground, server: Cluster, watch: Watch, load: Load, kills: int) -> None:
    before = {process.pid for process in server.tree("ServeReplica")}
    began = time.monotonic()
    server.say("redeploy")
    until(lambda: not before & {p.pid for p in server.tree("ServeReplica")}, 90.0, "the old replicas are gone")
    watch.note(f"{len(before)} replicas replaced in {time.monotonic() - began:.0f} s")


@dataclass(frozen=True, slots=True)
class Part:
    """A row."""

    key: str
    name: str
    done: str
    must: str
    play: Callable[[Ground, Cluster, Watch, Load, int], None]
    may_refuse: bool = False  # whether requests may have to be repeated
    fast_only: bool = False  # whether the load asks the replicas' own listeners alone


PARTS = (
    Part(
        "kill",
        "Ray Serve: kill -9 of a replica, {kills} times",
        f"{REPLICAS} replicas under load by either route, one killed in turn",
        "back within 15 s; requests are repeated, nothing acknowledged is lost",
        _killed,
        may_refuse=True,
    ),
    Part(
        "ingress",
        "Ray Serve: kill -9 of HAProxy",
        "under load by the replicas' own listeners",
        "back within 10 s; the replicas' own listeners refuse nothing meanwhile",
        _ingress,
        fast_only=True,
    ),
    Part(
        "controller",
        "Ray Serve: kill -9 of the controller",
        "under load by either route",
        "another is started; no request fails",
        _controller,
    ),
    Part(
        "promotion",
        "Ray Serve: a promotion",
        "another champion in MLflow under load by either route",
        "serves within 5 s; no request fails; every distribution is wholly that of its version",
        _promoted,
    ),
    Part(
        "redeploy",
        "Ray Serve: a rolling redeploy",
        "the application deployed anew under load by either route",
        "no request fails",
        _redeployed,
    ),
)
LAST = Part(
    "proof",
    "Ray Serve: all of that",
    "the log of this server against its clients' books",
    "no acknowledged decision or report lost or doubled, no wrong propensity",
    lambda *_: None,
)
