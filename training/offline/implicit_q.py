"""Implicit Q-learning: the best of what was done, without a value for what never was."""

from __future__ import annotations

import torch
from torch import Tensor

from nba.errors import EmptyLogError
from nba.policies.network import Network
from training.offline.episodes import LoggedEpisodes
from training.offline.fitting import USUAL, Fitting, OnEpoch, Settling, nobody, one_thread
from training.offline.stack import Loss
from training.offline.table import Table

MAX_WEIGHT = 100.0  # of a step in the policy's likelihood


def implicit_q(episodes: LoggedEpisodes, fitting: Fitting = USUAL, on_epoch: OnEpoch = nobody) -> Network:
    """A policy of the actions that were logged, each weighted by how much better it was than others there.

        V(x)    <- the expectile of Q(x, a) over logged a:  minimise  |e - [Q < V]| (Q - V)^2
        Q(x, a) <- r + V(x')
        pi      <- maximise  mean of exp(keenness (Q - V)) log pi(a | x),  weights at most 100

    No value is ever asked of an action that was not taken, which matters where the log is narrow; over a log that tries
    everything, an `expectile` near 1 gives what fitted Q gives. pi learns from steps that a policy chose. It stops once
    the values of sessions held out settle.
    Raises EmptyLogError, RewardError. Source: Kostrikov, Nair and Levine (2021), https://arxiv.org/abs/2110.06169.
    """
    with one_thread():
        generator = torch.Generator().manual_seed(fitting.seed)
        table = Table.of(episodes, fitting)
        learned, watched = table.parts(table.transitions)
        q, v = table.learning(fitting, generator), table.learning(fitting, generator, outputs=1)
        settling, worth = Settling(fitting.patience), torch.zeros(len(table.x))
        for epoch in range(fitting.epochs):
            left = 1.0 - epoch / fitting.epochs
            loss = q.epoch(table.x, learned, table.squared_error(table.rewards + table.next(worth)), left=left)
            v.epoch(table.x, learned, _expectile(table.taken(q.stack.mean(table.x)), fitting.expectile), left=left)
            worth = v.stack.mean(table.x)[:, 0]
            value = float(worth[watched].mean())
            on_epoch(epoch + 1, {"loss": loss, "held_out_value": value * table.unit})
            if settling.see(value):
                break
        chosen, _ = table.parts(table.transitions & table.choices)
        if not len(chosen):
            raise EmptyLogError("no step was chosen by a policy", help="use fitted_q, which learns from values alone")
        weights = torch.exp(fitting.keenness * (table.taken(q.stack.mean(table.x)) - worth)).clamp(max=MAX_WEIGHT)
        policy, surprise = table.learning(fitting, generator), table.surprise(weights)
        for epoch in range(fitting.epochs):
            policy.epoch(table.x, chosen, surprise, left=1.0 - epoch / fitting.epochs)
        return policy.stack.network(table.scaling, temperature=1.0, floor=fitting.floor)


def _expectile(target: Tensor, expectile: float) -> Loss:
    """Squared error that counts `expectile` where the target lies above, 1 - `expectile` where below."""

    def loss(values: Tensor, rows: Tensor) -> Tensor:
        error = target[rows] - values[..., 0]
        return (torch.where(error > 0.0, expectile, 1.0 - expectile) * error**2).mean()

    return loss
