"""From real records to logged sessions."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import pytest

from nba.join import join
from nba.pack import Pack
from nba.records import DecisionRecord, OverrideRecord, Record
from tests.training.conftest import NOW
from tests.training.offline.logged import START, STEP, LoggedSessions, log_sessions
from training.offline.from_log import episodes_of

MOMENT = "service_conversation"


@pytest.fixture(scope="module")
def logged(pack: Pack) -> LoggedSessions:
    return log_sessions(pack, MOMENT, 40)


def test_sessions_of_the_log_earn_what_they_earned(logged: LoggedSessions, pack: Pack) -> None:
    """In any order of the log."""
    episodes = episodes_of(reversed(logged.records), pack, as_of=NOW)[MOMENT]
    found = episodes.to_go()[episodes.offsets[:-1]]
    in_order = sorted(range(40), key=lambda i: _key(logged, i))
    assert np.allclose(found, logged.returns[in_order])
    assert np.diff(episodes.offsets).tolist() == logged.steps[in_order].tolist()
    assert episodes.ended.all()
    assert episodes.choices.all()


def test_steps_are_those_of_the_join(logged: LoggedSessions, pack: Pack) -> None:
    """The same rounds, in another order."""
    rounds = join(logged.records, pack, as_of=NOW).rounds[MOMENT]
    episodes = episodes_of(logged.records, pack, as_of=NOW)[MOMENT].rounds
    assert len(episodes) == len(rounds)
    for name in ("contexts", "mask", "propensities", "rewards", "actions"):
        ours, theirs = (np.sort(getattr(columns, name).astype(np.float64), axis=0) for columns in (episodes, rounds))
        assert np.array_equal(ours, theirs), name


def test_the_step_counts_up_from_0_in_each_session(logged: LoggedSessions, pack: Pack) -> None:
    from nba.moment_plan import plan_moment

    episodes = episodes_of(logged.records, pack, as_of=NOW)[MOMENT]
    step = episodes.rounds.contexts[:, plan_moment(pack, MOMENT).encoder.column("step")]
    first = np.zeros(len(step), dtype=np.bool_)
    first[episodes.offsets[:-1]] = True
    assert len(np.unique(step[first])) == 1
    assert (np.diff(step)[~first[1:]] > 0).all()


def test_a_session_with_an_open_window_is_left_out(logged: LoggedSessions, pack: Pack) -> None:
    """An hour after the first step, windows of an hour are open of all sessions but those of one closed step."""
    early = episodes_of(logged.records, pack, as_of=START + timedelta(minutes=59))
    assert all((np.diff(episodes.offsets) >= 1).all() for episodes in early.values())
    whole = episodes_of(logged.records, pack, as_of=NOW)[MOMENT]
    assert sum(map(len, early.values())) < len(whole)


def test_sessions_belong_to_the_span_they_began_in(logged: LoggedSessions, pack: Pack) -> None:
    assert episodes_of(logged.records, pack, as_of=NOW, since=START + STEP) == {}
    assert len(episodes_of(logged.records, pack, as_of=NOW, since=START, until=START + STEP)[MOMENT]) == 40


def test_a_forced_step_stays_and_is_no_choice(logged: LoggedSessions, pack: Pack) -> None:
    forced = [_changed(r, "s0-0", mode="deterministic", learnable=False) for r in logged.records]
    before, after = (episodes_of(records, pack, as_of=NOW)[MOMENT] for records in (logged.records, forced))
    assert len(after.rounds) == len(before.rounds)
    assert (~after.choices).sum() == 1
    assert np.array_equal(after.rounds.rewards, before.rounds.rewards)


def test_an_overridden_step_cuts_its_session(logged: LoggedSessions, pack: Pack) -> None:
    """The steps before it stay, and it is where they led."""
    i = int(np.argmax(logged.steps > 3))
    override = OverrideRecord(decision_id=f"s{i}-2", action_id="no_action", actor="agent", overridden_at=START + STEP)
    episodes = episodes_of([*logged.records, override], pack, as_of=NOW)[MOMENT]
    (cut,) = np.flatnonzero(~episodes.ended)
    assert np.diff(episodes.offsets)[cut] == 3
    assert episodes.transitions.sum() == len(episodes.rounds) - 1


def test_decisions_without_a_session_are_no_sessions(logged: LoggedSessions, pack: Pack) -> None:
    def without(record: Record) -> Record:
        if not isinstance(record, DecisionRecord):
            return record
        request = record.decision.request
        context = msgspec.structs.replace(request.context, session_id=None)
        decision = msgspec.structs.replace(record.decision, request=msgspec.structs.replace(request, context=context))
        return msgspec.structs.replace(record, decision=decision)

    assert episodes_of(map(without, logged.records), pack, as_of=NOW) == {}


def _changed(record: Record, decision_id: str, **changes: object) -> Record:
    if not isinstance(record, DecisionRecord) or record.decision_id != decision_id:
        return record
    return msgspec.structs.replace(record, decision=msgspec.structs.replace(record.decision, **changes))


def _key(logged: LoggedSessions, i: int) -> tuple[str, str]:
    first = next(r for r in logged.records if isinstance(r, DecisionRecord) and r.decision_id == f"s{i}-0")
    return first.decision.context.subject, f"s{i}"
