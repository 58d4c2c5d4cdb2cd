"""Experiments are scripts, not a package: a module is loaded from its own folder, whose neighbours it names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def load(folder: str, name: str) -> Any:
    """A module of an experiment, as its folder sees it; two folders may have modules of one name."""
    here = str(EXPERIMENTS / folder)
    before = dict(sys.modules)
    sys.path.insert(0, here)
    try:
        for neighbour in (EXPERIMENTS / folder).glob("*.py"):
            sys.modules.pop(neighbour.stem, None)
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)
        for neighbour in (EXPERIMENTS / folder).glob("*.py"):
            sys.modules.pop(neighbour.stem, None)
            if neighbour.stem in before:
                sys.modules[neighbour.stem] = before[neighbour.stem]
