"""Ships segments to an archive, and brings them back: the log outlives the machine that wrote it.

An archive is a folder or a bucket with two objects a segment: `{segment}.zst`, the segment itself, compressed, and
`{segment}.json`, its entry with length and SHA-256, written last, after the first was read back and was the same.
A segment without an entry is not there: what a killed process left of it is written again. Machines may share one.

What only this machine has is the segments that are being written and those done and not shipped yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import msgspec

from nba.durable import make_folder, sync_folder
from nba.errors import LogError
from nba.log.index import build, index_of
from nba.log.reader import read_at
from nba.log.segment import CHUNK, alone, sealed_size, segments
from nba.log.shipped import (
    ENTRY,
    Entry,
    Shipped,
    archive_uri,
    entry_name,
    fetch,
    object_name,
    read_shipped,
    shipped_to,
    write_shipped,
)
from nba.log.store import Store
from nba.records import ConsentRecord

LOCK = ".ship.lock"
OnSegment: TypeAlias = Callable[[int], object]  # told how many segments are done so far
Stop: TypeAlias = Callable[[], bool]  # asked before each segment


@dataclass(slots=True)
class Shipping:
    """What one pass did; names of segments."""

    shipped: list[str] = field(default_factory=list)  # written to the archive now
    known: list[str] = field(default_factory=list)  # the archive had them, this machine did not know
    deleted: list[str] = field(default_factory=list)  # here; the archive's copy was read back first
    busy: bool = False  # another process of this machine is at it: nothing was done


@dataclass(slots=True)
class Restored:
    """What a restore did; names of segments."""

    restored: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)  # were here, the same


def unshipped(folder: Path, archive: str) -> list[Path]:
    """Segments that are done and that this archive is not known to have. Raises OSError."""
    archive, waiting = archive_uri(archive), []
    for path in segments(folder):
        with contextlib.suppress(FileNotFoundError):  # only an archive has it, or it was given up empty
            if shipped_to(path) != archive and sealed_size(path) is not None:
                waiting.append(path)
    return waiting


def backlog(folder: Path, archive: str) -> tuple[int, float]:
    """How many segments wait to be shipped, and seconds since the oldest was last written; raises OSError."""
    times = [path.stat().st_mtime for path in unshipped(folder, archive)]
    return len(times), max(0.0, time.time() - min(times)) if times else 0.0


def ship(
    folder: Path,
    archive: str,
    *,
    delete_after: timedelta | None = None,
    stop: Stop = lambda: False,
    on_segment: OnSegment | None = None,
) -> Shipping:
    """Copies every segment that is done to the archive; one process of a machine at a time, each segment once.

    With `delete_after`, segments whose last record is older go from this machine, once the archive's copy has been
    read back again and is the same: whoever reads the log gets them from there.
    Raises OSError, or LogError where the archive cannot be used, or, after all others, where it has another segment of
    a name. What was shipped by then is, and the next pass goes on.
    """
    archive, done = archive_uri(archive), Shipping()
    refused: LogError | None = None
    make_folder(folder)
    with alone(folder / LOCK) as first:
        if not first:
            return Shipping(busy=True)
        waiting = unshipped(folder, archive)
        store = Store.at(archive) if waiting or delete_after is not None else None
        there = store.names() if store is not None and waiting else set()
        for n, path in enumerate(waiting):
            if store is None or stop():
                break
            try:
                (done.known if _ship(path, store, archive, there) else done.shipped).append(path.name)
            except LogError as error:  # of this segment; the next may be sound
                refused = error
            if on_segment is not None:
                on_segment(n + 1)
        if delete_after is not None:
            _delete(folder, delete_after, stop, done)
    if refused is not None:
        raise refused
    return done


def restore(folder: Path, archive: str, *, on_segment: OnSegment | None = None) -> Restored:
    """Brings every segment of the archive that is not here; hashes checked, one here already left as it is.

    Raises OSError, or LogError where a segment here is another one, or an object is not what was shipped.
    """
    archive, done = archive_uri(archive), Restored()
    store = Store.at(archive)
    make_folder(folder)
    names = sorted(name.removesuffix(".json") for name in store.names() if name.endswith(".seg.json"))
    for n, name in enumerate(names):
        entry = _entry(store, name)
        if entry is not None:
            path = folder / name
            if _is_here(path, entry):
                done.present.append(name)
            else:
                _bring(path, store, entry)
                done.restored.append(name)
            write_shipped(path, Shipped(archive, entry, _consents(path)))
        if on_segment is not None:
            on_segment(n + 1)
    return done


def count_entries(archive: str) -> int:
    """How many segments the archive has. Raises OSError, LogError."""
    return sum(name.endswith(".seg.json") for name in Store.at(archive).names())


def _ship(path: Path, store: Store, archive: str, there: set[str]) -> bool:
    """Whether the archive had this segment; now it does."""
    index = index_of(path)
    if index is None:
        raise LogError(f"segment {path} is being written", help="wait until its writer has begun the next")
    entry = Entry(path.name, index.summary.bytes, index.summary.sha256, index.summary.records)
    known = _entry(store, path.name) if entry_name(path.name) in there else None
    if known is None:
        entry = _put(path, store, entry)
    elif known.sha256 != entry.sha256:
        raise LogError(
            f"{archive} has another segment {path.name}: {known.bytes} bytes of SHA-256 {known.sha256}, here are "
            f"{entry.bytes} of {entry.sha256}",
            help="look at both with nba log verify; give the file of one another name, so that both are kept",
        )
    write_shipped(path, Shipped(archive, entry, _consents(path)))
    return known is not None


def _put(path: Path, store: Store, entry: Entry) -> Entry:
    with path.open("rb", buffering=0) as file:
        written = store.write(object_name(path.name), _chunks(file))
    if written != (entry.bytes, entry.sha256):  # the disk has changed it since it was indexed: it ships all the same
        index = build(path)
        entry = Entry(path.name, *written, records=index.summary.records)
    _check(store, entry)
    store.write(entry_name(path.name), [msgspec.json.encode(entry)])
    if _entry(store, path.name) != entry:
        raise LogError(f"the entry of {path.name} is not read as it was written", help=f"see to {store.uri}")
    return entry


def _check(store: Store, entry: Entry) -> None:
    """Reads the archive's copy back. Raises LogError where it is not the segment."""
    with Path(os.devnull).open("wb") as nowhere:
        fetch(store, entry, cast(BinaryIO, nowhere))


def _delete(folder: Path, after: timedelta, stop: Stop, done: Shipping) -> None:
    oldest = time.time() - after.total_seconds()
    for path in segments(folder):
        shipped = read_shipped(path)
        if stop() or shipped is None or not path.exists() or path.stat().st_mtime > oldest:
            continue
        if sealed_size(path) is None or _digest(path) != shipped.entry.sha256:
            continue
        _check(Store.at(shipped.archive), shipped.entry)
        index_of(path)  # while it is here: look-ups and the claims go by it
        path.unlink()
        done.deleted.append(path.name)
    if done.deleted:
        sync_folder(folder)


def _entry(store: Store, segment: str) -> Entry | None:
    """The segment's entry; None where it is not whole."""
    try:
        return ENTRY.decode(b"".join(store.read(entry_name(segment))))
    except msgspec.MsgspecError:
        return None


def _is_here(path: Path, entry: Entry) -> bool:
    if not path.exists():
        return False
    here = _digest(path)
    if here != entry.sha256:
        raise LogError(
            f"segment {path} is another one than the archive's: SHA-256 {here}, not {entry.sha256}",
            help="look at both with nba log verify; move the one here away if it is the damaged one",
        )
    return True


def _bring(path: Path, store: Store, entry: Entry) -> None:
    aside = path.with_name(f".{path.name}.restoring")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            fetch(store, entry, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def _consents(path: Path) -> tuple[ConsentRecord, ...]:
    index = index_of(path)
    found = () if index is None else read_at(path, index.consents())
    return tuple(record for record in found if isinstance(record, ConsentRecord))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
