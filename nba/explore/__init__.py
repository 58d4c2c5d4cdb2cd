"""Ways to explore by name. A new one is a file beside this one, a line in EXPLORERS, and a test."""

from __future__ import annotations

from nba.explore.epsilon import Epsilon
from nba.explore.explorer import Explorer
from nba.explore.falcon import Falcon
from nba.explore.inverse_gap import InverseGap
from nba.explore.softmax import Softmax
from nba.explore.thompson import Thompson

EXPLORERS: dict[str, type[Explorer]] = {
    "epsilon": Epsilon,
    "softmax": Softmax,
    "square_cb": InverseGap,
    "falcon": Falcon,
    "thompson": Thompson,
}
