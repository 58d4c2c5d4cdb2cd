"""The join: from the records of the log to rounds that can be learned from.

A pure function of the set of records: the same set, in any order and with any repetition, gives the same bytes
(law 6). Rounds are encoded anew from the facts in the log with the pack given, whichever version of it they were
decided with (law 4): its reward formula, its fields (one that the record does not have is missing), its columns (an
action new to it was not eligible then). What was learned from never changes later: records that came after `as_of`
do not count, so the same `as_of` gives the same rounds from a longer log.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from nba.decision import Decision
from nba.facts import code_facts
from nba.moment_plan import MomentPlan, plan_pack
from nba.pack import Pack
from nba.records import DecisionRecord, Record, RewardRecord, encode_record
from nba.rounds import LoggedRounds
from nba.settle import FATES, STATES, Case, Reports, Settled, Window, settle
from nba.treatments import treatment_plan
from nba.types import ActionMask, Facts, Value

__all__ = ["Joined", "Settled", "join", "settle"]

REPORTS = (*FATES, "conflicting", "parked")  # parked: the decision is not there (yet)
BLOCK = 4_096  # decisions whose facts are held by name before they are coded
_HEX = re.compile(r"[0-9a-fA-F]{16}")


@dataclass(frozen=True, slots=True)
class Joined:
    """Every decision accounted for, and the rounds among them."""

    rounds: dict[str, LoggedRounds]  # of each moment of the pack: joined or defaulted, by time and id
    counts: Counter[str]  # state, of nba.settle.STATES -> decisions
    reports: Counter[str]  # what became of them, of REPORTS -> outcome reports
    conflicts: list[RewardRecord]  # same idempotency key as an earlier one, another outcome or value
    decision_ids: dict[str, list[str]]  # moment -> whose its rounds are, in order


def join(
    records: Iterable[Record],
    pack: Pack,
    *,
    as_of: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Joined:
    """The rounds of the decisions made in [since, until), with what was known at `as_of`.

    An outcome may close a window early, so the last window before `as_of` holds decisions whose outcome was quick:
    with `until` one window before it, all are there. Times are aware. Memory grows with distinct decisions and reports.
    """
    intake = _Intake(pack, as_of)
    for record in records:
        intake.add(record)
    counts, reports = Counter[str](), Counter[str]()
    conflicts: list[RewardRecord] = []
    closed: dict[str, list[tuple[datetime, str, float]]] = {moment: [] for moment in pack.moments}
    for decision_id, kept in intake.between(since, until):
        settled, window, against = intake.settle(decision_id)
        counts[settled.state] += 1
        conflicts += against
        if window is not None:
            reports.update(window.reports)
        if settled.state in ("joined", "default") and settled.reward is not None:
            closed[kept.moment].append((kept.case.decided_at, decision_id, settled.reward))
    reports["conflicting"], reports["parked"] = len(conflicts), intake.parked()
    ordered = {moment: sorted(rows) for moment, rows in closed.items()}
    return Joined(
        rounds={moment: intake.rounds(moment, rows) for moment, rows in ordered.items()},
        counts=Counter({state: counts[state] for state in STATES if counts[state]}),
        reports=Counter({fate: reports[fate] for fate in REPORTS if reports[fate]}),
        conflicts=sorted(conflicts, key=encode_record),
        decision_ids={moment: [decision_id for _, decision_id, _ in rows] for moment, rows in ordered.items()},
    )


def subject_hash(subject: str) -> int:
    """The first 8 bytes of a subject's keyed hash; of the SHA-256 of one that is not hexadecimal."""
    digits = subject[:16] if _HEX.match(subject) else hashlib.sha256(subject.encode()).hexdigest()[:16]
    return int(digits, 16)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The canonical decision of an id so far: the first of its highest epoch."""

    rank: tuple[int, datetime, bytes]  # of the record; the least is canonical
    case: Case
    moment: str
    row: int  # in the moment's columns; -1 where it cannot be learned from
    action: int  # column
    propensity: float
    subject: int
    treatment: int  # column of the second level; -1 where the action had no phrasing, or one the pack has no more
    treatment_propensity: float  # given the action; 1 without a phrasing
    treatments: bytes  # the phrasings it was drawn from, a byte a column


class _Intake:
    """The records so far, boiled down to what the join takes."""

    def __init__(self, pack: Pack, as_of: datetime) -> None:
        self._pack, self._as_of = pack, as_of
        self._columns = {name: Columns(plan) for name, plan in plan_pack(pack).items()}
        self.kept: dict[str, _Kept] = {}
        self._reports = Reports(as_of)

    def add(self, record: Record) -> None:
        """Takes one record in, unless it came after `as_of`."""
        if isinstance(record, DecisionRecord):
            if record.decision.decided_at <= self._as_of:
                self._add_decision(record)
        else:
            self._reports.add(record)

    def _add_decision(self, record: DecisionRecord) -> None:
        decision, rank = record.decision, record.rank
        before = self.kept.get(record.decision_id)
        if before is not None and before.rank <= rank:
            return
        case, moment = Case.of(decision, self._pack), decision.context.moment
        row = action = treatment = -1
        treatments = b""
        if case.excluded is None:
            columns = self._columns[moment]
            row, action = columns.add(decision), columns.places[decision.action_id]
            treatment, treatments = columns.treatment(decision)
        subject = subject_hash(decision.context.subject)
        drawn = treatment, decision.treatment_propensity if treatment >= 0 else 1.0, treatments
        self.kept[record.decision_id] = _Kept(rank, case, moment, row, action, decision.propensity, subject, *drawn)

    def between(self, since: datetime | None, until: datetime | None) -> Iterator[tuple[str, _Kept]]:
        """The canonical decisions made in [since, until), by id."""
        for decision_id, kept in self.kept.items():
            decided_at = kept.case.decided_at
            if (since is None or since <= decided_at) and (until is None or decided_at < until):
                yield decision_id, kept

    def settle(self, decision_id: str) -> tuple[Settled, Window | None, list[RewardRecord]]:
        """Where a decision stands, its window, and the reports that contradict others."""
        return self._reports.settle(decision_id, self.kept[decision_id].case, self._pack)

    def parked(self) -> int:
        """How many reports wait for their decision."""
        return sum(
            len(reports) for decision_id, reports in self._reports.rewards.items() if decision_id not in self.kept
        )

    def rounds(self, moment: str, rows: list[tuple[datetime, str, float]]) -> LoggedRounds:
        """The rounds of these decisions (time, id, reward), in this order."""
        kept = [self.kept[decision_id] for _, decision_id, _ in rows]
        contexts, mask = self._columns[moment].at(np.array([k.row for k in kept], dtype=np.intp))
        return LoggedRounds(
            contexts=contexts,
            mask=mask,
            actions=np.array([k.action for k in kept], dtype=np.int64),
            propensities=np.array([k.propensity for k in kept], dtype=np.float64),
            rewards=np.array([reward for _, _, reward in rows], dtype=np.float64),
            subjects=np.array([k.subject for k in kept], dtype=np.uint64),
            treatments=np.array([k.treatment for k in kept], dtype=np.int64),
            treatment_propensities=np.array([k.treatment_propensity for k in kept], dtype=np.float64),
            treatment_mask=self._columns[moment].as_mask([k.treatments for k in kept]),
        )


class Columns:
    """Facts and masks of one moment, a row a decision, coded a block at a time."""

    def __init__(self, plan: MomentPlan) -> None:
        self._plan = plan
        self.places = {action_id: column for column, action_id in enumerate(plan.action_ids)}
        pairs = treatment_plan(plan)
        self._treatments = {pair: column for column, pair in enumerate(pairs.action_ids if pairs else ())}
        self._known: dict[tuple[str, ...], bytes] = {}
        self._offered: dict[tuple[str, ...], bytes] = {}
        self._values: list[dict[str, Value]] = []
        self._masks: list[bytes] = []
        self._blocks: list[tuple[Facts, NDArray[np.uint8]]] = []

    def add(self, decision: Decision) -> int:
        """The row that now holds this decision."""
        row = len(self._blocks) * BLOCK + len(self._values)
        self._values.append(decision.context.values)
        self._masks.append(self._mask(decision))
        if len(self._values) == BLOCK:
            self._blocks.append(self._coded())
            self._values, self._masks = [], []
        return row

    def at(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], ActionMask]:
        """Contexts and mask of these rows."""
        blocks = [*self._blocks, self._coded()]
        facts = np.concatenate([facts for facts, _ in blocks])[rows]
        mask = np.concatenate([mask for _, mask in blocks])[rows]
        return self._plan.encoder.encode(facts), mask.astype(np.bool_)

    def treatment(self, decision: Decision) -> tuple[int, bytes]:
        """Column of the decision's phrasing, and those it was drawn from; drawn evenly, all the action has now."""
        column = self._treatments.get(f"{decision.action_id}/{decision.treatment_id}", -1)
        offered = (decision.action_id, *decision.treatment_distribution)
        if offered not in self._offered:
            told = {f"{decision.action_id}/{treatment}" for treatment in offered[1:]}
            every = [pair for pair in self._treatments if pair.split("/")[0] == decision.action_id]
            self._offered[offered] = bytes(pair in (told or every) for pair in self._treatments)
        return column, self._offered[offered]

    def as_mask(self, rows: list[bytes]) -> ActionMask:
        """Masks of phrasings (n, p), a byte a column, as one array."""
        flat = np.frombuffer(b"".join(rows), dtype=np.bool_)
        return flat.reshape(len(rows), len(self._treatments)).copy()

    def _mask(self, decision: Decision) -> bytes:
        """Which of the pack's actions were candidates and survived the funnel, a byte each; no_action always."""
        candidates = decision.candidates
        if candidates not in self._known:
            self._known[candidates] = bytes(action_id in candidates for action_id in self.places)
        mask = bytearray(self._known[candidates])
        for action_id in decision.removed:
            if action_id in self.places:
                mask[self.places[action_id]] = 0
        mask[0] = 1
        return bytes(mask)

    def _coded(self) -> tuple[Facts, NDArray[np.uint8]]:
        mask = np.frombuffer(b"".join(self._masks), dtype=np.uint8).reshape(len(self._masks), len(self.places))
        return code_facts(self._plan.encoder.fields, self._values), mask
