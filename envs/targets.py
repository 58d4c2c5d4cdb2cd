"""Figures that the field's literature quotes, as named targets for the simulator, and how each is measured in it.

A target is a figure that is quoted or plainly implied; none of them has a source that could be checked. They say what
the simulator should resemble, never what is true of customers. To add one: a function that measures it, and a line
in TARGETS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.batch import Batch, BatchMomentEnv
from envs.batch_session import BatchSessionEnv
from envs.dynamics.frustration import CLARIFIED, MISUNDERSTOOD
from envs.session_play import play, session_oracle
from nba.conditions import parse
from nba.errors import ConditionError, PackError, UnknownMomentError
from nba.pack import Pack
from nba.policies.rules import Rules
from nba.types import Policy

SOURCE = "as quoted in the field's literature, unsourced"
ROUNDS = 20_000  # that a share is measured on
SESSIONS = 8_000
CONVERSATION = "service_conversation"

# Nothing holds the customer up: no hesitation, no case open, little left to do.
FRICTIONLESS = "hesitation_s < 5 and open_cases < 1 and task_steps_left < 3"
NEUTRAL = "sentiment >= 0"
EFFUSIVE = "empathetic_reply_3"


@dataclass(frozen=True, slots=True)
class Target:
    """One figure: what it means, between what it should lie, and how the simulator's own is measured."""

    name: str
    meaning: str
    quoted: str  # the words it is taken from
    low: float
    high: float
    moment: str
    measure: Callable[[Pack, int], float]  # of a pack that has the moment, and a seed
    source: str = SOURCE


@dataclass(frozen=True, slots=True)
class Measured:
    """A target beside the simulator's own figure."""

    target: Target
    value: float  # NaN where nothing to measure it on came up

    @property
    def within(self) -> bool:
        """Whether it lies in the target's range, both ends included."""
        return self.target.low <= self.value <= self.target.high


def measure_targets(pack: Pack, *, seed: int = 0) -> list[Measured]:
    """Every target whose moment the pack has and simulated customers play."""
    measured = []
    for target in TARGETS.values():
        if target.moment in pack.moments:
            try:
                measured.append(Measured(target, target.measure(pack, seed)))
            except (ConditionError, PackError, UnknownMomentError):  # of the same name, but not the one that is played
                continue
    return measured


def silence_when_frictionless(pack: Pack, seed: int) -> float:
    """Share of frictionless paths on which no action has the highest expected reward of those eligible."""
    env, batch = _sampled(pack, "personalized_path", seed)
    expected = np.where(batch.mask, env.expected_rewards(batch.contexts), -np.inf)
    return _share(expected.argmax(axis=1) == 0, _holds(env, FRICTIONLESS, batch))


def effusive_when_neutral(pack: Pack, seed: int) -> float:
    """Share of neutral texts to which the effusive reply is eligible."""
    env, batch = _sampled(pack, "tone_tuner", seed)
    if EFFUSIVE not in env.plan.action_ids:
        return 0.0
    return _share(batch.mask[:, env.plan.action_ids.index(EFFUSIVE)], _holds(env, NEUTRAL, batch))


def repair_success_by_rules(pack: Pack, seed: int) -> float:
    """Share of the misunderstandings in service conversations that are cleared up under the pack's rules."""
    env = BatchSessionEnv(pack, CONVERSATION)
    return repair_success(env, Rules(env.plan.encoder.first_rule, env.plan.rule_actions), seed)


def repair_success_by_plan(pack: Pack, seed: int) -> float:
    """The same share under the best plan there is."""
    env = BatchSessionEnv(pack, CONVERSATION)
    return repair_success(env, session_oracle(env).planner, seed)


def repair_success(env: BatchSessionEnv, policy: Policy, seed: int) -> float:
    """Share of the episodes opened by a misunderstanding that a clarification closes before the session is over."""
    played = play(policy, env, sessions=SESSIONS, rng=np.random.default_rng(seed))
    again = played.rounds.contexts[:, env.plan.encoder.column("reformulations")]
    in_episode = again > again.min(initial=1.0)
    event = np.array([event.name for event in env.law.events])[played.events]
    opened = (event == MISUNDERSTOOD) & ~in_episode
    repaired = (event == CLARIFIED) & in_episode
    return float(repaired.sum() / opened.sum()) if opened.any() else float("nan")


def _sampled(pack: Pack, moment: str, seed: int) -> tuple[BatchMomentEnv, Batch]:
    env = BatchMomentEnv(pack, moment)
    return env, env.sample(ROUNDS, np.random.default_rng(seed))


def _holds(env: BatchMomentEnv, condition: str, batch: Batch) -> NDArray[np.bool_]:
    return parse(condition, env.plan.encoder.fields)(batch.facts)


def _share(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(of[among].mean()) if among.any() else float("nan")


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="silence_when_frictionless",
            meaning="no action is the best there is on more than half of the frictionless paths",
            quoted="no_action is the norm on a frictionless path",
            low=0.5,
            high=1.0,
            moment="personalized_path",
            measure=silence_when_frictionless,
        ),
        Target(
            name="effusive_when_neutral",
            meaning="an effusive reply is never eligible on a neutral text",
            quoted="an effusive action is impossible on neutral text",
            low=0.0,
            high=0.0,
            moment="tone_tuner",
            measure=effusive_when_neutral,
        ),
        Target(
            name="repair_success_by_rules",
            meaning="share of misunderstandings in a conversation that a rule list clears up",
            quoted="repair success rate: typical 35-40 %",
            low=0.35,
            high=0.40,
            moment=CONVERSATION,
            measure=repair_success_by_rules,
        ),
        Target(
            name="repair_success_by_plan",
            meaning="share of misunderstandings in a conversation that the best plan clears up",
            quoted="repair success rate: target above 65 %",
            low=0.65,
            high=1.0,
            moment=CONVERSATION,
            measure=repair_success_by_plan,
        ),
    )
}
