"""The promotion ledger: one line of JSON for each change of champion, appended and never edited."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from nba.durable import sync_folder

# promote: the gate, or the absence of any champion, allowed it. force: a person did. rollback: back to the one before.
Kind = Literal["promote", "rollback", "force"]


class Entry(Struct, frozen=True, kw_only=True):
    """One change of champion: from when on which version served, and why."""

    at: datetime  # with offset
    pack: str
    kind: Kind
    from_version: str | None  # None: the first champion
    to_version: str
    digest: str  # of the artefact of `to_version`
    why: str
    actor: str
    verdict: tuple[str, ...] = ()  # the gate's reasons, where it was asked


@dataclass(frozen=True, slots=True)
class History:
    """What the ledger holds, in the order in which it was written."""

    entries: tuple[Entry, ...]
    damaged: int  # lines that could not be read: a write that was cut short leaves one

    def of(self, pack: str) -> tuple[Entry, ...]:
        """The entries of one pack."""
        return tuple(entry for entry in self.entries if entry.pack == pack)

    def served_at(self, pack: str, when: datetime) -> Entry | None:
        """The entry by which the champion of that time served; None before the first."""
        past = [entry for entry in self.of(pack) if entry.at <= when]
        return past[-1] if past else None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger in one file; several processes may append to it."""

    path: Path

    def append(self, entry: Entry) -> None:
        """Adds an entry; it is on disk when this returns. Raises OSError where the disk refuses."""
        line = msgspec.json.encode(entry) + b"\n"
        with locked(self.path.with_suffix(".lock")):
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # A line that was cut short must not swallow this one.
                whole = line if _ends_whole(handle) else b"\n" + line
                if os.write(handle, whole) != len(whole):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(handle)
            finally:
                os.close(handle)
            sync_folder(self.path.parent)  # also where another made the file and died before this

    def read(self) -> History:
        """Everything in the ledger; lines that are not whole entries are counted and passed over."""
        entries, damaged = [], 0
        for line in self.path.read_bytes().splitlines() if self.path.exists() else ():
            try:
                entries.append(msgspec.json.decode(line, type=Entry))
            except msgspec.MsgspecError:
                damaged += bool(line)
        return History(tuple(entries), damaged)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of this file for the block; waits for whoever else holds it. Freed when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _ends_whole(handle: int) -> bool:
    size = os.fstat(handle).st_size
    return size == 0 or os.pread(handle, 1, size - 1) == b"\n"
