"""Proves a log against the books of those who asked: nothing acknowledged is lost, counted twice or told otherwise."""

from __future__ import annotations

import asyncio
import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

from client import NO_CLAIM, Ledger
from ground import Ground

from nba.decision import Decision
from nba.join import join
from nba.log import read_records
from nba.log.verify import Verification, verify
from nba.pack import Pack
from nba.records import DecisionRecord, Record
from serving.answers import answer
from serving.archive import canonical
from serving.errors import NotFoundError
from serving.replay import Replayer
from serving.wire import encode


@dataclass(slots=True)
class Proof:
    """Counts; every one named `bad_` must be 0."""

    answers: int = 0
    decisions: int = 0  # acknowledged, distinct
    reports: int = 0  # acknowledged, distinct
    unclaimed: int = 0  # decisions answered without a claim
    replayed: int = 0  # decisions made again from the log
    bad_lost: int = 0  # acknowledged and not in the log
    bad_altered: int = 0  # the canonical record is not, field by field, what was answered
    bad_reports_lost: int = 0  # acknowledged and not in the log
    bad_rewards: int = 0  # the join's reward is not the client's own sum
    bad_propensities: int = 0  # wrong by `nba log verify`
    bad_replays: int = 0  # made again, came out otherwise
    bad_contradicted: int = 0  # two unlike records of one id and epoch
    bad_changed: int = 0  # asked again, answered otherwise
    bad_given_up: int = 0  # never answered
    details: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything that must be 0 is."""
        return not any(getattr(self, f.name) for f in fields(self) if f.name.startswith("bad_"))

    def __str__(self) -> str:
        bad = {f.name[4:]: getattr(self, f.name) for f in fields(self) if f.name.startswith("bad_")}
        wrong = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in bad.items() if n)
        told = f"{self.decisions} decisions and {self.reports} reports acknowledged"
        told += f" ({self.unclaimed} unclaimed)" if self.unclaimed else ""
        return f"{told}, {self.replayed} replayed: {wrong or 'none lost, doubled, altered or unlike'}" + "".join(
            f" [{detail}]" for detail in self.details[:3]
        )


def prove(ground: Ground, ledgers: Iterable[Ledger], *, share: float = 0.2) -> Proof:
    """Reads the whole log; this share of the decisions is made again."""
    proof, records = Proof(), list(read_records(ground.home.log))
    replayer = Replayer(ground.home.policies, ground.home.secret())
    with asyncio.Runner() as loop:

        def again(decision: Decision) -> list[str] | None:
            try:
                told = loop.run(replayer.replay(decision))
            except NotFoundError:
                return None
            return [] if told.identical else sorted(told.difference or {})

        _verified(verify(ground.home.log, again=again, share=share), proof)
    by_id = defaultdict[str, list[Record]](list)
    for record in records:
        by_id[getattr(record, "decision_id", "")].append(record)
    for ledger in ledgers:
        _answers(ledger, by_id, proof)
        _reports(ledger, records, by_id, ground.pack, proof)
    return proof


def decisions(log: Path) -> list[DecisionRecord]:
    """Every decision record of a log."""
    return [record for record in read_records(log) if isinstance(record, DecisionRecord)]


def _verified(found: Verification, proof: Proof) -> None:
    proof.replayed = found.replayed
    proof.bad_propensities, proof.bad_replays = found.wrong, found.unlike + found.unreplayable
    proof.bad_contradicted = found.contradicted + found.log.bad_frames + found.log.unknown
    proof.details += found.problems[:3] if not found.ok else []


def _answers(ledger: Ledger, by_id: dict[str, list[Record]], proof: Proof) -> None:
    proof.answers += len(ledger.answers)
    proof.bad_changed += len(ledger.changed)
    proof.bad_given_up += len(ledger.given_up)
    proof.details += [f"changed: {i}" for i in ledger.changed[:2]] + [f"given up: {i}" for i in ledger.given_up[:2]]
    for told in ledger.answers:
        decisions = [r for r in by_id.get(told["decision_id"], []) if isinstance(r, DecisionRecord)]
        kept = canonical(decisions)
        if kept is None:
            proof.bad_lost += 1
            proof.details.append(f"lost: {told['decision_id']}")
        elif not any(_says(told, record) for record in (decisions if NO_CLAIM in told["degraded"] else [kept])):
            proof.bad_altered += 1
            proof.details.append(f"altered: {told['decision_id']}")
    known = ledger.known()
    proof.decisions += len(known)
    proof.unclaimed += sum(NO_CLAIM in told["degraded"] for told in known.values())


def _says(told: object, record: DecisionRecord) -> bool:
    return any(json.loads(encode(answer(record, replayed=replayed))) == told for replayed in (False, True))


def _reports(ledger: Ledger, records: list[Record], by_id: dict[str, list[Record]], pack: Pack, proof: Proof) -> None:
    """Every report is in the log, and every round's reward is its decision's reports summed by hand, less the cost."""
    proof.reports += len(ledger.rewards)
    wanted = defaultdict[str, list[tuple[str, float]]](list)
    for (decision_id, key), said in ledger.rewards.items():
        wanted[decision_id].append(said)
        if not any(getattr(r, "idempotency_key", None) == key for r in by_id.get(decision_id, [])):
            proof.bad_reports_lost += 1
            proof.details.append(f"report lost: {decision_id} {key}")
    known = ledger.known()
    # An hour's window, and whatever a clock was wrong by; reports that came later than the join do not count.
    joined = join(records, pack, as_of=datetime.now(UTC) + timedelta(days=30))
    rounds, ids = joined.rounds["basket"], joined.decision_ids["basket"]
    for decision_id, reward in zip(ids, rounds.rewards, strict=True):
        told = known.get(decision_id)
        if told is not None and not _adds_up(told, wanted[decision_id], float(reward), pack):
            proof.bad_rewards += 1
            proof.details.append(f"reward {reward} of {decision_id}: {wanted[decision_id]}")
    expected = sum(i in by_id and _learnable(by_id[i]) and not _waits(by_id[i], i, ledger) for i in known)
    missing = expected - len(set(ids) & known.keys())
    proof.bad_rewards += abs(missing)
    proof.details += [f"{missing} rounds missing"] if missing else []


def _adds_up(told: dict[str, object], said: list[tuple[str, float]], reward: float, pack: Pack) -> bool:
    action = told["action"]
    cost = pack.action(str(action["action_id"])).cost if isinstance(action, dict) else math.nan
    clicks = min(math.fsum(value for outcome, value in said if outcome == "clicks"), 1_000.0)
    bought = 1.0 if any(outcome == "bought" for outcome, _ in said) else 0.0
    return math.isclose(0.1 * clicks + bought - cost, reward, abs_tol=1e-9)


def _learnable(records: list[Record]) -> bool:
    kept = canonical(records)
    return kept is not None and kept.decision.learnable and kept.decision.mode == "online"


def _waits(records: list[Record], decision_id: str, ledger: Ledger) -> bool:
    kept = canonical(records)
    return kept is not None and kept.decision.request.defer_activation and decision_id not in ledger.deferred
