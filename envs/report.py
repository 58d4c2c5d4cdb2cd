"""What every environment is worth to policies of every kind: the table that says whether there is much to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from envs.batch import BatchMomentEnv
from envs.batch_session import BatchSessionEnv
from envs.oracle import FixedOrder, Oracle, best_context_free
from envs.planning import Planner
from envs.rollout import PolicyValue, value
from envs.session_play import play, session_oracle, session_value
from nba.models.linear import LinearModel
from nba.moment_plan import MomentPlan
from nba.pack_file import load_pack
from nba.policies.epsilon_greedy import EpsilonGreedy
from nba.policies.rules import Rules
from nba.policies.uniform import Uniform
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Contexts, Policy

LOSSES = (0.05, 0.1, 0.3, 1.0)  # reward units at which a loss is cut before it is fitted
LEAST_MARGIN = 0.10  # what a claim of heterogeneity, or of having to plan, must be worth


@dataclass(frozen=True, slots=True)
class EnvironmentReport:
    """Values of policies in one environment: reward units a round in a moment, a session in a session."""

    env_id: str
    pack: str
    moment: str
    is_session: bool
    claims: bool  # the pack says that it takes a look at the customer; a session always says that it takes a plan
    values: Mapping[str, PolicyValue]  # uniform, rules, context_free, linear, (myopic,) oracle
    bound: float | None = None  # what no policy over contexts can pass, in a session

    @property
    def margin(self) -> float:
        """How much more the oracle earns than the best without context or, in a session, without a plan; a share."""
        base = self.values["myopic" if self.is_session else "context_free"].value
        return (self.values["oracle"].value - base) / abs(base)

    @property
    def holds(self) -> bool:
        """Whether the claim, if there is one, is worth LEAST_MARGIN."""
        return not self.claims or self.margin >= LEAST_MARGIN


def report_moment(env_id: str, pack: str, moment: str, *, rounds: int, seed: int) -> EnvironmentReport:
    """The report of a one-step moment, on as many contexts as `rounds`; exact but for their choice."""
    loaded, rng = load_pack(pack), np.random.default_rng(seed)
    env = BatchMomentEnv(loaded, moment)
    learned, judged = env.sample(rounds, rng), env.sample(rounds, rng)
    expected = env.expected_rewards(learned.contexts)
    policies: dict[str, Policy] = {
        **_unlearned(env.plan),
        "context_free": best_context_free(expected, learned.mask),
        "linear": EpsilonGreedy(_least_squares(env.plan, learned.contexts, expected), epsilon=0.0),
        "oracle": Oracle(env.response),
    }
    values = {name: value(policy, env, judged.contexts, judged.mask) for name, policy in policies.items()}
    return EnvironmentReport(env_id, pack, moment, False, loaded.moment(moment).heterogeneous, values)


def report_session(env_id: str, pack: str, moment: str, *, sessions: int, seed: int) -> EnvironmentReport:
    """The report of a session moment, over as many sessions, the same for every policy."""
    env, rng = BatchSessionEnv(load_pack(pack), moment), np.random.default_rng(seed)
    oracle = session_oracle(env, seed=seed)
    policies: dict[str, Policy] = {
        **_unlearned(env.plan),
        "context_free": _best_order(env, sessions, rng),
        "linear": best_linear(env, oracle.planner, sessions=sessions, rng=rng),
        "myopic": oracle.myopic,
        "oracle": oracle.planner,
    }
    values = {
        name: session_value(policy, env, sessions=sessions, rng=np.random.default_rng([seed, 1]))
        for name, policy in policies.items()
    }
    return EnvironmentReport(env_id, pack, moment, True, True, values, oracle.bound)


def best_linear(env: BatchSessionEnv, oracle: Planner, *, sessions: int, rng: Generator) -> Policy:
    """The best of some linear policies that know the optimal values of the states which the optimal policy meets.

    Each is greedy for a least-squares fit of how much less than the best an action is worth, cut at some loss: how bad
    the bad ones are is not to be told apart.
    """
    met = play(oracle, env, sessions=sessions, rng=rng).rounds
    values = oracle.values(met.contexts)
    lost = values - np.where(met.mask, values, -np.inf).max(axis=1, keepdims=True)
    models = [_least_squares(env.plan, met.contexts, np.maximum(lost, -most)) for most in LOSSES]
    return _best([EpsilonGreedy(model, epsilon=0.0) for model in models], env, sessions, rng)


def _unlearned(plan: MomentPlan) -> dict[str, Policy]:
    return {"uniform": Uniform(), "rules": Rules(plan.encoder.first_rule, plan.rule_actions)}


def _least_squares(plan: MomentPlan, contexts: Contexts, expected: ActionValues) -> LinearModel:
    """The linear model of the true values (n, k), every action seen in every context."""
    n, k = expected.shape
    rounds = LoggedRounds(
        contexts=np.tile(contexts, (k, 1)),
        mask=np.ones((n * k, k), dtype=np.bool_),
        actions=np.repeat(np.arange(k), n),
        propensities=np.full(n * k, 1.0 / k),
        rewards=expected.T.ravel(),
        subjects=np.zeros(n * k, dtype=np.uint64),
    )
    return LinearModel.fit(rounds, plan.action_features, ridge=1.0)


def _best_order(env: BatchSessionEnv, sessions: int, rng: Generator) -> Policy:
    """The best of always doing one thing, or nothing where that is not eligible."""
    others = [FixedOrder((a, 0)) for a in range(1, len(env.plan.action_ids))]
    return _best([FixedOrder((0,)), *others], env, sessions, rng)


def _best(policies: Sequence[Policy], env: BatchSessionEnv, sessions: int, rng: Generator) -> Policy:
    """The one that earns most, all on the same sessions."""
    seed = int(rng.integers(2**32))
    earned = [session_value(p, env, sessions=sessions, rng=np.random.default_rng(seed)).value for p in policies]
    return policies[int(np.argmax(earned))]
