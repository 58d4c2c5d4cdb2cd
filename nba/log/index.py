"""Where in a segment the records of a decision are: a sorted index beside each segment that is done.

    {segment}.idx   a line of JSON, padded | keys, n x uint64, sorted | positions, n x uint64

A key is 61 bits of the BLAKE2b hash of whom the record is about (a decision_id; of a consent its subject) and 3 bits
of its kind. The segment stays the truth: an index that is missing, damaged or of another length is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from nba.durable import write_aside
from nba.log.segment import KINDS, Frame, Readable, scan, sealed_size
from nba.log.shipped import open_segment, read_shipped
from nba.records import ConsentRecord, Record

Words: TypeAlias = NDArray[np.uint64]

SUFFIX = ".idx"
SCHEMA = 1
BREATH = 64  # frames, after which a server's other threads get their turn
_KIND_BITS = 7
_CONSENT = KINDS["consent"]


class Summary(Struct, frozen=True, kw_only=True):
    """What a segment holds, and what proves that this index is of that segment and whole."""

    schema: int = SCHEMA
    bytes: int  # of the segment
    sha256: str  # of the segment
    records: int  # that can be read, one key each
    crc: int  # CRC32 of keys and positions
    epoch: int  # the highest of its decisions
    epoch_at: int | None  # position of a decision of that epoch; None where it is 0
    latest: datetime | None  # last time of a decision or of a report's arrival; None without either
    days: tuple[str, ...]  # such as 2026-11-25, UTC: on which its records came


_summary = msgspec.json.Decoder(Summary)


@dataclass(frozen=True, slots=True)
class Index:
    """Keys, ascending, and where in the segment their records start; of one key in log order."""

    summary: Summary
    keys: Words
    positions: Words

    def find(self, bases: Words) -> list[int]:
        """Positions of all records about whoever has one of these `key_of`, in log order."""
        low, high = np.searchsorted(self.keys, bases), np.searchsorted(self.keys, bases | _KIND_BITS, "right")
        found = {int(p) for i, j in zip(low.tolist(), high.tolist(), strict=True) for p in self.positions[i:j]}
        return sorted(found)

    def at(self, keys: Words) -> list[int]:
        """Positions of all records with one of these keys, ascending ones, in log order."""
        return sorted(self.positions[np.isin(self.keys, keys)].tolist())

    def consents(self) -> list[int]:
        """Positions of all statements of consent, in log order."""
        return sorted(self.positions[(self.keys & _KIND_BITS) == _CONSENT].tolist())


@dataclass(frozen=True, slots=True)
class Head:
    """As much of a record as an index takes."""

    key: int
    at: datetime  # when it came, as far as it says
    epoch: int  # of a decision; 0 of all else


def key_of(whom: str) -> int:
    """The key of a decision_id or a subject, its lowest 3 bits 0."""
    return int.from_bytes(hashlib.blake2b(whom.encode(), digest_size=8).digest(), "little") & ~_KIND_BITS


def record_key(record: Record) -> int:
    """The key of a record."""
    whom = record.subject if isinstance(record, ConsentRecord) else record.decision_id
    return key_of(whom) | KINDS[str(record.__struct_config__.tag)]


def head(frame: Frame) -> Head | None:
    """The head of the record in a whole frame; None where this code does not know it."""
    decoder = _decoders.get(frame.kind)
    if decoder is None:
        return None
    try:
        found = decoder.decode(frame.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(found, _DecisionHead):
        whom, at, epoch = found.decision.request.decision_id, found.decision.decided_at, found.epoch
    else:
        whom, at, epoch = found.whom, found.at, 0
    try:
        return Head(key_of(whom) | frame.kind, at.astimezone(UTC), epoch)
    except OverflowError:  # at the end of all time
        return None


def index_of(path: Path) -> Index | None:
    """The index of a segment, made where it is not there; None while the segment is being written.

    Raises OSError where the segment cannot be read, LogError where an archive has another one.
    """
    try:
        size = sealed_size(path)
    except FileNotFoundError:
        shipped = read_shipped(path)
        if shipped is None:
            raise
        size = shipped.entry.bytes
    return None if size is None else _load(path, size) or build(path)


def build(path: Path) -> Index:
    """Makes the index of a segment that nobody writes, and puts it beside it where the folder allows."""
    with open_segment(path) as file:
        read = _Summed(file)
        heads = list(_heads(read))
    keys = np.array([head.key for _, head in heads], dtype="<u8")
    positions = np.array([position for position, _ in heads], dtype="<u8")
    order = np.argsort(keys, kind="stable")
    keys, positions = keys[order], positions[order]
    newest = max(heads, key=lambda each: each[1].epoch, default=None)
    summary = Summary(
        bytes=read.bytes,
        sha256=read.digest.hexdigest(),
        records=len(heads),
        crc=zlib.crc32(positions.tobytes(), zlib.crc32(keys.tobytes())),
        epoch=0 if newest is None else newest[1].epoch,
        epoch_at=None if newest is None or not newest[1].epoch else newest[0],
        latest=max((h.at for _, h in heads if h.key & _KIND_BITS in _TIMED), default=None),
        days=tuple(sorted({head.at.date().isoformat() for _, head in heads})),
    )
    line = msgspec.json.encode(summary)
    line += b" " * (-(len(line) + 1) % 8) + b"\n"
    with contextlib.suppress(OSError):  # a folder that may only be read
        write_aside(beside(path), line + keys.tobytes() + positions.tobytes())
    return Index(summary, keys, positions)


def beside(path: Path) -> Path:
    """Where the index of a segment lies."""
    return path.with_name(path.name + SUFFIX)


class Growing:
    """The index in memory of a segment that is being written; each `read` takes what has come since the last."""

    def __init__(self) -> None:
        self._position = 0
        self._places: dict[int, list[int]] = {}

    def read(self, file: BinaryIO) -> None:
        """Takes the whole frames that came since."""
        start = self._position
        file.seek(start)
        for found in scan(file):
            if isinstance(found, Frame):
                self._position = start + found.end
                known = head(found)
                if known is not None:
                    self._places.setdefault(known.key, []).append(start + found.position)

    def find(self, bases: Iterable[int]) -> list[int]:
        """Positions of all records about whoever has one of these `key_of`, in log order."""
        keys = (base | kind for base in bases for kind in KINDS.values())
        return sorted(position for key in keys for position in self._places.get(key, ()))


def _heads(file: Readable) -> Iterator[tuple[int, Head]]:
    for n, found in enumerate(scan(file)):
        if isinstance(found, Frame) and (known := head(found)) is not None:
            yield found.position, known
        if n % BREATH == 0:
            time.sleep(0)


def _load(path: Path, size: int) -> Index | None:
    """The index that is there; None where there is none, or not of a segment of this many bytes."""
    try:
        stat = beside(path).stat()
        known = _checked(beside(path), stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return None
    if known is None or known[0].bytes != size:
        return None
    summary, offset = known
    if not summary.records:
        return Index(summary, np.empty(0, "<u8"), np.empty(0, "<u8"))
    words = np.memmap(beside(path), "<u8", "r", offset, (2, summary.records))
    return Index(summary, words[0], words[1])


@lru_cache(maxsize=4_096)
def _checked(path: Path, _modified: int, size: int) -> tuple[Summary, int] | None:
    """The summary and where the keys start, read whole and checked once; None for another version's, or damage."""
    data = path.read_bytes()
    line, _, words = data.partition(b"\n")
    summary = _summary.decode(line)
    sound = summary.schema == SCHEMA and len(data) == size and len(words) == 16 * summary.records
    return (summary, len(line) + 1) if sound and zlib.crc32(words) == summary.crc else None


class _Summed:
    """A file that is hashed as it is read."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.digest, self.bytes = hashlib.sha256(), 0

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self.bytes += len(data)
        return data


class _Request(Struct):
    decision_id: str


class _Decision(Struct):
    request: _Request
    decided_at: datetime


class _DecisionHead(Struct):
    decision: _Decision
    epoch: int


class _Activation(Struct):
    whom: str = msgspec.field(name="decision_id")
    at: datetime = msgspec.field(name="activated_at")


class _Reward(Struct):
    whom: str = msgspec.field(name="decision_id")
    at: datetime = msgspec.field(name="received_at")


class _Override(Struct):
    whom: str = msgspec.field(name="decision_id")
    at: datetime = msgspec.field(name="overridden_at")


class _Consent(Struct):
    whom: str = msgspec.field(name="subject")
    at: datetime = msgspec.field(name="recorded_at")


_Heads: TypeAlias = _DecisionHead | _Activation | _Reward | _Override | _Consent
_TYPES: dict[str, type[_Heads]] = {
    "decision": _DecisionHead,
    "activation": _Activation,
    "reward": _Reward,
    "override": _Override,
    "consent": _Consent,
}
_decoders = {KINDS[name]: msgspec.json.Decoder[_Heads](kind) for name, kind in _TYPES.items()}
_TIMED = (KINDS["decision"], KINDS["reward"])
