"""Who the customers are: shifts of their traits' means, fitted so that simulated contexts resemble the logged ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.calibration.rounds import Z95, OutcomeRounds
from envs.people import TRAITS, Array, Population
from envs.situations import Situations
from nba.facts import TIME_PARTS, Field
from nba.pack import Pack
from nba.types import Facts

PRIOR = 1.0  # standard deviation of a shift, in the trait's own
TOLD = 0.25  # a shift with a larger standard error is left at 0
STEP = 0.15  # of a difference quotient
LARGEST = 1.0  # step of an iteration, and
FARTHEST = 3.0  # shift
ITERATIONS = 12
ARRIVED = 0.1  # of a standard error: steps below it end the iterations
MIN_CUSTOMERS = 30
MIN_EACH = 5  # customers with and without, of a share
CUSTOMERS = 10_000  # simulated
FIRST = 1_000_000  # of them: never one that made a simulated log


@dataclass(frozen=True, slots=True)
class FieldMean:
    """The mean of a coded field among rounds that know it, logged and simulated before and after the fit."""

    moment: str
    name: str  # `sentiment`, `device = mobile`, `local_time (sine of the hour)`
    logged: float
    before: float
    after: float
    standard_error: float  # of logged minus simulated; customers, not rounds, are independent

    def misses(self, simulated: float) -> bool:
        """Whether the 95 % interval of the difference leaves 0 out."""
        return abs(self.logged - simulated) > Z95 * self.standard_error


@dataclass(frozen=True, slots=True)
class MissingShare:
    """How much of a field is missing, logged and simulated. Reported, not fitted."""

    moment: str
    name: str
    logged: float
    simulated: float  # after the fit


@dataclass(frozen=True, slots=True)
class TraitMean:
    """The shift of one trait's mean: fitted, or left at 0 and why."""

    trait: str
    value: float  # in the trait's standard deviations
    standard_error: float  # NaN where not identified
    why: str = ""

    @property
    def identified(self) -> bool:
        """Whether the log says anything of it."""
        return not self.why

    @property
    def interval(self) -> tuple[float, float]:
        """95 %; NaN where not identified."""
        return self.value - Z95 * self.standard_error, self.value + Z95 * self.standard_error


@dataclass(frozen=True, slots=True)
class PopulationFit:
    """The fitted population."""

    traits: tuple[TraitMean, ...]  # all of TRAITS
    means: tuple[FieldMean, ...]
    missing: tuple[MissingShare, ...]

    @property
    def trait_means(self) -> dict[str, float]:
        """What `Population` takes: the shifts that are told."""
        return {told.trait: told.value for told in self.traits if told.identified}


def fit_population(
    pack: Pack,
    rounds: Mapping[str, OutcomeRounds],
    *,
    seed: int = 0,
    customers: int = CUSTOMERS,
    on_step: Callable[[int], None] = lambda _: None,
) -> PopulationFit:
    """Trait shifts t by the method of simulated moments, field means m weighted by their variances.

        t <- t + (J' W J + P)^-1 (J' W (m_logged - m(t)) - P t),   J = dm/dt by differences, the same draws throughout
        cov t = A^-1 J' W S W J A^-1,   A = J' W J,   W = diag(S)^-1,   P = 1 (a weak prior about 0)

    S: covariance of the logged means, by customer, over all moments at once, and of the simulated ones. A trait that
    no field answers to, or that fields cannot tell from others, has a large standard error: the largest above 0.25 is
    left at 0 and the rest fitted again. The simulated customers' fields are counted where they are known, as the
    log's are. `on_step` is told the iterations done.
    Source: McFadden (1989), https://doi.org/10.2307/1913621
    """
    logged = _Logged.of(pack, {moment: part for moment, part in rounds.items() if len(part)})
    customers_logged = len(np.unique(logged.subjects))
    if not logged.names:
        few = f"{customers_logged} customers, fewer than {MIN_CUSTOMERS}"
        why = few if customers_logged < MIN_CUSTOMERS else "no field varies among enough customers"
        return PopulationFit(tuple(TraitMean(trait, 0.0, np.nan, why) for trait in TRAITS), (), ())
    simulated = _Simulated(pack, logged, seed, customers)
    return _Fit(logged, simulated, on_step).run()


def statistics(fields: Mapping[str, Field], facts: Facts) -> tuple[list[str], Array]:
    """Names and values (n, q) whose means are matched; NaN where the field is missing.

    Numbers and booleans as they are, each value of a category but the last as a share, times as sine and cosine of
    the hour.
    """
    names, columns = list[str](), list[Array]()
    for (name, field), column in zip(fields.items(), facts.T, strict=True):
        known = ~np.isnan(column)
        if field.type == "category":
            for code, value in enumerate(field.values[:-1]):
                names.append(f"{name} = {value}")
                columns.append(np.where(known, column == code, np.nan))
        elif field.type == "time":
            angle = TIME_PARTS["hour"](column) * (2.0 * np.pi / 24.0)
            names += [f"{name} (sine of the hour)", f"{name} (cosine of the hour)"]
            columns += [np.sin(angle), np.cos(angle)]
        else:
            names.append(name)
            columns.append(column)
    return names, np.array(columns).T.reshape(len(facts), len(names))


def _influence(values: Array) -> tuple[Array, Array]:
    """Means (q,) of the known values (n, q), and what each row adds to their error (n, q)."""
    known = ~np.isnan(values)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, values, 0.0).sum(axis=0) / counts
    return means, np.where(known, values - means, 0.0) / counts


@dataclass(frozen=True, slots=True)
class _Logged:
    """The field means of a log, and their covariance by customer."""

    names: list[tuple[str, str]]  # (moment, statistic)
    kept: Mapping[str, NDArray[np.intp]]  # moment -> places of its statistics that are used
    means: Array  # (q,)
    covariance: Array  # (q, q)
    missing: Mapping[tuple[str, str], float]  # (moment, field) -> share
    subjects: NDArray[np.uint64]

    @classmethod
    def of(cls, pack: Pack, rounds: Mapping[str, OutcomeRounds]) -> _Logged:
        subjects = np.concatenate([np.empty(0, np.uint64), *(part.subjects for part in rounds.values())])
        everyone = np.unique(subjects)
        names, kept, missing = list[tuple[str, str]](), dict[str, NDArray[np.intp]](), dict[tuple[str, str], float]()
        means, totals = [np.empty(0)], [np.empty((len(everyone), 0))]
        for moment, part in rounds.items():
            fields = pack.moment_fields(moment)
            labels, values = statistics(fields, part.facts)
            kept[moment] = _usable(values, part.subjects)
            mean, influence = _influence(values[:, kept[moment]])
            total = np.zeros((len(everyone), influence.shape[1]))
            np.add.at(total, np.searchsorted(everyone, part.subjects), influence)
            names += [(moment, labels[place]) for place in kept[moment]]
            means.append(mean)
            totals.append(total)
            missing |= {(moment, f): float(s) for f, s in zip(fields, np.isnan(part.facts).mean(axis=0), strict=True)}
        of_customers = np.concatenate(totals, axis=1)
        covariance = of_customers.T @ of_customers * (len(everyone) / max(len(everyone) - 1, 1))
        return cls(names, kept, np.concatenate(means), covariance, missing, subjects)


def _usable(values: Array, subjects: NDArray[np.uint64]) -> NDArray[np.intp]:
    """The statistics that enough customers know, and that vary between them."""

    def customers(where: NDArray[np.bool_]) -> int:
        return len(np.unique(subjects[where]))

    places = []
    for place, column in enumerate(values.T):
        known = ~np.isnan(column)
        low, high = column[known].min(initial=np.inf), column[known].max(initial=-np.inf)
        varies = min(customers(column > low), customers(column < high)) >= MIN_EACH
        if varies and customers(known) >= MIN_CUSTOMERS:
            places.append(place)
    return np.array(places, dtype=np.intp)


class _Simulated:
    """Simulated field means as a function of the trait shifts, on the same draws whatever the shifts."""

    def __init__(self, pack: Pack, logged: _Logged, seed: int, customers: int) -> None:
        self._pack, self._logged, self._seed = pack, logged, seed
        self._customers = np.arange(FIRST, FIRST + customers)
        self._situations = {moment: Situations(pack, moment) for moment in logged.kept}
        self.fields = {moment: pack.moment_fields(moment) for moment in logged.kept}

    def facts(self, shifts: Array) -> dict[str, Facts]:
        """Facts of every moment, a row a customer."""
        population = Population(self._pack, self._seed, trait_means=dict(zip(TRAITS, shifts.tolist(), strict=True)))
        people = population.people(self._customers)
        return {
            moment: of.facts(people, np.random.default_rng([self._seed, i]))
            for i, (moment, of) in enumerate(self._situations.items())
        }

    def influence(self, facts: Mapping[str, Facts]) -> tuple[Array, Array]:
        """Means (q,) and what each customer adds to their error (customers, q)."""
        pairs = []
        for moment, of in facts.items():
            values = statistics(self.fields[moment], of)[1]
            pairs.append(_influence(values[:, self._logged.kept[moment]]))
        return np.concatenate([mean for mean, _ in pairs]), np.concatenate([error for _, error in pairs], axis=1)

    def means(self, shifts: Array) -> Array:
        """Means (q,)."""
        return self.influence(self.facts(shifts))[0]

    def jacobian(self, shifts: Array, traits: NDArray[np.intp]) -> Array:
        """Central differences (q, traits)."""
        columns = []
        for trait in traits:
            step = np.zeros(len(TRAITS))
            step[trait] = STEP
            columns.append((self.means(shifts + step) - self.means(shifts - step)) / (2.0 * STEP))
        return np.array(columns).T


class _Fit:
    """The iterations."""

    def __init__(self, logged: _Logged, simulated: _Simulated, on_step: Callable[[int], None]) -> None:
        self.logged, self.simulated, self.on_step = logged, simulated, on_step
        self.shifts = np.zeros(len(TRAITS))
        self.why = [""] * len(TRAITS)
        self.done = 0
        self.before, errors = simulated.influence(simulated.facts(self.shifts))
        self.covariance = logged.covariance + errors.T @ errors
        self.weights = 1.0 / self.covariance.diagonal()

    def run(self) -> PopulationFit:
        """Fits; leaves the least sure trait out and fits again, until all that are left are told."""
        errors = np.full(len(TRAITS), np.nan)
        while True:
            traits = np.flatnonzero([not why for why in self.why])
            if not len(traits):
                break
            jacobian = self.simulated.jacobian(self.shifts, traits)
            own = self._errors(jacobian)
            worst = int(own.argmax())
            if own[worst] > TOLD:
                self._leave(int(traits[worst]), float(own[worst]), jacobian[:, worst])
                continue
            errors = np.full(len(TRAITS), np.nan)
            errors[traits] = self._iterate(traits, jacobian)
            if errors[traits].max() <= TOLD:
                break
        return self._told(errors)

    def _iterate(self, traits: NDArray[np.intp], jacobian: Array) -> Array:
        """Gauss-Newton on these traits until it stands; their standard errors there."""
        errors = self._errors(jacobian)
        for _ in range(ITERATIONS):
            weighted = jacobian.T * self.weights
            left = weighted @ (self.logged.means - self.simulated.means(self.shifts))
            left -= self.shifts[traits] / PRIOR**2
            step = np.linalg.solve(weighted @ jacobian + np.eye(len(traits)) / PRIOR**2, left)
            step = step * min(1.0, LARGEST / max(float(np.abs(step).max()), 1e-12))
            self.shifts[traits] = np.clip(self.shifts[traits] + step, -FARTHEST, FARTHEST)
            self.done += 1
            self.on_step(self.done)
            jacobian = self.simulated.jacobian(self.shifts, traits)
            errors = self._errors(jacobian)
            if (np.abs(step) < ARRIVED * errors).all():
                break
        return errors

    def _errors(self, jacobian: Array) -> Array:
        """Standard errors of the shifts by the delta method; infinite where the means do not answer."""
        weighted = jacobian.T * self.weights
        information = weighted @ jacobian
        scale = np.sqrt(information.diagonal())
        if (scale < 1e-6).any():
            return np.where(scale < 1e-6, np.inf, 0.0)
        alike = information / np.outer(scale, scale) + 1e-9 * np.eye(len(scale))  # what is collinear stays invertible
        bread = np.linalg.inv(alike) / np.outer(scale, scale)
        variance = (bread @ weighted @ self.covariance @ weighted.T @ bread).diagonal()
        errors: Array = np.sqrt(np.maximum(variance, 0.0))
        return errors

    def _leave(self, trait: int, error: float, column: Array) -> None:
        alone = self._errors(column[:, None])[0]
        reason = "no field answers to it" if alone > TOLD else "the fields cannot tell it from other traits"
        self.why[trait] = f"{reason} (standard error {error:.2f})"
        self.shifts[trait] = 0.0

    def _told(self, errors: Array) -> PopulationFit:
        facts = self.simulated.facts(self.shifts)
        after = self.simulated.influence(facts)[0]
        spread = np.sqrt(self.covariance.diagonal())
        rows = zip(self.logged.names, self.logged.means, self.before, after, spread, strict=True)
        gone = {
            (moment, name): float(share)
            for moment, of in facts.items()
            for name, share in zip(self.simulated.fields[moment], np.isnan(of).mean(axis=0), strict=True)
        }
        return PopulationFit(
            tuple(
                TraitMean(trait, float(self.shifts[i]), float(errors[i]), self.why[i]) for i, trait in enumerate(TRAITS)
            ),
            tuple(FieldMean(*name, *map(float, figures)) for name, *figures in rows),
            tuple(MissingShare(*name, share, gone[name]) for name, share in self.logged.missing.items()),
        )
