"""Writing the log: nothing is acknowledged before its sync, and no error loses what was."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nba.errors import LogError
from nba.log import LogReport, LogWriter, read_records
from nba.log.segment import MAX_PAYLOAD, owned, segments
from nba.records import encode_record

if TYPE_CHECKING:
    from tests.conftest import RecordFactory

KILLS = int(os.environ.get("NBA_TEST_KILLS", "12"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def writer(log: Path) -> Iterator[LogWriter]:
    writer = LogWriter(log)
    yield writer
    writer.close()


class Gate:
    """Stands before os.fdatasync: syncs wait until it is opened, and are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened, self.syncs = threading.Event(), threading.Event(), 0
        self._sync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, descriptor: int) -> None:
        self.syncs += 1
        self.reached.set()
        assert self.opened.wait(10)
        self._sync(descriptor)


class FailingOnce:
    """Fails the next call of a function of `os`, after doing part of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, before: object = None) -> None:
        self.failed = False
        self._real, self._error, self._before = getattr(os, name), error, before
        monkeypatch.setattr(os, name, self)

    def __call__(self, *arguments: object) -> object:
        if self.failed:
            return self._real(*arguments)
        if callable(self._before):
            done = self._before(self._real, *arguments)
            if done is not None:
                return done
        self.failed = True
        raise self._error


def ids(log: Path) -> list[str]:
    return [record.decision_id for record in read_records(log)]


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_nothing_is_acknowledged_before_its_sync(
    log: Path, writer: LogWriter, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    future = writer.append(decision_record("d-0"))
    assert gate.reached.wait(10)
    assert ids(log) == ["d-0"]  # written, and still not acknowledged
    assert not future.done()
    gate.opened.set()
    assert future.result(10) is None


def test_what_queued_during_a_sync_goes_with_the_next(
    log: Path, writer: LogWriter, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record in the first sync, fifty in the second."""
    gate = Gate(monkeypatch)
    first = writer.append(decision_record("d-0"))
    assert gate.reached.wait(10)
    rest = [writer.append(decision_record(f"d-{i}")) for i in range(1, 51)]
    gate.opened.set()
    for future in [first, *rest]:
        future.result(10)
    assert gate.syncs == 2
    assert ids(log) == [f"d-{i}" for i in range(51)]


def test_records_of_one_call_are_synced_together(
    writer: LogWriter, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    gate.opened.set()
    writer.append(*(decision_record(f"d-{i}") for i in range(100))).result(10)
    assert gate.syncs == 1


def test_threads_may_append_at_once(log: Path, writer: LogWriter, decision_record: RecordFactory) -> None:
    def append(thread: int) -> None:
        for i in range(100):
            writer.append(decision_record(f"{thread}-{i}")).result(10)

    threads = [threading.Thread(target=append, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids(log)) == sorted(f"{t}-{i}" for t in range(8) for i in range(100))


@pytest.mark.parametrize("name", ["fdatasync", "write", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "error"), OSError(errno.ENOSPC, "full"), MemoryError()])
def test_a_failed_append_is_told_and_the_next_one_works(
    log: Path,
    writer: LogWriter,
    decision_record: RecordFactory,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: Exception,
) -> None:
    """fsync fails where the segment's name is synced, so there the folder must be new to the writer."""
    kept = [] if name == "fsync" else ["d-0"]
    if kept:
        writer.append(decision_record("d-0")).result(10)
    log.mkdir(exist_ok=True)
    FailingOnce(monkeypatch, name, error)
    with pytest.raises(LogError, match="cannot be written"):
        writer.append(decision_record("d-1")).result(10)
    assert not writer.healthy
    writer.append(decision_record("d-2")).result(10)
    assert writer.healthy
    assert ids(log) == [*kept, "d-2"]


def test_a_segment_that_failed_is_never_written_again(
    log: Path, writer: LogWriter, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.append(decision_record("d-0")).result(10)
    (failed,) = segments(log)
    before = failed.read_bytes()
    FailingOnce(monkeypatch, "fdatasync", OSError(errno.EIO, "error"))
    with pytest.raises(LogError):
        writer.append(decision_record("d-1")).result(10)
    writer.append(decision_record("d-2")).result(10)
    assert len(segments(log)) == 2
    assert failed.read_bytes() == before


def test_a_group_written_in_part_leaves_nothing_behind(
    log: Path, writer: LogWriter, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes one whole record and half of another, then no more."""
    writer.append(decision_record("d-0")).result(10)
    taken = []

    def take_a_part(write: Callable[[int, bytes], int], descriptor: int, data: memoryview) -> int | None:
        if taken:
            return None
        taken.append(len(data) * 3 // 4)
        return write(descriptor, data[: taken[0]])

    FailingOnce(monkeypatch, "write", OSError(errno.ENOSPC, "full"), take_a_part)
    with pytest.raises(LogError):
        writer.append(decision_record("d-1"), decision_record("d-2")).result(10)
    assert taken
    writer.append(decision_record("d-3")).result(10)
    report = LogReport()
    assert [r.decision_id for r in read_records(log, report)] == ["d-0", "d-3"]
    assert (report.torn_tails, report.bad_frames) == (0, 0)


def test_short_writes_are_continued(
    log: Path, writer: LogWriter, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    writer.append(decision_record("d-0"), decision_record("d-1")).result(10)
    assert ids(log) == ["d-0", "d-1"]


def test_it_becomes_healthy_without_an_append(
    log: Path, writer: LogWriter, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that refuses work while its log is unhealthy would otherwise stay so for ever."""
    monkeypatch.setattr("nba.log.writer.PROBE_S", 0.01)
    FailingOnce(monkeypatch, "fdatasync", OSError(errno.EIO, "error"))
    with pytest.raises(LogError):
        writer.append(decision_record("d-0")).result(10)
    wait_until(lambda: writer.healthy)
    writer.append(decision_record("d-1")).result(10)
    assert ids(log) == ["d-1"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], capture_output=True)
    if not done or done.returncode:
        pytest.skip("may not mount a small file system here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_recovers_by_itself(
    small_disk: Path, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nba.log.writer.PROBE_S", 0.01)
    log = small_disk / "log"
    writer = LogWriter(log)
    acknowledged = []
    while (error := writer.append(decision_record(f"d-{len(acknowledged)}")).exception(10)) is None:
        acknowledged.append(f"d-{len(acknowledged)}")
    assert "No space left" in str(error)
    assert len(acknowledged) > 20
    time.sleep(0.1)  # probes meanwhile
    assert not writer.healthy
    assert ids(log) == acknowledged
    moved = small_disk.parent / "moved"
    shutil.copytree(log, moved)
    for path in segments(log):
        path.unlink()
    wait_until(lambda: writer.healthy)
    writer.append(decision_record("after")).result(10)
    writer.close()
    assert ids(moved) + ids(log) == [*acknowledged, "after"]


def test_a_segment_rolls_when_it_is_long(log: Path, decision_record: RecordFactory) -> None:
    """Two records fill a segment of one and a half."""
    writer = LogWriter(log, roll_bytes=len(encode_record(decision_record("d-0"))) * 3 // 2)
    for i in range(5):
        writer.append(decision_record(f"d-{i}")).result(10)
    writer.close()
    assert len(segments(log)) == 3
    assert ids(log) == [f"d-{i}" for i in range(5)]


def test_a_segment_rolls_when_it_is_old_though_nothing_comes(log: Path, decision_record: RecordFactory) -> None:
    writer = LogWriter(log, roll_s=0.05)
    writer.append(decision_record("d-0")).result(10)
    (path,) = segments(log)
    with path.open("rb") as file:
        wait_until(lambda: not owned(file))
    writer.append(decision_record("d-1")).result(10)
    writer.close()
    assert ids(log) == ["d-0", "d-1"]
    assert len(segments(log)) == 2


def test_two_writers_of_one_process_keep_apart(log: Path, decision_record: RecordFactory) -> None:
    writers = [LogWriter(log), LogWriter(log)]
    for i, writer in enumerate(writers):
        writer.append(decision_record(f"d-{i}")).result(10)
    for writer in writers:
        writer.close()
    assert len(segments(log)) == 2
    assert ids(log) == ["d-0", "d-1"]


def test_close_writes_what_waits(log: Path, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(log)
    gate = Gate(monkeypatch)
    futures: list[Future[None]] = [writer.append(decision_record("d-0"))]
    assert gate.reached.wait(10)
    futures += [writer.append(decision_record(f"d-{i}")) for i in range(1, 10)]
    closing = threading.Thread(target=writer.close)
    closing.start()
    gate.opened.set()
    closing.join(10)
    assert all(future.done() and future.exception() is None for future in futures)
    assert ids(log) == [f"d-{i}" for i in range(10)]
    with pytest.raises(LogError, match="closed"):
        writer.append(decision_record("late")).result(10)
    assert not writer.healthy


def test_too_much_that_waits_is_refused(
    log: Path, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(encode_record(decision_record("d-0")))
    writer = LogWriter(log, max_waiting_bytes=3 * size)
    gate = Gate(monkeypatch)
    first = writer.append(decision_record("d-0"))
    assert gate.reached.wait(10)
    waiting = [writer.append(decision_record(f"d-{i}")) for i in (1, 2)]
    with pytest.raises(LogError, match="wait for the disk"):
        writer.append(decision_record("d-3")).result(10)
    gate.opened.set()
    for future in [first, *waiting]:
        future.result(10)
    writer.append(decision_record("d-4")).result(10)
    writer.close()
    assert ids(log) == ["d-0", "d-1", "d-2", "d-4"]


def test_a_record_too_long_is_refused_and_the_next_is_not(
    log: Path, writer: LogWriter, decision_record: RecordFactory
) -> None:
    with pytest.raises(LogError, match="too long"):
        writer.append(decision_record("d-0", message="x" * MAX_PAYLOAD)).result(10)
    writer.append(decision_record("d-1")).result(10)
    assert ids(log) == ["d-1"]


def test_a_caller_that_gives_up_does_not_stop_the_writer(
    log: Path, writer: LogWriter, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)

    async def give_up() -> None:
        async with asyncio.timeout(0.05):
            await asyncio.wrap_future(writer.append(decision_record("d-0")))

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    gate.opened.set()
    writer.append(decision_record("d-1")).result(10)
    assert ids(log) == ["d-0", "d-1"]


KILLED = """
import os, sys, threading
from pathlib import Path
from msgspec.structs import replace
from nba.log import LogWriter
from nba.records import decode_record

record = decode_record(Path(sys.argv[2]).read_bytes())
writer = LogWriter(Path(sys.argv[1]), roll_bytes=40_000)

def named(decision_id):
    decision = record.decision
    return replace(record, decision=replace(decision, request=replace(decision.request, decision_id=decision_id)))

def work(thread):
    n = 0
    while True:
        decision_id = f"{sys.argv[3]}.{thread}.{n}"
        writer.append(named(decision_id)).result()
        os.write(1, decision_id.encode() + b"\\n")
        n += 1

for thread in range(4):
    threading.Thread(target=work, args=(thread,)).start()
"""


def test_what_was_acknowledged_before_a_kill_is_in_the_log_once(
    log: Path, tmp_path: Path, decision_record: RecordFactory
) -> None:
    template = tmp_path / "record.json"
    template.write_bytes(encode_record(decision_record("d")))
    rng, acknowledged = random.Random(7), []
    for run in range(KILLS):
        command = [sys.executable, "-c", KILLED, log, template, str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            acknowledged.append(process.stdout.readline().decode().strip())
            time.sleep(rng.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().decode()
        acknowledged += rest.split("\n")[:-1]  # a name cut by the kill was not told
    report = LogReport()
    logged = Counter(record.decision_id for record in read_records(log, report))
    assert len(acknowledged) > 2 * KILLS
    assert [decision_id for decision_id in acknowledged if logged[decision_id] != 1] == []
    assert max(logged.values()) == 1
    assert (report.bad_frames, report.unknown) == (0, 0)


def test_the_lag_is_how_long_the_oldest_append_waits_for_its_sync(
    log: Path, monkeypatch: pytest.MonkeyPatch, decision_record: RecordFactory
) -> None:
    """One appended at 0 s and another at 3 s wait for a disk that answers at 5 s."""
    gate, now = Gate(monkeypatch), [0.0]
    writer = LogWriter(log, clock=lambda: now[0])
    assert (writer.lag_s, math.isnan(writer.since_sync_s)) == (0.0, True)
    first = writer.append(decision_record("a"))
    assert gate.reached.wait(10)
    now[0] = 3.0
    second = writer.append(decision_record("b"))
    now[0] = 5.0
    assert writer.lag_s == 5.0
    gate.opened.set()
    first.result(10)
    second.result(10)
    wait_until(lambda: writer.lag_s == 0.0)
    now[0] = 6.0
    assert writer.since_sync_s == 1.0
    writer.close()
