"""From a log that grows to rounds: each once, when its window has closed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np
import pytest
from msgspec.structs import replace

from nba.join import join
from nba.pack import Pack
from nba.records import DecisionRecord, OverrideRecord, Record, RewardRecord
from tests.training.conftest import NOW, history, uniform
from training.pending import NONE, Closed, Pending
from training.truth import SimulatedMoment

START = NOW - timedelta(days=10)
MOMENT = "tone_tuner"  # a window of 24 hours, which `resolved` closes
HEARD = START + timedelta(minutes=2)
OVER = START + timedelta(hours=24)


@pytest.fixture(scope="module")
def records(pack: Pack, simulated: dict[str, SimulatedMoment]) -> list[Record]:
    """20 decisions at START, each with three outcomes a minute later."""
    return history(uniform(pack), simulated[MOMENT], 20, np.random.default_rng(1))


def decisions(records: Iterable[Record]) -> list[DecisionRecord]:
    return [record for record in records if isinstance(record, DecisionRecord)]


def filled(pack: Pack, records: Iterable[Record], since: datetime | None = None) -> Pending:
    pending = Pending(pack, since)
    for record in records:
        pending.add(record)
    return pending


def same(closed: Closed, expected: list[Record], pack: Pack, as_of: datetime) -> bool:
    """Whether these are the rounds of the join."""
    joined, rounds = join(expected, pack, as_of=as_of), closed.rounds[MOMENT]
    named = [decision.decision_id for decision in closed.decisions[MOMENT]]
    columns = ("contexts", "mask", "actions", "propensities", "rewards", "subjects")
    equal = all(np.array_equal(getattr(rounds, c), getattr(joined.rounds[MOMENT], c)) for c in columns)
    return equal and named == joined.decision_ids[MOMENT]


def test_rounds_closed_by_an_outcome_come_out_once_as_the_join_has_them(pack: Pack, records: list[Record]) -> None:
    pending = filled(pack, records)
    closed = pending.closed(HEARD)
    assert len(closed) == 20
    assert same(closed, records, pack, HEARD)
    assert (len(pending.closed(NOW)), len(pending)) == (0, 0)


def test_a_decision_without_outcomes_comes_out_when_its_window_is_over(pack: Pack, records: list[Record]) -> None:
    silent: list[Record] = [*decisions(records)]
    pending = filled(pack, silent)
    assert len(pending.closed(OVER - timedelta(seconds=1))) == 0
    assert len(pending) == 20
    closed = pending.closed(OVER)
    assert same(closed, silent, pack, OVER)
    assert len(pending) == 0


def test_what_comes_after_a_round_came_out_changes_nothing(pack: Pack, records: list[Record]) -> None:
    pending = filled(pack, records)
    pending.closed(HEARD)
    for record in decisions(records):
        pending.add(replace(record, epoch=2))
    assert (len(pending.closed(NOW)), len(pending)) == (0, 0)


def test_records_of_later_than_as_of_wait(pack: Pack, records: list[Record]) -> None:
    """Another machine's clock is ahead: decided at START, told at a minute later."""
    pending = filled(pack, records)
    assert len(pending.closed(START - timedelta(seconds=1))) == 0
    assert len(pending.closed(START)) == 0
    assert len(pending.closed(HEARD)) == 20


def test_outcomes_may_be_read_before_their_decision(pack: Pack, records: list[Record]) -> None:
    outcomes = [record for record in records if isinstance(record, RewardRecord)]
    pending = filled(pack, outcomes)
    assert (len(pending.closed(HEARD)), len(pending)) == (0, 0)
    for record in decisions(records):
        pending.add(record)
    assert same(pending.closed(HEARD), records, pack, HEARD)


def test_what_can_never_be_learned_from_is_let_go(pack: Pack, records: list[Record]) -> None:
    """Not learnable, overridden, of another pack, decided before `since`."""
    one, two, three, four, *_ = decisions(records)
    unlearnable = replace(one, decision=replace(one.decision, learnable=False, mode="fallback"))
    override = OverrideRecord(decision_id=two.decision_id, action_id="x", actor="ann", overridden_at=START)
    elsewhere = replace(three, decision=replace(three.decision, pack="retail"))
    before = replace(four, decision=replace(four.decision, decided_at=START - timedelta(seconds=1)))
    pending = filled(pack, [unlearnable, two, override, elsewhere, before], since=START)
    assert (len(pending.closed(NOW)), len(pending)) == (0, 0)


def test_after_what_was_learned_from_the_rest_comes_out(pack: Pack, records: list[Record]) -> None:
    """The log of two hours: 12 had closed, 8 waited for their outcomes, and those come now."""
    early = {record.decision_id for record in decisions(records)[:12]}
    told = [r for r in records if isinstance(r, DecisionRecord) or r.decision_id in early]
    later = [r for r in records if not isinstance(r, DecisionRecord) and r.decision_id not in early]
    pending = Pending(pack)
    pending.pass_over(told, HEARD)
    assert len(pending) == 8
    for record in later:
        pending.add(record)
    closed = pending.closed(HEARD)
    assert {d.decision_id for d in closed.decisions[MOMENT]} == {r.decision_id for r in decisions(records)} - early


def test_a_decision_recorded_again_is_not_learned_from_twice(pack: Pack, records: list[Record]) -> None:
    """The second record, of a higher epoch and decided after `as_of`'s window, would still be open."""
    first = decisions(records)[0]
    second = replace(first, epoch=2, decision=replace(first.decision, decided_at=HEARD))
    pending = Pending(pack)
    pending.pass_over([*records, second], OVER)
    assert len(pending.closed(NOW)) == 0


def test_closed_rounds_add_up_row_by_row(pack: Pack, records: list[Record]) -> None:
    whole = filled(pack, records).closed(HEARD)
    twice = NONE.and_then(whole).and_then(whole)
    assert len(twice) == 40
    assert twice.decisions[MOMENT] == whole.decisions[MOMENT] * 2
