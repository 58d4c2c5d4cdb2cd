"""What happened to customers, as the app tells it: checked whole, then taken whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol, cast

from features.events import KINDS, LONGEST, Event, EventName, Taken
from nba.errors import UnavailableError
from serving.errors import InvalidError, UnavailableNowError
from serving.wire import EventBody

AHEAD = timedelta(minutes=5)  # how far the app's clock may be ahead of ours
ANSWERS = (0.0, 10.0)  # of nps


class Store(Protocol):
    """Where events are put."""

    async def take(self, events: Sequence[Event], now: datetime) -> Taken:
        """Takes all of these events, or none. Raises UnavailableError."""
        ...


class Events:
    """Takes events."""

    def __init__(self, store: Store, subject: Callable[[str], str], *, clock: Callable[[], datetime]) -> None:
        """For a store that keeps them by what `subject` makes of a subject's id."""
        self._store, self._subject, self._clock = store, subject, clock

    async def take(self, told: EventBody | Sequence[EventBody]) -> Taken:
        """Takes one event or all of many; what became of them.

        Raises InvalidError for the first that is wrong, and UnavailableNowError: then none was taken.
        """
        now = self._clock()
        if isinstance(told, EventBody):
            events = [self._event(told, "", now)]
        else:
            events = [self._event(body, f"events[{i}].", now) for i, body in enumerate(told)]
        try:
            return await self._store.take(events, now)
        except UnavailableError as error:
            raise UnavailableNowError(error.message, help=error.help) from None

    def _event(self, body: EventBody, where: str, now: datetime) -> Event:
        """The event. Raises InvalidError, its field below `where`."""
        if body.event not in KINDS:
            raise InvalidError(f"no event {body.event!r}", help=f"known are {', '.join(KINDS)}", field=f"{where}event")
        _check_value(body, f"{where}value")
        occurred_at = body.occurred_at or now
        check_time(occurred_at, now, f"{where}occurred_at")
        if occurred_at <= now - LONGEST:
            raise InvalidError(
                f"{where}occurred_at is more than {LONGEST.days} days ago",
                help="no feature looks back as far; leave it out",
                field=f"{where}occurred_at",
            )
        return Event(
            subject_id=body.subject_id,
            subject=self._subject(body.subject_id),
            event=cast(EventName, body.event),
            occurred_at=occurred_at,
            value=body.value,
            event_id=body.event_id,
        )


def check_time(at: datetime, now: datetime, field: str) -> None:
    """Raises InvalidError for a time that is not yet."""
    if at > now + AHEAD:
        raise InvalidError(
            f"{field} {at.isoformat()} is in the future",
            help=f"set the sender's clock: {AHEAD.seconds // 60} minutes ahead of ours is the most",
            field=field,
        )


def _check_value(body: EventBody, field: str) -> None:
    if body.value is not None and not math.isfinite(body.value):
        raise InvalidError(f"{field} is not finite", help="send a number that a float64 can hold", field=field)
    low, high = ANSWERS
    if body.event == "nps" and (body.value is None or not low <= body.value <= high):
        raise InvalidError(f"{field} of nps is {body.value!r}", help=f"a number in [{low:g}, {high:g}]", field=field)
