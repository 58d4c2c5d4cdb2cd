"""The part of a log that the claims are rebuilt from: what is not too old to be asked for again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from nba.errors import LogError
from nba.log.index import Index, index_of
from nba.log.reader import LogReport, read_at, read_segment
from nba.log.segment import segments
from nba.log.shipped import read_shipped
from nba.records import Record


def recent_records(folder: Path, since: datetime) -> Iterator[Record]:
    """Every decision and report since then, every statement of consent, and a decision of the highest epoch.

    Segments that are older are left out whole, by their index, so others of a segment's time may come along. Asks an
    archive only for what it alone has of this. Raises LogError.
    """
    highest = -1  # epoch of the segments that are read whole
    old: dict[Path, Index] = {}
    for path in segments(folder):
        index = _index(path)
        if index is not None and (index.summary.latest is None or index.summary.latest < since):
            old[path] = index
        else:
            highest = max(highest, -1 if index is None else index.summary.epoch)
            yield from read_segment(path, LogReport())
    for path, index in old.items():
        yield from _consents(path, index)
    newest = max(old, key=lambda path: old[path].summary.epoch, default=None)
    if newest is not None and old[newest].summary.epoch > highest:
        position = old[newest].summary.epoch_at
        yield from _read(newest, [] if position is None else [position])


def _index(path: Path) -> Index | None:
    """The segment's index; None while it is being written, or where it is gone since the listing."""
    try:
        return index_of(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LogError(f"segment {path} cannot be read: {error}", help="see to its owner and its disk") from error


def _consents(path: Path, index: Index) -> Iterator[Record]:
    shipped = None if path.exists() else read_shipped(path)
    if shipped is not None:
        yield from shipped.consents
    else:
        yield from _read(path, index.consents())


def _read(path: Path, positions: list[int]) -> Iterator[Record]:
    try:
        yield from read_at(path, positions)
    except OSError as error:
        raise LogError(f"segment {path} cannot be read: {error}", help="see to its owner and its disk") from error
