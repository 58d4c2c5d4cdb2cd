"""The power goes: the writer's calls are recorded, cut anywhere, and what may be left of the disk is read back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from itertools import chain, repeat
from pathlib import Path

from fault import Fault, Watch
from ground import HERE, Ground
from image import Disk
from tape import Event, Tape

from nba.decide import decide
from nba.decision import DecisionRequest, PolicyRef
from nba.log import LogReport, LogWriter, read_records, segment, writer
from nba.log.index import index_of
from nba.moment_plan import plan_pack
from nba.pack_file import load_pack
from nba.policies import KINDS
from nba.records import DecisionRecord, encode_record
from nba.snapshot import Snapshot
from nba.types import Context
from serving.answers import shown
from serving.archive import Archive

ROLL = 40_000  # bytes of a segment: a trace has several
THREADS = 4


@cache
def _snapshot() -> Snapshot:
    pack = load_pack(str(HERE / "pack.yaml"))
    plans = plan_pack(pack)
    policies = {name: KINDS["uniform"].fit(plan, None) for name, plan in plans.items()}  # type: ignore[arg-type]
    return Snapshot.of(pack, PolicyRef(name="chaos", version="1", kind="uniform", digest="d"), policies)


def decided(decision_id: str) -> DecisionRecord:
    """A decision as it is logged."""
    context = Context(
        subject="0a", moment="basket", values={"mood": 0.5}, observed_at=datetime(2026, 11, 25, tzinfo=UTC)
    )
    request = DecisionRequest(decision_id=decision_id, context=context)
    decision = decide(_snapshot(), request, now=context.observed_at, secret=b"s")
    return DecisionRecord(decision=decision, shown=shown(_snapshot().pack, decision), fingerprint="f", epoch=1)


def record(
    root: Path, records: int, rng: random.Random, *, sync_fails: float = 0.0, first_fails: bool = False
) -> tuple[list[Event], set[str]]:
    """What a writer did while four threads appended so many records; and the ids of appends that failed.

    An append that fails is made again under its id, as a client does. Segments that are done are indexed meanwhile.
    The first sync is that of the log's own name.
    """
    failed = set[str]()
    _snapshot()  # made by one thread
    chances = chain([1.0] if first_fails else [], repeat(sync_fails))
    with Tape(root, failing_sync=lambda: rng.random() < next(chances)) as tape:
        log = LogWriter(root / "log", roll_bytes=ROLL)

        def acknowledge(decision_id: str, future: Future[None]) -> None:
            if future.exception() is None:
                tape.ack(decision_id)

        def append(thread: int) -> None:
            for i in range(records // THREADS):
                one = decided(f"d-{thread}-{i}")
                while True:
                    future = log.append(one)
                    future.add_done_callback(partial(acknowledge, one.decision_id))
                    if future.exception(30) is None:
                        break
                    failed.add(one.decision_id)

        threads = [threading.Thread(target=append, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            _index(root / "log")
            time.sleep(0.01)
        log.close()
        _index(root / "log")
    return tape.events, failed


def _index(log: Path) -> None:
    for path in segment.segments(log):
        with contextlib.suppress(OSError):  # given up, or just begun
            index_of(path)


@dataclass(slots=True)
class Found:
    """What was wrong with the images, by count of images."""

    images: int = 0
    acknowledged: int = 0  # over all images
    lost: int = 0  # images that lack something acknowledged
    altered: int = 0  # a record is not what was written
    repeated: int = 0  # something stands twice, though its first append did not fail
    not_found: int = 0  # the server's search does not find what the log holds
    not_continued: int = 0  # a new writer's record does not come back
    torn: int = 0  # images with a torn tail: no fault
    holes: int = 0  # images with damage between whole frames: no fault where all of that was unacknowledged
    first: str = field(default="")

    @property
    def wrong(self) -> int:
        """Images with a fault, about."""
        return max(self.lost, self.altered, self.repeated, self.not_found, self.not_continued)


def cut(events: Sequence[Event], failed: set[str], images: int, rng: random.Random, folder: Path, found: Found) -> None:
    """Cuts a trace at random points and reads back what is left."""
    for _ in range(images):
        at = rng.randrange(1, len(events) + 1)
        disk, place = Disk(events[:at]), folder / "image"
        disk.write(place, rng)
        _check(place / "log", disk.acknowledged, failed, found)
        shutil.rmtree(place)


def _check(log: Path, acknowledged: Sequence[str], failed: set[str], found: Found) -> None:
    report = LogReport()
    read = [r for r in read_records(log, report) if isinstance(r, DecisionRecord)]
    times = Counter(r.decision_id for r in read)
    lost = [decision_id for decision_id in acknowledged if not times[decision_id]]
    found.images += 1
    found.acknowledged += len(acknowledged)
    found.lost += bool(lost)
    found.altered += any(encode_record(r) != encode_record(decided(r.decision_id)) for r in read)
    found.repeated += any(n > 1 and decision_id not in failed for decision_id, n in times.items())
    found.torn += bool(report.torn_tails)
    found.holes += bool(report.bad_frames)
    found.first = found.first or (f"{lost[0]} and {len(lost) - 1} more of {len(acknowledged)} lost" if lost else "")
    if not lost:
        found.not_found += not _searched(log, list(acknowledged)[:: max(len(acknowledged) // 5, 1)])
        found.not_continued += not _continued(log, len(read))


def _searched(log: Path, decision_ids: Sequence[str]) -> bool:
    """Whether the server's own search finds these, by whatever indexes are left."""

    async def search() -> bool:
        archive = Archive(log)
        return all([await archive.find(decision_id) for decision_id in decision_ids])

    return asyncio.run(search())


def _continued(log: Path, before: int) -> bool:
    """Whether a new writer goes on beside what is left."""
    new = LogWriter(log)
    new.append(decided("after")).result(30)
    new.close()
    ids = [r.decision_id for r in read_records(log) if isinstance(r, DecisionRecord)]
    return len(ids) == before + 1 and ids.count("after") == 1


@contextmanager
def _without_sync() -> Iterator[None]:
    def commit(self: segment.OpenSegment, data: bytes) -> None:
        os.write(self._descriptor, data)
        self.length += len(data)

    with _instead("commit", commit):
        yield


@contextmanager
def _without_folder_sync() -> Iterator[None]:
    real = segment.sync_folder
    segment.sync_folder = lambda folder: None
    try:
        yield
    finally:
        segment.sync_folder = real


@contextmanager
def _syncing_again() -> Iterator[None]:
    def commit(self: segment.OpenSegment, data: bytes) -> None:
        os.write(self._descriptor, data)
        with contextlib.suppress(OSError):
            os.fdatasync(self._descriptor)
        os.fdatasync(self._descriptor)
        self.length += len(data)

    with _instead("commit", commit):
        yield


@contextmanager
def _naming_once() -> Iterator[None]:
    def made(folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir()
            segment.sync_folder(folder.parent)

    real = writer.make_folder
    writer.make_folder = made
    try:
        yield
    finally:
        writer.make_folder = real


@contextmanager
def _instead(name: str, function: Callable[..., None]) -> Iterator[None]:
    real = getattr(segment.OpenSegment, name)
    setattr(segment.OpenSegment, name, function)
    try:
        yield
    finally:
        setattr(segment.OpenSegment, name, real)


BROKEN = {
    "no fdatasync": _without_sync,
    "no sync of the folder": _without_folder_sync,
    "a failed sync tried again on the same file": _syncing_again,
    "a failed sync of the log's own name not tried again": _naming_once,
}


def examine(images: int, *, seed: int = 7, records: int = 160, broken: str | None = None) -> Found:
    """So many images of four traces, in two of which every fifteenth sync fails, in one of them the first."""
    found, rng = Found(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="nba-power-") as name:
        for trace in range(4):
            folder = Path(name) / str(trace)
            folder.mkdir()
            with BROKEN[broken]() if broken else contextlib.nullcontext():
                events, failed = record(folder, records, rng, sync_fails=trace % 2 / 15, first_fails=trace == 3)
            cut(events, failed, images // 4, rng, Path(name), found)
    return found


def faults(images: int) -> list[Fault]:
    """The power cut, and that its check can fail."""

    def right(ground: Ground, watch: Watch) -> None:
        found = examine(images)
        watch.check(f"{found.images} images, {found.acknowledged} acknowledged records in them", found.images >= images)
        for name in ("lost", "altered", "repeated", "not_found", "not_continued"):
            n = getattr(found, name)
            watch.check(f"{name.replace('_', ' ')} in {n}", n == 0)
        watch.note(f"a torn tail in {found.torn}, holes of unacknowledged bytes in {found.holes}")

    def wrong(ground: Ground, watch: Watch) -> None:
        for broken in BROKEN:
            found = examine(images // 2, broken=broken)
            watch.check(f"{broken}: caught in {found.lost} of {found.images}", found.lost > 0)

    return [
        Fault(
            "power",
            f"the power goes, {images} times",
            "four recorded traces of the writer, cut anywhere; any sectors and names that were not synced are gone",
            "every acknowledged record is read back, once, and found; a new writer goes on",
            right,
        ),
        Fault(
            "power",
            "the power goes, with a writer that is wrong",
            "no fdatasync, no sync of the folder, a failed sync tried again, or that of the name not tried again",
            "the same check catches each of them",
            wrong,
        ),
    ]
