"""Names that outlive a power cut: a file that is synced is lost all the same where the folder above it is not."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, for their owner only, and syncs the names of all of them. Raises OSError.

    Also of those that are there: whoever made one may have failed, or died, before its name was synced, and what is
    synced within a folder goes with it.
    """
    folder = folder.absolute()
    if folder.is_mount():  # as the root is
        return
    make_folder(folder.parent)
    if not folder.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(PermissionError):  # not ours to read, so others see to it
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_aside(path: Path, data: bytes) -> None:
    """A small file for its owner only, that appears under its name whole or not at all, synced. Raises OSError."""
    handle, building = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 600
    aside = Path(building)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)
