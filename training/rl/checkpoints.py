"""Checkpoints of a run: whole or not there, the last few kept, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")

KEPT = 2
_PROGRESS, _RUN = "progress.json", "run_id"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The folder of one run. Each checkpoint is a folder with what RLlib wrote and with how far the run was."""

    folder: Path

    @classmethod
    def of(cls, parent: Path, *told: object) -> Checkpoints:
        """The folder under `parent` of the run that was told these things, and of no other."""
        return cls(parent / hashlib.sha256(repr(told).encode()).hexdigest()[:24])

    def begin(self, run_id: str) -> None:
        """Notes under which run all of this is recorded."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / _RUN).write_text(run_id)

    def run_id(self) -> str | None:
        """What `begin` was told; None where nothing has begun."""
        noted = self.folder / _RUN
        return noted.read_text() if noted.exists() else None

    def save(self, iteration: int, progress: object, write: Callable[[Path], object]) -> None:
        """Has `write` fill a new folder; it counts once it is whole. Older ones but for KEPT are removed."""
        new = self.folder / ".new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        write(new)
        (new / _PROGRESS).write_bytes(msgspec.json.encode(progress))
        done = self.folder / f"{iteration:08d}"
        shutil.rmtree(done, ignore_errors=True)
        new.rename(done)
        for old in self._whole()[:-KEPT]:
            shutil.rmtree(old)

    def last(self, progress: type[T]) -> tuple[Path, T] | None:
        """The newest checkpoint, and how far the run was; None where there is none."""
        whole = self._whole()
        return (whole[-1], msgspec.json.decode((whole[-1] / _PROGRESS).read_bytes(), type=progress)) if whole else None

    def remove(self) -> None:
        """All of it: the run is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _whole(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]*") if (path / _PROGRESS).exists())
