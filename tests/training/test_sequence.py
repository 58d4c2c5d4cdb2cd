"""A bound that holds at all times at once: few false alarms however often one looks, and real drops are found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from training.sequence import EPOCH, Sequence


def harm(rng: Generator, n: int, served: list[float], start: list[float], earns: list[float]) -> NDArray[np.float64]:
    """Numbers of the harm's sequence: actions drawn as served, each rewarded with its chance."""
    actions = rng.choice(len(served), size=n, p=served)
    rewards = rng.random(n) < np.array(earns)[actions]
    return 1.0 + (np.array(start)[actions] / np.array(served)[actions] - 1.0) * rewards


def test_one_number_by_hand() -> None:
    """z = 3, guess 1, off by 2; variance 1/4, price log(2 / 0.01): the bet is sqrt(2 price / (2000 / 4)) = 0.146.

    low = (bet * 3 - price - psi(bet) * 2^2) / bet
    """
    one = Sequence(level=0.01).after(np.array([3.0]))
    price = math.log(200.0)
    bet = math.sqrt(2.0 * price / 500.0)
    assert one.low == pytest.approx((bet * 3.0 - price - (-math.log1p(-bet) - bet) * 4.0) / bet)
    assert (one.mean, Sequence(level=0.01).low) == (3.0, -math.inf)


def test_in_parts_it_is_what_it_is_at_once() -> None:
    numbers = np.random.default_rng(0).exponential(size=90)
    at_once, parts = Sequence(level=0.05).after(numbers), Sequence(level=0.05)
    for part in np.split(numbers, [1, 20, 20, 70]):
        parts = parts.after(part)
    assert parts.low == pytest.approx(at_once.low)
    assert parts.n == 90


@pytest.mark.parametrize(("served", "start"), [([0.9, 0.1], [0.1, 0.9]), ([0.5, 0.5], [0.6, 0.4])])
def test_looked_at_after_every_batch_it_seldom_suspects_what_is_as_good(
    served: list[float], start: list[float]
) -> None:
    """A/A with 40 looks at 50 rounds each: at most 5 % of 200 followings may be halted; weights reach 9."""
    rng = np.random.default_rng(7)
    halted = 0
    for _ in range(200):
        sequence, suspected = Sequence(level=0.05), False
        for _ in range(40):
            sequence = sequence.after(harm(rng, 50, served, start, [0.4, 0.4]))
            suspected |= sequence.low > 1.0
        halted += suspected
    assert halted <= 10


def test_it_finds_a_real_drop() -> None:
    """Served earns 0.1 * 0.6 + 0.9 * 0.2 = 0.24, the start 0.56: always found within 2,000 rounds."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        sequence = Sequence(level=0.03).after(harm(rng, 2_000, [0.1, 0.9], [0.9, 0.1], [0.6, 0.2]))
        assert 1.0 < sequence.low < 1.32 + 1e-9


def test_a_long_good_time_does_not_hide_a_drop() -> None:
    rng = np.random.default_rng(7)
    sequence = Sequence(level=0.03)
    for _ in range(EPOCH // 500):
        sequence = sequence.after(harm(rng, 500, [0.5, 0.5], [0.6, 0.4], [0.6, 0.6]))
    assert sequence.low < 1.0
    sequence = sequence.after(harm(rng, 2_500, [0.1, 0.9], [0.9, 0.1], [0.6, 0.2]))
    assert sequence.epoch == 2
    assert sequence.low > 1.0
