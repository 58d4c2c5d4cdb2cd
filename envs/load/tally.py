"""What is counted while a server is driven."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

GONE = 20  # calls in a row that were given up after every retry: the server is gone, and the drive ends


@dataclass(slots=True)
class Tally:
    """Counts that all workers of a drive share."""

    done: int = 0  # rounds behind us, decided or given up
    unanswered: int = 0  # calls in a row that were given up after every retry
    decided: int = 0  # rounds
    steps: int = 0  # of sessions
    broken: int = 0  # sessions that ended by an error
    replayed: int = 0
    held: int = 0  # reports that were held back
    most_held: int = 0  # by one sender at once
    stated: int = 0  # customers whose consent was stated at first
    consent_changes: int = 0
    dropped: int = 0  # rounds and sessions of customers in doubt
    events: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    rewards: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    @property
    def gone(self) -> bool:
        """Whether the server is taken to be away for good."""
        return self.unanswered >= GONE

    def count(self, version: str, degraded: Iterable[str], *, replayed: bool) -> None:
        """Counts a decision of a round or a step: by which policy, what had failed, whether it was a stored one."""
        self.policies[version] += 1
        self.degraded.update(degraded)
        self.replayed += replayed
