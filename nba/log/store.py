"""An archive's objects: a folder, or a bucket by s3:// or gs:// (Arrow's file systems, and their settings)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from nba.durable import sync_folder
from nba.errors import LogError
from nba.log.segment import CHUNK


@dataclass(frozen=True, slots=True)
class Store:
    """Objects by name. One that ends in .zst is compressed on its way in and out."""

    uri: str
    _system: Any
    _path: str

    @classmethod
    def at(cls, uri: str) -> Store:
        """The store at a URI, made where it is a folder that is not there. Raises LogError, OSError."""
        try:
            system, path = fs.FileSystem.from_uri(uri)
        except (pa.ArrowException, ValueError) as error:
            raise LogError(
                f"archive {uri!r}: {error}", help="name a folder, or s3://bucket/path, or gs://bucket/path"
            ) from None
        store = cls(uri, system, path.rstrip("/"))
        if store._is_local:
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        return store

    def names(self) -> set[str]:
        """Names of all objects. Raises OSError."""
        found = self._system.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
        return {each.base_name for each in found if each.is_file}

    def write(self, name: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        """Writes an object, and syncs it; its bytes and their SHA-256, before compression. Raises OSError."""
        digest, length = hashlib.sha256(), 0
        with self._system.open_output_stream(f"{self._path}/{name}") as sink:
            for chunk in chunks:
                digest.update(chunk)
                length += len(chunk)
                sink.write(chunk)
        if self._is_local:
            _sync(Path(self._path) / name)
        return length, digest.hexdigest()

    def read(self, name: str) -> Iterator[bytes]:
        """An object, in pieces. Raises OSError, FileNotFoundError."""
        with self._system.open_input_stream(f"{self._path}/{name}") as source:
            while chunk := source.read(CHUNK):
                yield chunk

    @property
    def _is_local(self) -> bool:
        return isinstance(self._system, fs.LocalFileSystem)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)
