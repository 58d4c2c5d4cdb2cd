from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from nba.durable import make_folder, write_aside


def test_a_folder_whose_name_could_not_be_synced_is_synced_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fails = list[Path](), [True]

    def sync(folder: Path) -> None:
        if folder == tmp_path and fails.pop():
            raise OSError(errno.EIO, "Input/output error")
        synced.append(folder)

    monkeypatch.setattr("nba.durable.sync_folder", sync)
    with pytest.raises(OSError, match="Input/output"):
        make_folder(tmp_path / "log")
    fails.append(False)
    make_folder(tmp_path / "log")
    assert synced[-1] == tmp_path
    assert synced.count(tmp_path.parent) == 2


def test_folders_are_made_for_their_owner_only(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_a_small_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_aside(path, b"first")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            write_aside(path, b"second")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("x", b"first")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
