"""What became of one decision: its reward window, the outcomes that count, its reward.

The window opens when the action was shown: when it was decided, or, where activation was deferred, when the app
first said so. It closes a moment's `window` later, or when an outcome with `closes_window` is observed, if sooner.
Both ends belong to it. A report outside is kept in the log and never used.

Everything here is a function of sets: order and repetition of the reports change nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias, get_args

from msgspec import Struct

from nba.decision import Decision
from nba.pack import Moment, Outcome, Pack
from nba.records import ActivationRecord, DecisionRecord, OverrideRecord, Record, RewardRecord

State: TypeAlias = Literal[
    "other_pack",  # decided for another pack
    "unknown_moment",  # the pack has this moment no more
    "not_learnable",  # fallback, deterministic, or logged as not learnable (law 7)
    "unknown_action",  # the moment has this action no more
    "void",  # a person chose otherwise
    "not_activated",  # deferred, and never said to be shown
    "immature",  # the window is open
    "joined",  # closed with an outcome that the reward formula counts
    "default",  # closed without one: the default reward
]
STATES: tuple[State, ...] = get_args(State)  # the first that holds is told
FATES = ("in_window", "late", "early", "unknown_outcome")  # of a report


class Settled(Struct, frozen=True, kw_only=True):
    """Where one decision stands."""

    state: State
    reward: float | None  # reward units, the action's cost taken off; None while the window is open and where void
    outcomes: dict[str, float]  # observed in the window, aggregated
    closes_at: datetime | None  # None where the window has not opened or the pack does not say


@dataclass(frozen=True, slots=True)
class Case:
    """As much of a decision as settling it takes."""

    excluded: State | None  # why it can never be learned from, whatever comes
    moment: Moment | None
    decided_at: datetime
    deferred: bool
    cost: float | None  # reward units; None where the action is unknown

    @classmethod
    def of(cls, decision: Decision, pack: Pack) -> Case:
        """The case of a decision under this pack, which may be a later one than it was made with."""
        moment = pack.moments.get(decision.context.moment) if decision.pack == pack.pack else None
        known = moment is not None and decision.action_id in moment.action_ids
        excluded: State | None = None
        if decision.pack != pack.pack:
            excluded = "other_pack"
        elif moment is None:
            excluded = "unknown_moment"
        elif not decision.learnable or decision.mode != "online" or not 0.0 < decision.propensity <= 1.0:
            excluded = "not_learnable"
        elif not known:
            excluded = "unknown_action"
        cost = pack.action(decision.action_id).cost if known else None
        return cls(excluded, moment, decision.decided_at, decision.request.defer_activation, cost)


@dataclass(frozen=True, slots=True)
class Window:
    """One reward window and what fell into it."""

    closes_at: datetime
    outcomes: dict[str, float]  # aggregated
    gross: float | None  # sum of weight * outcome; None where the formula counts none of them
    reports: dict[str, int]  # how many were observed in it, after, before; those of an unknown outcome apart


def settle(
    record: DecisionRecord,
    rewards: Iterable[RewardRecord],
    activations: Iterable[ActivationRecord],
    overrides: Iterable[OverrideRecord],
    pack: Pack,
    *,
    as_of: datetime,
) -> Settled:
    """Where this decision stands, by all of its records that the log held at `as_of`."""
    shown = min((a.activated_at for a in activations if a.activated_at <= as_of), default=None)
    reports, _ = first_reports(r for r in rewards if r.received_at <= as_of)
    overridden = any(o.overridden_at <= as_of for o in overrides)
    return settle_case(Case.of(record.decision, pack), reports, shown, overridden, pack, as_of=as_of)[0]


class Reports:
    """What came of decisions, whichever they are: their reports, activations and overrides known at `as_of`."""

    def __init__(self, as_of: datetime) -> None:
        self._as_of = as_of
        self.rewards = defaultdict[str, set[RewardRecord]](set)
        self.activated: dict[str, datetime] = {}
        self.overridden: set[str] = set()

    def add(self, record: Record) -> None:
        """Takes one record in, unless it came after `as_of`; one that says nothing of an earlier decision is passed."""
        if isinstance(record, RewardRecord):
            if record.received_at <= self._as_of:
                self.rewards[record.decision_id].add(record)
        elif isinstance(record, OverrideRecord):
            if record.overridden_at <= self._as_of:
                self.overridden.add(record.decision_id)
        elif isinstance(record, ActivationRecord) and record.activated_at <= self._as_of:
            first = self.activated.get(record.decision_id, record.activated_at)
            self.activated[record.decision_id] = min(first, record.activated_at)

    def settle(self, decision_id: str, case: Case, pack: Pack) -> tuple[Settled, Window | None, list[RewardRecord]]:
        """Where the case of this decision stands, its window, and the reports that contradict others."""
        reports, conflicts = first_reports(self.rewards.get(decision_id, ()))
        shown, overridden = self.activated.get(decision_id), decision_id in self.overridden
        return *settle_case(case, reports, shown, overridden, pack, as_of=self._as_of), conflicts


def settle_case(
    case: Case,
    reports: Sequence[RewardRecord],
    activated_at: datetime | None,
    overridden: bool,
    pack: Pack,
    *,
    as_of: datetime,
) -> tuple[Settled, Window | None]:
    """Where a case stands by its reports (one an idempotency key), and its window where that has opened."""
    shown_at = activated_at if case.deferred else case.decided_at
    window = None
    if case.moment is not None and shown_at is not None:
        window = close_window(case.moment, pack.outcomes, shown_at, reports)
    state, reward = case.excluded or _state(window, overridden, as_of), None
    if case.moment is not None and window is not None and case.cost is not None:
        gross = case.moment.default_reward if window.gross is None else window.gross
        reward = gross - case.cost if window.closes_at <= as_of and not overridden else None
    outcomes, closes_at = ({}, None) if window is None else (window.outcomes, window.closes_at)
    return Settled(state=state, reward=reward, outcomes=outcomes, closes_at=closes_at), window


def _state(window: Window | None, overridden: bool, as_of: datetime) -> State:
    if overridden:
        return "void"
    if window is None:
        return "not_activated"
    if window.closes_at > as_of:
        return "immature"
    return "default" if window.gross is None else "joined"


def first_reports(rewards: Iterable[RewardRecord]) -> tuple[list[RewardRecord], list[RewardRecord]]:
    """The report first received under each idempotency key, and those that contradict it (another outcome or value)."""
    firsts: dict[str, RewardRecord] = {}
    conflicts = []
    for report in sorted(set(rewards), key=lambda r: (r.received_at, r.observed_at, r.outcome, r.value)):
        first = firsts.setdefault(report.idempotency_key, report)
        if (report.outcome, report.value) != (first.outcome, first.value):
            conflicts.append(report)
    return list(firsts.values()), conflicts


def close_window(
    moment: Moment, known: dict[str, Outcome], shown_at: datetime, reports: Sequence[RewardRecord]
) -> Window:
    """The window opened at `shown_at`, closed by time or by one of these reports, and what it holds."""
    closes_at = shown_at + timedelta(seconds=moment.window_s)
    usable = [r for r in reports if r.outcome in known]
    since = [r for r in usable if shown_at <= r.observed_at]
    closes_at = min([closes_at, *(r.observed_at for r in since if known[r.outcome].closes_window)])
    inside = [r for r in since if r.observed_at <= closes_at]
    values: dict[str, list[float]] = {}
    for report in sorted(inside, key=lambda r: (r.observed_at, r.received_at, r.idempotency_key)):
        values.setdefault(report.outcome, []).append(report.value)
    outcomes = {name: aggregate(known[name], values[name]) for name in sorted(values)}
    counted = [weight * outcomes[name] for name, weight in moment.reward.items() if name in outcomes]
    fates = len(inside), len(since) - len(inside), len(usable) - len(since), len(reports) - len(usable)
    return Window(
        closes_at=closes_at,
        outcomes=outcomes,
        gross=math.fsum(counted) if counted else None,
        reports=dict(zip(FATES, fates, strict=True)),
    )


def aggregate(outcome: Outcome, values: Sequence[float]) -> float:
    """One value of several, given in the order they were observed, by the outcome's rule.

    Clipped to the outcome's range, a sum too, so that no reward leaves `Pack.reward_range`.
    """
    match outcome.aggregate:
        case "first":
            value = values[0]
        case "last":
            value = values[-1]
        case "max":
            value = max(values)
        case "sum":
            value = math.fsum(values)
    return min(max(value, outcome.range[0]), outcome.range[1])
