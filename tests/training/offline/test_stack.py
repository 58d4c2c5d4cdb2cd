"""Networks side by side in torch, and the one that NumPy serves."""

from __future__ import annotations

import numpy as np
import torch

from nba.testing import check_policy, random_mask
from training.offline.stack import Learning, Scaling, Stack


def stack(*, members: int = 3) -> Stack:
    return Stack(5, 4, members=members, hidden=8, generator=torch.Generator().manual_seed(1))


def contexts(n: int = 50) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(2.0, 3.0, (n, 5)).astype(np.float32)
    drawn[:, 4] = 1.0  # never moves
    return drawn


def test_the_served_network_says_what_the_members_say_together() -> None:
    x = contexts()
    scaling = Scaling.of(x)
    served = stack().network(scaling, unit=2.5, temperature=1.0, floor=0.0)
    assert np.allclose(served.logits(x), 2.5 * stack().mean(scaling(x)).numpy(), atol=1e-5)


def test_a_column_that_never_moved_counts_nothing() -> None:
    """Nor does it later, when it holds something else."""
    x = contexts()
    served = stack().network(Scaling.of(x), temperature=1.0, floor=0.0)
    other = x.copy()
    other[:, 4] = -1.0
    assert np.array_equal(served.logits(x), served.logits(other))


def test_the_served_network_is_a_policy() -> None:
    rng = np.random.default_rng(2)
    served = stack().network(Scaling.of(contexts()), temperature=0.5, floor=0.1)
    check_policy(served, contexts(20), random_mask(20, 4, rng), floor=0.1)


def test_an_epoch_sees_each_row_once_a_member() -> None:
    seen: list[torch.Tensor] = []

    def loss(outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows)
        return (outputs**2).mean()

    learning = Learning(stack(members=2), rate=1e-3, decay=0.0, batch=4)
    learning.epoch(torch.zeros((10, 5)), torch.arange(10), loss)
    rows = torch.cat(seen, dim=1)
    assert [sorted(member.tolist()) for member in rows] == [list(range(10))] * 2
    assert not torch.equal(rows[0], rows[1])
