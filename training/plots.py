"""Pictures of learning and judging. Each function returns a figure; the caller keeps or logs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from envs.calibration.match import Match
from envs.calibration.population import FieldMean
from envs.calibration.rounds import Z95
from envs.report import EnvironmentReport
from nba.ope import Estimate
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from training.evaluate import Estimates, Evaluation
from training.learn import Learned
from training.truth import Yardsticks

_LINES = (("oracle", "black", "-"), ("context_free", "tab:brown", ":"), ("rules", "tab:green", "--"))
_NEW, _OLD = "tab:blue", "tab:orange"


def learning_curve(learned: Learned, yardsticks: Mapping[str, Yardsticks]) -> Figure:
    """True value by rounds learned from, a panel a moment, with uniform, rules, context-free best and oracle."""
    moments = list(dict.fromkeys(step.moment for step in learned.curve))
    columns = min(3, len(moments))
    rows = -(-len(moments) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.0 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, moment in zip(panels, moments, strict=False):
        steps = [step for step in learned.curve if step.moment == moment]
        panel.plot(
            [s.rounds for s in steps], [s.value for s in steps], marker="o", ms=3, color=_NEW, label=learned.kind
        )
        for name, colour, style in (*_LINES, ("uniform", "tab:grey", "--")):
            level = getattr(yardsticks[moment], name)
            panel.axhline(level, color=colour, linestyle=style, linewidth=1.2, label=name.replace("_", "-"))
        panel.set_title(moment, fontsize=10)
        panel.set_xlabel("rounds", fontsize=9)
        panel.tick_params(labelsize=8)
    for panel in panels[len(moments) :]:
        panel.set_axis_off()
    panels[0].set_ylabel("expected reward a round", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=9, frameon=False)
    return figure


def estimates(evaluation: Evaluation) -> Figure:
    """Forest plot: challenger and champion over all moments and by moment, doubly robust, and the lift between them.

    Below the first row the challenger's whole by the other estimators: where they disagree, look before promoting.
    """
    overall = evaluation.overall
    others = {"by ips": overall.ips, "by snips": overall.snips, "by direct method": overall.direct_method}
    names = ["all moments", *others, *evaluation.moments]
    figure = Figure(figsize=(8.0, 1.5 + 0.5 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, name in enumerate(names):
        if name in others:
            _bar(left, others[name], place, "tab:cyan", "other estimators" if place == 1 else None)
            continue
        told = overall if not place else evaluation.moments[name]
        _bar(left, told.doubly_robust, place - 0.14, _NEW, "challenger" if not place else None)
        _bar(left, told.champion, place + 0.14, _OLD, "champion" if not place else None)
        _bar(right, told.lift, place, _NEW if _is_above(told) else "tab:grey", None)
    true = [(evaluation.truth[m].challenger, names.index(m)) for m in evaluation.moments if m in evaluation.truth]
    if true:
        values, places = zip(*true, strict=True)
        left.plot(values, np.array(places) - 0.14, marker="x", color="black", linestyle="none", label="true value")
    right.axvline(0.0, color="black", linewidth=0.8)
    for panel, title in ((left, "value, reward a round"), (right, "lift over the champion")):
        panel.set_yticks(range(len(names)), names if panel is left else [])
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_title(title, fontsize=10)
        panel.tick_params(labelsize=8)
        panel.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def weights(challenger: Snapshot, rounds: Mapping[str, LoggedRounds]) -> Figure:
    """How the challenger's importance weights are spread, a line a moment: long tails make estimates uncertain."""
    figure = Figure(figsize=(6.0, 3.4), layout="constrained")
    panel = figure.subplots()
    for moment, logged in rounds.items():
        if len(logged):
            target = challenger.policies[moment].distribution(logged.contexts, logged.mask)
            w = target[np.arange(len(logged)), logged.actions] / logged.propensities
            ordered = np.sort(np.maximum(w, 1e-3))
            panel.step(ordered, 1.0 - np.arange(len(w)) / len(w), where="post", label=f"{moment} (mean {w.mean():.2f})")
    panel.axvline(1.0, color="black", linewidth=0.8)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("importance weight", fontsize=9)
    panel.set_ylabel("share of rounds at or above", fontsize=9)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8, frameon=False)
    return figure


def reliability(before: Match, after: Match) -> Figure:
    """Observed share over simulated probability by tenths of the held-out rounds, a panel an outcome of one moment."""
    figure = Figure(figsize=(3.6 * len(after.reliability), 3.8), layout="constrained")
    panels = figure.subplots(1, len(after.reliability), squeeze=False).ravel()
    for panel, old, new in zip(panels, before.reliability, after.reliability, strict=True):
        for each, colour, label in ((old, _OLD, "before"), (new, _NEW, "calibrated")):
            points = [(b.simulated, b.observed) for b in each.bins]
            panel.plot(*zip(*points, strict=True), marker="o", ms=4, color=colour, label=label)
        most = max(max(b.simulated, b.observed) for each in (old, new) for b in each.bins)
        panel.plot([0.0, most], [0.0, most], color="black", linewidth=0.8)
        panel.set_title(f"{new.moment}: {new.outcome}", fontsize=10)
        panel.set_xlabel("simulated probability", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("observed share", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def by_action(before: Match, after: Match) -> Figure:
    """Observed and simulated rates of one moment by action, a panel an outcome, with the interval of the difference."""
    outcomes = list(dict.fromkeys(cell.outcome for cell in after.by_action))
    actions = list(dict.fromkeys(cell.group for cell in after.by_action))
    figure = Figure(figsize=(3.6 * len(outcomes) + 1.0, 1.6 + 0.4 * len(actions)), layout="constrained")
    panels = figure.subplots(1, len(outcomes), squeeze=False).ravel()
    for panel, outcome in zip(panels, outcomes, strict=True):
        for old, new in zip(before.by_action, after.by_action, strict=True):
            if new.outcome == outcome:
                place, half = actions.index(new.group), new.half_width if new.judged else 0.0
                panel.plot([new.observed - half, new.observed + half], [place, place], color="grey", linewidth=2)
                panel.plot(new.observed, place, marker="o", color="black", linestyle="none", label="observed")
                panel.plot(old.simulated, place, marker="x", color=_OLD, linestyle="none", label="before")
                panel.plot(new.simulated, place, marker="x", color=_NEW, linestyle="none", label="calibrated")
        panel.set_yticks(range(len(actions)), actions if panel is panels[0] else [])
        panel.set_ylim(len(actions) - 0.5, -0.5)
        panel.set_title(f"{after.by_action[0].moment}: {outcome}", fontsize=10)
        panel.tick_params(labelsize=8)
        panel.grid(axis="x", alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[:3], labels[:3], loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def field_means(means: Sequence[FieldMean]) -> Figure:
    """How far simulated field means are from the logged ones before and after, in standard errors; grey is 95 %."""
    figure = Figure(figsize=(7.0, 1.2 + 0.22 * len(means)), layout="constrained")
    panel = figure.subplots()
    places = range(len(means))
    panel.axvspan(-Z95, Z95, color="lightgrey")
    for colour, label in ((_OLD, "before"), (_NEW, "after")):
        away = [(getattr(mean, label) - mean.logged) / mean.standard_error for mean in means]
        panel.plot(away, places, marker="o", ms=4, linestyle="none", color=colour, label=label)
    panel.set_xscale("symlog", linthresh=5.0)
    farthest = max(max(abs(m.before - m.logged), abs(m.after - m.logged)) / m.standard_error for m in means)
    reach = max(6.0, 1.1 * farthest)
    panel.set_xlim(-reach, reach)
    panel.set_yticks(places, [f"{mean.moment}: {mean.name}" for mean in means])
    panel.set_ylim(len(means) - 0.5, -0.5)
    panel.set_xlabel("simulated minus logged mean, standard errors", fontsize=9)
    panel.tick_params(labelsize=7)
    panel.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def _bar(panel: Axes, estimate: Estimate | None, place: float, colour: str, label: str | None) -> None:
    if estimate is not None and np.isfinite([estimate.value, estimate.low, estimate.high]).all():
        panel.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2)
        panel.plot([estimate.value], [place], marker="o", color=colour, linestyle="none", label=label)


def _is_above(told: Estimates) -> bool:
    return told.lift is not None and told.lift.low > 0.0


def environments(reports: Sequence[EnvironmentReport]) -> Figure:
    """A panel an environment: what policies of every kind earn, with 95 % intervals; a session's bound as a line."""
    columns = 3
    rows = -(-len(reports) // columns)
    figure = Figure(figsize=(4.4 * columns, 1.9 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, each in zip(panels, reports, strict=False):
        names = list(each.values)
        values = [each.values[name].value for name in names]
        spread = [1.96 * each.values[name].standard_error for name in names]
        colours = [_NEW if name == "oracle" else "tab:grey" for name in names]
        panel.barh(range(len(names)), values, xerr=spread, color=colours, height=0.7)
        panel.set_yticks(range(len(names)), [name.replace("_", "-") for name in names])
        panel.invert_yaxis()
        if each.bound is not None:
            panel.axvline(each.bound, color="black", linestyle="--", linewidth=1.0)
        sign = "" if each.claims else ", no claim"
        panel.set_title(f"{each.env_id.removeprefix('nba/')} ({each.margin:+.0%}{sign})", fontsize=9)
        panel.tick_params(labelsize=7)
        panel.grid(axis="x", alpha=0.3)
    for panel in panels[len(reports) :]:
        panel.set_axis_off()
    return figure
