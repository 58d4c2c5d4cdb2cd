"""An installation in a temporary folder with a real MLflow, and simulated customers of the pack `support`."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from envs.rollout import rollout
from nba.decide import decide_many
from nba.decision import DecisionRequest, PolicyRef
from nba.facts import name_facts
from nba.home import Home
from nba.log import LogReport, LogWriter
from nba.pack import Pack
from nba.pack_file import load_pack
from nba.records import DecisionRecord, Record, RewardRecord, Shown
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from nba.types import Context, Policy
from training.learn import from_rounds
from training.tracking import Run, Tracking
from training.truth import SimulatedMoment, simulate
from training.window import Window

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making its tables takes three seconds, copying it none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert Tracking(f"sqlite:///{path}").versions("none") == []
    return path


@pytest.fixture
def home(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An installation of this test's own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home(tmp_path / "home")
    home.mlflow.mkdir(parents=True)
    shutil.copy(migrated, home.mlflow / "mlflow.db")
    return home


@pytest.fixture
def tracking(home: Home) -> Tracking:
    """The installation's MLflow."""
    return Tracking.of(home)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the drawing, which is half of the time, where a test does not look at it."""
    monkeypatch.setattr(Run, "figure", lambda *_: None)


@pytest.fixture(scope="session")
def pack() -> Pack:
    return load_pack("support")


@pytest.fixture(scope="session")
def simulated(pack: Pack) -> dict[str, SimulatedMoment]:
    """The moments of the pack, with few contexts to measure on."""
    return {name: p for name, p in simulate(pack, contexts=2_000).items() if isinstance(p, SimulatedMoment)}


def snapshot(pack: Pack, policies: dict[str, Policy], *, kind: str = "uniform", version: str = "1") -> Snapshot:
    """These policies as a version that was never saved."""
    return Snapshot.of(pack, PolicyRef(name=pack.pack, version=version, kind=kind, digest=f"d{version}"), policies)


def uniform(pack: Pack) -> Snapshot:
    """The policy that has learned nothing."""
    return snapshot(pack, dict(from_rounds(pack, "uniform", {}).policies))


def played(simulated: dict[str, SimulatedMoment], policy: Snapshot, *, each: int, seed: int) -> dict[str, LoggedRounds]:
    """Rounds as the join would give them, `each` of every moment."""
    return {
        moment: rollout(policy.policies[moment], playground.env, episodes=each, rng=np.random.default_rng([seed, i]))
        for i, (moment, playground) in enumerate(simulated.items())
    }


def window(rounds: dict[str, LoggedRounds], *, digest: str = "ab" * 32, since: datetime | None = None) -> Window:
    """A window that holds these rounds."""
    counts = {"joined": sum(len(part) for part in rounds.values()), "immature": 0}
    return Window(since, NOW, rounds, counts, LogReport(), digest)


@pytest.fixture(scope="session")
def support_log(tmp_path_factory: pytest.TempPathFactory, pack: Pack, simulated: dict[str, SimulatedMoment]) -> Path:
    """A real decision log: 1,600 decisions of each moment by the uniform policy, and what came of them."""
    folder = tmp_path_factory.mktemp("decisions") / "log"
    writer = LogWriter(folder)
    for i, playground in enumerate(simulated.values()):
        writer.append(*history(uniform(pack), playground, 1_600, np.random.default_rng(i))).result(timeout=60)
    writer.close()
    return folder


def history(
    policy: Snapshot,
    playground: SimulatedMoment,
    n: int,
    rng: np.random.Generator,
    *,
    start: datetime = NOW - timedelta(days=10),
    prefix: str = "",
) -> list[Record]:
    """Decisions of n customers, with every outcome a minute later."""
    plan = playground.env.plan
    batch = playground.env.sample(n, rng)
    requests = [
        DecisionRequest(
            decision_id=f"{prefix}{plan.name}-{i}",
            context=Context(
                subject=hashlib.sha256(str(customer).encode()).hexdigest(),
                moment=plan.name,
                values=values,
                observed_at=start,
            ),
        )
        for i, (customer, values) in enumerate(
            zip(batch.customers, name_facts(plan.encoder.fields, batch.facts), strict=True)
        )
    ]
    decisions = decide_many(policy, requests, now=start, secret=b"s" * 32)
    actions = np.array([plan.action_ids.index(decision.action_id) for decision in decisions])
    outcomes = playground.env.outcomes(batch, actions, rng)
    records: list[Record] = []
    for decision, came in zip(decisions, outcomes, strict=True):
        shown = Shown(
            layer="", channel="", message=None, delay_ms=0, closes_at=start + timedelta(days=1), default_reward=0.0
        )
        records.append(DecisionRecord(decision=decision, shown=shown, fingerprint="", epoch=1))
        for name, value in zip(playground.env.outcome_names, came, strict=True):
            at = start + timedelta(minutes=1)
            records.append(
                RewardRecord(
                    decision_id=decision.decision_id,
                    outcome=name,
                    value=float(value),
                    observed_at=at,
                    idempotency_key=f"{decision.decision_id}-{name}",
                    received_at=at,
                )
            )
    return records
