"""An archive's objects, in a folder and in a file system that is none."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from pyarrow import fs

from nba.errors import LogError
from nba.log.store import Store

DATA = b"record " * 100_000


def in_memory() -> Store:
    """As a bucket: nothing local about it."""
    system = fs._MockFileSystem()
    system.create_dir("bucket/path")
    return Store("mock://bucket/path", system, "bucket/path")


def in_folder(tmp_path: Path) -> Store:
    return Store.at((tmp_path / "a" / "b").as_uri())


@pytest.mark.parametrize("kind", ["folder", "bucket"])
@pytest.mark.parametrize("name", ["x.seg.zst", "x.seg.json"])
def test_what_is_written_is_read(tmp_path: Path, kind: str, name: str) -> None:
    store = in_memory() if kind == "bucket" else in_folder(tmp_path)
    assert store.names() == set()
    assert store.write(name, [DATA[:9], DATA[9:]]) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert b"".join(store.read(name)) == DATA
    assert store.names() == {name}


def test_segments_are_compressed(tmp_path: Path) -> None:
    in_folder(tmp_path).write("x.seg.zst", [DATA])
    (path,) = tmp_path.rglob("*.zst")
    assert path.stat().st_size < len(DATA) / 100


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd here")
def test_anybodys_zstd_reads_them(tmp_path: Path) -> None:
    in_folder(tmp_path).write("x.seg.zst", [DATA])
    (path,) = tmp_path.rglob("*.zst")
    assert subprocess.run(["zstd", "-dc", str(path)], check=True, capture_output=True).stdout == DATA


def test_an_object_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(in_folder(tmp_path).read("x.seg.zst"))


def test_a_cut_object_is_an_error_or_shorter(tmp_path: Path) -> None:
    """Never longer, never other bytes: the hash tells the rest."""
    store = in_folder(tmp_path)
    store.write("x.seg.zst", [DATA])
    (path,) = tmp_path.rglob("*.zst")
    path.write_bytes(path.read_bytes()[:-5])
    with contextlib.suppress(OSError):
        assert DATA.startswith(b"".join(store.read("x.seg.zst")))


@pytest.mark.parametrize("uri", ["ftp://somewhere", "nothing://x", "file://relative"])
def test_what_names_no_archive_is_refused(uri: str) -> None:
    with pytest.raises(LogError) as refused:
        Store.at(uri)
    assert uri in refused.value.message
    assert "s3://" in refused.value.help
