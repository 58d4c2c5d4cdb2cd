"""Regret in all ten one-step moments of the packs that ship, beside what needs no learning.

    python experiments/benchmarks/learning/moments.py --json experiments/benchmarks/learning/moments.json

One core, about a quarter of an hour; --quick half a minute. Writes the tables (.md) and the picture (.png) beside the
JSON. A run that was cut short goes on where it stopped; figures of other code are measured anew.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from cells import Cells, rounded
from figures import curves
from learner import learn, mean_interval, worth

from envs.batch import BatchMomentEnv
from envs.oracle import best_context_free
from nba.pack_file import load_pack
from nba.policies import KINDS
from nba.types import Policy
from training.truth import no_rounds

HERE = Path(__file__).parent
MOMENTS = {
    "instant_clarifier": "support",
    "tone_tuner": "support",
    "proactive_nudge": "support",
    "personalized_path": "support",
    "followup_whisper": "support",
    "abandoned_cart": "retail",
    "disruption": "travel",
    "balance_check": "banking",
    "symptom_search": "health",
    "evening_pick": "media",
}
# `square_cb` and `epsilon_greedy` are older names of linear+square_cb and linear+epsilon: the same to the last bit.
# Seeds by kind: fewer of the wide models, which need two to ten times the time of the others.
SEEDS = {
    "quadratic+thompson": 3,
    "quadratic+square_cb": 3,
    "linear+thompson": 5,
    "rff+thompson": 2,
    "linear+square_cb": 5,
    "linear+falcon": 5,
    "linear+epsilon": 5,
    "ensemble+thompson": 5,
}
YARDSTICKS = ("uniform", "rules", "context-free")
GRID = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)  # decisions at which the curve is told
TOLD = (1_000, 10_000, 100_000)  # decisions at which the policy is judged too

Figures: TypeAlias = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]  # kind -> moment -> a seed each


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    seeds: Mapping[str, int]
    decisions: int
    contexts: int  # over which a true value is averaged
    moments: tuple[str, ...]


WHOLE = Size(SEEDS, 100_000, 5_000, tuple(MOMENTS))
QUICK = Size(dict.fromkeys(("linear+thompson", "linear+square_cb"), 2), 2_000, 1_000, ("tone_tuner", "disruption"))


def sample_of(env: BatchMomentEnv, contexts: int) -> tuple[Any, Any]:
    """The contexts and masks that every policy of the moment is judged on."""
    batch = env.sample(contexts, np.random.default_rng(zlib.crc32(env.plan.name.encode())))
    return batch.contexts, batch.mask


def run(kind: str, moment: str, seed: int, size: Size) -> dict[str, Any]:
    """Mean regret over the decisions made so far, and the value of the policy then, both as shares of the oracle's."""
    env = BatchMomentEnv(load_pack(MOMENTS[moment]), moment)
    marks = tuple(mark for mark in GRID if mark <= size.decisions)
    rng = np.random.default_rng([seed, zlib.crc32(moment.encode())])
    played = learn(kind, env, size.decisions, rng=rng, marks=marks)
    contexts, mask = sample_of(env, size.contexts)
    judged = {mark: worth(played.at[mark], env, contexts, mask) for mark in TOLD if mark in played.at}
    return {
        "regret": {str(mark): rounded(played.regret(mark)) for mark in marks},
        "value": {str(mark): rounded(value) for mark, value in judged.items()},
    }


def yardstick(name: str, moment: str, size: Size) -> float:
    """The value of what needs no learning, as a share of the oracle's."""
    env = BatchMomentEnv(load_pack(MOMENTS[moment]), moment)
    contexts, mask = sample_of(env, size.contexts)
    nothing = no_rounds(env.plan.width, len(env.plan.action_ids))
    policy: Policy
    if name == "context-free":
        policy = best_context_free(env.expected_rewards(contexts), mask)
    else:
        policy = KINDS[name].fit(env.plan, nothing)
    return rounded(worth(policy, env, contexts, mask))


def table(figures: Figures, yardsticks: Mapping[str, Mapping[str, float]], marks: Sequence[int]) -> str:
    """Means over the moments with their intervals over seeds, as Markdown; in brackets the worst moment."""
    titles = [f"{what} {mark:,}" for mark in marks for what in ("regret to", "value at")]
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (1 + len(titles)) + "|"]
    for name, values in yardsticks.items():
        each = np.array(list(values.values()))
        cells = [f"{1 - each.mean():.1%} ({1 - each.min():.1%})", f"{each.mean():.1%} ({each.min():.1%})"]
        lines.append(f"| *{name}* | " + " | ".join(cells * len(marks)) + " |")
    for kind, moments in figures.items():
        told = [_over_moments(moments, what, mark) for mark in marks for what in ("regret", "value")]
        lines.append(f"| {kind} ({len(next(iter(moments.values())))}) | " + " | ".join(told) + " |")
    return "\n".join(lines)


def _over_moments(moments: Mapping[str, Sequence[Mapping[str, Any]]], what: str, mark: int) -> str:
    by_seed = np.array([[seed[what][str(mark)] for seed in seeds] for seeds in moments.values()])  # (moments, seeds)
    mean, low, _ = mean_interval(list(by_seed.mean(axis=0)))
    each = by_seed.mean(axis=1)
    half = "" if np.isnan(low) else f" ± {100 * (mean - low):.1f}"
    return f"{mean:.1%}{half} ({each.max() if what == 'regret' else each.min():.1%})"


def by_moment(figures: Figures, yardsticks: Mapping[str, Mapping[str, float]], mark: int) -> str:
    """The value after so many decisions by moment, as Markdown, with intervals over seeds."""
    names = [*yardsticks, *figures]
    lines = [f"| value at {mark:,} | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for moment in next(iter(yardsticks.values())):
        cells = [f"{values[moment]:.1%}" for values in yardsticks.values()]
        for of in figures.values():
            mean, low, _ = mean_interval([seed["value"][str(mark)] for seed in of[moment]])
            cells.append(f"{mean:.1%}" + ("" if np.isnan(low) else f" ± {100 * (mean - low):.1f}"))
        lines.append(f"| {moment} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure(size: Size, cells: Cells) -> tuple[Figures, dict[str, dict[str, float]]]:
    """Every yardstick, then every kind in every moment with every seed."""
    yardsticks = {
        name: {m: cells.get((name, m), lambda n=name, m=m: yardstick(n, m, size)) for m in size.moments}  # type: ignore[misc]
        for name in YARDSTICKS
    }
    figures: dict[str, dict[str, list[Any]]] = {}
    for kind, seeds in size.seeds.items():
        of = figures.setdefault(kind, {})
        for m in size.moments:
            keys = [(kind, m, seed, size.decisions) for seed in range(seeds)]
            of[m] = [cells.get(key, lambda key=key: run(*key[:3], size)) for key in keys]  # type: ignore[misc]
        mark = max(mark for mark in TOLD if mark <= size.decisions)
        print(f"{kind:20s} after {mark:,}: value {_over_moments(of, 'value', mark)} of the oracle's", flush=True)
    cells.save()
    return figures, yardsticks


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", help="of policy, any of nba.policies.KINDS; those of SEEDS without")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="figures, kept as they come; .md and .png are written beside it")
    told = parser.parse_args()
    size = QUICK if told.quick else WHOLE
    if told.kind:
        size = replace(size, seeds={kind: size.seeds.get(kind, 3) for kind in told.kind})
    cells = Cells(told.json, [HERE / "learner.py", Path(__file__)])
    figures, yardsticks = measure(size, cells)
    marks = [mark for mark in TOLD if mark <= size.decisions]
    tables = [table(figures, yardsticks, marks), *(by_moment(figures, yardsticks, mark) for mark in marks[1:])]
    text = "\n\n".join(tables) + f"\n\n{cells.seconds:.0f} CPU seconds\n"
    print("\n" + text)
    if told.json:
        told.json.with_suffix(".md").write_text(text)
        curves(figures, yardsticks).savefig(told.json.with_suffix(".png"), dpi=100)


if __name__ == "__main__":
    main()
