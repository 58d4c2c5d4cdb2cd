"""Vowpal Wabbit on the same sets, by an interpreter that has it: prints one JSON object.

    python -m venv peers && peers/bin/pip install vowpalwabbit==9.11.9 scikit-learn==1.9.1
    peers/bin/python peers.py --rounds 4000 --seeds 3

It updates after every round; actions are drawn from the distribution it gives, with the same order of rows.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from sets import SETS, bandit
from vowpalwabbit import Workspace, __version__

OPTIONS = {
    "epsilon 0.05": "--epsilon 0.05",
    "squarecb": "--squarecb",
    "regcb-opt": "--regcbopt --mellowness 0.01",
    "squarecb, quadratic": "--squarecb --interactions axx",
    "regcb-opt, quadratic": "--regcbopt --mellowness 0.01 --interactions axx",
}


def loss(name: str, options: str, seed: int, rounds: int) -> float:
    """Mean progressive validation loss of VW with these options; every action has its own part of every column."""
    contexts, right = bandit(name, seed, rounds)
    k, rng = int(right.max()) + 1, np.random.default_rng(seed)
    vw = Workspace(f"--cb_explore_adf {options} --interactions ax --quiet -b 22 --random_seed {seed}")
    wrong = 0
    for row, label in zip(contexts.tolist(), right.tolist(), strict=True):
        told = " ".join(f"{i}:{value:.5g}" for i, value in enumerate(row[1:]) if value)
        example = [f"shared |x {told}", *(f"|a a{action}" for action in range(k))]
        distribution = np.array(vw.predict(example))
        action = int(rng.choice(k, p=distribution / distribution.sum()))
        cost = int(action != label)
        wrong += cost
        example[1 + action] = f"0:{cost}:{distribution[action]:.6g} |a a{action}"
        vw.learn(example)
    vw.finish()
    return wrong / rounds


def main() -> None:
    """Every set, option and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4_000)
    parser.add_argument("--seeds", type=int, default=3)
    told = parser.parse_args()
    losses, seconds = {}, {}
    for label, options in OPTIONS.items():
        started = time.process_time()
        losses[label] = {n: [loss(n, options, s, told.rounds) for s in range(told.seeds)] for n in SETS}
        seconds[label] = time.process_time() - started
    print(json.dumps({"name": f"Vowpal Wabbit {__version__}", "losses": losses, "seconds": seconds}))


if __name__ == "__main__":
    main()
