"""A fault, what must come of it, and what came of it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ground import Ground


@dataclass(slots=True)
class Watch:
    """What was seen of one fault."""

    seen: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        """Something worth telling, once."""
        self.check(what, True)

    def check(self, what: str, holds: bool) -> None:
        """Something that must hold."""
        told = self.seen if holds else self.wrong
        if what not in told:
            told.append(what)


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table."""

    group: str
    name: str
    done: str  # how it is made to happen
    must: str  # what has to come of it
    inject: Callable[[Ground, Watch], None]


@dataclass(frozen=True, slots=True)
class Row:
    """The row, filled in."""

    group: str
    fault: str
    done: str
    must: str
    seen: str
    ok: bool
    seconds: float
    load: float  # of the machine, one-minute average, when it was done


def play(fault: Fault, ground: Ground) -> Row:
    """Injects a fault on a ground of its own."""

    def inject(watch: Watch) -> None:
        with ground:
            fault.inject(ground, watch)

    return attempt(fault, inject)


def attempt(fault: Fault, inject: Callable[[Watch], None]) -> Row:
    """The row of a fault that is injected so; an exception makes one that is not ok."""
    began, watch = time.monotonic(), Watch()
    try:
        inject(watch)
    except Exception as error:  # noqa: BLE001  # whatever it was, the other faults go on and the table says so
        watch.wrong.append(f"{type(error).__name__}: {error}"[:400])
    told = [f"NOT: {what}" for what in watch.wrong] + watch.seen
    seconds = round(time.monotonic() - began, 1)
    load = round(os.getloadavg()[0], 1)
    return Row(fault.group, fault.name, fault.done, fault.must, "; ".join(told), not watch.wrong, seconds, load)


def until(holds: Callable[[], bool], seconds: float, what: str) -> float:
    """Seconds until it holds. Raises TimeoutError."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)
    return time.monotonic() - began


def patient(seconds: float) -> float:
    """A bound that holds on a quiet machine; three times as long while more is running than there are cores."""
    return seconds * (1.0 if os.getloadavg()[0] <= (os.cpu_count() or 1) else 3.0)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else math.nan
