"""Policies that know the truth: the best there is, and the best that does without context."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.response import Response
from nba.types import ActionMask, ActionValues, Contexts, Distribution


@dataclass(frozen=True, slots=True)
class Oracle:
    """The eligible action of the highest expected reward, always. No policy over contexts has a higher value."""

    response: Response

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k), each row a single 1."""
        return _certain(np.where(mask, self.response.expected_rewards(contexts), -np.inf).argmax(axis=1), mask)


@dataclass(frozen=True, slots=True)
class FixedOrder:
    """The first eligible action of a fixed order: all that can be done without looking at the customer."""

    order: tuple[int, ...]  # columns of actions, best first; the last is one that is always eligible

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k), each row a single 1."""
        order = np.array(self.order)
        return _certain(order[mask[:, order].argmax(axis=1)], mask)


def _certain(columns: NDArray[np.intp], mask: ActionMask) -> Distribution:
    distribution: Distribution = np.zeros(mask.shape)
    distribution[np.arange(len(mask)), columns] = 1.0
    return distribution


def best_context_free(expected: ActionValues, mask: ActionMask) -> FixedOrder:
    """The fixed order of the highest total expected reward on these rounds (n, k), by dynamic programming.

        V(S) = max_{a not in S} gain(S, a) + V(S + {a}),    gain = sum of expected rewards of a where a is eligible
                                                            and no action of S is

    S is the set of actions tried before; S with no_action is an end, as it is always eligible. 2^(k-1) sets: for
    the dozen actions of a moment, not for a catalogue of fifty.
    """
    k = mask.shape[1]
    patterns, which = np.unique(mask, axis=0, return_inverse=True)
    totals = np.zeros((len(patterns), k))
    np.add.at(totals, which, np.where(mask, expected, 0.0))
    best: dict[frozenset[int], tuple[float, tuple[int, ...]]] = {}

    def onwards(tried: frozenset[int]) -> tuple[float, tuple[int, ...]]:
        if 0 in tried:
            return 0.0, ()
        if tried not in best:
            open_rows = ~patterns[:, list(tried)].any(axis=1)
            options = []
            for action in (a for a in range(k) if a not in tried):
                value, rest = onwards(tried | {action})
                options.append((float(totals[open_rows, action].sum()) + value, (action, *rest)))
            best[tried] = max(options)
        return best[tried]

    return FixedOrder(onwards(frozenset())[1])
