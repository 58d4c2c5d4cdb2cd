"""Customers change while a server is driven: it decides on the very facts that outcomes come from, every time."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from envs.load.calls import Retry
from envs.load.tally import GONE
from envs.load.traffic import Traffic
from envs.people import PURPOSES, Population, subject_id
from nba.pack_file import load_pack
from nba.records import DecisionRecord
from tests.envs.load.driven import play, traffic_of
from tests.envs.load.stub_server import StubServer, failure

PACK = load_pack("support")
CHANGES = {"customers": 25, "events": 0.3, "consent_changes": 0.2, "sessions": None, "seed": 5}
ROUNDS = 300


def assert_same_facts(server: StubServer, traffic: Traffic) -> int:
    """Every decision of the server against the simulator's facts, bit for bit; how many decisions there were."""
    for place in range(len(traffic)):
        if (facts := server.facts.get(f"r-{place}")) is not None:
            part, row = traffic.part(place)
            np.testing.assert_array_equal(facts, part.batch.facts[row])
    for number in range(len(traffic.sessions)):
        session = traffic.sessions.start(number)
        while (decision_id := session.decision_id("r")) in server.facts:
            np.testing.assert_array_equal(server.facts[decision_id], session.facts[0])
            session.take(server.answers[decision_id]["action"]["action_id"])
    return len(server.facts)


@pytest.mark.parametrize(
    ("pack", "batch", "concurrency"),
    [
        ("support", 1, 1),
        ("support", 1, 16),
        ("support", 40, 1),
        ("support", 40, 5),
        ("retail", 40, 5),
        ("travel", 1, 5),
    ],
)
def test_a_server_decides_on_the_very_facts_whatever_has_changed(pack: str, batch: int, concurrency: int) -> None:
    server = StubServer(load_pack(pack))
    report = play(server, ROUNDS, batch=batch, concurrency=concurrency, **CHANGES)
    assert (report.decided, report.errors, report.sessions_broken) == (ROUNDS, {}, 0)
    traffic = traffic_of(server, ROUNDS, batch=batch, concurrency=concurrency, **CHANGES)
    assert assert_same_facts(server, traffic) == ROUNDS + report.steps
    assert sum(report.changes.events.values()) == sum(map(len, server.events.values())) > 60
    assert report.changes.consent_changes > 40
    assert report.changes.dropped == 0


def test_changes_do_change_the_facts() -> None:
    """The same seed without changes: another history for many rounds, the same moments brought."""
    server = StubServer(PACK)
    calm, lively = (traffic_of(server, ROUNDS, **(CHANGES | more)) for more in ({"events": 0.0}, {}))
    differ = 0
    for place in range(ROUNDS):
        (one, row), (other, _) = calm.part(place), lively.part(place)
        assert calm.body(place, "r")["context"] == lively.body(place, "r")["context"]
        differ += not np.array_equal(one.batch.facts[row], other.batch.facts[row], equal_nan=True)
    assert differ > 100


def test_requests_leave_consent_to_the_server_where_it_changes() -> None:
    server = StubServer(PACK)
    report = play(server, 100, **CHANGES)
    assert not any("consent" in body for body in server.bodies.values())
    first: dict[str, dict[str, bool]] = {}
    for subject, purposes in server.stated:
        first.setdefault(subject, purposes)
    assert report.changes.stated == len(first) == len({body["subject_id"] for body in server.bodies.values()})
    people = Population(PACK).people(np.arange(25))
    for customer in range(25):
        agreed = dict(zip(PURPOSES, people.consent[customer].tolist(), strict=True))
        assert first.get(subject_id(customer), agreed) == agreed


def test_customers_agree_in_the_end_to_what_they_did_at_first() -> None:
    server = StubServer(PACK)
    play(server, ROUNDS, **CHANGES)
    people = Population(PACK).people(np.arange(25))
    for customer in range(25):
        withheld = {purpose for purpose in PURPOSES if people.withholds(purpose)[customer]}
        assert server.withheld[subject_id(customer)] == withheld


def test_without_changes_nothing_is_told() -> None:
    server = StubServer(PACK)
    report = play(server, 50)
    assert (server.events, server.stated) == ({}, [])
    assert (report.changes.stated, report.changes.events) == (0, {})


def test_the_same_run_again_is_a_replay_with_its_changes() -> None:
    server = StubServer(PACK)
    first = play(server, ROUNDS, batch=20, **CHANGES)
    events = {subject: dict(mine) for subject, mine in server.events.items()}
    again = play(server, ROUNDS, batch=20, **CHANGES)
    assert (first.replayed, again.replayed) == (0, ROUNDS + first.steps)
    assert again.values == first.values
    assert again.sessions == first.sessions
    assert server.events == events
    assert sum(isinstance(record, DecisionRecord) for record in server.records) == ROUNDS + first.steps


@pytest.mark.parametrize("batch", [1, 30])
def test_customers_of_whom_a_change_may_not_have_arrived_are_left_alone(batch: int) -> None:
    """Every third event is refused: later rounds of its customer are dropped, those that are sent stay exact."""
    server = StubServer(PACK)
    refused = list[int]()

    def fault(request: httpx.Request, number: int) -> httpx.Response | None:
        if request.url.path == "/v1/events":
            refused.append(number)
            return failure(422, "invalid") if len(refused) % 3 == 0 else None
        return None

    server.fault = fault
    report = play(server, ROUNDS, batch=batch, **CHANGES)
    assert report.errors == {"event 422 invalid": len(refused) // 3}
    assert report.changes.dropped > 50
    assert report.decided + report.changes.dropped >= ROUNDS
    assert assert_same_facts(server, traffic_of(server, ROUNDS, batch=batch, **CHANGES)) == len(server.facts)


def test_customers_whose_consent_cannot_be_stated_are_not_acted_on() -> None:
    server = StubServer(PACK)
    server.fault = lambda request, number: failure(404, "not_found") if "sim-000003" in request.url.path else None
    report = play(server, 100, **CHANGES)
    assert not any(body["subject_id"] == "sim-000003" for body in server.bodies.values())
    assert report.errors["consent 404 not_found"] == 1
    assert report.changes.dropped > 0


def test_a_server_that_goes_ends_the_drive_though_rounds_wait_for_changes() -> None:
    server = StubServer(PACK)
    server.fault = lambda request, number: httpx.ConnectError("refused") if number > 300 else None
    report = play(server, 2_000, retry=Retry(2, 0.0, 0.0), concurrency=8, **CHANGES)
    assert report.decided < 300
    assert sum(report.errors.values()) >= GONE


def test_a_round_waits_for_a_change_before_it_though_another_worker_makes_it() -> None:
    """The event of round 0 is slow: round 1, of the same customer, is asked for only after its answer."""
    server, order = StubServer(PACK), list[str]()

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/events":
            await asyncio.sleep(0.02)
        answer = server.handle(request)
        order.append(request.url.path.rpartition("/")[2])
        return answer

    server.transport = httpx.MockTransport(handle)
    given: dict[str, Any] = {"customers": 1, "events": 1.0, "moments": ["tone_tuner"]}
    play(server, 5, concurrency=5, **given)
    assert [path for path in order if path != "rewards"] == ["decide", "events"] * 5
