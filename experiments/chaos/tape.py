"""What a writer asks of its disk, recorded call by call; and a disk that may lose whatever was not synced.

The recorder stands before the functions of `os` that `nba.log` writes with, and does what they do. The disk is as bad
as POSIX allows: of a file, any of the sectors written since its last sync may be there or not, its length may be old,
new or between; of a folder, any of the names made, moved or taken away since its last sync. Everything else of the
kernel, drive and file system is left out: a drive that lies about a sync loses more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512  # bytes that reach the disk together
_PATCHED = (
    "open",
    "write",
    "fdatasync",
    "fsync",
    "ftruncate",
    "posix_fallocate",
    "close",
    "unlink",
    "replace",
    "mkdir",
)


@dataclass(frozen=True, slots=True)
class Event:
    """One call that succeeded, or `ack`: what was written until now was acknowledged under this name."""

    call: str
    inode: int = 0
    at: int = 0  # offset of a write; new length of a truncation
    data: bytes = b""
    path: str = ""  # below the root
    to: str = ""


@dataclass
class Tape:
    """Records what is done below a folder, while it is the context."""

    root: Path
    events: list[Event] = field(default_factory=list)
    failing_sync: Callable[[], bool] = lambda: False
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _inodes: dict[str, int] = field(default_factory=dict)  # of what is there, by path below the root
    _files: dict[int, tuple[int, str]] = field(default_factory=dict)  # descriptor -> inode, path
    _ends: dict[int, int] = field(default_factory=dict)  # length of a file, where it is appended to
    _made: int = 0
    _real: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Tape:
        self._real = {name: getattr(os, name) for name in (*_PATCHED, "fdopen")}
        for name in _PATCHED:
            setattr(os, name, self._recorded(name))
        setattr(os, "fdopen", self._fdopen)  # noqa: B010  # by its name, as the others
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def ack(self, name: str) -> None:
        """Notes that the writer has acknowledged it."""
        with self._lock:
            self.events.append(Event("ack", path=name))

    def _recorded(self, name: str) -> Callable[..., Any]:
        real, record = self._real[name], getattr(self, f"_on_{name}")

        def call(*given: Any, **named: Any) -> Any:
            with self._lock:
                done: Any = record(real, *given, **named)
                return done

        return call

    def _below(self, path: Any) -> str | None:
        if isinstance(path, int):
            return None
        with contextlib.suppress(ValueError):
            return str(Path(path).relative_to(self.root))
        return None

    def _on_open(self, real: Any, path: Any, flags: int, *given: Any, **named: Any) -> int:
        below = self._below(path)
        descriptor: int = real(path, flags, *given, **named)
        if below is None:
            return descriptor
        if flags & os.O_CREAT and below not in self._inodes:
            self._made += 1
            self._inodes[below], self._ends[self._made] = self._made, 0
            self.events.append(Event("create", self._made, path=below))
        self._files[descriptor] = self._inodes.get(below, 0), below
        return descriptor

    def _on_write(self, real: Any, descriptor: int, data: Any) -> int:
        n: int = real(descriptor, data)
        if descriptor in self._files:
            inode = self._files[descriptor][0]
            self.events.append(Event("write", inode, self._ends[inode], bytes(data[:n])))
            self._ends[inode] += n
        return n

    def _on_fsync(self, real: Any, descriptor: int) -> None:
        if descriptor in self._files and self.failing_sync():
            inode, _ = self._files[descriptor]
            self.events += [Event("failed_sync", inode)] if inode else []  # names stay on their way
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)
        if descriptor in self._files:
            inode, below = self._files[descriptor]
            self.events.append(Event("sync", inode) if inode else Event("sync_folder", path=below))

    _on_fdatasync = _on_fsync

    def _on_ftruncate(self, real: Any, descriptor: int, length: int) -> None:
        real(descriptor, length)
        self._resized(descriptor, length)

    def _on_posix_fallocate(self, real: Any, descriptor: int, offset: int, length: int) -> None:
        real(descriptor, offset, length)
        self._resized(descriptor, offset + length)

    def _resized(self, descriptor: int, length: int) -> None:
        if descriptor in self._files:
            inode = self._files[descriptor][0]
            self._ends[inode] = length
            self.events.append(Event("resize", inode, length))

    def _on_close(self, real: Any, descriptor: int) -> None:
        self._files.pop(descriptor, None)
        real(descriptor)

    def _on_unlink(self, real: Any, path: Any, **named: Any) -> None:
        real(path, **named)
        below = self._below(path)
        if below is not None:
            self._inodes.pop(below, None)
            self.events.append(Event("unlink", path=below))

    def _on_replace(self, real: Any, source: Any, target: Any, **named: Any) -> None:
        real(source, target, **named)
        below, to = self._below(source), self._below(target)
        if below is not None and to is not None:
            self._inodes[to] = self._inodes.pop(below)
            self.events.append(Event("rename", self._inodes[to], path=below, to=to))

    def _on_mkdir(self, real: Any, path: Any, *given: Any, **named: Any) -> None:
        real(path, *given, **named)
        below = self._below(path)
        if below is not None:
            self.events.append(Event("mkdir", path=below))

    def _fdopen(self, descriptor: int, *given: Any, **named: Any) -> Any:
        """A file whose writes go through the recorder too: Python's own call the system themselves."""
        if descriptor in self._files:
            return _Plain(descriptor)
        return self._real["fdopen"](descriptor, *given, **named)


class _Plain:
    """As much of a file as is written with."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def write(self, data: bytes) -> int:
        """Writes all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        """Its descriptor."""
        return self._descriptor
