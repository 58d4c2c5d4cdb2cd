"""Driving a server: what goes over the wire, what is retried, what is reported."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from envs.drive import GONE, Retry, drive
from envs.drive_report import DriveReport
from envs.people import Population
from envs.traffic import Traffic
from nba.decide import decide_many
from nba.decision import DecisionRequest, PolicyRef
from nba.errors import UnavailableError, UnknownMomentError
from nba.facts import read_facts
from nba.join import join
from nba.pack_file import load_pack
from nba.policies.uniform import Uniform
from nba.records import DecisionRecord, Record, RewardRecord, Shown
from nba.snapshot import Snapshot
from nba.types import Context

PACK = load_pack("support")
START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
Fault = Callable[[httpx.Request, int], httpx.Response | Exception | None]  # request and its number -> what goes wrong


class StubServer:
    """The HTTP contract without a socket: decides with the uniform policy on the customers' stored features."""

    def __init__(self, fault: Fault | None = None) -> None:
        policy = PolicyRef(name="support", version="7", kind="uniform", digest="")
        self.snapshot = Snapshot.of(PACK, policy, {moment: Uniform() for moment in PACK.moments})
        self.population = Population(PACK)
        self.fault = fault
        self.requests: list[httpx.Request] = []
        self.bodies: dict[str, Any] = {}
        self.records: list[Record] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.reports: list[tuple[str, str, float, str]] = []
        self.transport = httpx.MockTransport(self.handle)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        self.requests.append(request)
        wrong = self.fault(request, len(self.requests)) if self.fault else None
        if isinstance(wrong, Exception):
            raise wrong
        if wrong is not None:
            return wrong
        body = msgspec.json.decode(request.content)
        if request.url.path == "/v1/decide":
            return httpx.Response(201, json=self.decide(body))
        if request.url.path == "/v1/decide:batch":
            return httpx.Response(200, json={"results": [self.decide(item) for item in body["decisions"]]})
        return self.reward(request.url.path.split("/")[3], body)

    def decide(self, body: dict[str, Any]) -> dict[str, Any]:
        """One decision, or the stored one."""
        decision_id = body["decision_id"]
        if decision_id in self.answers:
            assert self.bodies[decision_id] == body
            return self.answers[decision_id] | {"replayed": True}
        self.bodies[decision_id] = body
        fields = PACK.moment_fields(body["moment"])
        customer = np.array([int(body["subject_id"].removeprefix("sim-"))])
        stored = self.population.stored_features(customer)[0]
        known = {name: stored[field.feature] for name, field in fields.items() if field.feature is not None}
        facts = read_facts(fields, body["context"] | known, strict=True)
        assert not facts.ignored
        assert not set(body["context"]) & set(known)
        subject = hashlib.sha256(body["subject_id"].encode()).hexdigest()
        context = Context(subject=subject, moment=body["moment"], values=facts.values, observed_at=START)
        request = DecisionRequest(decision_id=decision_id, context=context, missing=facts.missing)
        decision = decide_many(self.snapshot, [request], now=START, secret=b"k")[0]
        shown = Shown(layer="", channel="", message=None, delay_ms=0, closes_at=START, default_reward=0.0)
        self.records.append(DecisionRecord(decision=decision, shown=shown, fingerprint="", epoch=0))
        self.answers[decision_id] = {
            "decision_id": decision_id,
            "action": {"action_id": decision.action_id, "layer": "procedural"},
            "policy": {"name": "support", "version": "7", "kind": "uniform", "arm": "champion"},
            "degraded": [],
            "replayed": False,
        }
        return self.answers[decision_id]

    def reward(self, decision_id: str, body: dict[str, Any]) -> httpx.Response:
        """One outcome."""
        if decision_id not in self.answers:
            return httpx.Response(404, json={"error": {"code": "unknown_decision", "message": "", "help": ""}})
        self.reports.append((decision_id, body["outcome"], body["value"], body["idempotency_key"]))
        at = START + timedelta(milliseconds=len(self.reports))
        self.records.append(
            RewardRecord(
                decision_id=decision_id,
                outcome=body["outcome"],
                value=body["value"],
                observed_at=at,
                idempotency_key=body["idempotency_key"],
                received_at=at,
            )
        )
        return httpx.Response(202, json={"status": "joined"})


def failure(status: int, code: str, **headers: str) -> httpx.Response:
    """An error as the contract has it."""
    return httpx.Response(status, json={"error": {"code": code, "message": "no", "help": "wait"}}, headers=headers)


QUICK = Retry(attempts=4, first_s=0.0, most_s=0.0)


def play(server: StubServer, rounds: int = 60, **settings: Any) -> DriveReport:
    settings = {"run": "r", "seed": 3, "concurrency": 4, "retry": QUICK} | settings
    return asyncio.run(drive("http://stub", PACK, rounds=rounds, transport=server.transport, **settings))


@pytest.mark.parametrize("batch", [1, 25])
def test_what_the_join_learns_is_what_the_drive_saw(batch: int) -> None:
    """Decisions and outcomes as the server kept them, joined: the drive's own contexts, masks, actions and rewards."""
    server = StubServer()
    report = play(server, 200, batch=batch)
    joined = join(server.records, PACK, as_of=START + timedelta(days=30))
    assert joined.counts["joined"] == report.decided == 200
    assert not joined.conflicts
    assert joined.reports["in_window"] == len(server.reports)
    rewards = np.concatenate([rounds.rewards for rounds in joined.rounds.values()])
    assert rewards.mean() == pytest.approx(report.reward_mean)
    traffic = Traffic(PACK, list(PACK.moments), 200, customers=2_000, population_seed=0, seed=3)
    for moment, rounds in joined.rounds.items():
        places = [int(decision_id.removeprefix("r-")) for decision_id in joined.decision_ids[moment]]
        part = traffic.moments[moment].batch
        rows = np.argsort(np.argsort(places))
        np.testing.assert_array_equal(rounds.contexts, part.contexts[rows])
        np.testing.assert_array_equal(rounds.mask, part.mask[rows])


def test_batches_and_single_calls_decide_and_report_the_same() -> None:
    one, many = StubServer(), StubServer()
    single, batched = play(one), play(many, batch=25)
    assert single.values == batched.values
    assert single.reward_mean == batched.reward_mean
    assert sorted(one.reports) == sorted(many.reports)
    assert [r.url.path for r in many.requests].count("/v1/decide:batch") == 3
    assert [r.url.path for r in one.requests].count("/v1/decide") == 60


def test_outcomes_come_once_each_with_the_closing_one_last() -> None:
    server = StubServer()
    play(server)
    keys = [key for *_, key in server.reports]
    assert len(set(keys)) == len(keys)
    closing = {outcome for outcome, what in PACK.outcomes.items() if what.closes_window}
    for decision_id in server.answers:
        told = [outcome for of, outcome, _, _ in server.reports if of == decision_id]
        assert told[-1] in closing
        assert not closing & set(told[:-1])


def test_the_report_says_what_was_served_beside_the_truth() -> None:
    server, seen = StubServer(), list[tuple[int, int]]()
    report = play(server, 300, batch=50, on_progress=lambda done, rounds: seen.append((done, rounds)))
    assert (report.rounds, report.decided, report.replayed, report.batch) == (300, 300, 0, 50)
    assert (report.errors, report.retried, report.degraded) == ({}, {}, {})
    assert report.policies == {"7": 300}
    assert report.rewards == {"joined": len(server.reports)}
    assert report.values.uniform < report.values.rules < report.values.oracle
    # The stub serves uniform: 300 rounds lie within 0.1 of its exact value.
    assert abs(report.values.served - report.values.uniform) < 0.1
    assert report.reward_low < report.reward_mean < report.reward_high
    assert sum(v.rounds for v in report.moments.values()) == 300
    assert set(report.moments) == set(PACK.moments)
    silent = sum(r.decision.action_id == "no_action" for r in server.records if isinstance(r, DecisionRecord))
    assert report.no_action_share == pytest.approx(silent / 300)
    assert seen[-1] == (300, 300)
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["values"]["rounds"] == 300


def test_the_same_run_again_is_a_replay_and_nothing_new() -> None:
    server = StubServer()
    first = play(server)
    again = play(server)
    assert (first.replayed, again.replayed) == (0, 60)
    assert again.values == first.values
    assert sum(isinstance(record, DecisionRecord) for record in server.records) == 60


def every(nth: int, what: httpx.Response | Exception) -> Fault:
    return lambda request, number: what if number % nth == 0 else None


@pytest.mark.parametrize("batch", [1, 25])
@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (failure(503, "log_unavailable"), "503 log_unavailable"),
        (failure(429, "overloaded"), "429 overloaded"),
        (httpx.Response(502, text="<html>bad gateway</html>"), "502"),
        (httpx.ConnectError("refused"), "ConnectError"),
        (httpx.ReadError("reset"), "ReadError"),
    ],
)
def test_what_passes_is_retried_until_every_round_is_decided_and_told(
    what: httpx.Response | Exception, kind: str, batch: int
) -> None:
    """Every third request fails: four attempts are enough, and nothing is lost or told twice."""
    calm, rough = StubServer(), StubServer(every(3, what))
    report = play(rough, batch=batch, concurrency=1)
    play(calm, batch=batch)
    assert (report.decided, report.errors) == (60, {})
    assert sum(report.retried.values()) == len(rough.requests) // 3
    assert set(report.retried) <= {f"decide {kind}", f"reward {kind}"}
    assert sorted(rough.reports) == sorted(calm.reports)


def test_an_answer_that_is_lost_after_it_was_made_is_asked_for_again_by_the_same_id() -> None:
    server = StubServer()
    made = server.handle

    def lossy(request: httpx.Request) -> httpx.Response:
        response = made(request)
        if len(server.requests) % 2 and request.url.path == "/v1/decide":
            raise httpx.ReadTimeout("the answer is lost")
        return response

    server.transport = httpx.MockTransport(lossy)
    report = play(server, 30, concurrency=1)
    assert report.decided == 30
    assert report.replayed > 0
    assert sum(isinstance(record, DecisionRecord) for record in server.records) == 30


def test_items_of_a_batch_that_cannot_be_decided_now_are_sent_again_alone() -> None:
    server, refused = StubServer(), set[str]()
    decide = server.decide

    def picky(body: dict[str, Any]) -> dict[str, Any]:
        if body["decision_id"].endswith("7") and body["decision_id"] not in refused:
            refused.add(body["decision_id"])
            return {"error": {"code": "unavailable", "message": "", "help": ""}, "fallback_action": "no_action"}
        return decide(body)

    server.decide = picky  # type: ignore[method-assign]
    report = play(server, batch=60, concurrency=1)
    assert (report.decided, report.errors) == (60, {})
    assert report.retried == {"decide unavailable": 6}
    sent = [json.loads(r.content)["decisions"] for r in server.requests if r.url.path.endswith("batch")]
    assert [len(items) for items in sent] == [60, 6]


def test_what_does_not_pass_is_given_up_after_the_last_attempt_and_counted() -> None:
    server = StubServer(lambda request, number: failure(503, "unavailable") if number > 4 else None)
    report = play(server, 5, concurrency=1, moments=["proactive_nudge"])
    assert 0 < report.decided < 5
    assert report.errors["decide 503 unavailable"] == 5 - report.decided
    assert report.retried["decide 503 unavailable"] == 3 * (5 - report.decided)


def test_what_is_wrong_is_not_retried() -> None:
    server = StubServer(lambda request, number: failure(422, "invalid") if number == 1 else None)
    report = play(server, 10, concurrency=1)
    assert report.errors == {"decide 422 invalid": 1}
    assert (report.decided, report.retried) == (9, {})


@pytest.mark.parametrize("content", [b"hello", b'{"results": []}', b"{}"])
@pytest.mark.parametrize("batch", [1, 2])
def test_an_answer_that_is_none_is_counted(content: bytes, batch: int) -> None:
    server = StubServer(lambda request, number: httpx.Response(200, content=content) if number == 1 else None)
    report = play(server, 6, concurrency=1, batch=batch)
    assert report.errors == {"decide not_an_answer": 1}
    assert report.decided == 6 - batch


def test_an_action_of_another_pack_is_counted() -> None:
    alien = httpx.Response(201, json={"action": {"action_id": "sing"}, "policy": {"version": "1"}})
    server = StubServer(lambda request, number: alien if number == 1 else None)
    assert play(server, 4, concurrency=1).errors == {"decide unknown action sing": 1}


def test_a_server_that_decides_nothing_is_an_error_that_says_why() -> None:
    server = StubServer(lambda request, number: failure(401, "no_key"))
    with pytest.raises(UnavailableError, match="decide 401 no_key"):
        play(server, 3)
    assert not any(isinstance(record, RewardRecord) for record in server.records)


def test_the_key_goes_with_every_request() -> None:
    server = StubServer()
    play(server, 3, api_key="k-1")
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer k-1"}
    without = StubServer()
    play(without, 3)
    assert not any("authorization" in request.headers for request in without.requests)


def test_an_unknown_moment_is_refused_before_anything_is_sent() -> None:
    server = StubServer()
    with pytest.raises(UnknownMomentError):
        play(server, 3, moments=["tea_time"])
    assert not server.requests


def test_waits_double_up_to_a_bound_and_respect_what_the_server_asks() -> None:
    """0.1, 0.2, 0.4 … at most 4 s, halved at worst by jitter; Retry-After raises the wait, up to the same bound."""
    retry = Retry()
    assert [retry.wait_s(n, 0.0, 1.0) for n in (1, 2, 3, 7)] == pytest.approx([0.1, 0.2, 0.4, 4.0])
    assert retry.wait_s(3, 0.0, 0.0) == pytest.approx(0.2)
    assert retry.wait_s(1, 1.0, 0.5) == 1.0
    assert retry.wait_s(1, 3_600.0, 0.5) == 4.0


def test_a_server_that_is_gone_ends_the_drive() -> None:
    """One round is decided, then silence: GONE calls of two attempts each, and no more."""
    server = StubServer()
    server.fault = lambda request, number: httpx.ConnectError("refused") if server.reports else None
    report = play(server, 5_000, concurrency=1, moments=["proactive_nudge"], retry=Retry(2, 0.0, 0.0))
    assert report.decided == 1
    assert sum(report.errors.values()) == GONE
    assert len(server.requests) == 2 + 2 * GONE
    assert report.rounds == 5_000


def test_a_server_that_goes_in_the_middle_of_a_batch_ends_the_drive_there() -> None:
    server = StubServer()
    server.fault = lambda request, number: httpx.ConnectError("refused") if number > 11 else None
    report = play(server, 400, batch=200, concurrency=1, retry=Retry(2, 0.0, 0.0))
    assert report.errors == {"reward ConnectError": GONE}
    assert sum(report.rewards.values()) == 10
    assert report.decided < 50


def test_an_address_without_a_scheme_is_not_retried() -> None:
    with pytest.raises(UnavailableError, match="UnsupportedProtocol"):
        asyncio.run(drive("localhost:1", PACK, run="r", rounds=2, seed=0, concurrency=1, retry=Retry(2, 9.0, 9.0)))
