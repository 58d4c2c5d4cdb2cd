"""Fitted Q iteration: what the best behaviour would earn, from sessions of any behaviour."""

from __future__ import annotations

import torch

from nba.policies.network import Network
from training.offline.episodes import LoggedEpisodes
from training.offline.fitting import USUAL, Fitting, OnEpoch, Settling, nobody, one_thread
from training.offline.table import Table

FROM_RETURNS = 2  # epochs that learn what sessions earned, before any learns from values


def fitted_q(episodes: LoggedEpisodes, fitting: Fitting = USUAL, on_epoch: OnEpoch = nobody) -> Network:
    """A policy that prefers what is worth most if all is done best from there on.

        Q(x, a) <- r + max over eligible a' of mean_m Q_m(x', a'),     0 for x' after the end

    Members learn the same targets, which are made anew before each epoch; that they are averaged before the maximum is
    taken keeps it from choosing their noise. The first epochs learn what the logged sessions earned, whose scale is
    right, so that a dozen iterations do. It stops early once the values of sessions held out have settled.
    Raises EmptyLogError, RewardError. Source: Ernst, Geurts and Wehenkel (2005), Tree-Based Batch Mode Reinforcement
    Learning, https://jmlr.org/papers/v6/ernst05a.html, with networks as in Riedmiller (2005), Neural Fitted Q
    Iteration, https://doi.org/10.1007/11564096_32.
    """
    with one_thread():
        table = Table.of(episodes, fitting)
        learning = table.learning(fitting, torch.Generator().manual_seed(fitting.seed))
        learned, watched = table.parts(table.transitions)
        earned, _ = table.parts(table.known_to_go)
        settling = Settling(fitting.patience)
        values = learning.stack.mean(table.x)
        for epoch in range(fitting.epochs):
            by_returns = epoch < FROM_RETURNS and len(earned) > 0
            target = table.to_go if by_returns else table.rewards + table.next(table.best(values))
            rows = earned if by_returns else learned
            loss = learning.epoch(table.x, rows, table.squared_error(target), left=1.0 - epoch / fitting.epochs)
            values = learning.stack.mean(table.x)
            value = float(table.best(values)[watched].mean())
            on_epoch(epoch + 1, {"loss": loss, "held_out_value": value * table.unit})
            if not by_returns and settling.see(value):
                break
        return table.policy(learning.stack, fitting)
