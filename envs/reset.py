"""What a reset of an environment may be told: a seed, and how many steps are behind."""

from __future__ import annotations

from typing import Any

import numpy as np

from nba.errors import ShapeError


def checked_seed(seed: Any) -> int | None:
    """The seed. Raises ShapeError where it is neither a whole number of 0 or more nor None."""
    if seed is None:
        return None
    if not _is_count(seed):
        raise ShapeError(f"seed {seed!r}", help="give a whole number of 0 or more, or None for another each time")
    return int(seed)


def steps_behind(options: dict[str, Any] | None, steps: int) -> int:
    """The step that the options of a reset set, else `steps`. Raises ShapeError for any other option or value."""
    for name, value in (options or {}).items():
        if name != "step":
            raise ShapeError(f"option {name!r}", help='the one option is "step": how many steps are behind')
        if not _is_count(value):
            raise ShapeError(f"option step {value!r}", help="give a whole number of 0 or more")
        steps = int(value)
    return steps


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 0
