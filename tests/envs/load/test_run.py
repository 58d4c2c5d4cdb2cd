"""Driving a server: what goes over the wire, what is retried, what is reported."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import httpx
import numpy as np
import pytest

from envs.load.calls import Retry
from envs.load.run import drive
from envs.load.tally import GONE
from envs.moments import MOMENTS
from nba.errors import UnavailableError, UnknownMomentError
from nba.join import join
from nba.pack_file import load_pack
from nba.records import DecisionRecord, RewardRecord
from tests.envs.load.driven import play, settings, traffic_of
from tests.envs.load.stub_server import START, StubServer, failure

PACK = load_pack("support")
PLAYED = [moment for moment in PACK.moments if moment in MOMENTS]


@pytest.mark.parametrize("batch", [1, 25])
def test_what_the_join_learns_is_what_the_drive_saw(batch: int) -> None:
    """Decisions and outcomes as the server kept them, joined: the drive's own contexts, masks, actions and rewards."""
    server = StubServer(PACK)
    report = play(server, 200, batch=batch)
    joined = join(server.records, PACK, as_of=START + timedelta(days=30))
    assert joined.counts["joined"] == report.decided == 200
    assert not joined.conflicts
    assert joined.reports["in_window"] == len(server.reports)
    rewards = np.concatenate([rounds.rewards for rounds in joined.rounds.values()])
    assert rewards.mean() == pytest.approx(report.reward_mean)
    traffic = traffic_of(server, 200)
    for moment in PLAYED:
        rounds = joined.rounds[moment]
        places = [int(decision_id.removeprefix("r-")) for decision_id in joined.decision_ids[moment]]
        part = traffic.moments[moment].batch
        rows = np.argsort(np.argsort(places))
        np.testing.assert_array_equal(rounds.contexts, part.contexts[rows])
        np.testing.assert_array_equal(rounds.mask, part.mask[rows])


def test_batches_and_single_calls_decide_and_report_the_same() -> None:
    one, many = StubServer(PACK), StubServer(PACK)
    single, batched = play(one), play(many, batch=25)
    assert single.values == batched.values
    assert single.reward_mean == batched.reward_mean
    assert sorted(one.reports) == sorted(many.reports)
    assert [r.url.path for r in many.requests].count("/v1/decide:batch") == 3
    assert [r.url.path for r in one.requests].count("/v1/decide") == 60


def test_outcomes_come_once_each_with_the_closing_one_last() -> None:
    server = StubServer(PACK)
    play(server)
    keys = [key for *_, key in server.reports]
    assert len(set(keys)) == len(keys)
    closing = {outcome for outcome, what in PACK.outcomes.items() if what.closes_window}
    for decision_id in server.answers:
        told = [outcome for of, outcome, _, _ in server.reports if of == decision_id]
        assert told[-1] in closing
        assert not closing & set(told[:-1])


def test_the_report_says_what_was_served_beside_the_truth() -> None:
    server, seen = StubServer(PACK), list[tuple[int, int]]()
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
    assert set(report.moments) == set(PLAYED)
    silent = sum(r.decision.action_id == "no_action" for r in server.records if isinstance(r, DecisionRecord))
    assert report.no_action_share == pytest.approx(silent / 300)
    assert seen[-1] == (300, 300)
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["values"]["rounds"] == 300


def test_the_same_run_again_is_a_replay_and_nothing_new() -> None:
    server = StubServer(PACK)
    first = play(server)
    again = play(server)
    assert (first.replayed, again.replayed) == (0, 60)
    assert again.values == first.values
    assert sum(isinstance(record, DecisionRecord) for record in server.records) == 60


def test_a_server_that_decides_nothing_is_an_error_that_says_why() -> None:
    server = StubServer(PACK, lambda request, number: failure(401, "no_key"))
    with pytest.raises(UnavailableError, match="decide 401 no_key"):
        play(server, 3)
    assert not any(isinstance(record, RewardRecord) for record in server.records)


def test_the_key_goes_with_every_request() -> None:
    server = StubServer(PACK)
    play(server, 3, api_key="k-1")
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer k-1"}
    without = StubServer(PACK)
    play(without, 3)
    assert not any("authorization" in request.headers for request in without.requests)


def test_an_unknown_moment_is_refused_before_anything_is_sent() -> None:
    server = StubServer(PACK)
    with pytest.raises(UnknownMomentError):
        play(server, 3, moments=["tea_time"])
    assert not server.requests


def test_a_server_that_is_gone_ends_the_drive() -> None:
    """One round is decided, then silence: GONE calls of two attempts each, and no more."""
    server = StubServer(PACK)
    server.fault = lambda request, number: httpx.ConnectError("refused") if server.reports else None
    report = play(server, 5_000, concurrency=1, moments=["proactive_nudge"], retry=Retry(2, 0.0, 0.0))
    assert report.decided == 1
    assert sum(report.errors.values()) == GONE
    assert len(server.requests) == 2 + 2 * GONE
    assert report.rounds == 5_000


def test_a_server_that_goes_in_the_middle_of_a_batch_ends_the_drive_there() -> None:
    server = StubServer(PACK)
    server.fault = lambda request, number: httpx.ConnectError("refused") if number > 11 else None
    report = play(server, 400, batch=200, concurrency=1, retry=Retry(2, 0.0, 0.0))
    assert list(report.errors) == ["reward ConnectError"]
    assert GONE <= report.errors["reward ConnectError"] < GONE + 3  # the last round's outcomes are all tried
    assert sum(report.rewards.values()) == 10
    assert report.decided < 50


def test_an_address_without_a_scheme_is_not_retried() -> None:
    with pytest.raises(UnavailableError, match="UnsupportedProtocol"):
        asyncio.run(drive("localhost:1", PACK, settings(rounds=2, concurrency=1), retry=Retry(2, 9.0, 9.0)))
