"""Subsidy waste: a discount given to someone who would have bought anyway, and the waiting for the next it teaches.

    in force      after an offer of size i: O -> i, until something is bought; the larger one stays
    expectation   E -> E + 1 after an offer; E -> E - 1 with chance 0.1 after a step without one, once it has lapsed
    response      logit(buys) + lift(i) (1 + 0.5 thrift) - wait E [nothing in force]

A sale at a discount is an event of its own, as it earns less. Lifts of 0.5 and 1.1 logits for a small and a large
discount double and triple the odds of the undecided and leave those alone who buy anyway or never: the persuadables of
uplift modelling (Radcliffe and Surry 2011). Waiting costs 0.4 logits a level: reference prices form within a few
purchases and fade slowly (Mazumdar, Raj and Sinha 2005, https://doi.org/10.1509/jmkg.2005.69.4.84). Chosen, not fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.people import Array
from envs.session_law import Moves, Space, Variable


@dataclass(frozen=True, slots=True)
class Subsidy:
    """Discounts in force, and the expectation of more."""

    offer_field: str  # shows the discount in force, a number; none first, then by size
    offers: tuple[float, ...]
    expectation_field: str  # shows how many discounts the customer has learned to wait for
    expectations: tuple[float, ...]
    sizes: tuple[str, ...]  # the actions that offer, by size
    bought: tuple[str, ...]  # the events of a sale
    lifts: tuple[float, ...] = (0.0, 0.5, 1.1)  # logits
    wait: float = 0.4  # logits a level

    def in_force(self, space: Space) -> Variable:
        """The discount that the next sale would use."""
        moves = Moves(space, len(self.offers))
        for size, action in enumerate(self.sizes, start=1):
            moves.when(actions=[action], to=size)
            moves.target[size:, [i for i, a in enumerate(space.actions) if a == action]] = np.arange(
                size, len(self.offers)
            )[:, None, None]
        moves.when(events=self.bought, to=0)
        start = np.tile(np.eye(len(self.offers))[0], (space.types, 1))
        return Variable(self.offer_field, self.offers, start, moves)

    def expectation(self, space: Space) -> Variable:
        """How much the customer waits for a discount; the thrifty come with some."""
        moves = Moves(space, len(self.expectations)).when(by=-1, chance=0.1).when(actions=self.sizes, by=1)
        spoiled = np.clip(0.25 + 0.15 * space.traits["thrift"], 0.0, 1.0)
        start = np.zeros((space.types, len(self.expectations)))
        start[:, 0], start[:, 1] = 1.0 - spoiled, spoiled
        return Variable(self.expectation_field, self.expectations, start, moves)

    def effect(self, in_force: Array, expectation: Array, thrift: Array) -> Array:
        """What discount and expectation add to the logit of a sale."""
        lift = np.array(self.lifts)[in_force.astype(np.intp)] * (1.0 + 0.5 * thrift)
        return np.asarray(np.where(in_force > 0.0, lift, -self.wait * expectation))
