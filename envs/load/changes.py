"""What changes about customers in the middle of a drive: what happens to them, and what they agree to.

All of it is drawn before the first request. A change comes after a round of its customer and is told by the round's
number, its place: from the next place on the customer is another. History is as `POST /v1/events` makes it:

    purchase         purchases_90d + 1
    contact          contacts_30d + 1
    case_opened      open_cases + 1
    case_resolved    open_cases - 1, never below 0

Windows are days and a drive is not, so nothing of it leaves its window. A count beyond the range of the pack's field is
no value of that field: to a decision it is unknown, on the server as here. Nothing happens to customers without any
history: seeding the feature store anew takes back what happened to the others, and passes over those.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from envs.people import PURPOSES, Array, Customers, People
from envs.situations import PERSONALIZATION
from nba.facts import Field
from nba.pack import Pack

_COUNTED = {"purchase": "purchases_90d", "contact": "contacts_30d", "case_opened": "open_cases"}
HISTORY = "customer_history"  # the view of features that events change
_KINDS = ("purchase", "contact", "case")
_KIND_SHARE = (0.4, 0.4, 0.2)


@dataclass(frozen=True, slots=True)
class Happening:
    """Something happened to a customer."""

    event: str  # as `POST /v1/events` calls it


@dataclass(frozen=True, slots=True)
class ConsentChange:
    """A customer granted or withdrew a purpose."""

    purpose: str
    granted: bool


Change: TypeAlias = Happening | ConsentChange
_State: TypeAlias = tuple[Array, NDArray[np.bool_]]  # counts as the store holds them (s,), and consent (p,)


@dataclass(slots=True)
class _Life:
    """The changes of one customer, by place, and what it is like after each."""

    places: list[int] = field(default_factory=list)
    states: list[_State] = field(default_factory=list)


class Lives:
    """Everybody in a drive, as the server knows them at each of its places."""

    def __init__(
        self,
        people: People,
        fields: Mapping[str, Field],
        customers: Customers,
        rng: Generator,
        *,
        purposes: tuple[str, ...] = (),
        events: float = 0.0,
        consent_changes: float = 0.0,
    ) -> None:
        """Changes after these shares of the rounds of `customers` (n,); events only of those with a history.

        `people` are all there are, by index, as they are at first; `fields` those of their stored columns; `purposes`
        what the server keeps consent for.
        """
        self._people, self.purposes = people, purposes
        self._fields = tuple(fields.values())
        self._columns = {
            event: [j for j, f in enumerate(self._fields) if f.feature == f"{HISTORY}:{feature}"]
            for event, feature in _COUNTED.items()
        }
        self._lives: dict[int, _Life] = {}
        self.changes: dict[int, tuple[Change, ...]] = {}  # place -> what changes after it, in this order
        n = len(customers)
        happens, turns = rng.random(n) < events, rng.random(n) < consent_changes
        happens &= self._have_history()[customers]
        kinds, which = rng.choice(len(_KINDS), n, p=_KIND_SHARE), rng.integers(0, max(len(purposes), 1), n)
        for place in np.flatnonzero(happens | turns).tolist():
            kind = _KINDS[kinds[place]] if happens[place] else None
            purpose = purposes[which[place]] if turns[place] and purposes else None
            self._change(int(customers[place]), place, kind, purpose)

    def _change(self, customer: int, place: int, kind: str | None, purpose: str | None) -> None:
        """Notes what changes about a customer after a place, the last so far."""
        life = self._lives.setdefault(customer, _Life())
        before = life.states[-1] if life.states else self._at_first(customer)
        stored, consent = before[0].copy(), before[1].copy()
        changes: list[Change] = []
        if kind is not None:
            event = self._named(kind, stored)
            self._count(event, stored)
            changes.append(Happening(event))
        if purpose is not None:
            p = PURPOSES.index(purpose)
            consent[p] = not consent[p]
            changes.append(ConsentChange(purpose, bool(consent[p])))
        life.places.append(place)
        life.states.append((stored, consent))
        self.changes[place] = tuple(changes)

    def _have_history(self) -> NDArray[np.bool_]:
        """Of whom the feature store holds any of it."""
        history = [j for j, f in enumerate(self._fields) if str(f.feature).startswith(f"{HISTORY}:")]
        return np.asarray((~np.isnan(self._people.stored[:, history])).any(axis=1))

    def _at_first(self, customer: int) -> _State:
        return self._people.stored[customer], self._people.consent[customer]

    def _named(self, kind: str, stored: Array) -> str:
        """The event: of a case, that it is resolved where one is open."""
        if kind != "case":
            return kind
        return "case_resolved" if any(stored[j] > 0 for j in self._columns["case_opened"]) else "case_opened"

    def _count(self, event: str, stored: Array) -> None:
        """Counts an event in the columns that it is kept in."""
        by = -1.0 if event == "case_resolved" else 1.0
        for j in self._columns["case_opened" if event == "case_resolved" else event]:
            stored[j] = max(0.0, (0.0 if np.isnan(stored[j]) else stored[j]) + by)

    def at(self, customers: Customers, places: NDArray[np.int64]) -> People:
        """These customers (n,), as they are at these places (n,)."""
        people = self._people.take(customers)
        if not self._lives:
            return people
        stored, consent = people.stored, people.consent
        for row, (customer, place) in enumerate(zip(customers.tolist(), places.tolist(), strict=True)):
            if epoch := self.epoch(customer, place):
                stored[row], consent[row] = self._lives[customer].states[epoch - 1]
        for j, held in enumerate(self._fields):
            if held.range is not None:
                low, high = held.range
                stored[(stored[:, j] < low) | (stored[:, j] > high), j] = np.nan
        return replace(people, stored=stored, consent=consent)

    def epoch(self, customer: int, place: int) -> int:
        """How many changes the customer has behind it at a place."""
        life = self._lives.get(customer)
        return 0 if life is None else bisect_left(life.places, place)

    def places(self, customer: int) -> list[int]:
        """After which places the customer changes."""
        life = self._lives.get(customer)
        return [] if life is None else life.places

    def agreed(self, customer: int) -> dict[str, bool]:
        """What the customer says of each purpose at first."""
        return self._said(self._people.consent[customer])

    def other_in_the_end(self) -> Iterator[int]:
        """Customers who agree to something else in the end than at first."""
        for customer, life in self._lives.items():
            if self._said(life.states[-1][1]) != self.agreed(customer):
                yield customer

    def _said(self, consent: NDArray[np.bool_]) -> dict[str, bool]:
        said = dict(zip(PURPOSES, consent.tolist(), strict=True))
        return {purpose: said[purpose] for purpose in self.purposes}


def purposes_of(pack: Pack) -> tuple[str, ...]:
    """The purposes of simulated customers that a server of this pack keeps consent for."""
    kept = {PERSONALIZATION, "proactive_contact", *(f.purpose for f in pack.fields.values())}
    return tuple(purpose for purpose in PURPOSES if purpose in kept)
