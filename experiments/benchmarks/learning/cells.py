"""Figures that are kept as they come, so that a run that was cut short goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
MODELS = ("model", "linear", "quadratic", "relevance", "rff", "ensemble")  # those that the benchmarks are about
LEARNERS = (*(f"nba/models/{name}.py" for name in MODELS), "nba/explore")  # what decides what a policy learns
TRUTH = ("envs/batch.py", "envs/response.py", "envs/moments", "envs/dynamics")
SAVED_EVERY = 5.0  # seconds


class Cells:
    """Figures by a key of words, in a JSON file that names the code they came from; figures of other code are dropped.

    A file of None keeps nothing beyond the process.
    """

    def __init__(self, path: Path | None, extra: Iterable[Path] = ()) -> None:
        self.path, self.code = path, digest(extra)
        self._saved = time.monotonic()
        told = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self.found: dict[str, Any] = told.get("cells", {}) if told.get("code") == self.code else {}
        self.seconds: float = told.get("cpu_seconds", 0.0) if self.found else 0.0

    def get(self, key: tuple[Any, ...], measure: Callable[[], Any]) -> Any:
        """The figures of a key: those of the file, else measured now and written to it."""
        name = " | ".join(str(word) for word in key)
        if name not in self.found:
            started = time.process_time()
            self.found[name] = measure()
            self.seconds += time.process_time() - started
            if time.monotonic() > self._saved + SAVED_EVERY:
                self.save()
        return self.found[name]

    def save(self) -> None:
        """Writes the file, a line a key."""
        self._saved = time.monotonic()
        if self.path is None:
            return
        machine = f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"
        head = {"code": self.code, "machine": machine, "cpu_seconds": round(self.seconds)}
        lines = [f" {json.dumps(name)}: {json.dumps(figures)}" for name, figures in self.found.items()]
        told = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items())
        cells = ",\n".join(lines)
        self.path.write_text(f'{{{told},\n"cells": {{\n{cells}\n}}}}\n')


def digest(extra: Iterable[Path] = ()) -> str:
    """A hash of the source that figures depend on: learners, simulated truth, this benchmark's own files."""
    files = [ROOT / name for name in (*LEARNERS, *TRUTH)]
    sources = [*(p for f in files for p in ([f] if f.is_file() else sorted(f.rglob("*.py")))), *extra]
    whole = hashlib.sha256()
    for source in sources:
        whole.update(source.read_bytes())
    return whole.hexdigest()[:16]


def rounded(value: float) -> float:
    """Four digits behind the point of a share: a hundredth of a per cent."""
    return round(float(value), 4)
