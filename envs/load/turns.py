"""Who may be acted on now: a customer's changes stand between its rounds, on the server as in the simulator.

A round or a session that comes after a change of its customer waits until the server has been told of the change, and
the change waits until everything before it has been decided. Places are taken in order, so that whatever waits, waits
for something that is under way. Customers without changes never wait.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from envs.load.calls import Caller
from envs.load.changes import Change, Happening, Lives
from envs.load.tally import Tally
from envs.people import subject_id


class Act(Protocol):
    """Something that is decided for a customer: a round, or a session."""

    @property
    def place(self) -> int:
        """Where it stands in the drive."""
        ...

    @property
    def customer(self) -> int:
        """Whom it is about."""
        ...


A = TypeVar("A", bound=Act)


class Turns:
    """The order in which each customer's rounds, sessions and changes come to the server."""

    def __init__(
        self,
        lives: Lives,
        acts: tuple[NDArray[np.int64], NDArray[np.int64]],
        run: str,
        tally: Tally,
        *,
        states_consent: bool,
    ) -> None:
        """For all that is going to be decided: customers and places.

        Where it `states_consent`, the server is told what a customer agrees to before it is first acted on.
        """
        self._lives, self._run, self._tally, self._states_consent = lives, run, tally, states_consent
        self._behind: dict[int, int] = {}  # customer -> changes that the server has been told
        self._left: dict[int, list[int]] = {}  # customer -> acts still to come before each change, and after the last
        for customer, place in zip(*(of.tolist() for of in acts), strict=True):
            if changes := lives.places(customer):
                left = self._left.setdefault(customer, [0] * (len(changes) + 1))
                left[lives.epoch(customer, place)] += 1
        self._met: dict[int, asyncio.Event] = {}
        self._in_doubt: set[int] = set()  # of whom it is not known whether the server took what it was told
        self._moved = asyncio.Condition()

    async def ready(self, waiting: list[A], caller: Caller, *, all_at_once: bool = False) -> list[A]:
        """Takes out of `waiting` those whose turn it is, as soon as it is one's, or everyone's where `all_at_once`.

        Those of customers in doubt are taken out and dropped, which is counted. Nothing once the server is gone.
        """
        enough = all if all_at_once else any
        async with self._moved:
            await self._moved.wait_for(lambda: self._tally.gone or enough(map(self._has_turn, waiting)))
        if self._tally.gone:
            waiting.clear()
            return []
        ready = [act for act in waiting if self._has_turn(act)]
        waiting[:] = [act for act in waiting if not self._has_turn(act)]
        if self._states_consent:
            for act in ready:
                await self._meet(act.customer, caller)
        known = [act for act in ready if act.customer not in self._in_doubt]
        self._tally.dropped += len(ready) - len(known)
        return known

    def _has_turn(self, act: Act) -> bool:
        customer = act.customer
        if customer not in self._left or customer in self._in_doubt:
            return True
        return self._behind.get(customer, 0) == self._lives.epoch(customer, act.place)

    async def _meet(self, customer: int, caller: Caller) -> None:
        """States what a customer agrees to, the first time."""
        if customer not in self._met:
            self._met[customer] = asyncio.Event()
            if await caller.state(subject_id(customer), self._lives.agreed(customer)):
                self._tally.stated += 1
            else:
                self._in_doubt.add(customer)
                await self.wake()
            self._met[customer].set()
        await self._met[customer].wait()

    async def decided(self, act: Act, caller: Caller) -> None:
        """Notes that an act is over, and tells what changes about its customer if that comes next."""
        left, customer = self._left.get(act.customer), act.customer
        if left is None or customer in self._in_doubt:
            return
        epoch = self._lives.epoch(customer, act.place)
        left[epoch] -= 1
        if left[epoch] or epoch == len(left) - 1:
            return
        place = self._lives.places(customer)[epoch]
        for change in self._lives.changes[place]:
            if not await self._tell(customer, place, change, caller):
                self._in_doubt.add(customer)
                break
        self._behind[customer] = epoch + 1
        await self.wake()

    async def _tell(self, customer: int, place: int, change: Change, caller: Caller) -> bool:
        if isinstance(change, Happening):
            told = await caller.tell(subject_id(customer), change.event, f"{self._run}-{place}-event")
            self._tally.events[change.event] += told
        else:
            told = await caller.state(subject_id(customer), {change.purpose: change.granted})
            self._tally.consent_changes += told
        return told

    async def wake(self) -> None:
        """Lets all that wait look again."""
        async with self._moved:
            self._moved.notify_all()

    async def put_back(self, caller: Caller) -> None:
        """States what customers agreed to at first where that was changed, so that the next drive finds them so."""
        for customer in self._lives.other_in_the_end():
            if self._behind.get(customer) and not self._tally.gone:
                await caller.state(subject_id(customer), self._lives.agreed(customer))
