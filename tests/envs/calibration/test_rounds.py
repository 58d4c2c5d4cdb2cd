from __future__ import annotations

import numpy as np
import pytest

from envs.calibration.rounds import OutcomeRounds, clustered_variance
from nba.errors import ShapeError
from nba.rounds import LoggedRounds

SUBJECTS = np.arange(50, dtype=np.uint64)


def rounds(subjects: np.ndarray = SUBJECTS) -> OutcomeRounds:
    n = len(subjects)
    return OutcomeRounds(
        np.zeros((n, 1)), np.zeros((n, 2), dtype=np.float32), np.zeros(n, dtype=np.int64), np.zeros((n, 1)), subjects
    )


def test_a_split_cuts_customers_as_logged_rounds_do() -> None:
    n = len(SUBJECTS)
    logged = LoggedRounds(
        np.zeros((n, 2), dtype=np.float32),
        np.ones((n, 1), dtype=np.bool_),
        np.zeros(n, dtype=np.int64),
        np.ones(n),
        np.zeros(n),
        SUBJECTS,
    )
    for ours, theirs in zip(rounds().split(0.7, salt=3), logged.split(0.7, salt=3), strict=True):
        assert ours.subjects.tolist() == theirs.subjects.tolist()


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(ShapeError, match="actions has shape"):
        OutcomeRounds(
            np.zeros((1, 1)),
            np.zeros((1, 2), dtype=np.float32),
            np.zeros(2, dtype=np.int64),
            np.zeros((1, 1)),
            SUBJECTS[:1],
        )


def test_rounds_of_one_customer_count_as_one() -> None:
    """Residuals 1, 1, -1, -1 of two customers: sums 2 and -2, 2 / 1 * (4 + 4) / 16 = 1; of four: 4 / 3 * 4 / 16."""
    residuals = np.array([1.0, 1.0, -1.0, -1.0])
    assert clustered_variance(residuals, np.array([7, 7, 9, 9], dtype=np.uint64)) == 1.0
    assert clustered_variance(residuals, np.arange(4, dtype=np.uint64)) == pytest.approx(1 / 3)


def test_one_customer_says_nothing_of_others() -> None:
    assert clustered_variance(np.array([1.0, 0.0]), np.array([7, 7], dtype=np.uint64)) == float("inf")
