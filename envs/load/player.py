"""How the rounds and the sessions of a drive are played: decide, see what comes of it, report it, as an app would."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from envs.load.calls import Caller, Decided
from envs.load.late import LateReports
from envs.load.pace import Pace
from envs.load.session_traffic import PlayedSession
from envs.load.tally import Tally
from envs.load.told import Report
from envs.load.traffic import Round, Traffic
from envs.load.turns import Turns


@dataclass(frozen=True, slots=True)
class Drive:
    """What all workers of a drive share."""

    run: str
    traffic: Traffic
    turns: Turns
    pace: Pace
    late: Sequence[LateReports]  # none: outcomes come at once
    tally: Tally
    single: bool  # one decision a call

    async def wake(self) -> None:
        """Lets everything that waits look again: the server is gone."""
        await self.turns.wake()
        for reports in self.late:
            reports.wake()


class Player:
    """One worker's part in a drive."""

    def __init__(self, drive: Drive, caller: Caller) -> None:
        self._drive, self._caller = drive, caller
        self._traffic, self._tally = drive.traffic, drive.tally

    async def rounds(self, places: Sequence[int]) -> None:
        """Decides these rounds in one call, or in as many as their customers' changes ask for, and reports on each."""
        drive = self._drive
        slot = await drive.pace.slot(len(places))
        waiting = [self._traffic.round(place) for place in places]
        while waiting:
            ready = await drive.turns.ready(waiting, self._caller)
            if not ready:
                continue
            bodies = [self._traffic.body(one.place, f"{drive.run}-{one.place}") for one in ready]
            answers = await self._caller.decide(bodies, single=drive.single, since=drive.pace.since(slot))
            for one, answer in zip(ready, answers, strict=True):
                if self._tally.gone:
                    return
                if answer is not None:
                    await self._take(one, answer)
                await drive.turns.decided(one, self._caller)

    async def _take(self, one: Round, answer: Decided) -> None:
        """Counts a round's decision and reports what came of it, now or when it is due."""
        try:
            reports = self._traffic.serve(one.place, answer.action_id)
        except ValueError:
            self._tally.errors[f"decide unknown action {answer.action_id}"] += 1
            return
        self._tally.decided += 1
        self._tally.count(answer.version, answer.degraded, replayed=answer.replayed)
        decision_id, late = f"{self._drive.run}-{one.place}", self._drive.late
        if late:  # by the same sender for all of a round, so that they keep their order
            await late[one.place % len(late)].hold(decision_id, reports)
        else:
            await self._report(decision_id, reports)

    async def _report(self, decision_id: str, reports: Sequence[Report]) -> bool:
        """Reports outcomes; whether all of them got there."""
        # One after another: an outcome that closes the window must not overtake one that belongs into it.
        return all([await self._caller.report(decision_id, report) for report in reports])

    async def sessions(self, numbers: Sequence[int]) -> None:
        """Plays these sessions to their end, a step of each at a time."""
        drive = self._drive
        waiting = [self._traffic.sessions.start(number) for number in numbers]
        live = await drive.turns.ready(waiting, self._caller, all_at_once=True)
        while live:
            ready = time.perf_counter()  # a step cannot be late before it is there
            slot = max(ready, await drive.pace.slot(len(live)))
            bodies = [session.body(drive.run) for session in live]
            answers = await self._caller.decide(bodies, single=drive.single, since=slot)
            if self._tally.gone:
                return
            on = [await self._step(session, answer) for session, answer in zip(live, answers, strict=True)]
            live = [session for session, goes_on in zip(live, on, strict=True) if goes_on]

    async def _step(self, session: PlayedSession, answer: Decided | None) -> bool:
        """Counts a step's decision and reports what came of it; whether there is a next step.

        An error ends the session, and it counts as broken off.
        """
        if answer is None or not await self._act(session, answer):
            self._tally.broken += 1
        elif session.over:
            self._traffic.sessions.keep(session)
        else:
            return True
        await self._drive.turns.decided(session, self._caller)
        return False

    async def _act(self, session: PlayedSession, answer: Decided) -> bool:
        """Takes a step and reports its outcomes; whether all of that worked."""
        decision_id = session.decision_id(self._drive.run)
        try:
            reports = session.take(answer.action_id)
        except ValueError:
            self._tally.errors[f"decide unknown action {answer.action_id}"] += 1
            return False
        self._tally.steps += 1
        self._tally.count(answer.version, answer.degraded, replayed=answer.replayed)
        return await self._report(decision_id, reports)
