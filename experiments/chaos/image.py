"""A disk as it may look after the power went: what was synced, and any part of what was not."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tape import SECTOR, Event

FOLDER = 0  # stands for a folder among the entries of another


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)  # since the last sync
    limbo: list[Event] = field(default_factory=list)  # a sync failed on them: there or not, and no later sync helps


@dataclass(slots=True)
class _Folder:
    durable: dict[str, int] = field(default_factory=dict)  # name -> inode
    pending: list[Event] = field(default_factory=list)


class Disk:
    """What is durable after some events, and what is on its way."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._files: dict[int, _File] = {}
        self._folders: dict[str, _Folder] = {".": _Folder()}
        self.acknowledged: list[str] = []
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event.call:
            case "write" | "resize":
                self._files[event.inode].pending.append(event)
            case "sync":
                file = self._files[event.inode]
                for one in file.pending:
                    _apply(file.durable, one)
                file.pending.clear()
            case "failed_sync":
                file = self._files[event.inode]
                file.limbo += file.pending
                file.pending.clear()
            case "sync_folder":
                folder = self._folders[event.path]
                for one in folder.pending:
                    _enter(folder.durable, one)
                folder.pending.clear()
            case "ack":
                self.acknowledged.append(event.path)
            case _:
                self._named(event)

    def _named(self, event: Event) -> None:
        """A name was made, moved or taken away."""
        self._folders[str(Path(event.path).parent)].pending.append(event)
        if event.call == "mkdir":
            self._folders[event.path] = _Folder()
        elif event.call == "create":
            self._files[event.inode] = _File()

    def write(self, target: Path, rng: random.Random) -> None:
        """One image of it: what may have survived, in this folder."""
        keep = rng.choice((0.0, 0.5, 0.5, 0.9, 1.0))
        target.mkdir()
        self._write(".", target, rng, keep)

    def _write(self, name: str, target: Path, rng: random.Random, keep: float) -> None:
        folder = self._folders[name]
        entries = dict(folder.durable)
        for event in folder.pending:
            if rng.random() < keep:
                _enter(entries, event)
        for entry, inode in entries.items():
            if inode == FOLDER:
                (target / entry).mkdir()
                self._write(str(Path(name) / entry), target / entry, rng, keep)
            else:
                (target / entry).write_bytes(_survived(self._files[inode], rng, keep))


def _enter(entries: dict[str, int], event: Event) -> None:
    """Does to a folder's entries what was done to the folder."""
    name = Path(event.path).name
    match event.call:
        case "create":
            entries[name] = event.inode
        case "mkdir":
            entries[name] = FOLDER
        case "unlink":
            entries.pop(name, None)
        case "rename":
            entries.pop(name, None)
            entries[Path(event.to).name] = event.inode


def _apply(content: bytearray, event: Event) -> None:
    if event.call == "resize":
        _resize(content, event.at)
        return
    _resize(content, max(len(content), event.at))
    content[event.at : event.at + len(event.data)] = event.data


def _resize(content: bytearray, length: int) -> None:
    if length < len(content):
        del content[length:]
    else:
        content += bytes(length - len(content))


def _survived(file: _File, rng: random.Random, keep: float) -> bytes:
    """The file with any sectors of what was not synced, and with any length it may have had."""
    content, longest = bytearray(file.durable), len(file.durable)
    for event in (*file.limbo, *file.pending):
        if event.call == "resize":
            if rng.random() < keep:
                _apply(content, event)
            continue
        longest = max(longest, event.at + len(event.data))
        for part in _sectors(event):
            if rng.random() < keep:
                torn = rng.random() < 0.05
                _apply(
                    content, Event("write", at=part.at, data=part.data[: len(part.data) // 2] if torn else part.data)
                )
    if rng.random() < 1 / 3:  # the length had reached the disk, the data had not
        _resize(content, max(len(content), longest))
    return bytes(content)


def _sectors(event: Event) -> list[Event]:
    """A write, sector by sector."""
    parts, at, end = [], event.at, event.at + len(event.data)
    while at < end:
        until = min(end, (at // SECTOR + 1) * SECTOR)
        parts.append(Event("write", at=at, data=event.data[at - event.at : until - event.at]))
        at = until
    return parts
