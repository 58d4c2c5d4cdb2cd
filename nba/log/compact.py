"""The log by day, as Parquet: a view for analysis, made again of whatever has changed.

    {target}/decisions/day=2026-11-25/rows.parquet     and rewards, activations, overrides, consents
    {target}/manifest.json                             which segments, by SHA-256, made which files; written last

A day is that on which a decision was made, a report arrived, a statement was recorded, in UTC. Facts are deduplicated
over the whole log: the canonical decision of an id, the report first received under a key, the first activation.
Only segments that are done count. The segments stay the truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from nba.durable import make_folder, sync_folder, write_aside
from nba.errors import LogError
from nba.log.columns import TABLES, ParquetFile, fact
from nba.log.index import Index, index_of, record_key
from nba.log.reader import Count, LogReport, OnRecord, read_at, read_segment
from nba.log.segment import alone, segments
from nba.records import ActivationRecord, ConsentRecord, DecisionRecord, Record, RewardRecord, encode_record

MANIFEST = "manifest.json"
LOCK = ".lock"
SCHEMA = 1


class Input(Struct, frozen=True):
    """A segment that the view is made of."""

    sha256: str
    bytes: int
    records: int


class Output(Struct, frozen=True):
    """A file of the view."""

    sha256: str
    bytes: int
    rows: int


class Manifest(Struct, frozen=True):
    """What made what. A segment is in the view exactly if it is here."""

    schema: int = SCHEMA
    segments: dict[str, Input] = msgspec.field(default_factory=dict)
    files: dict[str, Output] = msgspec.field(default_factory=dict)  # by path under the target


_manifest = msgspec.json.Decoder(Manifest)


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did."""

    segments: int  # that were not in the view before
    days: tuple[str, ...]  # made again
    rows: int  # in them
    damaged: int  # stretches of bytes that were passed in their segments
    unknown: int  # whole frames in them that this code does not know


def compact(folder: Path, target: Path, *, on_record: OnRecord | None = None) -> Compacted:
    """Brings the view up to the segments that are done; nothing is written where it is.

    One that is killed is made again by the next: the manifest comes last, and every file appears whole. Holds the keys
    of the busiest day in memory, 8 bytes a record, and the facts in it that are in the log more than once.
    Raises OSError, or LogError where a segment that is in the view has gone from the log, or another process is at it.
    """
    make_folder(target)
    with alone(target / LOCK) as first:
        if not first:
            raise LogError(f"another process writes {target}", help="let it; then this finds nothing left to do")
        for left in target.glob("*/day=*/.*"):  # by one that was killed
            left.unlink()
        return _compact(folder, target, on_record)


def _compact(folder: Path, target: Path, on_record: OnRecord | None) -> Compacted:
    indexes = _indexes(folder)
    known = _read_manifest(target)
    gone = sorted(set(known.segments) - {path.name for path in indexes})
    if gone:
        raise LogError(
            f"segment {gone[0]} is in {target} and gone from {folder}", help="bring it back: nba log restore"
        )
    new = [path for path, index in indexes.items() if known.segments.get(path.name) != _input(index)]
    days = _stale(indexes, new) | _missing(target, known)
    report, count = LogReport(), Count(on_record)
    files = {path: output for path, output in known.files.items() if _day_of(path) not in days}
    for day in sorted(days):
        files.update(_write_day(day, indexes, target, count, report))
    if new or files != known.files:
        inputs = {path.name: _input(index) for path, index in indexes.items()}
        write_aside(target / MANIFEST, msgspec.json.encode(Manifest(segments=inputs, files=files)))
        for path in set(known.files) - set(files):
            (target / path).unlink(missing_ok=True)
    rows = sum(output.rows for path, output in files.items() if _day_of(path) in days)
    return Compacted(len(new), tuple(sorted(days)), rows, report.bad_frames + report.torn_tails, report.unknown)


def _indexes(folder: Path) -> dict[Path, Index]:
    found = {}
    for path in segments(folder):
        index = index_of(path)
        if index is not None:
            found[path] = index
    return found


def _read_manifest(target: Path) -> Manifest:
    """The view's manifest; an empty one where there is none that this code knows."""
    try:
        manifest = _manifest.decode((target / MANIFEST).read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return Manifest()
    return manifest if manifest.schema == SCHEMA else Manifest()


def _input(index: Index) -> Input:
    return Input(index.summary.sha256, index.summary.bytes, index.summary.records)


def _stale(indexes: dict[Path, Index], new: list[Path]) -> set[str]:
    """Days that the new segments change: their own, and those of segments that speak of the same decisions."""
    if not new:
        return set()
    fresh = np.unique(np.concatenate([indexes[path].keys for path in new]))
    touched = (index for path, index in indexes.items() if path in new or np.isin(fresh, index.keys).any())
    return {day for index in touched for day in index.summary.days}


def _missing(target: Path, known: Manifest) -> set[str]:
    """Days of which a file is not there, or of another length."""
    return {_day_of(path) for path, output in known.files.items() if _size(target / path) != output.bytes}


def _write_day(
    day: str, indexes: dict[Path, Index], target: Path, count: Count, report: LogReport
) -> dict[str, Output]:
    """Writes the day's files; by their path under the target."""
    own = {path: index for path, index in indexes.items() if day in index.summary.days}
    repeated = _repeated(own.values(), indexes.values())
    firsts = _firsts(repeated, indexes)
    with ExitStack() as stack:
        files: dict[type[Record], ParquetFile] = {}
        for record in count(record for path in own for record in read_segment(path, report)):
            if day_of(record) != day or (record_key(record) in repeated and not _take_first(record, firsts)):
                continue
            if type(record) not in files:
                files[type(record)] = stack.enter_context(_open(type(record), day, target))
            files[type(record)].add(record)
        for file in files.values():
            file.finish()
            sync_folder(file.path.parent)
    return {str(file.path.relative_to(target)): _output(file) for file in files.values()}


def _open(kind: type[Record], day: str, target: Path) -> ParquetFile:
    name, schema = TABLES[kind]
    folder = target / name / f"day={day}"
    make_folder(folder)
    return ParquetFile(folder / "rows.parquet", schema)


def _output(file: ParquetFile) -> Output:
    with file.path.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return Output(digest, file.path.stat().st_size, file.rows)


def _repeated(own: Iterable[Index], all_of_them: Iterable[Index]) -> set[int]:
    """Keys in `own` that several records have: only among them can be two records of one fact."""
    keys = np.unique(np.concatenate([np.empty(0, np.uint64), *(index.keys for index in own)]))
    counts = np.zeros(len(keys), np.int64)
    for index in all_of_them:
        here, times = np.unique(index.keys, return_counts=True)
        _, at, of = np.intersect1d(keys, here, assume_unique=True, return_indices=True)
        counts[at] += times[of]
    return set(keys[counts > 1].tolist())


def _firsts(repeated: set[int], indexes: dict[Path, Index]) -> dict[object, Any]:
    """Fact -> the least precedence among its records."""
    keys = np.array(sorted(repeated), np.uint64)
    firsts: dict[object, Any] = {}
    for path, index in indexes.items():
        for record in read_at(path, index.at(keys)):
            given = precedence(record)
            firsts[fact(record)] = min(firsts.get(fact(record), given), given)
    return firsts


def _take_first(record: Record, firsts: dict[object, Any]) -> bool:
    """Whether this record is its fact's row; the second of two that are the same is not."""
    if firsts.get(fact(record)) != precedence(record):
        return False
    del firsts[fact(record)]
    return True


def precedence(record: Record) -> tuple[Any, ...]:
    """Of several records of one fact the least is its row; records of one precedence are the same."""
    if isinstance(record, DecisionRecord):
        return record.rank
    if isinstance(record, RewardRecord):
        return record.received_at, record.observed_at, record.outcome, record.value
    return _at(record), encode_record(record)


def day_of(record: Record) -> str:
    """The day on which a record came, UTC, such as 2026-11-25."""
    return _at(record).astimezone(UTC).date().isoformat()


def _at(record: Record) -> datetime:
    if isinstance(record, DecisionRecord):
        return record.decision.decided_at
    if isinstance(record, RewardRecord):
        return record.received_at
    if isinstance(record, ActivationRecord):
        return record.activated_at
    return record.recorded_at if isinstance(record, ConsentRecord) else record.overridden_at


def _day_of(path: str) -> str:
    return Path(path).parent.name.removeprefix("day=")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
