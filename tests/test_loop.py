"""The loop, end to end, on real servers: decide, log, reward, learn, judge, promote, serve; start, restart, stop."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

import httpx
import pytest

from nba.home import Home
from nba.log import read_records
from nba.records import DecisionRecord
from tests.installation import Installation

pytestmark = pytest.mark.system
# What the gate needs to see a lift; a person runs 20,000 (NBA_LOOP_ROUNDS).
ROUNDS = int(os.environ.get("NBA_LOOP_ROUNDS", "12000"))


class Load:
    """Decisions without pause from another thread, and what went wrong with them."""

    def __init__(self, url: str) -> None:
        self.url, self.versions, self.failures = url, list[str](), list[str]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/v1/decide", json=body())
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code == 201:
                    self.versions.append(answer.json()["policy"]["version"])
                else:
                    self.failures.append(answer.text)


def body(**more: Any) -> dict[str, Any]:
    return {"subject_id": "sim-000001", "moment": "tone_tuner", "context": {"sentiment": -0.5}, **more}


def wait_until_serving(installation: Installation, version: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while installation.serving() != version:
        assert time.monotonic() < deadline, f"version {version} does not serve after {seconds} s"
        time.sleep(0.1)


def test_what_is_learned_from_the_log_is_promoted_under_load_without_a_failed_request(
    installation: Installation,
) -> None:
    """Uniform serves, its log teaches a better policy, the gate lets it through, and it serves within five seconds."""
    uniform = json.loads(installation.nba("train", "--policy", "uniform", "--json"))["version"]
    installation.nba("promote", uniform, "--force", "--why", "a log that teaches")
    wait_until_serving(installation, uniform, 5)
    simulate = ("simulate", "--url", installation.url, "--batch", "100", "--seed", "1", "--json")
    before = json.loads(installation.nba(*simulate, "--rounds", str(ROUNDS)))
    assert before["errors"] == {}
    assert before["decided"] == ROUNDS
    assert before["sessions"]["service_conversation"]["sessions"] == ROUNDS // 50
    assert before["policies"] == {uniform: ROUNDS + before["steps"]}

    learned = json.loads(installation.nba("train", "--from", "log", "--json"))["version"]
    judged = json.loads(installation.nba("evaluate", "--json"))
    assert judged["verdict"]["promote"], judged["verdict"]
    with Load(installation.url) as load:
        installation.nba("promote")
        wait_until_serving(installation, learned, 5)
        time.sleep(1)
    assert load.failures == []
    assert load.versions == sorted(load.versions, key=[uniform, learned].index)
    assert set(load.versions) == {uniform, learned}

    for moment, true in judged["evaluation"]["truth"].items():
        assert true["challenger"] > true["yardsticks"]["uniform"], moment
    total = {k: sum(t["yardsticks"][k] for t in judged["evaluation"]["truth"].values()) for k in ("rules", "oracle")}
    assert total["rules"] < sum(t["challenger"] for t in judged["evaluation"]["truth"].values()) < total["oracle"]

    served = [entry["to_version"] for entry in json.loads(installation.nba("ledger", "--json"))]
    assert served[-2:] == [uniform, learned]


def test_a_retrain_repeated_changes_nothing(installation: Installation) -> None:
    installation.nba("simulate", "--url", installation.url, "--batch", "100", "--rounds", "1000")
    first = json.loads(installation.nba("retrain", "--quarter", "2026Q4", "--as-of", "2026-12-31T23:00:00", "--json"))
    ledger = installation.nba("ledger", "--json")
    again = json.loads(installation.nba("retrain", "--quarter", "2026Q4", "--as-of", "2026-12-31T23:00:00", "--json"))
    assert (first["repeated"], again["repeated"]) == (False, True)
    versions = [[c["version"]["version"] for c in done["candidates"]] for done in (first, again)]
    assert versions[0] == versions[1]
    assert installation.nba("ledger", "--json") == ledger


def test_logged_decisions_replay_identical(installation: Installation) -> None:
    """A thousand of them, made singly and in batches, by several versions."""
    installation.nba("simulate", "--url", installation.url, "--batch", "50", "--rounds", "800")
    installation.nba("simulate", "--url", installation.url, "--rounds", "200")
    records = [r for r in read_records(Home(installation.home).log) if isinstance(r, DecisionRecord)]
    with httpx.Client(base_url=installation.url, timeout=10) as client:
        answers = [client.post(f"/v1/decisions/{r.decision_id}/replay").json() for r in records[-1000:]]
    assert len(answers) == 1000
    assert [a for a in answers if a != {"identical": True}] == []


def test_the_log_proves_itself(installation: Installation) -> None:
    assert json.loads(installation.nba("log", "verify", "--json"))["ok"] is True


def test_a_redis_that_dies_degrades_decisions_and_is_started_again(installation: Installation) -> None:
    """Before it is back, a decision says what it lacks; afterwards claims and features are there as before."""
    asked = body(decision_id="before-it-died")
    first = httpx.post(f"{installation.url}/v1/decide", json=asked, timeout=10).json()
    (redis,) = [p for p in installation.children() if p.name() == "redis-server"]
    redis.kill()
    redis.wait(10)
    during = httpx.post(f"{installation.url}/v1/decide", json=body(), timeout=10)
    assert during.status_code == 201
    assert "claims" in during.json()["degraded"]
    deadline = time.monotonic() + 60
    while httpx.get(f"{installation.url}/readyz", timeout=10).json()["status"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert httpx.post(f"{installation.url}/v1/decide", json=body(), timeout=10).json()["degraded"] == []
    assert httpx.post(f"{installation.url}/v1/decide", json=asked, timeout=10).json() == first | {"replayed": True}


def test_a_repeated_decision_survives_a_restart_and_nothing_is_left_behind(installation: Installation) -> None:
    asked = body(decision_id="kept-1")
    first = httpx.post(f"{installation.url}/v1/decide", json=asked, timeout=10)
    started = installation.children()
    assert {"redis-server", "raylet"} <= {p.name() for p in started}
    assert installation.stop() == 0
    assert installation.processes() == []
    assert [p for p in started if p.is_running()] == []
    installation.start()
    again = httpx.post(f"{installation.url}/v1/decide", json=asked, timeout=10)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json() | {"replayed": True}
    other = httpx.post(f"{installation.url}/v1/decide", json=asked | {"explore": False}, timeout=10)
    assert other.status_code == 409
