"""The two pictures of the classification sets: every method's loss, and loss against the time of a decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures import plain
from matplotlib.figure import Figure

FAMILIES = {"VW": "#7570b3", "coba": "#1b9e77", "MABWiser": "#a6761d", "contextualbandits": "#e7298a"}
FAMILIES |= {"bayesianbandits": "#66a61e", "river": "#d95f02", "gittins": "#777777"}
OURS = "#08519c"


def losses(methods: Mapping[str, Any]) -> Figure:
    """Mean loss with its interval, the lowest on top; ours in blue."""
    rows = sorted(methods.items(), key=lambda row: -row[1]["loss"])
    figure = Figure(figsize=(8.0, 0.26 * len(rows) + 1.0), layout="constrained")
    panel = figure.subplots()
    for place, (label, of) in enumerate(rows):
        panel.barh(place, of["loss"], color=colour(label), alpha=0.75)
        if of["low"] is not None:
            panel.plot([of["low"], of["high"]], [place, place], color="black", linewidth=1.5)
    panel.set_yticks(range(len(rows)), [label for label, _ in rows])
    panel.set_xlabel("share of wrong actions in 4,000 rounds, mean of the sets; line: 95 % over seeds")
    plain(panel)
    return figure


def losses_by_time(methods: Mapping[str, Any]) -> Figure:
    """Mean loss over microseconds of CPU a decision and a round learned from, both on a logarithmic axis."""
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    for panel, time in zip(figure.subplots(1, 2, sharey=True), ("decide_us", "update_us"), strict=True):
        for label, of in methods.items():
            panel.plot(of[time], of["loss"], marker="o", linestyle="", markersize=4, color=colour(label))
            panel.annotate(
                label, (of[time], of["loss"]), fontsize=5.5, xytext=(3, 2), textcoords="offset points", color="#444444"
            )
        panel.set(xscale="log", xlabel=f"microseconds to {'decide' if time == 'decide_us' else 'learn from a round'}")
        plain(panel)
    figure.supylabel("mean loss", fontsize=8)
    return figure


def colour(label: str) -> str:
    """That of a method's family."""
    return FAMILIES.get(label.split()[0], OURS)
