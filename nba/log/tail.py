"""Reads a log that grows: each time only what came since, and up to a place told before where one is resumed.

A writer begins its next segment once the one before is sealed, so one place a writer says what was read of all of its
segments. A frame that is not whole yet stays unread; it is taken once it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from nba.errors import LogError
from nba.log.reader import LogReport, decode_frame
from nba.log.segment import Damage, Frame, scan, segments
from nba.log.shipped import open_segment, segment_size
from nba.records import Record

_NUMBERED = re.compile(r"(?P<writer>.+)-(?P<number>[0-9]{6,})\.seg")


class Place(Struct, frozen=True):
    """How far one writer's segments were read: all before `number`, and that one up to `position`."""

    number: int
    position: int  # bytes


Places = Mapping[str, Place]  # writer -> its place
START = Place(0, 0)


class Tail:
    """A reader of one log folder that goes on where it stopped."""

    def __init__(self, folder: Path, report: LogReport | None = None) -> None:
        self._folder = folder
        self._report = LogReport() if report is None else report
        self._places: dict[str, Place] = {}

    @property
    def places(self) -> dict[str, Place]:
        """How far it has read; writers whose segments are gone are left out."""
        here = by_writer(self._folder)
        return {writer: place for writer, place in self._places.items() if writer in here}

    def read(self, until: Places | None = None) -> Iterator[Record]:
        """Every whole record since the last reading; with `until`, only what had been read at those places.

        To be read to its end: a segment left in the middle is read again. Raises LogError where one cannot be read.
        """
        for writer, paths in by_writer(self._folder).items():
            end = None if until is None else until.get(writer, START)
            for number, path in sorted(paths.items()):
                place = self._places.get(writer, START)
                if number < place.number or (end is not None and number > end.number):
                    continue
                start = place.position if number == place.number else 0
                stop = end.position if end is not None and number == end.number else None
                yield from self._segment(writer, number, path, start, stop)

    def _segment(self, writer: str, number: int, path: Path, start: int, stop: int | None) -> Iterator[Record]:
        position = start
        try:
            if segment_size(path) > start:
                with open_segment(path) as file:
                    file.seek(start)
                    for found in scan(file):
                        if stop is not None and start + found.position >= stop:
                            break
                        if isinstance(found, Frame):
                            record = decode_frame(path, found, self._report)
                            position = start + found.end
                            if record is not None:
                                self._report.records += 1
                                yield record
                        else:
                            position = self._passed(path, found, start, position)
        except FileNotFoundError:  # an empty one, given up by its writer since the listing
            return
        except OSError as error:
            raise LogError(f"segment {path} cannot be read: {error}", help="see to its owner and its disk") from error
        self._places[writer] = Place(number, position)

    def _passed(self, path: Path, found: Damage, start: int, position: int) -> int:
        """Where to go on after damage: behind it, or before it where nothing whole has come after it yet."""
        if found.tail:
            return position
        self._report.bad_frames += 1
        self._report.note(path, start + found.position, f"{found.length} damaged bytes, passed")
        return start + found.position + found.length


def by_writer(folder: Path) -> dict[str, dict[int, Path]]:
    """Every segment by its writer and number; a file named otherwise is a writer of its own."""
    found: dict[str, dict[int, Path]] = {}
    for path in segments(folder):
        named = _NUMBERED.fullmatch(path.name)
        writer, number = (named["writer"], int(named["number"])) if named else (path.name, 0)
        found.setdefault(writer, {})[number] = path
    return found
