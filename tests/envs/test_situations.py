"""Request-time facts: in range, correlated with the customer, missing now and then, exact on the wire."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from envs.people import Population
from envs.situations import Situations
from nba.errors import PackError, UnknownMomentError
from nba.facts import Field, code_facts, name_facts
from nba.pack import Pack
from nba.pack_file import load_pack
from nba.types import Facts

PACK = load_pack("support")


def facts_of(moment: str, n: int = 20_000) -> tuple[dict[str, Facts], dict[str, np.ndarray]]:
    people = Population(PACK).people(np.arange(n))
    facts = Situations(PACK, moment).facts(people, np.random.default_rng(0))
    return dict(zip(PACK.moment_fields(moment), facts.T, strict=True)), {"patience": people.trait("patience")}


@pytest.mark.parametrize("moment", list(PACK.moments))
def test_facts_by_name_and_through_json_are_the_same_facts(moment: str) -> None:
    """So a server that gets them over HTTP acts on bit-equal numbers."""
    facts = BatchMomentEnv(PACK, moment).sample(300, np.random.default_rng(1)).facts
    fields = PACK.moment_fields(moment)
    named = json.loads(json.dumps(name_facts(fields, facts)))
    np.testing.assert_array_equal(code_facts(fields, named), facts)


@pytest.mark.parametrize("moment", list(PACK.moments))
def test_numbers_lie_in_the_ranges_of_their_fields(moment: str) -> None:
    facts, _ = facts_of(moment)
    for name, field in PACK.moment_fields(moment).items():
        if field.range is not None:
            low, high = np.nanmin(facts[name]), np.nanmax(facts[name])
            assert field.range[0] <= low < high <= field.range[1], name


def test_moods_are_unknown_sometimes_and_darker_for_the_impatient() -> None:
    facts, traits = facts_of("tone_tuner")
    mood = facts["sentiment"]
    known = ~np.isnan(mood)
    assert 1.0 - known.mean() == pytest.approx(0.06, abs=0.01)
    assert 0.25 < np.corrcoef(mood[known], traits["patience"][known])[0, 1] < 0.7
    assert 0.6 < (mood[known] < 0.0).mean() < 0.8  # about two in three are cross


def test_every_hour_of_the_week_comes() -> None:
    facts, _ = facts_of("instant_clarifier")
    hours = np.floor(facts["local_time"] / 3_600.0 + 72.0).astype(np.int64) % 168
    assert np.unique(hours).size == 168


def test_a_field_with_a_default_is_never_missing() -> None:
    facts, _ = facts_of("instant_clarifier")
    for name in ("channel", "locale", "reformulations"):
        assert not np.isnan(facts[name]).any()


def changed(moment: str, field: str, what: Field) -> Pack:
    fields = {**PACK.fields, field: what}
    found = PACK.moments[moment]
    if field not in found.fields:
        found = msgspec.structs.replace(found, fields=(*found.fields, field))
    return msgspec.structs.replace(PACK, fields=fields, moments={**PACK.moments, moment: found})


def test_a_field_nobody_brings_is_refused() -> None:
    with pytest.raises(PackError, match="no field 'moon'"):
        Situations(changed("tone_tuner", "moon", Field(type="number", range=(0, 1))), "tone_tuner")


def test_a_moment_nobody_is_in_is_refused() -> None:
    pack = msgspec.structs.replace(PACK, moments={"tea_time": PACK.moments["tone_tuner"]})
    with pytest.raises(UnknownMomentError, match="tea_time"):
        Situations(pack, "tea_time")
