"""Every target has words it is taken from, and the simulator is measured against it."""

from __future__ import annotations

from msgspec.structs import replace

from envs.targets import SOURCE, TARGETS, Measured, measure_targets
from nba.pack_file import load_pack

PACK = load_pack("support")


def test_the_simulator_lies_within_every_target_that_it_can_be_measured_by() -> None:
    told = {measured.target.name: measured for measured in measure_targets(PACK)}
    assert told.keys() == TARGETS.keys()
    assert [name for name, measured in told.items() if not measured.within] == []
    assert told["effusive_when_neutral"].value == 0.0


def test_no_target_claims_a_source() -> None:
    assert all(t.source == SOURCE and t.quoted and t.low <= t.high for t in TARGETS.values())
    assert all(name == target.name for name, target in TARGETS.items())


def test_a_pack_without_the_moment_has_no_such_target() -> None:
    alone = replace(PACK, moments={"followup_whisper": PACK.moments["followup_whisper"]})
    assert measure_targets(alone) == []


def test_what_could_not_be_measured_is_not_within() -> None:
    assert not Measured(TARGETS["silence_when_frictionless"], float("nan")).within
