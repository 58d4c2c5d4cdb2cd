"""Policies by kind. A new one is a file beside this one, a line in KINDS, and a test that calls `check_policy`."""

from __future__ import annotations

from nba.policies.epsilon_greedy import EpsilonGreedy
from nba.policies.rules import Rules
from nba.policies.square_cb import SquareCB
from nba.policies.uniform import Uniform

LearnedPolicy = Uniform | Rules | EpsilonGreedy | SquareCB
KINDS: dict[str, type[LearnedPolicy]] = {
    "uniform": Uniform,
    "rules": Rules,
    "epsilon_greedy": EpsilonGreedy,
    "square_cb": SquareCB,
}
