"""Facts of a moment: in range, correlated with the customer, missing now and then, exact on the wire, by consent."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from envs.moments.parts import INTENTS, intent
from envs.people import PURPOSES, People, Population
from envs.situations import Situations
from nba.errors import PackError, UnknownMomentError
from nba.facts import Field, code_facts, name_facts
from nba.pack import Pack
from nba.types import Facts
from tests.envs.played import PACKS, PLAYED

PACK = PACKS["support"]


def facts_of(pack: str, moment: str, n: int = 20_000) -> tuple[dict[str, Facts], People]:
    people = Population(PACKS[pack]).people(np.arange(n))
    facts = Situations(PACKS[pack], moment).facts(people, np.random.default_rng(0))
    return dict(zip(PACKS[pack].moment_fields(moment), facts.T, strict=True)), people


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_facts_by_name_and_through_json_are_the_same_facts(pack: str, moment: str) -> None:
    """So a server that gets them over HTTP acts on bit-equal numbers."""
    facts = BatchMomentEnv(PACKS[pack], moment).sample(300, np.random.default_rng(1)).facts
    fields = PACKS[pack].moment_fields(moment)
    named = json.loads(json.dumps(name_facts(fields, facts)))
    np.testing.assert_array_equal(code_facts(fields, named), facts)


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_numbers_lie_in_the_ranges_of_their_fields(pack: str, moment: str) -> None:
    facts, _ = facts_of(pack, moment)
    for name, field in PACKS[pack].moment_fields(moment).items():
        if field.range is not None:
            low, high = np.nanmin(facts[name]), np.nanmax(facts[name])
            assert field.range[0] <= low < high <= field.range[1], name


def test_moods_are_unknown_sometimes_and_darker_for_the_impatient() -> None:
    """Unknown for want of consent (15 %) or for other reasons (2 %): 1 - 0.85 * 0.98 = 0.167."""
    facts, people = facts_of("support", "tone_tuner")
    mood = facts["sentiment"]
    known = ~np.isnan(mood)
    assert 1.0 - known.mean() == pytest.approx(0.167, abs=0.01)
    assert 0.25 < np.corrcoef(mood[known], people.trait("patience")[known])[0, 1] < 0.7
    assert 0.6 < (mood[known] < 0.0).mean() < 0.8  # about two in three are cross


@pytest.mark.parametrize(
    ("moment", "field", "purpose", "own"),
    [
        ("tone_tuner", "sentiment", "emotion", 0.02),
        ("instant_clarifier", "sentiment", "emotion", 0.03),
        ("followup_whisper", "sentiment", "emotion", 0.12),
        ("personalized_path", "hesitation_s", "behavioural_timing", 0.02),
    ],
)
def test_a_field_whose_purpose_is_withheld_is_gone_and_else_as_rare_as_stated(
    moment: str, field: str, purpose: str, own: float
) -> None:
    facts, people = facts_of("support", moment)
    withheld = people.withholds(purpose)
    assert np.isnan(facts[field][withheld]).all()
    assert np.isnan(facts[field][~withheld]).mean() == pytest.approx(own, abs=0.01)


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_who_withholds_personalization_is_decided_on_without_anything_stored(pack: str, moment: str) -> None:
    facts, people = facts_of(pack, moment, 2_000)
    situations, of = Situations(PACKS[pack], moment), Population(PACKS[pack])
    unread = people.withholds("personalization")
    assert 0.04 < unread.mean() < 0.12
    for name, column in situations.fields.items():
        if column.feature is not None:
            expected = people.stored[:, list(of.fields).index(name)]
            np.testing.assert_array_equal(facts[name], np.where(unread, np.nan, expected), err_msg=name)


def test_consent_takes_facts_away_and_changes_none() -> None:
    """The same customers in the same mood, all of them agreeing, some not: what is still known is the same."""
    people, situations = Population(PACK).people(np.arange(3_000)), Situations(PACK, "instant_clarifier")
    agreeing = People(
        people.customers,
        people.traits,
        people.active_hour,
        people.german,
        people.time_zone,
        np.ones_like(people.consent),
        people.stored,
    )
    facts, whole = (situations.facts(who, np.random.default_rng(0)) for who in (people, agreeing))
    known = ~np.isnan(facts)
    np.testing.assert_array_equal(facts[known], whole[known])
    assert known.sum() < (~np.isnan(whole)).sum()
    assert set(PURPOSES) >= {f.purpose for f in situations.fields.values() if f.purpose}


def test_a_stored_purpose_withheld_means_that_nothing_stored_is_read() -> None:
    """One read brings all of it. The score itself has lost its default too; the others take theirs."""
    nps = Field(type="number", range=(0, 10), feature="customer_history:nps", purpose="emotion", default=5.0)
    contacts = msgspec.structs.replace(PACK.fields["contacts_30d"], default=1.0)
    pack = msgspec.structs.replace(PACK, fields=PACK.fields | {"nps": nps, "contacts_30d": contacts})
    people = Population(pack).people(np.arange(2_000))
    facts = Situations(pack, "tone_tuner").facts(people, np.random.default_rng(0))
    of = dict(zip(pack.moment_fields("tone_tuner"), facts.T, strict=True))
    emotion, person = people.withholds("emotion"), people.withholds("personalization")
    unread = emotion | person
    assert np.isnan(of["device"][unread]).all()
    assert set(of["contacts_30d"][unread].tolist()) == {1.0}
    assert np.isnan(of["nps"][emotion]).all()
    assert set(of["nps"][person & ~emotion].tolist()) == {5.0}
    assert not np.isnan(of["nps"][~emotion]).any()


def test_the_fields_that_must_not_be_used_are_those_of_withheld_purposes() -> None:
    people, situations = Population(PACK).people(np.arange(500)), Situations(PACK, "tone_tuner")
    withheld = dict(zip(situations.fields, situations.withheld(people).T, strict=True))
    np.testing.assert_array_equal(withheld.pop("sentiment"), people.withholds("emotion"))
    assert not np.any(list(withheld.values()))


def test_what_is_wanted_comes_as_often_as_stated() -> None:
    """know 40 %, go 15 %, do 30 %, buy 15 % of the nine in ten that are recognised; 4 standard errors are 0.01."""
    people = Population(PACK).people(np.arange(40_000))
    codes = intent(people, np.random.default_rng(0)).astype(np.int64)
    shares = np.bincount(codes, minlength=len(INTENTS) + 1) / len(codes)
    np.testing.assert_allclose(shares, [0.36, 0.135, 0.27, 0.135, 0.1], atol=0.01)


@pytest.mark.parametrize(
    ("wanted", "trait", "sign"),
    [
        ("know", "analytic", 1),
        ("know", "curiosity", 1),
        ("do", "skill", -1),
        ("buy", "thrift", 1),
        ("buy", "loyalty", 1),
    ],
)
def test_what_is_wanted_depends_on_who_comes_but_is_not_decided_by_it(wanted: str, trait: str, sign: int) -> None:
    people = Population(PACK).people(np.arange(40_000))
    wants = intent(people, np.random.default_rng(0)) == INTENTS.index(wanted)
    assert 0.05 < sign * np.corrcoef(wants, people.trait(trait))[0, 1] < 0.5


def test_every_hour_of_the_week_comes() -> None:
    facts, _ = facts_of("support", "instant_clarifier")
    hours = np.floor(facts["local_time"] / 3_600.0 + 72.0).astype(np.int64) % 168
    assert np.unique(hours).size == 168


def test_a_field_with_a_default_is_never_missing() -> None:
    facts, _ = facts_of("support", "instant_clarifier")
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
