"""Replicas on several nodes of a Ray cluster, one of which is lost: on one machine, with a raylet each."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from features.redis_server import RedisServer
from nba.home import Home
from tests.conftest import free_port
from tests.serving.system import Load, Process, check_log, promote

pytestmark = pytest.mark.system

# As `serving/config.yaml` says it is done by hand: the environment first, then Ray's nodes, then the application.
CLUSTER = """
import json, os, sys
from serving.launch import environment, runtime_folder
from serving.settings import Settings
settings = Settings.from_environment(json.loads(sys.argv[1]))
folder = runtime_folder()
(folder / "ray").mkdir()  # where Cluster notes its address
for name, value in environment(settings, folder).items():
    os.environ.pop(name, None) if value is None else os.environ.update({name: value})
import ray
from ray import serve
from ray.cluster_utils import Cluster
from serving.app import LOGGING, LOOPBACK, NAME, build
node = {"num_cpus": 1, "node_ip_address": LOOPBACK, "object_store_memory": 80_000_000}
cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False, "temp_dir": str(folder)})
cluster.add_node(**node)
ray.init(address=cluster.address, namespace="nba", log_to_driver=False, configure_logging=False)
options = {"host": LOOPBACK, "port": settings.port}
serve.start(proxy_location="HeadOnly", http_options=options, logging_config=LOGGING)
serve.run(build(settings), name=NAME, route_prefix="/")
print(f"http://{LOOPBACK}:{settings.port}", flush=True)
for line in sys.stdin:
    cluster.add_node(**node)
    print("added", flush=True)
serve.shutdown()
ray.shutdown()
cluster.shutdown()
"""


@pytest.fixture
def cluster(tmp_path: Path, artefacts: dict[str, Path]) -> Iterator[Process]:
    """Two nodes with a replica each, which leaves no room for another."""
    redis = RedisServer.start(Home(tmp_path / "redis"))
    promote(tmp_path / "home", artefacts["uniform"])
    server = Process(tmp_path / "home", redis.url, free_port(), {"replicas": 2, "cpus": 0.7}, CLUSTER)
    server.start()
    yield server
    server.stop()
    redis.stop()


def by_node(server: Process) -> dict[int, list[psutil.Process]]:
    """Replicas by the raylet that runs them."""
    nodes: dict[int, list[psutil.Process]] = defaultdict(list)
    for replica in server.replicas():
        with contextlib.suppress(psutil.Error):  # it has just died
            nodes[replica.ppid()].append(replica)
    return nodes


def waited(until: Callable[[], bool], within_s: float = 60.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if until():
            return True
        time.sleep(0.1)
    return False


def test_a_node_is_lost_and_another_takes_its_place_without_a_lost_or_second_decision(
    cluster: Process, body: Callable[..., dict[str, Any]]
) -> None:
    assert waited(lambda: sorted(map(len, by_node(cluster).values())) == [1, 1]), by_node(cluster)
    with cluster.client() as client:
        before = client.post("/v1/decide", json=body(decision_id="before")).json()
    with Load(cluster, "node", body) as load:
        time.sleep(1.0)
        lost = max(by_node(cluster))  # the head was started first
        for process in [*psutil.Process(lost).children(recursive=True), psutil.Process(lost)]:
            process.kill()
        time.sleep(2.0)
        assert cluster.process is not None
        assert cluster.process.stdin is not None
        cluster.process.stdin.write("another\n")
        cluster.process.stdin.flush()
        assert waited(lambda: len(by_node(cluster).keys() - {lost}) == 2), by_node(cluster)
        time.sleep(2.0)
    assert not [r for r in load.refusals if r[0] == "5" and not r.startswith("503")], set(load.refusals)
    check_log(cluster.home, [before, *load.answers])
    told = [
        httpx.post(f"http://127.0.0.1:{cluster.port + 1}/v1/decide", json=body(decision_id="before"), trust_env=False)
        for _ in range(8)  # connections of their own, which the kernel spreads over the replicas
    ]
    assert [answer.json() for answer in told] == [{**before, "replayed": True}] * 8
