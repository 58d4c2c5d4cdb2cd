"""The result as tables in Markdown, as README.md has them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from servers import BATCHES, TARGETS

LANE, INGRESS = "ours, lane", "ours, ingress"
# says, ours, what it is held against, connections, figure, goal
GOALS = (
    ("ingress, of the no-op there: rate at 16", INGRESS, "ingress, no-op", 16, "rate", 0.6),
    ("ingress, of the no-op there: rate at 64", INGRESS, "ingress, no-op", 64, "rate", 0.6),
    ("lane, of bare uvicorn's no-op: answers a CPU second at 16", LANE, "uvicorn, no-op", 16, "path_us", 0.25),
    ("lane, of bare uvicorn's no-op: answers a CPU second at 64", LANE, "uvicorn, no-op", 64, "path_us", 0.25),
)
Found = dict[str, dict[str, Any]]


def show(found: Found) -> None:
    """The tables."""
    for table in (_loads, _goals, _open, _batches, _replicas, _memory, _stages, _inside, _growth, _soak, _absent):
        table(found)


def of(found: Found, start: str, what: str) -> list[float]:
    """One figure of every repetition of a cell."""
    cells = [figures for name, figures in found.items() if name.startswith(f"{start} | ")]
    return [figures[what] for figures in cells if figures.get(what) is not None]


def middle(values: Sequence[float]) -> float | None:
    """Their median; None of none."""
    return statistics.median(values) if values else None


def _loads(found: Found) -> None:
    counts = sorted({int(name.split(" | ")[2]) for name in found if name.startswith("load | ")})
    if not counts:
        return
    loads = [f["load"] for name, f in found.items() if name.startswith("load | ")]
    print(f"\nClosed loop, medians; load of the machine {min(loads)} to {max(loads)}\n")
    heads = [f"{what} at {n}" for what in ("a second", "p50 ms", "p99 ms", "CPU us") for n in counts]
    _row("target", *heads, "Redis us")
    _row(*["---"] * (4 * len(counts) + 2))
    for target in TARGETS:
        starts = [f"load | {target.name} | {n}" for n in counts]
        if of(found, starts[0], "rate"):
            figures = [_n(middle(of(found, s, w))) for w in ("rate", "p50_ms", "p99_ms", "path_us") for s in starts]
            redis = [c.get("redis", 0.0) for n, f in found.items() if n.startswith(starts[-1]) for c in [f["cpu_us"]]]
            _row(target.name, *figures, _n(middle(redis)))


def _goals(found: Found) -> None:
    """Ratios repetition by repetition, within one run."""
    lines: list[tuple[str, list[float], str, bool]] = []
    for says, ours, theirs, n, what, goal in GOALS:
        pairs = _pairs(found, f"load | {ours} | {n}", f"load | {theirs} | {n}", what)
        ratios = [b / a if what == "path_us" else a / b for a, b in pairs if a and b]
        lines.append((says, ratios, f"at least {goal:g}", (middle(ratios) or 0.0) >= goal))
    p99 = [a / b for a, b in _pairs(found, f"load | {INGRESS} | 16", "load | ingress, no-op | 16", "p99_ms")]
    lines.append(("ingress, to the no-op there: p99 at 16", p99, "at most 2", (middle(p99) or 3.0) <= 2.0))
    for where in (LANE, INGRESS):
        pairs = _pairs(found, f"batch | {where}, 100 at once | 1", f"load | {where} | 1", "rate")
        times = [100.0 * a / b for a, b in pairs if b]
        says = f"{where.removeprefix('ours, ')}, a batch of 100 to one connection: decisions a second"
        lines.append((says, times, "at least 20", (middle(times) or 0.0) >= 20.0))
    lines = [line for line in lines if line[1]]
    if lines:
        print("\nAgainst the goals\n")
        _row("ours", "median", "lowest", "highest", "goal", "")
        _row(*["---"] * 6)
    for says, ratios, wanted, met in lines:
        _row(says, *(_n(of_(ratios)) for of_ in (statistics.median, min, max)), wanted, "met" if met else "missed")


def _pairs(found: Found, one: str, other: str, what: str) -> list[tuple[float, float]]:
    places = [name.rsplit(" | ", 1)[1] for name in found if name.startswith(f"{one} | ")]
    return [(found[f"{one} | {i}"][what], found[f"{other} | {i}"][what]) for i in places if f"{other} | {i}" in found]


def _open(found: Found) -> None:
    lines = [(target, found.get(f"open | {target.name} | 64 | 0")) for target in TARGETS]
    if any(figures for _, figures in lines):
        print("\nOpen loop, at half of its own rate at 16; latency from when a request came\n")
        _row("target", "asked a second", "answered a second", "p50 ms", "p99 ms", "CPU us")
        _row(*["---"] * 6)
    for target, figures in lines:
        if figures:
            _row(target.name, *(_n(figures[w]) for w in ("asked_rate", "rate", "p50_ms", "p99_ms", "path_us")))


def _batches(found: Found) -> None:
    if any(name.startswith("batch | ") for name in found):
        print("\nMany decisions in one request, one connection\n")
        _row("target", "decisions a second", "p50 ms", "p99 ms", "CPU us a decision", "Redis us a decision")
        _row(*["---"] * 6)
    for target in BATCHES:
        start, n = f"batch | {target.name} | 1", int(target.kind.removeprefix("batch-"))
        rates = of(found, start, "rate")
        if rates:
            redis = [f["cpu_us"].get("redis", 0.0) / n for name, f in found.items() if name.startswith(start)]
            p50, p99 = (_n(middle(of(found, start, what))) for what in ("p50_ms", "p99_ms"))
            cpu = middle(of(found, start, "path_us"))
            _row(target.name, _n(statistics.median(rates) * n), p50, p99, _n(cpu and cpu / n), _n(middle(redis)))


def _replicas(found: Found) -> None:
    if any(name.startswith("replicas 2 | ") for name in found):
        print("\nReplicas, 64 connections: answers a second\n")
        _row("target", "one", "two", "times")
        _row(*["---"] * 4)
        for target in [target for target in TARGETS if target.server == "ray"]:
            one, two = (middle(of(found, f"{w} | {target.name} | 64", "rate")) for w in ("load", "replicas 2"))
            _row(target.name, _n(one), _n(two), _n(two / one if one and two else None))


def _memory(found: Found) -> None:
    names = [name.split(" | ")[1] for name in found if name.startswith("cold start | ")]
    if names:
        print("\nMemory after the loads (PSS, MB) and seconds from start to first answer\n")
        _row("server", "MB in all", "by role", "cold start s")
        _row("---", "---", "---", "---")
    for name in names:
        roles = {k: v for k, v in found.get(f"memory | {name}", {}).items() if k not in ("at", "load", "took_s")}
        by_role = ", ".join(f"{role} {mb:.0f}" for role, mb in roles.items())
        _row(name, _n(sum(roles.values()) or None), by_role, _n(found[f"cold start | {name}"]["seconds"]))


def _stages(found: Found) -> None:
    told = {name.split(" | ")[1]: figures["us"] for name, figures in found.items() if name.startswith("stages | ")}
    if told:
        print("\nOne decision, CPU microseconds, so many together\n")
        _row("stage", *told)
        _row(*["---"] * (len(told) + 1))
        for stage in next(iter(told.values())):
            _row(stage, *(_n(us[stage]) for us in told.values()))


def _inside(found: Found) -> None:
    told = {name.split(" | ")[1]: figures["us"] for name, figures in found.items() if name.startswith("inside | ")}
    if told:
        print("\nThe whole of a decision without sockets, CPU microseconds, log's writer and all, without Redis\n")
        _row(*(f"{name} at once" if name.isdigit() else name for name in told))
        _row(*["---"] * len(told))
        _row(*(_n(us) for us in told.values()))


def _growth(found: Found) -> None:
    lines = [(name.split(" | ")[1:], figures) for name, figures in found.items() if name.startswith("growth | ")]
    if lines:
        print("\nGrowth, CPU microseconds a decision\n")
        _row("of", "to", "alone", "16 at once", "in a batch of 100", "start s")
        _row(*["---"] * 6)
    for (what, to), figures in lines:
        _row(what, to, *(_n(figures.get(w)) for w in ("alone_us", "at_16_us", "in_100_us", "start_s")))


def _soak(found: Found) -> None:
    steps = [figures for name, figures in found.items() if name.startswith("soak | ")]
    if steps:
        print("\nSoak, 16 connections, steps of half a minute\n")
        _row("step", "a second", "p50 ms", "p99 ms", "CPU us", "PSS MB")
        _row(*["---"] * 6)
    for i, figures in enumerate(steps):
        figures_ = [_n(figures[w]) for w in ("rate", "p50_ms", "p99_ms", "path_us")]
        _row(str(i), *figures_, ", ".join(f"{k} {v:.0f}" for k, v in figures["pss_mb"].items()))


def _absent(found: Found) -> None:
    for name, figures in found.items():
        if name.startswith("absent | "):
            print(f"\n{name.split(' | ')[1]}: absent ({figures['why']})")


def _n(value: float | None) -> str:
    """Three digits, thousands apart."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |")
