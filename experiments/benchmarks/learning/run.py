"""How soon policies learn: every model of action values with every way to explore by it.

    python experiments/benchmarks/learning/run.py --json result.json --peers-python peers/bin/python

Two parts, of which --only picks some:

    moments   regret to the oracle in the simulated moments of every pack that ships, after 1,000, 10,000 and 100,000
              decisions of each, updated after ten batches, each 1.6 times the one before
    sets      progressive validation: wrong actions in 4,000 rounds of scikit-learn's digits and breast_cancer
              as bandits; with --peers-python, Vowpal Wabbit beside them (see peers.py)

One core; the whole takes about half an hour, --quick a minute.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from sets import SETS, bandit, updates

from envs.rollout import sample_actions
from nba.pack_file import load_pack
from nba.policies import KINDS
from nba.policies.pair import PAIRS
from nba.rounds import LoggedRounds
from training.learn import batches
from training.truth import SimulatedMoment, no_rounds, simulate

HERE = Path(__file__).parent
PACKS = ("support", "banking", "health", "media", "retail", "travel")
PARTS = ("moments", "sets")
GOAL = 0.05  # of the oracle's value, lost after 10,000 decisions


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    kinds: tuple[str, ...]
    decisions: tuple[int, ...]
    seeds: int
    contexts: int  # over which a true value is averaged
    rounds: int  # of a set
    packs: tuple[str, ...]


WHOLE = Size(("uniform", *PAIRS), (1_000, 10_000, 100_000), 3, 5_000, 4_000, PACKS)
QUICK = Size(("uniform", "linear+square_cb", "linear+thompson"), (1_000,), 1, 1_000, 400, ("support",))


@dataclass(slots=True)
class Result:
    """What was found; losses and regrets by kind, then by moment or set, then by seed."""

    machine: str
    regret: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)  # decisions first; of the oracle
    loss: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # CPU seconds a kind took, in both parts
    peers: dict[str, Any] = field(default_factory=dict)


def moments(packs: tuple[str, ...], contexts: int) -> dict[str, SimulatedMoment]:
    """Every one-step moment that simulated customers play."""
    found = {}
    for name in packs:
        for moment, playground in simulate(load_pack(name), contexts=contexts).items():
            if isinstance(playground, SimulatedMoment):
                found[f"{name}/{moment}"] = playground
    return found


def regret(kind: str, playground: SimulatedMoment, decisions: int, seed: int) -> float:
    """What the policy learned from so many decisions of its own loses, as a share of the oracle's value."""
    plan, rng = playground.plan, np.random.default_rng([seed, decisions])
    policy = KINDS[kind].fit(plan, no_rounds(plan.width, len(plan.action_ids)))
    for size in batches(decisions):
        policy = KINDS[kind].fit(plan, playground.play(policy, size, rng), policy)
    oracle = playground.yardsticks.oracle
    return (oracle - playground.value(policy)) / oracle


def loss(kind: str, name: str, rounds: int, seed: int) -> float:
    """Share of wrong actions, each sampled before its round was learned from."""
    contexts, right = bandit(name, seed, rounds)
    k, rng, wrong = int(right.max()) + 1, np.random.default_rng(seed), 0
    features = np.hstack([np.ones((k, 1)), np.eye(k)])
    plan: Any = SimpleNamespace(action_features=features, reward_range=(0.0, 1.0))
    policy = KINDS[kind].fit(plan, no_rounds(contexts.shape[1], k))
    for part in updates(rounds):
        mask = np.ones((part.stop - part.start, k), dtype=np.bool_)
        distribution = policy.distribution(contexts[part], mask)
        actions = sample_actions(distribution, rng)
        rewards = (actions == right[part]).astype(np.float64)
        wrong += int((rewards == 0).sum())
        propensities = distribution[np.arange(len(actions)), actions]
        subjects = np.arange(part.start, part.stop, dtype=np.uint64)
        heard = LoggedRounds(contexts[part], mask, actions, propensities, rewards, subjects)
        policy = KINDS[kind].fit(plan, heard, policy)
    return wrong / rounds


def measure_moments(size: Size, result: Result) -> None:
    """Fills `regret`."""
    playgrounds = moments(size.packs, size.contexts)
    for decisions in size.decisions:
        of = result.regret.setdefault(str(decisions), {})
        for kind in size.kinds:
            started = time.process_time()
            of[kind] = {
                moment: [regret(kind, playground, decisions, seed) for seed in range(size.seeds)]
                for moment, playground in playgrounds.items()
            }
            _took(result, kind, started)
            each = [float(np.mean(seeds)) for seeds in of[kind].values()]
            print(f"{decisions:7,} {kind:24s} {np.mean(each):6.1%}  worst moment {max(each):6.1%}", flush=True)


def measure_sets(size: Size, result: Result) -> None:
    """Fills `loss`."""
    for kind in size.kinds:
        started = time.process_time()
        result.loss[kind] = {name: [loss(kind, name, size.rounds, s) for s in range(size.seeds)] for name in SETS}
        _took(result, kind, started)
        shown = "  ".join(f"{name} {np.mean(losses):.3f}" for name, losses in result.loss[kind].items())
        print(f"{kind:24s} {shown}", flush=True)


def measure_peers(python: Path | None, size: Size, result: Result) -> None:
    """Fills `peers`; one that does not run is named as absent."""
    if python is None:
        result.peers = {"absent": "no --peers-python"}
        return
    command = [str(python), str(HERE / "peers.py"), "--rounds", str(size.rounds), "--seeds", str(size.seeds)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        result.peers = {"absent": told.stderr.strip().splitlines()[-1:]}
        return
    result.peers = json.loads(told.stdout)
    for label, losses in result.peers["losses"].items():
        print(f"VW {label:21s} " + "  ".join(f"{n} {np.mean(each):.3f}" for n, each in losses.items()), flush=True)


def tables(result: Result) -> str:
    """What was found as Markdown."""
    lines: list[str] = []
    if result.regret:
        names = [f"after {int(n):,}" for n in result.regret]
        lines += ["| | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
        for kind in next(iter(result.regret.values())):
            cells = [_cell(of[kind]) for of in result.regret.values()]
            lines.append(f"| {kind} | " + " | ".join(cells) + " |")
        lines.append("")
    if result.loss:
        lines += ["| | " + " | ".join(SETS) + " | mean |", "|---" * (2 + len(SETS)) + "|"]
        rows: Mapping[str, Mapping[str, list[float]]] = result.loss | {
            f"VW {label}": losses for label, losses in result.peers.get("losses", {}).items()
        }
        for kind, losses in rows.items():
            each = [float(np.mean(losses[name])) for name in SETS]
            lines.append(f"| {kind} | " + " | ".join(f"{x:.3f}" for x in (*each, np.mean(each))) + " |")
    return "\n".join(lines)


def _cell(by_moment: Mapping[str, list[float]]) -> str:
    each = [float(np.mean(seeds)) for seeds in by_moment.values()]
    return f"{np.mean(each):.1%} ({max(each):.1%})"


def _took(result: Result, kind: str, started: float) -> None:
    result.seconds[kind] = result.seconds.get(kind, 0.0) + time.process_time() - started


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--kind", action="append", help="of policy; all of them without")
    parser.add_argument("--decisions", type=int, action="append", help="of a moment; 1,000, 10,000 and 100,000 without")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers-python", type=Path)
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    size = QUICK if told.quick else WHOLE
    size = replace(size, kinds=tuple(told.kind or size.kinds), decisions=tuple(told.decisions or size.decisions))
    result = Result(machine=f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    steps: dict[str, Callable[[], None]] = {
        "sets": lambda: (measure_sets(size, result), measure_peers(told.peers_python, size, result))[-1],
        "moments": lambda: measure_moments(size, result),
    }
    for part in told.only or PARTS:
        steps[part]()
    print(f"\n{tables(result)}\n\n{result.machine}; peers: {result.peers.get('name') or result.peers}")
    if told.json:
        told.json.write_text(json.dumps(asdict(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
