"""Sleeping actions: what can be done is not always there, for reasons that no context shows.

Out of stock, a system down, nobody on shift: at each round each action but no_action sleeps with chance q, each by
itself, after the guardrails. A policy sees it in the mask and nowhere else (Kleinberg, Niculescu-Mizil and Sharma 2010,
https://doi.org/10.1007/s10994-010-5178-7). The truth of an action does not change by its sleeping. The default q is 0:
a pack's guardrails say what is known to be away. A catalogue that is 98 % in stock is q = 0.02.
"""

from __future__ import annotations

from numpy.random import Generator

from nba.errors import ShapeError
from nba.types import ActionMask


def checked_chance(q: float) -> float:
    """The chance that an action sleeps. Raises ShapeError where it is none."""
    if not 0.0 <= q <= 1.0:
        raise ShapeError(f"actions that sleep with chance {q}", help="give a chance from 0 to 1")
    return q


def put_to_sleep(mask: ActionMask, q: float, rng: Generator) -> None:
    """Takes out of the mask (n, k) what sleeps; draws nothing where q is 0."""
    if q > 0.0:
        awake = rng.random((len(mask), mask.shape[1] - 1)) >= q
        mask[:, 1:] &= awake
