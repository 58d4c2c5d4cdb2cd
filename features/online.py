"""The online reader: what a batch of subjects withholds and their features, in one round trip, within a deadline.

Consent is checked before a feature is read (law 8), by a script in Redis: a subject who withholds a purpose that
stored features are read for gets no feature read at all, and the reply says what is withheld. A Redis that was emptied
or restarted knows of no consent: until it has been refilled from the log nothing at all is read in it.

Reads Feast's own layout in Redis by a compiled plan, without importing Feast. Redis keeps a subject as one hash:
key = the entity key, then the project; for each feature a field with its value; for each view `_ts:view` with the
event time. Feast itself gives out values past their TTL, and future ones; here they are missing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from features.consent import consent_key
from features.epoch import EPOCH_KEY, WHOLE
from features.feature_value import read_timestamp, value_reader
from features.plan import ReadPlan
from features.redis_link import RedisLink
from features.redis_pipe import Reply, Script
from nba.types import Value

SKEW_S = 5.0  # how far ahead of our clock the writer's may be before a value counts as future-dated
NOTHING_WITHHELD: frozenset[str] = frozenset()

# keys: epoch, then for each subject its consent and its features, the latter empty where they may not be read;
# arguments: run_id, how many purposes features are read for, these, then the fields. -> for each subject the values of
# the fields, none where one of those purposes is withheld, and after them the purposes that are, where there are any;
# 0 where Redis is not whole
READ = Script.of(
    WHOLE
    + """
if not whole(KEYS[1], ARGV[1]) then return 0 end
local last = 2 + tonumber(ARGV[2])
local function needed(purpose)
  for j = 3, last do
    if ARGV[j] == purpose then return true end
  end
end
local answers = {}
for k = 2, #KEYS, 2 do
  local stated = redis.pcall('HGETALL', KEYS[k])
  local values = stated
  if not stated.err then
    local withheld, blocked = nil, KEYS[k + 1] == ''
    for i = 2, #stated, 2 do
      if string.byte(stated[i]) == 48 then
        withheld = withheld or {}
        withheld[#withheld + 1] = stated[i - 1]
        blocked = blocked or needed(stated[i - 1])
      end
    end
    values = blocked and {} or redis.pcall('HMGET', KEYS[k + 1], unpack(ARGV, last + 1))
    if values.err then values = {values} end
    if withheld then values[#values + 1] = withheld end
  end
  answers[#answers + 1] = values
end
return answers
"""
)
AT_ONCE = 100  # subjects that one run of the script reads: Redis does nothing else meanwhile


class Lookup(NamedTuple):
    """Whom to look up."""

    subject_id: str  # features are kept by it
    subject: str  # its keyed hash; consent is kept by it
    features: bool  # whether its features may be read, as far as the caller knows


class FeatureRow(Struct, frozen=True):
    """What is known of one subject."""

    values: dict[str, Value]  # field of the pack -> value; missing, unusable and too old ones are left out
    age_s: dict[str, float]  # view -> age of what the store has, seconds, also where it is too old to use
    withheld: frozenset[str] | None = NOTHING_WITHHELD  # purposes it withholds; None: that could not be read


class Fetched(Struct, frozen=True):
    """One row a subject, in the order asked."""

    rows: list[FeatureRow]
    degraded: bool  # the store failed: rows have no features that need not be so


UNKNOWN = FeatureRow({}, {}, None)  # where the store does not answer


class RowReader:
    """A plan made ready: what to ask Redis for a subject, and what its reply says."""

    def __init__(self, plan: ReadPlan) -> None:
        self.views = plan.views
        self._prefix, self._project = plan.key_prefix, plan.project.encode()
        self.redis_fields = (
            *(feature.redis_field for feature in plan.features),
            *(f"_ts:{view}".encode() for view in plan.views),
        )
        self._features = [
            (f.field, plan.views.index(f.view), value_reader(f.value_type), _no_limit(f.max_age_s))
            for f in plan.features
        ]

    def key(self, subject_id: str) -> bytes:
        """Redis key of a subject's features."""
        return feature_key(self._prefix, self._project, subject_id)

    def row(self, reply: Sequence[bytes | None], now: float, withheld: frozenset[str] = NOTHING_WITHHELD) -> FeatureRow:
        """What a reply says of its subject at this time, in seconds since 1970."""
        ages, known = [], {}
        for view, raw in zip(self.views, reply[len(self._features) :], strict=True):
            at = read_timestamp(raw)
            age = None if at is None or at > now + SKEW_S else now - at if at < now else 0.0
            ages.append(age)
            if age is not None:
                known[view] = age
        values: dict[str, Value] = {}
        for (field, view_at, read, max_age_s), raw in zip(self._features, reply, strict=False):
            if raw is not None and (age := ages[view_at]) is not None and age <= max_age_s:
                value = read(raw)
                if value is not None:
                    values[field] = value
        return FeatureRow(values, known, withheld)


class OnlineReader:
    """Reads consent and features for one pack. One reader an event loop.

    A store that fails, or lets a deadline pass, costs that one deadline (see `RedisLink`).
    """

    def __init__(self, plan: ReadPlan | None, redis_url: str | None, *, purposes: Iterable[str] = ()) -> None:
        """A reader of features that are read for these purposes; without a plan it reads consent alone."""
        self._purposes, self._planned = frozenset(purposes), plan is not None
        self._rows = RowReader(plan) if plan is not None and plan.features else None
        self._link = RedisLink(redis_url, (READ,))
        needed, fields = [purpose.encode() for purpose in self._purposes], self._rows.redis_fields if self._rows else ()
        arguments = [b"%d" % len(needed), *needed, *fields]
        self._arguments = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in arguments)
        self._words = 5 + len(arguments)  # of a command beside its subjects' keys

    async def fetch(self, subjects: Sequence[Lookup], deadline_s: float, *, now: datetime) -> Fetched:
        """What these subjects withhold, and their features unless that forbids it, in one round trip.

        After `deadline_s` seconds, and from a store that has not been refilled, rows without features and consent, and
        `degraded` where features were asked for. Ages count from `now`. Raises nothing for a store that is dead, hung,
        empty or full of rubbish.
        """
        if not subjects:
            return Fetched([], degraded=False)
        parts = [subjects[i : i + AT_ONCE] for i in range(0, len(subjects), AT_ONCE)]
        replies = await self._link.ask(lambda run_id: self._commands(parts, run_id), len(parts), deadline_s)
        if replies is None:
            return Fetched([UNKNOWN] * len(subjects), degraded=any(asked.features for asked in subjects))
        at, rows, degraded = now.timestamp(), [], False
        for part, told in zip(parts, replies, strict=True):
            for asked, reply in zip(part, told if isinstance(told, list) else [told] * len(part), strict=True):
                row, whole = self._row(reply, at)
                rows.append(row)
                degraded |= asked.features and not whole
        return Fetched(rows, degraded)

    def _commands(self, parts: Sequence[Sequence[Lookup]], run_id: bytes) -> bytes:
        arguments = b"$%d\r\n%b\r\n" % (len(run_id), run_id) + self._arguments
        return b"".join([self._command(part) + arguments for part in parts])

    def _command(self, subjects: Sequence[Lookup]) -> bytes:
        """The command that reads these, up to its arguments."""
        rows, keys = self._rows, [b"$%d\r\n%b\r\n" % (len(EPOCH_KEY), EPOCH_KEY)]
        for asked in subjects:
            consent, features = consent_key(asked.subject), b""
            if asked.features and rows is not None:
                features = rows.key(asked.subject_id)
            keys.append(b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(consent), consent, len(features), features))
        n = b"%d" % (1 + 2 * len(subjects))
        head = b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$%d\r\n%b\r\n"
        return head % (self._words + 2 * len(subjects), READ.sha, len(n), n) + b"".join(keys)

    def _row(self, reply: Reply, now: float) -> tuple[FeatureRow, bool]:
        """What a reply says, and whether that is all that may be known; not where a key is of another type."""
        if not isinstance(reply, list):
            return UNKNOWN, False
        withheld = NOTHING_WITHHELD
        if reply and isinstance(reply[-1], list):
            withheld = frozenset(name.decode(errors="replace") for name in reply.pop())
        if not reply:
            return FeatureRow({}, {}, withheld), self._planned or not withheld.isdisjoint(self._purposes)
        if self._rows is None or isinstance(reply[0], Exception):
            return FeatureRow({}, {}, withheld), False
        return self._rows.row(reply, now, withheld), True

    async def close(self) -> None:
        """Ends the connection. A later fetch opens another."""
        await self._link.close()


def feature_key(prefix: bytes, project: bytes, subject_id: str) -> bytes:
    """Redis key of a subject's features, as Feast builds it."""
    # An id that is not Unicode finds nothing, but must not raise.
    subject = subject_id.encode("utf-8", "surrogatepass")
    return b"%b%b%b%b" % (prefix, struct.pack("<I", len(subject)), subject, project)


def _no_limit(max_age_s: float | None) -> float:
    return float("inf") if max_age_s is None else max_age_s
