"""Makes an installation to measure: a policy, and, with `whole`, Feast's store, MLflow's registry, a model of MLflow.

    python prepare.py HOME REDIS_URL [whole]

A process of its own, because Feast and MLflow stay in memory.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from load import SUBJECTS

from nba.artefact import load_artefact, save_artefact
from nba.home import Home
from nba.moment_plan import MomentPlan, plan_pack
from nba.pack import Pack
from nba.pack_file import load_pack
from nba.policies import KINDS
from nba.rounds import LoggedRounds

KIND = "linear+thompson"  # what a retrain learns first


def main() -> None:
    """Prepares what the arguments say."""
    home, redis_url, *whole = sys.argv[1:]
    pack = load_pack("support")
    learned(pack, artefact_folder(Path(home)))
    if whole:
        _features(Home(Path(home)), pack, redis_url)
        _register(Home(Path(home)))
        _mlflow_model(Path(home))


def artefact_folder(home: Path) -> Path:
    """Where the policy is."""
    return home / "benchmark" / "policy"


def learned(pack: Pack, folder: Path, kind: str = KIND) -> None:
    """A policy of the pack, learned from made-up rounds: how good it is does not matter here."""
    plans = plan_pack(pack)
    save_artefact(folder, pack, kind, {m: KINDS[kind].fit(plans[m], _rounds(plans[m])) for m in plans})


def _rounds(plan: MomentPlan, n: int = 500) -> LoggedRounds:
    rng, k = np.random.default_rng(0), len(plan.action_ids)
    return LoggedRounds(
        contexts=rng.normal(size=(n, plan.width)).astype(np.float32),
        mask=np.ones((n, k), dtype=np.bool_),
        actions=rng.integers(k, size=n),
        propensities=np.full(n, 1.0 / k),
        rewards=rng.random(n),
        subjects=np.arange(n),
    )


def _features(home: Home, pack: Pack, redis_url: str) -> None:
    from envs.people import Population
    from features.planning import ensure_plan
    from features.store import apply, seed

    apply(home, [pack], redis_url)
    rows = Population(pack).stored_features(np.arange(SUBJECTS))
    seed(home, ((f"u-{i}", row) for i, row in enumerate(rows)), redis_url, datetime.now(UTC))
    ensure_plan(home, pack, redis_url)


def _register(home: Home) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=home.tracking_uri, registry_uri=home.tracking_uri)
    place = str(home.path / "mlflow" / "artifacts")
    experiment = client.create_experiment("nba/support", artifact_location=place)
    client.create_registered_model("support")
    run = client.create_run(experiment).info.run_id
    client.log_artifacts(run, str(artefact_folder(home.path)), "policy")
    tags = {"digest": load_artefact(artefact_folder(home.path)).policy.digest}
    version = client.create_model_version("support", f"runs:/{run}/policy", run, tags=tags).version
    client.set_registered_model_alias("support", "champion", version)


def _mlflow_model(home: Path) -> None:
    import mlflow.pyfunc

    class Softmax(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
        """A distribution over seven actions of 28 context columns."""

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            values = np.asarray(model_input, dtype=np.float64) @ np.linspace(-0.1, 0.1, 28 * 7).reshape(28, 7)
            weights = np.exp(values - values.max(axis=1, keepdims=True))
            return (weights / weights.sum(axis=1, keepdims=True)).tolist()

    mlflow.pyfunc.save_model(str(home / "benchmark" / "mlflow"), python_model=Softmax(), pip_requirements=[])


if __name__ == "__main__":
    main()
