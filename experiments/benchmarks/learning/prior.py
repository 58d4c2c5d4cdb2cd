"""What a prior from the simulator is worth, by the weight it has and by how right its simulator is.

    python experiments/benchmarks/learning/prior.py --json experiments/benchmarks/learning/prior.json

Two parts, of which --only picks one. One core, some five minutes; --quick some seconds. Writes the tables (.md) beside
the JSON. A run that was cut short goes on where it stopped.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from cells import Cells, rounded

from envs.batch import BatchMomentEnv
from envs.calibration.response import fit_response
from envs.calibration.rounds import OutcomeRounds
from envs.people import Array, subject_hash
from envs.response import Adjustment, Response
from envs.rollout import sample_actions
from nba.pack_file import load_pack
from nba.policies import KINDS
from training.learn import batches
from training.prior import weighed_policy
from training.truth import SimulatedMoment, no_rounds

SIMULATED = 5_000  # rounds that a prior has played: its full weight
CALIBRATED_ON = 1_000  # real rounds of even actions
FULL = "full"
WEIGHTS = (100, 300, 1_000, FULL)  # rounds
SIMULATORS = ("none", "right", "calibrated", "off", "wrong")  # none: without a prior


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    kind: str
    moments: tuple[str, ...]
    seeds: int
    rounds: tuple[int, ...]  # of the real log
    simulators: tuple[str, ...]
    decisions: int  # of a policy that starts from a prior
    contexts: int  # over which a true value is averaged


WHOLE = Size(
    kind="quadratic+thompson",
    moments=("tone_tuner", "proactive_nudge", "personalized_path", "followup_whisper"),
    seeds=3,
    rounds=(100, 300, 1_000, 10_000),
    simulators=SIMULATORS,
    decisions=10_000,
    contexts=2_000,
)
QUICK = Size(
    kind="linear+thompson",
    moments=("tone_tuner",),
    seeds=1,
    rounds=(100, 300),
    simulators=SIMULATORS,
    decisions=500,
    contexts=500,
)


@dataclass(frozen=True, slots=True)
class Misjudged:
    """A simulator that has what is special to each action wrong: an `Adjustment` of `envs.response`.

    logit' = mean + own (logit_a - mean) + other (logit_b - mean) + noise,    mean over the actions, b another action
    """

    own: float
    other: float = 0.0
    noise: float = 0.0  # standard deviation of an offset for each outcome and action, logits
    seed: int = 0

    def logits(self, outcomes: tuple[str, ...], actions: tuple[str, ...], table: Array) -> Array:
        """The changed logits (o, k, n)."""
        mean = table.mean(axis=1, keepdims=True)
        offsets = self.noise * np.random.default_rng(self.seed).standard_normal((len(outcomes), len(actions), 1))
        special = table - mean
        changed: Array = mean + self.own * special + self.other * np.roll(special, 1, axis=1) + offsets
        return changed


@cache
def playground(moment: str, contexts: int) -> SimulatedMoment:
    """A moment as it really is."""
    return SimulatedMoment(BatchMomentEnv(load_pack("support"), moment), np.random.default_rng(0), contexts)


def simulator(name: str, moment: str, seed: int) -> BatchMomentEnv:
    """A moment as a simulator of this name has it."""
    pack, off = load_pack("support"), Misjudged(own=0.5, other=0.5, noise=0.5, seed=seed)
    adjustments: dict[str, tuple[Adjustment, ...]] = {"right": (), "off": (off,), "wrong": (Misjudged(own=-1.0),)}
    if name != "calibrated":
        return BatchMomentEnv(pack, moment, adjustments=adjustments[name])
    real = BatchMomentEnv(pack, moment)
    fitted = fit_response(Response.of(real.plan, (off,)), _outcomes(real, CALIBRATED_ON, seed))
    return BatchMomentEnv(pack, moment, adjustments=(off, fitted.parameters))


def _outcomes(env: BatchMomentEnv, n: int, seed: int) -> OutcomeRounds:
    """Rounds of even actions, with each outcome."""
    rng = np.random.default_rng([seed, n, 1])
    batch = env.sample(n, rng)
    actions = sample_actions(batch.mask / batch.mask.sum(axis=1, keepdims=True), rng)
    outcomes = env.outcomes(batch, actions, rng)
    return OutcomeRounds(batch.facts, batch.contexts, actions, outcomes, subject_hash(batch.customers))


@cache
def prior(name: str, moment: str, seed: int, kind: str) -> Any:
    """A policy that has played in a simulator."""
    where = SimulatedMoment(simulator(name, moment, seed), np.random.default_rng(0), 1)
    return _played(where, kind, SIMULATED, np.random.default_rng([seed, 2]), None)[0]


def _played(where: SimulatedMoment, kind: str, decisions: int, rng: np.random.Generator, start: Any) -> Any:
    """A policy that has played a moment and learned from it, and what it lost meanwhile as a share of the oracle's."""
    plan, earned, best = where.plan, 0.0, 0.0
    policy: Any = start or KINDS[kind].fit(plan, no_rounds(plan.width, len(plan.action_ids)))
    for size in batches(decisions):
        rounds = where.play(policy, size, rng)
        expected = where.env.expected_rewards(rounds.contexts)
        earned += expected[np.arange(len(rounds)), rounds.actions].sum()
        best += np.where(rounds.mask, expected, -np.inf).max(axis=1).sum()
        policy = KINDS[kind].fit(plan, rounds, policy)
    return policy, (best - earned) / best


def _weighed(name: str, weight: int | str, moment: str, seed: int, size: Size) -> Any:
    """A policy with a prior of this weight and nothing else."""
    plan = playground(moment, size.contexts).plan
    learner, nothing = KINDS[size.kind], no_rounds(plan.width, len(plan.action_ids))
    if not weight:
        return learner.fit(plan, nothing)
    known = prior(name, moment, seed, size.kind)
    counted: Any = known if weight == FULL else weighed_policy(known, float(weight), plan)
    return learner.fit(plan, nothing, counted)


def _lost(policy: Any, where: SimulatedMoment) -> float:
    """What the policy loses of the oracle's value."""
    best = where.yardsticks.oracle
    return rounded((best - where.value(policy)) / best)


def logged(name: str, weight: int | str, rounds: int, moment: str, seed: int, size: Size) -> float:
    """What a policy loses that was learned from a log of even actions, on top of a prior."""
    where = playground(moment, size.contexts)
    plan = where.plan
    even = KINDS["uniform"].fit(plan, no_rounds(plan.width, len(plan.action_ids)))
    log = where.play(even, rounds, np.random.default_rng([seed, rounds]))
    learner: Any = KINDS[size.kind]
    return _lost(learner.fit(plan, log, _weighed(name, weight, moment, seed, size)), where)


def played(name: str, weight: int | str, moment: str, seed: int, size: Size) -> dict[str, float]:
    """What a policy loses that starts from a prior, at its start, over its decisions, and after them."""
    where = playground(moment, size.contexts)
    start = _weighed(name, weight, moment, seed, size)
    policy, regret = _played(where, size.kind, size.decisions, np.random.default_rng([seed, 3]), start)
    return {"start": _lost(start, where), "regret": rounded(regret), "after": _lost(policy, where)}


def conditions(size: Size) -> list[tuple[str, int | str]]:
    """Simulator and weight of its prior; without one once."""
    return [(name, weight) for name in size.simulators for weight in ((0,) if name == "none" else WEIGHTS)]


def from_log(size: Size, cells: Cells) -> dict[str, dict[str, float]]:
    """What is lost, mean of moments and seeds: condition -> rounds of the log."""
    made: dict[str, dict[str, float]] = {}
    for name, weight in conditions(size):
        for rounds in size.rounds:
            lost = [
                cells.get(
                    ("log", name, weight, rounds, size.kind, moment, seed),
                    partial(logged, name, weight, rounds, moment, seed, size),
                )
                for moment in size.moments
                for seed in range(size.seeds)
            ]
            made.setdefault(f"{name}, {weight}", {})[f"{rounds:,}"] = float(np.mean(lost))
        print("log", name, weight, made[f"{name}, {weight}"], flush=True)
    return made


def from_play(size: Size, cells: Cells) -> dict[str, dict[str, float]]:
    """What is lost, mean of moments and seeds: condition -> at the start, over all decisions, after them."""
    made = {}
    for name, weight in conditions(size):
        runs = [
            cells.get(
                ("play", name, weight, size.decisions, size.kind, moment, seed),
                partial(played, name, weight, moment, seed, size),
            )
            for moment in size.moments
            for seed in range(size.seeds)
        ]
        made[f"{name}, {weight}"] = {at: float(np.mean([run[at] for run in runs])) for at in runs[0]}
        print("play", name, weight, made[f"{name}, {weight}"], flush=True)
    return made


def as_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Shares of the oracle's value, in Markdown."""
    heads = list(next(iter(found.values())))
    lines = [f"| simulator, weight | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{of[head]:.1%}' for head in heads)} |" for name, of in found.items()]
    return "\n".join(lines)


PARTS = {"log": from_log, "play": from_play}


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(PARTS), action="append")
    parser.add_argument("--simulator", choices=SIMULATORS, action="append", help="all without")
    parser.add_argument("--kind", help="of policy; one whose model can be weighed")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="figures, kept as they come; the tables are written beside it")
    asked = parser.parse_args()
    size = QUICK if asked.quick else WHOLE
    size = replace(size, kind=asked.kind or size.kind, simulators=tuple(asked.simulator or size.simulators))
    cells = Cells(asked.json, [Path(__file__)])
    tables = [f"{part}:\n\n{as_table(PARTS[part](size, cells))}" for part in asked.only or PARTS]
    cells.save()
    text = "\n\n".join(tables) + f"\n\n{cells.seconds:.0f} CPU seconds\n"
    print("\n" + text)
    if asked.json:
        asked.json.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
