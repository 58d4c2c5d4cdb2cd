"""What models are best fitted on where a bad policy logged the rounds: direct, importance-weighted or doubly robust.

    python experiments/benchmarks/learning/targets.py --json targets.json

The log: 4,000 rounds of a softmax over a linear model that learned the rewards of 500 even rounds with the wrong sign,
with a floor of 0.02. What is then learned from it is measured in truth. One core; minutes, --quick ten seconds.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.batch import BatchMomentEnv
from nba.pack_file import load_pack
from nba.policies import KINDS
from nba.policies.pair import PAIRS
from nba.rounds import LoggedRounds
from training.learn import from_rounds
from training.targets import Target
from training.truth import SimulatedMoment, no_rounds

MOMENTS = {"tone_tuner": "support", "abandoned_cart": "retail", "disruption": "travel", "evening_pick": "media"}
TARGETS = (Target(), Target("iw"), Target("iw", 100.0), Target("dr"), Target("dr", 100.0))
LOG: dict[str, Any] = {"temperature": 0.01, "floor": 0.02}  # of the softmax


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    kinds: tuple[str, ...] = ("linear+thompson", "linear+epsilon", "quadratic+thompson", "quadratic+epsilon")
    moments: tuple[str, ...] = tuple(MOMENTS)
    rounds: int = 4_000
    seeds: int = 3
    contexts: int = 4_000  # over which a true value is averaged


QUICK = Size(("linear+thompson",), ("tone_tuner",), 1_000, 1, 1_000)


def log(playground: SimulatedMoment, rounds: int, seed: int) -> LoggedRounds:
    """Rounds of a policy that prefers what is worth little."""
    plan, rng = playground.plan, np.random.default_rng(seed)
    even = playground.play(KINDS["uniform"].fit(plan, no_rounds(plan.width, len(plan.action_ids))), 500, rng)
    bad = PAIRS["linear+softmax"].fit(plan, replace(even, rewards=-even.rewards), **LOG)
    return playground.play(bad, rounds, rng)


def lost(kind: str, target: Target, moment: str, playground: SimulatedMoment, rounds: LoggedRounds) -> float:
    """What the policy learned from the rounds loses, as a share of the oracle's value."""
    learned = from_rounds(playground.plan.pack, kind, {moment: rounds}, target=target)
    oracle = playground.yardsticks.oracle
    return (oracle - playground.value(learned.policies[moment])) / oracle


def measure(size: Size) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Lost shares by kind, moment and target, one a seed."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {kind: {} for kind in size.kinds}
    for moment in size.moments:
        playground = SimulatedMoment(
            BatchMomentEnv(load_pack(MOMENTS[moment]), moment), np.random.default_rng(0), size.contexts
        )
        logs = [log(playground, size.rounds, seed) for seed in range(size.seeds)]
        for kind in size.kinds:
            of = {str(target): [lost(kind, target, moment, playground, part) for part in logs] for target in TARGETS}
            found[kind][moment] = of
            print(moment, kind, {name: f"{np.mean(each):.3f}" for name, each in of.items()}, flush=True)
    return found


def table(found: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """Mean lost share over seeds as Markdown, and over moments in the last column."""
    first = next(iter(found.values()))
    lines = ["| | " + " | ".join([*first, "mean"]) + " |", "|---" * (2 + len(first)) + "|"]
    for kind, by_moment in found.items():
        for name in map(str, TARGETS):
            means = [float(np.mean(of[name])) for of in by_moment.values()]
            cells = " | ".join(f"{100 * mean:.1f} %" for mean in [*means, float(np.mean(means))])
            lines.append(f"| {kind}, {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    found = measure(QUICK if told.quick else Size())
    print(f"\n{table(found)}")
    if told.json:
        told.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
