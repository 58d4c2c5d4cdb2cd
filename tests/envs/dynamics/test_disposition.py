"""Customers differ in what no context shows, and the truth stays exact."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from envs.batch import BatchMomentEnv
from envs.dynamics.disposition import dispositions, normal_cdf, quality
from nba.errors import ShapeError
from nba.pack_file import load_pack

PACK = load_pack("support")


def test_the_normal_distribution_is_accurate_to_1e_7() -> None:
    x = np.linspace(-9.0, 9.0, 20_001)
    assert np.abs(normal_cdf(x) - norm.cdf(x)).max() < 1e-7


def test_quality_is_uniform_over_customers() -> None:
    """One round of each of 100,000 customers: each tenth holds 10 %, within 4 standard errors (380 rounds)."""
    u = quality(dispositions(np.arange(100_000), 0), 0.5, np.random.default_rng(0))
    assert (np.abs(np.histogram(u, 10, (0.0, 1.0))[0] - 10_000) < 380).all()


def test_a_customer_s_rounds_correlate_by_rho_and_those_of_two_do_not() -> None:
    """Two rounds of each of 100,000 customers, on the normal scale: rho = 0.3, and 0 with the neighbour's."""
    z, rng = dispositions(np.arange(100_000), 0), np.random.default_rng(1)
    first, second = (norm.ppf(quality(z, 0.3, rng)) for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1] - 0.3) < 4.0 / np.sqrt(100_000)
    assert abs(np.corrcoef(first[:-1], second[1:])[0, 1]) < 4.0 / np.sqrt(100_000)


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.6])
def test_outcomes_keep_the_chances_of_their_equations(rho: float) -> None:
    """One round of each of 100,000 customers in one context: every outcome's rate within 4 standard errors."""
    env, rng = BatchMomentEnv(PACK, "tone_tuner", customers=100_000, disposition=rho), np.random.default_rng(2)
    one = env.sample(1, rng)
    rows = np.zeros(100_000, dtype=np.int64)
    batch = type(one)(np.arange(100_000), one.facts[rows], one.contexts[rows], one.mask[rows])
    chances = env.probabilities(one.contexts)[0, 2]
    rates = env.outcomes(batch, np.full(100_000, 2), rng).mean(axis=0)
    assert (np.abs(rates - chances) < 4.0 * np.sqrt(chances * (1.0 - chances) / 100_000)).all()


def test_outcomes_of_one_customer_are_correlated() -> None:
    """Two outcomes of a chance p near a half and rho 0.5 correlate by about (2 / pi) arcsin(0.5) = 1 / 3."""
    env, rng = BatchMomentEnv(PACK, "tone_tuner", customers=20_000, disposition=0.5), np.random.default_rng(3)
    one = env.sample(1, rng)
    rows = np.zeros(20_000, dtype=np.int64)
    batch = type(one)(np.arange(20_000), one.facts[rows], one.contexts[rows], one.mask[rows])
    p = env.probabilities(one.contexts)[0, :, 0]
    action = np.full(20_000, np.abs(p - 0.5).argmin())
    assert abs(p[action[0]] - 0.5) < 0.1
    first, second = (env.outcomes(batch, action, rng)[:, 0] for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1] - 1.0 / 3.0) < 0.04
    assert abs(np.corrcoef(first[:-1], second[1:])[0, 1]) < 4.0 / np.sqrt(20_000)


def test_the_truth_does_not_depend_on_it() -> None:
    some, none = (BatchMomentEnv(PACK, "tone_tuner", disposition=rho) for rho in (0.4, 0.0))
    contexts = some.sample(50, np.random.default_rng(0)).contexts
    np.testing.assert_array_equal(some.expected_rewards(contexts), none.expected_rewards(contexts))


@pytest.mark.parametrize("rho", [-0.1, 1.0, float("nan")])
def test_a_correlation_that_is_none_is_refused(rho: float) -> None:
    with pytest.raises(ShapeError, match="disposition of"):
        BatchMomentEnv(PACK, "tone_tuner", disposition=rho)
