"""The power goes while the log is written: images of the disk, as bad as can be, hold all that was acknowledged."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.loading import EXPERIMENTS, load

SMALL = {"records": 80}


@pytest.fixture(scope="module")
def power() -> Any:
    return load("chaos", "power")


def test_no_image_lacks_an_acknowledged_record(power: Any, caplog: pytest.LogCaptureFixture) -> None:
    found = power.examine(40, **SMALL)
    assert found.images == 40
    assert found.acknowledged > 40
    assert (found.lost, found.altered, found.repeated, found.not_found, found.not_continued) == (0, 0, 0, 0, 0)
    assert found.torn > 0
    assert "cannot be written" in caplog.text  # two of the traces have syncs that fail


@pytest.mark.parametrize(
    "broken",
    [
        "no fdatasync",
        "no sync of the folder",
        "a failed sync tried again on the same file",
        "a failed sync of the log's own name not tried again",
    ],
)
def test_a_writer_that_leaves_out_a_step_is_caught(power: Any, broken: str) -> None:
    """Which records share a sync depends on the machine, so that a few traces may hold no chance to lose one."""
    assert any(power.examine(24, broken=broken, **SMALL).lost > 0 for _ in range(5))


def test_what_was_synced_is_there_and_what_was_not_may_be_in_part(tmp_path: Path) -> None:
    """A synced sector, then two that are not: in some images neither is there, one, or both."""
    image, tape = load("chaos", "image"), load("chaos", "tape")
    data = [bytes([n]) * tape.SECTOR for n in (1, 2, 3)]
    events = [
        tape.Event("create", 1, path="a"),
        tape.Event("sync_folder", path="."),
        tape.Event("write", 1, 0, data[0]),
        tape.Event("sync", 1),
        tape.Event("write", 1, tape.SECTOR, data[1] + data[2]),
    ]
    seen, rng = set[bytes](), random.Random(7)
    for i in range(200):
        image.Disk(events).write(tmp_path / str(i), rng)
        content = (tmp_path / str(i) / "a").read_bytes()
        assert content[: tape.SECTOR] == data[0]
        seen.add(content[tape.SECTOR :])
    none = bytes(tape.SECTOR)
    assert {b"", data[1], none + data[2], data[1] + data[2]} <= seen


def test_a_name_is_there_once_its_folder_is_synced(tmp_path: Path) -> None:
    image, tape = load("chaos", "image"), load("chaos", "tape")
    made = [tape.Event("create", 1, path="a"), tape.Event("write", 1, 0, b"x"), tape.Event("sync", 1)]
    rng, found = random.Random(7), list[int]()
    for events in (made, [*made, tape.Event("sync_folder", path=".")]):
        there = 0
        for i in range(50):
            place = tmp_path / f"{len(events)}-{i}"
            image.Disk(events).write(place, rng)
            there += (place / "a").exists()
        found.append(there)
    assert 0 < found[0] < 50
    assert found[1] == 50


@pytest.mark.system
def test_the_experiment_plays_a_group_and_says_what_was_seen(tmp_path: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        EXPERIMENTS / "chaos" / "run.py",
        "--only",
        "facts",
        "--json",
        tmp_path / "result.json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "result.json").read_bytes())["rows"]
    assert [(row["group"], row["ok"]) for row in rows] == [("facts", True)] * 2
    assert "none lost, doubled, altered or unlike" in rows[0]["seen"]
