"""Policies by kind. A new one is a file beside this one, a line in KINDS, and a test that calls `check_policy`.

A kind `model+explorer` is a pair: every model of `nba.models` with every way to explore of `nba.explore`.
"""

from __future__ import annotations

from typing import get_type_hints

from nba.models.model import Model
from nba.policies.epsilon_greedy import EpsilonGreedy
from nba.policies.network import Network
from nba.policies.pair import PAIRS, Pair
from nba.policies.rules import Rules
from nba.policies.square_cb import SquareCB
from nba.policies.uniform import Uniform

LearnedPolicy = Uniform | Rules | EpsilonGreedy | SquareCB | Network | Pair
KINDS: dict[str, type[LearnedPolicy]] = {
    "uniform": Uniform,
    "rules": Rules,
    "epsilon_greedy": EpsilonGreedy,
    "square_cb": SquareCB,
    "network": Network,
    **PAIRS,
}


def model_type(kind: str) -> type[Model] | None:
    """The type of model that policies of this kind learn; None where they learn none."""
    found: type[Model] | None = get_type_hints(KINDS[kind]).get("model") if kind in KINDS else None
    return found
