"""The pictures of these benchmarks. Each function returns a figure; the caller keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "quadratic+thompson": "#cb181d",
    "quadratic+square_cb": "#fb9a99",
    "linear+thompson": "#08519c",
    "rff+thompson": "#d95f02",
    "linear+square_cb": "#1b9e77",
    "linear+falcon": "#7570b3",
    "linear+epsilon": "#e7298a",
    "ensemble+thompson": "#a6761d",
}
STYLES = {"uniform": ":", "rules": "--", "context-free": "-."}


def curves(figures: Mapping[str, Any], yardsticks: Mapping[str, Mapping[str, float]]) -> Figure:
    """Mean regret over the decisions made so far, a panel a moment; bands reach from the lowest seed to the highest."""
    moments = list(next(iter(figures.values())))
    columns = min(5, len(moments))
    rows = -(-len(moments) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.6 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for panel, moment in zip(panels, moments, strict=False):
        for name, of in yardsticks.items():
            level = 100 * (1 - of[moment])
            panel.axhline(level, color="grey", linestyle=STYLES[name], linewidth=1.0, label=name)
        for kind, by_moment in figures.items():
            at = [int(mark) for mark in by_moment[moment][0]["regret"]]
            regret = 100 * np.array([list(seed["regret"].values()) for seed in by_moment[moment]])
            colour = COLOURS.get(kind, "black")
            panel.plot(at, regret.mean(axis=0), color=colour, linewidth=1.3, label=kind)
            panel.fill_between(at, regret.min(axis=0), regret.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        panel.set(xscale="log", ylim=(0, None), title=moment)
        plain(panel)
    for panel in panels[len(moments) :]:
        panel.set_axis_off()
    figure.supxlabel("decisions made", fontsize=9)
    figure.supylabel("mean regret so far, % of the oracle's value", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    return figure


def drifts(drift: Mapping[str, Mapping[str, Sequence[float]]], width: int) -> Figure:
    """Regret by time, a panel a kind of drift, a line a half-life; each figure over `width` decisions."""
    figure = Figure(figsize=(3.4 * len(drift), 3.2), layout="constrained")
    panels = figure.subplots(1, len(drift), squeeze=False, sharey=True).ravel()
    for panel, (name, lines) in zip(panels, drift.items(), strict=True):
        for (label, values), colour in zip(lines.items(), COLOURS.values(), strict=False):
            at = width * (0.5 + np.arange(len(values)))
            panel.plot(at, 100 * np.array(values), color=colour, linewidth=1.3, label=label)
        panel.set(title=name, xlabel="decisions made")
        plain(panel)
    panels[0].set_ylim(0, None)
    panels[0].set_ylabel("regret, % of the oracle's value", fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


def growth(costs: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> Figure:
    """Microseconds of a decision and of an update, over actions and over columns: costs[over][what][kind][size]."""
    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    panels = figure.subplots(2, 2)
    for row, (over, whats) in zip(panels, costs.items(), strict=True):
        for panel, (what, kinds) in zip(row, whats.items(), strict=True):
            for kind, of in kinds.items():
                sizes, times = [int(size) for size in of], list(of.values())
                panel.plot(sizes, times, marker="o", markersize=3, color=COLOURS.get(kind, "black"), label=kind)
            panel.set(xscale="log", yscale="log", xlabel=over, title=f"{what}, microseconds")
            plain(panel)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    return figure


def plain(panel: Axes) -> None:
    """Small type, no box."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.title.set_fontsize(9)
    panel.xaxis.label.set_fontsize(8)
    panel.tick_params(labelsize=7)
