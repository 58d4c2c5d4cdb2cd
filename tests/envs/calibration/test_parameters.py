from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from envs.batch import BatchMomentEnv
from envs.calibration.parameters import (
    Calibration,
    CalibrationError,
    ResponseParameters,
    load_calibration,
    read_calibration,
    save_calibration,
)
from nba.pack import Pack
from nba.pack_file import load_pack

PARAMETERS = ResponseParameters(offsets={"satisfied": {"push_now": -0.5}}, slopes={"satisfied": 0.5})


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack("support")


def calibration(pack: Pack) -> Calibration:
    return Calibration(
        pack=pack.pack,
        pack_digest=pack.digest,
        as_of=datetime(2026, 11, 20, tzinfo=UTC),
        rounds=10,
        digest="ab" * 32,
        moments={"proactive_nudge": PARAMETERS},
        trait_means={"skill": 0.3},
    )


@pytest.fixture
def path(tmp_path: Path, pack: Pack) -> Path:
    save_calibration(tmp_path / "calibration" / "support.json", calibration(pack))
    return tmp_path / "calibration" / "support.json"


def test_logits_are_stretched_then_shifted_by_name() -> None:
    """0.5 * 2 - 0.5 = 0.5 for push_now, 0.5 * 2 = 1 for another action, 2 for another outcome."""
    table = PARAMETERS.logits(("satisfied", "annoyed"), ("no_action", "push_now"), np.full((2, 2, 1), 2.0))
    assert table[:, :, 0].tolist() == [[1.0, 0.5], [2.0, 2.0]]


def test_actions_that_are_gone_are_passed_over() -> None:
    table = PARAMETERS.logits(("satisfied",), ("no_action",), np.full((1, 1, 1), 2.0))
    assert table.tolist() == [[[1.0]]]


def test_what_is_saved_is_read_again(path: Path, pack: Pack) -> None:
    assert read_calibration(path, pack) == calibration(pack)
    assert [file.name for file in path.parent.iterdir()] == ["support.json"]


def test_a_loaded_calibration_makes_a_calibrated_environment(path: Path, pack: Pack) -> None:
    loaded = load_calibration(path, pack)
    assert list(loaded) == list(pack.moments)
    assert loaded["tone_tuner"]["adjustments"] == ()
    plain = BatchMomentEnv(pack, "proactive_nudge", customers=50)
    calibrated = BatchMomentEnv(pack, "proactive_nudge", customers=50, **loaded["proactive_nudge"])
    contexts = plain.sample(20, np.random.default_rng(0)).contexts
    column = plain.plan.action_ids.index("push_now")
    before, after = (np.log(p / (1 - p)) for p in (e.probabilities(contexts)[:, column] for e in (plain, calibrated)))
    np.testing.assert_allclose(after[:, 0], 0.5 * before[:, 0] - 0.5, rtol=1e-9)
    np.testing.assert_allclose(after[:, 1:], before[:, 1:])
    everyone = np.arange(50)
    shift = calibrated.population.people(everyone).trait("skill") - plain.population.people(everyone).trait("skill")
    np.testing.assert_allclose(shift, 0.3)


def test_a_pack_that_has_changed_is_refused_with_what_to_do(path: Path, pack: Pack) -> None:
    dearer = replace(pack, actions=pack.actions | {"push_now": replace(pack.actions["push_now"], cost=0.9)})
    with pytest.raises(
        CalibrationError, match=r"has changed since .*\nhelp: fit it anew: nba calibrate --pack support"
    ):
        load_calibration(path, dearer)


def test_another_pack_is_refused(path: Path, pack: Pack) -> None:
    with pytest.raises(CalibrationError, match="is of pack 'support', not of 'shop'"):
        load_calibration(path, replace(pack, pack="shop"))


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path, pack: Pack) -> None:
    with pytest.raises(CalibrationError, match=r"No such file(.|\n)*nba calibrate"):
        load_calibration(tmp_path / "none.json", pack)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "has layout 2, known is 1"),
        ({"surprise": 1}, "unknown field `surprise`"),
        ({"trait_means": {"luck": 1.0}}, "trait_means.luck"),
        ({"trait_means": {"skill": None}}, "Expected `float`"),
        ({"moments": {"lunch": {}}}, "the pack has no such moment"),
        ({"moments": {"proactive_nudge": {"slopes": {"resolved": 1.0}}}}, "has no outcome 'resolved'"),
        ({"moments": {"proactive_nudge": {"offsets": {"annoyed": {"wave": 1.0}}}}}, "has no action 'wave'"),
    ],
)
def test_what_the_pack_cannot_mean_is_refused(path: Path, pack: Pack, change: dict[str, object], said: str) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CalibrationError, match=said):
        load_calibration(path, pack)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"pack": "support"}'])
def test_a_damaged_file_is_refused(path: Path, pack: Pack, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match="is damaged"):
        load_calibration(path, pack)
