"""A logged decision made again, from its record and the policy version it was made with."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import asdict

from nba.artefact import load_artefact
from nba.decide import decide
from nba.decision import Decision, PolicyRef
from nba.errors import ArtefactError
from nba.snapshot import Snapshot
from serving.answers import NO_CLAIM, without_claim
from serving.errors import NotFoundError
from serving.wire import ReplayAnswer

KEPT = 8  # policies held in memory


class Replayer:
    """Decides again what the log holds."""

    def __init__(self, policies: Path, secret: bytes) -> None:
        self._policies, self._secret = policies, secret
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()

    async def replay(self, decision: Decision) -> ReplayAnswer:
        """Whether the same comes out, bit for bit. Raises NotFoundError where the policy is no longer here."""
        snapshot = await self._snapshot(decision.policy)
        again = decide(snapshot, decision.request, now=decision.decided_at, secret=self._secret)
        if NO_CLAIM in decision.degraded:  # known only after it was decided
            again = without_claim(again)
        difference = {
            name: (logged, recomputed)
            for name, logged in asdict(decision).items()
            if logged != (recomputed := getattr(again, name))
        }
        return ReplayAnswer(identical=not difference, difference=difference or UNSET)

    async def _snapshot(self, policy: PolicyRef) -> Snapshot:
        snapshot = self._kept.pop(policy.digest, None)
        if snapshot is None:
            try:
                snapshot = await asyncio.to_thread(load_artefact, self._policies / policy.digest)
            except ArtefactError as error:
                raise NotFoundError(
                    f"the policy of that decision cannot be loaded: {error.message}",
                    help=f"put artefact {policy.digest[:12]} of version {policy.version} back",
                ) from None
        self._kept[policy.digest] = snapshot
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return replace(snapshot, policy=policy)
