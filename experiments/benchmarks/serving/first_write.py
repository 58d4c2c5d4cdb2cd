"""What one would write first: Ray Serve as it comes, FastAPI, the Feast SDK and the policy in the handler.

    python first_write.py HOME REDIS_URL PORT

It reads the same features, has a policy of the same size, samples, and appends to a file; it does not sync it, claims
nothing, asks no guardrail and no consent.
"""

import json  # no annotations as text here: FastAPI has to read them through Serve
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

fast = FastAPI()
ACTIONS = ["no_action", "neutral", "warm", "empathetic_1", "empathetic_2", "empathetic_3", "formal"]


class Asked(BaseModel):
    """A request."""

    subject_id: str
    moment: str
    decision_id: str
    context: dict[str, Any]


class Told(BaseModel):
    """An answer."""

    decision_id: str
    action: str
    propensity: float
    distribution: dict[str, float]


def made(home: str, redis_url: str) -> Any:
    """The deployment."""
    from ray import serve

    @serve.deployment(ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=256)
    @serve.ingress(fast)
    class FirstWrite:
        def __init__(self) -> None:
            from features.feast_store import open_store
            from nba.home import Home

            self.store = open_store(Home(Path(home)), redis_url)
            self.service = self.store.get_feature_service("support_v1")
            self.rng = np.random.default_rng()
            self.weights = self.rng.normal(size=(len(ACTIONS), 28))
            self.log = (Path(home) / "first_write.jsonl").open("a")

        @fast.post("/decide")
        def decide(self, asked: Asked) -> Told:
            read = self.store.get_online_features(self.service, [{"subject_id": asked.subject_id}]).to_dict()
            facts = {name: values[0] for name, values in read.items()} | asked.context
            numbers = [float(v) if isinstance(v, int | float) else float(len(str(v))) for v in facts.values()]
            x = np.resize(np.array(numbers), 28) / 24.0
            values = self.weights @ x
            p = np.exp(values - values.max())
            p /= p.sum()
            drawn = int(self.rng.choice(len(ACTIONS), p=p))
            told = Told(
                decision_id=asked.decision_id,
                action=ACTIONS[drawn],
                propensity=float(p[drawn]),
                distribution=dict(zip(ACTIONS, p.tolist(), strict=True)),
            )
            self.log.write(json.dumps({"facts": facts, **told.model_dump()}) + "\n")
            self.log.flush()
            return told

    return FirstWrite.bind()  # type: ignore[attr-defined]


def main() -> None:
    """Serves until standard input ends."""
    import ray
    from ray import serve

    home, redis_url, port = sys.argv[1:]
    folder = tempfile.mkdtemp(prefix="fw-", dir="/tmp")
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 1024 * 1024,
        _temp_dir=folder,
        _node_ip_address="127.0.0.1",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(made(home, redis_url), name="first")
    print("ready", flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
