"""`nba learn --follow` without an installation: what it takes, and what it refuses."""

from __future__ import annotations

import pytest
import typer

from nba.cli.follow import learn, span


@pytest.mark.parametrize(
    ("told", "seconds"), [("5s", 5.0), ("1.5m", 90.0), ("2h", 7_200.0), ("1d", 86_400.0), (3, 3.0)]
)
def test_times_are_told_with_their_unit(told: str | float, seconds: float) -> None:
    assert span(told) == seconds


@pytest.mark.parametrize("told", ["", "0s", "-1s", "5 weeks", "s"])
def test_what_is_no_time_is_refused(told: str) -> None:
    with pytest.raises(typer.BadParameter, match="write 5s, 10m, 2h or 1d"):
        span(told)


def test_following_is_off_unless_asked_for() -> None:
    with pytest.raises(typer.BadParameter, match="nba train --from log"):
        learn()
