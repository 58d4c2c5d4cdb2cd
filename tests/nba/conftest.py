"""Two packs to test with: `support` as it ships, and `shop`, small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from nba.decision import DecisionRequest, PolicyRef
from nba.moment_plan import MomentPlan, plan_pack
from nba.pack import Pack
from nba.pack_file import load_pack, parse_pack
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from nba.types import Context, Policy

# The same examples every time: a red run can be repeated. On a busy machine the first example takes seconds.
settings.register_profile("nba", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nba")

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

SHOP = """\
pack: shop
version: 1
reward_version: 1
languages: [en, de]
fields:
  mood: {type: number, range: [-1, 1]}
  device: {type: category, values: [mobile, desktop]}
  member: {type: boolean}
  local_time: {type: time}
moments:
  basket:
    fields: [mood, device, member, local_time]
    actions: [greet, remind, offer]
    reward: {bought: 1.0, annoyed: -0.5}
    window: 24h
    rules:
      - {when: mood < -0.5, action: offer}
      - {when: member, action: remind}
actions:
  greet:
    layer: cognitive
    channel: chat
    trigger: always
    cost: 0.1
    treatments:
      warm: {en: Hi, de: Hallo}
      formal: {en: Good day}
  remind: {layer: procedural, channel: push, trigger: mood < 0.5}
  offer: {layer: emotional, channel: chat, trigger: always, cost: 0.2}
guardrails:
  night: {when: local_time.hour >= 22, remove: [remind]}
outcomes:
  bought: {closes_window: true}
  annoyed: {}
"""


@pytest.fixture(scope="session")
def shop_text() -> str:
    return SHOP


@pytest.fixture(scope="session")
def shop() -> Pack:
    return parse_pack(SHOP.encode(), source="shop.yaml")


@pytest.fixture(scope="session")
def support() -> Pack:
    return load_pack("support")


@pytest.fixture(scope="session")
def support_plans(support: Pack) -> dict[str, MomentPlan]:
    return plan_pack(support)


def _make_rounds(plan: MomentPlan, n: int, seed: int = 0) -> LoggedRounds:
    """n rounds of random contexts and even actions; action a pays a / 10, give or take 0.1."""
    rng, k = np.random.default_rng(seed), len(plan.action_ids)
    actions = rng.integers(0, k, n)
    contexts = rng.uniform(-1.0, 1.0, (n, plan.width)).astype(np.float32)
    contexts[:, 0] = 1.0
    return LoggedRounds(
        contexts=contexts,
        mask=np.ones((n, k), dtype=np.bool_),
        actions=actions,
        propensities=np.full(n, 1.0 / k),
        rewards=0.1 * actions + rng.normal(0.0, 0.1, n),
        subjects=rng.integers(0, 2**63, n).astype(np.uint64),
    )


@pytest.fixture(scope="session")
def make_rounds() -> Callable[..., LoggedRounds]:
    return _make_rounds


def _make_snapshot(pack: Pack, policy: Policy, *, version: str = "1") -> Snapshot:
    """The pack with one policy in every moment."""
    ref = PolicyRef(name=pack.pack, version=version, kind="test", digest=f"digest-{version}")
    return Snapshot.of(pack, ref, dict.fromkeys(pack.moments, policy))


@pytest.fixture(scope="session")
def make_snapshot() -> Callable[..., Snapshot]:
    return _make_snapshot


def _make_request(
    decision_id: str = "d-1",
    moment: str = "basket",
    values: dict[str, Any] | None = None,
    session_id: str | None = None,
    **rest: Any,
) -> DecisionRequest:
    context = Context(subject="s", moment=moment, session_id=session_id, values=values or {}, observed_at=NOW)
    return DecisionRequest(decision_id=decision_id, context=context, **rest)


@pytest.fixture(scope="session")
def make_request() -> Callable[..., DecisionRequest]:
    return _make_request
