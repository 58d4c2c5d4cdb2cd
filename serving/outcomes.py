"""What comes back after a decision: outcomes, activations, overrides; and where a decision stands.

Facts go to the log, nothing is edited (law 6). The pack's formula makes rewards of them when the log is joined.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeVar

from nba.errors import LogError, UnavailableError, UnknownActionError, shown
from nba.pack import Outcome, Pack
from nba.records import ActivationRecord, DecisionRecord, OverrideRecord, Record, RewardRecord
from nba.settle import close_window, settle
from serving.archive import Archive, canonical
from serving.claims import RewardClaim
from serving.engine import Log
from serving.errors import ConflictError, InvalidError, UnavailableNowError, UnknownDecisionError, UnknownPackError
from serving.events import check_time
from serving.metrics import Metrics
from serving.uninterrupted import Uninterrupted
from serving.wire import ActivateBody, DecisionAnswer, OverrideBody, RewardBody

REMEMBERED = 100_000  # decisions whose activation and early close this replica keeps in memory
_STATES = {"immature": "waiting", "not_activated": "awaiting_activation", "default": "closed"}
V = TypeVar("V")
May = Callable[[str], bool]  # whether the caller may see this pack
Status = Literal["joined", "late", "awaiting_activation", "duplicate"]


def _anything(pack: str) -> bool:
    return True


class RewardClaims(Protocol):
    """Who knows decisions and the outcomes reported of them."""

    async def find(self, decision_id: str) -> DecisionRecord | None:
        """The decision of this id; None where there is none. Raises UnavailableError."""
        ...

    async def claim_reward(self, reward: RewardRecord, *, once: bool) -> RewardClaim:
        """Whether to log this report."""
        ...

    async def commit_reward(self, reward: RewardRecord) -> None:
        """Marks a report as logged."""
        ...


class Outcomes:
    """Takes what comes back."""

    def __init__(
        self,
        packs: Mapping[str, Pack],
        claims: RewardClaims,
        archive: Archive,
        log: Log,
        *,
        metrics: Metrics,
        uninterrupted: Uninterrupted,
        clock: Callable[[], datetime],
    ) -> None:
        self._packs, self._claims, self._archive, self._log = packs, claims, archive, log
        self._metrics, self._uninterrupted, self._clock = metrics, uninterrupted, clock
        self._activated: OrderedDict[str, datetime] = OrderedDict()
        self._closing: OrderedDict[str, RewardRecord] = OrderedDict()  # the report that closed a window early

    async def decision(self, decision_id: str, *, may: May = _anything) -> DecisionRecord:
        """The decision of this id, from the state store or the log.

        Raises UnknownDecisionError, also where it is of a pack that the caller may not see.
        """
        try:
            record = await self._claims.find(decision_id)
        except UnavailableError:
            record = None
        if record is None:
            record = canonical(await self._archive.find(decision_id))
        return _seen(record, decision_id, may)

    async def reward(self, decision_id: str, body: RewardBody, *, may: May = _anything) -> Status:
        """Logs an outcome; where it went.

        Raises UnknownDecisionError, InvalidError, ConflictError, UnavailableNowError.
        """
        record = await self.decision(decision_id, may=may)
        pack = self._pack(record)
        outcome = _outcome(pack, body)
        now = self._clock()
        reward = RewardRecord(
            decision_id=decision_id,
            outcome=body.outcome,
            value=float(body.value),
            observed_at=body.observed_at or now,
            idempotency_key=body.idempotency_key or only_report(decision_id, body.outcome),
            received_at=now,
        )
        status = await self._uninterrupted.run(self._keep_reward(record, pack, outcome, reward))
        self._metrics.rewarded(status)
        return status

    async def _keep_reward(self, record: DecisionRecord, pack: Pack, outcome: Outcome, reward: RewardRecord) -> Status:
        claim = await self._claims.claim_reward(reward, once=outcome.aggregate == "first")
        if claim == "duplicate":
            return "duplicate"
        if claim == "conflict":
            raise ConflictError(
                f"idempotency_key {reward.idempotency_key!r} came before with another outcome or value",
                help="give each report a key of its own; a report is never changed",
                field="idempotency_key",
            )
        await self._append(reward)
        await self._claims.commit_reward(reward)
        status = await self._status(record, pack, reward)
        if outcome.closes_window and status == "joined":
            _remember(self._closing, reward.decision_id, reward)
        return status

    async def _status(self, record: DecisionRecord, pack: Pack, reward: RewardRecord) -> Status:
        """Whether the report falls into the decision's window, as far as this replica knows it.

        The join decides for good: it sees what other replicas took, too.
        """
        shown_at: datetime | None = record.decision.decided_at
        if record.decision.request.defer_activation:
            shown_at = await self._activated_at(record.decision_id)
        if shown_at is None:
            return "awaiting_activation"
        closing = self._closing.get(record.decision_id)
        moment = pack.moment(record.decision.context.moment)
        window = close_window(moment, pack.outcomes, shown_at, [reward] if closing is None else [closing, reward])
        return "joined" if shown_at <= reward.observed_at <= window.closes_at else "late"

    async def _activated_at(self, decision_id: str) -> datetime | None:
        if decision_id not in self._activated:
            found = await self._archive.find(decision_id)
            times = [r.activated_at for r in found if isinstance(r, ActivationRecord)]
            if not times:
                return None
            _remember(self._activated, decision_id, min(times))
        return self._activated[decision_id]

    async def activate(self, decision_id: str, body: ActivateBody, *, may: May = _anything) -> None:
        """Logs that the action was shown. Raises UnknownDecisionError, InvalidError, UnavailableNowError."""
        record, now = await self.decision(decision_id, may=may), self._clock()
        if body.activated_at is not None:
            check_time(body.activated_at, now, "activated_at")
        activation = ActivationRecord(decision_id=record.decision_id, activated_at=body.activated_at or now)
        await self._uninterrupted.run(self._append(activation))
        first = self._activated.get(decision_id, activation.activated_at)
        _remember(self._activated, decision_id, min(first, activation.activated_at))

    async def override(self, decision_id: str, body: OverrideBody, *, may: May = _anything) -> None:
        """Logs that a person chose otherwise. Raises UnknownDecisionError, UnknownActionError, UnavailableNowError."""
        record = await self.decision(decision_id, may=may)
        if body.action_id not in record.decision.candidates:
            raise UnknownActionError(
                f"moment {record.decision.context.moment!r} has no action {body.action_id!r}",
                help=f"its actions are {', '.join(record.decision.candidates)}",
                field="action_id",
            )
        override = OverrideRecord(
            decision_id=decision_id, action_id=body.action_id, actor=body.actor, overridden_at=self._clock()
        )
        await self._uninterrupted.run(self._append(override))

    async def look(self, decision_id: str, *, may: May = _anything) -> DecisionAnswer:
        """A decision's whole record and where it stands, from the log. Raises UnknownDecisionError."""
        found = await self._archive.find(decision_id)
        record = _seen(canonical(found) or await self.decision(decision_id, may=may), decision_id, may)
        rewards, activations, overrides = _sorted(found)
        settled = settle(record, rewards, activations, overrides, self._pack(record), as_of=self._clock())
        return DecisionAnswer(
            record=record,
            state=_STATES.get(settled.state, settled.state),
            reward=settled.reward,
            outcomes=settled.outcomes,
            closes_at=settled.closes_at,
        )

    async def _append(self, record: Record) -> None:
        try:
            await asyncio.wrap_future(self._log.append(record))
        except LogError as error:
            raise UnavailableNowError(f"it cannot be logged: {error.message}", help="send it again") from None

    def _pack(self, record: DecisionRecord) -> Pack:
        try:
            return self._packs[record.decision.pack]
        except KeyError:
            raise UnknownPackError(
                f"decision {record.decision_id!r} was made for pack {record.decision.pack!r}, which is not served",
                help=f"served are {', '.join(self._packs)}",
            ) from None


def only_report(decision_id: str, outcome: str) -> str:
    """The idempotency key of a report that came without: one report of an outcome a decision."""
    return "auto-" + hashlib.sha256(f"{decision_id}\0{outcome}".encode()).hexdigest()[:32]


def _seen(record: DecisionRecord | None, decision_id: str, may: May) -> DecisionRecord:
    """The record. Raises UnknownDecisionError where there is none, or none for the caller: nobody can tell which."""
    if record is None or not may(record.decision.pack):
        raise UnknownDecisionError(
            f"no decision {shown(decision_id)}", help="use the decision_id of an answer", field="decision_id"
        )
    return record


def _outcome(pack: Pack, body: RewardBody) -> Outcome:
    """The outcome that is reported. Raises InvalidError where there is none, or its value is out of its range."""
    outcome = pack.outcomes.get(body.outcome)
    if outcome is None:
        known = ", ".join(pack.outcomes)
        raise InvalidError(f"no outcome {body.outcome!r}", help=f"known are {known}", field="outcome")
    low, high = outcome.range
    if not math.isfinite(body.value) or not low <= body.value <= high:
        raise InvalidError(
            f"value {body.value!r} of {body.outcome!r}", help=f"a number in [{low:g}, {high:g}]", field="value"
        )
    return outcome


def _sorted(
    records: Sequence[Record],
) -> tuple[list[RewardRecord], list[ActivationRecord], list[OverrideRecord]]:
    return (
        [r for r in records if isinstance(r, RewardRecord)],
        [r for r in records if isinstance(r, ActivationRecord)],
        [r for r in records if isinstance(r, OverrideRecord)],
    )


def _remember(kept: OrderedDict[str, V], key: str, value: V) -> None:
    """Keeps the newest; which of the oldest goes does not matter."""
    kept[key] = value
    if len(kept) > REMEMBERED:
        kept.popitem(last=False)
