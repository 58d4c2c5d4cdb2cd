"""Fitting the simulator to a decision log, judging the fit on customers it has not seen, and keeping both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from envs.calibration.match import Cell, Match, Misses, match
from envs.calibration.parameters import Calibration, ResponseParameters, save_calibration
from envs.calibration.population import PopulationFit, fit_population
from envs.calibration.response import Parameter, ResponseFit, fit_response
from envs.calibration.rounds import OutcomeRounds
from envs.response import Response
from nba.errors import EmptyLogError, PackError, UnknownMomentError
from nba.home import Home
from nba.log.reader import OnRecord
from nba.moment_plan import plan_moment
from nba.pack import Pack
from training import plots
from training.outcomes import OutcomeLog, read_outcomes
from training.tracking import Run, Tracking

HELD_OUT = 0.3  # of the customers
FEW = 3  # names of a group that a sentence lists in full


@dataclass(frozen=True, slots=True)
class MomentReport:
    """One moment's fit, and the match with held-out rounds before and after it."""

    fit: ResponseFit = field(repr=False)
    before: Match = field(repr=False)
    after: Match = field(repr=False)
    held_out: int  # rounds

    def misses(self) -> tuple[Misses, Misses]:
        """Of the intervals by action and by segment, how many leave 0 out, before and after."""
        return _misses(self.before), _misses(self.after)


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A calibration, what it rests on, and what the log could not tell."""

    calibration: Calibration
    log: OutcomeLog
    moments: Mapping[str, MomentReport]
    population: PopulationFit
    cannot_tell: tuple[str, ...]  # a sentence each

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The response parameters of all moments."""
        return tuple(row for report in self.moments.values() for row in report.fit.table)

    def misses(self) -> tuple[Misses, Misses]:
        """Over all moments, before and after."""
        pairs = [report.misses() for report in self.moments.values()]
        before, after = ([pair[i] for pair in pairs] for i in (0, 1))
        return _total(before), _total(after)


def calibrate(
    pack: Pack,
    log: Path,
    *,
    as_of: datetime,
    held_out: float = HELD_OUT,
    seed: int = 0,
    on_record: OnRecord | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> CalibrationReport:
    """The simulator of a pack fitted to a log as it stood at `as_of`, and how well it matches `held_out` customers.

    Response: `envs.calibration.response`; population: `envs.calibration.population`; both on the other customers.
    `on_step` is told what is being done. Raises EmptyLogError where no closed round can be used or the customers of
    the pack are not simulated.
    """
    responses = simulated_responses(pack)
    read = read_outcomes(log, pack, list(responses), as_of=as_of, on_record=on_record)
    _check(read, responses, pack, log)
    reports, fitted_on = dict[str, MomentReport](), dict[str, OutcomeRounds]()
    for moment, rounds in read.rounds.items():
        on_step(f"response of {moment}: {len(rounds):,} rounds")
        response = responses[moment]
        fitted_on[moment], judges = rounds.split(1.0 - held_out, salt=seed)
        fit = fit_response(response, fitted_on[moment])
        reports[moment] = MomentReport(fit, match(response, judges), match(response, judges, fit), len(judges))
    on_step("population")
    population = fit_population(
        pack, fitted_on, seed=seed, on_step=lambda done: on_step(f"population: iteration {done}")
    )
    calibration = Calibration(
        pack=pack.pack,
        pack_digest=pack.digest,
        as_of=as_of,
        rounds=sum(len(rounds) for rounds in fitted_on.values()),
        digest=read.digest,
        moments={m: r.fit.parameters for m, r in reports.items() if r.fit.parameters != ResponseParameters()},
        trait_means=population.trait_means,
    )
    told = cannot_tell(pack, list(responses), read, reports, population)
    return CalibrationReport(calibration, read, reports, population, told)


def simulated_responses(pack: Pack) -> dict[str, Response]:
    """The uncalibrated response of every one-step moment that simulated customers play."""
    responses = {}
    for moment in pack.moments:
        try:
            responses[moment] = Response.of(plan_moment(pack, moment))
        except (PackError, UnknownMomentError):
            continue
    return responses


def keep(home: Home, tracking: Tracking, report: CalibrationReport, *, held_out: float, seed: int) -> Path:
    """Records a calibration in MLflow, tables and pictures too, and writes the file that `load_calibration` reads."""
    made = report.calibration
    path = home.calibration / f"{made.pack}.json"
    with tracking.run(made.pack, "calibrate", tags={"window": made.digest, "pack_digest": made.pack_digest}) as run:
        run.params({"as_of": made.as_of.isoformat(), "rounds": made.rounds, "held_out": held_out, "seed": seed})
        run.metrics(metrics(report))
        tables = {
            "calibration": made,
            "parameters": report.parameters,
            "population": report.population,
            "match_before": {moment: told.before for moment, told in report.moments.items()},
            "match_after": {moment: told.after for moment, told in report.moments.items()},
            "fates": report.log.fates,
            "cannot_tell": report.cannot_tell,
        }
        for name, value in tables.items():
            run.table(value, name)
        _draw(run, report)
    save_calibration(path, made)
    return path


def metrics(report: CalibrationReport) -> dict[str, float]:
    """Every figure by name: parameters with errors, log-loss and calibration error before and after, misses."""
    told = {f"decisions/{fate}": float(n) for fate, n in report.log.counts.items()}
    for row in report.parameters:
        if row.identified:
            name = f"{row.moment}/{row.outcome}" + (f"/{row.action}" if row.action else "")
            kind = "offset" if row.action else "slope"
            told |= {f"{kind}/{name}": row.value, f"{kind}_error/{name}": row.standard_error}
    for trait in report.population.traits:
        if trait.identified:
            told |= {f"trait/{trait.trait}": trait.value, f"trait_error/{trait.trait}": trait.standard_error}
    for moment, of in report.moments.items():
        for when, matched in (("before", of.before), ("after", of.after)):
            for each in matched.reliability:
                told[f"log_loss_{when}/{moment}/{each.outcome}"] = each.log_loss
                told[f"calibration_error_{when}/{moment}/{each.outcome}"] = each.error
    for when, misses in zip(("before", "after"), report.misses(), strict=True):
        told |= {f"misses_{when}": float(misses.missed), f"judged_{when}": float(misses.judged)}
    return told


def cannot_tell(
    pack: Pack,
    simulated: list[str],
    log: OutcomeLog,
    reports: Mapping[str, MomentReport],
    population: PopulationFit,
) -> tuple[str, ...]:
    """What this log leaves open, a sentence each."""
    told = []
    absent = [moment for moment in pack.moments if moment not in simulated]
    if absent:
        told.append(f"{', '.join(absent)}: no one-step moment that the simulator plays; nothing was fitted")
    silent = [moment for moment in simulated if not len(log.rounds.get(moment, ()))]
    if silent:
        told.append(f"{', '.join(silent)}: no closed round that can be used; left as it was")
    for moment, report in reports.items():
        told += _unidentified(moment, report.fit)
        if not report.held_out:
            told.append(f"{moment}: no customer is held out; nothing was judged")
        told += _useless(moment, report)
    reasons: dict[str, list[str]] = {}
    for trait in population.traits:
        reasons.setdefault(trait.why.partition(" (")[0], []).append(trait.trait)
    told += [f"{', '.join(traits)}: {why}; left at 0" for why, traits in reasons.items() if why]
    gaps = [f"{m.moment}.{m.name}" for m in population.missing if abs(m.logged - m.simulated) > 0.1]
    if gaps:
        told.append(f"missing facts are not fitted, and their shares differ by more than 0.1: {_listed(gaps)}")
    off = [f"{m.moment}.{m.name}" for m in population.means if m.misses(m.after)]
    if len(off) > 0.1 * len(population.means):
        share = f"{len(off)} of {len(population.means)}"
        told.append(f"field means that no shift of traits explains: {share}, {_listed(off)}")
    told.append("how outcomes of one round depend on each other, and on earlier contacts, is the simulator's own")
    if log.counts["used_fallback"]:
        told.append("where the app's baseline acted, what it knew and did not log may show as an offset of that action")
    return tuple(told)


def _unidentified(moment: str, fit: ResponseFit) -> list[str]:
    """A sentence for every reason why parameters of an outcome stand at their prior."""
    told = []
    for outcome in dict.fromkeys(row.outcome for row in fit.table):
        rows = [row for row in fit.table if row.outcome == outcome]
        if not rows[-1].came:
            told.append(f"{moment}, {outcome}: never came in {rows[-1].rounds:,} rounds; does the app report it?")
            continue
        reasons: dict[str, list[str]] = {}
        for row in rows:
            named = (
                f"{row.action or 'slope'} ({row.rounds:,} rounds, came {row.came:,.0f}, simulated {row.expected:,.0f})"
            )
            reasons.setdefault(row.why, []).append(named)
        told += [f"{moment}, {outcome}: {', '.join(names)}: {why}" for why, names in reasons.items() if why]
    return told


def _useless(moment: str, report: MomentReport) -> list[str]:
    """A sentence where held-out rounds give no reason to prefer the calibrated response."""
    vain = [each for each in report.after.reliability if each.gain <= each.gain_half_width]
    names = [f"{each.outcome} ({each.gain:+.4f} +- {each.gain_half_width:.4f} nats a round)" for each in vain]
    return [f"{moment}: not shown to predict better than uncalibrated: {', '.join(names)}"] if names else []


def _check(read: OutcomeLog, responses: Mapping[str, Response], pack: Pack, log: Path) -> None:
    if not responses:
        raise EmptyLogError(
            f"simulated customers play no one-step moment of pack {pack.pack!r}",
            help="there is nothing to calibrate; policies of this pack learn from the log (nba train --from log)",
        )
    if not len(read):
        stands = ", ".join(f"{n} {fate}" for fate, n in read.counts.items()) or "no decision at all"
        raise EmptyLogError(
            f"no closed round of pack {pack.pack!r} before {read.as_of.isoformat()} in {log} ({stands})",
            help="let decisions be made and their reward windows close (nba simulate), or name another log (--log)",
        )


def _draw(run: Run, report: CalibrationReport) -> None:
    for moment, of in report.moments.items():
        if of.held_out:
            run.figure(plots.reliability(of.before, of.after), f"reliability_{moment}")
            run.figure(plots.by_action(of.before, of.after), f"by_action_{moment}")
    if report.population.means:
        run.figure(plots.field_means(report.population.means), "field_means")


def _misses(matched: Match) -> Misses:
    cells: tuple[Cell, ...] = matched.by_action + matched.by_segment
    return Misses.of(cells)


def _total(parts: list[Misses]) -> Misses:
    return Misses(int(np.sum([p.judged for p in parts])), int(np.sum([p.missed for p in parts])))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more
