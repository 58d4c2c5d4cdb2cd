"""Closed rounds of the log with every outcome by name, whichever way the action was chosen."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from envs.calibration.rounds import OutcomeRounds
from nba.decision import Decision
from nba.facts import code_facts
from nba.join import subject_hash
from nba.log import LogReport, read_records
from nba.log.reader import Count, OnRecord
from nba.moment_plan import MomentPlan, plan_moment
from nba.pack import Pack
from nba.records import DecisionRecord, Record
from nba.settle import Case, Reports, Settled
from nba.types import Value

NOT_READ = "features"  # in a decision's `degraded`: stored facts are missing because they were not read in time
OPEN_SHARE = 0.01

Fate: TypeAlias = Literal[
    "used_online",  # sampled from a policy
    "used_deterministic",  # the app asked for no exploration, or the policy was certain
    "used_fallback",  # the policy failed; the app's baseline or silence
    "open",  # the reward window is
    "too_young",  # closed early, among decisions whose windows are open
    "facts_not_read",  # the feature store did not answer: what is missing says nothing of the customer
    "void",  # a person chose otherwise
    "not_activated",
    "unknown_action",
    "not_asked_for",  # a moment that is not calibrated
    "unknown_moment",
    "other_pack",
]
FATES: tuple[Fate, ...] = get_args(Fate)


@dataclass(frozen=True, slots=True)
class OutcomeLog:
    """What a log has for a calibration, every decision accounted for."""

    as_of: datetime
    rounds: dict[str, OutcomeRounds] = field(repr=False)  # of each moment asked for
    fates: dict[str, Counter[Fate]]  # moment, or "" for those the pack does not have -> fate -> decisions
    log: LogReport
    digest: str  # SHA-256 of the rounds

    def __len__(self) -> int:
        return sum(len(rounds) for rounds in self.rounds.values())

    @property
    def counts(self) -> Counter[Fate]:
        """Fate -> decisions, over all moments."""
        total = sum(self.fates.values(), Counter[Fate]())
        return Counter({fate: total[fate] for fate in FATES if total[fate]})


def read_outcomes(
    log: Path, pack: Pack, moments: Sequence[str], *, as_of: datetime, on_record: OnRecord | None = None
) -> OutcomeLog:
    """The closed rounds of these moments, as the log stood at `as_of`, with their outcomes.

    A response holds given context and action, so it does not matter how the action was chosen: decisions that
    learning leaves out (deterministic, fallback) are used where their facts were read. An outcome not reported in the
    window did not come (as the default reward has it); several reports count by the outcome's rule. An outcome may
    close a window early: taking only those of the young decisions that it closed would prefer customers to whom it
    came. So of decisions younger than the window only those are used before which no more than 1 % are still open.
    """
    report = LogReport()
    intake = _Intake(pack, as_of)
    for record in Count(on_record)(read_records(log, report)):
        intake.add(record)
    rounds, fates = intake.rounds(moments)
    digest = hashlib.sha256(pack.digest.encode())
    for moment, part in rounds.items():
        digest.update(f"\0{moment}\0{len(part)}\0".encode())
        for column in fields(part):
            digest.update(getattr(part, column.name).tobytes())
    return OutcomeLog(as_of, rounds, fates, report, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class _Kept:
    """As much of a canonical decision as it takes."""

    rank: tuple[int, datetime, bytes]
    decision_id: str
    case: Case
    moment: str
    action_id: str
    mode: str
    read: bool  # whether its stored facts were
    values: dict[str, Value]
    subject: int

    @classmethod
    def of(cls, record: DecisionRecord, pack: Pack) -> _Kept:
        decision: Decision = record.decision
        case = Case.of(decision, pack)
        return cls(
            rank=record.rank,
            decision_id=decision.decision_id,
            case=case,
            moment=decision.context.moment,
            action_id=decision.action_id,
            mode=decision.mode,
            read=NOT_READ not in decision.degraded,
            values=decision.context.values,
            subject=subject_hash(decision.context.subject),
        )


class _Intake:
    """The records that were there at `as_of`, by decision."""

    def __init__(self, pack: Pack, as_of: datetime) -> None:
        self._pack, self._as_of = pack, as_of
        self._kept: dict[str, _Kept] = {}
        self._reports = Reports(as_of)

    def add(self, record: Record) -> None:
        """Takes one record in, unless it came after `as_of`."""
        if isinstance(record, DecisionRecord):
            before = self._kept.get(record.decision_id)
            if record.decision.decided_at <= self._as_of and (before is None or record.rank < before.rank):
                self._kept[record.decision_id] = _Kept.of(record, self._pack)
        else:
            self._reports.add(record)

    def rounds(self, moments: Sequence[str]) -> tuple[dict[str, OutcomeRounds], dict[str, Counter[Fate]]]:
        """The rounds of these moments, by time and id, and what became of every decision of the log."""
        by_moment = defaultdict[str, list[_Kept]](list)
        for kept in sorted(self._kept.values(), key=lambda k: (k.case.decided_at, k.decision_id)):
            by_moment[kept.moment if kept.case.moment is not None else ""].append(kept)
        fates, rounds = dict[str, Counter[Fate]](), dict[str, OutcomeRounds]()
        for moment, decisions in by_moment.items():
            if moment and moment not in moments:
                fates[moment] = Counter({"not_asked_for": len(decisions)})
                continue
            settled = [self._reports.settle(kept.decision_id, kept.case, self._pack)[0] for kept in decisions]
            told = self._mature(decisions, [self._fate(k, s) for k, s in zip(decisions, settled, strict=True)])
            fates[moment] = Counter(told)
            if moment:
                rows = zip(decisions, settled, told, strict=True)
                used = [(kept, stands) for kept, stands, fate in rows if fate.startswith("used_")]
                rounds[moment] = _columns(plan_moment(self._pack, moment), used)
        return {moment: rounds[moment] for moment in moments if moment in rounds}, fates

    def _fate(self, kept: _Kept, settled: Settled) -> Fate:
        case = kept.case
        if case.excluded == "other_pack" or case.excluded == "unknown_moment":
            return case.excluded
        if case.cost is None:
            return "unknown_action"
        if kept.decision_id in self._reports.overridden:
            return "void"
        if settled.closes_at is None:
            return "not_activated"
        if not kept.read:
            return "facts_not_read"
        if settled.closes_at > self._as_of:
            return "open"
        used: dict[str, Fate] = {"online": "used_online", "fallback": "used_fallback"}
        return used.get(kept.mode, "used_deterministic")

    def _mature(self, decisions: Sequence[_Kept], fates: Sequence[Fate]) -> list[Fate]:
        """The fates, with the young ones beyond the last time before which nearly all are closed set aside."""
        first = [place for place, kept in enumerate(decisions) if self._is_young(kept)]
        open_, last = np.array([fates[place] == "open" for place in first], dtype=np.float64), -1
        if len(first):
            shares = open_.cumsum() / np.arange(1, len(first) + 1)
            last = int(np.flatnonzero(shares <= OPEN_SHARE).max(initial=-1))
        set_aside = set(first[last + 1 :])
        return ["too_young" if p in set_aside and fate.startswith("used_") else fate for p, fate in enumerate(fates)]

    def _is_young(self, kept: _Kept) -> bool:
        """Whether its window, had no outcome closed it, would be open."""
        shown = self._reports.activated.get(kept.decision_id) if kept.case.deferred else kept.case.decided_at
        if shown is None or kept.case.moment is None:
            return False
        return shown + timedelta(seconds=kept.case.moment.window_s) > self._as_of


def _columns(plan: MomentPlan, used: Iterable[tuple[_Kept, Settled]]) -> OutcomeRounds:
    rows = list(used)
    outcomes = list(plan.pack.moment(plan.name).reward)
    places = {action_id: column for column, action_id in enumerate(plan.action_ids)}
    facts = code_facts(plan.encoder.fields, [kept.values for kept, _ in rows])
    came = [[settled.outcomes.get(outcome, 0.0) for outcome in outcomes] for _, settled in rows]
    return OutcomeRounds(
        facts=facts,
        contexts=plan.encoder.encode(facts),
        actions=np.array([places[kept.action_id] for kept, _ in rows], dtype=np.int64),
        outcomes=np.array(came, dtype=np.float64).reshape(len(rows), len(outcomes)),
        subjects=np.array([kept.subject for kept, _ in rows], dtype=np.uint64),
    )
