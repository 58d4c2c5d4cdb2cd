"""Figures that are kept as they come, so that a run that was cut goes on where it stopped."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Cells:
    """Figures by name in a JSON file, each with when it was measured and how busy the machine was."""

    def __init__(self, path: Path | None) -> None:
        told = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self.path, self.found = path, dict(told.get("cells", {}))

    def get(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The figures of that name: those of the file, else measured now and written to it."""
        if name not in self.found:
            at, load = datetime.now(UTC).isoformat(timespec="seconds"), os.getloadavg()[0]
            started = time.monotonic()
            figures = measure()
            self.found[name] = {
                **figures,
                "at": at,
                "load": round(load, 1),
                "took_s": round(time.monotonic() - started, 1),
            }
            self.save()
        return dict(self.found[name])

    def save(self) -> None:
        """Writes the file, a line a cell."""
        if self.path is None:
            return
        head = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"}
        lines = [f" {json.dumps(name)}: {json.dumps(figures)}" for name, figures in self.found.items()]
        told = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items())
        cells = ",\n".join(lines)
        self.path.write_text(f'{{{told},\n"cells": {{\n{cells}\n}}}}\n')
