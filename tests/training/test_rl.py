"""Learning whole sessions with RLlib, on a Ray that all of these tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from nba.home import Home
from nba.pack import Pack
from nba.policies.network import Network
from nba.testing import random_mask
from tests.conftest import LOOPBACK, listening
from training.rl.cluster import cluster
from training.rl.session import SessionVersion, train_session
from training.rl.settings import DQN, PPO, SessionTraining
from training.tracking import Tracking
from training.versions import load

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore")]

SMALL = SessionTraining(PPO(sessions=64, minibatch=480, hidden=(16,)), steps=10_000, checkpoint_every=2)
DIES = """\
import os, signal, sys
from pathlib import Path
from nba.home import Home
from nba.pack_file import load_pack
from tests_told import SMALL
from training.rl.session import train_session
from training.tracking import Tracking

def die(steps):
    if steps > 5_000:
        os.kill(os.getpid(), signal.SIGKILL)

home = Home(Path(sys.argv[1]))
train_session(home, Tracking.of(home), load_pack("support"), SMALL, address=sys.argv[2], on_step=die)
"""


@pytest.fixture(scope="module", autouse=True)
def address() -> Iterator[str]:
    """Of a Ray that runs as long as these tests."""
    with cluster(cpus=3):
        import ray

        yield ray.get_runtime_context().gcs_address


@pytest.fixture(autouse=True)
def few_sessions(monkeypatch: pytest.MonkeyPatch, no_pictures: None) -> None:
    monkeypatch.setattr("training.rl.session.JUDGED", 200)


def test_a_ray_that_trains_listens_on_loopback_only(address: str) -> None:
    found = listening(psutil.Process().children(recursive=True))
    assert address.startswith("127.0.0.1:")
    assert "gcs_server" in {name for name, _, _ in found}
    assert {ip for _, ip, _ in found} <= LOOPBACK, found


def learned(home: Home, pack: Pack, told: SessionTraining) -> SessionVersion:
    return train_session(home, Tracking.of(home), pack, told)


def test_ppo_learns_a_session_and_its_network_is_the_challenger(home: Home, tracking: Tracking, pack: Pack) -> None:
    """Every iteration is recorded, and the curve ends at what was learned."""
    algorithm = replace(SMALL.algorithm, learning_rate=(3e-3, 1e-3))
    told: list[int] = []
    found = train_session(home, tracking, pack, replace(SMALL, algorithm=algorithm, steps=40_000), on_step=told.append)
    assert found.part("learned") > 0.2
    assert found.learned < found.planner < found.bound
    assert tracking.aliased("support", "challenger") == found.version
    policy = load(home, tracking, found.version, pack).policies["service_conversation"]
    assert isinstance(policy, Network)
    assert policy.floor == 0.02
    history = tracking.client.get_metric_history(found.version.run_id, "return")
    assert [metric.step for metric in history] == told
    kept = tracking.client.get_run(found.version.run_id).data
    assert {"entropy", "kl", "policy_loss", "session_steps", "cpu_seconds"} <= kept.metrics.keys()
    assert kept.metrics["value/service_conversation"] == pytest.approx(found.learned)


def test_dqn_learns_a_session(home: Home, pack: Pack) -> None:
    algorithm = DQN(
        sessions=64, minibatch=512, updates=12, ahead=5, follow=0.1, explored=0.5, hidden=(32,), temperature=0.01
    )
    found = learned(home, pack, SessionTraining(algorithm, steps=60_000))
    assert found.part("learned") > 0.2
    assert found.version.tags["algorithm"] == "dqn"


def test_a_run_ends_by_its_budget(home: Home, pack: Pack) -> None:
    assert learned(home, pack, replace(SMALL, budget_cpu_seconds=1e-3)).steps < 2_000


def test_a_runner_beside_this_process_plays_for_it(home: Home, tracking: Tracking, pack: Pack) -> None:
    found = learned(home, pack, replace(SMALL, runners=1, steps=1_000))
    assert 1_000 <= found.steps <= 64 * 30
    assert tracking.client.get_run(found.version.run_id).data.metrics["session_steps"] > 5


def test_a_killed_run_goes_on_and_ends_as_it_would_have(
    home: Home, pack: Pack, tmp_path: Path, migrated: Path, address: str
) -> None:
    """The child is killed between two checkpoints; the same policy comes out, and no iteration is recorded twice."""
    (tmp_path / "tests_told.py").write_text(
        "from training.rl.settings import PPO, SessionTraining\nfrom training.rl import session\n"
        f"session.JUDGED = 200\nSMALL = {SMALL!r}\n"
    )
    paths = {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(tmp_path)])}
    died = subprocess.run(
        [sys.executable, "-c", DIES, str(home.path), address], env={**os.environ, **paths}, check=False
    )
    assert died.returncode == -signal.SIGKILL
    told: list[int] = []
    tracking = Tracking.of(home)
    found = train_session(home, tracking, pack, SMALL, on_step=told.append)
    assert min(told) > 5_000
    other = Home(tmp_path / "other")
    other.mlflow.mkdir(parents=True)
    (other.mlflow / "mlflow.db").write_bytes(migrated.read_bytes())
    whole: list[int] = []
    undisturbed = train_session(other, Tracking.of(other), pack, SMALL, on_step=whole.append)
    assert found.version.digest == undisturbed.version.digest
    history = tracking.client.get_metric_history(found.version.run_id, "return")
    assert [metric.step for metric in history] == whole
    assert len(told) < len(whole)
    assert not list((home.path / "sessions").iterdir())


def test_the_policy_says_what_rllibs_module_says() -> None:
    """Logits differ by less than 1e-5; a forbidden action has minus infinity there and no chance here."""
    import torch
    from gymnasium.spaces import Box, Dict, Discrete

    from training.rl.module import SessionModule

    space = Dict({"observations": Box(-1, 1, (9,)), "action_mask": Box(0, 1, (4,))})
    rng = np.random.default_rng(3)
    settings = {"hidden": [16, 8], "mean": rng.normal(size=9), "scale": rng.uniform(0.5, 2, 9), "critic": True}
    module = SessionModule(observation_space=space, action_space=Discrete(4), model_config=settings)
    with torch.no_grad():
        module.head[-1].weight *= 100.0
    contexts, mask = rng.uniform(-1, 1, (200, 9)).astype(np.float32), random_mask(200, 4, rng)
    observed = {"observations": torch.tensor(contexts), "action_mask": torch.tensor(mask, dtype=torch.float32)}
    theirs = module.forward_inference({"obs": observed})["action_dist_inputs"].detach().numpy()
    network = module.network(temperature=1.0, floor=0.0)
    assert np.abs(network.logits(contexts) - theirs)[mask].max() < 1e-5
    assert np.isneginf(theirs[~mask]).all()
    chances = module.get_inference_action_dist_cls().from_logits(torch.tensor(theirs))
    expected = torch.exp(torch.stack([chances.logp(torch.full((200,), a)) for a in range(4)], dim=1)).numpy()
    np.testing.assert_allclose(network.distribution(contexts, mask), expected, atol=1e-5)


@pytest.mark.parametrize("epsilon", [None, 0.5, 1.0])
def test_a_forbidden_action_is_never_drawn_and_one_of_no_value_is(epsilon: float | None) -> None:
    """Action 1 is worth exactly 0 and explored; action 2 is forbidden."""
    from training.rl.runner import drawn

    logits = np.tile([1.0, 0.0, -np.inf], (2_000, 1))
    assert set(drawn(logits, epsilon, np.random.default_rng(0)).tolist()) == {0, 1}
