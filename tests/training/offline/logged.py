"""Sessions in a real log: decided by the decision function, their outcomes reported as an app would."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from envs.batch_session import BatchSessionEnv
from nba.decide import decide_many
from nba.decision import DecisionRequest
from nba.facts import name_facts
from nba.pack import Pack
from nba.records import DecisionRecord, Record, RewardRecord, Shown
from nba.types import Context, Rewards
from tests.training.conftest import NOW, uniform

START = NOW - timedelta(days=3)
STEP = timedelta(minutes=1)


@dataclass(slots=True)
class LoggedSessions:
    """Records of sessions, and what each earned."""

    records: list[Record]
    returns: Rewards  # (n,)
    steps: np.ndarray  # (n,)


def log_sessions(pack: Pack, moment: str, n: int, *, seed: int = 0) -> LoggedSessions:
    """n sessions of the moment under the uniform policy, all starting at START, a minute a step."""
    env, rng, policy = BatchSessionEnv(pack, moment), np.random.default_rng(seed), uniform(pack)
    under_way, live = env.start(n, rng), np.arange(n)
    returns, steps, records = np.zeros(n), np.zeros(n, dtype=np.int64), list[Record]()
    actions = np.zeros(n, dtype=np.int64)
    at = START
    while live.size:
        values = list(name_facts(env.plan.encoder.fields, under_way.facts[live]))
        requests = [
            DecisionRequest(
                decision_id=f"s{i}-{steps[i]}",
                context=Context(
                    subject=hashlib.sha256(str(under_way.customers[i]).encode()).hexdigest(),
                    moment=moment,
                    session_id=f"s{i}",
                    values=known,
                    observed_at=at,
                ),
            )
            for i, known in zip(live, values, strict=True)
        ]
        decisions = decide_many(policy, requests, now=at, secret=b"s" * 32)
        actions[live] = [env.plan.action_ids.index(decision.action_id) for decision in decisions]
        happened = env.advance(under_way, actions, rng)
        returns[live] += happened.rewards[live]
        steps[live] += 1
        shown = Shown(layer="", channel="", message=None, delay_ms=0, closes_at=at, default_reward=0.0)
        for i, decision in zip(live, decisions, strict=True):
            records.append(DecisionRecord(decision=decision, shown=shown, fingerprint="", epoch=1))
            for name, value in env.law.events[happened.events[i]].outcomes.items():
                records.append(_report(decision.decision_id, name, value, at + STEP / 2))
        live = live[~(happened.terminated | happened.truncated)[live]]
        at += STEP
    return LoggedSessions(records, returns, steps)


def _report(decision_id: str, outcome: str, value: float, at: datetime) -> RewardRecord:
    return RewardRecord(
        decision_id=decision_id,
        outcome=outcome,
        value=value,
        observed_at=at,
        idempotency_key=f"{decision_id}-{outcome}",
        received_at=at,
    )
