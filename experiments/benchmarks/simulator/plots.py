"""The two pictures: decisions a second of every id against the goals, and how cost grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

GREYS = {"scalar as made": "#9a9a9a", "256": "#9ecae1", "4096": "#3182bd", "16384": "#08519c"}


def draw(result: dict[str, Any], folder: Path, goals: dict[str, float], ratio: float) -> None:
    """Writes steps.png and growth.png, each where the result has its part."""
    folder.mkdir(parents=True, exist_ok=True)
    if "ids" in result:
        _steps(result["ids"], folder / "steps.png", goals, ratio)
    if "growth" in result:
        _growth(result["growth"], folder / "growth.png")


def _steps(ids: dict[str, Any], path: Path, goals: dict[str, float], ratio: float) -> None:
    figure, axes = plt.subplots(figsize=(11, 5))
    forms = ["scalar as made", *(n for n in ("256", "4096", "16384") if n in next(iter(ids.values()))["batched"])]
    width, x = 0.8 / len(forms), np.arange(len(ids))
    for i, form in enumerate(forms):
        of = [one["scalar_as_made"] if form == forms[0] else one["batched"][form] for one in ids.values()]
        middle = np.array([rate["median"] for rate in of])
        error = np.abs(np.array([[rate["low"], rate["high"]] for rate in of]).T - middle)
        label = form if i == 0 else f"batched, {int(form):,}"
        axes.bar(x + (i - (len(forms) - 1) / 2) * width, middle, width, yerr=error, color=GREYS[form], label=label)
    scalar = np.array([one["scalar_as_made"]["median"] for one in ids.values()])
    axes.hlines(ratio * scalar, x - 0.45, x + 0.45, colors="#d95f02", label=f"{ratio:.0f} times scalar as made")
    for kind, style in (("moment", "--"), ("session", ":")):
        at = [i for i, one in enumerate(ids.values()) if one["kind"] == kind]
        if at:
            label = f"goal of a {kind}, {goals[kind]:,.0f}"
            axes.hlines(goals[kind], at[0] - 0.5, at[-1] + 0.5, colors="black", linestyles=style, label=label)
    axes.set_yscale("log")
    axes.set_ylabel("decisions a CPU second, one core")
    axes.set_xticks(x, [id_.removeprefix("nba/").removesuffix("-v0") for id_ in ids], rotation=30, ha="right")
    axes.legend(fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _growth(growth: dict[str, Any], path: Path) -> None:
    figure, (wide, actions) = plt.subplots(1, 2, figsize=(11, 4.5))
    for what, of in growth.items():
        axes = actions if "actions" in what else wide
        label = f"{what}: {of['exponent_at_the_end']:.2f}"
        style = "--" if "population" in what or "of the pack" in what else "-"
        color = "#3182bd" if what.startswith("moment") else "#d95f02"
        axes.plot(of["sizes"], of["us_a_call"], style, marker="o", markersize=3, color=color, label=label)
    _proportional(wide, growth["moment, environments"])
    _proportional(actions, growth["moment, actions of its own law"])
    wide.set_xlabel("environments, or customers of the population")
    actions.set_xlabel("actions, of 1,024 environments")
    for axes in (wide, actions):
        axes.set(xscale="log", yscale="log", ylabel="microseconds a call of step")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False, title="with the exponent at the end", title_fontsize=7)
    _save(figure, path)


def _proportional(axes: Axes, of: dict[str, Any]) -> None:
    """A line of exponent 1 through the last point."""
    sizes = np.array(of["sizes"], dtype=np.float64)
    axes.plot(sizes, of["us_a_call"][-1] * sizes / sizes[-1], color="#bbbbbb", linewidth=0.8, zorder=0, label="linear")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
