"""Who comes and what would come of every action is settled before anything is sent."""

from __future__ import annotations

import numpy as np
import pytest

from envs.traffic import Traffic
from nba.pack_file import load_pack

PACK = load_pack("support")


def traffic(rounds: int = 300, seed: int = 0, moments: tuple[str, ...] = tuple(PACK.moments)) -> Traffic:
    return Traffic(PACK, moments, rounds, customers=2_000, population_seed=0, seed=seed)


def test_a_body_brings_request_time_facts_only() -> None:
    """Stored features are the server's to read; a fact that is not known is left out."""
    stored = {name for name, field in PACK.fields.items() if field.feature is not None}
    some = traffic()
    for i in range(len(some)):
        body = some.body(i, f"r-{i}")
        assert set(body) == {"decision_id", "subject_id", "pack", "moment", "context"}
        context = body["context"]
        assert isinstance(context, dict)
        assert not set(context) & stored
        assert None not in context.values()
        assert set(context) <= set(PACK.moments[str(body["moment"])].fields)


def test_the_same_seed_is_the_same_traffic() -> None:
    bodies = [[t.body(i, "r") for i in range(50)] for t in (traffic(), traffic(), traffic(seed=1))]
    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]


def test_moments_come_about_equally_often_and_only_those_asked_for() -> None:
    kinds = [traffic(1_000).body(i, "r")["moment"] for i in range(1_000)]
    assert min(kinds.count(moment) for moment in PACK.moments) > 150
    only = traffic(20, moments=("tone_tuner",))
    assert {only.body(i, "r")["moment"] for i in range(20)} == {"tone_tuner"}


def test_the_outcome_that_closes_the_window_is_reported_always_and_last() -> None:
    some = traffic(400, moments=("tone_tuner",))
    reports = [some.serve(i, "neutral_reply") for i in range(400)]
    assert {told[-1][0] for told in reports} == {"resolved"}
    assert {told[-1][1] for told in reports} == {0.0, 1.0}
    others = [report for told in reports for report in told[:-1]]
    assert {name for name, _ in others} == {"repeat_contact", "escalated"}
    assert {value for _, value in others} == {1.0}


def test_what_was_served_is_valued_by_the_truth() -> None:
    """Silence everywhere: the served value is the mean of column 0."""
    some = traffic(200, moments=("tone_tuner", "followup_whisper"))
    for i in range(200):
        some.serve(i, "no_action")
    overall, by_moment = some.values()
    for name, values in by_moment.items():
        assert values.served == pytest.approx(some.moments[name].expected[:, 0].mean())
        assert values.served < values.uniform < values.rules < values.oracle
    served = np.concatenate([part.expected[:, 0] for part in some.moments.values()])
    assert (overall.rounds, overall.served) == (200, pytest.approx(served.mean()))


def test_rounds_that_were_not_served_are_not_valued() -> None:
    some = traffic(100)
    some.serve(0, "no_action")
    overall, by_moment = some.values()
    assert (overall.rounds, len(by_moment)) == (1, 1)


def test_an_action_the_pack_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="not in"):
        traffic(1).serve(0, "sing")
