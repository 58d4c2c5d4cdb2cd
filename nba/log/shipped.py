"""Segments that an archive has: what is known of them here, and how one is read that is no longer here itself.

Beside a segment lies `{segment}.shipped`, written once the archive's copy was read back and was the same. The segment
may then go (`nba log ship --delete-after-days`): whoever opens it gets the archive's copy, checked before the first
byte is given out.
"""

from __future__ import annotations

import hashlib
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec
from msgspec import Struct

from nba.durable import write_aside
from nba.errors import LogError
from nba.log.segment import SHIPPED
from nba.records import ConsentRecord

if TYPE_CHECKING:
    from nba.log.store import Store


class Entry(Struct, frozen=True):
    """A segment in an archive: written there last, so that where it is the segment is whole."""

    segment: str  # name
    bytes: int  # before compression
    sha256: str  # before compression
    records: int  # that can be read


ENTRY = msgspec.json.Decoder(Entry)  # here and elsewhere by name: two threads must not be the first to use a type


class Shipped(Struct, frozen=True):
    """Which archive has a segment."""

    archive: str  # where it is
    entry: Entry
    consents: tuple[ConsentRecord, ...]  # in it: needed whenever the claims are rebuilt, which asks no archive


_shipped = msgspec.json.Decoder(Shipped)


def archive_uri(name: str) -> str:
    """One spelling for an archive, whichever folder a process works in. Raises LogError."""
    try:
        return name.rstrip("/") if "://" in name else Path(name).expanduser().resolve().as_uri()
    except RuntimeError as error:  # ~nobody
        raise LogError(f"archive {name!r}: {error}", help="name a folder by its path") from None


def read_shipped(path: Path) -> Shipped | None:
    """Which archive has this segment; None where none is known to. Raises OSError."""
    try:
        return _shipped.decode(_beside(path).read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def shipped_to(path: Path) -> str | None:
    """The archive that has this segment; None where none is known to. Raises OSError."""
    try:
        stat = _beside(path).stat()
        return _archive(_beside(path), stat.st_mtime_ns, stat.st_size)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=16_384)
def _archive(path: Path, _modified: int, _size: int) -> str | None:
    """The archive that a note names, read once: whoever looks what is to be shipped looks at all of them."""
    shipped = read_shipped(path.with_suffix(""))
    return None if shipped is None else shipped.archive


def write_shipped(path: Path, shipped: Shipped) -> None:
    """Notes that an archive has this segment. Raises OSError."""
    write_aside(_beside(path), msgspec.json.encode(shipped))


def open_segment(path: Path) -> BinaryIO:
    """A segment, from its archive where it is not here. Raises FileNotFoundError, OSError, LogError."""
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        shipped = read_shipped(path)
        if shipped is None:
            raise
    from nba.log.store import Store  # Arrow takes a third of a second to import, and most logs are all here

    file = cast(BinaryIO, tempfile.TemporaryFile(dir=path.parent, buffering=0))  # noqa: SIM115  # the caller's
    try:
        fetch(Store.at(shipped.archive), shipped.entry, file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def segment_size(path: Path) -> int:
    """Bytes of a segment, wherever it is. Raises FileNotFoundError, OSError."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        shipped = read_shipped(path)
        if shipped is None:
            raise
        return shipped.entry.bytes


def fetch(store: Store, entry: Entry, file: BinaryIO) -> None:
    """Writes the archive's copy into `file`. Raises OSError, LogError where it is not what was shipped."""
    digest, length = hashlib.sha256(), 0
    try:
        for chunk in store.read(object_name(entry.segment)):
            digest.update(chunk)
            length += len(chunk)
            file.write(chunk)
    except FileNotFoundError:  # to a reader that would be a segment that never was
        raise LogError(
            f"{store.uri} has no object {object_name(entry.segment)}", help="see that the archive is there, and whole"
        ) from None
    if (digest.hexdigest(), length) != (entry.sha256, entry.bytes):
        raise LogError(
            f"{entry.segment} in {store.uri} is not what was shipped: {length} bytes of SHA-256 {digest.hexdigest()}, "
            f"not {entry.bytes} of {entry.sha256}",
            help="bring the archive's object back from a version or a backup of it",
        )


def object_name(segment: str) -> str:
    """The segment's object in an archive, compressed."""
    return f"{segment}.zst"


def entry_name(segment: str) -> str:
    """The segment's entry in an archive."""
    return f"{segment}.json"


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SHIPPED)
