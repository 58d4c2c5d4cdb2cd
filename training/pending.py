"""Decisions on their way to being learned from: each comes out once, as a round, when its reward window has closed.

What is closed is what the join says (`nba.join`), but only decisions are looked at of which a record came in or whose
time has come, so a look costs what is new. A window of a week is learned a week later, unless an outcome closes it.
Where only some outcomes close a window early, the first rounds to come out are those that had them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from nba.decision import Decision
from nba.join import join
from nba.pack import Pack
from nba.records import ActivationRecord, ConsentRecord, DecisionRecord, OverrideRecord, Record, RewardRecord
from nba.rounds import LoggedRounds
from nba.settle import Settled, settle

_CLOSED = ("joined", "default")
_OPEN = ("immature", "not_activated")
REPLAYED_AT_ONCE = 50_000  # records taken in before those already learned from are let go


@dataclass(frozen=True, slots=True)
class Closed:
    """Rounds that have closed, and the decisions they are of, row by row."""

    rounds: Mapping[str, LoggedRounds]  # moments that have any
    decisions: Mapping[str, tuple[Decision, ...]]

    def __len__(self) -> int:
        return sum(len(rounds) for rounds in self.rounds.values())

    def and_then(self, later: Closed) -> Closed:
        """These and later ones."""
        moments = sorted({*self.rounds, *later.rounds})
        return Closed(
            {m: LoggedRounds.concatenate([p.rounds[m] for p in (self, later) if m in p.rounds]) for m in moments},
            {m: (*self.decisions.get(m, ()), *later.decisions.get(m, ())) for m in moments},
        )


NONE = Closed({}, {})


class Pending:
    """The records of decisions that have not come out yet; of those that have, the id: they never come again."""

    def __init__(self, pack: Pack, since: datetime | None = None) -> None:
        """`since`: decisions made before it are passed over."""
        self._pack, self._since = pack, since
        self._waiting: dict[str, _Waiting] = {}
        self._done: set[str] = set()
        self._touched: set[str] = set()
        self._wake: list[tuple[datetime, str]] = []  # a heap: when to look at a decision again

    def __len__(self) -> int:
        """Decisions whose window is open or was never opened."""
        return sum(bool(waiting.decisions) for waiting in self._waiting.values())

    def add(self, record: Record) -> None:
        """Takes in a record; one of a decision that has come out changes nothing any more (law 6)."""
        if isinstance(record, ConsentRecord) or record.decision_id in self._done:
            return
        if isinstance(record, DecisionRecord) and not self._concerns(record.decision):
            self._finish(record.decision_id)
            return
        self._waiting.setdefault(record.decision_id, _Waiting()).add(record)
        self._touched.add(record.decision_id)

    def closed(self, as_of: datetime) -> Closed:
        """The rounds that have closed since the last call, with what was known at `as_of`."""
        records: list[Record] = []
        canonical: dict[str, Decision] = {}
        for decision_id in self._due(as_of):
            waiting = self._waiting[decision_id]
            first = min(waiting.made(as_of), key=lambda record: record.rank, default=None)
            settled = waiting.settle(first, self._pack, as_of) if first else None
            if first and settled and settled.state in _CLOSED:
                records += waiting.records()
                canonical[decision_id] = first.decision
            if settled and settled.state not in _OPEN:
                self._finish(decision_id)
                continue
            stamps = [*waiting.stamps(), *([settled.closes_at] if settled and settled.closes_at else [])]
            again = [stamp for stamp in stamps if stamp > as_of]
            if again:
                heapq.heappush(self._wake, (min(again), decision_id))
        joined = join(records, self._pack, as_of=as_of)
        moments = [moment for moment, rounds in joined.rounds.items() if len(rounds)]
        return Closed(
            {moment: joined.rounds[moment] for moment in moments},
            {moment: tuple(canonical[i] for i in joined.decision_ids[moment]) for moment in moments},
        )

    def pass_over(self, records: Iterable[Record], as_of: datetime) -> None:
        """Takes in records that were all there at `as_of`; what had closed by then has been learned from already.

        A decision recorded twice (the state store lost its claim) is passed over where either record had closed:
        rather once too few than twice.
        """
        for count, record in enumerate(records, 1):
            self.add(record)
            if not count % REPLAYED_AT_ONCE:
                self._let_go(as_of)
        self._let_go(as_of)

    def _let_go(self, as_of: datetime) -> None:
        # More records of a decision only ever close it earlier, so this may be asked before all of them are in.
        for decision_id, waiting in list(self._waiting.items()):
            told = [waiting.settle(record, self._pack, as_of).state for record in waiting.made(as_of)]
            if any(state not in _OPEN for state in told):
                self._finish(decision_id)
        self._touched.update(self._waiting)

    def _concerns(self, decision: Decision) -> bool:
        return decision.pack == self._pack.pack and (self._since is None or self._since <= decision.decided_at)

    def _finish(self, decision_id: str) -> None:
        self._waiting.pop(decision_id, None)
        self._touched.discard(decision_id)
        self._done.add(decision_id)

    def _due(self, as_of: datetime) -> list[str]:
        """Decisions to look at: those touched, and those whose time has come."""
        due, self._touched = self._touched, set()
        while self._wake and self._wake[0][0] <= as_of:
            due.add(heapq.heappop(self._wake)[1])
        return sorted(i for i in due if i in self._waiting and self._waiting[i].decisions)


@dataclass(slots=True)
class _Waiting:
    """The records of one decision so far."""

    decisions: list[DecisionRecord] = field(default_factory=list)
    rewards: list[RewardRecord] = field(default_factory=list)
    activations: list[ActivationRecord] = field(default_factory=list)
    overrides: list[OverrideRecord] = field(default_factory=list)

    def add(self, record: DecisionRecord | RewardRecord | ActivationRecord | OverrideRecord) -> None:
        if isinstance(record, DecisionRecord):
            self.decisions.append(record)
        elif isinstance(record, RewardRecord):
            self.rewards.append(record)
        elif isinstance(record, ActivationRecord):
            self.activations.append(record)
        else:
            self.overrides.append(record)

    def made(self, as_of: datetime) -> list[DecisionRecord]:
        return [record for record in self.decisions if record.decision.decided_at <= as_of]

    def records(self) -> list[Record]:
        return [*self.decisions, *self.rewards, *self.activations, *self.overrides]

    def settle(self, record: DecisionRecord, pack: Pack, as_of: datetime) -> Settled:
        return settle(record, self.rewards, self.activations, self.overrides, pack, as_of=as_of)

    def stamps(self) -> list[datetime]:
        """When each record counts from."""
        return [
            *(record.decision.decided_at for record in self.decisions),
            *(record.received_at for record in self.rewards),
            *(record.activated_at for record in self.activations),
            *(record.overridden_at for record in self.overrides),
        ]
