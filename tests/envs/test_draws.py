"""Customers' random numbers: stable, even, independent."""

from __future__ import annotations

import numpy as np

from envs.draws import Draw, normals, subject_hash, uniforms

MANY = np.arange(40_000)


def test_the_hash_of_a_customer_is_stable() -> None:
    # Pinned: a change here changes every population that was ever seeded.
    assert int(subject_hash(np.array([7]))[0]) == 2_511_484_057_002_579_015


def test_streams_of_uniforms_are_even_and_independent() -> None:
    """40,000 uniforms: mean 1/2 within 4 standard errors, 4 / sqrt(12 * 40,000) = 0.0058; correlation below 4 / 200."""
    one, other = uniforms(MANY, 0, 1), uniforms(MANY, 0, 2)
    assert abs(one.mean() - 0.5) < 0.0058
    counts = np.histogram(one, bins=20, range=(0.0, 1.0))[0]
    assert ((counts - 2_000) ** 2 / 2_000).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.02


def test_normals_are_standard_normal() -> None:
    """40,000: mean 0 and variance 1 within 4 standard errors, 4 / 200 and 4 sqrt(2) / 200; 1.96 leaves 5 % outside."""
    drawn = normals(MANY, 0, 3)
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.var() - 1.0) < 0.029
    assert abs((np.abs(drawn) > 1.96).mean() - 0.05) < 0.005


def test_the_noise_of_a_draw_is_none_of_the_streams_that_traits_are_made_of() -> None:
    draw = Draw(MANY, 0, {})
    assert max(abs(np.corrcoef(draw.normal(s), normals(MANY, 0, s))[0, 1]) for s in range(11)) < 0.02
