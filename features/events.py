"""Events as they happen, into the history features that the next decision reads.

    purchase                      purchases_90d   those of the last 90 days; the value (an amount) does not count
    contact                       contacts_30d    those of the last 30 days
    case_opened, case_resolved    open_cases      in order of time, one more or one less, never below 0
    nps                           nps             the last answer, 0 to 10, for 365 days

Each event counts by its own time, however late it comes, and once where it has an id. A call is taken whole or not at
all, in one script, so that any number of replicas may take events of one customer at once. Redis does nothing else
meanwhile: about 0.03 ms a customer.

What was seeded in bulk is where counting starts: events add to a count of 3 purchases until 90 days after the time it
was seeded for, and from then on events alone count. A bulk row that is newer than the events stands for all that was
reported before it; events kept from before its time are dropped. Values are as of the last event: between events
nothing ages but the row itself, which a pack's `max_age` limits.

Only the online store is written, in Feast's own layout. The Parquet files behind it are not: they are written through
Feast, which cannot be had in a serving process; training reads what decisions were made on from the log.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

import mmh3

from features.event_script import TAKE
from features.online import SKEW_S, feature_key
from features.plan import ReadPlan
from features.redis_link import RedisLink
from features.redis_pipe import command
from nba.errors import UnavailableError

EventName: TypeAlias = Literal["purchase", "contact", "case_opened", "case_resolved", "nps"]

PURCHASES = timedelta(days=90)
CONTACTS = timedelta(days=30)
LONGEST = timedelta(days=365)  # an event older than this changes nothing; ids are remembered for as long
KEPT = 10_000  # purchases, contacts and ids of a customer that are kept; of more only the newest count
KEPT_CASES = 1_000  # cases that may still be put into order by a late one
S_AN_EVENT = 1e-4  # a call of a thousand events may take a tenth of a second longer than one
KINDS: Mapping[EventName, bytes] = {  # and what the script calls each
    "purchase": b"p",
    "contact": b"c",
    "case_opened": b"+",
    "case_resolved": b"-",
    "nps": b"n",
}
_FEATURES = ("purchases_90d", "contacts_30d", "open_cases", "nps")
_VIEW = "customer_history"
_STATE = (b"", b":ids", b":purchase", b":contact", b":case")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a customer."""

    subject_id: str
    subject: str  # its keyed hash; the running state is kept by it
    event: EventName
    occurred_at: datetime
    value: float | None = None  # of nps: the answer
    event_id: str | None = None  # one that came before is a duplicate; None: an event of its own


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the events of one call."""

    accepted: int
    duplicates: int  # their ids had been taken before


class EventStore:
    """Takes events for the customers of a feature store. One store an event loop."""

    def __init__(self, plan: ReadPlan | None, redis_url: str | None, *, timeout_s: float) -> None:
        """A store for the Redis of this URL, laid out as this plan says; without a plan nothing can be taken.

        Raises FeatureStoreError for an URL that is none.
        """
        self._link, self._timeout_s = RedisLink(redis_url, (TAKE,)), timeout_s
        self._layout = None if plan is None else (plan.key_prefix, plan.project.encode())
        self._settings = [
            *(b"%d" % (length // _MICROSECOND) for length in (timedelta(seconds=SKEW_S), PURCHASES, CONTACTS, LONGEST)),
            *(b"%d" % number for number in (KEPT, KEPT_CASES)),
            *(_redis_field(feature) for feature in _FEATURES),
            f"_ts:{_VIEW}".encode(),
        ]

    async def take(self, events: Sequence[Event], now: datetime) -> Taken:
        """Takes all of these events, or none, and brings their customers' history features to `now`.

        Raises UnavailableError; where Redis did not answer in time it is not known whether they were taken, and
        events with ids may be sent again.
        """
        if self._layout is None:
            raise UnavailableError("there is no feature store to put events into", help="run: nba features apply")
        within_s = self._timeout_s + len(events) * S_AN_EVENT
        replies = await self._link.ask(self._command(events, now, *self._layout), 1, within_s)
        if replies is None or not isinstance(replies[0], list):
            why = replies[0] if replies else "no answer"
            raise UnavailableError(f"events cannot be taken: {why}", help="send them again, each with its event_id")
        return Taken(*replies[0])

    def _command(self, events: Sequence[Event], now: datetime, prefix: bytes, project: bytes) -> bytes:
        by_subject: dict[str, list[Event]] = {}
        for event in events:
            by_subject.setdefault(event.subject, []).append(event)
        keys: list[bytes] = []
        arguments = [_us(now), *self._settings]
        for subject, mine in by_subject.items():
            keys.append(feature_key(prefix, project, mine[0].subject_id))
            keys += [b"nba:e:%b%b" % (subject.encode(), part) for part in _STATE]
            arguments.append(b"%d" % len(mine))
            for event in mine:
                arguments += [KINDS[event.event], _id(event), _us(event.occurred_at), _answer(event)]
        return command(b"EVALSHA", TAKE.sha, b"%d" % len(keys), *keys, *arguments)

    async def close(self) -> None:
        """Ends the connection."""
        await self._link.close()


def _redis_field(feature: str) -> bytes:
    """What Feast calls a feature of the history view in a customer's hash."""
    return mmh3.hash(f"{_VIEW}:{feature}", signed=False).to_bytes(4, "little")


def _us(at: datetime) -> bytes:
    return b"%d" % ((at - _EPOCH) // _MICROSECOND)


def _id(event: Event) -> bytes:
    return f"={event.event_id}".encode() if event.event_id is not None else b"~" + uuid.uuid4().hex.encode()


def _answer(event: Event) -> bytes:
    """A value as Feast stores a double."""
    return b"" if event.value is None else struct.pack("<Bd", 0x29, event.value)
