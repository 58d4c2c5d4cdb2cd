"""What is asked of `decide`, and what it answers: the facts of one decision, as they are logged."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from nba.types import Context

# online: sampled from the policy. deterministic: the app asked for no exploration, or the policy gave all
# probability to one of several actions. fallback: the policy failed. Only `online` may be learnable (law 7).
Mode = Literal["online", "deterministic", "fallback"]


class DecisionRequest(Struct, frozen=True, kw_only=True):
    """Everything that decides, beside the snapshot: the same request gives the same decision."""

    decision_id: str
    context: Context
    actions: tuple[str, ...] | None = None  # candidates; None: all of the moment's
    exclude: tuple[str, ...] = ()
    baseline_action: str | None = None
    explore: bool = True
    defer_activation: bool = False
    missing: tuple[str, ...] = ()  # fields that had no value
    defaulted: tuple[str, ...] = ()  # fields whose value could not be used
    ignored: tuple[str, ...] = ()  # keys of the request the moment does not know
    age_s: dict[str, float] = {}  # feature view -> age of what was read, seconds
    degraded: tuple[str, ...] = ()  # what failed before the policy was asked


class PolicyRef(Struct, frozen=True, kw_only=True):
    """Which policy decided."""

    name: str
    version: str
    kind: str
    digest: str  # of the artefact
    arm: str = "champion"


class Decision(Struct, frozen=True, kw_only=True):
    """One decision, complete: enough to answer with, to learn from, and to replay bit for bit (law 4)."""

    request: DecisionRequest
    pack: str
    pack_digest: str
    bundle_id: str
    policy: PolicyRef
    candidates: tuple[str, ...]  # the moment's actions in column order
    funnel: dict[str, int]
    removed: dict[str, str]  # action -> reason
    distribution: tuple[float, ...]  # over candidates, multiples of 2**-53 that sum to 1
    draw: int  # in [0, 2**53)
    action_id: str
    propensity: float  # the number that was sampled with (law 1)
    treatment_id: str | None
    treatment_propensity: float
    mode: Mode
    learnable: bool
    degraded: tuple[str, ...]
    decided_at: datetime
    # treatment -> probability, given the action: multiples of 2**-53 that sum to 1. Empty where drawn evenly.
    treatment_distribution: dict[str, float] = {}

    @property
    def decision_id(self) -> str:
        """The request's idempotency key and the seed of its draw."""
        return self.request.decision_id

    @property
    def context(self) -> Context:
        """The facts it was made from."""
        return self.request.context
