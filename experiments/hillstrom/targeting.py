"""Whom to mail, when a mail costs something: learned policies on customers that they have never seen.

    python experiments/hillstrom/targeting.py --data hillstrom.csv --json experiments/hillstrom/targeting.json

No server: the test itself is the log, each e-mail drawn with probability 1/3. One core, some two minutes. Writes the
tables (.md) and the picture (.png) beside the JSON. See README.md.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nba import ope
from nba.explore.explorer import greedy
from nba.facts import code_facts
from nba.moment_plan import MomentPlan, plan_moment
from nba.ope import Terms
from nba.ope.bootstrap import resampled_sums
from nba.pack_file import load_pack
from nba.policies import KINDS
from nba.rounds import LoggedRounds
from nba.types import ActionMask, Contexts, Distribution, Policy

PACK = Path(__file__).with_name("pack.yaml")
SEGMENTS = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")  # in the order of the pack's actions, no_action first
HISTORY_CAP = 1_000.0  # USD; the pack's range
# What a mail costs: in visits where visits are counted, in USD where what was spent is.
COSTS = {"visit": (0.0, 0.02, 0.04, 0.06, 0.08), "spend": (0.0, 0.25, 0.5, 1.0)}
KINDS_LEARNED = ("linear+thompson", "quadratic+thompson", "linear+square_cb")
FIXED = {"nobody": 0, "everybody men's": 1, "everybody women's": 2}
SPLITS = 10
Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Test:
    """The randomised test: what was known of each customer, what was sent (a column of the pack), what came of it."""

    plan: MomentPlan
    contexts: Contexts
    sent: NDArray[np.int64]
    outcomes: Mapping[str, NDArray[np.float64]]

    def rounds(self, outcome: str, cost: float) -> LoggedRounds:
        """As logged rounds: the reward is the outcome, less the cost where an e-mail was sent."""
        n, k = len(self.sent), len(SEGMENTS)
        rewards = self.outcomes[outcome] - cost * (self.sent > 0)
        mask, propensities = np.ones((n, k), dtype=np.bool_), np.full(n, 1.0 / k)
        return LoggedRounds(self.contexts, mask, self.sent, propensities, rewards, np.arange(n, dtype=np.uint64))


@dataclass(frozen=True, slots=True)
class Greedy:
    """The action of the highest value, always: what was learned, without exploring by it."""

    model: Any

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        return greedy(self.model.values(contexts), mask)


@dataclass(frozen=True, slots=True)
class Always:
    """One e-mail, or none, for everybody."""

    column: int

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        distribution: Distribution = np.zeros(mask.shape)
        distribution[:, self.column] = 1.0
        return distribution


def read(path: Path, rows: int | None = None) -> Test:
    """The test as the file has it; with `rows`, so many customers drawn from it."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
    except OSError as error:
        sys.exit(f"error: cannot read {path}: {error.strerror}\nhelp:  README.md beside this file says how to get it")
    table = [table[i] for i in np.random.default_rng(2008).permutation(len(table))[:rows]]
    plan = plan_moment(load_pack(PACK), "campaign")
    return Test(
        plan,
        plan.encoder.encode(code_facts(plan.encoder.fields, [_known(row) for row in table])),
        np.array([SEGMENTS.index(row["segment"]) for row in table], dtype=np.int64),
        {name: np.array([float(row[name]) for row in table]) for name in COSTS},
    )


def _known(row: Mapping[str, str]) -> dict[str, Any]:
    return {
        "recency": float(row["recency"]),
        "history": min(float(row["history"]), HISTORY_CAP),
        **{name: row[name] == "1" for name in ("mens", "womens", "newbie")},
        **{name: row[name] for name in ("history_segment", "zip_code", "channel")},
    }


def learn(test: Test, rounds: LoggedRounds) -> dict[str, Policy]:
    """Policies to compare, of which all but the fixed ones were learned from these rounds."""
    learned: dict[str, Policy] = {}
    low, high = float(rounds.rewards.min()), float(rounds.rewards.max())
    plan: Any = _Plan(test.plan.action_features, (low, high))
    for kind in KINDS_LEARNED:
        policy: Any = KINDS[kind].fit(plan, rounds)
        learned[f"{kind}, as served"] = policy
        if kind.endswith("+thompson"):
            learned[f"{kind.split('+')[0]}, greedy"] = Greedy(policy.model)
    fixed: dict[str, Policy] = {name: Always(column) for name, column in FIXED.items()}
    means = [rounds.rewards[rounds.actions == a].mean() for a in range(len(SEGMENTS))]
    uniform: Policy = KINDS["uniform"].fit(plan, rounds)
    return {**fixed, "evenly": uniform, "best for all": Always(int(np.argmax(means))), **learned}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What policies need of a plan, with the range of this reward."""

    action_features: NDArray[np.float64]
    reward_range: tuple[float, float]


def judge(test: Test, outcome: str, cost: float, splits: int) -> dict[str, Any]:
    """Net value a customer of every policy on held-out halves, and its lift over the best for all.

    Each split learns from a random half and judges on the other, doubly robust with the known propensity; the model of
    the estimate is cross-fitted within the half that judges. A customer's terms are averaged over the splits that held
    him out; the interval resamples customers, so that it does not take the splits for independent.
    """
    rounds = test.rounds(outcome, cost)
    n = len(rounds)
    sums: dict[str, NDArray[np.float64]] = {}
    held, mailed = np.zeros(n), dict[str, list[float]]()
    wins: dict[str, list[bool]] = {}
    for split in range(splits):
        judges = np.random.default_rng([split, 77]).permutation(n) >= n // 2
        policies = learn(test, rounds.take(~judges))
        here = rounds.take(judges)
        q_hat = ope.cross_fit(here, test.plan.action_features)
        robust = {}
        for name, policy in policies.items():
            target = policy.distribution(here.contexts, here.mask)
            robust[name] = Terms.of(here, target, q_hat).robust
            sums.setdefault(name, np.zeros(n))[judges] += robust[name]
            mailed.setdefault(name, []).append(float(1.0 - target[:, 0].mean()))
        held += judges
        for name, each in robust.items():
            lift = each - robust["best for all"]
            low = lift.mean() - Z95 * lift.std(ddof=1) / len(lift) ** 0.5
            wins.setdefault(name, []).append(bool(low > 0.0))
    values = pooled(
        np.stack([*sums.values(), *(total - sums["best for all"] for total in sums.values())], axis=1), held
    )
    return {
        name: {
            "value": values[i],
            "lift": values[len(sums) + i],
            "mailed": round(float(np.mean(mailed[name])), 4),
            "won": sum(wins[name]),
        }
        for i, name in enumerate(sums)
    }


def pooled(totals: NDArray[np.float64], held: NDArray[np.float64]) -> list[dict[str, float]]:
    """Mean of all held-out terms of each column (n, c), sum(total) / sum(held), with its 95 % bootstrap interval.

    `totals` are a customer's terms summed over the splits that held him out, `held` (n,) the number of those. The
    interval knows that customers might have been others, not that policies might have been learned from others.
    """
    columns, subjects = np.column_stack([totals, held]), np.arange(len(held), dtype=np.uint64)
    sums = resampled_sums(columns, subjects, rng=np.random.default_rng(0), resamples=1_000)
    low, high = np.percentile(sums[:, :-1] / sums[:, -1:], (2.5, 97.5), axis=0)
    value = totals.sum(axis=0) / held.sum()
    return [
        {"value": round(float(v), 6), "low": round(float(lo), 6), "high": round(float(hi), 6)}
        for v, lo, hi in zip(value, low, high, strict=True)
    ]


def tables(result: Mapping[str, Mapping[str, Any]]) -> str:
    """Net values and lifts by policy and cost, as Markdown."""
    parts = []
    for outcome, costs in result.items():
        digits = 4 if outcome == "visit" else 3
        unit = "visits" if outcome == "visit" else "USD"
        head = [f"{cost} {unit} a mail" for cost in costs]
        for what in ("value", "lift"):
            title = f"{what}, {unit} a customer" if what == "value" else "lift over best for all"
            lines = [f"| {title} | " + " | ".join(head) + " |", "|---" * (1 + len(head)) + "|"]
            for name in next(iter(costs.values())):
                if what == "lift" and name in ("best for all", *FIXED, "evenly"):
                    continue
                cells = [_cell(of[name], what, digits) for of in costs.values()]
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(of: Mapping[str, Any], what: str, digits: int) -> str:
    e, sign = of[what], "+" if what == "lift" else ""
    tail = f", mails {of['mailed']:.0%}" if what == "value" else f", {of['won']} splits"
    return f"{e['value']:{sign}.{digits}f} [{e['low']:{sign}.{digits}f}, {e['high']:{sign}.{digits}f}]{tail}"


def picture(result: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Net value by the cost of a mail, a panel an outcome."""
    figure = Figure(figsize=(5.4 * len(result), 4.2), layout="constrained")
    panels = figure.subplots(1, len(result), squeeze=False).ravel()
    for panel, (outcome, costs) in zip(panels, result.items(), strict=True):
        at = [float(cost) for cost in costs]
        names = [name for name in next(iter(costs.values())) if name != "best for all"]
        for i, name in enumerate(names):
            each = [of[name]["value"] for of in costs.values()]
            middle = np.array([e["value"] for e in each])
            error = np.abs(np.array([[e["low"], e["high"]] for e in each]).T - middle)
            learned = name not in FIXED and name != "evenly"
            x = np.array(at) + (i - len(names) / 2) * 0.004 * max(at)
            style: dict[str, Any] = {"linestyle": "-" if learned else "--", "color": f"C{i}"}
            panel.errorbar(x, middle, yerr=error, label=name, linewidth=1.2, elinewidth=0.7, marker="o", ms=3, **style)
        panel.set_xlabel(f"cost of a mail, {'visits' if outcome == 'visit' else 'USD'}", fontsize=8)
        panel.set_ylabel(f"{outcome} a customer, net", fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=7)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=7, frameon=False)
    return figure


def main() -> None:
    """Learns, judges, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="hillstrom.csv; README.md says where it is from")
    parser.add_argument("--rows", type=int, help="so many customers (default: all)")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--json", type=Path, help="figures; .md and .png are written beside it")
    asked = parser.parse_args()
    test = read(asked.data, asked.rows)
    result: dict[str, dict[str, Any]] = {}
    for outcome, costs in COSTS.items():
        for cost in costs:
            result.setdefault(outcome, {})[str(cost)] = judge(test, outcome, cost, asked.splits)
            print(f"{outcome}, a mail costs {cost}: done", flush=True)
    text = tables(result)
    print(f"\n{len(test.sent):,} customers, {asked.splits} splits\n\n{text}")
    if asked.json:
        told = {"customers": len(test.sent), "splits": asked.splits, "policies": result}
        asked.json.write_text(json.dumps(told, indent=1) + "\n")
        asked.json.with_suffix(".md").write_text(text + "\n")
        picture(result).savefig(asked.json.with_suffix(".png"), dpi=100)


if __name__ == "__main__":
    main()
