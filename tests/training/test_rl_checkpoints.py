from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from nba.errors import UnknownMomentError
from nba.pack import Pack
from nba.pack_file import load_pack
from training.rl.checkpoints import KEPT, Checkpoints
from training.rl.session import session_moment


@dataclass
class Done:
    steps: int


def write(folder: Path) -> None:
    (folder / "weights").write_text("w")


def test_the_last_few_are_kept_and_the_newest_is_taken_up(tmp_path: Path) -> None:
    checkpoints = Checkpoints.of(tmp_path, "a")
    checkpoints.begin("run-1")
    for iteration in (1, 2, 10):
        checkpoints.save(iteration, Done(iteration * 100), write)
    folder, done = checkpoints.last(Done) or (None, None)
    assert done == Done(1_000)
    assert folder is not None
    assert (folder / "weights").read_text() == "w"
    assert len(list(checkpoints.folder.glob("0*"))) == KEPT == 2
    assert checkpoints.run_id() == "run-1"


def test_one_that_was_broken_off_does_not_count(tmp_path: Path) -> None:
    checkpoints = Checkpoints.of(tmp_path, "a")
    checkpoints.begin("run-1")
    checkpoints.save(1, Done(100), write)

    def broken(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(2, Done(200), broken)
    assert (checkpoints.last(Done) or (None, None))[1] == Done(100)
    checkpoints.save(2, Done(200), write)
    assert (checkpoints.last(Done) or (None, None))[1] == Done(200)


def test_a_run_that_was_told_otherwise_starts_anew(tmp_path: Path) -> None:
    Checkpoints.of(tmp_path, "ppo", 1).begin("run-1")
    assert Checkpoints.of(tmp_path, "ppo", 1).run_id() == "run-1"
    assert Checkpoints.of(tmp_path, "ppo", 2).run_id() is None


def test_what_is_done_leaves_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints.of(tmp_path, "a")
    checkpoints.begin("run-1")
    checkpoints.save(1, Done(100), write)
    checkpoints.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_pack_without_a_session_is_refused(pack: Pack) -> None:
    assert session_moment(pack) == "service_conversation"
    with pytest.raises(UnknownMomentError, match="'travel' has no session"):
        session_moment(load_pack("travel"))
