"""What a drive is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envs.load.changes import HISTORY
from envs.load.session_traffic import SessionGroup, session_groups
from envs.load.traffic import Traffic
from envs.response import Adjustment
from envs.sessions import SESSIONS
from nba.errors import PackError, ShapeError, UnknownMomentError
from nba.pack import Pack

ROUNDS_A_SESSION = 50


@dataclass(frozen=True, slots=True)
class DriveSettings:
    """Who comes, how fast, what comes of it and when, and what happens in between."""

    run: str  # its name: decisions are `{run}-{i}` and `{run}-s{i}-{step}`, and the same run again is a repetition
    rounds: int  # in one-step moments
    seed: int
    sessions: int | None = None  # None: one for every ROUNDS_A_SESSION rounds
    moments: Sequence[str] | None = None  # None: all of the pack
    batch: int = 1  # decisions a call
    concurrency: int = 16  # calls to decide under way at once
    rate: float = 0.0  # decisions a second; 0: as fast as possible
    delayed: bool = False  # outcomes may be lost, or come too late for their window
    hour_s: float = 0.0  # real seconds that a simulated hour takes; above 0 delayed outcomes are waited for
    events: float = 0.0  # share of the rounds after which something happens to the customer
    consent_changes: float = 0.0  # and after which the customer changes its consent
    customers: int = 2_000
    population_seed: int = 0
    responses: Mapping[str, tuple[Adjustment, ...]] = field(default_factory=dict)  # moment -> added to its truth

    def __post_init__(self) -> None:
        for name, share in (("events", self.events), ("consent_changes", self.consent_changes)):
            if not 0.0 <= share <= 1.0:
                raise ShapeError(f"{name} after a share of {share} of the rounds", help="give a share from 0 to 1")
        for name, amount in (("rate", self.rate), ("hour_s", self.hour_s)):
            if not (math.isfinite(amount) and amount >= 0.0):
                raise ShapeError(f"{name} {amount}", help="give a finite number, 0 or more")

    def groups(self) -> list[SessionGroup]:
        """The sessions, where they stand between the rounds."""
        sessions = self.rounds // ROUNDS_A_SESSION if self.sessions is None else self.sessions
        return session_groups(sessions, rounds=self.rounds, batch=self.batch, concurrency=self.concurrency)

    def traffic(self, pack: Pack) -> Traffic:
        """Everything that is drawn of it, for a pack.

        Raises UnknownMomentError for a moment the pack does not have or nobody plays, or sessions where it has none;
        PackError where a moment is not the one that is played, or events would change nothing.
        """
        moments = self.moments or list(pack.moments)
        if self.sessions and not any(name in SESSIONS for name in moments):
            raise UnknownMomentError(
                f"{self.sessions} sessions of pack {pack.pack!r}, which has none",
                help=f"ask for 0; moments of many steps are {', '.join(SESSIONS)}",
            )
        if self.events and not any(str(field.feature).startswith(f"{HISTORY}:") for field in pack.fields.values()):
            raise PackError(
                f"events in pack {pack.pack!r}, which has no field of what happened to customers",
                help=f"leave them out, or give it a field with a feature of the view {HISTORY}",
            )
        return Traffic(
            pack,
            moments,
            self.rounds,
            customers=self.customers,
            population_seed=self.population_seed,
            seed=self.seed,
            groups=self.groups(),
            delayed=self.delayed or self.hour_s > 0.0,
            events=self.events,
            consent_changes=self.consent_changes,
            responses=self.responses,
        )
