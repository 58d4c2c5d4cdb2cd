"""The log's disk: full, failing, torn."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from client import Load
from fault import Fault, Watch, until
from ground import Ground, Replica
from prove import decisions, prove
from replicas import asked

from nba.log import LogReport, read_records
from nba.log.segment import frame, segments


def _full(ground: Ground, watch: Watch) -> None:
    """A file system of 4 MiB under the log; a file takes what is free, and goes again."""
    log = ground.home.log
    log.mkdir(mode=0o700)
    mount = shutil.which("mount") or "mount"
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", log], capture_output=True, check=False)
    if done.returncode == 0:
        ground.mounted.append(log)
        watch.note("tmpfs of 4 MiB")
        _refuses(ground, watch, lambda: _fill(log / "filler"), lambda: (log / "filler").unlink())
    else:
        watch.note("no mount allowed here: RLIMIT_FSIZE of the replica's process")
        replica = ground.started()
        _refuses(ground, watch, lambda: _limit(replica, "0:"), lambda: _limit(replica, "unlimited:"), replica)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def _limit(replica: Replica, limit: str) -> None:
    subprocess.run([shutil.which("prlimit") or "prlimit", "--pid", str(replica.pid), f"--fsize={limit}"], check=True)


def _failing(ground: Ground, watch: Watch) -> None:
    _refuses(ground, watch, lambda: ground.ill("sync"), lambda: ground.well("sync"))


def _refuses(ground: Ground, watch: Watch, make: object, mend: object, replica: Replica | None = None) -> None:
    """Load before, during and after; nothing is acknowledged meanwhile."""
    replica = ground.started() if replica is None else replica
    with Load([replica.url], "disk", clients=4) as load:
        load.answered(40, 30.0)
        make()  # type: ignore[operator]
        until(lambda: load.ledger.refused["503"] > 20, 30.0, "503")
        with replica.client() as client:
            told = client.post("/v1/decide", json=asked("refused", baseline_action="greet"))
            ready = client.get("/readyz")
        fallback = told.json().get("fallback_action")
        watch.check(
            f"{told.status_code} with fallback_action {fallback}, /readyz {ready.status_code}",
            (told.status_code, fallback, ready.status_code) == (503, "greet", 503),
        )
        before = len(load.ledger.answers)
        time.sleep(0.5)
        watch.check("nothing acknowledged meanwhile", len(load.ledger.answers) == before)
        mend()  # type: ignore[operator]
        watch.note(f"back after {load.answered(1, 15.0):.1f} s")
        load.answered(40, 30.0)
    with replica.client() as client:
        watch.check("ready again", client.get("/readyz").status_code == 200)
    replica.stop()
    proof = prove(ground, [load.ledger])
    watch.check(str(proof), proof.ok)


def _torn(ground: Ground, watch: Watch) -> None:
    """Half a frame at the end of a dead writer's segment."""
    replica = ground.started()
    with Load([replica.url], "torn", clients=2) as load:
        load.answered(40, 30.0)
    replica.kill()
    last = max(segments(ground.home.log), key=lambda path: path.stat().st_size)
    with last.open("ab") as file:
        file.write(frame(1, b"x" * 1_000)[:400])
    with ground.redis.client() as client:
        client.flushall()
    replica.start()
    with replica.client() as client:
        codes = {client.get(f"/v1/decisions/{told['decision_id']}").status_code for told in load.ledger.answers[:20]}
        again = client.post("/v1/decide", json=asked("after"))
    watch.check(
        f"decisions of before are found {codes}, a new one {again.status_code}",
        (codes, again.status_code) == ({200}, 201),
    )
    replica.stop()
    report = LogReport()
    list(read_records(ground.home.log, report))
    watch.check(
        f"torn tails {report.torn_tails}, bad frames {report.bad_frames}",
        (report.torn_tails, report.bad_frames) == (1, 0),
    )
    proof = prove(ground, [load.ledger])
    watch.check(str(proof), proof.ok)


def _flipped(ground: Ground, watch: Watch) -> None:
    """One bit in the middle of a segment: one record is lost, the log says so, and no other goes."""
    replica = ground.started()
    with Load([replica.url], "flip", clients=2, rewards=False) as load:
        load.answered(60, 30.0)
    replica.stop()
    before = decisions(ground.home.log)
    path = max(segments(ground.home.log), key=lambda path: path.stat().st_size)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    for index in ground.home.log.glob("*.idx"):
        index.unlink()
    report = LogReport()
    after = list(read_records(ground.home.log, report))
    lost = len(before) - len(after)
    watch.check(f"{lost} of {len(before)} records lost, bad frames {report.bad_frames}", lost == report.bad_frames == 1)
    replica.start()
    with replica.client() as client:
        watch.check("it serves", client.post("/v1/decide", json=asked("after")).status_code == 201)


FAULTS = (
    Fault(
        "disk",
        "disk full, and room again",
        "a 4 MiB file system under the log, filled under load, emptied",
        "503 with the fallback for what is not logged, /readyz 503; recovers by itself",
        _full,
    ),
    Fault(
        "disk",
        "a sync fails, and works again",
        "fdatasync raises EIO in the replica under load, for a while",
        "503 with the fallback; the segment is never used again; recovers by itself",
        _failing,
    ),
    Fault(
        "disk",
        "a torn log tail",
        "kill -9, half a frame appended to the segment, Redis emptied, started again",
        "cut and counted; all of before is there, and the log verifies",
        _torn,
    ),
    Fault(
        "disk",
        "a flipped bit in the log",
        "one bit in the middle of a segment, started again",
        "one record is reported and passed, no other lost; it serves",
        _flipped,
    ),
)
