"""Simulated customers against a running server: decide, see what comes of it, report it, as an app would."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import httpx
import numpy as np

from envs.load.calls import Caller, Retry
from envs.load.late import LateReports
from envs.load.pace import Pace
from envs.load.player import Drive, Player
from envs.load.report import DriveReport, report_of
from envs.load.session_traffic import SessionGroup
from envs.load.settings import DriveSettings
from envs.load.tally import Tally
from envs.load.traffic import Traffic
from envs.load.turns import Turns
from nba.pack import Pack

SENDERS = 4  # tasks that send delayed outcomes
MOST_HELD = 25_000  # delayed outcomes that each of them holds: some 5 MB


async def drive(
    url: str,
    pack: Pack,
    settings: DriveSettings,
    *,
    api_key: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    retry: Retry | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> DriveReport:
    """Plays rounds and sessions and reports. Everything is drawn from the seed before the first request.

    Requests bring only what an app would know; the server reads the rest of the same customers (`population_seed`,
    indices below `customers`) from its feature store. `on_progress(done, rounds)` is called after every call's rounds.
    Memory: about 600 bytes a round.

    A server that stays away (`envs.load.tally.GONE`) ends the drive early; then fewer are decided than asked for.

    Raises UnavailableError where nothing was decided, and those of `DriveSettings.traffic`.
    """
    traffic = settings.traffic(pack)
    tally = Tally()
    callers = _Callers(url, api_key, retry or Retry(), settings.seed, tally, transport)
    turns = Turns(traffic.lives, traffic.acts(), settings.run, tally, states_consent=traffic.states_consent)
    late = [LateReports(settings.hour_s, MOST_HELD, tally) for _ in range(SENDERS if settings.hour_s else 0)]
    shared = Drive(settings.run, traffic, turns, Pace(settings.rate), late, tally, single=settings.batch == 1)
    todo = _todo(traffic, settings.batch)
    started = time.perf_counter()
    async with asyncio.TaskGroup() as senders:
        for reports in late:
            senders.create_task(_send(reports, callers))
        async with asyncio.TaskGroup() as workers:
            for _ in range(settings.concurrency):
                workers.create_task(_work(shared, callers, todo, on_progress))
        decided_s = time.perf_counter() - started
        for reports in late:
            reports.close()
    waited_s = time.perf_counter() - started - decided_s
    if traffic.states_consent:
        async with callers.one() as caller:
            await turns.put_back(caller)
    return report_of(traffic, tally, seconds=decided_s, waited_s=waited_s, batch=settings.batch, rate=settings.rate)


class _Callers:
    """Makes callers, each with a client and a jitter of its own.

    A client each: httpx looks through its whole pool at every call, which costs more than the call itself.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        retry: Retry,
        seed: int,
        tally: Tally,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._url, self._retry, self._tally, self._transport = url, retry, tally, transport
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._trusted = httpx.create_ssl_context()  # once: making it takes longer than a hundred calls
        self._jitters = (np.random.default_rng((seed, number)) for number in itertools.count())

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Caller]:
        """A caller."""
        async with httpx.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=30.0, verify=self._trusted, transport=self._transport
        ) as client:
            yield Caller(client, self._retry, next(self._jitters), self._tally)


async def _work(
    shared: Drive,
    callers: _Callers,
    todo: Iterator[range | SessionGroup],
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """One worker, until everything is played or the server is gone; `todo` is shared by all."""
    async with callers.one() as caller:
        player = Player(shared, caller)
        for one in todo:
            if isinstance(one, SessionGroup):
                await player.sessions(one.numbers)
            else:
                await player.rounds(one)
                shared.tally.done += len(one)
                if on_progress:
                    on_progress(shared.tally.done, len(shared.traffic))
            if shared.tally.gone:
                await shared.wake()
                break


async def _send(reports: LateReports, callers: _Callers) -> None:
    """One sender of delayed outcomes, until the last is out."""
    async with callers.one() as caller:
        await reports.send(caller)


def _todo(traffic: Traffic, batch: int) -> Iterator[range | SessionGroup]:
    """What workers take in turn: calls of rounds, and before them the sessions that begin there."""
    groups = list(reversed(traffic.sessions.groups))
    for start in range(0, len(traffic), batch):
        while groups and groups[-1].place <= start:
            yield groups.pop()
        yield range(start, min(start + batch, len(traffic)))
    yield from reversed(groups)
