"""How customers respond: the probability of each outcome after each action, from a moment's equations (`envs.moments`).

    P(outcome | context, action) = logistic(logit),    logit = the moment's equation, then each adjustment in turn

Outcomes of one round share one latent quality of the experience, u uniform on (0, 1): the outcome that closes the
window happens where u < P, every other one where u > 1 - P. What is good and what is bad thus exclude each other
wherever their probabilities allow it, and each keeps its own probability exactly. An outcome that comes only with the
one that closes the window (a discount is redeemed by who buys) happens where u < P too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from envs.moments import moment_law
from envs.moments.parts import Logits
from envs.people import Array, logistic
from envs.seen import Seen
from nba.errors import PackError
from nba.moment_plan import MomentPlan
from nba.types import Actions, ActionValues, Contexts

Probabilities = NDArray[np.float64]  # (n, k, o)


class Adjustment(Protocol):
    """A change to the truth of a moment, in logits: what has drifted, or what a calibration found."""

    def logits(self, outcomes: tuple[str, ...], actions: tuple[str, ...], table: Array) -> Array:
        """The changed logits (o, k, n); the given ones may be written to."""
        ...


@dataclass(frozen=True, slots=True)
class Response:
    """The truth of one moment: k actions and o outcomes in the pack's order."""

    plan: MomentPlan
    outcomes: tuple[str, ...]  # o
    weights: Array  # (o,) reward units, the pack's formula
    closing: NDArray[np.bool_]  # (o,) which outcome closes the window
    together: NDArray[np.bool_]  # (o,) that one, and those that come only with it
    equations: Callable[[Seen], Logits]
    adjustments: tuple[Adjustment, ...] = ()

    @classmethod
    def of(cls, plan: MomentPlan, adjustments: tuple[Adjustment, ...] = ()) -> Response:
        """The response to a plan's actions. Raises PackError, UnknownMomentError where an equation is missing."""
        simulated, formula = moment_law(plan.name), plan.pack.moment(plan.name).reward
        weights = np.array(list(formula.values()))
        closing = np.array([plan.pack.outcomes[outcome].closes_window for outcome in formula])
        together = closing | np.array([outcome in simulated.together for outcome in formula])
        response = cls(plan, tuple(formula), weights, closing, together, simulated.logits, adjustments)
        response.probabilities(np.zeros((1, plan.width), dtype=np.float32))
        return response

    def logits(self, contexts: Contexts) -> Array:
        """The logit of each outcome after each action, adjusted, (o, k, n)."""
        logits = self.equations(Seen(contexts, self.plan.encoder))
        table = np.empty((len(self.outcomes), len(self.plan.action_ids), len(contexts)))
        for o, outcome in enumerate(self.outcomes):
            for a, action in enumerate(self.plan.action_ids):
                table[o, a] = _logit(logits, outcome, action, self.plan.name)
        for adjustment in self.adjustments:
            table = adjustment.logits(self.outcomes, self.plan.action_ids, table)
        return table

    def probabilities(self, contexts: Contexts) -> Probabilities:
        """P(outcome | context, action), (n, k, o)."""
        return logistic(self.logits(contexts)).transpose(2, 1, 0)

    def taken(self, contexts: Contexts, actions: Actions) -> NDArray[np.float64]:
        """P(outcome | context, action) of the action taken in each round (n, o)."""
        n = len(contexts)
        logits = self.logits(contexts).reshape(len(self.outcomes), -1)
        return logistic(logits.take(actions * n + np.arange(n), axis=1)).T

    def expected_rewards(self, contexts: Contexts) -> ActionValues:
        """Exact expected reward of each action, its cost taken off, (n, k)."""
        return self.probabilities(contexts) @ self.weights - self.plan.costs

    def happened(self, probabilities: NDArray[np.float64], quality: Array) -> NDArray[np.float64]:
        """Outcomes (..., o), 0 or 1, from their probabilities (..., o) and the rounds' quality u (...)."""
        u = quality[..., None]
        return np.where(self.together, u < probabilities, u > 1.0 - probabilities).astype(np.float64)


def _logit(logits: Logits, outcome: str, action: str, moment: str) -> Array:
    try:
        return logits[outcome][action]
    except KeyError:
        raise PackError(
            f"moment {moment!r}: simulated customers have no response {outcome!r} to {action!r}",
            help=f"they know outcomes {', '.join(logits)} and actions {', '.join(next(iter(logits.values())))}",
        ) from None
