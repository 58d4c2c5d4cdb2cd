"""What serves together: one pack and one policy for each of its moments, immutable."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from nba import encoder
from nba.decision import PolicyRef
from nba.errors import ArtefactError
from nba.moment_plan import MomentPlan, plan_pack
from nba.pack import Pack
from nba.treatments import treatment_plan
from nba.types import Policy


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything `decide` needs beside the request. `bundle_id` names it: same bundle, same decisions."""

    pack: Pack
    policy: PolicyRef
    policies: Mapping[str, Policy]  # moment -> its policy
    plans: Mapping[str, MomentPlan] = field(repr=False)
    bundle_id: str
    treatments: Mapping[str, Policy] = field(default_factory=dict)  # moment -> policy of phrasings; evenly without
    treatment_plans: Mapping[str, MomentPlan] = field(repr=False, default_factory=dict)  # moments that have phrasings
    treatment_names: tuple[str, ...] = field(repr=False, default=())  # of all actions, in order: what a draw goes over

    @classmethod
    def of(
        cls,
        pack: Pack,
        policy: PolicyRef,
        policies: Mapping[str, Policy],
        treatments: Mapping[str, Policy] | None = None,
    ) -> Snapshot:
        """The snapshot of a pack and its policies.

        Raises ArtefactError where a moment has none, or one of phrasings but no phrasings.
        """
        absent = [name for name in pack.moments if name not in policies]
        if absent:
            raise ArtefactError(
                f"policy {policy.name!r} version {policy.version} knows nothing of moment {absent[0]!r}",
                help="train a policy for this pack: nba train",
            )
        parts = (policy.digest, pack.digest, str(encoder.VERSION))
        bundle_id = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        plans = plan_pack(pack)
        second = {name: made for name, plan in plans.items() if (made := treatment_plan(plan)) is not None}
        without = [name for name in treatments or {} if name not in second]
        if without:
            raise ArtefactError(
                f"policy {policy.name!r} version {policy.version} chooses phrasings in {without[0]!r}, which has none",
                help="train a policy for this pack: nba train",
            )
        names = tuple(sorted({name for action in pack.actions.values() for name in action.treatments}))
        return cls(pack, policy, policies, plans, bundle_id, treatments or {}, second, names)
