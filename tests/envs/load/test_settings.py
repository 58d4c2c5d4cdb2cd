"""What a drive is asked for: sessions by default, and nothing that makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from envs.load.settings import DriveSettings
from nba.errors import NbaError, ShapeError
from nba.pack_file import load_pack


def test_a_session_comes_for_every_fifty_rounds_unless_told_otherwise() -> None:
    assert sum(len(group.numbers) for group in DriveSettings(run="r", rounds=220, seed=0).groups()) == 4
    assert DriveSettings(run="r", rounds=220, seed=0, sessions=0).groups() == []


def test_by_default_every_moment_of_the_pack_is_played() -> None:
    traffic = DriveSettings(run="r", rounds=100, seed=0).traffic(load_pack("retail"))
    assert set(traffic.moments) == {"abandoned_cart"}
    assert traffic.sessions.start(0).moment == "shopping_journey"


@pytest.mark.parametrize(("pack", "asked"), [("media", {"events": 0.1}), ("travel", {"sessions": 3})])
def test_what_a_pack_has_nothing_for_is_refused(pack: str, asked: dict[str, Any]) -> None:
    with pytest.raises(NbaError, match="which has"):
        DriveSettings(run="r", rounds=10, seed=0, **asked).traffic(load_pack(pack))


@pytest.mark.parametrize(
    "wrong", [{"events": 1.5}, {"consent_changes": -0.1}, {"rate": float("inf")}, {"hour_s": -1.0}]
)
def test_numbers_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ShapeError):
        DriveSettings(run="r", rounds=1, seed=0, **wrong)  # type: ignore[arg-type]
