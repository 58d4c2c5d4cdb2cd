"""Outcomes that take their time are held back, sent when due, and waited for."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from envs.load.calls import Retry
from envs.load.late import LateReports
from envs.load.tally import GONE, Tally
from envs.load.told import Report
from nba.pack_file import load_pack
from tests.envs.load.driven import play, traffic_of
from tests.envs.load.stub_server import StubServer

PACK = load_pack("support")


class Recorder:
    """A caller that notes what it is asked to report."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    async def report(self, decision_id: str, report: Report) -> bool:
        self.told.append((decision_id, report.outcome))
        return True


def test_reports_go_out_when_they_are_due_whatever_the_order_they_came_in() -> None:
    """At 20 ms an hour: outcomes after 2 h, 1 h and 0 h."""

    async def run() -> tuple[list[tuple[str, str]], float]:
        late, caller = LateReports(0.02, 10, Tally()), Recorder()
        sending = asyncio.create_task(late.send(caller))  # type: ignore[arg-type]
        started = asyncio.get_running_loop().time()
        await late.hold("a", [Report("slow", 1.0, 7_200.0), Report("soon", 1.0, 3_600.0)])
        await late.hold("b", [Report("now", 0.0)])
        late.close()
        await sending
        return caller.told, asyncio.get_running_loop().time() - started

    told, seconds = asyncio.run(run())
    assert told == [("b", "now"), ("a", "soon"), ("a", "slow")]
    assert seconds >= 0.039


def test_whoever_would_hold_back_too_much_waits() -> None:
    async def run() -> int:
        tally = Tally()
        late, caller = LateReports(0.01, 3, tally), Recorder()
        sending = asyncio.create_task(late.send(caller))  # type: ignore[arg-type]
        for i in range(20):
            await late.hold(str(i), [Report("o", 1.0, 3_600.0)])
        late.close()
        await sending
        assert tally.held == len(caller.told) == 20
        return tally.most_held

    assert asyncio.run(run()) == 3


def test_a_drive_ends_when_the_last_outcome_is_out() -> None:
    """A window of a day takes 48 ms at 2 ms an hour."""
    prompt, late = StubServer(PACK), StubServer(PACK)
    play(prompt, 200, batch=50, delayed=True)
    report = play(late, 200, batch=50, hour_s=0.002)
    assert sorted(late.reports) == sorted(prompt.reports)
    assert report.delays.held == len(late.reports)
    assert report.delays.lost > 0
    assert report.delays.too_late > 0
    assert 0 < report.delays.most_held <= report.delays.held
    assert report.decided == 200


def test_outcomes_of_a_round_keep_the_order_of_their_delays() -> None:
    server = StubServer(PACK)
    play(server, 100, hour_s=0.002, moments=["tone_tuner"])
    traffic = traffic_of(server, 100, hour_s=0.002, moments=["tone_tuner"])
    for place in range(100):
        told = traffic.serve(place, server.answers[f"r-{place}"]["action"]["action_id"])
        assert server.told(f"r-{place}") == [(report.outcome, report.value) for report in told]


def test_outcomes_of_sessions_do_not_wait() -> None:
    server = StubServer(PACK)
    report = play(server, 0, sessions=2, hour_s=100.0)
    assert report.delays.held == 0
    assert report.sessions_broken == 0


@pytest.mark.parametrize("hour_s", [0.001, 1_000.0])
def test_a_server_that_is_gone_is_not_waited_for(hour_s: float) -> None:
    server = StubServer(PACK)
    server.fault = lambda request, number: httpx.ConnectError("refused") if number > 30 else None
    report = play(server, 2_000, hour_s=hour_s, retry=Retry(1, 0.0, 0.0))
    assert sum(report.errors.values()) >= GONE
    assert report.delays.waited_s < 1.0
