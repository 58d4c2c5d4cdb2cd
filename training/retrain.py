"""The quarterly retrain: freeze, join, learn, judge, register, promote or say why not. One command, safe to repeat."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import numpy as np

from nba.home import Home
from nba.pack import Pack
from training.assess import Assessment, assess
from training.gate import USUAL, Gate
from training.ledger import Entry, Ledger, locked
from training.prior import Worth, can_build_on, worth
from training.promote import promote
from training.tracking import CHALLENGER, CHAMPION, Run, Tracking, Version
from training.train import prior_of, train_on_log
from training.truth import simulate
from training.window import SEVENTY_THIRTY, Split, Window, freeze, quarter_bounds


@dataclass(frozen=True, slots=True)
class Retrained:
    """What one retrain found and did."""

    quarter: str
    window: Window
    run_id: str  # of the parent run
    repeated: bool  # this window had been through already: nothing was changed
    champion: Version | None  # judged against
    candidates: tuple[Assessment, ...]  # best first
    promoted: Entry | None  # the ledger's entry, where this window's retrain, now or before, changed the champion
    outcome: str  # in a sentence
    prior_worth: Mapping[str, Worth] = field(default_factory=dict)  # kind -> what a prior of a stated weight was worth


def retrain(
    home: Home,
    tracking: Tracking,
    pack: Pack,
    quarter: str,
    *,
    as_of: datetime,
    actor: str,
    gate: Gate = USUAL,
    split: Split = SEVENTY_THIRTY,
    prior_weight: float | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Retrained:
    """Learns every candidate of the pack from a quarter's closed rounds, and promotes the best that passes the gate.

    The frozen window names the work: the same closed rounds find the versions, verdicts and outcome of the first time,
    and a run that died in the middle goes on where it stopped. A champion that came in meanwhile is left alone.
    `prior_weight`: as how many rounds of each moment a prior counts that the simulator taught; None: as it has played.
    Raises QuarterError, EmptyLogError, UnavailableError.
    """
    since, until = quarter_bounds(quarter)
    with locked(home.path / "retrain.lock"):
        on_step(f"freezing the closed rounds of {quarter}")
        window = freeze(home.log, pack, as_of=as_of, since=since, until=until)
        simulated, seed = simulate(pack), int(window.digest[:16], 16)
        candidates, worths = [], dict[str, Worth]()
        with _parent(tracking, pack, quarter, window, prior_weight) as (parent, before):
            learn = partial(train_on_log, home, tracking, pack, window=window, split=split, prior=before.prior)
            for kind in pack.candidates:
                on_step(f"learning and judging {kind}")
                weight = prior_weight if _takes_weight(before.prior, kind) else None
                version = learn(kind=kind, prior_weight=weight, parent=parent, tags={"quarter": quarter})
                if weight is not None and (told := worth(home, tracking, pack, version, window)) is not None:
                    worths[kind] = told
                rng = np.random.default_rng(seed)
                candidates.append(
                    assess(home, tracking, pack, version, before.champion, window, gate, rng, simulated=simulated)
                )
            candidates.sort(key=_merit, reverse=True)
            outcome = before.outcome or _conclude(home, tracking, pack, candidates, before.champion, as_of, actor)
            if before.outcome is None:
                parent.tag(outcome=outcome)
    return Retrained(
        quarter=quarter,
        window=window,
        run_id=parent.run_id,
        repeated=before.outcome is not None,
        champion=before.champion,
        candidates=tuple(candidates),
        promoted=_promoted(home, pack, candidates),
        outcome=outcome,
        prior_worth=worths,
    )


@dataclass(frozen=True, slots=True)
class _Before:
    """How things stood when this window was first retrained on."""

    champion: Version | None  # what candidates are judged against
    prior: Version | None  # what they are built on
    outcome: str | None  # None until the retrain is through


@contextmanager
def _parent(
    tracking: Tracking, pack: Pack, quarter: str, window: Window, prior_weight: float | None
) -> Iterator[tuple[Run, _Before]]:
    """The parent run of this window's retrain and how things stood: a new run, or the one that is there already."""
    stage = "retrain" if prior_weight is None else f"retrain, a simulated prior of {prior_weight:g} rounds"
    found = tracking.find_run(pack.pack, stage=stage, quarter=quarter, window=window.digest)
    if found is None:
        before = _Before(tracking.aliased(pack.pack, CHAMPION), prior_of(tracking, pack, window), None)
        stood = {"champion": _number(before.champion), "prior": _number(before.prior)}
        tags = {"stage": stage, "quarter": quarter, "window": window.digest, **stood}
        with tracking.run(pack.pack, f"retrain {quarter}", tags=tags) as run:
            run.params({**window.tags(), **stood, "pack_digest": pack.digest})
            run.metrics({f"decisions/{state}": float(n) for state, n in window.counts.items()})
            yield run, before
        return
    run_id, noted = found
    champion, prior = (tracking.version(pack.pack, noted[k]) if noted[k] else None for k in ("champion", "prior"))
    before = _Before(champion, prior, noted.get("outcome"))
    if before.outcome is not None:
        yield Run(tracking, run_id, pack.pack), before
        return
    with tracking.resume(pack.pack, run_id) as run:
        yield run, before


def _takes_weight(prior: Version | None, kind: str) -> bool:
    """Whether the prior is one that the simulator taught, and that policies of this kind build on."""
    return prior is not None and prior.tags.get("source") == "simulator" and can_build_on(kind, prior)


def _conclude(
    home: Home,
    tracking: Tracking,
    pack: Pack,
    candidates: list[Assessment],
    champion: Version | None,
    at: datetime,
    actor: str,
) -> str:
    """Promotes the best candidate that passed; what was done and why, in a sentence."""
    best = next((c for c in candidates if c.verdict.promote), None)
    if best is None:
        tracking.set_alias(pack.pack, CHALLENGER, candidates[0].version)
        stays = f"version {champion.version} stays" if champion else "there is still no champion"
        return f"{stays}: " + "; ".join(f"{c.version.kind}: {', '.join(c.verdict.reasons)}" for c in candidates)
    serving = tracking.aliased(pack.pack, CHAMPION)
    if _number(serving) not in (_number(champion), best.version.version):
        return f"version {_number(serving)} became champion meanwhile and stays"
    why = f"retrain {best.version.tags['quarter']}: {'; '.join(best.verdict.reasons)}"
    promote(home, tracking, pack, best.version, verdict=best.verdict, at=at, actor=actor, why=why)
    return f"version {best.version.version} ({best.version.kind}) promoted: {'; '.join(best.verdict.reasons)}"


def _promoted(home: Home, pack: Pack, candidates: list[Assessment]) -> Entry | None:
    numbers = {candidate.version.version for candidate in candidates}
    made = [entry for entry in Ledger(home.ledger).read().of(pack.pack) if entry.to_version in numbers]
    return made[-1] if made else None


def _number(version: Version | None) -> str:
    return version.version if version else ""


def _merit(candidate: Assessment) -> float:
    """What the candidate surely adds: the lower bound of its lift, or of its value where there is no champion."""
    overall = candidate.evaluation.overall
    low = (overall.lift or overall.doubly_robust).low
    return low if math.isfinite(low) else -math.inf
