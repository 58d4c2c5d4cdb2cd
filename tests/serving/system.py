"""Real servers in processes of their own, clients that load them, and what has to be in their log afterwards."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from nba.log import read_records
from nba.records import DecisionRecord
from serving.answers import answer
from serving.archive import canonical
from serving.wire import encode

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
    program: str = SERVE
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def start(self) -> None:
        given = {"home": str(self.home), "redis_url": self.redis_url, "port": self.port, **self.settings}
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.program, json.dumps(given)],
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

    def replicas(self) -> list[psutil.Process]:
        found = []
        for process in self.tree():
            with contextlib.suppress(psutil.Error):  # it has just died
                if "ServeReplica" in "".join(process.cmdline()):
                    found.append(process)
        return found

    def replica(self) -> psutil.Process:
        return next(iter(self.replicas()))

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
