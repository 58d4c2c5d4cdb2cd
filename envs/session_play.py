"""Playing a policy through sessions: rounds as the log would have them, and what whole sessions earn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from envs.batch_session import BatchSessionEnv
from envs.people import TRAITS, subject_hash
from envs.planning import Planner, StateReader, TypeBelief, action_values, optimal_value
from envs.rollout import PolicyValue, sample_actions
from nba.rounds import LoggedRounds
from nba.types import Policy, Rewards

BELIEF_SESSIONS = 20_000  # first steps from which a planner learns what contexts say about types


@dataclass(frozen=True, slots=True)
class PlayedSessions:
    """Sessions that were played to their end: all their steps in a row, step by step through all sessions."""

    rounds: LoggedRounds
    session: NDArray[np.intp]  # (rounds,) which session a step belongs to, counted from 0
    step: NDArray[np.int64]  # (rounds,)
    events: NDArray[np.intp]  # (rounds,) places in the law's events
    sessions: int

    @property
    def returns(self) -> Rewards:
        """Reward units of each whole session (sessions,)."""
        returns: Rewards = np.zeros(self.sessions)
        np.add.at(returns, self.session, self.rounds.rewards)
        return returns

    def to_go(self) -> Rewards:
        """Reward from each step to its session's end (rounds,), the step's own included."""
        before = np.zeros(self.sessions)
        to_go, total = np.empty(len(self.rounds)), self.returns
        for t in range(int(self.step.max(initial=-1)) + 1):  # every session has each of its steps once
            rows = np.flatnonzero(self.step == t)
            to_go[rows] = total[self.session[rows]] - before[self.session[rows]]
            before[self.session[rows]] += self.rounds.rewards[rows]
        return to_go


def play(policy: Policy, env: BatchSessionEnv, *, sessions: int, rng: Generator) -> PlayedSessions:
    """That many whole sessions under the policy, with the propensities it sampled with."""
    under_way = env.start(sessions, rng)
    live, parts, places, steps, events = np.arange(sessions), [], [], [], []
    actions = np.zeros(sessions, dtype=np.int64)
    while live.size:
        contexts, mask = env.observe(under_way)
        contexts, mask = contexts[live], mask[live]
        distribution = policy.distribution(contexts, mask)
        actions[live] = taken = sample_actions(distribution, rng)
        who = subject_hash(under_way.customers[live])
        happened = env.advance(under_way, actions, rng)
        propensities = distribution[np.arange(len(live)), taken]
        parts.append(LoggedRounds(contexts, mask, taken, propensities, happened.rewards[live], who))
        places.append(live)
        steps.append(under_way.steps[live] - 1)
        events.append(happened.events[live])
        live = live[~(happened.terminated | happened.truncated)[live]]
    rounds = LoggedRounds.concatenate(parts)
    return PlayedSessions(rounds, np.concatenate(places), np.concatenate(steps), np.concatenate(events), sessions)


def session_value(policy: Policy, env: BatchSessionEnv, *, sessions: int, rng: Generator) -> PolicyValue:
    """Mean reward a session under the policy, and its standard error."""
    returns = play(policy, env, sessions=sessions, rng=rng).returns
    return PolicyValue(float(returns.mean()), float(returns.std(ddof=1) / np.sqrt(sessions)), sessions)


@dataclass(frozen=True, slots=True)
class SessionOracle:
    """What is best in a session: the plan, the best that looks one step ahead, and what nobody can beat."""

    planner: Planner
    myopic: Planner
    bound: float  # reward units a session: no policy over contexts earns more (`envs.planning`)


def session_oracle(env: BatchSessionEnv, *, seed: int = 0) -> SessionOracle:
    """Solved exactly for each type of customer; about a second for the built-in sessions."""
    q = action_values(env.law)
    sessions = env.start(BELIEF_SESSIONS, np.random.default_rng(seed))
    contexts, _ = env.observe(sessions)
    reader = StateReader(env.law)
    moving = reader.moving()
    still = np.array([i for i, column in enumerate(env.plan.encoder.columns) if column not in moving])
    traits = env.population.people(sessions.customers).traits[:, [TRAITS.index(t) for t in env.law.spec.traits]]
    belief = TypeBelief.learn(contexts, traits, still)
    myopic = Planner(action_values(env.law, horizon=1), belief, reader)
    return SessionOracle(Planner(q, belief, reader), myopic, optimal_value(env.law, q, env.type_shares))
