"""Whole sessions against a server: step by step, everything drawn beforehand."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from envs.batch_session import BatchSessionEnv
from envs.load.session_traffic import session_groups, yardsticks
from nba.pack_file import load_pack
from tests.envs.load.driven import play, traffic_of
from tests.envs.load.stub_server import StubServer, failure

PACK = load_pack("support")


def steps_of(server: StubServer, number: int) -> list[str]:
    mine = [decision_id for decision_id in server.bodies if decision_id.startswith(f"r-s{number}-")]
    return sorted(mine, key=lambda decision_id: int(decision_id.rpartition("-")[2]))


@pytest.mark.parametrize("batch", [1, 25])
def test_sessions_are_played_step_by_step_to_their_end(batch: int) -> None:
    server = StubServer(PACK)
    report = play(server, 50, sessions=6, batch=batch)
    (values,) = report.sessions.values()
    assert (report.sessions_asked, report.sessions_broken, values.sessions) == (6, 0, 6)
    assert (report.decided, report.steps) == (50, len(server.bodies) - 50)
    assert values.steps == report.steps == sum(report.policies.values()) - 50
    for number in range(6):
        ids = steps_of(server, number)
        assert ids == [f"r-s{number}-{step}" for step in range(len(ids))]
        bodies = [server.bodies[decision_id] for decision_id in ids]
        assert {(body["session_id"], body["moment"]) for body in bodies} == {(f"r-s{number}", "service_conversation")}
        assert [body["context"]["step"] for body in bodies] == [float(step) for step in range(len(ids))]
        assert len({body["subject_id"] for body in bodies}) == 1


def test_a_session_waits_for_what_came_of_a_step_before_it_asks_for_the_next() -> None:
    server = StubServer(PACK)
    play(server, 0, sessions=1)
    path = [request.url.path for request in server.requests]
    decided = [i for i, of in enumerate(path) if of == "/v1/decide"]
    assert all(path[i + 1].endswith("rewards") for i in decided)
    closed = [decision_id for decision_id, outcome, _, _ in server.reports if outcome == "resolved"]
    assert closed == steps_of(server, 0)


def test_of_each_step_the_outcome_that_closes_the_window_comes_last_and_always() -> None:
    server = StubServer(load_pack("retail"))
    play(server, 0, sessions=30, batch=10)
    values = set[float]()
    for decision_id in server.bodies:
        told = server.told(decision_id)
        assert [outcome for outcome, _ in told].index("bought") == len(told) - 1
        assert told[-1][1] in (0.0, 1.0)
        values |= {value for outcome, value in told if outcome == "price_off"}
    assert values == {0.05, 0.15}


def test_the_reward_of_sessions_is_what_the_reports_are_worth() -> None:
    """The pack's formula over all that was reported, less the actions' costs."""
    server = StubServer(PACK)
    (values,) = play(server, 0, sessions=20, batch=5).sessions.values()
    formula = PACK.moment("service_conversation").reward
    earned = sum(formula[outcome] * value for _, outcome, value, _ in server.reports)
    costs = sum(PACK.action(answer["action"]["action_id"]).cost for answer in server.answers.values())
    assert values.reward_mean == pytest.approx((earned - costs) / 20)
    assert values.reward_low < values.reward_mean < values.reward_high


def test_how_sessions_are_called_for_changes_nothing_about_them() -> None:
    """One by one, or in lockstep with others: the same customers, the same facts, and by the same draws the same."""
    one, many = StubServer(PACK), StubServer(PACK)
    first, second = play(one, 40, sessions=10), play(many, 40, sessions=10, batch=8)
    assert one.bodies == many.bodies
    assert sorted(one.reports) == sorted(many.reports)
    assert first.sessions == second.sessions


def test_what_a_session_draws_depends_on_its_number_alone() -> None:
    server = StubServer(PACK)
    few, more = traffic_of(server, 20, sessions=3), traffic_of(server, 400, sessions=9, batch=5)
    for number in range(3):
        one, other = few.sessions.start(number), more.sessions.start(number)
        for _ in range(3):
            assert one.take("no_action") == other.take("no_action")
            np.testing.assert_array_equal(one.facts, other.facts)


def test_a_body_says_what_is_withheld_and_brings_nothing_of_it() -> None:
    server = StubServer(PACK)
    traffic = traffic_of(server, 0, sessions=60)
    withheld = 0
    for number in range(60):
        body = traffic.sessions.start(number).body("r")
        consent, context = body.get("consent", {}), body["context"]
        assert isinstance(consent, dict)
        assert isinstance(context, dict)
        assert ("sentiment" in context) == ("emotion" not in consent)
        assert not set(context) & {"device", "contacts_30d", "nps"}
        withheld += bool(consent)
    assert 10 < withheld < 50


@pytest.mark.parametrize("path", ["/v1/decide", "rewards"])
def test_an_error_in_the_middle_ends_the_session_and_is_counted(path: str) -> None:
    server = StubServer(PACK)
    server.fault = lambda request, number: failure(422, "invalid") if _third(request, path) else None
    report = play(server, 10, sessions=5, concurrency=1)
    assert report.sessions_broken == 1
    assert next(iter(report.sessions.values())).sessions == 4
    assert list(report.errors.values()) == [1]
    assert len(steps_of(server, 2)) == (1 if path == "rewards" else 0) + 1


def _third(request: httpx.Request, path: str) -> bool:
    """Whether it is about step 1 of session 2."""
    return request.url.path.endswith(path) and b"r-s2-1" in request.content


def test_an_action_that_the_session_does_not_have_ends_it() -> None:
    alien = httpx.Response(201, json={"action": {"action_id": "sing"}, "policy": {"version": "1"}})
    server = StubServer(PACK, lambda request, number: alien if b"r-s0-0" in request.content else None)
    report = play(server, 10, sessions=2, concurrency=1)
    assert report.errors == {"decide unknown action sing": 1}
    assert report.sessions_broken == 1


def test_groups_are_of_a_call_at_most_and_serve_all_workers_between_the_rounds() -> None:
    """10 sessions, 4 workers: threes, before calls 0, 1, 2 and 3 of four; never more than a batch."""
    groups = session_groups(10, rounds=80, batch=20, concurrency=4)
    assert [list(group.numbers) for group in groups] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert [group.place for group in groups] == [0, 20, 40, 60]
    assert [len(group.numbers) for group in session_groups(10, rounds=5, batch=2, concurrency=1)] == [2] * 5
    assert session_groups(0, rounds=5, batch=2, concurrency=1) == []


def test_yardsticks_stand_in_their_order() -> None:
    env = BatchSessionEnv(PACK, "service_conversation")
    found = yardsticks(env)
    assert found.uniform < found.rules < found.planner < found.bound
    assert found == yardsticks(env)
