"""Learned policies as registered versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from nba.errors import ArtefactError
from nba.home import Home
from nba.pack import Pack
from tests.training.conftest import uniform
from training.tracking import CHALLENGER, Tracking, Version
from training.versions import keep, load, register


def registered(home: Home, tracking: Tracking, pack: Pack) -> Version:
    with tracking.run("support", "train") as run:
        return register(home, run, pack, "uniform", uniform(pack).policies, {"source": "none"})


def test_a_version_says_what_it_is_and_for_which_pack(home: Home, tracking: Tracking, pack: Pack) -> None:
    version = registered(home, tracking, pack)
    assert (version.kind, version.tags["source"]) == ("uniform", "none")
    assert version.tags["pack_digest"] == pack.digest
    assert version.tags["pack_version"] == "1"
    assert version.tags["feature_service"] == "support_v1"
    assert tracking.aliased("support", CHALLENGER) == version
    assert (home.policies / version.digest / "policy.json").exists()


def test_equal_policies_are_kept_once(home: Home, pack: Pack) -> None:
    first, again = (keep(home, pack, "uniform", uniform(pack).policies) for _ in range(2))
    assert first == again
    assert [path.name for path in home.policies.iterdir()] == [first[0]]


def test_a_version_is_loaded_under_its_name_and_number(home: Home, tracking: Tracking, pack: Pack) -> None:
    version = registered(home, tracking, pack)
    loaded = load(home, tracking, version, pack)
    assert (loaded.policy.name, loaded.policy.version, loaded.policy.digest) == ("support", "1", version.digest)


def test_a_version_that_is_not_here_is_fetched(home: Home, tracking: Tracking, pack: Pack) -> None:
    version = registered(home, tracking, pack)
    shutil.rmtree(home.policies)
    assert load(home, tracking, version).policy.digest == version.digest
    assert [path.name for path in home.policies.iterdir()] == [version.digest]


def test_a_version_for_another_pack_is_refused(home: Home, tracking: Tracking, pack: Pack) -> None:
    version = registered(home, tracking, pack)
    with pytest.raises(ArtefactError, match="made for another 'support' pack"):
        load(home, tracking, version, replace(pack, version=2))


def test_a_folder_that_holds_something_else_is_refused(
    home: Home, tracking: Tracking, pack: Pack, tmp_path: Path
) -> None:
    version = registered(home, tracking, pack)
    _, other = keep(Home(tmp_path / "elsewhere"), replace(pack, version=2), "uniform", uniform(pack).policies)
    shutil.rmtree(home.policies / version.digest)
    shutil.copytree(other, home.policies / version.digest)
    with pytest.raises(ArtefactError, match="is not version 1"):
        load(home, tracking, version)
