"""What whole sessions earn: policies learned step by step, by playing sessions, and from logs of the uniform policy.

    python experiments/benchmarks/learning/sessions.py --json sessions.json --plot sessions.png

Groups of rows, of which --only picks some:

    levels    uniform, the pack's rules, the planner (the oracle) and the bound that no policy passes
    bandits   linear+thompson, learned by playing: from the reward of each step, and from the reward to go
    rl        PPO and DQN of RLlib, by playing
    offline   return to go, fitted Q and implicit Q from logs of the uniform policy, 65,000 and 430,000 steps; behaviour
              cloning from logs of the planner that acts evenly in a fifth of all steps, whose value is a level above

Each value is the mean over seeds, with the least and the most of them; CPU seconds are those of learning. One core; the
whole takes two hours, --quick a minute. Rows of --json that a run does not measure stay as they are.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from envs.batch_session import BatchSessionEnv
from envs.session_play import play, session_oracle
from nba.home import Home
from nba.pack_file import load_pack
from nba.policies import KINDS
from nba.policies.uniform import Uniform
from nba.types import ActionMask, Contexts, Distribution, Policy
from training.learn import batches
from training.offline import LEARNERS
from training.offline.episodes import LoggedEpisodes
from training.offline.fitting import Fitting
from training.truth import SimulatedSession, no_rounds

SESSIONS = {"service_conversation": "support", "shopping_journey": "retail", "month_of_contacts": "media"}
GROUPS = ("levels", "bandits", "rl", "offline")
GOALS = {65_000: 0.55, 430_000: 0.75}  # of the way from uniform to the planner, offline
TRUTH_SEED = 1_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    moments: tuple[str, ...] = tuple(SESSIONS)
    steps: tuple[int, ...] = tuple(GOALS)  # of an offline log
    learners: tuple[str, ...] = tuple(LEARNERS)
    seeds: int = 3
    sessions: int = 10_000  # over which a true value is averaged
    bandit_steps: int = 430_000
    rl_steps: int | None = None  # None: as many as the algorithm usually takes
    fitting: Fitting = field(default_factory=Fitting)


QUICK = Size(
    moments=("service_conversation",),
    steps=(3_000,),
    seeds=1,
    sessions=500,
    bandit_steps=3_000,
    rl_steps=5_000,
    fitting=Fitting(members=1, hidden=16, epochs=3),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One way to learn, on one session; a figure a seed."""

    moment: str
    group: str
    name: str
    steps: int | None  # learned from
    values: list[float]  # reward units a session
    shares: list[float]  # of the way from uniform (0) to the planner (1)
    cpu_seconds: list[float]  # of learning

    @property
    def of(self) -> tuple[str, str, str, int]:
        """What the row is about; two of the same are two measurements of one thing."""
        return self.moment, self.group, self.name, self.steps or 0


def learned(size: Size, moment: str, only: tuple[str, ...]) -> Iterator[Row]:
    """The rows of one session, each as soon as it is there."""
    playground = SimulatedSession(BatchSessionEnv(load_pack(SESSIONS[moment]), moment), TRUTH_SEED, size.sessions)
    low, high = playground.yardsticks.uniform, playground.yardsticks.oracle

    def row(group: str, name: str, steps: int | None, seeds: list[tuple[float, float]]) -> Row:
        values = [value for value, _ in seeds]
        shares = [(value - low) / (high - low) for value in values]
        return Row(moment, group, name, steps, values, shares, [seconds for _, seconds in seeds])

    if "levels" in only:
        oracle = session_oracle(playground.env)
        levels = {
            "uniform": low,
            "rules": playground.yardsticks.rules,
            "what bc learns from": playground.value(Mixed(oracle.planner)),
            "planner": high,
            "bound": oracle.bound,
        }
        for name, value in levels.items():
            yield row("levels", name, None, [(value, 0.0)])
    if "bandits" in only:
        for name, to_go in (("linear+thompson, myopic", False), ("linear+thompson, to go", True)):
            seeds = [bandit(playground, size.bandit_steps, seed, to_go=to_go) for seed in range(size.seeds)]
            yield row("bandits", name, size.bandit_steps, seeds)
    if "rl" in only:
        for name in ("ppo", "dqn"):
            seeds, steps = zip(*(rl(playground, name, size, seed) for seed in range(size.seeds)), strict=True)
            yield row("rl", name, steps[0], list(seeds))
    if "offline" in only:
        for steps in size.steps:
            for name in size.learners:
                seeds = [offline(playground, name, steps, size.fitting, seed) for seed in range(size.seeds)]
                yield row("offline", name, steps, seeds)


def bandit(playground: SimulatedSession, steps: int, seed: int, *, to_go: bool) -> tuple[float, float]:
    """Value and CPU seconds of a bandit that plays, learns, plays on; from rewards to go or of the step alone."""
    plan, env, rng = playground.plan, playground.env, np.random.default_rng(seed)
    policy: Any = KINDS["linear+thompson"].fit(plan, no_rounds(plan.width, len(plan.action_ids)))
    seconds = 0.0
    for size in batches(steps):
        played = play(policy, env, sessions=max(1, 2 * size // env.law.steps), rng=rng)
        rounds = replace(played.rounds, rewards=played.to_go()) if to_go else played.rounds
        (policy, spent) = timed(lambda rounds=rounds, before=policy: KINDS["linear+thompson"].fit(plan, rounds, before))
        seconds += spent
    return playground.value(policy), seconds


def rl(playground: SimulatedSession, name: str, size: Size, seed: int) -> tuple[tuple[float, float], int]:
    """Value and CPU seconds of RLlib's algorithm, and about how many steps it played."""
    from training.rl.session import train_session
    from training.rl.settings import ALGORITHMS, SessionTraining
    from training.tracking import Tracking
    from training.versions import load

    algorithm, pack = ALGORITHMS[name](), playground.plan.pack
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.mlflow.mkdir(parents=True)
        tracking = Tracking.of(home)
        told = SessionTraining(algorithm, steps=size.rl_steps or algorithm.steps, seed=seed)
        done = train_session(home, tracking, pack, told)
        policy = load(home, tracking, done.version, pack).policies[playground.plan.name]
    return (playground.value(policy), done.cpu_seconds), told.steps


def offline(playground: SimulatedSession, name: str, steps: int, fitting: Fitting, seed: int) -> tuple[float, float]:
    """Value and CPU seconds of an offline learner on a log of about so many uniform steps."""
    behaviour = Mixed(session_oracle(playground.env).planner) if name == "bc" else Uniform()
    episodes = logged(playground, behaviour, steps, seed)
    network, seconds = timed(lambda: LEARNERS[name](episodes, replace(fitting, seed=seed)))
    return playground.value(network), seconds


@dataclass(frozen=True, slots=True)
class Mixed:
    """Another policy, but for a share of steps in which it acts evenly."""

    other: Policy
    even: float = 0.2

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        uniform = Uniform().distribution(contexts, mask)
        return (1.0 - self.even) * self.other.distribution(contexts, mask) + self.even * uniform


def logged(playground: SimulatedSession, behaviour: Policy, steps: int, seed: int) -> LoggedEpisodes:
    """Sessions of this behaviour, about so many steps of them."""
    rng = np.random.default_rng([seed, steps])
    some = play(behaviour, playground.env, sessions=200, rng=rng)
    sessions = max(1, round(steps * some.sessions / len(some.rounds)))
    return LoggedEpisodes.of_played(play(behaviour, playground.env, sessions=sessions, rng=rng))


def timed(learn: Callable[[], Policy]) -> tuple[Policy, float]:
    """What was learned, and the CPU seconds it took."""
    began = time.process_time()
    return learn(), time.process_time() - began


def read(path: Path | None) -> list[Row]:
    """The rows of a file; none where there is no file."""
    if path is None or not path.exists():
        return []
    return [Row(**row) for row in json.loads(path.read_text())["rows"]]


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Session by session, group by group, in each as measured first."""
    return sorted(rows, key=lambda row: (list(SESSIONS).index(row.moment), GROUPS.index(row.group)))


def table(rows: list[Row]) -> str:
    """What was found as Markdown: a row a way to learn, a column a session."""
    moments = list(dict.fromkeys(row.moment for row in rows))
    lines = ["| | steps | " + " | ".join(moments) + " | CPU s |", "|---" * (3 + len(moments)) + "|"]
    for group, name, steps in dict.fromkeys((row.group, row.name, row.steps) for row in rows):
        of = {row.moment: row for row in rows if (row.group, row.name, row.steps) == (group, name, steps)}
        cells = [_cell(of[moment]) if moment in of else "not run" for moment in moments]
        seconds = [second for row in of.values() for second in row.cpu_seconds]
        spent = f"{min(seconds):.0f} to {max(seconds):.0f}" if group != "levels" else ""
        lines.append(f"| {name} | {f'{steps:,}' if steps else ''} | " + " | ".join([*cells, spent]) + " |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    value, share = np.mean(row.values), np.mean(row.shares)
    if len(row.values) == 1:
        return f"{value:.3f} ({share:.0%})"
    return f"{value:.3f} ({share:.0%}, {min(row.shares):.0%} to {max(row.shares):.0%})"


def draw(rows: list[Row], path: Path) -> None:
    """Shares of the way from uniform to the planner, a panel a session."""
    moments = list(dict.fromkeys(row.moment for row in rows))
    figure, panels = plt.subplots(1, len(moments), figsize=(1.5 + 3.6 * len(moments), 5), sharey=True, squeeze=False)
    for panel, moment in zip(panels[0], moments, strict=True):
        of = [row for row in rows if row.moment == moment and row.name not in ("uniform", "planner")]
        middle = np.array([np.mean(row.shares) for row in of])
        error = np.abs(np.array([[min(row.shares), max(row.shares)] for row in of]).reshape(-1, 2).T - middle)
        colors = ["#d95f02" if row.group == "offline" else "#3182bd" for row in of]
        labels = [f"{row.name}, {row.steps:,}" if row.steps else row.name for row in of]
        panel.barh(range(len(of)), middle, xerr=error, color=colors)
        panel.set_yticks(range(len(of)), labels)
        panel.axvline(1.0, color="black", linewidth=0.8)
        panel.set(title=moment, xlabel="of the way from uniform to the planner")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Measures, prints, writes after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=GROUPS, action="append", help="all without")
    parser.add_argument("--moment", choices=SESSIONS, action="append")
    parser.add_argument("--learner", choices=LEARNERS, action="append", help="offline")
    parser.add_argument("--steps", type=int, action="append", help="of an offline log")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    told = parser.parse_args()
    size = QUICK if told.quick else Size()
    size = replace(
        size,
        moments=tuple(told.moment or size.moments),
        learners=tuple(told.learner or size.learners),
        steps=tuple(told.steps or size.steps),
        seeds=told.seeds or size.seeds,
    )
    machine = f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"
    found = {row.of: row for row in read(told.json)}
    for moment in size.moments:
        for row in learned(size, moment, tuple(told.only or GROUPS)):
            found[row.of] = row
            seconds = f"{np.mean(row.cpu_seconds):.0f} CPU s"
            print(f"{moment:22s} {row.name:24s} {row.steps or '':>9} {_cell(row)} {seconds}", flush=True)
            if told.json:
                kept = [asdict(r) for r in ordered(found.values())]
                told.json.write_text(json.dumps({"machine": machine, "rows": kept}, indent=1) + "\n")
    rows = ordered(found.values())
    print(f"\n{table(rows)}\n\n{machine}")
    if told.plot:
        draw(rows, told.plot)


if __name__ == "__main__":
    main()
