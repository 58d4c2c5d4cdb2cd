"""Reads the log: every whole record of every segment, damage counted and passed.

A segment that is being written may be read; what it holds beyond the last sync is not yet acknowledged, and may go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec

from nba.errors import LogError
from nba.log.segment import KINDS, Damage, Frame, owned, read_frame, scan, segments
from nba.log.shipped import open_segment
from nba.records import VERSION, DecisionRecord, Record, decode_record

OnRecord: TypeAlias = Callable[[int], object]  # told how many records are done so far

MAX_PROBLEMS = 100
TELL_EVERY = 1_000  # records
_KNOWN = frozenset(KINDS.values())


@dataclass(slots=True)
class LogReport:
    """What a reading met."""

    segments: int = 0
    records: int = 0
    bytes: int = 0
    open_segments: int = 0  # being written; their last frame may be on its way
    torn_tails: int = 0  # segments that end within a frame: their writer died
    bad_frames: int = 0  # stretches of damaged bytes that were passed
    unknown: int = 0  # whole frames of a kind, version or layout this code does not know
    problems: list[str] = field(default_factory=list)  # "segment:position what", the first 100

    def note(self, segment: Path, position: int, what: str) -> None:
        """Keeps a problem, if there are not too many yet."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"{segment.name}:{position} {what}")


def read_records(folder: Path, report: LogReport | None = None) -> Iterator[Record]:
    """Every record of every segment, in name order then position; what could not be read is counted in `report`.

    None where the folder is not there. Raises LogError where a segment cannot be opened or read.
    """
    report = LogReport() if report is None else report
    for path in segments(folder):
        yield from read_segment(path, report)


def read_segment(path: Path, report: LogReport) -> Iterator[Record]:
    """Every record of one segment, from its archive where it is not here. Raises LogError."""
    try:
        with open_segment(path) as file:
            yield from _read(path, file, report)
    except FileNotFoundError:  # an empty one, given up by its writer since the listing
        return
    except OSError as error:
        raise LogError(f"segment {path} cannot be read: {error}", help="see to its owner and its disk") from error


def read_at(path: Path, positions: Iterable[int]) -> Iterator[Record]:
    """The records of a segment at these positions, as an index has them. Raises OSError, LogError."""
    wanted = list(positions)
    if not wanted:
        return
    with open_segment(path) as file:
        for position in wanted:
            frame = read_frame(file, position)
            record = None if frame is None else decode_frame(path, frame, LogReport())
            if record is not None:
                yield record


def _read(path: Path, file: BinaryIO, report: LogReport) -> Iterator[Record]:
    report.segments += 1
    open_before = owned(file)
    for found in scan(file):
        if isinstance(found, Frame):
            record = decode_frame(path, found, report)
            if record is not None:
                report.records += 1
                yield record
        elif found.tail and (open_before or owned(file)):
            continue
        else:
            _count(path, found, report)
    report.open_segments += open_before
    report.bytes += file.tell()


def decode_frame(path: Path, found: Frame, report: LogReport) -> Record | None:
    """The record in a whole frame; None, and a note in `report`, where this code does not know it."""
    if found.kind not in _KNOWN:
        report.unknown += 1
        report.note(path, found.position, f"a record of unknown kind {found.kind}")
        return None
    try:
        record = decode_record(found.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        report.unknown += 1
        report.note(path, found.position, f"a record that cannot be decoded: {error}")
        return None
    if isinstance(record, DecisionRecord) and record.version > VERSION:
        report.unknown += 1
        report.note(path, found.position, f"a decision of version {record.version}, known up to {VERSION}")
        return None
    return record


def _count(path: Path, damage: Damage, report: LogReport) -> None:
    if damage.tail:
        report.torn_tails += 1
        report.note(path, damage.position, f"a torn tail of {damage.length} bytes, cut")
    else:
        report.bad_frames += 1
        report.note(path, damage.position, f"{damage.length} damaged bytes, passed")


@dataclass(slots=True)
class Count:
    """Tells somebody how many records went by, over one reading or several."""

    tell: OnRecord | None
    done: int = 0

    def __call__(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records."""
        for record in records:
            yield record
            self.done += 1
            if self.tell is not None and self.done % TELL_EVERY == 0:
                self.tell(self.done)
