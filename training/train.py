"""One training run: learn, record it in MLflow, register what came out as the pack's next version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from nba.home import Home
from nba.pack import Pack
from nba.policies import KINDS
from nba.policies.network import Network
from nba.snapshot import Snapshot
from nba.types import Policy
from training import plots
from training.learn import Learned, Settings, Step, from_rounds, from_simulator, plans_sessions
from training.prior import PriorError, can_build_on, weighed
from training.targets import DIRECT, Target
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
    prior_weight: float | None = None,
    settings: Settings | None = None,
    target: Target = DIRECT,
    parent: Run | None = None,
    tags: Mapping[str, str] | None = None,
) -> Version:
    """A version learned from a window of the log, on top of what `prior` knows (see `prior_of`).

    With `prior_weight` that counts as so many rounds of each moment, otherwise as the rounds it came from.
    The champion's networks, which plan sessions, stay: the log's rounds neither teach them nor count twice in them.
    The same window, kind, split, prior and its weight, networks, settings, target and tags give the version that is
    there already.
    Raises UnknownKindError, SettingError.
    """
    networks, kept_from = _networks(home, tracking, pack)
    built_on = {"prior": prior.version if prior else "", "networks": kept_from}
    own = {**split.tags(), **built_on, "settings": _told(settings), **(tags or {})}
    if target.method != "direct":
        own["target"] = str(target)
    if prior is not None and prior_weight is not None:
        own["prior_weight"] = f"{prior_weight:g}"
    lineage = {"source": "log", **window.tags(), **own}
    same = {"target": "", "prior_weight": "", "window": window.digest, **own}
    found = tracking.find(pack.pack, kind=kind, pack_digest=pack.digest, **same)
    if found is not None:
        return found
    with tracking.run(pack.pack, f"train {kind} on the log", parent=parent, tags=tags) as run:
        learn_from, _ = window.split(split)
        before: Snapshot | None = load(home, tracking, prior, pack) if prior else None
        if before is not None and prior_weight is not None:
            before = weighed(before, prior_weight)
        learned = from_rounds(pack, kind, learn_from, previous=before, settings=settings, target=target)
        learned = replace(learned, policies={**learned.policies, **networks})
        return record(home, run, pack, learned, lineage, {})


def prior_of(tracking: Tracking, pack: Pack, window: Window) -> Version | None:
    """The champion, or the version it was built on, or the one before, that has not learned from this window."""
    champion, usable = tracking.aliased(pack.pack, CHAMPION), None
    for version in reversed(_lineage(tracking, champion) if champion is not None else []):
        if not _is_before(version, window) or version.tags.get("pack_digest") != pack.digest:
            break
        usable = version
    return usable


def named_prior(tracking: Tracking, pack: Pack, window: Window, kind: str, asked: str) -> Version:
    """The version asked for (a number or an alias), fit to be the prior of this kind on this window.

    Raises UnknownVersionError, and PriorError where its model is of another type or has learned from the window.
    """
    prior = tracking.version(pack.pack, asked)
    if kind in KINDS and not can_build_on(kind, prior):
        raise PriorError(
            f"version {prior.version} is of kind {prior.kind}, on which {kind} cannot build: their models differ",
            help=f"name a version with the same model, such as one of: nba train --from simulator --policy {kind}",
        )
    for version in _lineage(tracking, prior):
        if not _is_before(version, window):
            raise PriorError(
                f"version {prior.version} has learned from rounds of this window already, in version {version.version}",
                help="name one from before, or from the simulator: these rounds would count twice",
            )
    return prior


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


def record_sessions(
    home: Home,
    run: Run,
    pack: Pack,
    networks: Mapping[str, Network],
    steps: Mapping[str, int],
    tags: Mapping[str, str],
    *,
    curve: tuple[Step, ...] = (),
    simulated: Mapping[str, Playground] | None = None,
) -> Version:
    """Networks that learned their moments in so many steps, recorded as a version with all else the champion knows.

    Without a champion of this pack the other moments know nothing.
    """
    champion = _own_champion(run.tracking, pack)
    if champion is None:
        kind = pack.candidates[0]
        rest, note, treatments = from_rounds(pack, kind, {}).policies, "nothing learned", dict[str, Policy]()
    else:
        known = load(home, run.tracking, champion, pack)
        kind, note = champion.kind, f"kept from version {champion.version}"
        rest, treatments = known.policies, dict(known.treatments)
    notes = {moment: note for moment in rest if moment not in networks}
    learned = Learned(kind, {**rest, **networks}, steps, notes, curve, treatments)
    lineage = {**tags, "prior": champion.version if champion else ""}
    return record(home, run, pack, learned, lineage, simulated or {})


def _networks(home: Home, tracking: Tracking, pack: Pack) -> tuple[dict[str, Policy], str]:
    """The champion's networks of sessions by moment, and its version number where it has any."""
    champion = _own_champion(tracking, pack)
    known = load(home, tracking, champion, pack).policies if champion else {}
    networks = {moment: policy for moment, policy in known.items() if plans_sessions(policy)}
    return networks, champion.version if champion and networks else ""


def _own_champion(tracking: Tracking, pack: Pack) -> Version | None:
    """The champion, where it was made for this very pack."""
    champion = tracking.aliased(pack.pack, CHAMPION)
    return champion if champion is not None and champion.tags.get("pack_digest") == pack.digest else None


def _lineage(tracking: Tracking, version: Version) -> list[Version]:
    """The version, the one it was built on, the one before, and so on."""
    lineage = [version]
    while before := lineage[-1].tags.get("prior"):
        lineage.append(tracking.version(version.pack, before))
    return lineage


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
