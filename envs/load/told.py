"""What an app tells a server: the facts of a request, and the outcomes of a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from nba.facts import Field
from nba.types import Value


@dataclass(frozen=True, slots=True)
class Report:
    """An outcome to report of a decision."""

    outcome: str
    value: float
    delay_s: float = 0.0  # simulated seconds after the decision


class Teller:
    """Names the facts that requests bring; what the feature store holds is left to the server to read."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._brought = [(j, name, field) for j, (name, field) in enumerate(fields.items()) if field.feature is None]

    def context(self, facts: NDArray[np.float64], hours_ahead: int) -> dict[str, Value]:
        """Facts (f,) by name, without those that are missing.

        Times are the customer's own, with the offset of their clock: so many hours ahead of UTC.
        """
        codes, clock = facts.tolist(), timezone(timedelta(hours=hours_ahead))
        named = {name: field.name(codes[j]) for j, name, field in self._brought}
        named |= {
            name: datetime.fromisoformat(str(named[name])).replace(tzinfo=clock).isoformat()
            for _, name, field in self._brought
            if field.type == "time" and named[name] is not None
        }
        return {name: fact for name, fact in named.items() if fact is not None}
