"""Learned policies judged on two real logs: python experiments/open_bandit/learned.py --data DIR --json FILE.

Each policy learns from one half of the uniform log and is judged on the other half and on the whole Thompson log: two
logs that share no impression should agree on it. One core, under a minute. Writes the table (.md) and a picture (.png)
beside the JSON. See README.md.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from run import ACTIONS, POSITIONS, USER, frequencies, read, rounds

from nba.ope import Terms, cross_fit
from nba.ope.bootstrap import resampled_sums
from nba.policies import KINDS
from nba.rounds import LoggedRounds
from nba.types import Distribution, Policy, Weights

LEARNED = ("linear+thompson", "rff+thompson", "linear+square_cb", "linear+epsilon")
SHRINKAGES = (0.0, *(float(10.0**power) for power in range(-1, 5)), float("inf"))  # lambda, least to most of the weight
LEVEL = 0.05  # of the bound on what shrinking leaves out
SPLITS = 5
RESAMPLES = 1_000
ESTIMATORS = ("ips", "snips", "dr", "dros")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What policies need of a plan; a click is worth 1."""

    action_features: NDArray[np.float64]
    reward_range: tuple[float, float] = (0.0, 1.0)


PLAN: Any = _Plan(np.hstack([np.ones((ACTIONS, 1)), np.eye(ACTIONS)]))


def shrunk(weights: Weights, amount: float) -> Weights:
    """Optimistically shrunk weights: lambda w / (w^2 + lambda); 0 at lambda 0, w itself at infinity.

    Source: Su, Dimakopoulou, Krishnamurthy and Dudik (2020), https://arxiv.org/abs/1907.09623, section 4
    """
    if np.isinf(amount):
        return weights
    return amount * weights / (weights**2 + amount) if amount > 0.0 else np.zeros_like(weights)


def chosen_shrinkage(terms: Terms) -> float:
    """The lambda of SHRINKAGES with the least bound on the squared error: variance of the mean, bias squared.

    bias <= |mean(d)| + sqrt(2 var(d) log(2 / level) / n) + 2 max|d| log(2 / level) / (3 n),  d = (w - w') (r - q)
    """
    n, log = len(terms), np.log(2.0 / LEVEL)

    def bound(amount: float) -> float:
        weights = shrunk(terms.weights, amount)
        left_out = (terms.weights - weights) * (terms.rewards - terms.predicted)
        bias = abs(left_out.mean()) + np.sqrt(2.0 * left_out.var() * log / n)
        bias += 2.0 * np.abs(left_out).max() * log / (3.0 * n) if not np.isinf(amount) else 0.0
        return float(bias**2 + replace(terms, weights=weights).robust.var() / n)

    return min(SHRINKAGES, key=bound)


def contributions(terms: Terms) -> NDArray[np.float64]:
    """What each round adds to each estimate (n, 4), numerators, in the order of ESTIMATORS."""
    by_shrinking = replace(terms, weights=shrunk(terms.weights, chosen_shrinkage(terms)))
    weighted = terms.weights * terms.rewards
    return np.stack([weighted, weighted, terms.robust, by_shrinking.robust], axis=1)


class Pooled:
    """Estimates of one target from one log, averaged over splits, with intervals that resample impressions."""

    def __init__(self, n: int) -> None:
        self._above = np.zeros((n, len(ESTIMATORS)))
        self._weights, self._held = np.zeros(n), np.zeros(n)

    def add(self, at: NDArray[np.intp], terms: Terms) -> None:
        """The terms of the impressions at these places of the log, under the policy of one split."""
        self._above[at] += contributions(terms)
        self._weights[at] += terms.weights
        self._held[at] += 1.0

    def told(self) -> dict[str, dict[str, float]]:
        """Value and 95 % interval by estimator, the mean weight, and the effective rounds of one split on average."""
        columns = np.column_stack([self._above, self._weights, self._held])
        subjects = np.arange(len(columns), dtype=np.uint64)
        sums = resampled_sums(columns, subjects, rng=np.random.default_rng(0), resamples=RESAMPLES)
        whole = columns.sum(axis=0)
        found = {}
        for i, name in enumerate(ESTIMATORS):
            below = -2 if name == "snips" else -1  # snips divides by the weights, the others by the rounds
            low, high = np.percentile(sums[:, i] / sums[:, below], (2.5, 97.5))
            found[name] = _rounded(whole[i] / whole[below], low, high)
        low, high = np.percentile(sums[:, -2] / sums[:, -1], (2.5, 97.5))
        return found | {"mean_weight": _rounded(whole[-2] / whole[-1], low, high)}


def _rounded(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": round(float(value), 6), "low": round(float(low), 6), "high": round(float(high), 6)}


def logs_of(data: Path) -> tuple[dict[str, LoggedRounds], dict[str, NDArray[np.int64]]]:
    """Both logs as rounds, and the position of each impression."""
    rows = {policy: read(data / policy / "men" / "men.csv") for policy in ("random", "bts")}
    vocabulary = [sorted({row[name] for log in rows.values() for row in log}) for name in USER]
    place = {policy: np.array([int(row["position"]) - 1 for row in log]) for policy, log in rows.items()}
    return {policy: rounds(log, vocabulary) for policy, log in rows.items()}, place


def targets(
    learn_from: LoggedRounds, bts: Distribution, kinds: Sequence[str] = LEARNED
) -> dict[str, Policy | Distribution]:
    """Policies to judge: the logged ones as distributions by position (3, 34), the learned ones fitted here."""
    logged: dict[str, Policy | Distribution] = {
        "random, as logged": np.full((POSITIONS, ACTIONS), 1 / ACTIONS),
        "bts, as logged": bts,
    }
    return logged | {kind: KINDS[kind].fit(PLAN, learn_from) for kind in kinds}


def judge(data: Path, splits: int, kinds: Sequence[str] = LEARNED) -> dict[str, dict[str, Any]]:
    """Target -> log -> estimates, beside the clicks that each logging policy had itself."""
    logs, place = logs_of(data)
    bts, n = frequencies(logs["bts"], place["bts"]), len(logs["random"])
    features = PLAN.action_features
    q_bts = cross_fit(logs["bts"], features, folds=2, ridge=10.0)
    found: dict[str, dict[str, Pooled]] = {}
    for split in range(splits):
        order = np.random.default_rng([split, 34]).permutation(n)
        learned, held = order[: n // 2], order[n // 2 :]
        here = logs["random"].take(held)
        q_here = cross_fit(here, features, folds=2, ridge=10.0)
        for name, target in targets(logs["random"].take(learned), bts, kinds).items():
            of = found.setdefault(name, {log: Pooled(len(logs[log])) for log in logs})
            of["random"].add(held, Terms.of(here, _distribution(target, here, place["random"][held]), q_here))
            whole = _distribution(target, logs["bts"], place["bts"])
            of["bts"].add(np.arange(len(logs["bts"])), Terms.of(logs["bts"], whole, q_bts))
    return {name: {log: pooled.told() for log, pooled in of.items()} for name, of in found.items()}


def on_policy(data: Path) -> dict[str, dict[str, float]]:
    """Clicks an impression that each logging policy had in its own log."""
    logs, _ = logs_of(data)
    told = {}
    for name, log in logs.items():
        columns = np.stack([log.rewards, np.ones(len(log))], axis=1)
        sums = resampled_sums(columns, log.subjects, rng=np.random.default_rng(0), resamples=RESAMPLES)
        low, high = np.percentile(sums[:, 0] / sums[:, 1], (2.5, 97.5))
        told[f"{name}, as logged"] = _rounded(log.rewards.mean(), low, high)
    return told


def _distribution(target: Policy | Distribution, log: LoggedRounds, place: NDArray[np.int64]) -> Distribution:
    return target[place] if isinstance(target, np.ndarray) else target.distribution(log.contexts, log.mask)


def table(figures: Mapping[str, Mapping[str, Any]], own: Mapping[str, Mapping[str, float]]) -> str:
    """Clicks in a thousand impressions, as Markdown."""
    lines = [
        "| clicks in 1,000 impressions | judged on | " + " | ".join(e.upper() for e in ESTIMATORS) + " | mean weight |"
    ]
    lines.append("|---" * (3 + len(ESTIMATORS)) + "|")
    for name, of in figures.items():
        for log, told in of.items():
            cells = [_cell(told[estimator], 1_000.0, 1) for estimator in ESTIMATORS]
            lines.append(f"| {name} | {log} | " + " | ".join(cells) + f" | {_cell(told['mean_weight'], 1.0, 2)} |")
    lines += [f"| {name} | its own log | {_cell(told, 1_000.0, 1)} | | | | |" for name, told in own.items()]
    return "\n".join(lines)


def _cell(e: Mapping[str, float], times: float, digits: int) -> str:
    value, low, high = (f"{times * e[end]:.{digits}f}" for end in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def picture(figures: Mapping[str, Mapping[str, Any]], own: Mapping[str, Mapping[str, float]]) -> Figure:
    """Estimates with their intervals, a panel a log; the bars at a logged policy are what it earned itself."""
    names = list(figures)
    figure = Figure(figsize=(10.5, 1.2 + 0.55 * len(names)), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for panel, log in zip(panels, ("random", "bts"), strict=True):
        for i, estimator in enumerate(ESTIMATORS):
            for y, name in enumerate(names):
                e, at = figures[name][log][estimator], y + 0.17 * (i - 1.5)
                panel.plot([1e3 * e["low"], 1e3 * e["high"]], [at, at], color=f"C{i}", linewidth=1.4)
                label = estimator.upper() if not y else None
                panel.plot(1e3 * e["value"], at, "o", ms=3, color=f"C{i}", label=label)
        for name, e in own.items():
            y = names.index(name)
            panel.fill_betweenx([y - 0.42, y + 0.42], 1e3 * e["low"], 1e3 * e["high"], color="lightgrey", zorder=0)
        panel.set_yticks(range(len(names)), names)
        panel.invert_yaxis()
        panel.set_xlabel("clicks in 1,000 impressions", fontsize=8)
        panel.set_title(f"judged on the log of {log}", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    return figure


def main() -> None:
    """Learns, judges, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with random/men/men.csv and bts/men/men.csv")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--kind", action="append", help="of policy, any of nba.policies.KINDS; four of them without")
    parser.add_argument("--json", type=Path, help="figures; .md and .png are written beside it")
    asked = parser.parse_args()
    figures, own = judge(asked.data, asked.splits, asked.kind or LEARNED), on_policy(asked.data)
    text = table(figures, own)
    print(text)
    if asked.json:
        asked.json.write_text(json.dumps({"splits": asked.splits, "targets": figures, "own": own}, indent=1) + "\n")
        asked.json.with_suffix(".md").write_text(text + "\n")
        picture(figures, own).savefig(asked.json.with_suffix(".png"), dpi=100)


if __name__ == "__main__":
    main()
