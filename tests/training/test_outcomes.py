"""Every decision of a log is accounted for, and only what can tell of the response is used."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from nba.log import LogWriter
from nba.pack import Pack
from nba.records import ActivationRecord, ConsentRecord, DecisionRecord, OverrideRecord, Record, RewardRecord
from tests.conftest import RecordFactory
from tests.training.conftest import NOW
from training.outcomes import OutcomeLog, read_outcomes

START = NOW - timedelta(days=10)


def reward(decision_id: str, outcome: str, value: float, *, after_s: float = 60.0) -> RewardRecord:
    at = START + timedelta(seconds=after_s)
    return RewardRecord(
        decision_id=decision_id,
        outcome=outcome,
        value=value,
        observed_at=at,
        idempotency_key=f"{decision_id}:{outcome}:{after_s}",
        received_at=at,
    )


class Log:
    """A log of the moment `tone_tuner`, written to and read."""

    def __init__(self, folder: Path, pack: Pack, factory: RecordFactory) -> None:
        self.folder, self.pack, self.factory = folder, pack, factory
        self.records: list[Record] = []

    def decide(self, decision_id: str, *, days: float = 0.0, **changes: object) -> DecisionRecord:
        made = self.factory(decision_id, decided_at=START + timedelta(days=days))
        told = {"action_id": "warm_reply", "candidates": ("no_action", "warm_reply"), "distribution": (0.5, 0.5)}
        decision = replace(made.decision, **{**told, **changes})
        self.records.append(replace(made, decision=decision))
        return replace(made, decision=decision)

    def read(self, *, as_of_days: float = 10.0) -> OutcomeLog:
        writer = LogWriter(self.folder)
        writer.append(*self.records).result(timeout=20)
        writer.close()
        as_of = START + timedelta(days=as_of_days)
        return read_outcomes(self.folder, self.pack, ["tone_tuner"], as_of=as_of)


@pytest.fixture
def log(tmp_path: Path, pack: Pack, decision_record: RecordFactory) -> Log:
    return Log(tmp_path / "log", pack, decision_record)


def test_outcomes_come_by_name_and_what_was_not_reported_did_not_come(log: Log) -> None:
    """Columns are resolved, repeat_contact, escalated, as in the reward formula."""
    log.decide("a")
    log.decide("b")
    log.records += [reward("a", "escalated", 1.0), reward("a", "resolved", 0.0)]
    rounds = log.read().rounds["tone_tuner"]
    assert rounds.outcomes.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert rounds.actions.tolist() == [2, 2]
    assert np.nanmean(rounds.facts) == -0.5  # sentiment; all else is missing


def test_statements_of_consent_are_passed_over(log: Log) -> None:
    log.decide("a")
    told = ConsentRecord(subject="0a", purposes={"emotion": False}, source=None, observed_at=START, recorded_at=START)
    log.records.append(told)
    found = log.read()
    assert (found.counts, found.log.records, found.log.unknown) == ({"used_online": 1}, 2, 0)


def test_what_comes_after_the_window_has_closed_does_not_count(log: Log) -> None:
    log.decide("a")
    log.records += [
        reward("a", "resolved", 0.0),
        reward("a", "escalated", 1.0, after_s=61.0),
        reward("a", "repeat_contact", 1.0, after_s=90_000.0),
    ]
    assert log.read().rounds["tone_tuner"].outcomes.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("changes", "fate"),
    [
        ({}, "used_online"),
        ({"mode": "deterministic", "learnable": False}, "used_deterministic"),
        ({"mode": "fallback", "learnable": False, "degraded": ("policy",)}, "used_fallback"),
        ({"degraded": ("features",)}, "facts_not_read"),
        ({"action_id": "gone"}, "unknown_action"),
        ({"pack": "shop"}, "other_pack"),
    ],
)
def test_how_the_action_was_chosen_does_not_matter_but_what_was_known_does(
    log: Log, changes: dict[str, object], fate: str
) -> None:
    log.decide("a", **changes)
    read = log.read()
    assert read.counts == {fate: 1}
    assert len(read) == fate.startswith("used_")


def test_overridden_and_never_shown_decisions_are_set_aside(log: Log) -> None:
    log.decide("a")
    log.records.append(OverrideRecord(decision_id="a", action_id="no_action", actor="x", overridden_at=START))
    shown = log.decide("b").decision.request
    log.records.pop()
    log.decide("b", request=replace(shown, defer_activation=True))
    log.decide("c", request=replace(shown, decision_id="c", defer_activation=True))
    log.records.append(ActivationRecord(decision_id="c", activated_at=START + timedelta(hours=1)))
    assert log.read().counts == {"void": 1, "not_activated": 1, "used_online": 1}


def test_of_young_decisions_none_is_used_beyond_the_first_that_is_open(log: Log) -> None:
    """The window is a day. Of three decided within the last day the first has closed, the second has not."""
    log.decide("old")
    for i, days in enumerate((9.5, 9.6, 9.7)):
        log.decide(f"young-{i}", days=days)
    for decision_id, days in (("young-0", 9.5), ("young-2", 9.7)):
        log.records.append(reward(decision_id, "resolved", 1.0, after_s=days * 86_400 + 60))
    read = log.read()
    assert read.counts == {"used_online": 2, "open": 1, "too_young": 1}
    assert read.rounds["tone_tuner"].outcomes[:, 0].tolist() == [0.0, 1.0]
    assert log.read(as_of_days=11.0).counts == {"used_online": 4}


def test_a_decision_written_twice_counts_once(log: Log) -> None:
    log.records += [log.decide("a"), log.decide("a")]
    assert log.read().counts == {"used_online": 1}


def test_records_after_the_time_asked_about_do_not_count(log: Log) -> None:
    log.decide("a")
    log.decide("later", days=3.0)
    log.records.append(reward("a", "escalated", 1.0))
    read = log.read(as_of_days=2.0)
    assert read.counts == {"used_online": 1}
    assert read.rounds["tone_tuner"].outcomes[:, 2].tolist() == [1.0]


def test_the_digest_names_the_rounds(log: Log, support_log: Path, pack: Pack) -> None:
    log.decide("a")
    first = log.read()
    assert log.read().digest == first.digest
    assert read_outcomes(support_log, pack, ["tone_tuner"], as_of=NOW).digest != first.digest


def test_moments_that_are_not_asked_for_are_counted_and_left(support_log: Path, pack: Pack) -> None:
    read = read_outcomes(support_log, pack, ["tone_tuner"], as_of=NOW)
    assert list(read.rounds) == ["tone_tuner"]
    assert read.counts == {"used_online": 1_600, "not_asked_for": 6_400}


def test_a_folder_that_is_not_there_has_nothing(tmp_path: Path, pack: Pack) -> None:
    read = read_outcomes(tmp_path / "none", pack, ["tone_tuner"], as_of=NOW)
    assert (len(read), dict(read.counts)) == (0, {})
