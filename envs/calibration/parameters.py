"""What a calibration is: parameters of the simulator that were fitted to a log, and the file that keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import msgspec
import numpy as np
from msgspec import Struct

from envs.people import TRAITS, Array
from envs.response import Adjustment
from nba.errors import NbaError
from nba.pack import Pack

VERSION = 1  # of the file's layout


class CalibrationError(NbaError):
    """A calibration file is missing, damaged, or was fitted to another pack."""

    code = "bad_calibration"


class ResponseParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one moment's response departs from its equations, by the names of outcomes and actions.

        logit'(outcome | x, a) = offset[outcome, a] + slope[outcome] * logit(outcome | x, a)

    What is not named keeps offset 0 and slope 1, so a pack with fewer or more actions takes it too.
    """

    offsets: Mapping[str, Mapping[str, float]] = {}  # outcome -> action -> logits
    slopes: Mapping[str, float] = {}  # outcome -> factor

    def logits(self, outcomes: tuple[str, ...], actions: tuple[str, ...], table: Array) -> Array:
        """The changed logits (o, k, n): an `Adjustment` of `envs.response`."""
        slope = np.array([self.slopes.get(outcome, 1.0) for outcome in outcomes])
        named = [self.offsets.get(outcome, {}) for outcome in outcomes]
        offset = np.array([[of.get(action, 0.0) for action in actions] for of in named])
        changed: Array = offset[:, :, None] + slope[:, None, None] * table
        return changed


class Calibration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that was fitted to one log of one pack, and what it was fitted to."""

    version: int = VERSION
    pack: str
    pack_digest: str
    as_of: datetime  # the log was read as at this time
    rounds: int  # that it was fitted to
    digest: str  # SHA-256 of these rounds
    moments: Mapping[str, ResponseParameters]
    trait_means: Mapping[str, float]  # trait -> shift of its mean, in its standard deviations; others 0


class Settings(TypedDict):
    """Keyword arguments of `BatchMomentEnv`."""

    adjustments: tuple[Adjustment, ...]
    trait_means: Mapping[str, float]


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Writes it as JSON; the file appears whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.new")
    building.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n")
    building.replace(path)


def load_calibration(path: Path, pack: Pack) -> dict[str, Settings]:
    """For each moment of the pack what makes its environment a calibrated one.

        BatchMomentEnv(pack, moment, **load_calibration(path, pack)[moment])

    Raises CalibrationError as `read_calibration`.
    """
    read = read_calibration(path, pack)
    return {
        moment: Settings(
            adjustments=(read.moments[moment],) if moment in read.moments else (), trait_means=read.trait_means
        )
        for moment in pack.moments
    }


def read_calibration(path: Path, pack: Pack) -> Calibration:
    """The calibration in a file. Raises CalibrationError where it is not one, or not one of this very pack."""
    again = f"fit it anew: nba calibrate --pack {pack.pack}"
    try:
        read = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except OSError as error:
        raise CalibrationError(f"calibration {path} cannot be read: {error.strerror}", help=again) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(f"calibration {path} is damaged: {error}", help=again) from error
    if read.version != VERSION:
        raise CalibrationError(f"calibration {path} has layout {read.version}, known is {VERSION}", help=again)
    if read.pack != pack.pack:
        raise CalibrationError(f"calibration {path} is of pack {read.pack!r}, not of {pack.pack!r}", help=again)
    if read.pack_digest != pack.digest:
        raise CalibrationError(
            f"pack {pack.pack!r} has changed since calibration {path} was fitted "
            f"(was {read.pack_digest[:12]}, is {pack.digest[:12]})",
            help=f"{again}; or go back to the pack as it was",
        )
    wrong = next(_strange(read, pack), None)
    if wrong is not None:
        raise CalibrationError(f"calibration {path}: {wrong}", help=again)
    return read


def _strange(read: Calibration, pack: Pack) -> Iterator[str]:
    """What the file says that this pack and the simulator cannot mean."""
    for trait, shift in read.trait_means.items():
        if trait not in TRAITS:
            yield f"trait_means.{trait}: simulated customers have {', '.join(TRAITS)}"
        if not math.isfinite(shift):
            yield f"trait_means.{trait} is {shift}"
    for name, parameters in read.moments.items():
        if name not in pack.moments:
            yield f"moments.{name}: the pack has no such moment"
            continue
        yield from _strange_response(f"moments.{name}", parameters, pack, name)


def _strange_response(where: str, parameters: ResponseParameters, pack: Pack, name: str) -> Iterator[str]:
    moment = pack.moment(name)
    for outcome in [*parameters.offsets, *parameters.slopes]:
        if outcome not in moment.reward:
            yield f"{where}: the moment has no outcome {outcome!r}"
    for outcome, offsets in parameters.offsets.items():
        for action, offset in offsets.items():
            if action not in moment.action_ids:
                yield f"{where}.offsets.{outcome}: the moment has no action {action!r}"
            if not math.isfinite(offset):
                yield f"{where}.offsets.{outcome}.{action} is {offset}"
    for outcome, slope in parameters.slopes.items():
        if not math.isfinite(slope):
            yield f"{where}.slopes.{outcome} is {slope}"
