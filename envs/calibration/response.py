"""The response of a moment fitted to closed rounds: what its logits must be stretched by, and what added."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.calibration.parameters import ResponseParameters
from envs.calibration.rounds import Z95, OutcomeRounds
from envs.people import Array, logistic
from envs.response import Response

OFFSET_PRIOR, SLOPE_PRIOR = 2.0, 1.0  # standard deviations, logits and a factor: weak
TOLD = 0.25  # of the prior's standard deviation: a parameter with a larger error stays at its prior
MIN_ROUNDS = 30  # of an action, and
MIN_CUSTOMERS = 10  # whose they are
NEWTON_STEPS = 50
CONVERGED = 1e-10  # of the largest step, logits


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a moment's response: fitted, or left at its prior and why."""

    moment: str
    outcome: str
    action: str | None  # None: the outcome's slope
    value: float  # logits; a factor where it is a slope
    standard_error: float  # NaN where not identified
    rounds: int
    came: float  # how often the outcome did, in these rounds
    expected: float  # how often it would have, before calibration
    why: str = ""  # not identified: what the rounds lack

    @property
    def default(self) -> float:
        """What it is where nothing was fitted: 0, of a slope 1."""
        return 1.0 if self.action is None else 0.0

    @property
    def identified(self) -> bool:
        """Whether the rounds said more of it than its prior."""
        return not self.why

    @property
    def interval(self) -> tuple[float, float]:
        """95 %; NaN where not identified."""
        return self.value - Z95 * self.standard_error, self.value + Z95 * self.standard_error


@dataclass(frozen=True, slots=True)
class ResponseFit:
    """The fitted response of one moment, and how sure it is."""

    parameters: ResponseParameters
    table: tuple[Parameter, ...]
    covariances: Mapping[str, Array]  # outcome -> (k + 1, k + 1) of its offsets and slope; 0 where left at the prior
    rounds: int


def fit_response(response: Response, rounds: OutcomeRounds) -> ResponseFit:
    """Offsets and slope of each outcome of the unadjusted `response`, by maximum a posteriori.

        logit P(y = 1) = z + d_a + e z,    z the moment's equation;    d_a ~ N(0, 2^2), e ~ N(0, 1)
        standard errors: H^-1,  H = X' diag(p (1 - p)) X + prior precision (Fisher information), or where larger
        H^-1 (sum_s g_s g_s' + prior precision) H^-1,  g_s the score of customer s: rounds of one customer depend

    An action's offset is fitted where it has 30 rounds of 10 customers and the outcome both came and stayed away; it
    is kept where its standard error is below a quarter of its prior's, and so is the slope. What is not kept stands at
    its prior, and the rounds of an action without offset say nothing of the slope. Outcomes are fitted one by one:
    what two outcomes of a round share (`Response.happened`) biases none of them. How likely an action was does not
    matter: the model holds given context and action. Only outcomes within [0, 1] can be simulated and are fitted.
    Source of the second: Liang and Zeger (1986), https://doi.org/10.1093/biomet/73.1.13
    """
    table, offsets, slopes = list[Parameter](), dict[str, dict[str, float]](), dict[str, float]()
    covariances = dict[str, Array]()
    taken = np.arange(len(rounds))
    logits = response.logits(rounds.contexts)[:, rounds.actions, taken] if len(rounds) else None
    ids = response.plan.action_ids
    for o, outcome in enumerate(response.outcomes):
        z = np.empty(0) if logits is None else logits[o]
        fit = _Outcome(rounds, rounds.outcomes[:, o], z, len(ids), _is_simulated(response, outcome))
        fit.run()
        offsets[outcome] = {ids[a]: float(fit.theta[a]) for a in range(len(ids)) if fit.kept[a]}
        if fit.kept[-1]:
            slopes[outcome] = 1.0 + float(fit.theta[-1])
        covariances[outcome] = fit.covariance
        table += fit.rows(response.plan.name, outcome, ids)
    kept = {outcome: told for outcome, told in offsets.items() if told}
    return ResponseFit(ResponseParameters(offsets=kept, slopes=slopes), tuple(table), covariances, len(rounds))


def _is_simulated(response: Response, outcome: str) -> bool:
    low, high = response.plan.pack.outcomes[outcome].range
    return low >= 0.0 and high <= 1.0


class _Outcome:
    """The fit of one outcome: k offsets, then the slope less 1."""

    def __init__(self, rounds: OutcomeRounds, y: Array, z: Array, k: int, simulated: bool) -> None:
        self.y, self.z, self.k, actions = y, z, k, rounds.actions
        self.actions, self.subjects = actions, rounds.subjects
        self.count = np.bincount(actions, minlength=k)
        self.came = np.bincount(actions, weights=y, minlength=k)
        self.expected = np.bincount(actions, weights=logistic(z), minlength=k)
        self.why = [self._lack(a) if simulated else "its range is not within [0, 1]" for a in range(k)]
        self.why.append("")
        self.theta, self.covariance = np.zeros(k + 1), np.zeros((k + 1, k + 1))

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which of the parameters (k + 1,) are fitted."""
        return np.array([not why for why in self.why])

    def _lack(self, a: int) -> str:
        if self.count[a] < MIN_ROUNDS:
            return f"fewer than {MIN_ROUNDS} rounds"
        if len(np.unique(self.subjects[self.actions == a])) < MIN_CUSTOMERS:
            return f"rounds of fewer than {MIN_CUSTOMERS} customers"
        if not self.came[a]:
            return "it never came"
        return "it always came" if self.came[a] >= self.count[a] else ""

    def run(self) -> None:
        """Fits, drops what the rounds cannot tell from its prior, and fits again until all that is left is told."""
        priors = np.append(np.full(self.k, OFFSET_PRIOR), SLOPE_PRIOR)
        while self.kept[:-1].any():
            self._fit(priors)
            errors = np.sqrt(self.covariance.diagonal())
            unsure = self.kept & (errors > TOLD * priors)
            if not unsure.any():
                return
            # The slope first: without it the offsets are surer.
            dropped = [self.k] if unsure[-1] else np.flatnonzero(unsure)
            for place in dropped:
                self.why[place] = "not told apart from its prior"
        self.why[-1] = self.why[-1] or "no action's offset is told"
        self.theta, self.covariance = np.zeros(self.k + 1), np.zeros((self.k + 1, self.k + 1))

    def _fit(self, priors: Array) -> None:
        """Newton's method on the kept parameters; the log posterior is concave, so halved steps always arrive."""
        kept = np.flatnonzero(self.kept)
        rows = self.kept[self.actions]
        y, z, actions = self.y[rows], self.z[rows], self.actions[rows]
        design = np.zeros((len(y), self.k + 1))
        design[np.arange(len(y)), actions] = 1.0
        design[:, -1] = z
        x, precision = design[:, kept], 1.0 / np.square(priors[kept])

        def loss(theta: Array) -> float:
            logit = z + x @ theta
            return float((np.logaddexp(0.0, logit) - y * logit).sum() + 0.5 * precision @ np.square(theta))

        theta = np.zeros(len(kept))
        for _ in range(NEWTON_STEPS):
            p = logistic(z + x @ theta)
            information = (x * (p * (1.0 - p))[:, None]).T @ x + np.diag(precision)
            step = np.linalg.solve(information, x.T @ (y - p) - precision * theta)
            size, before = 1.0, loss(theta)
            while loss(theta + size * step) > before + 1e-9 and size > 1e-6:
                size /= 2.0
            theta = theta + size * step
            if np.abs(size * step).max() < CONVERGED:
                break
        self.theta, self.covariance = np.zeros(self.k + 1), np.zeros((self.k + 1, self.k + 1))
        self.theta[kept] = theta
        scores = x * (y - logistic(z + x @ theta))[:, None]
        self.covariance[np.ix_(kept, kept)] = _covariance(information, precision, scores, self.subjects[rows])

    def rows(self, moment: str, outcome: str, ids: tuple[str, ...]) -> list[Parameter]:
        """One row a parameter."""
        errors = np.where(self.kept, np.sqrt(self.covariance.diagonal()), math.nan)
        counts, came, expected = ([*of, of.sum()] for of in (self.count, self.came, self.expected))
        return [
            Parameter(
                moment=moment,
                outcome=outcome,
                action=action,
                value=float(self.theta[i]) + (1.0 if action is None else 0.0),
                standard_error=float(errors[i]),
                rounds=int(counts[i]),
                came=float(came[i]),
                expected=float(expected[i]),
                why=self.why[i],
            )
            for i, action in enumerate((*ids, None))
        ]


def _covariance(information: Array, precision: Array, scores: Array, subjects: NDArray[np.uint64]) -> Array:
    """By customer, its standard errors raised to those of the information where they are smaller."""
    inverse = np.linalg.inv(information)
    _, whose = np.unique(subjects, return_inverse=True)
    customers = int(whose.max()) + 1
    sums = np.stack([np.bincount(whose, weights=column) for column in scores.T], axis=1)
    meat = customers / (customers - 1) * sums.T @ sums + np.diag(precision)
    clustered = inverse @ meat @ inverse
    raised = np.sqrt(np.maximum(1.0, inverse.diagonal() / clustered.diagonal()))
    covariance: Array = clustered * np.outer(raised, raised)
    return covariance
