"""Return to go: what sessions earned from a step on, by action; one step of improvement over who logged them."""

from __future__ import annotations

import torch

from nba.errors import EmptyLogError
from nba.policies.network import Network
from training.offline.episodes import LoggedEpisodes
from training.offline.fitting import USUAL, Best, Fitting, OnEpoch, nobody, one_thread
from training.offline.table import Table


def return_to_go(episodes: LoggedEpisodes, fitting: Fitting = USUAL, on_epoch: OnEpoch = nobody) -> Network:
    """A policy that prefers what earned most when the logging policy went on from there.

        Q(x, a) = E[r_t + r_t+1 + ... + r_T | x, a],     the logging policy acting after t

    No value is learned from a value, so that nothing can run away: the simplest that looks beyond the next reward, and
    never worse than the logging policy but for errors of Q. Sessions that were cut are left out. It stops once the
    error on customers held out grows. Raises EmptyLogError, RewardError.
    Source: the policy improvement theorem, Sutton and Barto (2018), section 4.2, with Monte Carlo values.
    """
    with one_thread():
        table = Table.of(episodes, fitting)
        learning = table.learning(fitting, torch.Generator().manual_seed(fitting.seed))
        learned, watched = table.parts(table.known_to_go)
        if not len(learned):
            raise EmptyLogError("no session has ended", help="wait until sessions have ended, or use fitted_q")
        best = Best(learning.stack, fitting.patience)
        for epoch in range(fitting.epochs):
            left = 1.0 - epoch / fitting.epochs
            loss = learning.epoch(table.x, learned, table.squared_error(table.to_go), left=left)
            errors = table.taken(learning.stack.mean(table.x)) - table.to_go
            error = float((errors[watched] ** 2).mean())
            on_epoch(epoch + 1, {"loss": loss, "held_out_loss": error})
            if best.see(error):
                break
        best.restore()
        return table.policy(learning.stack, fitting)
