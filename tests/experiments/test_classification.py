"""The figures of experiments/benchmarks/learning/classification.py: the games, and that it runs without the peers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.experiments.loading import EXPERIMENTS, load

FOLDER = "benchmarks/learning"
sets = load(FOLDER, "sets")


def test_a_game_is_saved_for_others_to_the_last_bit(tmp_path: Path) -> None:
    game = sets.bandit("digits", 3, 50)
    game.save(tmp_path / "digits-3.npz")
    again = sets.Bandit.load(tmp_path / "digits-3.npz")
    assert (again.k, again.contexts.shape) == (10, (50, 65))
    for name in ("contexts", "right", "uniform"):
        np.testing.assert_array_equal(getattr(again, name), getattr(game, name))


def test_every_row_comes_once_a_pass_and_seeds_differ_in_order() -> None:
    """breast_cancer has 569 rows: each twice in 1,138 rounds, 212 of them class 0."""
    one, other = (sets.bandit("breast_cancer", seed, 1_138) for seed in (0, 1))
    assert np.unique(one.contexts, axis=0, return_counts=True)[1].tolist() == [2] * 569
    assert (one.right == 0).sum() == 2 * 212
    assert not np.array_equal(one.right, other.right)


def test_keel_files_name_the_class_last(tmp_path: Path) -> None:
    (tmp_path / "two.dat").write_text("1.5, 2, b\n-1, 0, a\n")
    x, y = sets.read_keel(tmp_path / "two.dat")
    assert x.tolist() == [[1.5, 2.0], [-1.0, 0.0]]
    assert y.tolist() == [1, 0]


@pytest.mark.slow
def test_policies_play_without_the_peers_and_again_from_what_was_kept(tmp_path: Path) -> None:
    """Absent peers are named; a second run plays nothing and finds the same."""
    result = tmp_path / "result.json"
    command = [sys.executable, EXPERIMENTS / FOLDER / "classification.py", "--small", "--work", tmp_path / "work"]
    methods = [word for name in ("recursive+thompson", "linear+thompson", "VW squarecb") for word in ("--method", name)]
    told = []
    for more in ([], ["--show", "--plots", tmp_path]):
        done = subprocess.run(
            [*command, *methods, *more, "--json", result], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told.append(json.loads(result.read_bytes()))
    assert told[0]["methods"] == told[1]["methods"]
    assert told[0]["absent"] == {"VW squarecb": "no --peers-python"}
    assert told[0]["methods"]["recursive+thompson"]["loss"] < 0.5  # evenly: 0.9, 0.5 and 0.8 of three sets
    assert {path.name for path in tmp_path.glob("*.png")} == {"classification.png", "classification_time.png"}
