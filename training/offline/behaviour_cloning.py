"""Behaviour cloning: a policy that acts as the logged one did."""

from __future__ import annotations

import torch

from nba.errors import EmptyLogError
from nba.policies.network import Network
from training.offline.episodes import LoggedEpisodes
from training.offline.fitting import USUAL, Best, Fitting, OnEpoch, nobody, one_thread
from training.offline.table import Table


def behaviour_cloning(episodes: LoggedEpisodes, fitting: Fitting = USUAL, on_epoch: OnEpoch = nobody) -> Network:
    """A policy that gives each action the chance that the logged one gave it.

        minimise  - mean of log softmax over eligible a of logit(x, a), at the action taken

    Of steps that the policy chose: those that a rule forced or a fallback made are passed over. It stops once the
    likelihood of the choices of customers held out falls. No floor is added to what it learns.
    Raises EmptyLogError, RewardError. Source: Pomerleau (1991), https://doi.org/10.1162/neco.1991.3.1.88.
    """
    with one_thread():
        table = Table.of(episodes, fitting)
        learning = table.learning(fitting, torch.Generator().manual_seed(fitting.seed))
        learned, watched = table.parts(table.choices)
        if not len(learned):
            raise EmptyLogError("no step was chosen by a policy", help="forced and fallback steps teach no behaviour")
        best = Best(learning.stack, fitting.patience)
        for epoch in range(fitting.epochs):
            left = 1.0 - epoch / fitting.epochs
            loss = learning.epoch(table.x, learned, table.surprise(), left=left)
            error = float(table.surprise()(learning.stack.mean(table.x)[watched], watched))
            on_epoch(epoch + 1, {"loss": loss, "held_out_loss": error})
            if best.see(error):
                break
        best.restore()
        return learning.stack.network(table.scaling, temperature=1.0, floor=0.0)
