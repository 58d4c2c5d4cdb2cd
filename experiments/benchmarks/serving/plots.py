"""The result as pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from servers import TARGETS
from tables import Found, middle, of

mpl.use("Agg")

import matplotlib.pyplot as plt


def draw(found: Found, folder: Path) -> None:
    """rates.png and, where it was measured, soak.png."""
    targets = [target.name for target in TARGETS if of(found, f"load | {target.name} | 16", "rate")]
    if targets:
        _rates(found, targets, folder / "rates.png")
    steps = [figures for name, figures in found.items() if name.startswith("soak | ")]
    if len(steps) > 1:
        _soak(steps, folder / "soak.png")


def _rates(found: Found, targets: list[str], path: Path) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(13, 0.45 * len(targets) + 1.5), sharey=True)
    titles = {"rate": "answers a second", "p99_ms": "p99, ms", "path_us": "CPU us an answer, without Redis"}
    for panel, (what, title) in zip(panels, titles.items(), strict=True):
        for i, n in enumerate((1, 16, 64)):
            values = [middle(of(found, f"load | {target} | {n}", what)) or 0.0 for target in targets]
            panel.barh([y + 0.27 * (i - 1) for y in range(len(targets))], values, 0.25, label=f"{n} connections")
        panel.set(xscale="log", title=title, yticks=range(len(targets)), yticklabels=targets)
    panels[0].invert_yaxis()
    panels[-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _soak(steps: list[dict[str, object]], path: Path) -> None:
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 6), sharex=True)
    minutes = [i / 2.0 for i in range(len(steps))]
    above.plot(minutes, [step["p99_ms"] for step in steps], label="p99")
    above.plot(minutes, [step["p50_ms"] for step in steps], label="p50")
    above.set(ylabel="ms", ylim=(0, None))
    above.legend()
    roles = sorted({role for step in steps for role in step["pss_mb"]})  # type: ignore[attr-defined]
    for role in roles:
        below.plot(minutes, [step["pss_mb"].get(role) for step in steps], label=role)  # type: ignore[attr-defined]
    below.set(ylabel="PSS, MB", xlabel="minutes", ylim=(0, None))
    below.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
