"""Proving a log, and finding everything that is put wrong into one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nba.decide import thresholds
from nba.log import LogWriter
from nba.log.segment import segments
from nba.log.verify import Verification, check_decision, verify
from nba.records import ActivationRecord, ConsentRecord, Record

if TYPE_CHECKING:
    from tests.conftest import RecordFactory

Verify = Callable[..., Verification]


@pytest.fixture
def verified(tmp_path: Path) -> Verify:
    """Writes records and verifies the log they make."""

    def write_and_verify(*records: Record) -> Verification:
        writer = LogWriter(tmp_path / "log")
        writer.append(*records).result(10)
        writer.close()
        return verify(tmp_path / "log")

    return write_and_verify


def test_a_sound_log_is_ok(verified: Verify, decision_record: RecordFactory) -> None:
    """Draws on both ends of each action's stretch: no_action [0, 2**51), a [2**51, 2**52), b [2**52, 2**53)."""
    draws = (0, 2**51 - 1, 2**51, 2**52 - 1, 2**52, 2**53 - 1)
    found = verified(*(decision_record(f"d-{i}", draw=draw) for i, draw in enumerate(draws)))
    assert (found.ok, found.decisions, found.problems) == (True, 6, [])


def test_an_empty_log_is_ok(tmp_path: Path) -> None:
    found = verify(tmp_path / "none")
    assert (found.ok, found.decisions) == (True, 0)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"propensity": 0.5}, "propensity"),
        ({"propensity": 0.25 + 2**-53}, "propensity"),
        ({"draw": 2**51 - 1}, "draw"),
        ({"draw": 2**52}, "draw"),
        ({"distribution": (0.25, 0.25, 0.5 - 2**-53, 0.0)}, "sum"),
        ({"distribution": (0.25, 0.25, 0.5 + 2**-52, 0.0)}, "sum"),
        ({"distribution": (0.25, 0.25, 0.5, 2**-60)}, "multiple"),
        ({"distribution": (0.5, 0.25, 0.5, -0.25)}, "negative"),
        ({"distribution": (0.25, 0.25, 0.5)}, "candidates"),
        ({"distribution": (0.25, 0.25, 0.25, 0.25)}, "removed"),
        ({"action_id": "z"}, "candidate"),
        ({"removed": {"a": "trigger"}}, "removed"),
        ({"removed": {"no_action": "trigger"}}, "eligible"),
        ({"mode": "deterministic"}, "learnable"),
    ],
)
def test_a_wrong_decision_is_found(
    verified: Verify, decision_record: RecordFactory, changes: dict[str, Any], wrong: str
) -> None:
    """Of action a: draw 2**51, propensity 1/4."""
    record = decision_record("d-1", draw=2**51)
    changed = replace(record, decision=replace(record.decision, **changes))
    found = verified(decision_record("d-0"), changed)
    assert (found.ok, found.wrong) == (False, 1)
    assert all("d-1" in problem for problem in found.problems)
    assert any(wrong in problem for problem in found.problems)


def test_a_repeated_record_is_no_fault(verified: Verify, decision_record: RecordFactory) -> None:
    """A claim whose log record was in doubt is appended again."""
    found = verified(decision_record("d-0"), decision_record("d-0"))
    assert (found.ok, found.decisions, found.repeated) == (True, 1, 1)


def test_statements_of_consent_are_counted(verified: Verify, decision_record: RecordFactory) -> None:
    now = decision_record.now
    stated = ConsentRecord(subject="0a", purposes={"emotion": False}, source=None, observed_at=now, recorded_at=now)
    found = verified(stated, decision_record("d-0"), stated)
    assert (found.ok, found.decisions, found.as_dict()["consents"], found.log.records) == (True, 1, 2, 3)


@pytest.mark.parametrize("epochs", [(1, 2), (2, 1)])
def test_a_lower_epoch_explains_another_decision(
    verified: Verify, decision_record: RecordFactory, epochs: tuple[int, int]
) -> None:
    found = verified(*(decision_record("d-0", draw=epoch << 51, epoch=epoch) for epoch in epochs))
    assert (found.ok, found.decisions, found.superseded) == (True, 1, 1)


def test_two_unlike_records_of_one_epoch_are_found(verified: Verify, decision_record: RecordFactory) -> None:
    found = verified(decision_record("d-0", draw=0), decision_record("d-0", draw=2**52))
    assert (found.ok, found.contradicted) == (False, 1)
    assert "two unlike records" in found.problems[0]


def test_two_unlike_records_that_nobody_claimed_are_no_fault(verified: Verify, decision_record: RecordFactory) -> None:
    found = verified(*(decision_record("d-0", draw=draw, epoch=0) for draw in (0, 2**52)))
    assert (found.ok, found.superseded) == (True, 1)


def test_damage_is_not_ok_and_a_torn_tail_is(tmp_path: Path, decision_record: RecordFactory) -> None:
    writer = LogWriter(tmp_path)
    writer.append(*(decision_record(f"d-{i}") for i in range(3))).result(10)
    writer.close()
    (path,) = segments(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert verify(tmp_path).ok
    path.write_bytes(whole[:5] + b"?" + whole[6:])
    found = verify(tmp_path)
    assert not found.ok
    assert found.as_dict()["bad_frames"] == 1
    assert "damaged" in found.problems[0]


def test_facts_of_no_decision_are_counted_and_no_fault(verified: Verify, decision_record: RecordFactory) -> None:
    """Another machine may have the decision. An activation that comes before its decision is none of them."""
    early, orphan = (ActivationRecord(decision_id=f"d-{i}", activated_at=decision_record.now) for i in range(2))
    found = verified(early, orphan, orphan, decision_record("d-0"))
    assert (found.ok, found.orphans) == (True, 2)


def test_a_segment_number_that_a_writer_left_out_is_counted(tmp_path: Path, decision_record: RecordFactory) -> None:
    writer = LogWriter(tmp_path, roll_bytes=1)
    for i in range(4):
        writer.append(decision_record(f"d-{i}")).result(10)
    writer.close()
    segments(tmp_path)[1].unlink()
    assert (verify(tmp_path).missing, verify(tmp_path).ok) == (1, True)


def test_decisions_are_made_again_and_what_comes_out_otherwise_is_found(
    tmp_path: Path, verified: Verify, decision_record: RecordFactory
) -> None:
    """Of three decisions one comes out the same, one with another draw, and one's policy is gone."""
    verified(*(decision_record(f"d-{i}") for i in range(3)))
    outcomes: dict[str, list[str] | None] = {"d-0": [], "d-1": ["draw"], "d-2": None}
    found = verify(tmp_path / "log", again=lambda decision: outcomes[decision.decision_id])
    assert (found.ok, found.replayed, found.unlike, found.unreplayable) == (False, 2, 1, 1)
    assert found.problems == ["decision d-1: made again, draw came out otherwise"]


def test_of_a_share_the_same_decisions_are_made_again(
    tmp_path: Path, verified: Verify, decision_record: RecordFactory
) -> None:
    """A hash of 400 ids falls below 1/4 about 100 times; 60 and 140 are more than four standard errors away."""
    verified(*(decision_record(f"d-{i}") for i in range(400)))
    asked: list[list[str]] = [[], []]
    for ids in asked:
        verify(tmp_path / "log", again=lambda decision, ids=ids: ids.append(decision.decision_id) or [], share=0.25)  # type: ignore[misc]
    assert asked[0] == asked[1]
    assert 60 < len(asked[0]) < 140


def test_progress_is_told(tmp_path: Path, decision_record: RecordFactory) -> None:
    writer = LogWriter(tmp_path)
    writer.append(*(decision_record(f"d-{i}") for i in range(2_500))).result(10)
    writer.close()
    told: list[int] = []
    verify(tmp_path, on_record=told.append)
    assert told == [1_000, 2_000]


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=6).filter(any), st.integers(0, 2**53 - 1))
def test_what_decide_draws_is_sound(decision_record: RecordFactory, weights: list[int], draw: int) -> None:
    """The thresholds of `decide`, whatever the weights: a sampled decision is never found wrong."""
    counts = thresholds(np.array([weights]) / sum(weights))[0]
    column = int(np.searchsorted(np.cumsum(counts), draw, side="right"))
    distribution = tuple((counts / 2**53).tolist())
    candidates = ("no_action", "a", "b", "c", "d", "e")[: len(weights)]
    decision = replace(
        decision_record("d").decision,
        candidates=candidates,
        removed={},
        distribution=distribution,
        draw=draw,
        action_id=candidates[column],
        propensity=distribution[column],
    )
    assert check_decision(decision) == []
