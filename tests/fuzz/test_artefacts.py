"""Artefacts changed at random, by somebody who puts the right hashes in: a policy that answers, or ArtefactError."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nba.artefact import MAX_BYTES, load_artefact, save_artefact
from nba.errors import ArtefactError
from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.pack_file import parse_pack
from nba.policies import KINDS
from nba.rounds import LoggedRounds
from tests.fuzz.conftest import Effort
from tests.fuzz.mutation import JSON, mutated, regrown
from tests.nba.conftest import SHOP, _make_rounds

SIZES = (
    b"\xff" * 8,
    (1 << 62).to_bytes(8, "little"),
    b'"F64"',
    b'"BOOL"',
    b"[0,0]",
    b"[1000000000,1000000000]",
    b"\0" * 8,
)
VALUES = (None, True, 0, -1, 1e308, -0.0, 2**63, "", "x" * 5_000, [], {}, [[0.0]], "square_cb", "rules", "rff+thompson")


@pytest.fixture(scope="module")
def shop() -> Pack:
    return parse_pack(SHOP.encode(), source="shop.yaml")


@pytest.fixture(scope="module", params=["square_cb", "rff+thompson", "ensemble+softmax", "rules"])
def saved(request: pytest.FixtureRequest, shop: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact of each way to hold weights: a policy's own, a model's, several models', none."""
    folder = tmp_path_factory.mktemp("artefacts") / "saved"
    plan = plan_moment(shop, "basket")
    make: Callable[..., LoggedRounds] = _make_rounds
    policy = KINDS[request.param].fit(plan, make(plan, 60))
    save_artefact(folder, shop, request.param, {"basket": policy})
    return folder


def rehashed(folder: Path) -> None:
    """Puts the hashes of the files as they are into policy.json."""
    manifest = msgspec.json.decode((folder / "policy.json").read_bytes())
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "policy.json").write_bytes(msgspec.json.encode(manifest))


def test_a_changed_file_is_refused_or_loads(saved: Path, tmp_path: Path, effort: Effort) -> None:
    for n, rng in enumerate(effort.tries(40)):
        folder = Path(shutil.copytree(saved, tmp_path / str(n)))
        name = rng.choice(("pack.json", "weights.safetensors", "policy.json"))
        raw = (folder / name).read_bytes()
        words = JSON if name.endswith(".json") else (*JSON, *SIZES)
        if name.endswith(".json") and rng.random() < 0.6:
            (folder / name).write_bytes(msgspec.json.encode(regrown(msgspec.json.decode(raw), rng, VALUES)))
        elif name.endswith(".json") or rng.random() < 0.3:
            (folder / name).write_bytes(mutated(raw, rng, words))
        else:  # its header, which says where each array is
            end = 8 + int.from_bytes(raw[:8], "little")
            (folder / name).write_bytes(mutated(raw[:end], rng, words) + raw[end:])
        if name != "policy.json":
            rehashed(folder)
        with contextlib.suppress(ArtefactError):
            load_artefact(folder)
        shutil.rmtree(folder)


def test_a_file_of_any_kind_or_size_is_refused_without_being_read(saved: Path, tmp_path: Path) -> None:
    for name in ("pack.json", "weights.safetensors", "policy.json"):
        folder = Path(shutil.copytree(saved, tmp_path / name))
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(ArtefactError):
            load_artefact(folder)
        (folder / name).unlink()
        with (folder / name).open("wb") as file:
            file.truncate(MAX_BYTES + 1)  # a hole: it takes no room
        with pytest.raises(ArtefactError, match="at most"):
            load_artefact(folder)
