"""The real thing: Ray Serve, HAProxy, Redis, MLflow and the log, over HTTP, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from nba.log import read_records
from nba.records import DecisionRecord
from serving.answers import answer
from serving.archive import canonical
from serving.keys import changing, mint
from serving.wire import encode

pytestmark = pytest.mark.system

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
KILLS = int(os.environ.get("NBA_TEST_KILLS", "2"))  # kill -9 of the replica under load; 20 in the long run

SERVE = """
import json, sys
from serving.launch import start
from serving.settings import Settings
running = start(Settings.from_environment(json.loads(sys.argv[1])))
print(running.url, flush=True)
sys.stdin.read()
running.stop()
"""

PROMOTE = """
import sys, warnings
from pathlib import Path
from mlflow import MlflowClient
from nba.artefact import load_artefact
from nba.home import Home
uri = Home(Path(sys.argv[1])).tracking_uri
client = MlflowClient(tracking_uri=uri, registry_uri=uri)
found = client.get_experiment_by_name("nba/support")
place = str(Path(sys.argv[1]) / "mlflow" / "artifacts")
experiment = found.experiment_id if found else client.create_experiment("nba/support", artifact_location=place)
if not client.search_registered_models("name='support'"):
    client.create_registered_model("support")
run = client.create_run(experiment).info.run_id
client.log_artifacts(run, sys.argv[2], "policy")
tags = {"digest": load_artefact(Path(sys.argv[2])).policy.digest}
version = client.create_model_version("support", f"runs:/{run}/policy", run, tags=tags).version
client.set_registered_model_alias("support", "champion", version)
"""


@dataclass
class Process:
    """A server in a process tree of its own."""

    home: Path
    redis_url: str
    port: int
    settings: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def start(self) -> None:
        given = {"home": str(self.home), "redis_url": self.redis_url, "port": self.port, **self.settings}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.errors()

    def errors(self) -> str:
        assert self.process is not None
        return self.process.communicate(timeout=120)[1]

    def tree(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def replica(self) -> psutil.Process:
        return next(p for p in self.tree() if "ServeReplica" in "".join(p.cmdline()))

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.communicate(timeout=120)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate(timeout=120)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=10.0)


def promote(home: Path, artefact: Path) -> None:
    subprocess.run([sys.executable, "-c", PROMOTE, str(home), str(artefact)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, artefacts: dict[str, Path], module_redis: str, serving_port: int
) -> Iterator[Process]:
    """A server with one promoted version, uniform."""
    home = tmp_path_factory.mktemp("home")
    promote(home, artefacts["uniform"])
    server = Process(home, module_redis, serving_port)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def serving_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def module_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis for this module, which nobody empties."""
    from features.redis_server import RedisServer
    from nba.home import Home

    server = RedisServer.start(Home(tmp_path_factory.mktemp("redis")))
    yield server.url
    server.stop()


class Load:
    """Clients that decide without pause, and repeat an id until it is answered."""

    def __init__(self, server: Process, name: str, body: Callable[..., dict[str, Any]], clients: int = 4) -> None:
        self.answers: list[dict[str, Any]] = []
        self.refusals: list[str] = []  # everything that was not an answer
        self._server, self._name, self._body = server, name, body
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client_number: int) -> None:
        number = 0
        with self._server.client() as client:
            while not self._stop.is_set():
                number += 1
                self._until_answered(client, self._body(decision_id=f"{self._name}-{client_number}-{number}"))

    def _until_answered(self, client: httpx.Client, body: dict[str, Any]) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                response = client.post("/v1/decide", json=body)
            except httpx.HTTPError as error:
                self.refusals.append(type(error).__name__)
            else:
                if response.status_code in (200, 201):
                    self.answers.append(response.json())
                    return
                self.refusals.append(f"{response.status_code} {response.text[:200]}")
            time.sleep(0.05)
        raise AssertionError(f"{body['decision_id']} was not answered in a minute")


def check_log(home: Path, answers: list[dict[str, Any]]) -> None:
    """Every acknowledged decision is in the log, and its canonical record is, field by field, what was answered.

    A killed replica may leave more records of an id that it never answered: all of them say the same action.
    """
    records: dict[str, list[DecisionRecord]] = {}
    for record in read_records(home / "log"):
        if isinstance(record, DecisionRecord):
            records.setdefault(record.decision_id, []).append(record)
    for told in answers:
        of_id = records[told["decision_id"]]
        kept = canonical(of_id)
        assert kept is not None
        assert json.loads(encode(answer(kept, replayed=told["replayed"]))) == told
        assert {(r.decision.action_id, r.decision.draw) for r in of_id} == {
            (kept.decision.action_id, kept.decision.draw)
        }


def test_the_contract_holds_through_ray(server: Process, body: Callable[..., dict[str, Any]]) -> None:
    with server.client() as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["log"]) == (200, "writable")
        first = client.post("/v1/decide", json=body(decision_id="sys-1"))
        again = client.post("/v1/decide", json=body(decision_id="sys-1"))
        assert (first.status_code, again.status_code) == (201, 200)
        assert {**first.json(), "replayed": True} == again.json()
        assert client.post("/v1/decide", json=body(decision_id="sys-1", explore=False)).status_code == 409
        assert client.post("/v1/decide", json={"moment": "tone_tuner"}).status_code == 422
        assert client.post("/v1/decide", content=b"{").status_code == 400
        assert client.post("/v1/decide", content=b" " * 300_000).status_code == 413
        assert client.get("/no/such/path").json()["error"]["code"] == "not_found"
        reward = {"outcome": "resolved", "value": 1.0, "idempotency_key": "r-1"}
        assert client.post("/v1/decisions/sys-1/rewards", json=reward).json() == {"status": "joined"}
        assert client.post("/v1/decisions/sys-1/rewards", json=reward).json() == {"status": "duplicate"}
        assert client.post("/v1/decisions/sys-2/rewards", json=reward).status_code == 404
        items = [body(decision_id=f"sys-b-{i}") for i in range(1_000)]
        results = client.post("/v1/decide:batch", json={"decisions": items}).json()["results"]
        assert [r["decision_id"] for r in results] == [i["decision_id"] for i in items]
        for i in range(0, 1_000, 50):
            assert client.post(f"/v1/decisions/sys-b-{i}/replay").json() == {"identical": True}
        assert client.get("/v1/decisions/sys-1").json()["state"] == "joined"
        assert "nba_decisions_total" in client.get("/metrics").text
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port + 1}", trust_env=False, timeout=10.0) as fast:
        assert fast.post("/v1/decide", json=body(decision_id="sys-1")).json() == again.json()
        assert fast.get("/readyz").json()["lane"] == f"127.0.0.1:{server.port + 1}"


def listening(server: Process) -> set[tuple[str, str, int]]:
    """Program, address and port of every listener of a server's processes."""
    return {
        (process.name(), connection.laddr.ip, connection.laddr.port)
        for process in server.tree()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def test_everything_listens_on_loopback_only(server: Process) -> None:
    found = listening(server)
    assert ("haproxy", "127.0.0.1", server.port) in found
    assert server.port + 1 in {port for _, _, port in found}, "the fast lane"
    assert {ip for _, ip, _ in found} <= LOOPBACK, found


def test_a_second_server_on_the_port_is_refused_with_a_sentence(server: Process) -> None:
    second = Process(server.home, server.redis_url, server.port)
    with pytest.raises(AssertionError, match=f"port {server.port} on 127.0.0.1 is taken"):
        second.start()


def test_a_promotion_is_served_within_five_seconds_and_no_request_fails(
    server: Process, body: Callable[..., dict[str, Any]], artefacts: dict[str, Path]
) -> None:
    with Load(server, "promote", body) as load:
        time.sleep(0.5)
        promote(server.home, artefacts["rules"])
        promoted = time.monotonic()
        while not any(told["policy"]["version"] == "2" for told in load.answers[-8:]):
            assert time.monotonic() < promoted + 5.0
            time.sleep(0.02)
        time.sleep(0.5)
    assert load.refusals == []
    assert {told["policy"]["version"] for told in load.answers} == {"1", "2"}
    check_log(server.home, load.answers)


def test_a_killed_replica_loses_no_acknowledged_decision(server: Process, body: Callable[..., dict[str, Any]]) -> None:
    with Load(server, "kill", body) as load:
        for _ in range(KILLS):
            time.sleep(1.0)
            before = len(load.answers)
            killed = server.replica()
            killed.send_signal(signal.SIGKILL)
            at = time.monotonic()
            while len(load.answers) < before + 50 or not killed_and_replaced(server, killed):
                assert time.monotonic() < at + 30.0, "not back within 30 s"
                time.sleep(0.05)
    check_log(server.home, load.answers)
    assert not [r for r in load.refusals if r[0] == "5" and not r.startswith("503")], set(load.refusals)


def killed_and_replaced(server: Process, killed: psutil.Process) -> bool:
    try:
        return server.replica().pid != killed.pid
    except StopIteration:
        return False


def test_a_restart_with_keys_keeps_answers_and_opens_the_api_alone(
    server: Process, body: Callable[..., dict[str, Any]]
) -> None:
    with server.client() as client:
        first = client.post("/v1/decide", json=body(decision_id="restart-1")).json()
    tree = server.tree()
    server.stop()
    assert [p for p in tree if p.is_running()] == []
    minted = mint("app", ("decide",), packs=("support",), now=datetime.now(UTC))
    with changing(server.home / "keys.json") as keys:
        keys.append(minted.key)
    server.settings["host"] = "0.0.0.0"
    server.start()
    key = {"authorization": f"Bearer {minted.token}"}
    for port in (server.port, server.port + 1):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10.0) as client:
            assert client.post("/v1/decide", json=body(decision_id="restart-1")).status_code == 401
            again = client.post("/v1/decide", json=body(decision_id="restart-1"), headers=key)
            assert again.status_code == 200
            assert again.json() == {**first, "replayed": True}
    beyond = {(ip, port) for _, ip, port in listening(server) if ip not in LOOPBACK}
    assert beyond == {("0.0.0.0", server.port), ("0.0.0.0", server.port + 1)}


def test_a_killed_start_leaves_no_process(server: Process) -> None:
    tree = server.tree()
    server.kill()
    _, alive = psutil.wait_procs(tree, timeout=20)
    # Ray's own agents notice within a minute or two; nothing that serves or writes may stay.
    assert [p for p in alive if "Agent" not in "".join(p.cmdline())] == []


def test_without_a_policy_it_refuses_to_start_and_leaves_nothing(
    tmp_path: Path, module_redis: str, serving_port: int
) -> None:
    port = serving_port + 2  # the next one is that of the fast lane
    empty = Process(tmp_path, module_redis, port)
    with pytest.raises(AssertionError, match="there is no policy to serve for pack 'support'"):
        empty.start()
    assert empty.process is not None
    assert empty.process.returncode == 1
