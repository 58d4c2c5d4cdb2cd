"""Two real logs of one shop, each judged by the other: python experiments/open_bandit/run.py --data DIR --json FILE."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nba.ope import Estimate, Terms, cross_fit, estimates, ips
from nba.rounds import LoggedRounds
from nba.types import Distribution

ACTIONS, POSITIONS = 34, 3
USER = [f"user_feature_{i}" for i in range(4)]


def main() -> None:
    """Reads both logs, judges each policy from the other's log, prints a table and writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with random/men/men.csv and bts/men/men.csv")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--seed", type=int, default=2026, help="of the resamples")
    settings = parser.parse_args()
    figures = judge(settings.data, seed=settings.seed)
    for title, told in figures.items():
        print(table(title, told))
    if settings.json:
        plain = {title: {name: asdict(e) for name, e in told.items()} for title, told in figures.items()}
        settings.json.write_text(json.dumps(plain, indent=2) + "\n")


def judge(data: Path, *, seed: int) -> dict[str, dict[str, Estimate]]:
    """Every estimate of either policy from the other's log, beside its mean reward in its own log."""
    rng = np.random.default_rng(seed)
    rows = {policy: read(data / policy / "men" / "men.csv") for policy in ("random", "bts")}
    vocabulary = [sorted({row[name] for log in rows.values() for row in log}) for name in USER]
    logs = {policy: rounds(log, vocabulary) for policy, log in rows.items()}
    place = {policy: np.array([int(row["position"]) - 1 for row in log]) for policy, log in rows.items()}
    targets: dict[str, NDArray[np.float64]] = {
        "random": np.full((POSITIONS, ACTIONS), 1 / ACTIONS),
        "bts": frequencies(logs["bts"], place["bts"]),
    }
    figures = {}
    for target, log in (("random", "bts"), ("bts", "random")):
        told = off_policy(logs[log], targets[target][place[log]], rng=rng)
        own = ips(Terms.logged(logs[target]), rng=rng)
        figures[f"{target} from the log of {log}"] = {"on_policy": own, **told}
    return figures


def off_policy(log: LoggedRounds, target: Distribution, *, rng: np.random.Generator) -> dict[str, Estimate]:
    """Every estimate of a target (n, k) on a log; the model has columns for all actions together and for each."""
    features = np.hstack([np.ones((ACTIONS, 1)), np.eye(ACTIONS)])
    q_hat = cross_fit(log, features, folds=2, ridge=10.0)
    return estimates(Terms.of(log, target, q_hat), rng=rng)


def read(path: Path) -> list[dict[str, str]]:
    """The impressions of one log."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def rounds(log: Sequence[dict[str, str]], vocabulary: Sequence[Sequence[str]]) -> LoggedRounds:
    """Impressions as rounds: the position and what is known of the user as context, all 34 items eligible.

    `propensity_score` is the probability of the item at its position. The log names no user: each row is its own.
    """
    n = len(log)
    columns = [np.ones(n), *(np.array([float(row["position"]) == p for row in log]) for p in range(1, POSITIONS + 1))]
    for name, values in zip(USER, vocabulary, strict=True):
        columns += [np.array([float(row[name] == value) for row in log]) for value in values]
    return LoggedRounds(
        contexts=np.stack(columns, axis=1).astype(np.float32),
        mask=np.ones((n, ACTIONS), dtype=np.bool_),
        actions=np.array([int(row["item_id"]) for row in log], dtype=np.int64),
        propensities=np.array([float(row["propensity_score"]) for row in log]),
        rewards=np.array([float(row["click"]) for row in log]),
        subjects=np.arange(n, dtype=np.uint64),
    )


def frequencies(log: LoggedRounds, place: NDArray[np.int64]) -> Distribution:
    """How often a policy showed each item at each position, (3, 34): its average distribution."""
    counts = np.zeros((POSITIONS, ACTIONS))
    np.add.at(counts, (place, log.actions), 1.0)
    counts /= counts.sum(axis=1, keepdims=True)
    return counts


def table(title: str, told: dict[str, Estimate]) -> str:
    """The estimates as lines of text, in clicks an impression (the mean weight has no unit)."""
    lines = [f"\n{title}", f"{'':<15}{'value':>10}{'low':>10}{'high':>10}{'effective n':>13}"]
    lines += [
        f"{name:<15}{e.value:>10.6f}{e.low:>10.6f}{e.high:>10.6f}{e.effective_n:>13,.0f}" for name, e in told.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
