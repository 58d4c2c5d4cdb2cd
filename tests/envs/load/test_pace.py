"""Slots at a set rate, whatever the server does."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from envs.load.pace import Pace
from nba.pack_file import load_pack
from tests.envs.load.driven import play
from tests.envs.load.stub_server import StubServer

PACK = load_pack("support")


def test_slots_are_as_far_apart_as_the_decisions_of_their_calls() -> None:
    """100 a second: after a call of 2 decisions the next slot is 20 ms later, after one of 1 it is 10."""

    async def run() -> list[float]:
        pace = Pace(100.0)
        return [await pace.slot(n) for n in (2, 1, 3)]

    first, second, third = asyncio.run(run())
    assert second - first == pytest.approx(0.02)
    assert third - second == pytest.approx(0.01)


def test_a_slot_that_was_missed_is_in_the_past_and_costs_no_wait() -> None:
    async def run() -> None:
        pace = Pace(1_000.0)
        time.sleep(0.05)
        before = time.perf_counter()
        slots = [await pace.slot(1) for _ in range(40)]
        assert time.perf_counter() - before < 0.02
        assert slots[-1] < before
        assert pace.since(slots[-1]) == slots[-1]

    asyncio.run(run())


def test_without_a_rate_a_slot_is_now_and_latency_counts_from_the_call() -> None:
    async def run() -> None:
        pace = Pace()
        slot = await pace.slot(1_000)
        assert pace.since(slot) > slot

    asyncio.run(run())


def test_a_drive_keeps_its_rate() -> None:
    """40 decisions, 100 a second: 0.39 s from the first to the last."""
    report = play(StubServer(PACK), 40, rate=100.0)
    assert report.rate == 100.0
    assert 0.39 <= report.seconds < 2.0
    assert report.decisions_per_s <= 40 / 0.39


def test_waiting_for_a_server_that_is_too_slow_is_not_hidden() -> None:
    """5 ms a call, asked for one a millisecond: the last of 40 is some 150 ms late, though each call takes only 5."""
    server = StubServer(PACK)

    def slow(request: httpx.Request, _: int) -> None:
        if request.url.path == "/v1/decide":
            time.sleep(0.005)

    server.fault = slow
    hidden = play(server, 40, concurrency=1)
    server = StubServer(PACK, slow)
    told = play(server, 40, concurrency=1, rate=1_000.0)
    assert told.latency_p99_ms > 140.0
    assert told.latency_p50_ms > 4.0 * hidden.latency_p50_ms
