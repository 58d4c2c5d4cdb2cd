"""Pictures of learning and judging. Each function returns a figure; the caller keeps or logs it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def _bar(panel: Axes, estimate: Estimate | None, place: float, colour: str, label: str | None) -> None:
    if estimate is not None and np.isfinite([estimate.value, estimate.low, estimate.high]).all():
        panel.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2)
        panel.plot([estimate.value], [place], marker="o", color=colour, linestyle="none", label=label)


def _is_above(told: Estimates) -> bool:
    return told.lift is not None and told.lift.low > 0.0
