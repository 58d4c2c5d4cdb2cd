"""Customers are the same for whoever asks, and are what the pack's fields can hold."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.batch import BatchMomentEnv
from envs.people import TRAITS, People, Population, correlation, subject_id, vocabulary
from nba.errors import PackError, ShapeError
from nba.facts import Field
from nba.pack_file import load_pack
from tests.envs.played import PACKS, PLAYED

PACK = load_pack("support")
MANY = Population(PACK).people(np.arange(40_000))


def assert_same(one: People, other: People) -> None:
    for column in fields(People):
        np.testing.assert_array_equal(getattr(one, column.name), getattr(other, column.name), err_msg=column.name)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(0, 2**63))
def test_a_customer_does_not_depend_on_who_is_asked_for_beside(customers: list[int], seed: int) -> None:
    population, asked = Population(PACKS["retail"], seed), np.array(customers)
    together = population.people(asked)
    for i in range(len(asked)):
        assert_same(population.people(asked[i : i + 1]), together.take(np.array([i])))


def test_the_same_seed_is_the_same_population_and_another_is_another() -> None:
    assert_same(Population(PACK, seed=1).people(np.arange(100)), Population(PACK, seed=1).people(np.arange(100)))
    other = Population(PACK, seed=1).people(np.arange(100))
    assert not np.isclose(other.traits, MANY.traits[:100]).any()


def test_customer_ids_are_stable() -> None:
    assert (subject_id(7), subject_id(1_234_567)) == ("sim-000007", "sim-1234567")


def test_traits_are_standard_normal_and_correlated_as_declared() -> None:
    np.testing.assert_allclose(MANY.traits.mean(axis=0), 0.0, atol=0.025)
    np.testing.assert_allclose(np.cov(MANY.traits.T), correlation(), atol=0.04)


@pytest.mark.parametrize(
    ("one", "other", "r"),
    [
        ("recovery", "annoyance", -0.4),
        ("recovery", "patience", 0.4),
        ("analytic", "skill", 0.3),
        ("analytic", "warmth", -0.3),
        ("curiosity", "loyalty", -0.3),
        ("curiosity", "analytic", 0.2),
    ],
)
def test_how_customers_recover_think_and_explore_goes_with_what_else_they_are(one: str, other: str, r: float) -> None:
    """40,000 customers: 4 standard errors of a correlation are 4 / 200 = 0.02."""
    assert np.corrcoef(MANY.trait(one), MANY.trait(other))[0, 1] == pytest.approx(r, abs=0.02)


def test_trait_means_shift_one_trait_by_so_much_and_no_other() -> None:
    shifted = Population(PACK, trait_means={"thrift": 0.5}).people(np.arange(200))
    difference = shifted.traits - MANY.traits[:200]
    np.testing.assert_allclose(difference[:, TRAITS.index("thrift")], 0.5)
    assert not np.delete(difference, TRAITS.index("thrift"), axis=1).any()


def test_without_shifts_the_population_is_the_usual_one() -> None:
    for means in (None, {}, {"skill": 0.0}):
        assert_same(Population(PACK, trait_means=means).people(np.arange(50)), MANY.take(np.arange(50)))


def test_a_shift_shows_in_what_is_stored() -> None:
    thrifty = Population(PACKS["retail"], trait_means={"thrift": 1.0}).stored_features(np.arange(500))
    usual = Population(PACKS["retail"]).stored_features(np.arange(500))
    share = "customer_value:discount_share"
    both = [(a[share], b[share]) for a, b in zip(thrifty, usual, strict=True) if a[share] is not None]
    assert all(float(str(more)) >= float(str(less)) for more, less in both)


def test_a_shift_of_no_trait_is_refused_by_name() -> None:
    with pytest.raises(ShapeError, match=r"'luck'(.|\n)*patience, skill"):
        Population(PACK, trait_means={"luck": 1.0})


def test_a_shift_that_is_no_number_is_refused() -> None:
    with pytest.raises(ShapeError, match="skill is nan"):
        Population(PACK, trait_means={"skill": float("nan")})


@pytest.mark.parametrize("name", PACKS)
def test_every_stored_value_is_one_its_field_accepts_and_a_float32_keeps(name: str) -> None:
    population = Population(PACKS[name])
    for row in population.stored_features(np.arange(500)):
        for field in population.fields.values():
            value = row[str(field.feature)]
            assert field.code(value) is not None
            assert not isinstance(value, float) or float(np.float32(value)) == value


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_the_simulator_acts_on_exactly_what_is_seeded_into_the_feature_store(pack: str, moment: str) -> None:
    """Of those who let it be read; of the others on nothing."""
    env = BatchMomentEnv(PACKS[pack], moment)
    batch = env.sample(400, np.random.default_rng(0))
    seeded = env.population.stored_features(batch.customers)
    unread = env.population.people(batch.customers).withholds("personalization")
    assert 0 < unread.sum() < 100
    stored = [(j, field) for j, field in enumerate(PACKS[pack].moment_fields(moment).values()) if field.feature]
    assert stored
    for j, field in stored:
        codes = np.array([field.code(row[str(field.feature)]) for row in seeded], dtype=np.float64)
        np.testing.assert_array_equal(batch.facts[~unread, j], codes[~unread])
        assert np.isnan(batch.facts[unread, j]).all()


def test_a_negative_customer_is_refused() -> None:
    with pytest.raises(ShapeError, match="customer -1"):
        Population(PACK).people(np.array([0, -1]))


def test_a_feature_nobody_has_is_refused_by_name() -> None:
    raw = Field(type="number", range=(0, 1), feature="customer_dreams:depth")
    pack = type(PACK)(
        **{name: getattr(PACK, name) for name in PACK.__struct_fields__ if name != "fields"},
        fields={**PACK.fields, "dreams": raw},
    )
    with pytest.raises(PackError, match="customer_dreams:depth"):
        Population(pack)


def test_a_vocabulary_without_a_simulated_value_is_refused() -> None:
    with pytest.raises(PackError, match="tablet"):
        vocabulary(Field(type="category", values=("mobile", "desktop")), ("mobile", "tablet"))
