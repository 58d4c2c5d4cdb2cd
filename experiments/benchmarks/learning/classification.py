"""Share of wrong actions on classification sets played as bandits: our policies and the field's, on the same arrays.

    python experiments/benchmarks/learning/classification.py --work cells --peers-python peers/bin/python \
        --json classification.json --plots .

Thirteen sets, 4,000 rounds each, three seeds (of slow peers one). Progressive validation: an action counts before
anything was learned from its round. One core, CPU time. Every cell is kept in the folder --work as it is done, and
not measured again.
--small plays the three sets that come with scikit-learn, for 200 rounds, without peers.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from classification_plots import losses, losses_by_time
from learner import mean_interval
from peers import PEERS
from sets import ALL, HERE, ROUNDS, Bandit, bandit

from nba.policies import KINDS
from nba.rounds import LoggedRounds
from training.truth import no_rounds

FOLDER = Path(__file__).parent
FIRST = 10  # rounds before a policy first learns
GROWTH = {"recursive": (1, 0.01), "rff": (10, 0.03), "linear": (10, 0.03)}  # by model: rounds to the next time, at
# least so many, else this share of those there are; who solves anew cannot do it after every round
SLOW = ("rff", "MABWiser", "contextualbandits", "bayesianbandits")  # played with one seed
Cell = Mapping[str, Any]  # loss, decide_us, update_us

OURS: dict[str, tuple[str, dict[str, float]]] = {  # label -> kind, settings
    "recursive+thompson": ("recursive+thompson", {"spread": 0.4, "floor": 0.0}),
    "recursive+thompson, floor 2 %": ("recursive+thompson", {"spread": 0.4, "floor": 0.02}),
    "rff+thompson": ("rff+thompson", {"floor": 0.0}),
    "linear+thompson": ("linear+thompson", {"floor": 0.0}),
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    sets: tuple[str, ...]
    rounds: int
    seeds: int


WHOLE = Size(ALL, ROUNDS, 3)
SMALL = Size(HERE, 200, 2)


def updates(rounds: int, kind: str) -> Iterator[slice]:
    """Rounds between two updates of a policy of this kind."""
    start, (least, growth) = 0, GROWTH[kind.partition("+")[0]]
    while start < rounds:
        stop = min(rounds, start + (max(least, int(growth * start)) if start else FIRST))
        yield slice(start, stop)
        start = stop


def play(kind: str, settings: Mapping[str, float], game: Bandit) -> Cell:
    """Progressive loss, microseconds of CPU a decision (one by one, the median) and a round learned from (the mean)."""
    k, clock, wrong, deciding, learning = game.k, time.process_time, 0, list[float](), 0.0
    plan: Any = SimpleNamespace(action_features=np.hstack([np.ones((k, 1)), np.eye(k)]), reward_range=(0.0, 1.0))
    policy = KINDS[kind].fit(plan, no_rounds(game.contexts.shape[1], k), **settings)
    for part in updates(len(game.right), kind):
        contexts, n = game.contexts[part], part.stop - part.start
        mask, actions, propensities = np.ones((n, k), dtype=np.bool_), np.empty(n, dtype=np.int64), np.empty(n)
        for i, uniform in enumerate(game.uniform[part].tolist()):
            started = clock()
            p = policy.distribution(contexts[i : i + 1], mask[i : i + 1])[0]
            actions[i] = min(int(p.cumsum().searchsorted(uniform * p.sum(), side="right")), k - 1)
            deciding.append(clock() - started)
            propensities[i] = p[actions[i]]
        rewards = (actions == game.right[part]).astype(np.float64)
        wrong += n - int(rewards.sum())
        subjects = np.arange(part.start, part.stop, dtype=np.uint64)
        started = clock()
        policy = KINDS[kind].fit(
            plan, LoggedRounds(contexts, mask, actions, propensities, rewards, subjects), policy, **settings
        )
        learning += clock() - started
    n = len(game.right)
    return {"loss": wrong / n, "decide_us": float(np.median(deciding)) * 1e6, "update_us": learning / n * 1e6}


class Work:
    """A folder of games and of cells, one file each, so that a run that was cut short goes on where it stopped."""

    def __init__(self, folder: Path, size: Size, python: Path | None) -> None:
        self.folder, self.size, self.python = folder, size, python
        for name in ("games", "cells", "keel"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        if python is not None and not any((folder / "keel").iterdir()):
            _run(python, "export", str(folder / "keel"))

    def game(self, name: str, seed: int) -> Path:
        """The file of a set in the order of a seed, made where it is missing."""
        path = self.folder / "games" / f"{name}-{seed}.npz"
        if not path.exists():
            bandit(name, seed, self.size.rounds, self.folder / "keel").save(path)
        return path

    def cell(self, label: str, game: str) -> Path:
        """The file of what a method did in a game."""
        return self.folder / "cells" / f"{label.replace(' ', '_')}@{game}.json"

    def games(self, seeds: int) -> Iterator[Path]:
        """All of so many seeds, seed by seed."""
        yield from (self.game(name, seed) for seed in range(seeds) for name in self.size.sets)

    def seeds(self, label: str) -> int:
        """How many a method is played with."""
        return 1 if label.startswith(SLOW) else self.size.seeds

    def ours(self, label: str) -> None:
        """Plays what is missing of one of ours."""
        for path in self.games(self.seeds(label)):
            kept = self.cell(label, path.stem)
            if not kept.exists():
                kept.write_text(json.dumps(play(*OURS[label], Bandit.load(path))))

    def peer(self, label: str) -> str | None:
        """Plays what is missing of a peer, in its own interpreter; why it is absent, if so."""
        missing = [path for path in self.games(self.seeds(label)) if not self.cell(label, path.stem).exists()]
        if not missing:
            return None
        if self.python is None:
            return "no --peers-python"
        command = [str(self.python), str(FOLDER / "peers.py"), "play", label, *map(str, missing)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                cell = json.loads(line)
                self.cell(label, cell.pop("game")).write_text(json.dumps(cell))
            why = process.stderr.read().strip() if process.stderr else ""
        return why.splitlines()[-1] if process.returncode and why else None

    def found(self, label: str) -> dict[str, list[Cell]]:
        """The cells there are, by set, seed by seed."""
        cells: dict[str, list[Cell]] = {}
        for name in self.size.sets:
            files = [self.cell(label, f"{name}-{seed}") for seed in range(self.size.seeds)]
            cells[name] = [json.loads(file.read_text()) for file in files if file.exists()]
        return cells


def summary(cells: Mapping[str, Sequence[Cell]]) -> dict[str, Any]:
    """Means over sets: of the loss with its interval over seeds (of each, the mean of all sets), and of the times."""
    seeds = min(len(of) for of in cells.values())
    by_seed = [float(np.mean([of[seed]["loss"] for of in cells.values()])) for seed in range(seeds)]
    low, high = mean_interval(by_seed)[1:] if seeds > 1 else (None, None)
    every = [cell for of in cells.values() for cell in of]
    return {
        "seeds": seeds,
        "loss": round(float(np.mean(by_seed)), 4),
        "low": low,
        "high": high,
        "decide_us": round(float(np.mean([cell["decide_us"] for cell in every])), 1),
        "update_us": round(float(np.mean([cell["update_us"] for cell in every])), 1),
        "version": every[0].get("version"),
        "sets": {name: [round(cell["loss"], 4) for cell in of] for name, of in cells.items()},
    }


def tables(result: Mapping[str, Any]) -> str:
    """What was found as Markdown: methods by mean loss, then every set's loss."""
    rows = sorted(result["methods"].items(), key=lambda row: row[1]["loss"])
    sets = list(rows[0][1]["sets"])
    head = ("method", "mean loss", "95 % interval", "seeds", "decide, us", "learn, us a round")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for label, of in rows:
        interval = f"{of['low']:.3f} to {of['high']:.3f}" if of["low"] is not None else ""
        cells = (f"{of['loss']:.3f}", interval, str(of["seeds"]), f"{of['decide_us']:.0f}", f"{of['update_us']:.0f}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += [f"| {label} | absent: {why} |" + " |" * 4 for label, why in result["absent"].items()]
    lines += ["", "| | " + " | ".join(sets) + " |", "|---" * (1 + len(sets)) + "|"]
    for label, of in rows:
        lines.append(f"| {label} | " + " | ".join(f"{np.mean(each):.3f}" for each in of["sets"].values()) + " |")
    return "\n".join(lines)


def measure(work: Work, labels: Sequence[str], *, play: bool) -> dict[str, Any]:
    """Every method's summary; what has not played every set is absent, with the reason."""
    methods, absent = dict[str, Any](), dict[str, str]()
    for label in labels:
        why = None
        if play:
            why = work.ours(label) if label in OURS else work.peer(label)
        cells = work.found(label)
        if min(len(of) for of in cells.values()):
            methods[label] = of = summary(cells)
            print(f"{of['loss']:.4f}  {of['decide_us']:6.0f} {of['update_us']:6.0f}  {label}", flush=True)
        else:
            absent[label] = why or "not every set was played"
    machine = f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"
    return {"machine": machine, "rounds": work.size.rounds, "methods": methods, "absent": absent}


def _run(python: Path, *arguments: str) -> None:
    subprocess.run([str(python), str(FOLDER / "peers.py"), *arguments], check=True)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of games and cells, kept between runs")
    parser.add_argument("--peers-python", type=Path, help="an interpreter that has the peers (peers.txt)")
    parser.add_argument("--method", action="append", choices=(*OURS, *PEERS), help="this one; all of them without")
    parser.add_argument("--show", action="store_true", help="tables and pictures of what there is; plays nothing")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--plots", type=Path, help="draw classification.png and classification_time.png there")
    told = parser.parse_args()
    work = Work(told.work, SMALL if told.small else WHOLE, told.peers_python)
    result = measure(work, told.method or (*OURS, *PEERS), play=not told.show)
    print(f"\n{tables(result)}\n\n{result['machine']}")
    if told.json:
        told.json.write_text(json.dumps(result, indent=1) + "\n")
    if told.plots:
        losses(result["methods"]).savefig(told.plots / "classification.png", dpi=100)
        losses_by_time(result["methods"]).savefig(told.plots / "classification_time.png", dpi=100)


if __name__ == "__main__":
    main()
