"""Proves a log: framing, one decision an id, and every propensity the number that was sampled with (laws 1, 5, 7).

Nothing is asked of the order of records, which means nothing: replicas append what they claimed as it is synced, a
claim of an old epoch may come after one of a new, and readers take a log for the set of what is in it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

from nba.decide import DRAW_BITS, draw_bits
from nba.decision import Decision
from nba.log.reader import MAX_PROBLEMS, Count, LogReport, OnRecord, read_records
from nba.log.tail import by_writer
from nba.records import ConsentRecord, DecisionRecord, Record, encode_record
from nba.types import NO_ACTION

# The names of the fields in which a decision made again differs; None where it cannot be made again.
Again: TypeAlias = Callable[[Decision], list[str] | None]

_SAMPLE = b"verify"


@dataclass(slots=True)
class Verification:
    """What a verification found."""

    log: LogReport
    decisions: int = 0  # distinct ids
    repeated: int = 0  # decision records beyond the first of their id and epoch: an append that was tried again
    superseded: int = 0  # decision records of a lower epoch than their id's canonical one
    contradicted: int = 0  # ids with two unlike records of one epoch
    wrong: int = 0  # decision records that are wrong in themselves
    consents: int = 0  # statements of what customers agree to
    orphans: int = 0  # reports, activations and overrides whose decision is not in this log: another machine's has it
    missing: int = 0  # segment numbers that a writer left out: given up empty, or gone
    replayed: int = 0  # decisions that were made again
    unlike: int = 0  # of them, that came out otherwise
    unreplayable: int = 0  # that could not be made again: their policy is no longer here
    problems: list[str] = field(default_factory=list)  # the first 100, framing's first

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong. A torn tail is no fault: it is what a killed writer leaves, never acknowledged."""
        return not (self.log.bad_frames or self.log.unknown or self.contradicted or self.wrong or self.unlike)

    def as_dict(self) -> dict[str, Any]:
        """All of it, flat, for a table or JSON."""
        log = {name: getattr(self.log, name) for name in LogReport.__slots__ if name != "problems"}
        own = {name: getattr(self, name) for name in Verification.__slots__ if name != "log"}
        return {**log, **own}

    def note(self, what: str) -> None:
        """Keeps a problem, if there are not too many yet."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(what)


def verify(
    folder: Path, *, on_record: OnRecord | None = None, again: Again | None = None, share: float = 1.0
) -> Verification:
    """Reads the whole log and checks it; `on_record` is told how many records are done. Raises LogError.

    With `again`, this share of the decisions is made again, the same ones every time.
    """
    report = LogReport()
    found = Verification(report)
    _check_all(_replayed(Count(on_record)(read_records(folder, report)), again, share, found), found)
    found.missing = sum(max(numbers) + 1 - len(numbers) for numbers in by_writer(folder).values())
    found.problems = [*report.problems, *found.problems][:MAX_PROBLEMS]
    return found


def _check_all(records: Iterable[Record], found: Verification) -> None:
    canonical: dict[str, tuple[int, bytes]] = {}  # decision_id -> highest epoch, digest of its first record
    facts = Counter[str]()  # decision_id -> reports, activations and overrides that came before its decision
    for record in records:
        if isinstance(record, DecisionRecord):
            wrongs = check_decision(record.decision)
            found.wrong += bool(wrongs)
            for wrong in wrongs:
                found.note(f"decision {record.decision_id}: {wrong}")
            _check_canonical(record, canonical, found)
        elif isinstance(record, ConsentRecord):
            found.consents += 1
        elif record.decision_id not in canonical:
            facts[record.decision_id] += 1
    found.decisions = len(canonical)
    found.orphans = sum(n for decision_id, n in facts.items() if decision_id not in canonical)


def _replayed(records: Iterable[Record], again: Again | None, share: float, found: Verification) -> Iterator[Record]:
    """The same records; decisions among them are made again."""
    for record in records:
        yield record
        if again is None or not isinstance(record, DecisionRecord):
            continue
        if draw_bits(_SAMPLE, record.decision_id, "replay") < share * (1 << DRAW_BITS):
            _replay(record.decision, again, found)


def _replay(decision: Decision, again: Again, found: Verification) -> None:
    difference = again(decision)
    if difference is None:
        found.unreplayable += 1
        return
    found.replayed += 1
    found.unlike += bool(difference)
    if difference:
        found.note(f"decision {decision.decision_id}: made again, {', '.join(difference)} came out otherwise")


def _check_canonical(record: DecisionRecord, canonical: dict[str, tuple[int, bytes]], found: Verification) -> None:
    digest = hashlib.blake2b(encode_record(record), digest_size=16).digest()
    epoch, known = canonical.setdefault(record.decision_id, (-1, b""))
    if record.epoch > epoch:
        canonical[record.decision_id] = record.epoch, digest
        found.superseded += epoch >= 0
    elif record.epoch < epoch:
        found.superseded += 1
    elif digest == known:
        found.repeated += 1
    elif record.epoch == 0:  # two replicas that both could not claim: never learned from
        found.superseded += 1
    else:
        found.contradicted += 1
        found.note(f"decision {record.decision_id}: two unlike records in epoch {epoch}")


def check_decision(decision: Decision) -> list[str]:
    """What is wrong with one decision in itself; empty when nothing is."""
    return list(_wrongs(decision))


def _wrongs(decision: Decision) -> Iterator[str]:
    candidates, distribution = decision.candidates, decision.distribution
    whole = 1 << DRAW_BITS
    if len(distribution) != len(candidates) or len(set(candidates)) != len(candidates):
        yield f"{len(distribution)} probabilities for {len(candidates)} candidates"
        return
    if decision.action_id not in candidates:
        yield f"action {decision.action_id!r} is no candidate"
        return
    counts = [p * whole for p in distribution]
    if any(p < 0.0 or not count.is_integer() for p, count in zip(distribution, counts, strict=True)):
        yield "a probability is negative or no multiple of 2**-53"
        return
    bounds = list(accumulate(int(count) for count in counts))
    if bounds[-1] != whole:
        yield f"probabilities sum to {bounds[-1]}/2**53, not to 1"
    column = candidates.index(decision.action_id)
    if decision.propensity != distribution[column]:
        yield f"propensity {decision.propensity!r} is not the action's probability {distribution[column]!r}"
    if not (bounds[column - 1] if column else 0) <= decision.draw < bounds[column]:
        yield f"draw {decision.draw} does not fall on {decision.action_id!r}"
    if any(distribution[candidates.index(a)] for a in decision.removed if a in candidates):
        yield "a removed action has a probability"
    if NO_ACTION in decision.removed or candidates[0] != NO_ACTION:
        yield f"{NO_ACTION!r} is not eligible"
    yield from _treatment_wrongs(decision)
    if decision.learnable and decision.mode != "online":
        yield f"learnable in mode {decision.mode!r}"


def _treatment_wrongs(decision: Decision) -> Iterator[str]:
    """What is wrong with the phrasing's probability given the action."""
    treatment, propensity, told = decision.treatment_id, decision.treatment_propensity, decision.treatment_distribution
    if treatment is None:
        if propensity != 1.0 or told:
            yield f"no treatment, but a treatment propensity of {propensity!r}"
        return
    if not told:
        if not 0.0 < propensity <= 1.0 or propensity != 1.0 / round(1.0 / propensity):
            yield f"treatment propensity {propensity!r} is not that of an even draw"
        return
    counts = [p * (1 << DRAW_BITS) for p in told.values()]
    if any(count < 0.0 or not count.is_integer() for count in counts) or sum(map(int, counts)) != 1 << DRAW_BITS:
        yield "treatment probabilities are no multiples of 2**-53 that sum to 1"
    if not propensity > 0.0 or told.get(treatment) != propensity:
        yield f"treatment propensity {propensity!r} is not the probability {told.get(treatment)!r} of {treatment!r}"
