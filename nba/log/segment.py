"""Segment files and the frames in them.

A frame is `magic 4 | kind 1 | length 4, little-endian | CRC32 4, of kind, length and payload | payload`.
The magic starts with a byte that JSON in UTF-8 cannot hold, so that after damage the next magic is the next frame.
A segment is named `{host}-{pid}-{start}-{n}.seg`, created by one writer and never opened for writing again. Beside it
may lie `.seg.idx`, where what is in it (`nba.log.index`), and `.seg.shipped`, which archive has it (`nba.log.shipped`):
then the segment itself may be gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from nba.durable import sync_folder

MAGIC = b"\xffNB\x01"
SUFFIX = ".seg"
SHIPPED = ".shipped"  # after a segment's name: that an archive has it
MAX_PAYLOAD = 4 << 20  # bytes; what a length field may say before it counts as damage
CHUNK = 4 << 20  # bytes read at once

# Kinds 5 and 6 are kept for tombstones and corrections.
KINDS: dict[str, int] = {"decision": 1, "activation": 2, "reward": 3, "override": 4, "consent": 7}

_HEADER = struct.Struct("<4sBII")
_SUMMED = struct.Struct("<BI")


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame."""

    position: int  # of its first byte in the segment
    kind: int
    payload: bytes

    @property
    def end(self) -> int:
        """Position of the first byte after it."""
        return self.position + _HEADER.size + len(self.payload)


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of bytes that holds no whole frame; `tail` where nothing whole comes after it."""

    position: int
    length: int  # bytes
    tail: bool


class Readable(Protocol):
    """A file, as far as a scan needs one."""

    def read(self, size: int, /) -> bytes:
        """At most so many of the next bytes; none at the end."""
        ...


def frame(kind: int, payload: bytes) -> bytes:
    """The frame of a payload."""
    checksum = zlib.crc32(payload, zlib.crc32(_SUMMED.pack(kind, len(payload))))
    return _HEADER.pack(MAGIC, kind, len(payload), checksum) + payload


def scan(file: Readable) -> Iterator[Frame | Damage]:
    """The frames of a segment in order, damage between them reported and passed; under 25 MB of memory."""
    buffer, base, at, ended = b"", 0, 0, False  # base: position of buffer[0]
    damage: int | None = None  # where the present damage began
    while True:
        if not ended and len(buffer) - at < _HEADER.size + MAX_PAYLOAD:
            chunk = file.read(CHUNK)
            ended = not chunk
            buffer, base, at = buffer[at:] + chunk, base + at, 0
            continue
        if at == len(buffer):
            break
        found = _frame_at(buffer, at, base)
        if found is None:
            damage = base + at if damage is None else damage
            following = buffer.find(MAGIC, at + 1)
            # A magic may be cut by the end of the buffer: keep its possible beginning.
            at = following if following >= 0 else len(buffer) if ended else max(at + 1, len(buffer) - len(MAGIC) + 1)
            continue
        if damage is not None:
            yield Damage(damage, found.position - damage, tail=False)
            damage = None
        yield found
        at += _HEADER.size + len(found.payload)
    if damage is not None:
        yield Damage(damage, base + at - damage, tail=True)


def read_frame(file: BinaryIO, position: int) -> Frame | None:
    """The frame that starts at this position; None where no whole one does."""
    file.seek(position)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    length = _HEADER.unpack(header)[2]
    return _frame_at(header + file.read(min(length, MAX_PAYLOAD)), 0, position)


def _frame_at(buffer: bytes, at: int, base: int) -> Frame | None:
    """The frame that starts here, None where none does or where the buffer ends before it."""
    if len(buffer) - at < _HEADER.size:
        return None
    magic, kind, length, checksum = _HEADER.unpack_from(buffer, at)
    start = at + _HEADER.size
    if magic != MAGIC or length > MAX_PAYLOAD or len(buffer) - start < length:
        return None
    payload = buffer[start : start + length]
    if zlib.crc32(payload, zlib.crc32(_SUMMED.pack(kind, length))) != checksum:
        return None
    return Frame(base + at, kind, payload)


@dataclass(slots=True)
class OpenSegment:
    """A segment that this process writes: created, locked, and its name synced."""

    path: Path
    number: int
    length: int  # bytes that are synced
    _descriptor: int

    @classmethod
    def create(cls, folder: Path, first: int = 0) -> OpenSegment:
        """A new segment numbered `first`, or the next free. Raises OSError where the disk does not allow it."""
        stem = f"{_host()}-{os.getpid()}-{_start()}"
        number = first
        while True:
            path = folder / f"{stem}-{number:06d}{SUFFIX}"
            if path.with_name(path.name + SHIPPED).exists():  # its name is taken, though only an archive may have it
                number += 1
                continue
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                break
            except FileExistsError:
                number += 1
        segment = cls(path, number, 0, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits only for a reader that is just asking who owns it
            sync_folder(folder)
        except OSError:
            segment.seal()
            raise
        return segment

    def commit(self, data: bytes) -> None:
        """Appends and syncs. Raises OSError, and then the segment must be sealed: what a failed sync did is unknown."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        os.fdatasync(self._descriptor)
        self.length += len(data)

    def reserve(self, size: int) -> None:
        """Sees whether the disk takes `size` more bytes, without keeping them. Raises OSError."""
        os.posix_fallocate(self._descriptor, self.length, size)
        os.ftruncate(self._descriptor, self.length)

    def close(self) -> None:
        """Lets go of it; all that was committed is synced already."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def seal(self) -> None:
        """Cuts what was not synced, as far as the disk still obeys, and lets go; an empty one goes altogether."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self.length)
            if not self.length:
                self.path.unlink()
        self.close()


def owned(file: BinaryIO) -> bool:
    """Whether a writer has this segment open."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def sealed_size(path: Path) -> int | None:
    """Bytes of a segment that nobody writes any more; None where one does, or where it is empty. Raises OSError."""
    # Its size first: a writer owns its segment before the first byte, so that one with bytes and no owner is done.
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        return None if not size or owned(file) else os.fstat(file.fileno()).st_size


def segments(folder: Path) -> list[Path]:
    """The segments of a log in the order they are read, those that only an archive has too.

    None where the folder is not there.
    """
    away = (path.with_suffix("") for path in folder.glob(f"*{SUFFIX}{SHIPPED}"))
    return sorted({*folder.glob(f"*{SUFFIX}"), *away})


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Whether no other process holds this lock, a file; none does meanwhile. Raises OSError."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:64] or "host"


def _start() -> str:
    """Which start of this process: its boot and its tick in that, so that no other process has both and the same id.

    Names of segments meet in one archive, and a container gets its host name and process id again and again.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    tick = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]  # field 22, starttime
    return hashlib.blake2b(f"{boot} {tick}".encode(), digest_size=4).hexdigest()
