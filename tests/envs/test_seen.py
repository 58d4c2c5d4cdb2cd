"""Contexts read back in the units of the fields."""

from __future__ import annotations

import numpy as np
import pytest

from envs.seen import Seen
from nba.encoder import Encoder
from nba.facts import code_facts
from nba.pack_file import load_pack
from nba.types import Value

PACK = load_pack("support")


def seen(moment: str, **facts: Value) -> Seen:
    encoder = Encoder(PACK, moment)
    return Seen(encoder.encode(code_facts(encoder.fields, [facts])), encoder)


def test_a_number_comes_back_in_its_own_unit() -> None:
    assert seen("proactive_nudge", minutes_late=720.0).number("minutes_late", -1.0)[0] == pytest.approx(720.0)


def test_a_missing_number_reads_as_the_number_that_is_stated() -> None:
    x = seen("proactive_nudge")
    assert x.number("minutes_late", 53.0)[0] == 53.0
    assert (x.known("minutes_late")[0], seen("proactive_nudge", minutes_late=5.0).known("minutes_late")[0]) == (0, 1)


def test_a_category_is_among_its_values_only() -> None:
    x = seen("proactive_nudge", device="mobile")
    assert x.among("device", "mobile", "tablet")[0] == 1.0
    assert x.among("device", "desktop")[0] == 0.0
    assert seen("proactive_nudge").among("device", "mobile", "desktop", "tablet")[0] == 0.0


def test_near_is_the_cosine_of_the_distance_in_hours() -> None:
    """09:00 is 6 h from 15:00: cos(90 degrees) = 0; 12 h from 21:00: -1; missing: 0."""
    x = seen("proactive_nudge", local_time="2026-03-02T09:00:00")
    for hour, cosine in ((9.0, 1.0), (15.0, 0.0), (21.0, -1.0)):
        assert x.near("local_time", np.array([hour]))[0] == pytest.approx(cosine, abs=1e-6)
    assert seen("proactive_nudge").near("local_time", np.array([9.0]))[0] == 0.0


@pytest.mark.parametrize(("clock", "low", "high"), [("03:00", 0.95, 1), ("22:00", 0.49, 0.51), ("14:00", 0, 0.01)])
def test_night_is_deep_at_three_and_half_at_ten(clock: str, low: float, high: float) -> None:
    assert low <= seen("proactive_nudge", local_time=f"2026-03-02T{clock}:00").night("local_time")[0] <= high


def test_no_clock_is_no_night() -> None:
    assert seen("proactive_nudge").night("local_time")[0] == 0.0
