"""One network for PPO and for DQN on sessions: it masks for both, and what it learned is served by `nba.policies`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import torch
from ray.rllib.algorithms.dqn.dqn_learner import QF_NEXT_PREDS, QF_PREDS, QF_TARGET_NEXT_PREDS
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import QNetAPI, TargetNetworkAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

from nba.policies.network import Layer, Network

Observations: TypeAlias = dict[str, Tensor]  # observations (n, d), action_mask (n, k)


class SessionModule(TorchRLModule, ValueFunctionAPI, QNetAPI, TargetNetworkAPI):
    """`head` gives the log odds (PPO) or the action values (DQN), `critic` (PPO) the value of the state.

    Both standardise the context and have tanh layers of their own. An action that is not eligible has minus infinity,
    put there last of all: a large negative number can be outweighed, and would be learned from.
    `model_config`: `hidden` widths of the layers, `mean` and `scale` (d,) of contexts, `critic` whether there is one.
    """

    target: nn.Sequential

    def setup(self) -> None:
        """Makes the networks, for the spaces of the environment."""
        d, k = self.observation_space["observations"].shape[0], int(self.action_space.n)
        hidden = [int(width) for width in self.model_config["hidden"]]
        for name in ("mean", "scale"):
            self.register_buffer(name, torch.tensor(self.model_config[name], dtype=torch.float32))
        self.head = _layers([d, *hidden, k], last_gain=0.01)
        self.critic = _layers([d, *hidden, 1], last_gain=1.0) if self.model_config["critic"] else None
        self.action_dist_cls = TorchCategorical

    def logits(self, observed: Observations, network: nn.Module | None = None) -> Tensor:
        """What the head says of each action (n, k), minus infinity where it is not eligible."""
        said = (network or self.head)((observed["observations"] - self.mean) / self.scale)
        masked: Tensor = said.masked_fill(observed["action_mask"] < 0.5, -torch.inf)
        return masked

    def values(self, observed: Observations) -> Tensor:
        """What the critic expects from here to the end of the session (n,)."""
        if self.critic is None:
            raise TypeError("this module was built without a critic")
        found: Tensor = self.critic((observed["observations"] - self.mean) / self.scale).squeeze(-1)
        return found

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.logits(batch[Columns.OBS])}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        if self.critic is not None:
            return self._forward(batch)
        with torch.no_grad():
            after = self.logits(batch[Columns.NEXT_OBS])
        told = {QF_PREDS: self.logits(batch[Columns.OBS]), QF_NEXT_PREDS: after}
        return {**told, QF_TARGET_NEXT_PREDS: self.forward_target({Columns.OBS: batch[Columns.NEXT_OBS]})[QF_PREDS]}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """Values of the states in a batch (n,)."""
        return self.values(batch[Columns.OBS])

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Action values of a batch, under RLlib's name for them."""
        return {QF_PREDS: self.logits(batch[Columns.OBS])}

    def make_target_networks(self) -> None:
        """A copy of the head that DQN's targets are made with."""
        self.target = make_target_network(self.head)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """The head and its copy."""
        return [(self.head, self.target)]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Action values by the copy."""
        with torch.no_grad():
            return {QF_PREDS: self.logits(batch[Columns.OBS], self.target)}

    def network(self, *, temperature: float, floor: float) -> Network:
        """What was learned, as a policy that needs no torch."""
        linear = [part for part in self.head if isinstance(part, nn.Linear)]
        layers = tuple(Layer(_array(part.weight), _array(part.bias)) for part in linear)
        return Network(_array(self.mean), _array(self.scale), layers, "tanh", temperature, floor)


def _layers(widths: list[int], *, last_gain: float) -> nn.Sequential:
    """Linear layers with tanh between them; the last starts small, so that the first policy is close to uniform."""
    made: list[nn.Module] = []
    for i, (into, out) in enumerate(pairwise(widths)):
        linear = nn.Linear(into, out)
        nn.init.orthogonal_(linear.weight, gain=last_gain if i == len(widths) - 2 else 2.0**0.5)
        nn.init.zeros_(linear.bias)
        made += [linear, nn.Tanh()]
    return nn.Sequential(*made[:-1])


def _array(tensor: Tensor | nn.Module) -> np.ndarray[Any, np.dtype[np.float64]]:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{type(tensor).__name__} is no tensor")
    return tensor.detach().cpu().numpy().astype(np.float64)
