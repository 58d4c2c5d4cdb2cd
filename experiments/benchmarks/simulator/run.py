"""How fast the simulator is: decisions a second on one core, and ratios to others measured beside it in the same run.

    python experiments/benchmarks/simulator/run.py --json result.json --plots .

Five parts, of which --only picks some:

    ids      every registered environment: scalar, as `gym.make` gives it and unwrapped, and batched at five widths
    others   Gymnasium's SyncVectorEnv, the same content in plain Python, CartPole as a yardstick
    peers    the field's simulators, by the interpreters that --peers-python names (peers.txt says how to make them)
    growth   cost against environments, population and actions, with the exponent of its growth
    rllib    where PPO's time goes, batched against RLlib's own vectorisation

Everything runs on one core, in CPU time, several times over in turn; figures are medians, with the lowest and highest.
A step has its observation, mask, reward and info; its action, drawn evenly among the eligible, is drawn beforehand.
The whole takes about six minutes on a quiet core, --quick a quarter of one without peers and rllib.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import check
import growth
import gymnasium as gym
import plots
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from plain import PLAIN
from tables import say, show
from timing import Rates, Replay, interleaved, ratio, replay, spread

from envs import IDS, SESSION_IDS

HERE = Path(__file__).parent
PARTS = ("ids", "others", "peers", "growth", "rllib")
WIDTHS = (1, 16, 256, 4_096, 16_384)
TYPICAL = 4_096  # the width that goals are held to
GOALS = {"moment": 1_000_000.0, "session": 500_000.0}  # decisions a CPU second on one core
GOAL_RATIO = 50.0  # batched to scalar as made
ENVIRONMENTS = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536)
POPULATIONS = (1, 16, 256, 4_096, 65_536)
MANY = {"moment": (10, 30, 100, 300, 1_000), "session": (10, 30, 100, 300)}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    seconds: float  # CPU seconds of one timed pass, about
    repetitions: int
    ids: tuple[str, ...]
    widths: tuple[int, ...]
    sync: tuple[int, ...]  # environments of a SyncVectorEnv
    episodes: int  # of a plain environment, to compare its content
    environments: tuple[int, ...]
    populations: tuple[int, ...]
    many: dict[str, tuple[int, ...]]
    rounds: int  # of RLlib's learning


WHOLE = Size(0.12, 7, (*IDS, *SESSION_IDS), WIDTHS, (16, 128), 20_000, ENVIRONMENTS, POPULATIONS, MANY, rounds=6)
QUICK = Size(
    0.01,
    3,
    tuple(PLAIN),
    (1, 256, 4_096),
    (4,),
    500,
    (1, 16, 256),
    (1, 256),
    {"moment": (10, 30), "session": (10, 30)},
    rounds=1,
)


def main() -> None:
    """Measures, prints the tables, writes what it was asked to write."""
    asked = _arguments().parse_args()
    if asked.show:
        show(json.loads(asked.show.read_bytes()))
        return
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {asked.core if asked.core is not None else max(all_cores)})
    size = QUICK if asked.quick else WHOLE
    result = {"quick": asked.quick, "taken": datetime.now(UTC).isoformat(timespec="seconds"), **machine()}
    parts = asked.only or list(PARTS)
    if "ids" in parts or "others" in parts:
        result |= measure_steps(size, parts)
    if "peers" in parts:
        result["peers"] = measure_peers(asked.peers_python or [sys.executable], size)
    if "growth" in parts:
        result["growth"] = measure_growth(size)
    if "rllib" in parts:
        os.sched_setaffinity(0, all_cores)  # Ray's own processes get the other ones
        result["rllib"] = measure_rllib(size)
    say("")
    show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")
    if asked.plots:
        plots.draw(result, asked.plots, GOALS, GOAL_RATIO)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two ids, small sizes: whether it runs, not how fast")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be repeated (default: all)")
    parser.add_argument("--core", type=int, help="the core to run on (default: the last there is)")
    parser.add_argument(
        "--peers-python",
        action="append",
        type=Path,
        metavar="PYTHON",
        help="an interpreter that has some peers; may be repeated (default: this one)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw steps.png and growth.png there")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the tables of a result; measure nothing")
    return parser


def machine() -> dict[str, Any]:
    """What the figures come from."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    names = ("numpy", "gymnasium", "ray", "torch")
    return {
        "machine": {
            "cpu": cpu[0] if cpu else platform.processor(),
            "cores": os.cpu_count(),
            "load_at_start": [round(load, 2) for load in os.getloadavg()],
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in names}},
    }


def measure_steps(size: Size, parts: list[str]) -> dict[str, Any]:
    """Every form of every id and the others, in turn; whether what is written plainly is the same content."""
    makers: dict[str, Callable[[], Any]] = {}
    for id_ in size.ids if "ids" in parts else PLAIN:
        makers |= forms(id_, size.widths)
    if "others" in parts:
        makers |= others(size)
    replays = {}
    for i, (name, make) in enumerate(makers.items()):
        progress(f"recording {name}", i, len(makers))
        replays[name] = replay(make(), seconds=size.seconds)
    rates = interleaved(replays, size.repetitions, lambda i, n: progress("timing, each in turn", i, n))
    told: dict[str, Any] = {}
    if "ids" in parts:
        told["ids"] = {id_: _of_id(id_, size.widths, rates) for id_ in size.ids}
    if "others" in parts:
        widest = min(TYPICAL, size.widths[-1])
        told["others"] = {name: _other(name, widest, rates) for name in rates if name not in _own(size)}
        told["same_content"] = {
            id_: check.compare(
                id_, env := plain(), env.plan, size.episodes if id_ in IDS else size.episodes // 4
            ).told()
            for id_, plain in PLAIN.items()
        }
    return told


def _own(size: Size) -> set[str]:
    return {name for id_ in (*size.ids, *PLAIN) for name in forms(id_, size.widths)}


def forms(id_: str, widths: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """Every form of an id."""
    made: dict[str, Callable[[], Any]] = {
        f"{id_} | as made": partial(gym.make, id_),
        f"{id_} | unwrapped": partial(_unwrapped, id_),
    }
    for n in widths:
        made[f"{id_} | {n}"] = partial(_batched, id_, n)
    if id_ in IDS:
        made[f"{id_} | truth"] = partial(_batched, id_, min(TYPICAL, widths[-1]), expected_rewards=True)
    return made


def _unwrapped(id_: str) -> Any:
    return gym.make(id_).unwrapped


def _batched(id_: str, n: int, **settings: Any) -> Any:
    return gym.make_vec(id_, num_envs=n, vectorization_mode="vector_entry_point", **settings)


def others(size: Size) -> dict[str, Callable[[], Any]]:
    """What the batched form is measured against."""
    made: dict[str, Callable[[], Any]] = {}
    for id_, plain in PLAIN.items():
        mode = AutoresetMode.SAME_STEP if id_ in IDS else AutoresetMode.NEXT_STEP
        for n in size.sync:
            made[f"SyncVectorEnv of {n} {id_}"] = partial(
                SyncVectorEnv, [partial(gym.make, id_)] * n, autoreset_mode=mode
            )
        made[f"plain Python {id_}"] = plain
    made["CartPole-v1, as made"] = partial(gym.make, "CartPole-v1")
    made["CartPole-v1, SyncVectorEnv of 16"] = partial(SyncVectorEnv, [partial(gym.make, "CartPole-v1")] * 16)
    made["CartPole-v1, its vector form, 4,096"] = partial(_batched, "CartPole-v1", TYPICAL)
    return made


def _of_id(id_: str, widths: tuple[int, ...], rates: dict[str, Rates]) -> dict[str, Any]:
    kind = "moment" if id_ in IDS else "session"
    of = {form: rates[f"{id_} | {form}"] for form in ("as made", "unwrapped", *map(str, widths))}
    typical = str(min(TYPICAL, widths[-1]))
    told = {
        "kind": kind,
        "scalar_as_made": of["as made"].told(),
        "scalar_unwrapped": of["unwrapped"].told(),
        "batched": {str(n): of[str(n)].told() for n in widths},
        "times_scalar_as_made": ratio(of[typical], of["as made"]),
        "times_scalar_unwrapped": ratio(of[typical], of["unwrapped"]),
    }
    if kind == "moment":
        told["batched_with_expected_rewards"] = rates[f"{id_} | truth"].told()
    return told | {
        "goal": GOALS[kind],
        "goal_met": told["batched"][typical]["median"] >= GOALS[kind],  # type: ignore[index]
        "ratio_met": told["times_scalar_as_made"]["median"] >= GOAL_RATIO,  # type: ignore[index]
    }


def _other(name: str, widest: int, rates: dict[str, Rates]) -> dict[str, Any]:
    """Its rate, and how many times as fast ours is: batched and, where the content is the same, scalar."""
    told: dict[str, Any] = {"rate": rates[name].told()}
    for id_ in PLAIN:
        if id_ in name:
            told["batched_is_times"] = ratio(rates[f"{id_} | {widest}"], rates[name])
            told["scalar_is_times"] = ratio(rates[f"{id_} | as made"], rates[name])
    if "CartPole" in name:
        told["batched_moment_is_times"] = ratio(rates[f"nba/ToneTuner-v0 | {widest}"], rates[name])
        told["batched_session_is_times"] = ratio(rates[f"nba/ServiceConversation-v0 | {widest}"], rates[name])
    return told


def measure_peers(pythons: list[Path | str], size: Size) -> dict[str, Any]:
    """The field's simulators, and ours again between them, so that the ratios are of the same minutes."""
    ours: dict[str, Replay] = {}
    for id_ in PLAIN:
        ours[f"batched {id_}"] = replay(_batched(id_, TYPICAL), seconds=size.seconds)
        ours[f"scalar {id_}"] = replay(gym.make(id_), seconds=size.seconds)
    rates: dict[str, list[float]] = {}
    told: dict[str, dict[str, Any]] = {}
    beside: dict[str, list[float]] = {form: [] for form in ours}
    repetitions = min(size.repetitions, 5)
    for i in range(repetitions):
        for form, own in ours.items():
            beside[form].append(_rate(own))
        for j, python in enumerate(pythons):
            progress(f"peers of {python}", i * len(pythons) + j, repetitions * len(pythons))
            for name, one in _peers(python, size.seconds).items():
                if "rate" in one:
                    rates.setdefault(name, []).append(one["rate"])
                    told[name] = one
                elif name not in rates and told.get(name, one)["absent"] == "not installed":
                    told[name] = one
    for name, values in rates.items():
        told[name]["rate"] = spread(values)
        for form, own_rates in beside.items():
            told[name][f"{form} is times"] = spread([a / b for a, b in zip(own_rates, values, strict=True)])
    return told


def _rate(own: Replay) -> float:
    return own.decisions / own()[0]


def _peers(python: Path | str, seconds: float) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [str(python), str(HERE / "peers.py"), "--seconds", str(seconds)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: {python} cannot run peers.py\n{done.stderr[-500:]}\nhelp:  peers.txt says what it needs")
    told: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return told


def measure_growth(size: Size) -> dict[str, Any]:
    """Cost of a call of `step` against what may grow."""
    makers: dict[tuple[str, int], Callable[[], Any]] = {}
    for kind, make in (("moment", growth.moment_of), ("session", growth.session_of)):
        for n in size.environments:
            makers[f"{kind}, environments", n] = partial(make, n)
        for n in size.populations:
            makers[f"{kind}, customers of the population", n] = partial(
                make, min(TYPICAL, size.environments[-1]), customers=n
            )
    for k in (2, 4, 7):
        makers["moment, actions of the pack", k] = partial(growth.some_actions, k)
    for k in size.many["moment"]:
        makers["moment, actions of its own law", k] = partial(growth.many_actions, k)
    for k in size.many["session"]:
        makers["session, actions of its own law", k] = partial(growth.many_actions_session, k)
    replays = {}
    for i, ((what, n), make) in enumerate(makers.items()):
        progress(f"recording {what}: {n:,}", i, len(makers))
        replays[f"{what}|{n}"] = replay(make(), seconds=size.seconds)
    rates = interleaved(replays, size.repetitions, lambda i, n: progress("timing growth, each in turn", i, n))
    told: dict[str, Any] = {}
    for what in dict.fromkeys(what for what, _ in makers):
        sizes = [n for name, n in makers if name == what]
        costs = [_us_a_call(replays[f"{what}|{n}"], rates[f"{what}|{n}"]) for n in sizes]
        told[what] = growth.fitted(sizes, costs)
    return told


def _us_a_call(one: Replay, rates: Rates) -> float:
    return 1e6 * one.decisions / rates.told()["median"] / len(one.actions)


def measure_rllib(size: Size) -> dict[str, Any]:
    """PPO with batched and with plain vectorisation, each in a process of its own."""
    told = {}
    for i, how in enumerate(("vector_entry_point", "sync")):
        progress(f"RLlib, {how}", i, 2)
        done = subprocess.run(
            [sys.executable, str(HERE / "rllib.py"), "--vectorise", how, "--rounds", str(size.rounds)],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if done.returncode:
            sys.exit(f"error: RLlib did not run\n{done.stderr[-1_000:]}\nhelp:  leave it out: --only ids --only others")
        told[how] = json.loads(done.stdout)
    return told


def progress(what: str, done: int, of: int) -> None:
    """For people who wait, on the error stream."""
    line = f"[{done + 1}/{of}] {what}"
    if sys.stderr.isatty():
        print(f"\r\033[K{line[:110]}", end="\n" if done + 1 == of else "", file=sys.stderr, flush=True)
    elif done % max(1, of // 8) == 0:
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
