from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from features import plan
from features.feast_store import open_store
from features.online import UNKNOWN, Fetched, Lookup, OnlineReader
from features.plan import FeatureStoreError, current_plan, load_plan, plan_path, registry_path, save_plan
from features.planning import ensure_plan
from nba.home import Home
from nba.pack import Pack
from nba.pack_file import load_pack

from .conftest import NOW, Seeded


def without_features(pack: Pack) -> Pack:
    fields = {name: msgspec.structs.replace(f, feature=None, max_age=None) for name, f in pack.fields.items()}
    return msgspec.structs.replace(pack, fields=fields)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}'])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(FeatureStoreError, match="nba features apply"):
        load_plan(tmp_path / "plan.json")


def test_a_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeatureStoreError, match="No such file"):
        load_plan(tmp_path / "plan.json")


@pytest.mark.system
def test_a_plan_of_another_schema_is_refused(seeded: Seeded, tmp_path: Path) -> None:
    later = msgspec.structs.replace(load_plan(seeded.plan), schema=plan.SCHEMA + 1)
    save_plan(tmp_path / "plan.json", later)
    with pytest.raises(FeatureStoreError, match=f"schema {plan.SCHEMA + 1}"):
        load_plan(tmp_path / "plan.json")


@pytest.mark.system
def test_a_stored_plan_is_current_until_pack_registry_or_repository_change(
    seeded: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.features.mkdir()
    registry_path(home).write_bytes(registry_path(seeded.home).read_bytes())
    plan_path(home, seeded.pack).write_bytes(seeded.plan.read_bytes())
    assert current_plan(home, seeded.pack) == load_plan(seeded.plan)
    assert current_plan(home, msgspec.structs.replace(seeded.pack, version=2)) is None
    with monkeypatch.context() as patch:
        edited = tmp_path / "repository"
        edited.mkdir()
        for path in (*plan.REPOSITORY.glob("*.py"), plan.REPOSITORY / "feature_store.yaml"):
            (edited / path.name).write_bytes(path.read_bytes().replace(b"days=90", b"days=91"))
        patch.setattr(plan, "REPOSITORY", edited)
        assert current_plan(home, seeded.pack) is None
    registry_path(home).write_bytes(b"another")
    assert current_plan(home, seeded.pack) is None


@pytest.mark.system
def test_a_second_start_imports_no_feast(seeded: Seeded) -> None:
    code = f"""
import sys, pathlib
from features.planning import ensure_plan
from nba.home import Home
from nba.pack_file import load_pack
print(ensure_plan(Home(pathlib.Path({str(seeded.home.path)!r})), load_pack("support"), "redis://127.0.0.1:1"))
sys.exit("feast" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(seeded.plan)), done.stderr


@pytest.mark.system
def test_a_registry_that_changed_is_compiled_from_anew(seeded: Seeded) -> None:
    before = load_plan(seeded.plan)
    store = open_store(seeded.home, seeded.url)
    device = store.get_feature_view("customer_device")
    device.ttl = timedelta(days=1)
    store.apply([device])
    assert current_plan(seeded.home, seeded.pack) is None
    after = load_plan(ensure_plan(seeded.home, seeded.pack, seeded.url))
    assert after.fingerprint != before.fingerprint
    assert after.features == before.features  # the repository's own definition was applied again


def test_a_pack_without_stored_features_needs_neither_feast_nor_redis(tmp_path: Path) -> None:
    pack = without_features(load_pack("support"))
    path = ensure_plan(Home(tmp_path), pack, "redis://127.0.0.1:1")

    async def main() -> Fetched:
        return await OnlineReader(load_plan(path), None).fetch([Lookup("a", "0a", features=False)], 1.0, now=NOW)

    assert asyncio.run(main()) == Fetched([UNKNOWN], degraded=False)
    assert not registry_path(Home(tmp_path)).exists()


def test_writing_a_plan_leaves_no_other_file(tmp_path: Path) -> None:
    pack = without_features(load_pack("support"))
    ensure_plan(Home(tmp_path), pack, "redis://127.0.0.1:1")
    assert [path.name for path in Home(tmp_path).features.iterdir()] == [f"plan-{pack.digest[:16]}.json"]
