from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nba.home import Home
from nba.pack import Pack
from serving.champion import ChampionFollower, MlflowRegistry


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def follower(support: Pack, home: Home, registry: Any) -> ChampionFollower:
    return ChampionFollower({"support": support}, home, registry)


def version(follower: ChampionFollower) -> str | None:
    snapshot = follower.snapshot("support")
    return None if snapshot is None else snapshot.policy.version


def test_the_champion_is_fetched_once_and_kept_by_its_digest(support: Pack, home: Home, registry: Any) -> None:
    following = follower(support, home, registry)
    for _ in range(3):
        following.poll("support")
    snapshot = following.snapshot("support")
    assert snapshot is not None
    assert (snapshot.policy.version, snapshot.policy.name, snapshot.policy.kind) == ("1", "support", "uniform")
    assert (home.policies / snapshot.policy.digest / "policy.json").exists()
    assert registry.fetched == ["1"]
    assert not list(home.policies.glob("fetching-*"))


def test_a_promotion_swaps_and_a_rollback_swaps_back(
    support: Pack, home: Home, registry: Any, artefacts: dict[str, Path]
) -> None:
    following = follower(support, home, registry)
    following.poll("support")
    registry.add(artefacts["rules"])
    following.poll("support")
    assert version(following) == "2"
    registry.alias = "1"
    following.poll("support")
    assert version(following) == "1"
    assert not following.serving("support").degraded


@pytest.mark.parametrize("damage", ["truncated", "garbage", "missing", "changed"])
def test_a_bad_artefact_is_rejected_and_the_last_good_one_stays(
    support: Pack, home: Home, registry: Any, artefacts: dict[str, Path], tmp_path: Path, damage: str
) -> None:
    following = follower(support, home, registry)
    following.poll("support")
    bad = Path(shutil.copytree(artefacts["rules"], tmp_path / "bad"))
    match damage:
        case "truncated":
            weights = bad / "weights.safetensors"
            weights.write_bytes(weights.read_bytes()[:-1])
        case "garbage":
            (bad / "policy.json").write_bytes(b"\x80\x04.")
        case "missing":
            (bad / "pack.json").unlink()
        case "changed":
            manifest = json.loads((bad / "policy.json").read_bytes())
            (bad / "policy.json").write_text(json.dumps({**manifest, "pack_digest": "0" * 64}))
    registry.add(bad)
    for _ in range(3):
        following.poll("support")
    serving = following.serving("support")
    assert version(following) == "1"
    assert list(serving.rejected) == ["2"]
    assert serving.degraded
    assert registry.fetched == ["1", "2"]  # not tried again
    registry.add(artefacts["rules"])
    following.poll("support")
    assert (version(following), following.serving("support").degraded) == ("3", False)


def test_a_policy_for_another_pack_is_rejected(
    support: Pack, home: Home, registry: Any, artefacts: dict[str, Path]
) -> None:
    changed = support.__class__(
        **{f: getattr(support, f) for f in support.__struct_fields__ if f != "version"}, version=support.version + 1
    )
    following = follower(changed, home, registry)
    following.poll("support")
    assert version(following) is None
    assert "another" in following.serving("support").rejected["1"]


def test_a_registry_that_does_not_answer_leaves_the_last_good_one(support: Pack, home: Home, registry: Any) -> None:
    following = follower(support, home, registry)
    following.poll("support")
    registry.fails = ConnectionError("refused")
    following.poll("support")
    assert version(following) == "1"
    assert following.serving("support").trouble == "ConnectionError: refused"
    registry.fails = None
    following.poll("support")
    assert not following.serving("support").degraded


def test_a_start_without_the_registry_serves_what_served_last(support: Pack, home: Home, registry: Any) -> None:
    follower(support, home, registry).poll("support")
    registry.fails = ConnectionError("refused")
    again = follower(support, home, registry)
    again.start()
    assert version(again) == "1"
    again.stop()


def test_a_start_without_anything_good_serves_nothing(support: Pack, home: Home, registry: Any) -> None:
    follower(support, home, registry).poll("support")
    [weights] = home.policies.glob("*/weights.safetensors")
    weights.write_bytes(b"")
    registry.fails = ConnectionError("refused")
    again = follower(support, home, registry)
    again.start()
    assert version(again) is None
    again.stop()


def test_a_damaged_copy_on_this_machine_is_fetched_anew(support: Pack, home: Home, registry: Any) -> None:
    follower(support, home, registry).poll("support")
    [weights] = home.policies.glob("*/weights.safetensors")
    weights.write_bytes(b"")
    again = follower(support, home, registry)
    again.poll("support")
    assert version(again) == "1"
    assert registry.fetched == ["1", "1"]


@pytest.mark.system
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow and SQLAlchemy between themselves
def test_mlflow_names_the_champion_and_hands_out_its_artefact(
    support: Pack, home: Home, artefacts: dict[str, Path], tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    registry = MlflowRegistry(home.tracking_uri)
    assert registry.champion("support") is None
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri, registry_uri=home.tracking_uri)
    client.create_registered_model("support")
    assert registry.champion("support") is None
    experiment = client.create_experiment("nba/support", artifact_location=str(tmp_path / "artifacts"))
    run = client.create_run(experiment).info.run_id
    client.log_artifacts(run, str(artefacts["uniform"]), "policy")
    made = client.create_model_version("support", f"runs:/{run}/policy", run, tags={"digest": "d"})
    client.set_registered_model_alias("support", "champion", made.version)
    champion = registry.champion("support")
    assert champion is not None
    assert (champion.version, champion.run_id, champion.digest) == ("1", run, "d")
    fetched = registry.fetch(champion, tmp_path)
    assert (fetched / "policy.json").read_bytes() == (artefacts["uniform"] / "policy.json").read_bytes()
