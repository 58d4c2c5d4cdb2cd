"""Breaks a server in every way we know, and proves each time that nothing it acknowledged is lost or wrong.

    python experiments/chaos/run.py --json result.json --markdown README.md     make chaos

Groups, of which --only picks some:

    replicas   replicas without Ray killed under load
    races      one id, and reports of it, on two replicas at once
    power      the log's disk as it may look after the power went, read back
    redis      Redis killed, hung, slow, emptied, back with older data
    disk       full, failing, torn
    policies   MLflow down or locked, artefacts cut short or of another pack, swaps under load
    requests   slow, half and huge bodies, more than is admitted, little memory
    facts      a clock that jumps, stored features that are rubbish
    cluster    real Ray Serve: replicas, ingress and controller killed, promotion and redeploy under load

Each fault has a home, a Redis and ports of its own below one folder, which goes at the end where all went well.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy

import argparse
import json
import logging
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cluster
import disk
import facts
import misuse
import policies
import power
import replicas
import stores
from fault import Fault, Row, play
from ground import Ground
from rich.console import Console
from rich.table import Table

GROUPS = ("replicas", "races", "power", "redis", "disk", "policies", "requests", "facts", "cluster")
BEGIN, END = "<!-- result -->", "<!-- end of result -->"
out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def main() -> None:
    """Plays the faults, prints the table, writes what it was asked to write; exit code 1 where one went wrong."""
    asked = _arguments().parse_args()
    logging.getLogger("nba.log.writer").setLevel(logging.CRITICAL)  # that syncs fail is what it is for
    wanted = asked.only or list(GROUPS)
    folder = Path(tempfile.mkdtemp(prefix="nba-chaos-", dir="/tmp"))
    told, began, rows = about(), time.monotonic(), list[Row]()
    for row in played(asked, wanted, folder):
        rows.append(row)
        out.print(f"    {'[green]ok[/]' if row.ok else '[red]NOT OK[/]'} in {row.seconds:.0f} s: ", end="")
        out.print(row.seen, markup=False)
    result = {**told, "seconds": round(time.monotonic() - began), "rows": [asdict(row) for row in rows]}
    show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")
    if asked.markdown:
        _write_into(asked.markdown, markdown(result))
    if all(row.ok for row in rows):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        out.print(f"files are kept in {folder}")
    sys.exit(0 if all(row.ok for row in rows) else 1)


def played(asked: argparse.Namespace, wanted: list[str], folder: Path) -> Iterator[Row]:
    """The rows, each once it is there."""
    faults = [fault for fault in all_faults(asked) if fault.group in wanted]
    for i, fault in enumerate(faults, 1):
        out.print(f"{i:>3}/{len(faults)} {fault.group}: {fault.name} ...")
        yield play(fault, Ground(folder / f"{i:02}"))
    if "cluster" in wanted:
        out.print("Ray Serve, for some rows at once ...")
        yield from cluster.rows(Ground(folder / "ray"), 2 if asked.quick else 15)


def all_faults(asked: argparse.Namespace) -> list[Fault]:
    """Every fault that has a ground of its own, in the order of the groups."""
    quick = asked.quick
    return [
        replicas.kills(asked.kills if asked.kills is not None else 4 if quick else 85),
        *replicas.RACES,
        *power.faults(20 if quick else 200),
        *stores.FAULTS,
        *disk.FAULTS,
        *policies.FAULTS,
        *misuse.FAULTS,
        *facts.FAULTS,
    ]


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=GROUPS, help="this group; may be repeated (default: all)")
    parser.add_argument("--quick", action="store_true", help="few kills and images: whether it runs")
    parser.add_argument("--kills", type=int, help="of replicas without Ray (default: 85)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table into this file, between its marks"
    )
    return parser


def about() -> dict[str, Any]:
    """When and where this is run."""
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {system}",
        "load": round(os.getloadavg()[0], 1),
    }


def show(result: dict[str, Any]) -> None:
    """The table, for a person."""
    bad = sum(not row["ok"] for row in result["rows"])
    title = f"{len(result['rows'])} faults in {result['seconds']} s, {bad} not ok"
    table = Table(title=title, show_lines=True)
    for column in ("fault", "must", "seen", "ok", "s"):
        table.add_column(column, ratio={"seen": 4, "must": 3, "fault": 2}.get(column))
    for row in result["rows"]:
        ok = "[green]ok[/]" if row["ok"] else "[red]no[/]"
        table.add_row(row["fault"], row["must"], row["seen"].replace("[", r"\["), ok, f"{row['seconds']:.0f}")
    out.print(table)


def markdown(result: dict[str, Any]) -> str:
    """The table as README.md has it."""
    rows = result["rows"]
    lines = [
        f"{result['taken']}, {result['machine']}, load at the start {result['load']}; "
        f"{len(rows)} faults in {result['seconds']} s, {sum(not row['ok'] for row in rows)} not ok.",
        "",
        "| fault | done | must | seen | ok | s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["fault"], row["done"], row["must"], row["seen"], "yes" if row["ok"] else "**no**", row["seconds"]]
        lines.append("| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def _write_into(path: Path, table: str) -> None:
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


if __name__ == "__main__":
    main()
