"""Off-policy evaluation: what a target policy would have earned on rounds that another one logged.

Terms.of(rounds, target, q_hat) says what each round tells about the target; terms of several moments concatenate;
an estimator makes an Estimate with a 95 % interval of terms. `q_hat` comes from `cross_fit`.

Which to trust: doubly robust, with the mean weight beside it. A mean weight whose interval misses 1 means that
propensities are wrong, records are lost, or the target does what the log never did: then no estimate holds. It says
nothing about wrong rewards. A direct method alone is as wrong as its model, and its interval does not show it.
"""

from nba.ope.cross_fit import cross_fit
from nba.ope.estimators import (
    Estimate,
    direct_method,
    doubly_robust,
    estimates,
    ips,
    lift,
    mean_weight,
    snips,
)
from nba.ope.terms import Terms

__all__ = [
    "Estimate",
    "Terms",
    "cross_fit",
    "direct_method",
    "doubly_robust",
    "estimates",
    "ips",
    "lift",
    "mean_weight",
    "snips",
]
