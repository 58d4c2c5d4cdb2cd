"""The estimators on real clicks, against an implementation that shares no line with them: decimals in plain loops."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nba.ope import Terms, estimates
from nba.rounds import LoggedRounds

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("NBA_DATA_DIR", ROOT.parent / "shared" / "data")) / "open-bandit"
SCRIPT = ROOT / "experiments" / "open_bandit" / "run.py"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no Open Bandit data in {DATA}: set NBA_DATA_DIR")


def by_hand(policy: str, target: dict[tuple[str, str], Decimal]) -> dict[str, Decimal]:
    """Mean weight, IPS, SNIPS and effective sample of a target (position, item) -> probability, to 40 digits."""
    with localcontext() as context, (DATA / policy / "men" / "men.csv").open(newline="") as file:
        context.prec = 40
        n = weights = squares = clicks = Decimal(0)
        for row in csv.DictReader(file):
            weight = target[row["position"], row["item_id"]] / Decimal(row["propensity_score"])
            n, weights, squares = n + 1, weights + weight, squares + weight * weight
            clicks += weight if row["click"] == "1" else 0
        return {
            "mean_weight": weights / n,
            "ips": clicks / n,
            "snips": clicks / weights,
            "effective_n": weights * weights / squares,
        }


def uniform() -> dict[tuple[str, str], Decimal]:
    return {(str(position), str(item)): Decimal(1) / 34 for position in (1, 2, 3) for item in range(34)}


def thompson() -> dict[tuple[str, str], Decimal]:
    """How often the Thompson policy showed each item at each position."""
    with (DATA / "bts" / "men" / "men.csv").open(newline="") as file:
        shown = Counter((row["position"], row["item_id"]) for row in csv.DictReader(file))
    total = Counter[str]()
    for (position, _), count in shown.items():
        total[position] += count
    return {key: Decimal(shown[key]) / total[key[0]] for key in uniform()}


def rounds(policy: str) -> tuple[LoggedRounds, pd.Series]:
    """The log as rounds, and the position of each."""
    log = pd.read_csv(DATA / policy / "men" / "men.csv", index_col=0)
    n = len(log)
    made = LoggedRounds(
        contexts=np.ones((n, 1), dtype=np.float32),
        mask=np.ones((n, 34), dtype=np.bool_),
        actions=log["item_id"].to_numpy(np.int64),
        propensities=log["propensity_score"].to_numpy(np.float64),
        rewards=log["click"].to_numpy(np.float64),
        subjects=np.arange(n, dtype=np.uint64),
    )
    return made, log["position"]


def matrix(positions: pd.Series, target: dict[tuple[str, str], Decimal]) -> np.ndarray:
    rows = {p: [float(target[str(p), str(item)]) for item in range(34)] for p in (1, 2, 3)}
    return np.array([rows[p] for p in positions])


@pytest.mark.parametrize(("policy", "target"), [("bts", uniform), ("random", thompson), ("random", uniform)])
def test_weighted_estimates_equal_those_of_decimals_in_loops(policy: str, target: object) -> None:
    assert callable(target)
    log, positions = rounds(policy)
    told = estimates(Terms.of(log, matrix(positions, target())), rng=np.random.default_rng(0), resamples=10)
    expected = by_hand(policy, target())
    for name in ("mean_weight", "ips", "snips"):
        assert told[name].value == pytest.approx(float(expected[name]), rel=1e-12)
        assert told[name].effective_n == pytest.approx(float(expected["effective_n"]), rel=1e-12)


def test_the_uniform_target_from_the_thompson_log_has_the_known_figures() -> None:
    """Worked out with pandas: (w * click).mean(), (w * click).sum() / w.sum(), w.mean(), w.sum()**2 / (w * w).sum()."""
    log, positions = rounds("bts")
    told = estimates(Terms.of(log, matrix(positions, uniform())), rng=np.random.default_rng(0))
    assert told["ips"].value == pytest.approx(0.0030086263272564836, rel=1e-10)
    assert told["snips"].value == pytest.approx(0.0031894231622773927, rel=1e-10)
    assert told["mean_weight"].value == pytest.approx(0.9433136257492368, rel=1e-10)
    assert told["snips"].effective_n == pytest.approx(655.709849587315, rel=1e-10)


def test_logged_propensities_are_right_so_the_mean_weight_is_one() -> None:
    for policy, target in (("bts", uniform()), ("random", thompson())):
        log, positions = rounds(policy)
        told = estimates(Terms.of(log, matrix(positions, target)), rng=np.random.default_rng(0))
        assert told["mean_weight"].low < 1.0 < told["mean_weight"].high


def test_intervals_equal_those_of_rows_resampled_one_sample_at_a_time() -> None:
    """1,000 samples of the rows by pandas; the ends of either are uncertain by about a tenth of the width."""
    log = pd.read_csv(DATA / "bts" / "men" / "men.csv", index_col=0)
    rows = pd.DataFrame({"w": 1 / 34 / log["propensity_score"], "click": log["click"]})
    samples = [rows.sample(frac=1.0, replace=True, random_state=seed) for seed in range(1_000)]
    by_sample = np.array([[(s["w"] * s["click"]).mean(), (s["w"] * s["click"]).sum() / s["w"].sum()] for s in samples])
    made, positions = rounds("bts")
    told = estimates(Terms.of(made, matrix(positions, uniform())), rng=np.random.default_rng(0))
    for name, column in (("ips", by_sample[:, 0]), ("snips", by_sample[:, 1])):
        low, high = np.percentile(column, [2.5, 97.5])
        assert (told[name].low, told[name].high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_the_experiment_prints_and_writes_these_figures(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    command = [sys.executable, str(SCRIPT), "--data", str(DATA), "--json", str(path)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    figures = json.loads(path.read_text())
    assert figures["random from the log of bts"]["ips"]["value"] == pytest.approx(0.0030086263272564836, rel=1e-10)
    assert figures["random from the log of bts"]["on_policy"]["value"] == pytest.approx(0.0046)
    expected = float(by_hand("random", thompson())["snips"])
    assert figures["bts from the log of random"]["snips"]["value"] == pytest.approx(expected, rel=1e-10)
    assert f"{expected:.6f}" in shown
