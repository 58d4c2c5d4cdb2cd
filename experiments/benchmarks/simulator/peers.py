"""The field's simulators, one a function: decisions a CPU second of each that can be imported here, as JSON.

    python peers.py --seconds 0.5

Needs nothing of this repository, so that an interpreter with other packages can run it (`peers.txt`). Each makes its
environment, then takes decisions with actions that were drawn beforehand; only these are timed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace

import numpy as np

ACTIONS, COLUMNS = 7, 28  # about those of nba/ToneTuner-v0
Pass = Callable[[], int]  # takes decisions and says how many


def coba_linear() -> Pass:
    """coba's linear synthetic rounds: a context and the reward of each action; 7 actions, 28 columns."""
    from coba.environments import Environments

    return _coba(Environments.from_linear_synthetic(2_000, ACTIONS, COLUMNS, 0, seed=1)[0])


def coba_mlp() -> Pass:
    """coba's synthetic rounds whose rewards a small network makes; 7 actions, 28 columns."""
    from coba.environments import Environments

    return _coba(Environments.from_mlp_synthetic(500, ACTIONS, COLUMNS, 0, seed=1)[0])


def _coba(rounds) -> Pass:  # type: ignore[no-untyped-def]
    def play() -> int:
        n = 0
        for n, one in enumerate(rounds.read(), start=1):
            one["rewards"](one["actions"][n % ACTIONS])
        return n

    return play


def river_testbed() -> Pass:
    """river's k-armed testbed: one normal draw around the arm's mean; 7 arms, no context."""
    from river.bandit.envs import KArmedTestbed

    return _river(KArmedTestbed(k=ACTIONS))


def river_candy_cane() -> Pass:
    """river's candy-cane contest: 100 machines whose chances decay, against an opponent; no context."""
    from river.bandit.envs import CandyCaneContest

    return _river(CandyCaneContest())


def _river(env) -> Pass:  # type: ignore[no-untyped-def]
    actions = np.random.default_rng(0).integers(0, env.action_space.n, 5_000).tolist()

    def play() -> int:
        env.reset(seed=1)
        for action in actions:
            _, _, ended, cut, _ = env.step(action)
            if ended or cut:
                env.reset()
        return len(actions)

    return play


def mabwiser_simulator() -> Pass:
    """MABWiser's simulator: replays logged rounds and asks a random policy at each; 7 arms, 28 columns given."""
    from mabwiser.mab import MAB, LearningPolicy
    from mabwiser.simulator import Simulator

    rng, n = np.random.default_rng(0), 20_000
    decisions, rewards = rng.integers(0, ACTIONS, n).tolist(), rng.random(n).round().tolist()
    contexts = rng.random((n, COLUMNS))

    def play() -> int:
        bandits = [("random", MAB(list(range(ACTIONS)), LearningPolicy.Random()))]
        Simulator(bandits, decisions, rewards, contexts, test_size=0.95, is_ordered=True, is_quick=True).run()
        return round(0.95 * n)

    return play


def obp_synthetic() -> Pass:
    """obp's synthetic rounds, drawn 4,096 at once: a context, a logging policy's action and its reward; 7 actions."""
    from obp.dataset import SyntheticBanditDataset, logistic_reward_function

    data = SyntheticBanditDataset(
        n_actions=ACTIONS, dim_context=COLUMNS, reward_function=logistic_reward_function, random_state=1
    )

    def play() -> int:
        data.obtain_batch_bandit_feedback(4_096)
        return 4_096

    return play


def recogym_sessions() -> Pass:
    """RecoGym: a user browses and is shown one of 10 products at each offer. Patched: scipy.rand is long gone."""
    import scipy

    scipy.rand = np.random.rand
    from recogym import env_1_args
    from recogym.envs.reco_env_v1 import RecoEnv1

    env = RecoEnv1()
    env.init_gym({**env_1_args, "random_seed": 1})
    actions = np.random.default_rng(0).integers(0, 10, 300).tolist()

    def play() -> int:
        env.reset(1)
        env.step(None)
        for action in actions:
            if env.step(action)[2]:
                env.reset(1)
                env.step(None)
        return len(actions)

    return play


def recsim_interest() -> Pass:
    """RecSim's interest evolution: 2 of 10 documents for a user who drifts. Patched: tf.estimator is gone."""
    import tensorflow

    tensorflow.estimator = SimpleNamespace(SessionRunHook=object, CheckpointSaverListener=object)
    from recsim.environments import interest_evolution

    config = {"num_candidates": 10, "slate_size": 2, "resample_documents": True, "seed": 1}
    env = interest_evolution.create_environment(config)

    def play() -> int:
        env.reset()
        for n in range(200):
            if env.step([n % 10, (n + 1) % 10])[2]:
                env.reset()
        return 200

    return play


PEERS: dict[str, tuple[str, Callable[[], Pass]]] = {
    "coba, linear": ("coba", coba_linear),
    "coba, network": ("coba", coba_mlp),
    "river, k-armed testbed": ("river", river_testbed),
    "river, candy-cane contest": ("river", river_candy_cane),
    "MABWiser, simulator": ("mabwiser", mabwiser_simulator),
    "obp, synthetic rounds": ("obp", obp_synthetic),
    "RecoGym": ("recogym", recogym_sessions),
    "RecSim": ("recsim", recsim_interest),
}


def measured(name: str, seconds: float) -> dict[str, object]:
    """Decisions a CPU second, or why there are none."""
    package, make = PEERS[name]
    told: dict[str, object] = {"step": (make.__doc__ or "").strip()}
    try:
        told["version"] = metadata.version(package)
        play = make()
        play()
    except metadata.PackageNotFoundError:
        return told | {"absent": "not installed"}
    except Exception as error:  # noqa: BLE001  # another package's failure is what is to be told
        return told | {"absent": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    decisions, cpu = 0, time.process_time()
    while time.process_time() - cpu < seconds:
        decisions += play()
    return told | {"rate": decisions / (time.process_time() - cpu)}


def main() -> None:
    """Prints a JSON object: name -> rate, or absent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU seconds a peer, at least (default: 0.5)")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    said, sys.stdout = sys.stdout, sys.stderr  # some of them print
    told = {name: measured(name, asked.seconds) for name in PEERS}
    json.dump(told, said)


if __name__ == "__main__":
    main()
