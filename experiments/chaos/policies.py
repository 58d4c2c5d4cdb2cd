"""Where policies come from: MLflow down or locked, artefacts that are damaged or of another pack, swaps under load."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from client import Load
from fault import Fault, Watch, until
from ground import Ground, Replica, free_port
from prove import decisions, prove
from replicas import asked

from nba.home import Home
from nba.pack_file import load_pack

_PROMOTE = """
import sys
from mlflow import MlflowClient
from nba.artefact import load_artefact
from pathlib import Path
uri, artefact, place = sys.argv[1], sys.argv[2], sys.argv[3]
client = MlflowClient(tracking_uri=uri, registry_uri=uri)
found = client.get_experiment_by_name("nba/chaos")
experiment = found.experiment_id if found else client.create_experiment("nba/chaos", artifact_location=place)
if not client.search_registered_models("name='chaos'"):
    client.create_registered_model("chaos")
run = client.create_run(experiment).info.run_id
client.log_artifacts(run, artefact, "policy")
tags = {"digest": load_artefact(Path(artefact)).policy.digest}
version = client.create_model_version("chaos", f"runs:/{run}/policy", run, tags=tags).version
client.set_registered_model_alias("chaos", "champion", version)
"""


def promote_in_mlflow(home: Home, artefact: Path) -> None:
    """Registers an artefact in the home's MLflow and names it the champion, from a process of its own."""
    place = home.path / "mlflow" / "artifacts"
    command = [sys.executable, "-c", _PROMOTE, home.tracking_uri, str(artefact), str(place)]
    subprocess.run(command, check=True, capture_output=True)


def served(replica: Replica) -> dict[str, Any]:
    """What serves, as the replica tells it."""
    with replica.client() as client:
        told: dict[str, Any] = client.get("/readyz").json()
    return {**told["policies"][0], "status": told["status"]}


def _version(replica: Replica) -> str | None:
    policy = served(replica)["policy"]
    return None if policy is None else str(policy["version"])


def _unrefused(watch: Watch, ground: Ground, load: Load) -> None:
    watch.check(f"{len(load.ledger.answers)} answers, refused {dict(load.ledger.refused)}", not load.ledger.refused)
    proof = prove(ground, [load.ledger], share=1.0)
    watch.check(str(proof), proof.ok)


def _locked(ground: Ground, watch: Watch) -> None:
    """Another process holds MLflow's database for longer than its client waits."""
    promote_in_mlflow(ground.home, ground.artefact("uniform"))
    replica = ground.started(registry=False, champion_poll_s=0.5)
    database = sqlite3.connect(ground.home.mlflow / "mlflow.db", isolation_level=None)
    with Load([replica.url], "locked", clients=2) as load:
        load.answered(20, 30.0)
        database.execute("BEGIN EXCLUSIVE")
        took = until(lambda: served(replica)["registry"] != "ok", 60.0, "the trouble is told")
        watch.note(f"told after {took:.1f} s: {served(replica)['registry'][:60]!r}, {served(replica)['status']}")
        load.answered(40, 30.0)
        database.execute("ROLLBACK")
        database.close()
        watch.note(f"well after {until(lambda: served(replica)['registry'] == 'ok', 60.0, 'it is well again'):.1f} s")
        promote_in_mlflow(ground.home, ground.artefact("rules"))
        watch.note(f"a promotion serves after {until(lambda: _version(replica) == '2', 30.0, 'version 2'):.1f} s")
        load.answered(20, 30.0)
    _unrefused(watch, ground, load)


def _down(ground: Ground, watch: Watch) -> None:
    """What served last is on this machine; MLflow's server is not there."""
    ground.started().stop()
    nowhere = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}"}
    replica = ground.replica(registry=False, environment=nowhere, champion_poll_s=0.5)
    began = time.monotonic()
    replica.start()
    watch.note(f"ready after {time.monotonic() - began:.1f} s with version {_version(replica)}")
    with Load([replica.url], "down", clients=2) as load:
        load.answered(60, 60.0)
        took = until(lambda: served(replica)["registry"] not in ("ok", "not asked yet"), 60.0, "the trouble is told")
        watch.check(f"told after {took:.1f} s, {served(replica)['status']}", served(replica)["status"] == "degraded")
    began = time.monotonic()
    replica.stop()
    watch.check(f"stopped after {time.monotonic() - began:.1f} s", time.monotonic() - began < 15.0)
    _unrefused(watch, ground, load)


def _spoiled(ground: Ground, watch: Watch) -> None:
    """Champions that are no good, one after the other, under load; then a good one."""
    replica = ground.started()
    with Load([replica.url], "spoiled", clients=2) as load:
        load.answered(20, 30.0)
        for name, spoil in SPOILED.items():
            shutil.copytree(ground.artefact("rules"), ground.artefact(name))
            spoil(ground.artefact(name))
            version = ground.promote(name)
            until(lambda v=version: v in served(replica)["rejected"], 20.0, f"{name} is rejected")  # type: ignore[misc]
            now = served(replica)
            kept = now["policy"]["version"] == "1" and now["status"] == "degraded"
            watch.check(f"{name}: rejected, version 1 serves, degraded", kept)
        version = ground.promote("rules")
        until(lambda: _version(replica) == version, 20.0, "a good one")
        watch.check(f"a good one serves, {served(replica)['status']}", served(replica)["status"] == "ready")
        load.answered(20, 30.0)
    _unrefused(watch, ground, load)


def _cut_short(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def _garbage(folder: Path) -> None:
    (folder / "policy.json").write_bytes(b"\xff" * 200)


def _other_schema(folder: Path) -> None:
    _edited(folder, schema=99)


def _huge(folder: Path) -> None:
    with (folder / "weights.safetensors").open("wb") as file:
        file.truncate(8 << 30)  # bytes; takes no room


def _edited(folder: Path, **changes: Any) -> None:
    path = folder / "policy.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def _other_answers(folder: Path) -> None:
    _edited(folder, answers={"basket": [[1.0, 0.0, 0.0, 0.0, 0.0]]})


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


SPOILED: dict[str, Callable[[Path], None]] = {
    "weights cut short": _cut_short,
    "policy.json is garbage": _garbage,
    "another schema": _other_schema,
    "answers that it does not give": _other_answers,
    "weights of 8 GB": _huge,
    "an empty folder": _emptied,
}


def _no_good_one(ground: Ground, watch: Watch) -> None:
    """A first start with nothing but a damaged artefact."""
    shutil.copytree(ground.artefact("rules"), ground.artefact("bad"))
    _cut_short(ground.artefact("bad"))
    ground.promote("bad")
    replica = ground.started()
    with replica.client() as client:
        ready, told = client.get("/readyz"), client.post("/v1/decide", json=asked("d", baseline_action="greet"))
    why = str(next(iter(ready.json()["policies"][0]["rejected"].values()))).rpartition("/")[2]
    watch.check(f"/readyz {ready.status_code}: {why}", ready.status_code == 503)
    refused = (told.status_code, told.json().get("fallback_action")) == (503, "greet")
    watch.check(f"decide {told.status_code}, {told.json()['error']['code']}, fallback greet", refused)
    ground.promote("uniform")
    until(lambda: served(replica)["status"] == "ready", 20.0, "a good one serves")
    with replica.client() as client:
        watch.check("decides once there is a good one", client.post("/v1/decide", json=asked("d")).status_code == 201)


def _pack_changed(ground: Ground, watch: Watch) -> None:
    """The pack's file is edited under a running server; a second one starts with the new one, then a policy for it."""
    old = ground.started()
    with Load([old.url], "pack", clients=2) as load:
        load.answered(20, 30.0)
        text = ground.pack_file.read_text().replace("version: 1", "version: 2", 1).replace("cost: 0.05", "cost: 0.5")
        ground.pack_file.write_text(text)
        load.answered(40, 30.0)
        with old.client() as client:
            digest = client.get("/v1/packs/chaos").json()["digest"]
        watch.check("the running server keeps its pack", digest == ground.pack.digest)
        new = ground.started(champion_poll_s=0.2)
        now = served(new)
        watch.check(f"a new one refuses the old policy: {now['status']}", now["status"] == "not_ready")
        pack = load_pack(str(ground.pack_file))
        ground.make_artefact("for_new", pack, "uniform")
        version = ground.promote("for_new")
        until(lambda: _version(new) == version, 20.0, "the new pack's policy serves")
        until(lambda: version in served(old)["rejected"], 20.0, "the old server rejects it")
        watch.check("the old one rejects that, and serves on", _version(old) == "1")
        load.answered(20, 30.0)
        with new.client() as client:
            told = client.post("/v1/decide", json=asked("of-new"))
            replayed = client.post(f"/v1/decisions/{load.ledger.answers[0]['decision_id']}/replay").json()
        watch.check(
            f"new decisions {told.status_code}, old ones replay there {replayed}", replayed == {"identical": True}
        )
    _unrefused(watch, ground, load)


def _swapped(ground: Ground, watch: Watch) -> None:
    """Two policies in turn, as fast as the follower polls; every answer says which made it."""
    replica = ground.replica(champion_poll_s=0.02)
    replica.start()
    digests = {"1": "uniform"}
    with Load([replica.url], "swap", clients=4, rewards=False, pause_s=0.0) as load:
        load.answered(10, 30.0)
        for i in range(30):
            name = ("rules", "uniform")[i % 2]
            version = ground.promote(name)
            digests[version] = name
            until(lambda v=version: _version(replica) == v, 20.0, f"version {version}")  # type: ignore[misc]
            load.answered(5, 30.0)
    check_versions(ground, watch, load, digests)
    _unrefused(watch, ground, load)


def check_versions(ground: Ground, watch: Watch, load: Load, names: dict[str, str]) -> None:
    """Each answer's distribution is wholly that of the version it names: even for uniform, one action for rules."""
    odd = [told["decision_id"] for told in load.ledger.answers if not _is_of(told, names[told["policy"]["version"]])]
    served_by = Counter(names[told["policy"]["version"]] for told in load.ledger.answers)
    watch.check(f"decided by {dict(served_by)}, none by half of one {odd[:2] or ''}".strip(), not odd)
    logged = {r.decision_id: r.decision.policy.kind for r in decisions(ground.home.log)}
    wrong = [t["decision_id"] for t in load.ledger.answers if logged[t["decision_id"]] != t["policy"]["kind"]]
    watch.check("the log says the same", not wrong)


def _is_of(told: dict[str, Any], name: str) -> bool:
    probabilities = list(told["distribution"].values())
    even = max(probabilities) - min(probabilities) < 1e-9 and len(probabilities) > 1
    return told["policy"]["kind"] == name and (even if name == "uniform" else len(probabilities) == 1)


def _half_asked(ground: Ground, watch: Watch) -> None:
    """A request whose body comes in two parts, with a promotion between them."""
    replica = ground.started(champion_poll_s=0.02, body_timeout_s=10.0)
    body = json.dumps({**asked("between"), "context": {"mood": 0.1}}).encode()
    with socket.create_connection(("127.0.0.1", replica.port), timeout=10) as connection:
        head = b"POST /v1/decide HTTP/1.1\r\nHost: nba\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body[:20])
        version = ground.promote("rules")
        until(lambda: _version(replica) == version, 20.0, "the new one serves")
        connection.sendall(body[20:])
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    watch.check(f"decided by version {told['policy']['version']}, whole", _is_of(told, "rules"))
    batch = {"decisions": [asked(f"b-{i}") for i in range(1_000)]}
    with httpx.Client(base_url=replica.url, trust_env=False, timeout=60) as client:
        ground.promote("uniform")
        results = client.post("/v1/decide:batch", json=batch).json()["results"]
    versions = Counter(r["policy"]["version"] for r in results)
    halves = [r for r in results if not _is_of(r, {"2": "rules", "3": "uniform"}[r["policy"]["version"]])]
    watch.check(f"a batch of 1,000 with a promotion in it: versions {dict(versions)}", not halves)


FAULTS = (
    Fault(
        "policies",
        "MLflow's database locked",
        "BEGIN EXCLUSIVE on its SQLite file from another process under load, for longer than its client waits",
        "the last good champion serves on, /readyz degraded; a promotion serves once it is free",
        _locked,
    ),
    Fault(
        "policies",
        "MLflow down at the start",
        "MLFLOW_TRACKING_URI where nobody listens",
        "starts with what served last, /readyz degraded and says why; stops in time",
        _down,
    ),
    Fault(
        "policies",
        "a champion that is no good",
        "weights cut short, garbage, another schema, other answers, 8 GB, an empty folder, in turn under load",
        "rejected, the last good one serves on, /readyz degraded",
        _spoiled,
    ),
    Fault(
        "policies",
        "a start without a good champion",
        "the only version's weights are cut short",
        "/readyz 503 and says why; decide is 503 with the fallback; serves once there is a good one",
        _no_good_one,
    ),
    Fault(
        "policies",
        "the pack changed while serving",
        "its file edited under load; a second server with the new file; a policy for the new pack",
        "the running server keeps its pack; policies serve only their own pack; old decisions replay",
        _pack_changed,
    ),
    Fault(
        "policies",
        "policies swapped under load",
        "30 promotions, two policies in turn, the follower polling every 20 ms",
        "no request fails; every distribution is wholly that of the version it names, and replays to it",
        _swapped,
    ),
    Fault(
        "policies",
        "a policy swapped in the middle of a request",
        "half a body, a promotion, the other half; a batch of 1,000 with a promotion in it",
        "one snapshot a request",
        _half_asked,
    ),
)
