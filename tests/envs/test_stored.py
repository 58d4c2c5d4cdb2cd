"""What the feature store holds tells of customers in part, with realistic gaps."""

from __future__ import annotations

import numpy as np
import pytest

from envs.draws import Array, Draw
from envs.people import TRAITS, Population
from envs.stored import STORED, STYLES
from nba.pack_file import load_pack

MANY = Population(load_pack("support")).people(np.arange(40_000))
DRAW = Draw(MANY.customers, 0, dict(zip(TRAITS, MANY.traits.T, strict=True)))
CODES = {name: make(DRAW)[0] for name, make in STORED.items()}

TELLS = [
    ("customer_device:push_enabled", "push", 1),
    ("customer_time:active_hour", "chronotype", 1),
    ("customer_history:purchases_90d", "loyalty", 1),
    ("customer_history:contacts_30d", "skill", -1),
    ("customer_history:nps", "loyalty", 1),
    ("customer_value:discount_share", "thrift", 1),
    ("customer_value:tenure_months", "loyalty", 1),
    ("customer_taste:variety", "curiosity", 1),
    ("customer_taste:style", "analytic", 1),
]

MISSING = {
    "customer_device:device_type": 0.04,
    "customer_device:push_enabled": 0.04,
    "customer_location:country": 0.03,
    "customer_time:active_hour": 1.0 - 0.93 * 0.82,
    "customer_history:purchases_90d": 0.07,
    "customer_history:contacts_30d": 0.07,
    "customer_history:open_cases": 0.07,
    "customer_history:nps": 0.62,
    "customer_value:discount_share": 0.07,
    "customer_value:tenure_months": 0.0,
    "customer_taste:variety": 0.31,
    "customer_taste:style": 0.5,
}


def known(name: str) -> Array:
    return ~np.isnan(CODES[name])


@pytest.mark.parametrize(("name", "trait", "sign"), TELLS)
def test_what_is_stored_explains_a_trait_in_part(name: str, trait: str, sign: int) -> None:
    rows = known(name)
    r = np.corrcoef(CODES[name][rows], MANY.trait(trait)[rows])[0, 1]
    assert 0.2 < sign * r < 0.9


def test_all_that_is_stored_together_leaves_much_of_a_trait_unknown() -> None:
    """Least squares on every feature, missing ones as their own column: R^2 below 0.8 for each trait."""
    columns = [np.nan_to_num(code) for code in CODES.values()] + [known(name) for name in CODES]
    x = np.stack([np.ones(len(MANY)), *columns], axis=1)
    fitted = x @ np.linalg.lstsq(x, MANY.traits, rcond=None)[0]
    assert ((fitted.var(axis=0) / MANY.traits.var(axis=0)) < 0.8).all()


@pytest.mark.parametrize(("name", "share"), list(MISSING.items()))
def test_what_is_missing_is_missing_as_often_as_stated(name: str, share: float) -> None:
    """40,000 customers: 4 standard errors are at most 0.01."""
    assert set(MISSING) == set(STORED)
    assert 1.0 - known(name).mean() == pytest.approx(share, abs=0.01)


def test_what_is_missing_is_not_missing_at_random() -> None:
    """Who answers surveys is fonder of us, whose taste is known buys more, who states a style thinks more about it."""
    for name, trait in (
        ("customer_history:nps", "loyalty"),
        ("customer_taste:variety", "loyalty"),
        ("customer_taste:style", "analytic"),
    ):
        z = MANY.trait(trait)
        assert z[known(name)].mean() - z[~known(name)].mean() > 0.3, name


def test_newcomers_have_no_history_and_no_months() -> None:
    new = ~known("customer_history:purchases_90d")
    assert set(CODES["customer_value:tenure_months"][new].tolist()) == {0.0}
    for name in ("customer_value:discount_share", "customer_taste:variety", "customer_taste:style"):
        assert np.isnan(CODES[name][new]).all()


def test_months_as_a_customer_are_whole_and_heavy_tailed() -> None:
    """The mean is well above the median, and one in twenty has been here for more than five years."""
    months = CODES["customer_value:tenure_months"]
    assert (months == months // 1).all()
    assert months.mean() > 1.4 * np.median(months)
    assert np.quantile(months, 0.95) > 60.0
    assert months.max() == 120.0


def test_shares_lie_between_0_and_1_and_styles_both_come() -> None:
    for name in ("customer_value:discount_share", "customer_taste:variety"):
        codes = CODES[name][known(name)]
        assert 0.0 <= codes.min() < 0.1
        assert 0.9 < codes.max() <= 1.0
    styles = CODES["customer_taste:style"]
    assert STYLES == ("brief", "detailed")
    assert 0.5 < styles[known("customer_taste:style")].mean() < 0.75


@pytest.mark.parametrize("name", STORED)
def test_a_float32_keeps_every_value_as_it_is(name: str) -> None:
    codes = CODES[name][known(name)]
    np.testing.assert_array_equal(codes.astype(np.float32).astype(np.float64), codes)
