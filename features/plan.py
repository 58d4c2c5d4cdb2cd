"""The read plan: what the hot process must know of Feast's layout in Redis, so that it need not import Feast.

`features.compiler` makes it from a pack's feature service and checks it against Feast itself.
"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import msgspec
from msgspec import Struct

from features.feature_value import ValueType
from nba.errors import NbaError
from nba.home import Home
from nba.pack import Pack

SCHEMA = 1
REPOSITORY = Path(__file__).parent / "repository"


class FeatureStoreError(NbaError):
    """The feature store does not hold, or does not give back, what a pack asks of it."""

    code = "feature_store"


class PlannedFeature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fact of the pack and where Redis has it."""

    field: str  # name in the pack
    view: str
    feature: str
    redis_field: bytes  # Feast's hash of "view:feature"
    value_type: ValueType
    max_age_s: float | None  # the shorter of the pack's max_age and the view's TTL; None: any age


class ReadPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything needed to read the features of a pack for any subject in one round trip."""

    schema: int
    pack: str
    pack_digest: str
    service: str  # the feature service it was compiled from
    fingerprint: str  # of the registry and the repository it was compiled from
    project: str
    key_prefix: bytes  # of a subject's key: Feast's entity key up to the length of the subject id
    views: tuple[str, ...]
    features: tuple[PlannedFeature, ...]


def plan_path(home: Home, pack: Pack) -> Path:
    """Where the plan of this very pack is kept."""
    return home.features / f"plan-{pack.digest[:16]}.json"


def load_plan(path: Path) -> ReadPlan:
    """The plan in this file. Raises FeatureStoreError."""
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=ReadPlan)
    except (OSError, msgspec.MsgspecError) as error:
        raise FeatureStoreError(f"cannot read the plan {path}: {error}", help="run: nba features apply") from None
    if plan.schema != SCHEMA:
        raise FeatureStoreError(f"{path} has schema {plan.schema}, not {SCHEMA}", help="run: nba features apply")
    return plan


def save_plan(path: Path, plan: ReadPlan) -> None:
    """Writes the plan so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f"{path.name}.{uuid.uuid4().hex}")  # two processes may write at once
    building.write_bytes(msgspec.json.encode(plan))
    building.replace(path)


def registry_path(home: Home) -> Path:
    """Feast's registry file."""
    return home.features / "registry.db"


def fingerprint(home: Home) -> str:
    """Hash of the registry and of the repository's files: what a plan depends on beside its pack."""
    digest = hashlib.sha256()
    for path in (registry_path(home), *sorted(REPOSITORY.glob("*.py")), REPOSITORY / "feature_store.yaml"):
        digest.update(path.read_bytes() if path.exists() else b"")
        digest.update(b"\0")
    return digest.hexdigest()


def current_plan(home: Home, pack: Pack) -> ReadPlan | None:
    """The stored plan, where neither pack, registry nor repository has changed since it was compiled."""
    try:
        plan = load_plan(plan_path(home, pack))
    except FeatureStoreError:
        return None
    return plan if (plan.pack_digest, plan.fingerprint) == (pack.digest, fingerprint(home)) else None
