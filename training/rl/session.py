"""Learning whole sessions with RLlib: one run, which goes on where it was when it was killed, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import numpy as np

from envs import SESSION_IDS
from envs.batch_session import BatchSessionEnv
from envs.session_play import play
from envs.sessions import SESSIONS
from nba.errors import UnknownMomentError
from nba.home import Home
from nba.pack import Pack
from nba.policies.network import Network
from nba.policies.uniform import Uniform
from training.learn import Step
from training.rl.checkpoints import Checkpoints
from training.rl.cluster import cluster
from training.rl.settings import PPO, SessionTraining
from training.tracking import Run, Tracking, Version
from training.train import record_sessions
from training.truth import SimulatedSession

JUDGED = 4_000  # sessions that every policy is measured over
LOOKED_AT = 500  # sessions by which contexts are standardised
LEAST_SCALE = 0.1  # of a column of contexts: one that never varies stays as it is
CURVE = 10  # points of a learning curve

FIGURES = {  # what RLlib tells of an iteration, and what MLflow calls it
    "entropy": "entropy",
    "mean_kl_loss": "kl",
    "policy_loss": "policy_loss",
    "vf_loss": "value_loss",
    "vf_explained_var": "value_explained",
    "qf_loss": "q_loss",
    "qf_mean": "q_mean",
    "td_error_mean": "td_error",
}


@dataclass(frozen=True, slots=True)
class SessionVersion:
    """What a run came to: the version, and its policy's worth beside others', in reward units a session."""

    version: Version
    moment: str
    steps: int
    cpu_seconds: float  # of learning, in this process
    uniform: float
    rules: float
    learned: float
    planner: float
    bound: float  # no policy over contexts earns more

    def part(self, name: str) -> float:
        """How far the value of that name lies on the way from uniform (0) to the planner (1)."""
        value: float = getattr(self, name)
        return (value - self.uniform) / (self.planner - self.uniform)


@dataclass(slots=True)
class Progress:
    """How far a run is; kept in each checkpoint."""

    steps: int = 0
    iterations: int = 0
    cpu_seconds: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)  # steps, true value a session


def session_moment(pack: Pack) -> str:
    """The moment of the pack that is a session. Raises UnknownMomentError."""
    found = next((moment for moment in pack.moments if moment in SESSIONS), None)
    if found is None:
        raise UnknownMomentError(
            f"pack {pack.pack!r} has no session that simulated customers play", help=f"there are: {', '.join(SESSIONS)}"
        )
    return found


def train_session(
    home: Home,
    tracking: Tracking,
    pack: Pack,
    told: SessionTraining,
    *,
    address: str | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> SessionVersion:
    """Learns the pack's session with RLlib, records every iteration, and registers the pack with it as the challenger.

    All else in the pack is the champion's.

    A run that was killed goes on from its last checkpoint when it is started again with the same arguments.
    `on_step` is told the steps so far. Raises UnknownMomentError, UnavailableError.
    """
    moment = session_moment(pack)
    checkpoints = Checkpoints.of(home.path / "sessions", pack.digest, moment, told)
    playground = SimulatedSession(BatchSessionEnv(pack, moment), told.seed, sessions=JUDGED)
    with _run(tracking, pack, checkpoints, told) as run:
        network, progress = _learn(run, checkpoints, playground, told, address, on_step)
        curve = tuple(Step(moment, steps, value) for steps, value in progress.curve)
        version = record_sessions(
            home,
            run,
            pack,
            {moment: network},
            {moment: progress.steps},
            _tags(told, progress),
            curve=curve,
            simulated={moment: playground},
        )
        levels, bound = playground.yardsticks, playground.oracle.bound
        value = playground.value(network)
        run.metrics({f"learned/{moment}": value, f"bound/{moment}": bound})
    checkpoints.remove()
    spent = progress.steps, progress.cpu_seconds
    return SessionVersion(version, moment, *spent, levels.uniform, levels.rules, value, levels.oracle, bound)


def _run(
    tracking: Tracking, pack: Pack, checkpoints: Checkpoints, told: SessionTraining
) -> AbstractContextManager[Run]:
    """The MLflow run of before where these arguments were started before, else a new one."""
    run_id = checkpoints.run_id()
    return _started(tracking, pack, checkpoints, told) if run_id is None else tracking.resume(pack.pack, run_id)


@contextmanager
def _started(tracking: Tracking, pack: Pack, checkpoints: Checkpoints, told: SessionTraining) -> Iterator[Run]:
    with tracking.run(pack.pack, f"learn sessions by {_name(told)}") as run:
        checkpoints.begin(run.run_id)
        yield run


def _learn(
    run: Run,
    checkpoints: Checkpoints,
    playground: SimulatedSession,
    told: SessionTraining,
    address: str | None,
    on_step: Callable[[int], None],
) -> tuple[Network, Progress]:
    """The network after all steps, from the last checkpoint on."""
    env, moment = playground.env, playground.plan.name
    env_id = next(name for name, (_, of) in SESSION_IDS.items() if of == moment)
    with cluster(address, cpus=told.runners + 1):
        from training.rl.config import configured  # once the cluster has set up Ray

        config = configured(told, env_id, {"pack": playground.plan.pack}, env.law.steps, standard(env, told.seed))
        algorithm = config.build_algo()
        try:
            progress = _restored(algorithm, checkpoints)
            while not _is_done(progress, told):
                _iterate(run, algorithm, progress)
                _look(progress, told, lambda: playground.value(_network(algorithm, told)))
                if progress.iterations % told.checkpoint_every == 0:
                    run.flush()
                    checkpoints.save(progress.iterations, asdict(progress), algorithm.save_to_path)
                on_step(progress.steps)
            return _network(algorithm, told), progress
        finally:
            algorithm.stop()


def standard(env: BatchSessionEnv, seed: int) -> dict[str, list[float]]:
    """Mean and standard deviation of each column of contexts, over sessions of the uniform policy."""
    contexts = play(Uniform(), env, sessions=LOOKED_AT, rng=np.random.default_rng(seed)).rounds.contexts
    scale = np.maximum(contexts.std(axis=0), LEAST_SCALE)
    return {"mean": contexts.mean(axis=0).tolist(), "scale": scale.tolist()}


def _restored(algorithm: Any, checkpoints: Checkpoints) -> Progress:
    last = checkpoints.last(Progress)
    if last is None:
        return Progress()
    folder, progress = last
    algorithm.restore_from_path(str(folder))
    return progress


def _is_done(progress: Progress, told: SessionTraining) -> bool:
    budget = told.budget_cpu_seconds
    return progress.steps >= told.steps or (budget is not None and progress.cpu_seconds >= budget)


def _iterate(run: Run, algorithm: Any, progress: Progress) -> None:
    """One iteration of RLlib, and what it tells."""
    began = time.process_time()
    result = algorithm.train()
    progress.cpu_seconds += time.process_time() - began
    progress.iterations += 1
    sampled, learned = result["env_runners"], result.get("learners", {}).get("default_policy", {})
    progress.steps = int(sampled["num_env_steps_sampled_lifetime"])
    figures = {ours: float(learned[theirs]) for theirs, ours in FIGURES.items() if theirs in learned}
    figures |= {"return": sampled["episode_return_mean"], "session_steps": sampled["episode_len_mean"]}
    figures |= {"steps": progress.steps, "cpu_seconds": progress.cpu_seconds}
    run.metrics(figures, step=progress.steps)


def _look(progress: Progress, told: SessionTraining, value: Callable[[], float]) -> None:
    """Adds a point to the curve whenever another part of the steps is done."""
    part = told.steps / CURVE
    if not progress.curve or progress.steps // part > progress.curve[-1][0] // part:
        progress.curve.append((progress.steps, value()))


def _network(algorithm: Any, told: SessionTraining) -> Network:
    found: Network = algorithm.get_module().network(temperature=told.served_temperature, floor=told.floor)
    return found


def _tags(told: SessionTraining, progress: Progress) -> dict[str, str]:
    return {
        "source": "simulator",
        "algorithm": _name(told),
        "seed": str(told.seed),
        "steps": str(progress.steps),
        "cpu_seconds": f"{progress.cpu_seconds:.1f}",
        "settings": msgspec.json.encode(told.algorithm).decode(),
    }


def _name(told: SessionTraining) -> str:
    return "ppo" if isinstance(told.algorithm, PPO) else "dqn"
