"""The real thing: Ray Serve, HAProxy, Redis, MLflow and the log, over HTTP, in processes of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serving.keys import changing, mint
from tests.conftest import LOOPBACK, listening
from tests.serving.system import Load, Process, check_log, promote

pytestmark = pytest.mark.system

KILLS = int(os.environ.get("NBA_TEST_KILLS", "2"))  # kill -9 of the replica under load; 20 in the long run


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


def test_everything_listens_on_loopback_only(server: Process) -> None:
    found = listening(server.tree())
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
    beyond = {(ip, port) for _, ip, port in listening(server.tree()) if ip not in LOOPBACK}
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
