"""What a server makes of a simulator's request: its own intake, on what the feature store holds of the customer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from envs.people import Population
from features.online import FeatureRow
from nba.decision import DecisionRequest, PolicyRef
from nba.pack import Pack
from nba.policies.uniform import Uniform
from nba.snapshot import Snapshot
from serving.intake import NOTHING_STORED, Intake
from serving.wire import DecideBody

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


class Served:
    """A server's side of the contract, up to the decision: a uniform policy for every moment of the pack."""

    def __init__(self, pack: Pack) -> None:
        policy = PolicyRef(name=pack.pack, version="7", kind="uniform", digest="")
        self.served = Snapshot.of(pack, policy, {moment: Uniform() for moment in pack.moments})
        self.population = Population(pack)
        self.intake = Intake({pack.pack: pack}, self, b"k")

    def snapshot(self, _: str) -> Snapshot:
        """What `Intake` asks for."""
        return self.served

    def stored(self, subject_id: str) -> FeatureRow:
        """What the store holds of a customer, by field."""
        customer = np.array([int(subject_id.removeprefix("sim-"))])
        features = self.population.stored_features(customer)[0]
        values = {name: features[str(field.feature)] for name, field in self.population.fields.items()}
        return FeatureRow({name: value for name, value in values.items() if value is not None}, {})

    def request(self, body: dict[str, Any]) -> DecisionRequest:
        """What would be decided on, for the body as it comes over the wire."""
        asked = self.intake.ask(msgspec.json.decode(msgspec.json.encode(body), type=DecideBody))
        stored = self.stored(body["subject_id"]) if asked.reads_stored else NOTHING_STORED
        return self.intake.request(asked, stored, degraded=False, now=NOW)
