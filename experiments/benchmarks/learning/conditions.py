"""Regret where life is harder: late rewards, drift, actions that are away, many actions; and what many of them cost.

    python experiments/benchmarks/learning/conditions.py --json experiments/benchmarks/learning/conditions.json

Five parts, of which --only picks some. One core, some eight minutes; --quick half a minute. Writes the tables (.md) and
two pictures (drift.png, cost.png) beside the JSON. A run that was cut short goes on where it stopped.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cells import Cells, rounded
from cost import ACTIONS, COLUMNS, costs, exponent
from figures import drifts, growth
from learner import Course, Run, learn, mean_interval, worth
from many import many_actions

from envs.batch import BatchMomentEnv
from envs.dynamics.delays import Delays
from envs.dynamics.drift import Drift
from envs.oracle import FixedOrder
from nba.pack_file import load_pack

HERE = Path(__file__).parent
MOMENTS = {"tone_tuner": "support", "abandoned_cart": "retail", "disruption": "travel"}
TOLD = (1_000, 10_000, 100_000)  # decisions
LAGS = {
    "all, at once": None,
    "in the window, lag 0": 0,
    "in the window, lag 1,000": 1_000,
    "in the window, lag 10,000": 10_000,
}
ASLEEP = (0.0, 0.02, 0.2, 0.5)  # chance that an action is away
HALF_LIVES = (None, 50_000, 10_000)  # rounds
BIN = 2_500  # decisions of a figure of the drift's curve
EVERY = 1_000  # decisions between two updates at most where the truth drifts, so that it moves little in between


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    kinds: tuple[str, ...]
    moments: tuple[str, ...]
    seeds: int
    decisions: int
    drifting: int  # decisions where the truth drifts; it begins after the first third
    contexts: int  # over which a true value is averaged
    actions: tuple[int, ...]
    wide_until: int  # actions up to which `decisions` are made; a tenth of them beyond
    timed_kinds: tuple[str, ...]
    timed_columns: tuple[int, ...]


WHOLE = Size(
    kinds=("linear+thompson", "linear+square_cb"),
    moments=tuple(MOMENTS),
    seeds=3,
    decisions=100_000,
    drifting=45_000,
    contexts=5_000,
    actions=(10, 30, 100, 300, 1_000),
    wide_until=100,
    timed_kinds=("linear+square_cb", "linear+thompson", "rff+thompson", "ensemble+thompson"),
    timed_columns=(10, 30, 100, 300),
)
QUICK = Size(
    kinds=("linear+thompson",),
    moments=("tone_tuner",),
    seeds=1,
    decisions=2_000,
    drifting=7_500,
    contexts=500,
    actions=(10, 30),
    wide_until=10,
    timed_kinds=("linear+square_cb",),
    timed_columns=(10, 30),
)


def environment(moment: str, **settings: Any) -> BatchMomentEnv:
    """One of the moments."""
    return BatchMomentEnv(load_pack(MOMENTS[moment]), moment, **settings)


def told(run: Run, env: BatchMomentEnv, size: Size) -> dict[str, Any]:
    """Mean regret so far and the value then, as shares of the oracle's, after each number of decisions kept."""
    batch = env.sample(size.contexts, np.random.default_rng(0))
    return {
        "regret": {str(mark): rounded(run.regret(mark)) for mark in run.at},
        "value": {str(mark): rounded(worth(p, env, batch.contexts, batch.mask)) for mark, p in run.at.items()},
    }


def marks_of(decisions: int) -> tuple[int, ...]:
    """Decisions after which a course is told; the last is one."""
    return tuple(sorted({*(mark for mark in TOLD if mark < decisions), decisions}))


def course_of(env: BatchMomentEnv, kind: str, seed: int, decisions: int, size: Size, course: Course) -> dict[str, Any]:
    """A policy's course in an environment, told after 1,000, 10,000, ... decisions."""
    marks = marks_of(decisions)
    return told(learn(kind, env, decisions, rng=np.random.default_rng(seed), marks=marks, course=course), env, size)


def late(size: Size, cells: Cells) -> dict[str, dict[str, list[Any]]]:
    """Rewards that come late or never: condition -> kind -> figures by moment and seed."""

    def one(lag: int | None, kind: str, moment: str, seed: int) -> dict[str, Any]:
        env = environment(moment)
        course = Course() if lag is None else Course(Delays.of(env.plan), lag)
        return course_of(env, kind, seed, size.decisions, size, course)

    return {
        name: _each(size, cells, ("late", name), lambda *key, lag=lag: one(lag, *key)) for name, lag in LAGS.items()
    }


def asleep(size: Size, cells: Cells) -> dict[str, dict[str, list[Any]]]:
    """Actions that are away with some chance; the oracle is the best of those that are there."""

    def one(chance: float, kind: str, moment: str, seed: int) -> dict[str, Any]:
        return course_of(environment(moment, sleeping=chance), kind, seed, size.decisions, size, Course())

    return {
        f"away {chance:.0%}": _each(size, cells, ("asleep", chance), lambda *key, chance=chance: one(chance, *key))
        for chance in ASLEEP
    }


def _each(
    size: Size, cells: Cells, condition: tuple[Any, ...], one: Callable[[str, str, int], Any]
) -> dict[str, list[Any]]:
    """Kind -> figures by seed, each the mean of the moments: an interval over seeds is not one over moments."""
    made = {}
    for kind in size.kinds:
        made[kind] = [
            averaged(
                [
                    cells.get((*condition, kind, m, seed, size.decisions), partial(one, kind, m, seed))
                    for m in size.moments
                ]
            )
            for seed in range(size.seeds)
        ]
        print(*condition, kind, _last(made[kind]), flush=True)
    return made


def averaged(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Figures of several moments, averaged."""
    return {what: {at: float(np.mean([run[what][at] for run in runs])) for at in runs[0][what]} for what in runs[0]}


def drift(size: Size, cells: Cells) -> dict[str, dict[str, dict[str, list[float]]]]:
    """A truth that moves after a third of the decisions: drift -> kind and half-life -> regret by bin, by seed."""
    begins = size.drifting // 3
    forms = {
        "none": None,
        "sudden": Drift("sudden", begins, size=1.0),
        "gradual": Drift("gradual", begins, over=begins, size=1.0),
        "seasonal": Drift("seasonal", begins, over=begins, size=1.0),
    }
    made: dict[str, dict[str, Any]] = {}
    for name, form in forms.items():
        for kind in size.kinds:
            for half_life in HALF_LIVES:
                label = f"{kind}, " + ("remembers all" if half_life is None else f"half-life {half_life:,}")
                runs = [
                    np.mean(
                        [
                            cells.get(
                                ("drift", name, kind, half_life, m, seed, size.drifting),
                                partial(_drifting, form, kind, half_life, m, seed, size),
                            )
                            for m in size.moments
                        ],
                        axis=0,
                    ).tolist()
                    for seed in range(size.seeds)
                ]
                made.setdefault(name, {})[label] = runs
                print("drift", name, label, f"{np.mean([run[-1] for run in runs]):.1%}", flush=True)
    return made


def _drifting(form: Drift | None, kind: str, half_life: int | None, moment: str, seed: int, size: Size) -> list[float]:
    env = environment(moment, drift=form)
    rng, settings = np.random.default_rng(seed), {} if half_life is None else {"half_life": float(half_life)}
    run = learn(kind, env, size.drifting, rng=rng, settings=settings, course=Course(most=EVERY))
    return [rounded(run.regret(start + BIN, start)) for start in range(0, size.drifting - BIN + 1, BIN)]


def actions(size: Size, cells: Cells) -> dict[str, dict[str, list[Any]]]:
    """More and more actions, all always there: actions -> kind -> figures by seed, with what needs no learning."""
    made: dict[str, dict[str, list[Any]]] = {}
    for k in size.actions:
        decisions = size.decisions if k <= size.wide_until else size.decisions // 10
        of = made.setdefault(f"{k:,} actions", {})
        fixed = cells.get(("actions", k, "context-free"), lambda k=k: _fixed(many_actions(k), size))  # type: ignore[misc]
        always = dict.fromkeys(map(str, marks_of(decisions)), fixed)
        of["context-free"] = [{"regret": dict.fromkeys(always, rounded(1 - fixed)), "value": always}]
        for kind in ("uniform", *size.kinds):
            of[kind] = [
                cells.get(
                    ("actions", k, kind, seed, decisions),
                    lambda k=k, kind=kind, s=seed, n=decisions: course_of(  # type: ignore[misc]
                        many_actions(k), kind, s, n, size, Course(most=2_000)
                    ),
                )
                for seed in range(size.seeds)
            ]
        print("actions", k, {kind: _last(runs) for kind, runs in of.items()}, flush=True)
    return made


def _fixed(env: BatchMomentEnv, size: Size) -> float:
    """The value of the one best action, as a share of the oracle's."""
    batch = env.sample(size.contexts, np.random.default_rng(0))
    best = int(env.expected_rewards(batch.contexts).mean(axis=0).argmax())
    order = FixedOrder((best, 0))
    return rounded(worth(order, env, batch.contexts, batch.mask))


def cost(size: Size, cells: Cells) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Microseconds over actions and over columns: over -> what -> kind -> size."""
    grown = {
        f"actions, of {COLUMNS} columns": [(k, k, COLUMNS) for k in size.actions],
        f"columns, of {ACTIONS} actions": [(d, ACTIONS, d) for d in size.timed_columns],
    }
    made: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for over, sizes in grown.items():
        for kind in size.timed_kinds:
            for shown, k, d in sizes:
                found = cells.get(("cost", kind, k, d), lambda kind=kind, k=k, d=d: costs(kind, k, d))  # type: ignore[misc]
                for what, microseconds in found.items():
                    made.setdefault(over, {}).setdefault(what, {}).setdefault(kind, {})[str(shown)] = microseconds
            print("cost", over, kind, flush=True)
    return made


def course_table(title: str, figures: Mapping[str, Mapping[str, Sequence[Any]]]) -> str:
    """Mean regret to and value at each number of decisions, means with intervals over runs, as Markdown."""
    marks = sorted({int(m) for of in figures.values() for runs in of.values() for m in runs[0]["value"]})
    titles = [f"{what} {mark:,}" for mark in marks for what in ("regret to", "value at")]
    lines = [f"| {title} | | " + " | ".join(titles) + " |", "|---" * (2 + len(titles)) + "|"]
    for name, of in figures.items():
        for kind, runs in of.items():
            cells = [_shown(runs, what, mark) for mark in marks for what in ("regret", "value")]
            lines.append(f"| {name} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(runs: Sequence[Any], what: str, mark: int) -> str:
    if str(mark) not in runs[0][what]:
        return ""
    return _interval([run[what][str(mark)] for run in runs])


def _last(runs: Sequence[Any]) -> str:
    return _shown(runs, "value", max(int(mark) for mark in runs[0]["value"]))


def drift_table(figures: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> str:
    """Regret in the thirds of the time and in its last bin: before the drift, while it sets in, after."""
    lines = [f"| drift | | first third | second third | last third | last {BIN:,} |", "|---" * 6 + "|"]
    for name, of in figures.items():
        for label, runs in of.items():
            each = np.array(runs)
            thirds = [part.mean(axis=1) for part in np.array_split(each, 3, axis=1)] + [each[:, -1]]
            cells = [_interval(values) for values in thirds]
            lines.append(f"| {name} | {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _interval(values: Sequence[float]) -> str:
    mean, low, _ = mean_interval(values)
    return f"{mean:.1%}" + ("" if np.isnan(low) else f" ± {100 * (mean - low):.1f}")


def cost_table(figures: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> str:
    """Microseconds by size, and the exponent of growth from the middle size to the largest."""
    parts = []
    for over, whats in figures.items():
        for what, kinds in whats.items():
            sizes = list(next(iter(kinds.values())))
            lines = [f"| {what} by {over} | " + " | ".join(f"{int(s):,}" for s in sizes) + " | exponent |"]
            lines.append("|---" * (2 + len(sizes)) + "|")
            for kind, of in kinds.items():
                shown = " | ".join(f"{us:,.0f}" for us in of.values())
                lines.append(f"| {kind} | {shown} | {exponent(dict(of)):.2f} |")
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


PARTS: dict[str, Callable[[Size, Cells], Any]] = {
    "late": late,
    "asleep": asleep,
    "drift": drift,
    "actions": actions,
    "cost": cost,
}


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(PARTS), action="append")
    parser.add_argument(
        "--kind", action="append", help="of policy, in all parts but cost; two of linear values without"
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="figures, kept as they come; .md and pictures are written beside it")
    asked = parser.parse_args()
    size = QUICK if asked.quick else WHOLE
    size = replace(size, kinds=tuple(asked.kind or size.kinds))
    cells = Cells(asked.json, [HERE / name for name in ("learner.py", "many.py", "cost.py")])
    found = {part: PARTS[part](size, cells) for part in asked.only or PARTS}
    cells.save()
    tables = [course_table(part, found[part]) for part in ("late", "asleep", "actions") if part in found]
    tables += [drift_table(found["drift"])] if "drift" in found else []
    tables += [cost_table(found["cost"])] if "cost" in found else []
    text = "\n\n".join(tables) + f"\n\n{cells.seconds:.0f} CPU seconds\n"
    print("\n" + text)
    if asked.json:
        _write(asked.json, text, found)


def _write(path: Path, text: str, found: Mapping[str, Any]) -> None:
    path.with_suffix(".md").write_text(text)
    if "drift" in found:
        means = {
            name: {label: list(np.mean(runs, axis=0)) for label, runs in of.items()}
            for name, of in found["drift"].items()
        }
        drifts(means, BIN).savefig(path.with_name("drift.png"), dpi=100)
    if "cost" in found:
        growth(found["cost"]).savefig(path.with_name("cost.png"), dpi=100)


if __name__ == "__main__":
    main()
