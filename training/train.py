"""One training run: learn, record it in MLflow, register what came out as the pack's next version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from nba.home import Home
from nba.pack import Pack
from nba.snapshot import Snapshot
from training import plots
from training.learn import Learned, Settings, from_rounds, from_simulator
from training.tracking import CHAMPION, Run, Tracking, Version
from training.truth import Playground
from training.versions import load, register
from training.window import Split, Window


def train_without_rounds(home: Home, tracking: Tracking, pack: Pack, kind: str) -> Version:
    """A version that has learned nothing: `uniform`, `rules`, or any kind at its start. Where a new pack begins."""
    with tracking.run(pack.pack, f"train {kind}") as run:
        return record(home, run, pack, from_rounds(pack, kind, {}), {"source": "none"}, {})


def train_in_simulator(
    home: Home,
    tracking: Tracking,
    pack: Pack,
    kind: str,
    simulated: Mapping[str, Playground],
    *,
    rounds: int,
    seed: int,
    settings: Settings | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> Version:
    """A version learned by playing `rounds` rounds of each moment. Raises as `from_simulator` does."""
    with tracking.run(pack.pack, f"train {kind} in the simulator") as run:
        learned = from_simulator(pack, kind, simulated, rounds=rounds, seed=seed, settings=settings, on_step=on_step)
        told = {"seed": str(seed), "rounds": str(sum(learned.rounds.values())), "settings": _told(settings)}
        return record(home, run, pack, learned, {"source": "simulator", **told}, simulated)


def train_on_log(
    home: Home,
    tracking: Tracking,
    pack: Pack,
    kind: str,
    window: Window,
    *,
    split: Split,
    prior: Version | None,
    settings: Settings | None = None,
    parent: Run | None = None,
    tags: Mapping[str, str] | None = None,
) -> Version:
    """A version learned from a window of the log, on top of what `prior` knows (see `prior_of`).

    The same window, kind, split, prior, settings and tags give the version that is there already.
    Raises UnknownKindError, SettingError.
    """
    own = {**split.tags(), "prior": prior.version if prior else "", "settings": _told(settings), **(tags or {})}
    lineage = {"source": "log", **window.tags(), **own}
    same = {"window": window.digest, **own}
    found = tracking.find(pack.pack, kind=kind, pack_digest=pack.digest, **same)
    if found is not None:
        return found
    with tracking.run(pack.pack, f"train {kind} on the log", parent=parent, tags=tags) as run:
        learn_from, _ = window.split(split)
        before: Snapshot | None = load(home, tracking, prior, pack) if prior else None
        learned = from_rounds(pack, kind, learn_from, previous=before, settings=settings)
        return record(home, run, pack, learned, lineage, {})


def prior_of(tracking: Tracking, pack: Pack, window: Window) -> Version | None:
    """The champion, or the version it was built on, or the one before, that has not learned from this window."""
    lineage: list[Version] = []
    version = tracking.aliased(pack.pack, CHAMPION)
    while version is not None:
        lineage.append(version)
        before = version.tags.get("prior")
        version = tracking.version(pack.pack, before) if before else None
    usable = None
    for version in reversed(lineage):
        if not _is_before(version, window) or version.tags.get("pack_digest") != pack.digest:
            break
        usable = version
    return usable


def record(
    home: Home,
    run: Run,
    pack: Pack,
    learned: Learned,
    tags: Mapping[str, str],
    simulated: Mapping[str, Playground],
) -> Version:
    """Logs what was learned to a run, curve and pictures included, and registers it."""
    run.params({"kind": learned.kind, "pack_version": pack.version, "pack_digest": pack.digest, **tags})
    for moment, rounds in learned.rounds.items():
        run.metrics({f"learned_rounds/{moment}": float(rounds)})
    for step in learned.curve:
        run.metrics({f"value/{step.moment}": step.value}, step=step.rounds)
    if learned.curve:
        yardsticks = {moment: playground.yardsticks for moment, playground in simulated.items()}
        run.figure(plots.learning_curve(learned, yardsticks), "learning_curve")
        for moment, levels in yardsticks.items():
            run.metrics({f"{name}/{moment}": getattr(levels, name) for name in ("uniform", "rules", "oracle")})
    return register(home, run, pack, learned.kind, learned.policies, {**tags, **_notes(learned)}, learned.treatments)


def _is_before(version: Version, window: Window) -> bool:
    """Whether nothing the version learned from, itself, can be in the window."""
    if version.tags.get("source") not in ("log", "follow"):
        return True
    until = version.tags.get("until")
    return window.since is not None and until is not None and datetime.fromisoformat(until) <= window.since


def _told(settings: Settings | None) -> str:
    return " ".join(f"{name}={value:g}" for name, value in sorted((settings or {}).items()))


def _notes(learned: Learned) -> dict[str, str]:
    return {f"note.{moment}": note for moment, note in learned.notes.items()}
