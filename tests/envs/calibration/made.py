"""Closed rounds that the simulator itself made, with a response and a population that are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.batch import BatchMomentEnv
from envs.calibration.parameters import ResponseParameters
from envs.calibration.rounds import OutcomeRounds
from envs.people import subject_hash
from nba.pack import Pack

UNCHANGED = ResponseParameters()


def closed_rounds(
    pack: Pack,
    moment: str,
    n: int,
    *,
    truth: ResponseParameters = UNCHANGED,
    trait_means: Mapping[str, float] | None = None,
    seed: int = 0,
    customers: int = 1_500,
) -> OutcomeRounds:
    """n rounds with each eligible action as likely as the others; those of one customer depend on each other."""
    env = BatchMomentEnv(
        pack, moment, population_seed=seed, customers=customers, adjustments=(truth,), trait_means=trait_means
    )
    rng = np.random.default_rng(seed)
    batch = env.sample(n, rng)
    actions = np.where(batch.mask, rng.random(batch.mask.shape), -1.0).argmax(axis=1)
    outcomes = env.outcomes(batch, actions, rng)
    return OutcomeRounds(batch.facts, batch.contexts, actions, outcomes, subject_hash(batch.customers, seed))


def drawn_truth(pack: Pack, moment: str, rng: np.random.Generator) -> ResponseParameters:
    """Offsets of 0.6 logits or so, slopes between 0.6 and 1.4."""
    of = pack.moment(moment)
    return ResponseParameters(
        offsets={outcome: {action: float(rng.normal(0.0, 0.6)) for action in of.action_ids} for outcome in of.reward},
        slopes={outcome: float(rng.uniform(0.6, 1.4)) for outcome in of.reward},
    )
