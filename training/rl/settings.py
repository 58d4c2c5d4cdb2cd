"""What learning whole sessions can be told: one dataclass an algorithm, every default with its unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class PPO:
    """Proximal policy optimisation (Schulman et al. 2017, https://arxiv.org/abs/1707.06347): the default."""

    learning_rate: tuple[float, float] = (2e-3, 1e-4)  # of Adam, at the first and the last step
    entropy: tuple[float, float] = (0.02, 0.0)  # reward units a nat, the same
    discount: float = 1.0  # sessions end: nothing has to be discounted
    trace: float = 0.8  # lambda of the advantage estimates
    clip: float = 0.2  # of the probability ratio
    epochs: int = 3
    minibatch: int = 4_096  # steps
    sessions: int = 1_024  # side by side in each runner
    hidden: tuple[int, ...] = (64, 64)  # units of the layers
    steps: int = 5_500_000  # of all sessions, unless told otherwise
    temperature: float = 0.25  # of the served policy; its logits are log odds, at 1 those it learned with


@dataclass(frozen=True, slots=True)
class DQN:
    """Double Q-learning (van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461) on rewards of a few steps."""

    learning_rate: tuple[float, float] = (1e-3, 1e-4)  # of Adam, at the first and the last step
    epsilon: tuple[float, float] = (1.0, 0.05)  # share of even draws, at the first step and once a part has passed
    explored: float = 0.3  # that part of the steps
    discount: float = 1.0
    ahead: int = 3  # steps whose rewards are taken as they came
    minibatch: int = 512  # steps
    updates: int = 64  # minibatches after each sample
    follow: float = 0.3  # how far the target network moves towards the network after each sample
    remembered: int = 200_000  # steps
    sessions: int = 128  # side by side in each runner
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 1_200_000  # of all sessions, unless told otherwise
    temperature: float = 0.002  # of the served policy, reward units: of two actions close to each other one is better


Algorithm: TypeAlias = PPO | DQN
ALGORITHMS: dict[str, type[Algorithm]] = {"ppo": PPO, "dqn": DQN}


@dataclass(frozen=True, slots=True)
class SessionTraining:
    """One run: the same one goes on where it was when it is started again."""

    algorithm: Algorithm = field(default_factory=PPO)
    steps: int = 5_500_000  # of sessions, by which the schedules go
    seed: int = 0
    budget_cpu_seconds: float | None = None  # of learning in this process; none: until the steps are done
    runners: int = 0  # processes that sample beside this one; 0: it samples itself
    checkpoint_every: int = 10  # iterations
    temperature: float | None = None  # of the served policy; none: the algorithm's own
    floor: float = 0.02  # of the served policy: probability shared evenly by the eligible actions

    @property
    def served_temperature(self) -> float:
        """The temperature of the policy that comes out."""
        return self.algorithm.temperature if self.temperature is None else self.temperature
